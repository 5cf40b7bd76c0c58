"""Adaptive budgets: who is eliminated, who gets seeds, and that both phases make one run."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from adaptive_samplers.budgets import (
    FirstPhase,
    allocate_budget,
    asked_places,
    divide,
    eliminate,
    join_reports,
    read_first_phase,
    standings,
    worth_of_seeds,
)
from adaptive_samplers.budgets.allocation import budget_in_answers
from adaptive_samplers.budgets.elimination import top_shares
from adaptive_samplers.config.model.generation import AdaptiveBudgets
from adaptive_samplers.config.model.scoring import Weights
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.generation import allocated_keys
from adaptive_samplers.grid import Grid
from adaptive_samplers.selection import score_candidates
from adaptive_samplers.tables import KEY, join_tables, read_table, write_table
from adaptive_samplers.verification import dropped_prompts

QUALITY, DIVERSITY = Weights(quality=1.0), Weights(diversity=1.0)
SETTINGS = AdaptiveBudgets(
    first_seeds=2, budget=0.75, top=1, confidence=0.95, keep=1, keep_share=0.5, weights=[QUALITY]
)
KINDS = ("chat", "creative", "factual", "verifiable")


def prompts_of(count, held_out=0):
    splits = ["train"] * count + ["validation", "test"][:held_out]
    return pd.DataFrame(
        {
            "prompt_id": [f"p{number:03d}" for number in range(len(splits))],
            "kind": [KINDS[number % 4] for number in range(len(splits))],
            "split": splits,
        }
    )


def heuristics_of(count):
    ids = [f"h{number:02d}" for number in range(count)]
    return pd.DataFrame({"heuristic_id": ids, "name": [f"name of {name}" for name in ids], "processors": "[]"})


def first_phase(scores, rating=None, stderr=None, correct=None, kinds=None):
    """Labels as arrays; scores [P, H, S] of one weighting, or [W, P, H, S]."""
    scores = np.asarray(scores, dtype=float)
    scores = scores if scores.ndim == 4 else scores[None]
    shape = scores.shape[1:]
    prompts = prompts_of(shape[0])
    grid = Grid(prompts["prompt_id"], heuristics_of(shape[1])["heuristic_id"], range(shape[2]))
    nothing = np.full(shape, np.nan)
    rating = scores[0] if rating is None else np.asarray(rating, dtype=float)
    stderr = np.full(shape, 0.5) if stderr is None else stderr
    kinds = prompts["kind"].to_numpy() if kinds is None else kinds
    return FirstPhase(grid, kinds, scores, nothing if correct is None else np.asarray(correct, float), rating, stderr)


def noisy(prompts, heuristics, seeds, spread=1.0, seed=0):
    """Scores whose mean falls with the heuristic's number."""
    random = np.random.default_rng(seed)
    return random.normal(0, 1, (prompts, heuristics, seeds)) - spread * np.arange(heuristics)[:, None]


some_scores = st.sampled_from([np.nan, -np.inf, 0.0, 0.5, 1.0, 2.0])


@given(st.lists(some_scores, min_size=2, max_size=6))
def test_standings_are_shares_of_beaten_answers(scores):
    found = standings(np.array(scores)[None, :, None])[0, :, 0]
    for place, score in enumerate(scores):
        others = [other for number, other in enumerate(scores) if number != place and not np.isnan(other)]
        if np.isnan(score) or not others:
            assert np.isnan(found[place])
        else:
            beaten = sum(1.0 if score > other else 0.5 if score == other else 0.0 for other in others)
            assert found[place] == pytest.approx(beaten / len(others))


@given(st.lists(st.lists(some_scores, min_size=4, max_size=4), min_size=1, max_size=5), st.integers(1, 6))
def test_places_among_the_best_are_shared(groups, top):
    scores = np.array(groups)[:, :, None]
    found = top_shares(scores, np.array(["chat"] * len(groups), dtype=object), top)["chat"]
    expected, counted = np.zeros(4), 0
    for group in groups:
        good = [number for number, score in enumerate(group) if np.isfinite(score)]
        counted += bool(good)
        for number in good:
            above = sum(group[other] > group[number] for other in good)
            tied = sum(group[other] == group[number] for other in good)
            expected[number] += min(max(top - above, 0) / tied, 1)
    np.testing.assert_allclose(found, expected / max(counted, 1))


