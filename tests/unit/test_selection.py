"""Scores and training sets, by hand and against a plain loop."""

import itertools
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import expand_heuristics
from adaptive_samplers.selection import answer_id, score_candidates, select_training_set, weighted_score, z_score
from adaptive_samplers.tables import KEY, read_table, write_table

HEURISTICS = pd.DataFrame(
    expand_heuristics(Heuristics(grid=[{"family": "temperature", "temperatures": [0.3, 0.7, 1.0, 1.2]}]))
)
PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["a", "b", "c"],
        "kind": ["creative", "verifiable", "verifiable"],
        "split": ["train", "validation", "test"],
        "verifier": [None, "numeric", "numeric"],
    }
)
KEYS = [
    (prompt, heuristic, seed)
    for seed in (0, 1)
    for prompt in PROMPTS["prompt_id"]
    for heuristic in HEURISTICS["heuristic_id"]
]


def labels(seed=0):
    generator = np.random.default_rng(seed)
    base = pd.DataFrame(KEYS, columns=KEY)
    verifiable = base["prompt_id"] != "a"
    quality = base.assign(rating=generator.normal(2, 3, len(base)))
    diversity = base.assign(self_bleu=generator.random(len(base)), embedding_entropy=generator.random(len(base)) * 2)
    correctness = base.assign(score=np.where(verifiable, generator.integers(0, 3, len(base)) / 2, np.nan))
    return quality, diversity, correctness


def scores_of(measure="embedding_entropy", seed=0):
    return score_candidates(PROMPTS, *labels(seed), measure)


def candidates_of(seed=0):
    generator = np.random.default_rng(seed)
    return pd.DataFrame(KEYS, columns=KEY).assign(
        prompt_token_ids=[[ord(key[0])] for key in KEYS],
        token_ids=[generator.integers(0, 9, 3).tolist() for _ in KEYS],
        finish_reason=[["stop", "length"][i % 2] for i in range(len(KEYS))],
    )


values = st.lists(
    st.one_of(st.none(), st.integers(-(10**7), 10**7).map(lambda number: number / 100)), min_size=1, max_size=30
)


@given(values, st.sampled_from([0.1, 1 / 3, 7.0, -1e-3]))
def test_z_scores(numbers, constant):
    series = pd.Series(numbers, dtype=float)
    z = z_score(series)
    present = series.dropna()
    assert (z[series.isna()] == 0).all() and z.notna().all()
    if present.nunique() > 1:
        assert z[series.notna()].mean() == pytest.approx(0, abs=1e-6)
        assert z[series.notna()].std(ddof=0) == pytest.approx(1)
        assert z[series.notna()].rank(method="dense").tolist() == present.rank(method="dense").tolist()
    # Where all are equal, nothing is above or below: not by rounding either.
    equal = pd.Series([None if number is None else constant for number in numbers], dtype=float)
    assert (z_score(equal) == 0).all()


def test_scores_join_the_labels_by_key(tmp_path):
    quality, diversity, correctness = labels()
    shuffled = diversity.sample(frac=1, random_state=1), correctness.sample(frac=1, random_state=2)
    scores = score_candidates(PROMPTS, quality, *shuffled, "embedding_entropy")
    assert len(scores) == len(KEYS) and scores[KEY].equals(scores[KEY].sort_values(KEY, ignore_index=True))
    indexed = scores.set_index(KEY)
    for table, column, label in (
        (quality, "rating", "quality"),
        (diversity, "embedding_entropy", "diversity"),
        (correctness, "score", "correctness"),
    ):
        expected = table.set_index(KEY)[column].rename(label)
        pd.testing.assert_series_equal(indexed[label].reindex(expected.index), expected)
    assert indexed.loc["b", "split"].eq("validation").all() and indexed.loc["a", "kind"].eq("creative").all()
    write_table("scores", scores, tmp_path / "s.parquet")
    assert read_table("scores", tmp_path / "s.parquet")["correct"].isna().sum() == 8


def test_more_is_more_diverse_whatever_the_measure():
    _, diversity, _ = labels()
    scores = scores_of("self_bleu").merge(diversity, on=KEY)
    np.testing.assert_allclose(scores["diversity"], -scores["self_bleu"])


def test_correct_is_the_full_score_and_null_where_nothing_is_verified():
    scores = scores_of()
    assert scores["correct"][scores["correctness"].isna()].isna().all()
    verified = scores[scores["correctness"].notna()]
    assert (verified["correct"].astype(bool) == (verified["correctness"] == 1)).all() and verified["correct"].any()


def test_an_answer_without_a_verdict_is_not_correct():
    quality, diversity, correctness = labels()
    place = KEYS.index(next(key for key in KEYS if key[0] == "b"))
    correctness.loc[place, "score"] = np.nan
    scores = score_candidates(PROMPTS, quality, diversity, correctness, "embedding_entropy")
    row = scores.set_index(KEY).loc[KEYS[place]]
    assert not row["correct"] and row["z_correctness"] == 0
    taken = select(scores, candidates_of(), top_k=9, correct_only=True)[KEY].values.tolist()
    assert list(KEYS[place]) not in taken
    assert list(KEYS[place]) in select(scores, candidates_of(), top_k=9)[KEY].values.tolist()


def test_a_null_label_is_the_mean():
    quality, diversity, correctness = labels()
    quality.loc[3, "rating"] = np.nan
    scores = score_candidates(PROMPTS, quality, diversity, correctness, "embedding_entropy").set_index(KEY)
    row = scores.loc[KEYS[3]]
    assert np.isnan(row["quality"]) and row["z_quality"] == 0


