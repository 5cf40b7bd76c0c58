"""Pareto selection against its definition, worked out the long way."""

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptive_samplers.hashing import content_id
from adaptive_samplers.selection import select_training_set
from adaptive_samplers.selection.pareto import fronts, spread_order
from adaptive_samplers.tables import KEY, to_arrow

coordinates = st.integers(0, 6)
clouds = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=14)


def dominates(one, other):
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def fronts_by_definition(points):
    """Peel off what nothing left dominates, again and again."""
    numbers, left = {}, set(range(len(points)))
    for number in itertools.count(1):
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        numbers |= dict.fromkeys(front, number)
        left -= front
        if not left:
            return [numbers[i] for i in range(len(points))]


def area(points, reference):
    """Unit cells between the reference and any of the points, which have whole coordinates."""
    cells = itertools.product(range(reference[0], 7), range(reference[1], 7))
    return sum(any(x < point[0] and y < point[1] for point in points) for x, y in cells)


@given(clouds)
def test_fronts(points):
    assert fronts(np.array(points, dtype=float)).tolist() == fronts_by_definition(points)


@given(clouds, st.integers(1, 6))
def test_each_pick_adds_the_most_area(points, count):
    front = [point for point, number in zip(points, fronts_by_definition(points), strict=True) if number == 1]
    reference = (min(x for x, _ in points), min(y for _, y in points))
    picked = spread_order(np.array(front, dtype=float), np.array(reference, dtype=float), count)
    assert len(picked) == len(set(picked)) == min(count, len(front))
    for position, row in enumerate(picked):
        before = [front[i] for i in picked[:position]]
        added = {
            i: area([*before, front[i]], reference) - area(before, reference)
            for i in range(len(front))
            if i not in picked[:position]
        }
        assert row == min(added, key=lambda i: (-added[i], i))


def test_a_compromise_in_a_hollow_comes_first():
    # No weighted sum of both has its maximum at the third point.
    points = np.array([[10.0, 0.0], [0.0, 10.0], [4.5, 4.5]])
    assert all((points @ [w, 1 - w]).argmax() != 2 for w in np.linspace(0, 1, 101))
    assert spread_order(points, np.zeros(2), 1) == [2]


HEURISTICS = pd.DataFrame({"heuristic_id": list("defghi"), "processors": "[]"})
GROUPS = [("p", 0), ("p", 1), ("q", 0)]
GRID = [(prompt, heuristic, seed) for prompt, seed in GROUPS for heuristic in HEURISTICS["heuristic_id"]]
labels = st.lists(st.tuples(coordinates, coordinates), min_size=len(GRID), max_size=len(GRID))


@settings(deadline=None, max_examples=50)
@given(labels, st.sets(st.integers(0, len(GRID) - 1), max_size=8), st.integers(1, 7), st.permutations(range(len(GRID))))
@example([(1, 1)] * len(GRID), set(), 2, list(range(len(GRID))))
def test_selection_by_fronts(points, failed, top_k, order):
    base = pd.DataFrame(GRID, columns=KEY)
    scores = base.assign(
        split="train", quality=1.0, z_correctness=0.0, correct=pd.array([pd.NA] * len(GRID), "boolean")
    )
    scores[["z_quality", "z_diversity"]] = np.array(points, dtype=float)
    answers = base.assign(
        prompt_token_ids=[[1]] * len(GRID),
        token_ids=[[row] for row in range(len(GRID))],
        finish_reason=["error" if row in failed else "stop" for row in range(len(GRID))],
    )
    table = pa.Table.from_pandas(answers.iloc[order])
    expected = []
    for prompt, seed in GROUPS:
        rows = [row for row, key in enumerate(GRID) if (key[0], key[2]) == (prompt, seed) and row not in failed]
        if not rows:
            continue
        rows.sort(key=lambda row: content_id(list(GRID[row])))
        reference = tuple(min(points[row][axis] for row in rows) for axis in (0, 1))
        numbers = fronts_by_definition([points[row] for row in rows])
        picked = []
        for number in range(1, max(numbers) + 1):
            left = [row for row, of in zip(rows, numbers, strict=True) if of == number]
            before = []
            while left:
                areas = [area([*before, points[row]], reference) for row in left]
                best = left.pop(areas.index(max(areas)))
                before.append(points[best])
                picked.append(best)
        expected += [(*GRID[row], rank) for rank, row in enumerate(picked[:top_k], start=1)]
    selected = select_training_set(
        scores.iloc[order], lambda names: table.select(names).to_batches(5), HEURISTICS, None, "pareto", top_k, False
    )
    assert list(selected[[*KEY, "rank"]].itertuples(index=False, name=None)) == expected
    assert (selected["weights"] == "pareto").all() and len(to_arrow("training_sets", selected)) == len(expected)
    for row in selected.itertuples():
        place = GRID.index((row.prompt_id, row.heuristic_id, row.seed))
        assert row.score == sum(points[place]) and row.token_ids.tolist() == [place]


@pytest.mark.parametrize("top_k", [1, 3])
def test_more_answers_hold_the_fewer(top_k):
    generator = np.random.default_rng(1)
    points = generator.normal(size=(50, 2))
    front = points[fronts(points) == 1]
    assert spread_order(front, points.min(axis=0), top_k) == spread_order(front, points.min(axis=0), 50)[:top_k]
