"""How much of a judge's ratings is likelihood: against least squares with dummies for prompts, and planted cases."""

import numpy as np
import pandas as pd
import pytest
from golden.inputs import FEW, PROMPTS
from golden.labels import write_label_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_samplers.label_summary import summarize_labels
from adaptive_samplers.label_summary.likelihood import RESAMPLES, explained_by_likelihood, prompt_moments
from adaptive_samplers.pages import judge_parts
from adaptive_samplers.tables import KEY, read_table, write_table

NAMES = ("slope", "r_squared")


def least_squares(x, y):
    """Slope and R squared within rows, by a regression on `x` and a dummy for each row, and by one on dummies alone."""
    both = np.isfinite(x) & np.isfinite(y)
    prompts, _ = np.nonzero(both)
    dummies = np.eye(len(x))[prompts]

    def fit(columns):
        coefficients = np.linalg.lstsq(columns, y[both], rcond=None)[0]
        return coefficients, ((y[both] - columns @ coefficients) ** 2).sum()

    (slope, *_), unexplained = fit(np.column_stack([x[both], dummies]))
    return slope, 1 - unexplained / fit(dummies)[1]


def with_nulls(generator, shape, share):
    """Numbers around a mean of each row, some of them missing."""
    values = generator.normal(size=shape) + 5 * generator.normal(size=(shape[0], 1))
    return np.where(generator.random(shape) < share, np.nan, values)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_regression_with_a_dummy_for_each_prompt(seed):
    generator = np.random.default_rng(seed)
    x = with_nulls(generator, (12, 9), 0.3)
    y = 0.7 * x + with_nulls(generator, (12, 9), 0.2) * 0.3
    x[3], y[4, 1:] = np.nan, np.nan
    found = explained_by_likelihood(y, x)
    np.testing.assert_allclose([found["slope"], found["r_squared"]], least_squares(x, y), rtol=1e-9)
    both = np.isfinite(x) & np.isfinite(y)
    counts = both.sum(axis=1)
    assert found["prompts"] == (counts > 1).sum() <= 10 and found["answers"] == counts[counts > 1].sum()
    for name in NAMES:
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_a_rating_that_is_the_log_probability_is_all_explained():
    x = with_nulls(np.random.default_rng(0), (8, 6), 0.2)
    found = explained_by_likelihood(x + np.arange(8)[:, None] * 100, x)
    assert [found[name] for name in ("r_squared", "r_squared_low", "r_squared_high")] == pytest.approx([1, 1, 1])
    assert [found[name] for name in ("slope", "slope_low", "slope_high")] == pytest.approx([1, 1, 1])
    turned = explained_by_likelihood(-3 * x, x)
    assert turned["slope"] == pytest.approx(-3) and turned["r_squared"] == pytest.approx(1)


def test_of_noise_next_to_nothing_is_explained_however_much_prompts_differ():
    generator = np.random.default_rng(1)
    # What is a likely prompt's is rated higher, which is no matter within prompts.
    offsets = 10 * generator.normal(size=(200, 1))
    x, y = (generator.normal(size=(200, 20)) + offsets for _ in range(2))
    assert np.corrcoef(x.ravel(), y.ravel())[0, 1] ** 2 > 0.9
    found = explained_by_likelihood(y, x)
    assert found["r_squared_high"] < 0.01 and found["slope_low"] < 0 < found["slope_high"]


def test_intervals_are_percentiles_over_resampled_prompts():
    generator = np.random.default_rng(2)
    x = with_nulls(generator, (30, 8), 0.1)
    y = 0.5 * x + generator.normal(size=x.shape)
    found = explained_by_likelihood(y, x)
    resampled = []
    for _ in range(RESAMPLES):
        drawn = generator.integers(0, 30, 30)
        resampled.append(least_squares(x[drawn], y[drawn]))
    ends = np.quantile(resampled, [0.025, 0.975], axis=0)
    for position, name in enumerate(NAMES):
        low, high = ends[:, position]
        # Two sets of 1,000 resamples agree in an end to within some percent of the width.
        np.testing.assert_allclose([found[f"{name}_low"], found[f"{name}_high"]], [low, high], atol=0.15 * (high - low))
    assert found == explained_by_likelihood(y, x), "the same every time"


@pytest.mark.parametrize(
    ("ratings", "logprobs", "prompts", "answers"),
    [
        ([[1.0], [2.0]], [[1.0], [2.0]], 0, 0),  # one answer to each
        ([[1.0, np.nan]], [[np.nan, 1.0]], 0, 0),
        ([[2.0, 2.0, 2.0], [0.1, 0.1, 0.1]], [[-1.0, -2.0, -3.0]] * 2, 2, 6),  # constant ratings
        ([[1.0, 2.0]], [[-1.0, -1.0]], 1, 2),  # the same answer
        (np.empty((0, 3)), np.empty((0, 3)), 0, 0),
    ],
)
def test_where_nothing_varies_nothing_is_said(ratings, logprobs, prompts, answers):
    found = explained_by_likelihood(np.array(ratings), np.array(logprobs))
    assert (found["prompts"], found["answers"]) == (prompts, answers)
    assert found["r_squared"] is found["r_squared_low"] is found["r_squared_high"] is None