def test_the_same_answer_twice_is_refused():
    quality, diversity, correctness = labels()
    with pytest.raises(UserError, match=r"labels/diversity\.parquet: 1 answers come twice, the first: .*delete"):
        score_candidates(PROMPTS, quality, pd.concat([diversity, diversity[:1]]), correctness, "embedding_entropy")


def test_weighted_sum():
    scores = scores_of()
    total = weighted_score(scores, {"diversity": 0.7, "quality": 0.3, "correctness": -2.0})
    expected = 0.7 * scores["z_diversity"] + 0.3 * scores["z_quality"] - 2 * scores["z_correctness"]
    np.testing.assert_allclose(total, expected)


WEIGHTS = {"diversity": 0.5, "quality": 1.0, "correctness": 0.0}


def select(scores, candidates, top_k=2, correct_only=False, weights=WEIGHTS, rows=5):
    answers = pa.Table.from_pandas(candidates)

    def batches(columns):
        return answers.select(columns).to_batches(rows)

    return select_training_set(scores, batches, HEURISTICS, weights, "a0.5_b1_c0", top_k, correct_only)


@pytest.mark.parametrize(("top_k", "correct_only"), [*itertools.product([1, 2, 4], [False, True])])
def test_selection_is_the_best_of_each_prompt_and_seed(top_k, correct_only, tmp_path):
    scores, candidates = scores_of(), candidates_of()
    selected = select(scores, candidates, top_k, correct_only)
    expected = []
    for prompt, seed in itertools.product("abc", (0, 1)):
        group = scores[(scores["prompt_id"] == prompt) & (scores["seed"] == seed)]
        if correct_only and prompt != "a":
            group = group[group["correctness"] == 1]
        ranked = group.assign(score=weighted_score(group, WEIGHTS)).sort_values("score", ascending=False)[:top_k]
        expected += [(prompt, h, seed, rank) for rank, h in enumerate(ranked["heuristic_id"], start=1)]
    assert list(selected[[*KEY, "rank"]].itertuples(index=False, name=None)) == expected
    processors = HEURISTICS.set_index("heuristic_id")["processors"]
    answers = candidates.set_index(KEY)
    for row in selected.itertuples():
        assert row.processors == processors[row.heuristic_id]
        answer = answers.loc[(row.prompt_id, row.heuristic_id, row.seed)]
        assert row.token_ids.tolist() == answer["token_ids"]
        assert row.answer_id == answer_id(row.prompt_token_ids, row.token_ids, row.finish_reason)
    write_table("training_sets", selected, tmp_path / "t.parquet")
    # As the stage has it: labels and candidates from their files, with nulls and arrays as Parquet gives them.
    write_table("scores", scores, tmp_path / "s.parquet")
    again = select(read_table("scores", tmp_path / "s.parquet"), candidates, top_k, correct_only)
    assert again[KEY].equals(selected[KEY])


def test_ties_favor_no_heuristic_and_do_not_depend_on_order():
    keys = [(f"p{i:03d}", heuristic, 0) for i in range(400) for heuristic in HEURISTICS["heuristic_id"]]
    base = pd.DataFrame(keys, columns=KEY)
    scores = base.assign(kind="chat", split="train", quality=1.0, z_quality=0.0, z_diversity=0.0, z_correctness=0.0)
    scores["correct"] = pd.array([pd.NA] * len(keys), dtype="boolean")
    candidates = base.assign(prompt_token_ids=[[1]] * len(keys), token_ids=[[2]] * len(keys), finish_reason="stop")
    selected = select(scores, candidates, top_k=1)
    counts = selected["heuristic_id"].value_counts()
    assert len(counts) == 4 and counts.max() < 140  # 100 each, with a standard deviation of 9
    shuffled = select(scores.sample(frac=1, random_state=0), candidates.sample(frac=1, random_state=1), top_k=1)
    assert shuffled[KEY].reset_index(drop=True).equals(selected[KEY].reset_index(drop=True))


def test_failed_and_unrated_answers_are_not_selected():
    scores, candidates = scores_of(), candidates_of()
    first = select(scores, candidates, top_k=1)
    best = first.iloc[0][KEY].tolist()
    failed = candidates.copy()
    failed.loc[(failed[KEY] == best).all(axis=1), "finish_reason"] = "error"
    unrated = scores.copy()
    unrated.loc[(unrated[KEY] == best).all(axis=1), "quality"] = np.nan
    for changed in (select(scores, failed, top_k=1), select(unrated, candidates, top_k=1)):
        assert changed.iloc[0][KEY].tolist()[0] == best[0] and changed.iloc[0][KEY].tolist() != best
        assert changed.iloc[0]["rank"] == 1 and len(changed) == len(first)


def test_nothing_left_is_a_clear_error():
    scores = scores_of()
    scores["correct"] = pd.array([False] * len(scores), dtype="boolean")
    with pytest.raises(UserError, match=r"a0\.5_b1_c0_top2: no answer is left; none of 24.*scoring\.correct_only"):
        select(scores, candidates_of(), correct_only=True)


def test_the_id_of_an_answer_is_its_tokens_and_its_end():
    assert answer_id([1, 2], [3], "stop") == answer_id(np.array([1, 2], np.int32), np.array([3], np.int32), "stop")
    ids = {answer_id(*key) for key in [([1, 2], [3], "stop"), ([1], [2, 3], "stop"), ([1, 2], [3], "length")]}
    assert len(ids) == 3 and all(len(bytes.fromhex(i)) == 8 for i in ids)
    assert json.loads(HEURISTICS["processors"][0])[0]["name"] == "temperature"
