"""Fronts of families after equal tries: against sets counted one by one, and in worlds where what is true is known."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_samplers.compare.fronts import compare_family_fronts, expected_hypervolume
from adaptive_samplers.compare.planned import compare_planned
from adaptive_samplers.compare.results import TEST, VALIDATION, results_of_table
from adaptive_samplers.figures.protocol import marks_of, plot_fronts
from adaptive_samplers.fronts import hypervolume

COLUMNS = ["objective", "family", "configuration", "prompt", "split", "value"]
# Points in quality and diversity. The corners, 0 and 1, are those of these heuristics.
HEURISTICS = {
    "top_p": [(1.0, 0.0), (0.6, 0.6)],
    "min_p": [(0.0, 1.0), (0.5, 0.5)],
    "greedy": [(9.0, 9.0)],
}


def table(points, on_validation=None, prompts=40, noise=0.05, seed=0):
    """Values whose means are these points, those of some families others on validation prompts; prompts differ."""
    generator = np.random.default_rng(seed)
    rows = []
    for split, of_split in ((VALIDATION, points | (on_validation or {})), (TEST, points)):
        levels = generator.normal(0, 2, (prompts, 2))
        for family, found in of_split.items():
            for number, point in enumerate(found):
                values = point + levels + generator.normal(0, noise, (prompts, 2))
                for axis, objective in enumerate(("quality", "embedding_entropy")):
                    rows += [
                        (objective, family, f"{family} {number}", f"{split}{prompt:03}", split, value)
                        for prompt, value in enumerate(values[:, axis])
                    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def plan_of(tries=2, claims=("learned",), level=0.1):
    statistics = {"resamples": 400, "level": level, "power": 0.8}
    plan = {"plan": "p", "plans": 3, "read_before": False, "claims": list(claims), "references": ["greedy"]}
    return plan | {"tries": tries, "statistics": statistics}


def fronts_of(values, **plan):
    fronts, points = compare_family_fronts(results_of_table(values), plan_of(**plan), 0)
    return fronts.set_index("family"), points


@given(
    st.lists(st.tuples(st.integers(-2, 5), st.integers(-2, 5)), min_size=1, max_size=7).flatmap(
        lambda points: st.tuples(st.just(points), st.integers(1, len(points)))
    )
)
def test_the_expected_area_is_that_of_all_sets_one_by_one(drawn):
    points, tries = drawn
    points = np.array(points, float)
    areas = []
    for some in combinations(points, tries):
        cells = np.zeros((5, 5), dtype=bool)
        for x, y in some:
            cells[: max(int(x), 0), : max(int(y), 0)] = True
        areas.append(cells.sum())
    assert expected_hypervolume(points, tries) == pytest.approx(np.mean(areas))
    assert expected_hypervolume(points, len(points)) == pytest.approx(hypervolume(points))


def test_no_more_points_than_there_are():
    for tries in (0, 3):
        with pytest.raises(ValueError, match=f"{tries} tries of 2 points"):
            expected_hypervolume(np.ones((2, 2)), tries)


def test_a_planted_front_is_found_and_its_interval_holds_it():
    learned = [(0.9, 0.6), (0.6, 0.9)]
    fronts, points = fronts_of(table(HEURISTICS | {"learned": learned, "learned too": [(0.6, 0.6), (1.0, 0.0)]}))
    # The reference has no front, however good it is.
    assert list(fronts.index) == ["learned", "learned too", "min_p", "top_p"] and len(points) == 8
    truth = {"learned": 0.9 * 0.6 + 0.6 * 0.3, "learned too": 0.36, "min_p": 0.25, "top_p": 0.36}
    for family, area in truth.items():
        assert fronts.loc[family, "hypervolume"] == pytest.approx(area, abs=0.05)
        assert fronts.loc[family, "low"] < fronts.loc[family, "hypervolume"] < fronts.loc[family, "high"]
    assert set(fronts["against"]) <= {"top_p", "learned too"} and set(fronts["n_prompts"]) == {40}
    fronts, _ = fronts_of(table(HEURISTICS | {"learned": learned}))
    assert set(fronts["against"]) == {"top_p"}
    assert fronts.loc["top_p", ["difference", "difference_low", "difference_high"]].eq(0).all()
    row = fronts.loc["learned"]
    assert 0.3 < row["difference_low"] < truth["learned"] - truth["top_p"] < row["difference_high"] < 0.4
    # Scaled over the same prompts, and paired: prompts differ by forty times as much as the noise.
    assert row["difference"] == pytest.approx(row["hypervolume"] - fronts.loc["top_p", "hypervolume"])


def test_more_points_are_no_advantage():
    """Of six configurations, two of them at one point and four at another, two are drawn."""
    learned = [(0.6, 0.5)] * 2 + [(0.5, 0.6)] * 4
    spread = table(HEURISTICS | {"learned": learned}, noise=1e-4)
    fronts, _ = fronts_of(spread)
    row = fronts.loc["learned"]
    # 15 pairs: 1 of the first alone, 6 of the second alone, 8 with both.
    assert row["hypervolume"] == pytest.approx((7 * 0.3 + 8 * 0.35) / 15, abs=1e-3)
    assert (row["configurations"], row["tries"]) == (6, 2)
    # Which are drawn is part of the interval.
    assert (row["low"], row["high"]) == pytest.approx((0.3, 0.35), abs=2e-3)
    only, _ = fronts_of(table(HEURISTICS | {"learned": learned[1:3]}, noise=1e-4))
    assert only.loc["learned", "hypervolume"] == pytest.approx(0.35, abs=1e-3)
    assert only.loc["learned", "high"] - only.loc["learned", "low"] < 0.002


def test_the_reference_is_chosen_on_validation_prompts_alone():
    heuristics = HEURISTICS | {"min_p": [(0.0, 1.0), (0.9, 0.9)]}
    chosen, _ = fronts_of(table(heuristics | {"learned": [(0.6, 0.6), (0.7, 0.5)]}))
    assert set(chosen["against"]) == {"min_p"}
    # On validation prompts it is nothing special, and the best on test prompts does not matter.
    found, _ = fronts_of(table(heuristics | {"learned": [(0.6, 0.6), (0.7, 0.5)]}, {"min_p": HEURISTICS["min_p"]}))
    assert set(found["against"]) == {"top_p"}
    assert found.loc["min_p", "hypervolume"] > found.loc["top_p", "hypervolume"] + 0.3
    assert found.loc["min_p", "difference_low"] > 0.3


def test_the_order_of_rows_changes_nothing():
    values = table(HEURISTICS | {"learned": [(0.9, 0.6), (0.6, 0.9), (0.2, 0.2)]})
    first, shuffled = fronts_of(values), fronts_of(values.sample(frac=1, random_state=1))
    for one, other in zip(first, shuffled, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_only_prompts_with_both_values_count():
    values = table(HEURISTICS | {"learned": [(0.9, 0.6), (0.6, 0.9)]})
    is_test = values["split"] == TEST
    of_quality = values["objective"] == "quality"
    few = values[~of_quality | ~is_test | (values["prompt"] < "test010")]
    fronts, points = fronts_of(few)
    assert set(fronts["n_prompts"]) == {10}
    kept = few[few["prompt"].isin(few.loc[of_quality & is_test, "prompt"])]
    means = kept.groupby(["objective", "configuration"])["value"].mean()
    for row in points.itertuples():
        assert row.value == pytest.approx(means["quality", row.configuration])
        assert row.other_value == pytest.approx(means["embedding_entropy", row.configuration])
    # With a single one there is nothing to say.
    assert fronts_of(values[~of_quality | ~is_test | (values["prompt"] == "test000")])[0].empty
    # Nor where heuristics are all alike in one of the objectives, whatever learned samplers do.
    alike = values.assign(value=values["value"].where(~of_quality | (values["family"] == "learned"), 0.1))
    fronts, points = fronts_of(alike)
    assert fronts.empty and points.empty and "hypervolume" in fronts and "other_value" in points


def test_resamples_without_a_scale_do_not_count():
    """Heuristics differ in a single prompt, which a third of the resamples do not have."""
    values = table(HEURISTICS | {"learned": [(1.0, 1.0), (1.0, 0.9)]}, noise=0, prompts=8)
    level = np.where(values["prompt"].str.endswith("000"), values["value"].round(6), 0.0)
    fronts, _ = fronts_of(values.assign(value=level))
    assert np.isfinite(fronts.select_dtypes("number").to_numpy()).all()
    assert (fronts.loc["top_p", "low"], fronts.loc["top_p", "high"]) == (pytest.approx(0.36), pytest.approx(0.36))


def test_what_is_identical_in_one_objective_alone_is_another_point():
    values = table(HEURISTICS | {"learned": [(0.9, 0.3), (0.9, 0.3), (0.9, 0.3)]}, noise=0)
    # All have the same quality; the last has more diversity, and the first two are one.
    more = (values["configuration"] == "learned 2") & (values["objective"] == "embedding_entropy")
    fronts, points = fronts_of(values.assign(value=values["value"] + 0.3 * more))
    assert points.loc[points["family"] == "learned", "configuration"].tolist() == ["learned 0", "learned 2"]
    assert fronts.loc["learned", "hypervolume"] == pytest.approx(0.54) and fronts.loc["learned", "configurations"] == 2
    # If nothing else is left, all families have as few tries.
    fronts, _ = fronts_of(values)
    assert set(fronts["tries"]) == {1} and fronts.loc["learned", "hypervolume"] == pytest.approx(0.27)
    assert fronts.loc["top_p", "hypervolume"] == pytest.approx((0.0 + 0.36) / 2)


def test_less_is_better_where_it_is():
    values = table(HEURISTICS | {"learned": [(0.9, 0.6), (0.6, 0.9)]})
    of_quality = values["objective"] == "quality"
    turned = values.assign(
        objective=np.where(of_quality, "quality", "self_bleu"),
        value=np.where(of_quality, values["value"], -values["value"]),
    )
    found, _ = compare_family_fronts(results_of_table(turned, "table", ["self_bleu"]), plan_of(), 0)
    fronts, _ = fronts_of(values)
    assert set(found["other"]) == {"self_bleu"}
    np.testing.assert_allclose(found["hypervolume"], fronts["hypervolume"])


def test_the_plan_decides_and_every_table_says_how_many_there_were():
    values = table(HEURISTICS | {"learned": [(0.9, 0.6), (0.6, 0.9)]})
    tables, _ = compare_planned(results_of_table(values), plan_of(tries=1), 0)
    assert set(tables["fronts"]["tries"]) == {1} and set(tables["fronts"]["plans"]) == {3}
    assert set(tables["points"]["plans"]) == {3}
    fronts = tables["fronts"].set_index("family")
    assert fronts.loc["learned", "hypervolume"] == pytest.approx(0.54, abs=0.03)
    # A wider interval for a smaller level.
    wide, _ = fronts_of(values, tries=1, level=0.02)
    one, other = wide.loc["learned"], fronts.loc["learned"]
    assert one["low"] < other["low"] < other["high"] < one["high"]


def test_the_figure_has_every_point_and_each_front():
    values = table(HEURISTICS | {"SamplingNetwork outcome": [(0.9, 0.6), (0.6, 0.9), (0.2, 0.2)]})
    plan = plan_of(claims=["SamplingNetwork outcome"]) | {"families": dict.fromkeys(sorted(set(values["family"])))}
    _, points = compare_family_fronts(results_of_table(values), plan, 0)
    figure = plot_fronts(points, marks_of(plan), plan["claims"])
    (axes,) = figure.axes
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in marks) == len(points) == 7
    # The third point of the learned family is behind the others.
    steps = [line for line in axes.lines if line.get_drawstyle() == "steps-pre"]
    assert sorted(len(line.get_xdata()) for line in steps) == [2, 2, 2]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["min_p", "top_p", "SamplingNetwork outcome"]
    assert not plot_fronts(points.iloc[:0], marks_of(plan), plan["claims"]).legends