def test_what_rounding_leaves_of_a_tie_is_no_variance():
    x = np.random.default_rng(3).normal(size=(4, 10))
    tied = np.full((4, 10), 0.1) * (1 + np.finfo(float).eps * np.sign(x))
    assert len(np.unique(tied)) > 1
    found = explained_by_likelihood(tied, x)
    assert found["r_squared"] is None and found["slope"] == 0


def test_one_prompt_has_no_interval():
    found = explained_by_likelihood(np.array([[1.0, 2.0, 4.0], [1.0, np.nan, np.nan]]), np.array([[0.0, 1.0, 2.0]] * 2))
    assert found["r_squared"] == pytest.approx(27 / 28) and found["prompts"] == 1
    assert found["r_squared_low"] is found["slope_high"] is None


@settings(max_examples=60)
@given(st.lists(st.lists(st.sampled_from([np.nan, -1.0, 0.0, 2.5]), min_size=6, max_size=6), max_size=6))
def test_of_any_values_shares_are_shares(rows):
    values = np.array(rows, dtype=float).reshape(-1, 6)
    found = explained_by_likelihood(values[:, :3], values[:, 3:])
    for name in ("r_squared", "r_squared_low", "r_squared_high"):
        assert found[name] is None or 0 <= found[name] <= 1
    moments = prompt_moments(values[:, 3:], values[:, :3])
    assert not moments.answers[moments.answers == 1].size and found["answers"] <= values[:, :3].size


@pytest.fixture
def run(tmp_path):
    """Files of a run's tables, in which one answer failed."""
    return write_label_tables(tmp_path)


def mean_logprobs(answers):
    return [
        np.nan if row.finish_reason == "error" or not len(row.token_logprobs) else np.mean(row.token_logprobs)
        for row in answers.itertuples()
    ]


def test_every_judge_has_its_own_rows_from_its_own_table(run, tmp_path):
    answers = read_table("candidates", run["candidates"])
    quality = read_table("quality", run["quality"])
    answers["mean"] = mean_logprobs(answers)
    cold = quality.drop(columns="rating").merge(answers[[*KEY, "mean"]], on=KEY)
    noise = np.random.default_rng(0).normal(size=len(cold))
    cold = cold.assign(rating=2 * cold["mean"], reward=noise).drop(columns="mean")
    write_table("quality", cold.sample(frac=1, random_state=0), tmp_path / "cold.parquet")
    judged = {"usual": run["quality"], "cold": tmp_path / "cold.parquet"}
    rows = summarize_labels(run, PROMPTS, FEW, judged, rows_at_a_time=7)[0]["likelihood"]
    assert [(row["judge"], row["measure"]) for row in rows] == [
        ("usual", "rating"),
        ("cold", "rating"),
        ("cold", "reward"),
    ]
    usual, planted, of_noise = rows
    assert planted["r_squared"] == pytest.approx(1) and planted["slope"] == pytest.approx(2, rel=1e-6)
    assert of_noise["r_squared"] < 0.5

    joined = quality.merge(answers[[*KEY, "mean"]], on=KEY).dropna(subset=["rating", "mean"])
    wide = joined.assign(place=joined.groupby("prompt_id").cumcount()).pivot(index="prompt_id", columns="place")
    expected = least_squares(wide["mean"].to_numpy(), wide["rating"].to_numpy())
    np.testing.assert_allclose([usual["slope"], usual["r_squared"]], expected, rtol=1e-5)
    assert usual["answers"] == len(joined) < len(answers)
    assert rows == summarize_labels(run, PROMPTS, FEW, judged)[0]["likelihood"]


def row_of(judge, measure, slope, share):
    ends = {f"{name}_{end}": None if share is None else 0.5 for name in NAMES for end in ("low", "high")}
    return {"judge": judge, "measure": measure, "prompts": 4, "answers": 20, "slope": slope, "r_squared": share, **ends}


def test_the_report_warns_of_a_judge_that_is_mostly_likelihood():
    rows = [
        row_of("cold", "rating", 2.0, 0.4),
        row_of("cold", "reward", 1.0, 0.62),
        row_of("fair", "rating", 1.0, 0.1),
        row_of("hot", "rating", -1.0, 0.3),
        row_of("<none>", "rating", None, None),
    ]
    text = "\n".join(judge_parts({"judge": {"kind": "scalar"}}, rows))
    warnings = [line for line in text.splitlines() if "<strong>" in line]
    assert len(warnings) == 2 and "62%" in warnings[0] and "reward by cold" in warnings[0]
    assert "only learn to be colder" in warnings[0] and "only learn to be hotter" in warnings[1]
    assert "the less probable" in warnings[1] and "by hot" in warnings[1]
    assert "<td>0.620</td><td>[0.500, 0.500]</td>" in text and "&lt;none&gt;</td><td>rating</td><td>&ndash;" in text


def test_a_judge_without_numbers_is_a_row_of_dashes(run, tmp_path):
    quality = read_table("quality", run["quality"]).assign(rating=np.nan, rating_stderr=np.nan)
    write_table("quality", quality, tmp_path / "silent.parquet")
    [row] = summarize_labels(run, PROMPTS, FEW, {"silent": tmp_path / "silent.parquet"})[0]["likelihood"]
    assert (row["prompts"], row["answers"], row["slope"], row["r_squared"]) == (0, 0, None, None)
    pd.testing.assert_index_equal(pd.DataFrame([row]).columns[:2], pd.Index(["judge", "measure"]))
