"""How sorted tokens are grouped into a sketch, compiled for the CPU by numba.

It agrees with `sketch_passes_portable` up to the rounding of float64: a token that lies on the boundary of two groups
may be in either.
"""

import math

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.compiled import EXACT, OPTIONS, for_each_row
from adaptive_samplers.compiled_math import LOWEST_EXPONENT, exp
from adaptive_samplers.numba_cache import njit

# Weights within a group are quotients of probabilities relative to the first token of the tail. Below this they would
# lose digits, and are computed anew.
SMALL = 1e-290


@njit(**OPTIONS)
def _probabilities(t, first, probabilities):
    """Probabilities relative to that of the first token, and their sum."""
    total = 0.0
    for i in range(t.size):
        depth = np.float64(t[i]) - first
        probability = exp(max(depth, LOWEST_EXPONENT))
        probability = probability if depth > LOWEST_EXPONENT else 0.0
        probabilities[i] = probability
        total += probability
    return total


@njit(**EXACT)
def _group(t, probabilities, total, tail, points, counts):
    """Fill support points and counts of the groups of a tail, which has a token and no masked ones."""
    first = np.float64(t[0])
    span = max(first - np.float64(t[t.size - 1]), np.finfo(np.float64).tiny)
    group, begin, before, weight = 0, 0, 0.0, 0.0
    for i in range(t.size):
        share = (before / total + (first - np.float64(t[i])) / span) / 2 * tail
        number = min(int(share), tail - 1)
        if number != group:
            _finish(t, begin, i, weight, probabilities, group, points, counts)
            group, begin, weight = number, i, 0.0
        weight += probabilities[i]
        before += probabilities[i]
    _finish(t, begin, t.size, weight, probabilities, group, points, counts)


@njit(**EXACT)
def _finish(t, begin, end, weight, probabilities, group, points, counts):
    """Write a group: the logarithm of its mean probability, and its number of tokens."""
    largest = np.float64(t[begin])
    if probabilities[begin] > SMALL:
        relative = weight / probabilities[begin]
    else:
        relative = 0.0
        for i in range(begin, end):
            relative += math.exp(np.float64(t[i]) - largest)
    points[group] = largest + math.log(relative / (end - begin))
    counts[group] = end - begin


@njit(**EXACT)
def _sketch(s, present, top, tail, points, counts, probabilities):
    """Sketch one row, of which the first `present` tokens are not masked; points and counts are zeros."""
    exact = min(present, top)
    for i in range(exact):
        points[i] = s[i]
        counts[i] = 1
    if present > top:
        t = s[top:present]
        total = _probabilities(t, np.float64(t[0]), probabilities)
        _group(t, probabilities, total, tail, points[top:], counts[top:])
    # An empty group repeats the point before it; the first is never empty.
    for i in range(1, points.size):
        if counts[i] == 0:
            points[i] = points[i - 1]


def sketch_sorted(s: Tensor, top: int, tail: int) -> tuple[Tensor, Tensor]:
    """See `sketch_passes_portable.sketch_sorted`."""
    values, present = s.contiguous().numpy(), s.isfinite().sum(-1).tolist()
    points, counts = (np.zeros((len(values), top + tail), dtype=np.float32) for _ in range(2))

    def fill(row: int) -> None:
        room = np.empty(max(present[row] - top, 0))
        _sketch(values[row], present[row], top, tail, points[row], counts[row], room)

    for_each_row(fill, len(values))
    return torch.from_numpy(points), torch.from_numpy(counts)