def test_a_heuristic_goes_exactly_where_the_paired_test_says_so():
    scores = noisy(24, 5, 2, spread=0.35)
    kept, evidence = eliminate(first_phase(scores), SETTINGS)
    means = standings(scores).mean(axis=2)
    best = means.mean(axis=0).argmax()
    for number, row in enumerate(evidence):
        if number == best:
            assert kept[number] and row["weightings"][0]["bound"] is None
            continue
        differences = means[:, best] - means[:, number]
        p_value = ttest_1samp(differences, 0, alternative="greater").pvalue
        assert (row["weightings"][0]["bound"] > 0) == (p_value < 0.05 / 4)
        assert row["weightings"][0]["behind"] == pytest.approx(differences.mean())
        assert kept[number] == (p_value >= 0.05 / 4)
    assert 1 < kept.sum() < 5


def test_the_best_is_eliminated_less_often_than_the_confidence_says():
    # The first heuristic is the best by a little, the others are alike.
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        scores = random.normal(0, 1, (12, 6, 1)) + 0.1 * (np.arange(6) == 0)[:, None]
        wrong += not eliminate(first_phase(scores), SETTINGS)[0][0]
    assert wrong <= 200 * 0.05


def test_who_is_best_for_a_kind_of_prompt_stays():
    scores = noisy(40, 3, 2, spread=3.0)
    kinds = np.array(["factual" if number % 4 == 0 else "chat" for number in range(40)], dtype=object)
    scores[::4, 2] += 20
    kept, evidence = eliminate(first_phase(scores, kinds=kinds), SETTINGS)
    assert kept.tolist() == [True, False, True]
    assert evidence[2]["reason"] == "often among the best for a kind of prompt"
    assert evidence[2]["weightings"][0]["top_share"] == {"chat": 0.0, "factual": 1.0}
    assert evidence[1]["eliminated"] and evidence[1]["reason"] == "worse than the best"
    # For too small a share it does not stay.
    scores[4::4, 2] -= 20
    assert eliminate(first_phase(scores, kinds=kinds), SETTINGS)[0].tolist() == [True, False, False]


def test_who_is_good_under_another_weighting_stays():
    scores = noisy(30, 3, 2, spread=3.0)
    both = np.stack([scores, scores[:, ::-1]])
    assert eliminate(first_phase(scores), SETTINGS)[0].tolist() == [True, False, False]
    assert eliminate(first_phase(both), SETTINGS)[0].tolist() == [True, False, True]


@pytest.mark.parametrize("keep", [1, 3, 9])
def test_the_last_few_stay(keep):
    settings = SETTINGS.model_copy(update={"keep": keep})
    kept, _ = eliminate(first_phase(noisy(30, 5, 2, spread=4.0)), settings)
    assert kept.tolist() == [number < keep for number in range(5)]


def test_nothing_is_eliminated_on_one_prompt_or_without_ratings():
    assert eliminate(first_phase(noisy(1, 4, 3, spread=9.0)), SETTINGS)[0].all()
    assert eliminate(first_phase(np.full((5, 4, 2), np.nan)), SETTINGS)[0].all()


def test_wrong_answers_count_against_a_heuristic_and_unrated_ones_do_not():
    scores = np.zeros((20, 3, 2))
    scores[:, 1] = -np.inf
    scores[:, 2] = np.nan
    kept, evidence = eliminate(first_phase(scores, rating=np.zeros(scores.shape)), SETTINGS)
    assert kept.tolist() == [True, False, True] and evidence[2]["weightings"][0]["standing"] is None


def test_success_rates_near_one_half_are_worth_most():
    correct = np.zeros((5, 10, 2))
    for prompt, count in enumerate([0, 4, 10, 16, 20]):
        correct[prompt].flat[:count] = 1
    # One heuristic is far ahead of the others: nothing of their order is open.
    rating = np.where(np.arange(10) == 0, 50.0, 0.0)[None, :, None] * np.ones((5, 1, 2))
    found = worth_of_seeds(first_phase(rating, correct=correct), np.ones(10, dtype=bool), 1)
    np.testing.assert_allclose(found["success_rate"], [0, 0.2, 0.5, 0.8, 1])
    p = np.array([1, 5, 11, 17, 21]) / 22
    np.testing.assert_allclose(found["worth"], 4 * p * (1 - p))
    assert found["worth"].argmax() == 2 and set(found["reason"]) == {"undecided"}


