"""The passes over the vocabulary compiled for the CPU by numba: each token is read once a pass and nothing is stored.

They agree with `portable` up to rounding. A row is cut into blocks that stay in the first-level cache; within a block,
one loop does the arithmetic on vectors and another the table look-ups, because a loop with both is not vectorized.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numba import njit
from torch import Tensor

from adaptive_samplers.samplers.passes.grid import Condensed, Grid
from adaptive_samplers.sketch import MASKED_BELOW, check_rows

BLOCK = 2048
# Positions are counted in these parts of an interval, so that a token's count and its fraction add up in one integer.
FRACTION_BITS = 19
FRACTION = 1 << FRACTION_BITS
COUNT_BITS = 40
# One table would make every token wait for the one before it, as neighbors often fall into the same interval.
TABLES = 4

FLOOR = np.float32(MASKED_BELOW)
# A negative number's bits, mapped as `_in_order` does.
FLOOR_IN_ORDER = np.int32(FLOOR.view(np.int32) ^ np.int32(0x7FFFFFFF))
MINUS_INFINITY = np.float32(-np.inf)
ZERO, HALF, ONE, TWO = (np.float32(value) for value in (0, 0.5, 1, 2))

# What is compiled is kept on disk beside its source and made again when that file changes, but not when only a function
# of another file does that was compiled into it: after a change here, touch compiled_network.py too.
# Reordered sums are what lets a loop be vectorized; nothing here relies on infinities or NaN being ruled out.
OPTIONS = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}


@njit(inline="always", **OPTIONS)
def exp(x):
    """exp(x) for x <= 0, float32, to 2e-6 of its value: Cephes' polynomial, which vectorizes as no call does."""
    x = max(x, np.float32(-87.3))
    power = np.floor(x * np.float32(1.4426950408889634) + HALF)
    rest = x - power * np.float32(0.693359375) - power * np.float32(-2.12194440e-4)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    value = series * rest * rest + rest + ONE
    return value * np.int32((np.int32(power) + 127) << 23).view(np.float32)


@njit(inline="always", **OPTIONS)
def log1p(z):
    """log(1 + z) for 0 <= z <= 1, float32, to 2e-7: the series of the inverse hyperbolic tangent."""
    ratio = z / (TWO + z)
    square = ratio * ratio
    series = np.float32(2 / 11)
    series = series * square + np.float32(2 / 9)
    series = series * square + np.float32(2 / 7)
    series = series * square + np.float32(2 / 5)
    series = series * square + np.float32(2 / 3)
    return (series * square + TWO) * ratio


@njit(inline="always", **OPTIONS)
def _in_order(bits):
    """The bits of a float32 as an integer of the same order, and back."""
    return np.int32(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))


@njit(inline="always", **OPTIONS)
def _position(depth, split, near, far, last):
    """See `grid.Grid`."""
    return min(min(depth, split) * near + max(depth - split, ZERO) * far, last)


@njit(inline="always", **OPTIONS)
def _truncate(value, scale, threshold):
    """See `truncation.truncate`."""
    argument = value * scale + threshold
    return value + (min(argument, ZERO) - log1p(exp(-abs(argument))))


@njit(**OPTIONS)
def _extremes(row):
    """The largest logit and the smallest that is not masked, by integers, whose comparisons are vectorized."""
    bits = row.view(np.int32)
    lowest, highest = np.int32(-(2**31)), np.int32(2**31 - 1)
    largest, smallest = lowest, highest
    for i in range(bits.size):
        value = _in_order(bits[i])
        largest = np.int32(max(largest, value))
        smallest = np.int32(min(smallest, value if value > FLOOR_IN_ORDER else highest))
    return np.int32(_in_order(largest)).view(np.float32), np.int32(_in_order(smallest)).view(np.float32)


