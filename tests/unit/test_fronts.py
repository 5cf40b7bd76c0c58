"""Fronts: hypervolume against counted cells, and comparisons in which what is true is known."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from adaptive_samplers.fronts import HEURISTICS_TOGETHER, compare_fronts, hypervolume

SETTINGS = {"objectives": ["quality", "correctness", "embedding_entropy", "self_bleu"], "resamples": 300}
SETTINGS |= {"confidence": 0.9, "seed": 1}
NAME = "ConditionedSamplingNetwork a0_b1_c0 outcome"


@given(st.lists(st.tuples(st.integers(-3, 8), st.integers(-3, 8)), min_size=1, max_size=8))
def test_hypervolume_counts_dominated_cells(points):
    cells = np.zeros((8, 8), dtype=bool)
    for x, y in points:
        cells[: max(x, 0), : max(y, 0)] = True
    assert hypervolume(np.array(points, dtype=float)) == cells.sum()


def test_hypervolume_of_many_sets_at_once():
    points = np.random.default_rng(0).normal(1, 1, size=(5, 3, 6, 2))
    points[0, 0, 0] = np.nan
    expected = [[hypervolume(inner) for inner in outer] for outer in points]
    np.testing.assert_array_equal(hypervolume(points), expected)


def tables(learned, prompts=80):
    """Labels of two heuristics, each the best in one objective, and of a sampler at two preferences whose points are
    given; prompts differ more than samplers."""
    generator = np.random.default_rng(3)
    points = {"h0": (1.0, 0.0), "h1": (0.0, 1.0), "s0": learned[0], "s1": learned[1]}
    rows = []
    for prompt in range(prompts):
        level = generator.normal(0, 2)
        for name, (worth, spread) in points.items():
            noise = generator.normal(0, 0.2, 2)
            rows.append((f"p{prompt}", name, 0, level + worth + noise[0], spread + noise[1], 1 - spread - noise[1]))
    table = pd.DataFrame(
        rows, columns=["prompt_id", "heuristic_id", "seed", "rating", "embedding_entropy", "self_bleu"]
    )
    key = ["prompt_id", "heuristic_id", "seed"]
    heuristics = pd.DataFrame(
        [
            ("h0", "temperature_0.3", "temperature"),
            ("h1", "temperature_1", "temperature"),
            ("s0", f"{NAME} preference 0", "learned"),
            ("s1", f"{NAME} preference 0.5", "learned"),
        ],
        columns=["heuristic_id", "name", "family"],
    )
    # As of prompts that have no verifier: one value each, which says nothing of samplers.
    correctness = table[key].assign(score=1.0)
    return table[[*key, "rating"]], table[[*key, "embedding_entropy", "self_bleu"]], correctness, heuristics


def test_a_front_between_two_heuristics_is_found():
    found = compare_fronts(*tables([(1.0, 0.2), (0.6, 0.7)]), **SETTINGS)
    # Correctness does not differ, so it has no fronts.
    assert (
        found["objective"].eq("quality").all()
        and found["other"].tolist() == ["embedding_entropy"] * 2 + ["self_bleu"] * 2
    )
    assert found["front"].tolist() == [HEURISTICS_TOGETHER, NAME] * 2 and found["samplers"].eq(2).all()
    heuristics, learned = found.iloc[0], found.iloc[1]
    assert abs(heuristics["hypervolume"]) < 1e-9 and heuristics["difference"] == 0
    assert abs(learned["hypervolume"] - (0.6 * 0.7 + 0.4 * 0.2)) < 0.1
    assert 0.4 < learned["difference_low"] < learned["difference_high"] < 0.6
    assert learned["low"] < learned["hypervolume"] < learned["high"]
    # What is less diverse by one measure is so by the other, of which less is better.
    np.testing.assert_allclose(found["hypervolume"][2:], found["hypervolume"][:2], atol=1e-9)


def test_a_sampler_that_is_a_heuristic_has_no_better_front():
    found = compare_fronts(*tables([(1.0, 0.0), (0.0, 1.0)]), **SETTINGS)
    assert found.loc[found["front"] == NAME, "difference_low"].le(0.01).all()


def test_a_run_without_such_samplers_has_the_heuristics_front_alone():
    *labels, heuristics = tables([(1.0, 0.0), (0.0, 1.0)])
    labels = [table[table["heuristic_id"].isin(["h0", "h1"])] for table in labels]
    found = compare_fronts(*labels, heuristics.iloc[:2], **SETTINGS)
    assert set(found["front"]) == {HEURISTICS_TOGETHER}
    assert compare_fronts(*(table.iloc[:0] for table in labels), heuristics.iloc[:2], **SETTINGS).empty
