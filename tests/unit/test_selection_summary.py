"""What was filtered and why, and each heuristic's marginals, against plain loops."""

import json
import math
import statistics

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_samplers.errors import UserError
from adaptive_samplers.grid import Grid
from adaptive_samplers.heuristics import prompted_heuristics
from adaptive_samplers.pages import selection_page
from adaptive_samplers.selection import (
    PARETO_WEIGHTS,
    REASONS,
    SCORED,
    filtered_answers,
    filtering_reasons,
    filtering_report,
    marginals,
    score_candidates,
    select_training_set,
    weighted_score,
)
from adaptive_samplers.tables import KEY, read_table, to_arrow, write_table

PROMPTS = pd.DataFrame(
    {"prompt_id": ["b", "a", "c"], "dataset": "d", "kind": ["verifiable", "chat", "verifiable"], "split": "train"}
).assign(verifier=[None, None, "numeric"])
HEURISTICS = pd.DataFrame({"heuristic_id": ["y", "x"], "name": ["warm", "cold"], "processors": "[]"})
SEEDS = [4, 2]
KEYS = [(prompt, heuristic, seed) for prompt in "abc" for heuristic in "xy" for seed in (2, 4)]
GRID = Grid(PROMPTS["prompt_id"], HEURISTICS["heuristic_id"], SEEDS)
# What may happen to an answer: not there; failed; no labels at all; no rating; right, wrong or nothing to verify.
fates = st.lists(
    st.sampled_from(["gone", "failed", "unlabelled", "unrated", "right", "wrong", "open"]),
    min_size=len(KEYS),
    max_size=len(KEYS),
)
SCORES = {"right": 1.0, "wrong": 0.5, "open": np.nan, "unrated": 0.0}


def tables(fate):
    base = pd.DataFrame(KEYS, columns=KEY)
    there = [place for place, of in enumerate(fate) if of != "gone"]
    candidates = base.iloc[there].assign(finish_reason=["error" if fate[i] == "failed" else "stop" for i in there])
    candidates = candidates.assign(prompt_token_ids=[[1]] * len(there), token_ids=[[i] for i in there])
    labelled = [place for place in there if fate[place] in SCORES]
    some = base.iloc[labelled].astype({"seed": np.int64})
    ratings = [np.nan if fate[place] == "unrated" else place / 2 for place in labelled]
    scores = score_candidates(
        PROMPTS,
        some.assign(rating=np.array(ratings, float)),
        some.assign(vendi_score=np.array([place % 5 for place in labelled], float)),
        some.assign(score=np.array([SCORES[fate[place]] for place in labelled], float)),
        "vendi_score",
    )
    answers = pa.Table.from_pandas(candidates, preserve_index=False)
    return scores, lambda names: answers.select(names).to_batches(3)


def test_what_nobody_asked_for_is_not_counted():
    scores, candidates = tables(["right", "wrong"] + ["gone"] * 10)
    asked = np.zeros(len(KEYS), dtype=bool)
    asked[:5] = True  # of prompt a all answers, of b those of one heuristic with one seed
    reasons = filtering_reasons(GRID, scores, candidates, True, asked=asked)
    filtered = filtered_answers(GRID, reasons).to_pylist()
    assert [(row["prompt_id"], row["reason"]) for row in filtered] == [
        ("a", "incorrect"), ("a", "incomplete"), ("a", "incomplete"), ("b", "incomplete")
    ]  # fmt: skip
    report = filtering_report(GRID, reasons, PROMPTS)
    assert report["answers"]["all"]["expected"] == 5 and report["answers"]["verifiable"]["expected"] == 1
    assert report["groups"] == 3
    assert [(row["prompt_id"], row["seed"], row["reasons"]) for row in report["empty_groups"]] == [
        ("a", 4, {"incomplete": 1, "incorrect": 1}), ("b", 2, {"incomplete": 1})
    ]  # fmt: skip


