"""Ratings of several judges: their agreement against plain loops, and their mean; tables may be larger than memory."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_samplers import tables
from adaptive_samplers.labels import combination
from adaptive_samplers.labels.combination import GROUPS, Agreement, combine_quality, combined_report, standardized
from adaptive_samplers.tables import KEY, read_table, write_table

NAN = float("nan")


def quality(ratings, seed=0, prompt="p", error=0.5):
    """A `quality` table of one group."""
    rows = [
        {
            "prompt_id": prompt,
            "heuristic_id": f"h{place}",
            "seed": seed,
            "rating": rating,
            "rating_stderr": NAN if math.isnan(rating) else error,
            "comparisons": 0 if math.isnan(rating) else 3,
            "reward": rating,
        }
        for place, rating in enumerate(ratings)
    ]
    return pd.DataFrame(rows)


def write(folder, **judged):
    """Tables of several judges; each a list of groups' ratings, of which the seed is the place."""
    paths = {}
    for name, groups in judged.items():
        paths[name] = folder / f"{name}.parquet"
        write_table("quality", pd.concat([quality(ratings, seed) for seed, ratings in enumerate(groups)]), paths[name])
    return paths


def tau_b(one, other):
    """Kendall's tau-b by all pairs; nan where one of them has ties alone."""
    pairs = list(itertools.combinations(range(len(one)), 2))
    a = np.array([np.sign(one[i] - one[j]) for i, j in pairs])
    b = np.array([np.sign(other[i] - other[j]) for i, j in pairs])
    untied = (a != 0).sum() * (b != 0).sum()
    return (a * b).sum() / math.sqrt(untied) if untied else NAN


numbers = st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(NAN)), min_size=1, max_size=7)


@given(st.lists(numbers.flatmap(lambda one: st.tuples(st.just(one), st.permutations(one))), min_size=1, max_size=5))
def test_agreement_is_that_of_a_plain_loop(groups):
    found, taus, best, counted = Agreement(), [], 0, 0
    for one, other in groups:
        found.add(np.array(one), np.array(other))
        both = [(a, b) for a, b in zip(one, other, strict=True) if not (math.isnan(a) or math.isnan(b))]
        if len(both) < 2:
            continue
        counted += 1
        a, b = zip(*both, strict=True)
        best += any(x == max(a) and y == max(b) for x, y in both)
        taus.append(tau_b(a, b))
    taus = [tau for tau in taus if not math.isnan(tau)]
    measured = found.measured()
    assert measured["groups"] == counted
    assert measured["top_1"] == (best / counted if counted else None)
    assert measured["kendall_tau"] == (pytest.approx(np.mean(taus)) if taus else None)


def test_ratings_that_differ_in_their_last_bits_are_ties():
    found = Agreement()
    found.add(np.array([1.0, 1.0 + 1e-13, 0.0]), np.array([1.0, 2.0, 0.0]))
    assert found.measured() == {"kendall_tau": pytest.approx(tau_b([1, 1, 0], [1, 2, 0])), "top_1": 1.0, "groups": 1}


def test_the_first_judges_table_is_kept_as_it_is(tmp_path):
    paths = write(tmp_path, one=[[1.0, -1.0, 0.0], [0.5, -0.5, NAN]], two=[[0.2, 0.3, -0.5], [3.0, -3.0, NAN]])
    found = combine_quality(paths, "first", "seed", tmp_path / "quality.parquet")
    pd.testing.assert_frame_equal(
        read_table("quality", tmp_path / "quality.parquet"), read_table("quality", paths["one"])
    )
    (agreement,) = found["agreement"]
    assert agreement["judges"] == ["one", "two"] and agreement["groups"] == 2 and agreement["top_1"] == 0.5
    assert agreement["kendall_tau"] == pytest.approx((tau_b([1, -1, 0], [0.2, 0.3, -0.5]) + 1) / 2)
    assert found["answers_rated"] == {"all": 5, "some": 0, "none": 1}


def test_the_mean_is_that_of_standardized_ratings(tmp_path):
    one, two = [2.0, -2.0, 0.0, NAN, NAN], [0.1, 0.3, NAN, -0.4, NAN]
    paths = write(tmp_path, one=[one], two=[two])
    found = combine_quality(paths, "mean", "seed", tmp_path / "quality.parquet")
    table = read_table("quality", tmp_path / "quality.parquet")
    spread = math.sqrt((4 + 4 + 0) / 3), math.sqrt((0.01 + 0.09 + 0.16) / 3)
    z, w = [value / spread[0] for value in one], [value / spread[1] for value in two]
    np.testing.assert_allclose(table["rating"], [(z[0] + w[0]) / 2, (z[1] + w[1]) / 2, z[2], w[3], NAN])
    errors = 0.5 / spread[0], 0.5 / spread[1]
    both = math.hypot(*errors) / 2
    np.testing.assert_allclose(table["rating_stderr"], [both, both, *errors, NAN])
    assert table["comparisons"].tolist() == [6, 6, 3, 3, 0] and table["reward"].isna().all()
    assert found["answers_rated"] == {"all": 2, "some": 2, "none": 1}