@njit(**OPTIONS)
def _sum_block(block, intervals, largest, split, near, far, places):
    """Sum of exp(logit - largest); every token's position in parts of an interval, or that of the masked ones."""
    total = ZERO
    last = np.float32(intervals * FRACTION)
    near, far = near * np.float32(FRACTION), far * np.float32(FRACTION)
    for i in range(block.size):
        value = max(block[i], FLOOR)
        depth = largest - value
        total += exp(-depth)
        places[i] = (
            np.int32(_position(depth, split, near, far, last))
            if value > FLOOR
            else np.int32((intervals + 1) * FRACTION)
        )
    return total


@njit(**OPTIONS)
def _count_block(places, tables):
    for i in range(0, places.size - TABLES + 1, TABLES):
        for table in range(TABLES):
            place = np.uint32(places[i + table])
            tables[table, place >> FRACTION_BITS] += (1 << COUNT_BITS) + np.int64(place & (FRACTION - 1))
    for i in range(places.size - places.size % TABLES, places.size):
        place = np.uint32(places[i])
        tables[0, place >> FRACTION_BITS] += (1 << COUNT_BITS) + np.int64(place & (FRACTION - 1))


@njit(**OPTIONS)
def _condense_row(row, intervals, largest, split, near, far, tokens, moved):
    """Fill the row's `tokens` and `moved`; its log-sum-exp."""
    places = np.empty(BLOCK, np.int32)
    tables = np.zeros((TABLES, intervals + 2), np.int64)
    total = 0.0
    for start in range(0, row.size, BLOCK):
        block = row[start : start + BLOCK]
        total += _sum_block(block, intervals, largest, split, near, far, places)
        _count_block(places[: block.size], tables)
    for interval in range(intervals + 1):
        summed = tables[0, interval] + tables[1, interval] + tables[2, interval] + tables[3, interval]
        tokens[interval] = summed >> COUNT_BITS
        moved[interval] = (summed & ((1 << COUNT_BITS) - 1)) / FRACTION
    return largest + np.log(total)


@njit(**OPTIONS)
def _place_block(block, last, place, numbers, values):
    largest, split, near, far = place[0], place[1], place[2], place[3]
    for i in range(block.size):
        # Finite also where a token is masked: infinity times 0 would be no number, and no place in a table.
        depth = largest - max(block[i], FLOOR)
        position = _position(depth, split, near, far, last)
        interval = np.int32(position)
        numbers[i] = interval
        values[i] = position - np.float32(interval)


@njit(**OPTIONS)
def _interpolate_block(size, numbers, values, knots, steps):
    for i in range(size):
        interval = np.uint32(numbers[i])
        values[i] = knots[interval] + values[i] * steps[interval]


@njit(**OPTIONS)
def _truncate_block(block, values, scale, threshold, output):
    for i in range(block.size):
        output[i] = _truncate(values[i], scale, threshold) if block[i] > FLOOR else MINUS_INFINITY


@njit(**OPTIONS)
def _block_output(block, place, knots, steps, truncation, numbers, values, output):
    _place_block(block, np.float32(knots.size - 1), place, numbers, values)
    _interpolate_block(block.size, numbers, values, knots, steps)
    _truncate_block(block, values, truncation[0], truncation[1], output)


@njit(**OPTIONS)
def _steps(knots):
    steps = np.zeros_like(knots)
    steps[:-1] = knots[1:] - knots[:-1]
    return steps


@njit(**OPTIONS)
def _spread_row(row, place, knots, truncation, output):
    numbers, values = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    steps = _steps(knots)
    for start in range(0, row.size, BLOCK):
        block = row[start : start + BLOCK]
        _block_output(block, place, knots, steps, truncation, numbers, values, output[start : start + BLOCK])


@njit(**OPTIONS)
def _weigh_block(output, size, reference):
    """Turn output logits into weights relative to `reference`; their sum."""
    total = ZERO
    for i in range(size):
        weight = exp(output[i] - reference) if output[i] > FLOOR else ZERO
        output[i] = weight
        total += weight
    return total