def reason_of(prompt, fate, correct_only):
    if fate == "open" and prompt == "c":
        return "unverified" if correct_only else None
    if fate == "wrong":
        return "incorrect" if correct_only else None
    return {"gone": "incomplete", "failed": "failed", "unlabelled": "unrated", "unrated": "unrated"}.get(fate)


@settings(deadline=None, max_examples=50)
@given(fates, st.booleans())
def test_every_answer_is_selectable_or_has_its_reason(fate, correct_only):
    scores, candidates = tables(fate)
    reasons = filtering_reasons(GRID, scores, candidates, correct_only)
    expected = [reason_of(key[0], of, correct_only) for key, of in zip(KEYS, fate, strict=True)]
    assert [None if code == 0 else list(REASONS)[code - 1] for code in reasons] == expected
    asked = np.arange(len(KEYS)) % 3 > 0
    some = filtering_reasons(GRID, scores, candidates, correct_only, asked=asked)
    assert some.tolist() == np.where(asked, reasons, -1).tolist()
    listed = filtered_answers(GRID, reasons).to_pylist()
    assert [(*(row[key] for key in KEY), row["reason"]) for row in listed] == [
        (*key, reason) for key, reason in zip(KEYS, expected, strict=True) if reason
    ]

    report = filtering_report(GRID, reasons, PROMPTS)
    kinds = dict(zip(PROMPTS["prompt_id"], PROMPTS["kind"], strict=True))
    assert list(report["answers"]) == ["all", "chat", "verifiable"] and report["groups"] == 6
    for kind, counts in report["answers"].items():
        here = [why for key, why in zip(KEYS, expected, strict=True) if kind in ("all", kinds[key[0]])]
        assert counts == {
            "expected": len(here),
            "selectable": here.count(None),
            **{why: here.count(why) for why in REASONS if why != "prompted"},
        }
    empty = {}
    for key, why in zip(KEYS, expected, strict=True):
        empty.setdefault((key[0], key[2]), []).append(why)
    empty = {group: whys for group, whys in empty.items() if None not in whys}
    assert {(row["prompt_id"], row["seed"]): row["reasons"] for row in report["empty_groups"]} == {
        group: {why: whys.count(why) for why in REASONS if why in whys} for group, whys in empty.items()
    }
    # What has no reason is what the selection takes, if it takes all.
    if None in expected:
        selected = select_training_set(scores[SCORED], candidates, HEURISTICS, None, "pareto", 9, correct_only)
        taken = {KEYS.index(tuple(key)) for key in selected[KEY].values.tolist()}
        assert taken == {place for place, why in enumerate(expected) if why is None}


@settings(deadline=None, max_examples=30)
@given(fates)
def test_answers_drawn_from_replies_are_listed_and_never_selected(fate):
    scores, candidates = tables(fate)
    step = {"name": "verbalized", "params": {"answers": 3, "max_new_tokens": None, "template": "t"}}
    heuristics = HEURISTICS.assign(processors=["[]", json.dumps([step])])  # y, x
    assert prompted_heuristics(dict(zip(heuristics["heuristic_id"], heuristics["processors"], strict=True))) == {"x"}
    reasons = filtering_reasons(GRID, scores, candidates, True, {"x"})
    before = [reason_of(key[0], of, True) for key, of in zip(KEYS, fate, strict=True)]
    expected = [why or ("prompted" if key[1] == "x" else None) for key, why in zip(KEYS, before, strict=True)]
    assert [None if code == 0 else list(REASONS)[code - 1] for code in reasons] == expected
    counts = filtering_report(GRID, reasons, PROMPTS)["answers"]
    assert counts["all"].get("prompted", 0) == expected.count("prompted")
    assert len({tuple(row) for row in counts.values()}) == 1
    if None in expected:
        selected = select_training_set(scores[SCORED], candidates, heuristics, None, "pareto", 9, True)
        taken = {KEYS.index(tuple(key)) for key in selected[KEY].values.tolist()}
        assert taken == {place for place, why in enumerate(expected) if why is None}
    else:
        with pytest.raises(UserError, match="no answer is left"):
            select_training_set(scores[SCORED], candidates, heuristics, None, "pareto", 9, True)


