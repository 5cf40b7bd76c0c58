"""What the report says of the labels, against plain pandas and SciPy; the page, whatever answers hold."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from adaptive_samplers.figures.labels import label_correlations, label_distributions
from adaptive_samplers.hashing import content_number
from adaptive_samplers.label_summary import (
    correlations,
    distributions_table,
    labels_page,
    summarize_labels,
    write_correlations,
)
from adaptive_samplers.label_summary.correlations import as_matrix
from adaptive_samplers.label_summary.distributions import bin_edges
from adaptive_samplers.label_summary.page import FOLDED, visible
from adaptive_samplers.label_summary.summary import LONGEST_TEXT
from adaptive_samplers.measures import MEASURES
from adaptive_samplers.tables import KEY, read_table, write_table

KINDS = {"p0": "creative", "p1": "verifiable", "p2": "verifiable", "p3": "creative", "p4": "chat"}
HEURISTICS = ["h0", "h1", "h2"]
NASTY = "<script>alert(1)</script>&amp;\x07\x1b[31m \u202eevil \u0634\u0643\u0631\u0627 \U0001f468\u200d\U0001f469 '\""
GROUP = [measure.column for measure in MEASURES.values() if measure.of_group]


@pytest.fixture
def run(tmp_path):
    """Tables of a run with nulls, a failed answer, a group of one, and a heuristic that one prompt lacks."""
    generator = np.random.default_rng(0)
    rows = [
        (prompt, heuristic, seed)
        for prompt in KINDS
        for heuristic in HEURISTICS
        for seed in (0, 1, 4)
        if not (prompt == "p3" and heuristic == "h2") and not (prompt == "p4" and heuristic == "h1" and seed)
    ]
    answers = pd.DataFrame(rows, columns=KEY).sample(frac=1, random_state=1).reset_index(drop=True)
    size = len(answers)
    lengths = generator.integers(0, 6, size)
    failed = answers.eval("prompt_id == 'p2' and heuristic_id == 'h0' and seed == 1").to_numpy()
    assert failed.sum() == 1 and not (lengths == 0).all()
    logprobs = [-generator.random(length) for length in lengths]
    logprobs[3] = None  # an engine that gives none
    candidates = answers.assign(
        prompt_token_ids=[[1]] * size,
        token_ids=[list(range(length)) for length in lengths],
        text=[f"{NASTY} {row}" for row in range(size)],
        finish_reason=np.where(failed, "error", "stop"),
        sample_seed=np.arange(size),
        engine="transformers",
        error=np.where(failed, "lost", None),
        token_logprobs=logprobs,
        end_logprobs=None,
    )
    known = generator.random((4, size)) < 0.8
    quality = answers.assign(
        rating=np.where(known[0] & ~failed, generator.normal(size=size).round(1), np.nan),
        rating_stderr=0.5,
        comparisons=3,
        reward=np.nan,
    ).astype({"comparisons": "int32"})
    groups = answers.groupby(["prompt_id", "heuristic_id"]).ngroup().to_numpy()
    sizes = np.bincount(groups)[groups].astype("int32")
    values = generator.random((len(GROUP), groups.max() + 1)).round(1)
    diversity = answers.assign(self_bleu=np.where(known[1] & (sizes > 1), generator.random(size), np.nan))
    for column, value in zip(GROUP, values, strict=True):
        diversity[column] = np.where((sizes > 1) & ~failed, value[groups], np.nan)
    diversity["group_size"] = sizes
    verified = answers["prompt_id"].map(KINDS).eq("verifiable") & known[2]
    correctness = answers.assign(
        verifier=np.where(verified, "numeric", None),
        score=np.where(verified, generator.integers(0, 2, size), np.nan),
        detail=np.where(verified, "found <5>", None),
        error=None,
    )
    prompts = pd.DataFrame(
        {
            "prompt_id": list(KINDS),
            "dataset": "d",
            "kind": list(KINDS.values()),
            "messages": [json.dumps([{"role": "user", "content": f"{NASTY} \ud800 {prompt}"}]) for prompt in KINDS],
            "verifier": None,
            "ground_truth": None,
            "split": "train",
        }
    )
    heuristics = pd.DataFrame({"heuristic_id": HEURISTICS, "name": [f"top_k_{h}" for h in HEURISTICS]})
    found = {"candidates": candidates, "quality": quality, "diversity": diversity, "correctness": correctness}
    paths = {name: tmp_path / f"{name}.parquet" for name in found}
    for name, table in found.items():
        # Each table has an order of its own.
        write_table(name, table.sample(frac=1, random_state=len(name)).reset_index(drop=True), paths[name])
    return paths, prompts, heuristics, joined(found)


def joined(found):
    """All labels of an answer in one row, by pandas."""
    candidates = found["candidates"]
    answers = candidates[KEY].assign(
        tokens=candidates["token_ids"].map(len).where(candidates["error"].isna()).astype(float),
        mean_logprob=[
            np.mean(values) if values is not None and len(values) and pd.isna(error) else np.nan
            for values, error in zip(candidates["token_logprobs"], candidates["error"], strict=True)
        ],
        failed=candidates["error"].notna(),
    )
    for name in ("quality", "diversity", "correctness"):
        answers = answers.merge(found[name].drop(columns=["error"], errors="ignore"), on=KEY, validate="one_to_one")
    return answers.assign(kind=answers["prompt_id"].map(KINDS))


FEW_ROWS = 7  # at a time, so that a table is read in parts


def test_distributions_are_those_of_pandas(run):
    paths, prompts, heuristics, answers = run
    summary, _ = summarize_labels(paths, prompts, heuristics, {}, rows_at_a_time=FEW_ROWS)
    table = distributions_table(summary).set_index(["label", "kind"])
    assert summary["answers"] == len(answers) == 5 * 3 * 3 - 3 - 2 and summary["failed"] == 1
    assert summary["groups"] == 14 and (summary["prompts"], summary["heuristics"], summary["seeds"]) == (5, 3, 3)
    assert summary["empty"] == ["reward"] and "reward" not in summary["columns"]
    for measure in MEASURES.values():
        if measure.table == "overlap":
            assert measure.column not in summary["distributions"]
            continue
        units = answers
        if measure.of_group:
            units = answers.groupby(["prompt_id", "heuristic_id", "kind"], as_index=False)[measure.column].first()
        for kind, part in [("all", units), *units.groupby("kind")]:
            row, values = table.loc[measure.column, kind], part[measure.column]
            assert (row["n"], row["nulls"]) == (values.count(), values.isna().sum()), (measure, kind)
            assert row["unit"] == ("group" if measure.of_group else "answer")
            expected = [values.mean(), values.std(), *values.quantile([0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])]
            found = row[["mean", "sd", "minimum", "q05", "q25", "median", "q75", "q95", "maximum"]]
            np.testing.assert_allclose(found.astype(float), np.array(expected, float), rtol=1e-6, atol=1e-7)
            histogram = summary["distributions"][measure.column]["kinds"][kind]["histogram"]
            assert sum(histogram) == row["n"]


@given(
    values=st.lists(st.one_of(st.integers(-300, 300).map(float), st.floats(-9, 9, width=32)), max_size=30),
    null=st.booleans(),
)
def test_bins_hold_every_value_once(values, null):
    edges = bin_edges(np.array(values + [np.nan] * null))
    if not values:
        assert not len(edges)
        return
    assert np.histogram(values, edges)[0].sum() == len(values)
    assert (np.diff(edges) > 0).all() and len(edges) <= 42


def test_whole_numbers_have_bins_of_their_own():
    assert bin_edges(np.array([1.0, 3.0, 4.0])).tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


def reference(answers, first, second):
    """The correlation of two labels by SciPy, prompt by prompt."""
    units, columns = answers, [first, second]
    if {first, second} & set(GROUP):
        how = {column: "first" if column in GROUP else "mean" for column in columns}
        units = answers.groupby(["prompt_id", "heuristic_id"], as_index=False).agg(how)
    pairs = units.dropna(subset=columns)

    def correlation(part):
        if len(part) < 3 or (part[columns].nunique() < 2).any():
            return np.nan
        return spearmanr(part[first], part[second]).statistic

    inside = pd.Series([correlation(part) for _, part in pairs.groupby("prompt_id")], dtype=float).dropna()
    return len(pairs), correlation(pairs), len(inside), inside.mean(), inside.std() / np.sqrt(max(1, len(inside)))


def test_correlations_are_those_of_scipy(run):
    paths, prompts, heuristics, answers = run
    summary, pairs = summarize_labels(paths, prompts, heuristics, {}, rows_at_a_time=FEW_ROWS)
    columns = summary["correlated"]["columns"]
    assert "rating_stderr" not in columns and {"rating", "score", "tokens", "mean_logprob", *GROUP} <= set(columns)
    assert list(zip(pairs["first"], pairs["second"], strict=True)) == list(combinations(columns, 2))
    for row in pairs.itertuples(index=False):
        n, overall, n_prompts, within, stderr = reference(answers, row.first, row.second)
        assert (row.n, row.n_prompts) == (n, n_prompts), row
        assert row.unit == ("group" if {row.first, row.second} & set(GROUP) else "answer")
        np.testing.assert_allclose([row.overall, row.within, row.within_stderr], [overall, within, stderr], atol=1e-9)
    assert pairs["overall"].notna().all() and (pairs["n_prompts"] < len(KINDS)).any()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), *[st.one_of(st.none(), st.integers(0, 3))] * 2), max_size=25))
def test_correlations_of_any_table(rows):
    answers = pd.DataFrame(rows, columns=["prompt", "rating", "score"]).astype(float).astype({"prompt": int})
    row = correlations(answers.assign(group=range(len(answers))), ["rating", "score"]).iloc[0]
    ids = answers.rename(columns={"prompt": "prompt_id"}).assign(heuristic_id=range(len(answers)))
    expected = reference(ids, "rating", "score")
    found = row[["n", "overall", "n_prompts", "within", "within_stderr"]].astype(float)
    np.testing.assert_allclose(found, np.array(expected, float), atol=1e-9)


def test_large_runs_are_sampled_by_whole_prompts(run):
    paths, prompts, heuristics, answers = run
    summary, pairs = summarize_labels(paths, prompts, heuristics, {}, correlated_answers=20, rows_at_a_time=FEW_ROWS)
    chosen, size = [], 0
    for prompt in sorted(KINDS, key=lambda prompt: content_number(["labels", prompt])):
        size += answers["prompt_id"].eq(prompt).sum()
        if size > 20:
            break
        chosen.append(prompt)
    some = answers[answers["prompt_id"].isin(chosen)]
    assert summary["correlated"]["prompts"] == len(chosen) and summary["correlated"]["answers"] == len(some) <= 20
    row = pairs.set_index(["first", "second"]).loc["rating", "tokens"]
    assert row["n"] == reference(some, "rating", "tokens")[0]
    assert summary["answers"] == len(answers)  # what is counted and described are all of them


def test_examples_are_the_extremes_of_their_kind(run):
    paths, prompts, heuristics, answers = run
    summary, _ = summarize_labels(paths, prompts, heuristics, {}, rows_at_a_time=FEW_ROWS)
    texts = read_table("candidates", paths["candidates"]).set_index(KEY)["text"]
    for kind, part in answers.dropna(subset="rating").groupby("kind"):
        for end, best in (("best", True), ("worst", False)):
            found = [e for e in summary["examples"] if (e["kind"], e["end"]) == (kind, end)]
            per_prompt = part.groupby("prompt_id")["rating"].agg("max" if best else "min")
            assert [e["labels"]["rating"] for e in found] == sorted(per_prompt, reverse=best)[:3]
            assert len({e["prompt_id"] for e in found}) == len(found) == min(3, len(per_prompt))
            for rank, example in enumerate(found):
                heuristic = example["heuristic"].removeprefix("top_k_")
                row = answers.set_index(KEY).loc[example["prompt_id"], heuristic, example["seed"]]
                assert example["rank"] == rank + 1 and row["rating"] == example["labels"]["rating"]
                assert example["text"] == texts[example["prompt_id"], heuristic, example["seed"]]
                assert example["detail"] == ("found <5>" if pd.notna(row["score"]) else None)
                known = {column: value for column, value in example["labels"].items() if value is not None}
                assert row[list(example["labels"])].dropna().to_dict() == pytest.approx(known)


def test_labels_of_no_answer_are_counted_and_left_out(run, tmp_path):
    paths, prompts, heuristics, answers = run
    before, pairs_before = summarize_labels(paths, prompts, heuristics, {})
    assert before["strays"] == {}
    quality = read_table("quality", paths["quality"])
    missing = {"prompt_id": "p3", "heuristic_id": "h2", "seed": 0}  # in the grid, but there is no such answer
    assert not (answers[KEY] == missing).all(axis=1).any()
    stray = quality.iloc[:2].assign(rating=99.0, seed=[77, 0], prompt_id=["p0", "p3"], heuristic_id=["h0", "h2"])
    write_table("quality", pd.concat([stray, quality]), paths["quality"])
    summary, pairs = summarize_labels(paths, prompts, heuristics, {})
    assert summary == before | {"strays": {"quality": 2}}
    pd.testing.assert_frame_equal(pairs, pairs_before)
    assert "2 rows of quality are of no answer." in written_page(run, tmp_path, TOURNAMENTS)


def test_the_matrix_and_its_files(tmp_path):
    columns = ["rating", "score", "tokens"]
    rows = [
        ("rating", "score", "answer", 5, 0.25, -0.5, 0.1, 2),
        ("rating", "tokens", "answer", 5, -1, np.nan, np.nan, 0),
    ]
    rows.append(("score", "tokens", "answer", 2, np.nan, 0.125, np.nan, 1))
    names = ["first", "second", "unit", "n", "overall", "within", "within_stderr", "n_prompts"]
    pairs = pd.DataFrame(rows, columns=names)
    nan = np.nan
    np.testing.assert_array_equal(as_matrix(pairs, columns), [[nan, -0.5, nan], [0.25, nan, 0.125], [-1, nan, nan]])
    write_correlations(pairs, columns, tmp_path / "c.csv", tmp_path / "c.tex")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "c.csv"), pairs, check_dtype=False)
    lines = (tmp_path / "c.tex").read_text().splitlines()
    assert r"1 & Quality rating &  & $-0.50$ & -- \\" in lines
    assert r"2 & Correctness (0 to 1) & $0.25$ &  & $0.12$ \\" in lines
    assert lines[0] == r"\begin{tabular}{rlrrr}" and lines[-1] == r"\end{tabular}"


def written_page(run, tmp_path, tournaments, **changes):
    paths, prompts, heuristics, _ = run
    summary, _ = summarize_labels(paths, prompts, heuristics, {})
    for example in summary["examples"]:
        example.update(changes)
    for name in ("distributions", "correlations"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    figures = {name: tmp_path / f"{name}.png" for name in ("distributions", "correlations")}
    labels_page(summary, tournaments, "embedding_entropy", figures, tmp_path / "labels.html")
    return (tmp_path / "labels.html").read_text(encoding="utf-8")


TOURNAMENTS = {"groups": 9, "calls": 40, "failed": 4, "judge": {"kind": "pairwise", "position_bias": 0.125}}


def test_the_page_shows_any_text_as_text(run, tmp_path):
    text = written_page(run, tmp_path, TOURNAMENTS)
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in text
    assert not set("\x07\x1b\u202e\ud800") & set(text)
    assert all(f"<span class='control'>{code}</span>" in text for code in (r"\x07", r"\x1b", r"\u202e", r"\ud800"))
    assert "\u0634\u0643\u0631\u0627" in text and "\U0001f468\u200d\U0001f469" in text and "dir='auto'" in text
    assert "http" not in text  # self-contained
    assert "data:image/png;base64,ZGlzdHJpYnV0aW9ucw==" in text  # the file's bytes
    assert "found &lt;5&gt;" in text and "nothing to verify" in text and "top_k_h0" in text
    assert "No answer has a value of: Judge&#x27;s reward." in text


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_becomes_safe_html(text):
    shown = visible(text)
    shown.encode()  # no surrogates
    plain = shown.replace("<span class='control'>", "").replace("</span>", "")
    assert not set("<>\"'") & set(plain)
    assert all(character >= " " or character in "\n\t" for character in shown)


@pytest.mark.parametrize("measured", ["position_bias", "orders_disagree", "label_mass"])
def test_the_page_tells_what_was_measured_of_one_judge(run, tmp_path, measured):
    text = written_page(run, tmp_path, {**TOURNAMENTS, "judge": {"kind": "pairwise", measured: 0.125}})
    assert "<td>0.125</td>" in text and "One judge rated the answers" in text
    assert "<td>share of comparisons that failed</td><td>0.100</td>" in text
    assert "Agreement between judges" not in text


def test_the_page_of_several_judges(run, tmp_path):
    judges = {"gram": {"position_bias": 0.0625}, "<skywork>": {"answers_failed": 3, "weights": [1, 2]}}
    agreement = [{"judges": ["gram", "<skywork>"], "kendall_tau": 0.375, "top_1": None, "groups": 9}]
    judges["gram"]["failure_reasons"] = {"longer than 9 <tokens>": 2}
    found = {"judges": judges, "agreement": agreement, "answers_rated": {"all": 9, "some": 0, "none": 0}}
    text = written_page(run, tmp_path, {**TOURNAMENTS, **found, "combine": "first"})
    assert "<th>gram</th><th>&lt;skywork&gt;</th>" in text and "One judge" not in text
    assert "less 0.5</td><td>0.062</td><td>&ndash;</td>" in text
    assert "<td>gram and &lt;skywork&gt;</td><td>0.375</td><td>&ndash;</td><td>9</td>" in text
    assert "<td>longer than 9 &lt;tokens&gt;</td><td>2</td>" in text and "[1, 2]" in text


def test_reports_of_earlier_versions_have_no_judge(run, tmp_path):
    assert "One judge rated the answers" in written_page(run, tmp_path, {"groups": 9, "calls": 0, "failed": 0})


def test_long_texts_are_folded(run, tmp_path):
    long = "word " * FOLDED
    text = written_page(run, tmp_path, TOURNAMENTS, text=long, characters=len(long) + 1234)
    assert f"<summary>all {len(long) + 1234:,} characters</summary>" in text
    assert "1,234 more characters are not kept here." in text
    assert long in text.replace("\n", " ") and long[:FOLDED] + " &hellip;</div><details>" in text
    assert "<span class='control'>(empty)</span>" in written_page(run, tmp_path, TOURNAMENTS, text="", characters=0)


def test_the_summary_keeps_so_much_of_a_text(run):
    paths, prompts, heuristics, _ = run
    table = read_table("candidates", paths["candidates"]).assign(text="x" * (LONGEST_TEXT + 5))
    write_table("candidates", table, paths["candidates"])
    example = summarize_labels(paths, prompts, heuristics, {})[0]["examples"][0]
    assert len(example["text"]) == LONGEST_TEXT and example["characters"] == LONGEST_TEXT + 5


def test_figures_show_every_label_and_number(run):
    paths, prompts, heuristics, _ = run
    summary, pairs = summarize_labels(paths, prompts, heuristics, {})
    figure = label_distributions(summary["distributions"], summary["columns"])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [measure.title for measure in MEASURES.values() if measure.column in summary["columns"]]
    columns = summary["correlated"]["columns"]
    axes = label_correlations(pairs, columns).axes[0]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(shown) == len(columns) * (len(columns) - 1)
    place = {column: position for position, column in enumerate(columns)}
    for row in pairs.itertuples(index=False):
        low, high = place[row.first], place[row.second]
        for where, value in (((low, high), row.overall), ((high, low), row.within)):
            text = shown[where].replace("\u2212", "-")
            assert text == "\u2013" if np.isnan(value) else float(text) == pytest.approx(value, abs=0.00501)