def test_an_unsettled_top_is_worth_seeds_as_far_as_answers_are_correct():
    gaps = np.array([0.0, 0.5, 1.0, 8.0])
    rating = np.stack([gaps, np.zeros(4)], axis=1)[..., None] * np.ones((1, 1, 3))
    found = worth_of_seeds(first_phase(rating, stderr=np.full(rating.shape, 1.0)), np.ones(2, dtype=bool), 1)
    # By chance: how often the mean of three ratings of each, with this error, comes out in the wrong order.
    draws = np.random.default_rng(0).normal(0, 1, (100_000, 2, 3)).mean(axis=2)
    for gap, unsettled in zip(gaps, found["unsettled"], strict=True):
        assert unsettled == pytest.approx(2 * np.mean(draws[:, 0] + gap < draws[:, 1]), abs=0.01)
    assert (found["worth"] == found["unsettled"]).all() and set(found["reason"]) == {"unsettled"}
    wrong = worth_of_seeds(first_phase(rating, correct=np.zeros(rating.shape)), np.ones(2, dtype=bool), 1)
    assert wrong["worth"][0] == pytest.approx(4 * (1 / 8) * (7 / 8))
    # Where all that is left are the best ones, nothing is open.
    assert (worth_of_seeds(first_phase(rating), np.ones(2, dtype=bool), 2)["unsettled"] == 0).all()


def test_answers_that_differ_between_seeds_leave_more_open_than_the_judge_does():
    steady, varied = np.zeros((1, 2, 4)), np.zeros((1, 2, 4))
    steady[:, 0], varied[:, 0] = 1.0, [[4.0, -2.0, 4.0, -2.0]]
    rating = np.concatenate([steady, varied])
    unsettled = worth_of_seeds(first_phase(rating, stderr=np.full(rating.shape, 0.1)), np.ones(2, bool), 1)["unsettled"]
    assert unsettled[0] < 0.001 and unsettled[1] > 0.1


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(1, 3), st.integers(0, 3), st.integers(0, 8))
def test_seeds_are_divided_best(worth, first_seeds, most, groups):
    extra = divide(worth, first_seeds, most, groups)
    assert extra.sum() == min(groups, most * len(worth)) and ((extra >= 0) & (extra <= most)).all()
    assert (divide(worth, first_seeds, most, groups) == extra).all()

    def left(seeds):
        return sum(value / (first_seeds + number) for value, number in zip(worth, seeds, strict=True))

    ways = itertools.product(range(most + 1), repeat=len(worth))
    assert left(extra) <= min(left(way) for way in ways if sum(way) == extra.sum()) + 1e-12