def test_a_judge_that_is_surer_of_itself_has_no_more_to_say(tmp_path):
    ratings = [[0.4, 0.1, -0.5], [1.0, -1.0, 0.0]]
    paths = write(tmp_path, one=ratings, loud=[[10 * value for value in group[::-1]] for group in ratings])
    combine_quality(paths, "mean", "seed", tmp_path / "quality.parquet")
    table = read_table("quality", tmp_path / "quality.parquet")
    expected = [(a + b) / 2 / np.std(group) for group in ratings for a, b in zip(group, group[::-1], strict=True)]
    np.testing.assert_allclose(table["rating"], expected, atol=1e-12)


def test_equal_ratings_are_zero_and_have_no_error():
    ratings, errors = standardized(
        pd.concat([quality([0.3, 0.3 + 1e-14, NAN]), quality([1.0, -1.0], seed=1)]), GROUPS["seed"]
    )
    np.testing.assert_allclose(ratings, [0, 0, NAN, 1, -1], atol=1e-12)
    np.testing.assert_allclose(errors, [NAN, NAN, NAN, 0.5, 0.5])


def test_answers_that_met_across_seeds_are_standardized_together(tmp_path):
    one, two = [[3.0, 1.0], [-1.0, -3.0]], [[2.0, 4.0], [-5.0, -1.0]]
    paths = write(tmp_path, one=one, two=two)
    found = combine_quality(paths, "mean", "prompt", tmp_path / "quality.parquet")
    expected = (np.ravel(one) / np.std(one) + np.ravel(two) / np.std(two)) / 2
    np.testing.assert_allclose(read_table("quality", tmp_path / "quality.parquet")["rating"], expected)
    (agreement,) = found["agreement"]
    assert agreement["groups"] == 1 and agreement["top_1"] == 0.0
    assert agreement["kendall_tau"] == pytest.approx(tau_b(np.ravel(one), np.ravel(two)))


@pytest.mark.parametrize("method", ["first", "mean"])
def test_parts_of_large_tables_are_as_the_whole(method, tmp_path, monkeypatch):
    generator = np.random.default_rng(3)
    keys = pd.DataFrame(
        [(prompt, f"h{i}", seed) for seed in (0, 1) for prompt in "abcdefg" for i in range(4)], columns=KEY
    )
    paths = {}
    for name in ("one", "two", "three"):
        table = keys.assign(rating=generator.normal(size=len(keys)), rating_stderr=0.4, reward=NAN)
        table.loc[generator.random(len(keys)) < 0.2, ["rating", "rating_stderr"]] = NAN
        table["comparisons"] = np.int32(2)
        paths[name] = tmp_path / f"{name}.parquet"
        # Each judge's rows in an order of its own.
        write_table("quality", table if name == "one" else table.sample(frac=1, random_state=1), paths[name])
    whole = combine_quality(paths, method, "seed", tmp_path / "whole.parquet")
    monkeypatch.setattr(combination, "parts_of_prompts", lambda *given: tables.parts_of_prompts(*given, rows=9))
    parts = combine_quality(paths, method, "seed", tmp_path / "parts.parquet")
    assert [found["judges"] for found in whole["agreement"]] == [["one", "two"], ["one", "three"], ["two", "three"]]
    assert parts["answers_rated"] == whole["answers_rated"] and whole["answers_rated"]["some"] > 5
    for some, all_at_once in zip(parts["agreement"], whole["agreement"], strict=True):
        assert some == {**all_at_once, "kendall_tau": pytest.approx(all_at_once["kendall_tau"])}
    expected = read_table("quality", tmp_path / "whole.parquet").sort_values(KEY, ignore_index=True)
    found = read_table("quality", tmp_path / "parts.parquet").sort_values(KEY, ignore_index=True)
    pd.testing.assert_frame_equal(found, expected)


def test_the_report_keeps_the_first_judges_and_has_all():
    reports = {
        "one": {"calls": 4, "failed": 1, "judge": {"kind": "pairwise", "position_bias": 0.1}},
        "two": {"calls": 6, "failed": 0, "judge": {"kind": "scalar", "answers_rated": 5}},
    }
    found = {"agreement": [{"judges": ["one", "two"], "kendall_tau": 0.5, "top_1": 1.0, "groups": 2}]}
    report = combined_report(reports, "mean", found)
    assert report | reports["one"] == report and report["combine"] == "mean"
    assert report["agreement"] == found["agreement"]
    assert report["judges"] == {
        "one": {"calls": 4, "failed": 1, "kind": "pairwise", "position_bias": 0.1},
        "two": {"calls": 6, "failed": 0, "kind": "scalar", "answers_rated": 5},
    }
