"""Comparisons are right: against SciPy, against brute force, and in what they do with missing values."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from adaptive_samplers.errors import UserError
from adaptive_samplers.evaluation import (
    best_first,
    bootstrap_mean,
    compare_samplers,
    paired_differences,
)
from adaptive_samplers.rendering import render_table, write_tables
from adaptive_samplers.tables import read_table, write_table

OBJECTIVES = ["quality", "embedding_entropy", "self_bleu", "correctness"]
LEARNED = "SamplingNetwork a0.7_b0.3_c0 top2"
HEURISTICS = pd.DataFrame(
    [
        ("h0", "temperature_0.3", "temperature"),
        ("h1", "temperature_1", "temperature"),
        ("h2", "top_k_50+top_p_0.95+temperature_0.8", "pipeline"),
        ("h3", LEARNED, "learned"),
    ],
    columns=["heuristic_id", "name", "family"],
)


def label_tables(n_prompts=12, seeds=3, shifts=(0.5, -0.5, 0.0, 0.3)):
    """Quality, diversity and correctness, with a large effect of the prompt and a small one of the sampler."""
    generator = np.random.default_rng(7)
    difficulty = generator.normal(0, 1, n_prompts)
    rows = []
    for heuristic_id, shift in zip(HEURISTICS["heuristic_id"], shifts, strict=True):
        for prompt in range(n_prompts):
            for seed in range(seeds):
                rating = difficulty[prompt] + shift + generator.normal(0, 0.1)
                rows.append(
                    {
                        "prompt_id": f"p{prompt:02d}",
                        "heuristic_id": heuristic_id,
                        "seed": seed,
                        "rating": rating,
                        "embedding_entropy": 0.6 - shift / 2,
                        "vendi_score": np.exp(0.6 - shift / 2),
                        "self_bleu": 0.3 + shift / 5,
                        "score": float(generator.random() < 0.5) if prompt % 3 == 0 else np.nan,
                    }
                )
    table = pd.DataFrame(rows)
    key = ["prompt_id", "heuristic_id", "seed"]
    return (
        table[[*key, "rating"]],
        table[[*key, "embedding_entropy", "vendi_score", "self_bleu"]],
        table[[*key, "score"]],
    )


def compare(tables, **changes):
    settings = {"objectives": OBJECTIVES, "resamples": 500, "confidence": 0.9, "seed": 3} | changes
    return compare_samplers(*tables, HEURISTICS, **settings)


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(0).exponential(size=40)
    frame = pd.DataFrame({"prompt_id": [f"p{i:02d}" for i in range(40)], "value": values})
    ours = bootstrap_mean(frame, resamples=20_000, confidence=0.9, seed=1)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=2
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.n_prompts == 40
    # Two estimates of the same quantiles, each with a standard error of about 0.002.
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=0.012)


def test_bootstrap_agrees_with_the_exact_distribution():
    """Three prompts have 27 equally likely resamples, so that the quantiles are known."""
    values = np.array([0.0, 1.0, 5.0])
    frame = pd.DataFrame({"prompt_id": list("abc"), "value": values})
    means = sorted(np.mean([x, y, z]) for x in values for y in values for z in values)
    interval = bootstrap_mean(frame, resamples=50_000, confidence=0.8, seed=0)
    assert interval.low == pytest.approx(means[int(0.1 * 27)])
    assert interval.high == pytest.approx(means[int(0.9 * 27)])


def test_seeds_are_averaged_before_prompts():
    frame = pd.DataFrame({"prompt_id": ["a", "a", "a", "b"], "value": [0.0, 0.0, 3.0, 5.0]})
    assert bootstrap_mean(frame, 100, 0.95, 0).mean == 3.0
    frame = pd.DataFrame({"prompt_id": ["a", "a", "b"], "value": [1.0, np.nan, 5.0]})
    assert bootstrap_mean(frame, 100, 0.95, 0)[::3] == (3.0, 2)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    frame = pd.DataFrame({"prompt_id": list("abcdefgh"), "value": np.random.default_rng(5).normal(size=8)})
    assert bootstrap_mean(frame, 200, 0.95, 4) == bootstrap_mean(frame.sample(frac=1), 200, 0.95, 4)
    assert bootstrap_mean(frame, 200, 0.95, 4) != bootstrap_mean(frame, 200, 0.95, 5)


def test_one_prompt_has_no_interval_and_none_has_no_mean():
    one = bootstrap_mean(pd.DataFrame({"prompt_id": ["a"], "value": [2.0]}), 100, 0.95, 0)
    assert one.mean == 2.0 and np.isnan(one.low) and np.isnan(one.high) and one.n_prompts == 1
    none = bootstrap_mean(pd.DataFrame({"prompt_id": ["a"], "value": [np.nan]}), 100, 0.95, 0)
    assert np.isnan(none.mean) and none.n_prompts == 0


def test_coverage_is_about_the_confidence():
    generator = np.random.default_rng(11)
    ids = [f"p{i:03d}" for i in range(100)]
    covered = 0
    for trial in range(200):
        frame = pd.DataFrame({"prompt_id": ids, "value": generator.normal(size=100)})
        interval = bootstrap_mean(frame, 300, 0.9, trial)
        covered += interval.low <= 0 <= interval.high
    assert 0.82 <= covered / 200 <= 0.97


def test_comparison_has_a_row_per_sampler_and_objective_and_fits_its_schema(tmp_path):
    tables = label_tables()
    comparison = compare(tables)
    assert len(comparison) == len(HEURISTICS) * len(OBJECTIVES)
    write_table("comparison", comparison, tmp_path / "comparison.parquet")
    pd.testing.assert_frame_equal(
        read_table("comparison", tmp_path / "comparison.parquet"), comparison, check_dtype=False
    )
    assert set(comparison.loc[comparison["family"] == "learned", "kind"]) == {"learned"}
    assert set(comparison.loc[comparison["family"] != "learned", "kind"]) == {"heuristic"}
    row = comparison[(comparison["name"] == "temperature_1") & (comparison["objective"] == "quality")].iloc[0]
    ratings = tables[0][tables[0]["heuristic_id"] == "h1"]
    alone = bootstrap_mean(ratings.rename(columns={"rating": "value"}), 500, 0.9, 3)
    assert tuple(row[["mean", "low", "high", "n_prompts"]]) == pytest.approx(tuple(alone))
    assert set(comparison.loc[comparison["objective"] == "correctness", "n_prompts"]) == {4}


def test_what_cannot_be_measured_is_empty_not_zero():
    quality, diversity, correctness = label_tables()
    nothing = correctness.assign(score=np.nan)
    comparison = compare((quality, diversity, nothing))
    rows = comparison[comparison["objective"] == "correctness"]
    assert len(rows) == 4 and rows["mean"].isna().all() and (rows["n_prompts"] == 0).all()
    unlabelled = quality[quality["heuristic_id"] != "h2"]
    rows = compare((unlabelled, diversity, correctness)).query("objective == 'quality'").set_index("name")
    assert rows.loc[HEURISTICS["name"][2], "n_prompts"] == 0
    assert rows.loc["temperature_1", "n_prompts"] == 12


def test_mistakes_are_named():
    tables = label_tables()
    with pytest.raises(UserError, match="unknown objective 'speed'"):
        compare(tables, objectives=["speed"])
    with pytest.raises(UserError, match="heuristic_id h3 is not in the table of heuristics"):
        compare_samplers(*tables, HEURISTICS.iloc[:3], ["quality"], 100, 0.9, 0)


def test_differences_are_paired():
    """Prompts differ by far more than samplers, and only pairing takes that out."""
    tables = label_tables()
    differences = paired_differences(*tables, HEURISTICS, OBJECTIVES, 500, 0.9, 3)
    rows = differences[differences["objective"] == "quality"].set_index("reference")
    assert set(rows.index) == {"temperature_0.3", "temperature_1"}
    assert set(differences["name"]) == {LEARNED}
    means = tables[0].groupby(["heuristic_id", "prompt_id"])["rating"].mean().unstack(0)
    paired = means["h3"] - means["h1"]
    assert rows.loc["temperature_1", "difference"] == pytest.approx(paired.mean())
    brute = np.random.default_rng(0).choice(paired.to_numpy(), (20_000, 12)).mean(axis=1)
    low, high = np.quantile(brute, [0.05, 0.95])
    assert tuple(rows.loc["temperature_1", ["low", "high"]]) == pytest.approx((low, high), abs=0.01)
    alone = compare(tables).query("objective == 'quality' and name == @LEARNED").iloc[0]
    assert rows["high"].max() - rows["low"].max() < (alone["high"] - alone["low"]) / 4


def test_best_heuristic_of_self_bleu_is_the_lowest():
    differences = paired_differences(*label_tables(), HEURISTICS, ["self_bleu"], 100, 0.9, 0)
    assert list(differences["reference"]) == ["temperature_1"]  # the best and the base at once: one row
    assert differences["difference"].iloc[0] == pytest.approx(0.16)


def test_differences_use_the_prompts_that_both_have():
    quality, diversity, correctness = label_tables()
    fewer = quality[~((quality["heuristic_id"] == "h3") & (quality["prompt_id"] == "p00"))]
    rows = paired_differences(fewer, diversity, correctness, HEURISTICS, ["quality"], 100, 0.9, 0)
    assert set(rows["n_prompts"]) == {11}


def test_differences_without_learned_samplers_or_values():
    quality, diversity, correctness = label_tables()
    nothing = correctness.assign(score=np.nan)
    assert paired_differences(quality, diversity, nothing, HEURISTICS, ["correctness"], 100, 0.9, 0).empty
    only = HEURISTICS.assign(family="temperature")
    assert paired_differences(quality, diversity, nothing, only, ["quality"], 100, 0.9, 0).empty


def test_table_fits_a_terminal_and_is_sorted_by_quality():
    comparison = compare(label_tables())
    lines = render_table(comparison, OBJECTIVES).splitlines()
    assert max(map(len, lines)) <= 100
    positions = [next(i for i, line in enumerate(lines) if name in line) for name in best_first(comparison, "quality")]
    assert positions == sorted(positions)
    assert best_first(comparison, "quality")[0] == "temperature_0.3"
    assert sum(line.startswith(f"* {LEARNED}") for line in lines) == 1
    row = comparison[(comparison["name"] == "temperature_0.3") & (comparison["objective"] == "self_bleu")].iloc[0]
    assert row["mean"] == pytest.approx(0.4)
    line = next(line for line in lines if "temperature_0.3" in line)
    assert ".40 [.40, .40]" in line
    assert "except for self_bleu" in lines[-1]


def test_table_shows_what_is_missing():
    quality, diversity, correctness = label_tables(n_prompts=1)
    comparison = compare((quality, diversity, correctness.assign(score=np.nan)))
    text = render_table(comparison, OBJECTIVES)
    assert "nan" not in text and "n = 0" in text and "n = 1" in text
    without_quality = comparison[comparison["objective"] == "correctness"]
    assert "temperature_0.3" in render_table(without_quality, ["correctness"])


def test_no_rounded_zero_has_a_sign_and_large_numbers_keep_their_digits():
    row = {"family": "temperature", "name": "t", "kind": "heuristic", "objective": "quality", "n_prompts": 5}
    text = render_table(pd.DataFrame([row | {"mean": -0.001, "low": -10.5, "high": 0.999}]), ["quality"])
    assert ".00 [-10.50, 1.00]" in text and "-.00" not in text


def test_written_tables(tmp_path):
    comparison = compare(label_tables())
    write_tables(comparison, tmp_path / "c.csv", tmp_path / "c.tex")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "c.csv"), comparison, check_dtype=False)
    latex = (tmp_path / "c.tex").read_text()
    assert r"\toprule" in latex and latex.count(r"\midrule") == 2 and r"\bottomrule" in latex
    assert r"SamplingNetwork a0.7\_b0.3\_c0 top2" in latex
    assert all(line.count("&") == len(OBJECTIVES) for line in latex.splitlines() if line.endswith(r"\\"))
