"""Answers that no other one beats in both quality and diversity: fronts, and which to take first from a front."""

from bisect import bisect_left

import numpy as np


def fronts(points: np.ndarray) -> np.ndarray:
    """The number of each point's Pareto front, 1 for non-dominated points.

    One point dominates another if it is at least as large in both coordinates and larger in one. Front n holds what
    is not dominated once the fronts before it are taken away (non-dominated sorting; Deb et al., A Fast and Elitist
    Multiobjective Genetic Algorithm: NSGA-II, 2002). Equal points share a front. In two dimensions sorting suffices:
    O(N log N).

    Parameters
    ----------
    points : float [N, 2], without nulls.

    Returns
    -------
    int [N]
    """
    numbers = np.empty(len(points), dtype=np.int64)
    order = np.lexsort((-points[:, 1], -points[:, 0]))
    # The last point of each front, negated, second coordinate first: it dominates a later point exactly if it is
    # smaller. Later fronts have larger ones, so bisection finds the first front that can take a point.
    lasts: list[tuple[float, float]] = []
    for row, (first, second) in zip(order.tolist(), (-points[order]).tolist(), strict=True):
        last = (second, first)
        front = bisect_left(lasts, last)
        if front == len(lasts):
            lasts.append(last)
        else:
            lasts[front] = last
        numbers[row] = front + 1
    return numbers


def spread_order(points: np.ndarray, reference: np.ndarray, count: int) -> list[int]:
    """The points of one front in the order in which each adds most to the dominated area.

    The area is that between the points and `reference` (hypervolume; Zitzler and Thiele, 1998), picked greedily
    (Guerreiro et al., Greedy Hypervolume Subset Selection in Low Dimensions, 2016). The first is a compromise, also in
    the hollows of the front where no weighted sum has its maximum; the next ones lie where the front is not covered
    yet. Stretching a coordinate changes nothing.

    Parameters
    ----------
    points : float [N, 2], none of which dominates another. If several add the same area, the first is taken.
    reference : float [2], not above any point: where the area begins.
    count : how many to pick, at most.

    Returns
    -------
    list of the picked rows.
    """
    below = np.broadcast_to(reference, points.shape).copy()
    left = np.ones(len(points), dtype=bool)
    picked: list[int] = []
    for _ in range(min(count, len(points))):
        added = np.where(left, np.prod(points - below, axis=1), -1.0)
        row = int(added.argmax())
        picked.append(row)
        left[row] = False
        # Of two points on a front, one is larger in the first coordinate and smaller in the second.
        for axis, other in ((0, 1), (1, 0)):
            covers = points[row, other] >= points[:, other]
            below[covers, axis] = np.maximum(below[covers, axis], points[row, axis])
    return picked