@njit(**OPTIONS)
def _draw_row(row, place, knots, truncation, uniform):
    """Weigh the blocks, choose one, and choose a token in it."""
    numbers, values = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    output = np.empty(BLOCK, np.float32)
    steps = _steps(knots)
    # Truncation keeps the order, so that no token's output is above the largest of the knots'.
    reference = MINUS_INFINITY
    for knot in range(knots.size):
        reference = max(reference, _truncate(knots[knot], truncation[0], truncation[1]))
    masses = np.zeros((row.size + BLOCK - 1) // BLOCK)
    for number in range(masses.size):
        block = row[number * BLOCK : (number + 1) * BLOCK]
        _block_output(block, place, knots, steps, truncation, numbers, values, output)
        masses[number] = _weigh_block(output, block.size, reference)
    remaining = uniform * masses.sum()
    chosen = 0
    for number in range(masses.size):
        if masses[number] > 0:
            chosen = number
            if remaining < masses[number]:
                break
            remaining -= masses[number]
    block = row[chosen * BLOCK : (chosen + 1) * BLOCK]
    _block_output(block, place, knots, steps, truncation, numbers, values, output)
    _weigh_block(output, block.size, reference)
    # Where rounding leaves the sum short of the target, the last token that has a weight is taken.
    token = 0
    for i in range(block.size):
        if output[i] > 0:
            token = i
            remaining -= output[i]
            if remaining < 0:
                break
    return chosen * BLOCK + token


def condense(logits: Tensor, intervals: int) -> Condensed:
    """See `portable.condense`."""
    rows = _as_array(logits)
    extremes = np.array(for_each_row(lambda row: _extremes(rows[row]), len(rows)), dtype=np.float32)
    largest, smallest = torch.from_numpy(extremes).unbind(1)
    check_rows(largest)
    grid = Grid.between(intervals, largest, smallest)
    place = _as_table(grid)
    tokens = np.empty((len(rows), intervals + 1))
    moved = np.empty_like(tokens)
    log_normalizer = torch.tensor(
        for_each_row(lambda row: _condense_row(rows[row], intervals, *place[row], tokens[row], moved[row]), len(rows)),
        dtype=torch.float64,
    )
    check_rows(log_normalizer)
    return Condensed.from_sums(grid, torch.from_numpy(tokens), torch.from_numpy(moved), log_normalizer)


def spread(logits: Tensor, grid: Grid, smooth: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """See `portable.spread`."""
    rows, place, knots = _as_array(logits), _as_table(grid), _as_array(smooth)
    truncation = _as_array(torch.cat([scale, threshold], dim=1))
    output = np.empty_like(rows)
    for_each_row(lambda row: _spread_row(rows[row], place[row], knots[row], truncation[row], output[row]), len(rows))
    return torch.from_numpy(output)


def draw(logits: Tensor, grid: Grid, smooth: Tensor, scale: Tensor, threshold: Tensor, uniforms: Tensor) -> Tensor:
    """See `portable.draw`."""
    rows, place, knots = _as_array(logits), _as_table(grid), _as_array(smooth)
    truncation = _as_array(torch.cat([scale, threshold], dim=1))
    numbers = uniforms.tolist()
    drawn = for_each_row(
        lambda row: _draw_row(rows[row], place[row], knots[row], truncation[row], numbers[row]), len(rows)
    )
    return torch.tensor(drawn, dtype=torch.int64)


def _as_array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().contiguous().numpy()


def _as_table(grid: Grid) -> np.ndarray:
    return torch.stack([grid.largest, grid.split, grid.near, grid.far], dim=1).numpy()


@lru_cache(maxsize=1)
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="adaptive-samplers")


def for_each_row(work: Callable[[int], object], rows: int) -> list:
    """The results of all rows, on as many threads as PyTorch may use."""
    threads = min(torch.get_num_threads(), rows)
    if threads <= 1:
        return [work(row) for row in range(rows)]
    return list(_workers(threads).map(work, range(rows)))
