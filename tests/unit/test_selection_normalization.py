"""Normalized labels, against a loop over groups with Python's own statistics."""

import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_samplers.config.schema import config_schema
from adaptive_samplers.selection import METHODS, SCOPES, normalize, score_candidates, z_score
from adaptive_samplers.tables import KEY

values = st.lists(
    st.tuples(st.integers(0, 3), st.none() | st.integers(-50, 50) | st.integers(-(10**6), 10**6)), max_size=40
)


def by_hand(numbers: list[float], method: str) -> list[float]:
    """A group without nulls."""
    if len(set(numbers)) < 2:
        return [0.0] * len(numbers)
    if method == "robust":
        center = statistics.median(numbers)
        distances = [abs(number - center) for number in numbers]
        deviation = 1.4826 * statistics.median(distances) or 1.2533 * statistics.fmean(distances)
    else:
        if method == "rank":
            numbers = [sum(o < n for o in numbers) + (sum(o == n for o in numbers) + 1) / 2 for n in numbers]
        center, deviation = statistics.fmean(numbers), statistics.pstdev(numbers)
    return [(number - center) / deviation for number in numbers]


@pytest.mark.parametrize("method", METHODS)
@given(rows=values)
def test_in_groups_and_over_all(rows, method):
    groups = np.array([group for group, _ in rows], dtype=np.int64)
    series = pd.Series([number for _, number in rows], dtype=float)
    for of in (groups, np.zeros_like(groups), None):
        found = normalize(series, of, method)
        codes = np.zeros_like(groups) if of is None else of
        for code in set(codes.tolist()):
            here = (codes == code) & series.notna().to_numpy()
            expected = by_hand(series[here].tolist(), method)
            np.testing.assert_allclose(found[here], expected, rtol=1e-7, atol=1e-9)
        assert (found[series.isna()] == 0).all() and found.index.equals(series.index)


@pytest.mark.parametrize("method", METHODS)
@given(rows=values, factor=st.sampled_from([0.5, 4.0]), shift=st.integers(-100, 100))
def test_another_unit_changes_nothing(rows, factor, shift, method):
    groups = np.array([group for group, _ in rows], dtype=np.int64)
    series = pd.Series([number for _, number in rows], dtype=float)
    found = normalize(series, groups, method)
    np.testing.assert_allclose(normalize(series * factor + shift, groups, method), found, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_equal_values_are_zero_though_their_mean_is_rounded(method):
    equal = pd.Series([0.1] * 7 + [np.nan])
    for groups in (None, np.zeros(8, dtype=np.int64), np.array([0, 0, 0, 1, 1, 1, 2, 2])):
        assert (normalize(equal, groups, method) == 0).all()


def test_robust_is_not_moved_by_an_outlier_and_sees_rare_values():
    plain, spoiled = pd.Series([1.0, 2, 3, 4, 5]), pd.Series([1.0, 2, 3, 4, 5e9])
    np.testing.assert_allclose(normalize(plain, None, "robust")[:4], normalize(spoiled, None, "robust")[:4])
    assert abs(z_score(spoiled)[:4]).max() < 1
    # Most are equal, so that the MAD is 0: the wrong ones still differ from the right ones.
    mostly = normalize(pd.Series([1.0] * 9 + [0.0]), None, "robust")
    assert mostly[:9].eq(0).all() and mostly[9] == pytest.approx(-1 / (1.2533 * 0.1))


PROMPTS = pd.DataFrame(
    {"prompt_id": ["a", "b", "c"], "dataset": ["x", "y", "x"], "kind": "chat", "split": ["train", "test", "train"]}
).assign(verifier=None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scope", SCOPES)
def test_scores_compare_within_the_scope(scope, method):
    generator = np.random.default_rng(0)
    keys = [(prompt, heuristic, seed) for prompt in "cab" for heuristic in "hg" for seed in (0, 1, 2)]
    base = pd.DataFrame(keys, columns=KEY)
    quality = base.assign(rating=generator.normal(size=len(keys)))
    quality.loc[2, "rating"] = np.nan
    diversity = base.assign(vendi_score=generator.random(len(keys))).sample(frac=1, random_state=0)
    correctness = base.assign(score=generator.integers(0, 2, len(keys)) * 1.0)[:10]
    scores = score_candidates(PROMPTS, quality, diversity, correctness, "vendi_score", scope, method)
    group = {"global": lambda _: 0, "dataset": {"a": "x", "b": "y", "c": "x"}.get, "prompt": str}[scope]
    codes = scores["prompt_id"].map(group)
    for label in ("quality", "diversity", "correctness"):
        for _, some in scores.groupby(codes):
            present = some[label].notna()
            np.testing.assert_allclose(some[f"z_{label}"][present], by_hand(some[label][present].tolist(), method))
            assert (some[f"z_{label}"][~present] == 0).all()


def test_the_config_allows_what_there_is():
    keys = config_schema()["properties"]["scoring"]["properties"]["normalization"]["properties"]
    assert keys["method"]["enum"] == list(METHODS) and keys["scope"]["enum"] == list(SCOPES)
    assert (keys["scope"]["default"], keys["method"]["default"]) == ("global", "zscore")


def test_a_label_counts_for_its_kinds_of_prompts_alone():
    prompts = PROMPTS.assign(kind=["creative", "verifiable", "creative"])
    keys = [(prompt, heuristic, 0) for prompt in "abc" for heuristic in "gh"]
    base = pd.DataFrame(keys, columns=KEY)
    tables = (
        base.assign(rating=[1.0, 2, 3, 5, 8, 13]),
        base.assign(vendi_score=[1.0, 2, 100, 300, 3, 6]),
        base.assign(score=[None, None, 0.0, 1.0, None, None]),
    )
    kinds = {"quality": ["creative", "verifiable"], "diversity": ["creative"], "correctness": ["verifiable"]}
    everywhere = score_candidates(prompts, *tables, "vendi_score")
    scores = score_candidates(prompts, *tables, "vendi_score", kinds=kinds)
    creative = scores["kind"] == "creative"
    np.testing.assert_allclose(scores["z_diversity"][creative], by_hand([1.0, 2, 3, 6], "zscore"))
    assert (scores["z_diversity"][~creative] == 0).all() and (everywhere["z_diversity"][~creative] != 0).all()
    pd.testing.assert_frame_equal(scores.drop(columns="z_diversity"), everywhere.drop(columns="z_diversity"))