@given(st.integers(1, 100), st.integers(1, 50), st.integers(1, 30), st.integers(1, 20))
def test_a_share_is_what_the_config_writes(hundredths, prompts, heuristics, seeds):
    answers = budget_in_answers(hundredths / 100, prompts, heuristics, seeds)
    assert answers == hundredths * prompts * heuristics * seeds // 100


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_an_allocation_keeps_its_promises(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("allocation")
    prompts = prompts_of(data.draw(st.integers(1, 7)), held_out=data.draw(st.integers(0, 2)))
    heuristics = heuristics_of(data.draw(st.integers(1, 5)))
    seeds = data.draw(st.permutations(range(5)))[: data.draw(st.integers(2, 5))]
    adaptive = AdaptiveBudgets(
        first_seeds=data.draw(st.integers(1, len(seeds) - 1)),
        budget=data.draw(st.integers(5, 100)) / 100,
        top=data.draw(st.integers(1, 3)),
        confidence=data.draw(st.sampled_from([0.5, 0.95])),
        keep=data.draw(st.integers(1, 3)),
        keep_share=data.draw(st.sampled_from([0.2, 1.0])),
        weights=[QUALITY],
    )
    count = int((prompts["split"] == "train").sum())
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    scores = (
        random.normal(0, 1, (count, len(heuristics), adaptive.first_seeds)) - 5 * np.arange(len(heuristics))[:, None]
    )
    correct = random.choice([0.0, 1.0, np.nan], scores.shape)
    labels = first_phase(np.where(correct == 0, -np.inf, scores), rating=scores, correct=correct)
    kept, _ = eliminate(labels, adaptive)
    tables = []
    for name in "ab":
        allocate_budget(
            labels, prompts, heuristics, seeds, adaptive, folder / f"{name}.parquet", folder / f"{name}.json"
        )
        tables.append(read_table("allocation", folder / f"{name}.parquet"))
    table, report = tables[0], read_json(folder / "a.json")
    pd.testing.assert_frame_equal(table, tables[1])
    assert report == read_json(folder / "b.json") and not table.duplicated(KEY).any()
    assert set(table["seed"]) <= set(seeds[adaptive.first_seeds :])
    # Prompts that are not trained on get all.
    held_out = prompts[prompts["split"] != "train"]
    others = table[table["prompt_id"].isin(held_out["prompt_id"])]
    assert len(others) == report["held_out_answers"]
    assert len(others) == len(held_out) * len(heuristics) * (len(seeds) - adaptive.first_seeds)
    # Training prompts get survivors only, all of them with each seed, seed after seed, and within the budget.
    trained = table[~table["prompt_id"].isin(held_out["prompt_id"])]
    survivors = set(heuristics["heuristic_id"][kept])
    for (_, seed), group in trained.groupby(["prompt_id", "seed"]):
        assert set(group["heuristic_id"]) == survivors and seed in seeds
    for _, group in trained.groupby("prompt_id"):
        given_seeds = set(group["seed"])
        assert given_seeds == set(seeds[adaptive.first_seeds :][: len(given_seeds)])
        assert group["reason"].nunique() == 1 and group["reason"].iloc[0] in ("unsettled", "undecided")
    answers = report["answers"]
    assert answers["uniform"] == count * len(heuristics) * len(seeds)
    assert answers["budget"] <= adaptive.budget * answers["uniform"] + 1e-9
    assert answers["first_phase"] == count * len(heuristics) * adaptive.first_seeds
    assert answers["second_phase"] == len(trained)
    assert not len(trained) or answers["first_phase"] + len(trained) <= answers["budget"]
    # What is left does not buy one more seed, or there is none to be had.
    if answers["budget"] > answers["first_phase"] and (trained.groupby("prompt_id")["seed"].nunique().sum()) < count * (
        len(seeds) - adaptive.first_seeds
    ):
        assert 0 <= answers["unspent"] < len(survivors)
    assert sum(report["prompts_by_seeds"].values()) == count == len(report["prompts"])
    assert [row["eliminated"] for row in report["heuristics"]] == [not keep for keep in kept]


def labelled(folder, prompts, heuristics, seeds):
    """Tables of labels of a first phase, and their keys."""
    keys = pd.DataFrame(itertools.product(prompts["prompt_id"], heuristics["heuristic_id"], seeds), columns=KEY)
    random = np.random.default_rng(2)
    quality = keys.assign(
        rating=random.normal(0, 1, len(keys)), rating_stderr=0.5, comparisons=3, reward=np.nan
    ).astype({"comparisons": np.int32})
    quality.loc[1, ["rating", "rating_stderr"]] = np.nan
    verdicts = np.where(keys["prompt_id"] == "p000", 0.0, np.nan)
    verdicts[:3] = 1.0
    scores = score_candidates(
        prompts.assign(dataset="d", verifier=np.where(prompts["prompt_id"] == "p000", "numeric", None)),
        quality[[*KEY, "rating"]],
        keys.assign(vendi_score=random.normal(0, 1, len(keys))),
        keys.assign(score=verdicts),
        "vendi_score",
    )
    write_table("scores", scores, folder / "scores.parquet")
    write_table("quality", quality, folder / "quality.parquet")
    return scores, quality


def test_labels_are_read_of_training_prompts_alone(tmp_path):
    prompts, heuristics, seeds = prompts_of(2, held_out=2), heuristics_of(4), [3, 1]
    scores, quality = labelled(tmp_path, prompts, heuristics, seeds)
    files = tmp_path / "scores.parquet", tmp_path / "quality.parquet"
    for correct_only in (True, False):
        found = read_first_phase(*files, prompts, heuristics, [1, 3], [QUALITY, DIVERSITY], correct_only)
        assert found.grid.prompt_ids.to_pylist() == ["p000", "p001"] and found.kinds.tolist() == ["chat", "creative"]
        table, rated = scores.set_index(KEY), quality.set_index(KEY)
        for place, key in enumerate(itertools.product(["p000", "p001"], heuristics["heuristic_id"], [1, 3])):
            row = table.loc[key]
            index = np.unravel_index(place, found.grid.shape)
            np.testing.assert_equal(found.rating[index], rated.loc[key, "rating"])
            np.testing.assert_equal(found.rating_stderr[index], rated.loc[key, "rating_stderr"])
            verdict = np.nan if row["correct"] is pd.NA else float(row["correct"])
            np.testing.assert_equal(found.correct[index], verdict)
            for number, label in enumerate(["z_quality", "z_diversity"]):
                expected = row[label] if not np.isnan(row["quality"]) else np.nan
                if correct_only and verdict == 0 and not np.isnan(row["quality"]):
                    expected = -np.inf
                np.testing.assert_equal(found.scores[(number, *index)], expected)
        assert np.isneginf(found.scores).any() == correct_only


def test_a_prompt_that_was_dropped_gets_nothing(tmp_path):
    prompts, heuristics = prompts_of(3), heuristics_of(2)
    labelled(tmp_path, prompts, heuristics, [0, 1])
    for name in ("scores", "quality"):
        table = read_table(name, tmp_path / f"{name}.parquet")
        write_table(name, table[table["prompt_id"] != "p001"], tmp_path / f"{name}.parquet")
    files = tmp_path / "scores.parquet", tmp_path / "quality.parquet"
    found = read_first_phase(*files, prompts, heuristics, [0, 1], [QUALITY], True)
    allocate_budget(
        found, prompts, heuristics, [0, 1, 2, 3], SETTINGS, tmp_path / "allocation.parquet", tmp_path / "report.json"
    )
    assert set(read_table("allocation", tmp_path / "allocation.parquet")["prompt_id"]) == {"p000", "p002"}
    assert read_json(tmp_path / "report.json")["answers"]["uniform"] == 3 * 2 * 4


def test_verbalized_heuristics_take_no_part(tmp_path):
    prompts, heuristics = prompts_of(3, held_out=1), heuristics_of(3)
    step = {"name": "verbalized", "params": {"answers": 5, "max_new_tokens": None, "template": "{answers} {prompt}"}}
    heuristics.loc[1, "processors"] = json.dumps([step])
    labelled(tmp_path, prompts, heuristics, [0, 1])
    files = tmp_path / "scores.parquet", tmp_path / "quality.parquet"
    outputs = tmp_path / "allocation.parquet", tmp_path / "report.json"
    found = read_first_phase(*files, prompts, heuristics, [0, 1], [QUALITY], True)
    assert found.grid.heuristic_ids.to_pylist() == ["h00", "h02"] and found.rating.shape == (3, 2, 2)
    generous = SETTINGS.model_copy(update={"budget": 1.0})
    allocate_budget(found, prompts, heuristics, [0, 1, 2, 3], generous, *outputs)
    report, made = read_json(outputs[1]), read_table("allocation", outputs[0])
    assert report["train_nothing"] == ["name of h01"] and report["answers"]["first_phase"] == 3 * 3 * 2
    training = made["prompt_id"].isin(prompts.loc[prompts["split"] == "train", "prompt_id"])
    assert "h01" not in set(made.loc[training, "heuristic_id"]) and "h01" in set(made.loc[~training, "heuristic_id"])
    with pytest.raises(UserError, match="all are verbalized"):
        read_first_phase(*files, prompts, heuristics[1:2], [0, 1], [QUALITY], True)


ALLOCATED = pd.DataFrame([("a", "x", 2), ("a", "y", 2), ("a", "x", 3), ("b", "x", 2)], columns=KEY).assign(
    reason="unsettled"
)


def test_the_rows_of_an_allocation(tmp_path):
    path = tmp_path / "allocation.parquet"
    write_table("allocation", ALLOCATED, path)
    assert allocated_keys(path, {"a", "c"}, 2) == {("a", "x", 2), ("a", "y", 2)}
    assert allocated_keys(path, {"c"}, 2) == set()
    grid = Grid("abc", "xy", [0, 2, 3])
    asked = grid.keys(np.flatnonzero(asked_places(path, grid, [0])))
    first = {(prompt, heuristic, 0) for prompt in "abc" for heuristic in "xy"}
    rows = set(ALLOCATED[KEY].itertuples(index=False, name=None))
    assert set(asked.itertuples(index=False, name=None)) == first | rows
    with pytest.raises(UserError, match=r"allocation.parquet: .*'prompt_id': 'b'.* delete the file"):
        asked_places(path, Grid("a", "xy", [0, 2, 3]), [0])


def test_tables_of_both_phases_are_joined(tmp_path):
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, rows in zip(parts, ([0, 1], [2, 3]), strict=True):
        write_table("allocation", ALLOCATED.iloc[rows], path)
    join_tables("allocation", parts, tmp_path / "c.parquet")
    pd.testing.assert_frame_equal(read_table("allocation", tmp_path / "c.parquet"), ALLOCATED)
    # A prompt that one phase dropped, the run has no answers to.
    for number, dropped in enumerate([["a", "z"], []]):
        write_json({"dropped_prompts": dropped}, tmp_path / f"{number}.json")
    without = dropped_prompts([tmp_path / "0.json", tmp_path / "1.json"])
    join_tables("allocation", parts, tmp_path / "c.parquet", without)
    assert set(read_table("allocation", tmp_path / "c.parquet")["prompt_id"]) == set(ALLOCATED["prompt_id"]) - {"a"}
    for path, ids in zip(parts, ("ab", "bc"), strict=True):
        vectors = [np.array([ord(name), number], dtype=np.float32) for number, name in enumerate(ids)]
        write_table("embeddings", pd.DataFrame({"text_id": list(ids), "vector": vectors}), path)
    join_tables("embeddings", parts, tmp_path / "e.parquet")
    joined = read_table("embeddings", tmp_path / "e.parquet")
    assert joined["text_id"].tolist() == ["a", "b", "c"] and joined["vector"][1].tolist() == [ord("b"), 1]


def report_of(found, missing, dropped, unlisted=0):
    rows = [{"prompt_id": f"m{number}"} for number in range(missing)]
    report = {"expected": found + missing, "found": found, "missing": rows, "duplicated": [], "failed": []}
    report |= {"dropped_prompts": dropped, "incomplete_share": missing / 10, "tolerance": 0.5}
    report |= {"finish_reasons": {"stop": found - 1, "length": 1}}
    return report | ({"unlisted": {"missing": unlisted, "duplicated": 0, "failed": 0}} if unlisted else {})


def test_reports_of_both_phases_are_joined():
    joined = join_reports([report_of(5, 1, ["p"]), report_of(3, 2, ["o", "p"])])
    assert (joined["expected"], joined["found"], len(joined["missing"])) == (11, 8, 3)
    assert joined["dropped_prompts"] == ["o", "p"] and joined["incomplete_share"] == 0.2
    assert joined["finish_reasons"] == {"stop": 6, "length": 2} and "unlisted" not in joined
    joined = join_reports([report_of(5, 700, []), report_of(3, 900, [], unlisted=40)])
    assert len(joined["missing"]) == 1000 and joined["unlisted"]["missing"] == 640
    assert json.dumps(joined) and "unparsed" not in joined
    one, other = report_of(5, 0, []), report_of(3, 0, [])
    one |= {"unparsed": [{"seed": 0}], "unparsed_shares": {"a": 0.5, "b": 0.1}}
    joined = join_reports([one, other | {"unparsed": [{"seed": 1}], "unparsed_shares": {"a": 0.2, "c": 0.3}}])
    assert joined["unparsed"] == [{"seed": 0}, {"seed": 1}]
    assert joined["unparsed_shares"] == {"a": 0.5, "b": 0.1, "c": 0.3}
    assert join_reports([other, one])["unparsed"] == [{"seed": 0}]