def test_keys_outside_the_run_are_not_counted():
    scores, candidates = tables(["right"] * len(KEYS))
    smaller = Grid(["a", "b"], ["x"], [2])
    assert filtering_reasons(smaller, scores, candidates, True).tolist() == [0, 0]


@settings(deadline=None, max_examples=30)
@given(fates, st.integers(1, 2))
def test_marginals(fate, top_k):
    scores, candidates = tables(fate)
    reasons = filtering_reasons(GRID, scores, candidates, True)
    if not (reasons == 0).any():
        return
    chosen = {
        "pareto": (None, PARETO_WEIGHTS),
        "a0.5_b1_c2": ({"diversity": 0.5, "quality": 1.0, "correctness": 2.0},) * 2,
    }
    sets, kept = {}, {}
    for name, (weights, score_weights) in chosen.items():
        selected = select_training_set(scores[SCORED], candidates, HEURISTICS, weights, name, top_k, True)
        kept[name] = selected.merge(PROMPTS[["prompt_id", "kind"]], on="prompt_id")
        sets[name, top_k] = score_weights, kept[name][["prompt_id", "heuristic_id", "kind"]]
    selectable = reasons[GRID.places(scores)] == 0
    table = marginals(scores, selectable, HEURISTICS, sets)
    assert table["heuristic_id"].drop_duplicates().tolist() == ["y", "x"]
    kinds = ["all", *sorted(scores["kind"].unique())]
    assert len(table) == 2 * 2 * len(kinds) and len(to_arrow("marginals", table)) == len(table)
    for row in table.itertuples():

        def of_kind(frame, kind=row.kind):
            return frame if kind == "all" else frame[frame["kind"] == kind]

        some = of_kind(scores[selectable])
        mine = some[some["heuristic_id"] == row.heuristic_id]
        chosen_here = of_kind(kept[row.weights])
        assert row.name == {"y": "warm", "x": "cold"}[row.heuristic_id] and row.answers == len(mine)
        assert row.selected == (chosen_here["heuristic_id"] == row.heuristic_id).sum()
        assert (
            row.share == pytest.approx(row.selected / len(chosen_here)) if len(chosen_here) else math.isnan(row.share)
        )
        columns = {label: mine[label].dropna().tolist() for label in ("quality", "diversity", "correctness")}
        columns["score"] = weighted_score(mine, sets[row.weights, top_k][0]).tolist()
        for label, numbers in columns.items():
            mean = statistics.fmean(numbers) if numbers else math.nan
            assert getattr(row, label) == pytest.approx(mean, abs=1e-12, nan_ok=True), (label, row)


def test_the_page_names_reasons_and_empty_groups(tmp_path):
    scores, candidates = tables(["wrong", "right", "gone", "right", *["right"] * 7, "failed"])
    reasons = filtering_reasons(GRID, scores, candidates, True)
    selected = select_training_set(scores[SCORED], candidates, HEURISTICS, None, "pareto", 1, True)
    kept = selected.merge(PROMPTS, on="prompt_id")
    table = marginals(scores, reasons[GRID.places(scores)] == 0, HEURISTICS, {("pareto", 1): (PARETO_WEIGHTS, kept)})
    write_table("marginals", table, tmp_path / "m.parquet")
    report = filtering_report(GRID, reasons, PROMPTS)
    selection_page(report, read_table("marginals", tmp_path / "m.parquet"), tmp_path / "s.html")
    text = (tmp_path / "s.html").read_text()
    assert "1 of 6 prompts and seeds have no answer to select" in text
    assert "<td>a</td><td>2</td><td>chat</td><td>train</td>" in text and "incomplete" in text and "warm" in text
    report["empty_groups"] *= 150
    selection_page(report, table, tmp_path / "s.html")
    assert "and 50 more, in selection/report.json" in (tmp_path / "s.html").read_text()
