"""How tokens are sorted and grouped into a sketch, compiled for the CPU by numba.

It agrees with `sketch_passes_portable` up to the rounding of float64: a token that lies on the boundary of two groups
may be in either.
"""

import math

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.compiled import EXACT, OPTIONS, for_each_row
from adaptive_samplers.compiled_math import LOWEST_EXPONENT, exp
from adaptive_samplers.logits import MASKED_BELOW, check_rows
from adaptive_samplers.numba_cache import njit
from adaptive_samplers.sort_passes import LARGEST_ID, sorted_keys

# Weights within a group are quotients of probabilities relative to the first token of the tail. Below this they would
# lose digits, and are computed anew. It is also a number of nats that no two different float32 numbers are closer than.
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
    # In halves of groups per probability, and per nat.
    of_mass = tail / 2 / total
    of_range = tail / 2 / max(first - np.float64(t[t.size - 1]), SMALL)
    group, begin, before, weight = 0, 0, 0.0, 0.0
    for i in range(t.size):
        number = min(int(before * of_mass + (first - np.float64(t[i])) * of_range), tail - 1)
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


@njit(**OPTIONS)
def _log_normalizer(row, largest):
    total = 0.0
    for i in range(row.size):
        total += exp(max(np.float64(row[i]) - largest, LOWEST_EXPONENT))
    return largest + math.log(total)


@njit(**EXACT)
def _sketch_logits(row, bits, top, tail, points, counts):
    """Sketch a row of logits; whether it is a distribution."""
    keys = sorted_keys(bits)
    largest, last = row[keys[0] & LARGEST_ID], row[keys[-1] & LARGEST_ID]
    # NaN comes first or last, by its sign.
    if not (largest > MASKED_BELOW and largest < np.inf) or last != last:
        return False
    log_normalizer, s = np.float32(_log_normalizer(row, np.float64(largest))), np.empty(row.size, np.float32)
    present = 0
    while present < row.size:
        logit = row[keys[present] & LARGEST_ID]
        if logit <= MASKED_BELOW:
            break
        s[present] = logit - log_normalizer
        present += 1
    _sketch(s, present, top, tail, points, counts, np.empty(max(present - top, 0)))
    return True


def sketch_logits(logits: Tensor, top: int, tail: int) -> tuple[Tensor, Tensor]:
    """See `sketch_passes_portable.sketch_logits`."""
    values = logits.float().contiguous().numpy()
    bits = values.view(np.int32)
    points, counts = (np.zeros((len(values), top + tail), dtype=np.float32) for _ in range(2))
    good = for_each_row(
        lambda row: _sketch_logits(values[row], bits[row], top, tail, points[row], counts[row]), len(values)
    )
    if not all(good):
        check_rows(torch.from_numpy(values).amax(-1, keepdim=True))
    return torch.from_numpy(points), torch.from_numpy(counts)
