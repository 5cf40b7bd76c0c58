"""Preferences of whole tables: what is used, paired, labelled, dropped and counted, whatever the order of the rows."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from adaptive_samplers.errors import UserError
from adaptive_samplers.preferences import (
    Outputs,
    PreferenceSettings,
    chosen_heuristics,
    contaminated_prompts,
    evaluation_texts,
    make_preferences,
    preference_pairs,
    score_column,
    scored_answers,
    split_texts,
)
from adaptive_samplers.preferences.agreement import agreement
from adaptive_samplers.preferences.answers import length_slope
from adaptive_samplers.tables import KEY, read_table
from preference_answers import answers_and_labels, heuristics_table, prompts_table

DEFAULT = PreferenceSettings()
SETTINGS = [
    DEFAULT,
    replace(DEFAULT, group="prompt", pairing="best_random"),
    replace(DEFAULT, group="prompt", pairing="above_margin", margin=0.5, most_pairs=3),
    replace(DEFAULT, pairing="neighbors", correctness="agree"),
    replace(DEFAULT, group="prompt", correctness="first", finished_only=True),
    replace(DEFAULT, group="prompt", rejection_beta=1.0, rejection_samples=4),
    replace(DEFAULT, group="prompt", pairing="largest_margin", length_control="ratio", threshold="mean"),
    replace(DEFAULT, length_control="regress", threshold="mean", threshold_scope="all"),
    replace(DEFAULT, threshold="fixed", threshold_value=10.5, splits=("train", "validation")),
]


def one_group(rows, **settings):
    """`scored_answers` of one prompt and seed, given as (text, reward, verdict, finish_reason)."""
    key = [{"prompt_id": "p0", "heuristic_id": f"h{i}", "seed": 0} for i in range(len(rows))]
    candidates = pd.DataFrame(key).assign(text=[row[0] for row in rows], finish_reason=[row[3] for row in rows])
    quality = pd.DataFrame(key).assign(reward=[row[1] for row in rows])
    correctness = pd.DataFrame(key).assign(verifier="exact", score=[row[2] for row in rows])
    chosen = replace(DEFAULT, **settings)
    answers = scored_answers(candidates, quality, correctness, chosen, "reward")
    return answers, chosen


def made(folder, tables, chosen, parts=1, shuffle=None, contaminated=None, seed=7):
    """The report of `make_preferences`, and its pairs, answers and dropped rows."""
    candidates, quality, correctness = tables
    if shuffle is not None:
        candidates, quality, correctness = (table.sample(frac=1, random_state=shuffle) for table in tables)
    ids = sorted(set(candidates["prompt_id"]))
    cuts = np.array_split(ids, parts)
    folder.mkdir(exist_ok=True)
    outputs = Outputs(folder / "pairs.parquet", folder / "answers.parquet", folder / "dropped.jsonl")
    report = make_preferences(
        prompts_table(["train", "validation", "train", "test", "train", "train"][: len(ids)]),
        heuristics_table(candidates["heuristic_id"].nunique()),
        quality,
        correctness,
        lambda: [candidates[candidates["prompt_id"].isin(cut)] for cut in cuts],
        contaminated or {},
        chosen,
        seed,
        outputs,
    )
    dropped = [json.loads(line) for line in outputs.dropped.read_text().splitlines()]
    pairs = read_table("preference_pairs", outputs.pairs)
    return report, pairs, read_table("preference_answers", outputs.answers), dropped


def test_why_an_answer_cannot_be_used():
    answers, _ = one_group(
        [
            ("a", 1.0, 1.0, "stop"),
            ("", np.nan, np.nan, "error"),
            ("b", np.nan, 0.0, "stop"),
            ("c", 2.0, 0.0, "length"),
            ("d", 2.0, np.nan, "stop"),
            (" a\n", 3.0, 1.0, "stop"),
            ("\n ", 9.0, 1.0, "stop"),
        ],
        finished_only=True,
        correctness="agree",
    )
    reasons = answers["reason"].fillna("").tolist()
    assert reasons[1:5] == ["failed", "unrated", "unfinished", "unverified"]
    assert sorted([reasons[0], reasons[5]]) == ["", "duplicate"], "one of two texts with the same words, whichever"
    assert reasons[6] == "empty", "however well a judge likes it"
    assert answers["score"][[0, 5]].tolist() == [2.0, 2.0], "with the mean of their scores"
    assert answers["length"].tolist() == [1, 0, 1, 1, 1, 3, 2]


def test_verdicts_agree_or_come_first():
    rows = [("best", 5.0, 0.0, "stop"), ("good", 4.0, 1.0, "stop"), ("bad", 1.0, 1.0, "stop"), ("?", 0.0, 0.0, "stop")]
    expected = {"ignore": ("best", "?"), "agree": ("best", "?"), "first": ("good", "?")}
    for correctness, pair in expected.items():
        answers, chosen = one_group(rows, correctness=correctness)
        (row,) = preference_pairs(answers, chosen, 0).pairs.itertuples()
        assert (row.chosen, row.rejected) == pair
    # Without the incorrect worst answer, the incorrect best one has no partner that it may beat.
    answers, chosen = one_group(rows[:3], correctness="agree")
    (row,) = preference_pairs(answers, chosen, 0).pairs.itertuples()
    assert (row.chosen, row.rejected, row.margin) == ("good", "bad", 3.0)
    answers, chosen = one_group(rows[:3], correctness="first")
    (row,) = preference_pairs(answers, chosen, 0).pairs.itertuples()
    assert (row.chosen, row.rejected, row.margin) == ("good", "best", -1.0)


@pytest.mark.parametrize(
    ("rows", "settings", "reason"),
    [
        ([("a", 1.0, 1.0, "stop"), ("b", np.nan, 1.0, "stop")], {}, "too_few"),
        ([("a b", 1.0, 1.0, "stop"), ("a\n b ", 2.0, 1.0, "stop")], {}, "identical"),
        ([("a", 1.0, 1.0, "stop"), ("b", 1.0, 0.0, "stop")], {}, "tied"),
        ([("a", 1.0, 1.0, "stop"), ("b", 2.0, 1.0, "stop")], {"margin": 1.0}, "unpaired"),
        ([("a", 1.0, 1.0, "stop"), ("bbb", 2.0, 1.0, "stop")], {"length_control": "ratio"}, "unpaired"),
        ([("a", 1.0, 1.0, "stop"), ("b", 2.0, 0.0, "stop")], {"correctness": "agree"}, "unpaired"),
    ],
)
def test_why_a_group_gives_no_pair(rows, settings, reason):
    answers, chosen = one_group(rows, **settings)
    found = preference_pairs(answers, chosen, 0)
    assert found.pairs.empty
    assert found.dropped == [{"prompt_id": "p0", "seed": 0, "reason": reason}]


def test_a_prompt_gives_the_same_two_texts_once():
    answers, chosen = one_group([("a", 1.0, 1.0, "stop"), ("b", 2.0, 1.0, "stop")])
    again = answers.assign(seed=1, score=answers["score"][::-1].to_numpy(), text=answers["text"] + "\n")
    found = preference_pairs(pd.concat([answers, again]), chosen, 0)
    assert len(found.pairs) == 1 and found.dropped == [{"prompt_id": "p0", "seed": 1, "reason": "repeated"}]


@pytest.mark.parametrize("chosen", SETTINGS)
def test_the_order_of_rows_and_parts_does_not_matter(tmp_path, chosen):
    tables = answers_and_labels(4, 5, 2, 13)
    one = made(tmp_path / "one", tables, chosen)
    other = made(tmp_path / "other", tables, chosen, parts=3, shuffle=1)
    assert one[0] | {"length_slope": 0} == other[0] | {"length_slope": 0}
    assert one[0]["length_slope"] == pytest.approx(other[0]["length_slope"], rel=1e-12)
    assert one[3] == other[3]
    for name in ("pairs.parquet", "answers.parquet"):
        tables_of = [pd.read_parquet(tmp_path / which / name) for which in ("one", "other")]
        pd.testing.assert_frame_equal(*tables_of)


@pytest.mark.parametrize("chosen", SETTINGS)
def test_every_answer_and_group_is_accounted_for(tmp_path, chosen):
    tables = answers_and_labels(6, 6, 3, 5)
    report, pairs, answers, dropped = made(tmp_path, tables, chosen)
    exported = {"p0", "p2", "p4", "p5"} | ({"p1"} if "validation" in chosen.splits else set())
    candidates = tables[0]
    assert set(answers["prompt_id"]) == exported
    assert len(answers) == candidates["prompt_id"].isin(exported).sum()
    assert not answers.duplicated(KEY).any()
    assert report["answers"] == {
        name: int((answers["reason"].fillna("usable") == name).sum()) for name in report["answers"]
    }
    assert sum(report["answers"].values()) == len(answers)
    groups = set(answers[chosen.group_columns].itertuples(index=False, name=None))
    seeds = pairs["seed"].astype(object).where(pairs["seed"].notna(), None)
    paired = {(p, s) if chosen.group == "seed" else (p,) for p, s in zip(pairs["prompt_id"], seeds, strict=True)}
    without = {(row["prompt_id"], row["seed"]) if chosen.group == "seed" else (row["prompt_id"],) for row in dropped}
    assert paired | without == groups and not paired & without
    assert Counter(row["reason"] for row in dropped) == +Counter(report["groups_without_pairs"])
    assert report["pairs"] == len(pairs) and report["prompts"]["with_pairs"] == pairs["prompt_id"].nunique()
    labels = answers["label"].dropna()
    assert report["labels"] == {"desirable": int(labels.sum()), "undesirable": int((~labels.astype(bool)).sum())}
    labelled = answers[answers["label"].notna()]
    assert labelled["reason"].isna().all() and not labelled.duplicated(["prompt_id", "text"]).any()


def test_pairs_are_of_answers_that_met(tmp_path):
    tables = answers_and_labels(6, 6, 3, 8)
    for chosen in SETTINGS:
        _, pairs, answers, _ = made(tmp_path, tables, chosen)
        known = answers.set_index(KEY)
        for pair in pairs.itertuples():
            for side in ("chosen", "rejected"):
                seed, heuristic = getattr(pair, f"seed_{side}"), getattr(pair, f"heuristic_id_{side}")
                row = known.loc[(pair.prompt_id, heuristic, seed)]
                assert row["reason"] is None or pd.isna(row["reason"])
                assert row["text"] == getattr(pair, side) and row["score"] == getattr(pair, f"score_{side}")
                assert chosen.group == "prompt" or seed == pair.seed
            assert pair.chosen != pair.rejected
            assert pair.margin == pair.score_chosen - pair.score_rejected
            if chosen.correctness != "first":
                assert pair.margin > chosen.margin
            if chosen.correctness != "ignore":
                assert pair.correctness_chosen >= pair.correctness_rejected
            if chosen.length_control == "ratio":
                lengths = sorted([len(pair.chosen), len(pair.rejected)])
                assert lengths[1] <= chosen.length_ratio * lengths[0]


def test_random_draws_follow_the_run_seed(tmp_path):
    tables = answers_and_labels(6, 8, 3, 2)
    chosen = replace(DEFAULT, group="prompt", pairing="best_random")
    drawn = [made(tmp_path / str(seed), tables, chosen, seed=seed)[1]["rejected"].tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_what_length_explains_is_taken_out_of_scores():
    random = np.random.default_rng(0)
    rows = 120
    answers = pd.DataFrame({"prompt_id": np.repeat([f"p{i}" for i in range(6)], 20), "seed": 0, "reason": None})
    answers["length"] = random.integers(5, 60, rows)
    answers["score"] = 0.3 * answers["length"] + answers["prompt_id"].str[1:].astype(int) * 7 + random.normal(size=rows)
    levels = pd.get_dummies(answers["prompt_id"]).to_numpy(float)
    design = np.column_stack([answers["length"], levels])
    expected = np.linalg.lstsq(design, answers["score"], rcond=None)[0][0]
    parts = [answers[:40], answers[40:]]
    assert length_slope(parts, DEFAULT) == pytest.approx(expected, rel=1e-9)
    assert length_slope([answers.assign(length=3)], DEFAULT) == 0
    rows = [("a" * 10, 11.0, np.nan, "stop"), ("b" * 20, 21.0, np.nan, "stop"), ("c" * 12, 14.0, np.nan, "stop")]
    key = [{"prompt_id": "p0", "heuristic_id": f"h{i}", "seed": 0} for i in range(3)]
    candidates = pd.DataFrame(key).assign(text=[row[0] for row in rows], finish_reason="stop")
    quality = pd.DataFrame(key).assign(reward=[row[1] for row in rows])
    scored = scored_answers(candidates, quality, None, DEFAULT, "reward", slope=1.0)
    assert scored["score"].tolist() == pytest.approx([15.0, 15.0, 16.0])


def test_rewards_compare_seeds_and_ratings_do_not():
    quality = pd.DataFrame({"rating": [1.0], "reward": [np.nan]})
    assert score_column(quality, DEFAULT) == "rating"
    assert score_column(quality.assign(reward=2.0), DEFAULT) == "reward"
    assert score_column(quality.assign(reward=2.0), replace(DEFAULT, score="rating")) == "rating"
    with pytest.raises(UserError, match=r"preferences.group: .* set it to seed"):
        score_column(quality, replace(DEFAULT, group="prompt"))
    assert score_column(quality, replace(DEFAULT, group="prompt", rated="prompt")) == "rating"
    with pytest.raises(UserError, match=r"preferences.score: the judge gave no rewards"):
        score_column(quality, replace(DEFAULT, score="reward"))


def test_heuristics_by_name_or_family():
    table = heuristics_table(4)
    assert chosen_heuristics(table, None) is table
    assert chosen_heuristics(table, ["temperature_1", "even"])["heuristic_id"].tolist() == ["h0", "h1", "h2"]
    with pytest.raises(UserError, match="did you mean 'temperature_1'"):
        chosen_heuristics(table, ["temperatur_1"])


def test_no_pair_at_all_is_an_error_that_says_why(tmp_path):
    tables = answers_and_labels(3, 1, 1, 0)
    with pytest.raises(UserError, match=r"no pair is left of 2 prompts \(2 groups: fewer than two.*group to prompt"):
        made(tmp_path, tables, DEFAULT)
    assert not (tmp_path / "pairs.parquet").exists() and not list(tmp_path.glob(".*"))


def test_prompts_of_evaluations_are_dropped_and_listed(tmp_path):
    tables = answers_and_labels(6, 6, 2, 3)
    prompts = prompts_table(["train"] * 6)
    found = contaminated_prompts(prompts, [("theirs.jsonl", "So, question 2!")], 2)
    assert found == {"p2": ("question 2", "theirs.jsonl")}, "the system message, which all share, does not count"
    report, pairs, answers, dropped = made(tmp_path, tables, DEFAULT, contaminated=found)
    assert "p2" not in {*pairs["prompt_id"], *answers["prompt_id"]}
    listed = {"prompt_id": "p2", "seed": None, "reason": "contaminated"}
    assert [row for row in dropped if row["reason"] == "contaminated"] == [
        {**listed, "words": "question 2", "source": "theirs.jsonl"}
    ]
    assert report["prompts"]["contaminated"] == 1


@given(
    own=st.lists(st.sampled_from("abc"), max_size=6),
    other=st.lists(st.sampled_from("abc"), max_size=6),
    count=st.integers(1, 4),
)
def test_shared_runs_of_words_by_definition(own, other, count):
    prompts = pd.DataFrame({"prompt_id": ["p"], "messages": [json.dumps([{"role": "user", "content": " ".join(own)}])]})
    found = contaminated_prompts(prompts, [("e", ", ".join(other).upper())], count)
    runs = [[text[i : i + count] for i in range(len(text) - count + 1)] for text in (own, other)]
    shares = any(run in runs[1] for run in runs[0])
    short = len(own) < count or len(other) < count
    assert bool(found) == (shares or (short and own == other and bool(own)))


def test_the_first_evaluation_and_then_the_alphabet_tell_what_each_prompt_shares():
    texts = {"p1": "x y z", "p0": "y z x y", "p2": "z z", "p3": "w y z"}
    rows = [(name, json.dumps([{"role": "user", "content": text}])) for name, text in texts.items()]
    prompts = pd.DataFrame(rows, columns=["prompt_id", "messages"])
    found = contaminated_prompts(prompts, [("one", "w"), ("two", "Y z, x"), ("three", "x y. W y")], 2)
    assert found == {"p1": ("y z", "two"), "p0": ("y z", "two"), "p3": ("y z", "two")}
    found = contaminated_prompts(prompts, [("three", "x y. W y"), ("two", "y z x")], 2)
    assert found == {"p1": ("x y", "three"), "p0": ("x y", "three"), "p3": ("w y", "three")}


def test_files_of_evaluations(tmp_path):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"}]
    rows = [{"instruction": "two", "output": "x"}, {"messages": chat}, {"question": "three"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.txt").write_text("two\n\none\nthree\n")
    pd.DataFrame({"prompt": ["two", "one", "three"]}).to_parquet(tmp_path / "d.parquet")
    for name in ("a.jsonl", "b.json", "c.txt", "d.parquet"):
        assert [(source, text.strip()) for source, text in evaluation_texts(tmp_path / name)] == [
            (name, text) for text in ("two", "one", "three")
        ]
    assert list(split_texts(prompts_table(["train", "test"]), "test")) == [("test split", "Question 1?")]
    (tmp_path / "e.jsonl").write_text('{"promt": "x"}\n')
    with pytest.raises(UserError, match=r"e.jsonl, line 1: no text under .* is it 'promt'"):
        list(evaluation_texts(tmp_path / "e.jsonl"))
    (tmp_path / "f.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"f.jsonl, line 1: not readable as JSON"):
        list(evaluation_texts(tmp_path / "f.jsonl"))


SHARE_GPT = {"conversations": [{"from": "system", "value": "Hush."}, {"from": "human", "value": "one two"}]}
TURNS = [{"role": "system", "content": "Hush."}, {"role": "user", "content": "one two"}]


@pytest.mark.parametrize(
    "document",
    [
        [{"prompt": "one two"}],
        ["one two"],
        [["one two"]],
        [TURNS],
        {"data": [{"prompt": "one two"}]},
        {"version": "1.0", "about": {"licence": "MIT"}, "data": [{"question": "one two", "answers": ["three"]}]},
        {"train": [], "test": [{"prompt": "one two"}]},
        {"q1": {"question": "one two", "answer": "three"}},
        {"q1": "one two", "q2": "one two"},
        {"prompt": ["one two"], "id": [7]},
        {"prompt": {"0": "one two"}, "id": {"0": 7}},
        {"prompt": "one two"},
        {"prompts": ["one two"]},
        {"data": {"rows": [{"text": "one two"}]}},
        [SHARE_GPT],
        {"items": [SHARE_GPT]},
        [{"messages": [*TURNS, {"role": "assistant", "content": None, "tool_calls": []}]}],
        [{"messages": [{"role": "user", "content": [{"type": "text", "text": "one two"}]}]}],
        [{"turns": ["one two"]}],
        [{"prompt": None, "question": "one two"}],
    ],
)
def test_prompts_are_found_in_whatever_form_a_file_of_json_has(tmp_path, document):
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert {text for _, text in evaluation_texts(tmp_path / "a.json")} == {"one two"}
    if isinstance(document, list):
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in document))
        assert {text for _, text in evaluation_texts(tmp_path / "a.jsonl")} == {"one two"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{}", r"a\.json: no text under messages, prompt"),
        ("a.json", "[]", r"a\.json: no text in it; looked under messages, prompt"),
        ("a.json", '{"data": []}', "no text in it"),
        ("a.json", '{"data": [{"prompt": "x"}, {"promt": "y"}]}', r"a\.json, data, item 2: .* is it 'promt'"),
        ("a.json", '{"q1": {"prompt": "x"}, "q2": {"id": 3}}', r"a\.json, q2: no text .* it has id"),
        ("a.json", '{"size": 1}', r"a\.json: no text .* it has size"),
        ("a.json", "[7]", r"a\.json, row 1: no text"),
        ("a.json", "[null]", r"a\.json, row 1: no text"),
        ("a.json", '[{"prompt": " "}]', r"a\.json, row 1: no text"),
        ("a.json", '{"promt": "a b", "id": "c d"}', r"a\.json: no text .* is it 'promt'"),
        ("a.json", '{"a": 1}}', r"a\.json, line 1: not readable as JSON"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": null}]}', r"a\.jsonl, line 1: no text"),
        ("a.jsonl", '{"prompt": null}\n', r"a\.jsonl, line 1: no text"),
        ("a.jsonl", "\n\n", r"a\.jsonl: no text in it"),
        ("a.txt", " \n", r"a\.txt: no text in it"),
        ("a.txt", None, r"a\.txt: there is no such file"),
    ],
)
def test_a_file_without_prompts_is_an_error_that_says_what_was_looked_for(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        list(evaluation_texts(tmp_path / name))


def test_a_byte_order_mark_is_no_part_of_an_evaluations_first_prompt(tmp_path):
    for name, content in (("a.txt", "one two"), ("a.json", '["one two"]'), ("a.jsonl", '{"prompt": "one two"}')):
        (tmp_path / name).write_text(f"\ufeff{content}\n", encoding="utf-8")
        assert [text.strip() for _, text in evaluation_texts(tmp_path / name)] == ["one two"]


def test_agreement_with_verifiers_and_its_interval():
    verdicts = [(1, 0)] * 17 + [(0, 1)] * 4 + [(1, 1)] * 3 + [(np.nan, 1), (0, np.nan)]
    pairs = pd.DataFrame(verdicts, columns=["correctness_chosen", "correctness_rejected"])
    pairs["prompt_id"] = [f"p{i % 5}" for i in range(len(pairs))]
    found = agreement(pairs, seed=0)
    assert (found["pairs"], found["verifiable"], found["agreeing"]) == (26, 21, 17)
    reference = binomtest(17, 21).proportion_ci(0.95, method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert found["by_prompt"]["n_prompts"] == 5 and found["by_prompt"]["low"] <= found["by_prompt"]["mean"]
    none = agreement(pairs[21:], seed=0)
    assert none["verifiable"] == 0 and none["share"] is None and none["low"] is None
    json.dumps(none, allow_nan=False)


def test_the_agreement_in_the_report_is_that_of_the_pairs(tmp_path):
    tables = answers_and_labels(6, 6, 3, 11)
    report, pairs, _, _ = made(tmp_path, tables, DEFAULT)
    differ = pairs[pairs["correctness_chosen"] != pairs["correctness_rejected"]].dropna(
        subset=["correctness_chosen", "correctness_rejected"]
    )
    exported = report["agreement"]["exported"]
    assert exported["verifiable"] == len(differ) > 0
    assert exported["agreeing"] == (differ["correctness_chosen"] > differ["correctness_rejected"]).sum()
    assert report["agreement"]["every_split"]["pairs"] > exported["pairs"] == len(pairs)
    assert report["agreement"]["independent"]
