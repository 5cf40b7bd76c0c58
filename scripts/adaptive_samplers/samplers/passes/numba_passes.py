"""The passes over the vocabulary compiled for the CPU by numba: each token is read once per pass and nothing is stored.

They agree with `portable` up to rounding. A row is cut into blocks that stay in the first-level cache; within a block,
one loop does the arithmetic on vectors and another the table look-ups, because a loop with both is not vectorized.
"""

import math

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.compiled import OPTIONS, for_each_row
from adaptive_samplers.logits import BANNED_DEPTH, MASKED_BELOW, check_rows
from adaptive_samplers.numba_cache import njit
from adaptive_samplers.samplers.passes.knots import LARGEST_OUTPUT, Condensed, KnotGrid

BLOCK = 2048
# Tokens that are counted together: by the counts alone it is known which part of a row a draw falls into.
PART = 8 * BLOCK
# Positions are counted in these parts of an interval, so that a token's count and its fraction add up in one integer.
FRACTION_BITS = 19
FRACTION = 1 << FRACTION_BITS
COUNT_BITS = 40
# Tokens of one part are counted above the sum of their positions.
PLACE_BITS = 48
FRACTIONS = (1 << COUNT_BITS) - 1

FLOOR = np.float32(MASKED_BELOW)
# A negative number's bits, mapped as `_in_order` does.
FLOOR_IN_ORDER = np.int32(FLOOR.view(np.int32) ^ np.int32(0x7FFFFFFF))
MINUS_INFINITY, NOT_A_NUMBER = np.float32(-np.inf), np.float32(np.nan)
MINUS_INFINITY_IN_ORDER = np.int32(MINUS_INFINITY.view(np.int32) ^ np.int32(0x7FFFFFFF))
BANNED = np.float32(BANNED_DEPTH)
LARGEST = np.float32(LARGEST_OUTPUT)
# Below this the float32 exponential function underflows.
LOWEST_EXPONENT = np.float32(-87.3)
ZERO, HALF, ONE, TWO = (np.float32(value) for value in (0, 0.5, 1, 2))

# Compiled code is made again when its own file changes, but not when only a function of another file does that was
# compiled into it: after a change here, touch numba_network.py and numba_decoding.py too, and after one in
# numba_network.py the latter.


@njit(inline="always", **OPTIONS)
def exp(x):
    """exp(x) for x <= 0, float32, to 2e-6 of its value: Cephes' polynomial, which vectorizes as no call does."""
    x = max(x, LOWEST_EXPONENT)
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
    """See `knots.KnotGrid`. A place among the knots whatever the numbers are: no comparison holds with what is none."""
    position = min(depth, split) * near + max(depth - split, ZERO) * far
    position = position if position < last else last
    return position if position > ZERO else ZERO


@njit(inline="always", **OPTIONS)
def _truncate(value, scale, threshold):
    """See `truncation.truncate`."""
    argument = value * scale + threshold
    return value + (min(argument, ZERO) - log1p(exp(-abs(argument))))


@njit(**OPTIONS)
def _extremes(row):
    """The largest logit and the smallest that is not masked, by integers, whose comparisons are vectorized.

    The first is NaN where the row holds one; that may be below all numbers, by its sign.
    """
    bits = row.view(np.int32)
    lowest, highest = np.int32(-(2**31)), np.int32(2**31 - 1)
    largest, smallest, least = lowest, highest, highest
    for i in range(bits.size):
        value = _in_order(bits[i])
        largest = np.int32(max(largest, value))
        least = np.int32(min(least, value))
        smallest = np.int32(min(smallest, value if value > FLOOR_IN_ORDER else highest))
    first = NOT_A_NUMBER if least < MINUS_INFINITY_IN_ORDER else np.int32(_in_order(largest)).view(np.float32)
    return first, np.int32(_in_order(smallest)).view(np.float32)


@njit(**OPTIONS)
def _largest(values):
    """The largest of float32 numbers, by integers."""
    bits = values.view(np.int32)
    largest = np.int32(-(2**31))
    for i in range(bits.size):
        largest = np.int32(max(largest, _in_order(bits[i])))
    return np.int32(_in_order(largest)).view(np.float32)


@njit(**OPTIONS)
def _sum_block(block, intervals, largest, split, near, far, places):
    """Sum of exp(logit - largest); every token's position in parts of an interval, or that of the banned ones."""
    total = ZERO
    last = np.float32(intervals * FRACTION)
    near, far = near * np.float32(FRACTION), far * np.float32(FRACTION)
    for i in range(block.size):
        value = max(block[i], FLOOR)
        depth = largest - value
        total += exp(-depth)
        places[i] = (
            np.int32(_position(depth, split, near, far, last))
            if depth < BANNED
            else np.int32((intervals + 1) * FRACTION)
        )
    return total


@njit(**OPTIONS)
def _position_block(block, intervals, largest, split, near, far, places):
    """See `_sum_block`, without the sum."""
    last, banned = np.float32(intervals * FRACTION), np.int32((intervals + 1) * FRACTION)
    near, far = near * np.float32(FRACTION), far * np.float32(FRACTION)
    if far > ZERO:
        for i in range(block.size):
            depth = largest - max(block[i], FLOOR)
            places[i] = np.int32(_position(depth, split, near, far, last)) if depth < BANNED else banned
    else:
        # The same in fewer operations: knots are even, and nothing is wide enough to overflow.
        for i in range(block.size):
            depth = largest - max(block[i], FLOOR)
            places[i] = np.int32(min(depth * near, last)) if depth < BANNED else banned


@njit(**OPTIONS)
def _count_block(places, tables):
    """Add up the places of each interval's tokens, and above `PLACE_BITS` their number."""
    first, second = tables[0], tables[1]
    for i in range(0, places.size - 1, 2):
        one, other = np.uint64(places[i]), np.uint64(places[i + 1])
        first[one >> np.uint64(FRACTION_BITS)] += np.uint64(1 << PLACE_BITS) | one
        second[other >> np.uint64(FRACTION_BITS)] += np.uint64(1 << PLACE_BITS) | other
    if places.size % 2:
        one = np.uint64(places[places.size - 1])
        first[one >> np.uint64(FRACTION_BITS)] += np.uint64(1 << PLACE_BITS) | one


@njit(**OPTIONS)
def _count_row(row, intervals, largest, split, near, far, is_summed, counted):
    """Fill the row's `counted`, a table for each part of `PART` tokens; return its log-sum-exp if it `is_summed`.

    That is less the largest logit.

    An element holds the number of tokens in an interval, above `COUNT_BITS`, and the sum of how far they lie from the
    knot above them, in `FRACTION`s of the interval.
    """
    places = np.empty(BLOCK, np.uint32)
    # One table would make every token wait for the previous one, because neighbors often fall into the same interval.
    tables = np.zeros((2, intervals + 2), np.uint64)
    total = 0.0
    for part in range(counted.shape[0]):
        for start in range(part * PART, min((part + 1) * PART, row.size), BLOCK):
            block = row[start : start + BLOCK]
            if is_summed:
                total += _sum_block(block, intervals, largest, split, near, far, places.view(np.int32))
            else:
                _position_block(block, intervals, largest, split, near, far, places.view(np.int32))
            _count_block(places[: block.size], tables)
        for interval in range(intervals + 1):
            summed = np.int64(tables[0, interval] + tables[1, interval])
            count = summed >> PLACE_BITS
            fractions = (summed & ((1 << PLACE_BITS) - 1)) - count * (np.int64(interval) << FRACTION_BITS)
            counted[part, interval] = (count << COUNT_BITS) + fractions
        tables[:] = 0
    return np.log(total) if is_summed else np.nan


@njit(**OPTIONS)
def _place_block(block, last, place, numbers, values):
    largest, split, near, far = place[0], place[1], place[2], place[3]
    for i in range(block.size):
        # Finite even where a token is masked: infinity times 0 would be NaN, which is not an index into a table.
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
def _truncate_block(block, values, largest, function, output):
    scale, threshold, floor, offset = function
    for i in range(block.size):
        depth = largest - block[i]
        inside = _truncate(values[i], scale, threshold)
        output[i] = (inside if depth <= floor else offset - depth) if block[i] > FLOOR else MINUS_INFINITY


@njit(**OPTIONS)
def _block_output(block, place, knots, steps, function, numbers, values, output):
    _place_block(block, np.float32(knots.size - 1), place, numbers, values)
    _interpolate_block(block.size, numbers, values, knots, steps)
    _truncate_block(block, values, place[0], function, output)


@njit(**OPTIONS)
def _bounded(place, knots, truncation):
    """Scale and threshold of the truncation, and the `bounds` of `portable`."""
    split, near, far, floor = place[1], place[2], place[3], place[4]
    scale, threshold = truncation[0], truncation[1]
    turn = split * near
    above = ONE / near if near > ZERO else ZERO
    below = ONE / far if far > ZERO else ZERO
    lowered = np.empty_like(knots)
    unsound = np.int32(0)
    for knot in range(knots.size):
        position = np.float32(knot)
        depth = min(min(position, turn) * above + max(position - turn, ZERO) * below, floor)
        lowered[knot] = -(_truncate(knots[knot], scale, threshold) + depth)
        unsound += np.int32(0) if abs(knots[knot]) <= LARGEST else np.int32(1)
    if unsound == 0 and abs(scale) <= LARGEST and abs(threshold) <= LARGEST:
        return scale, threshold, floor, -_largest(lowered)
    return scale, threshold, MINUS_INFINITY, ZERO


@njit(**OPTIONS)
def _steps(knots):
    steps = np.zeros_like(knots)
    steps[:-1] = knots[1:] - knots[:-1]
    return steps


@njit(**OPTIONS)
def _spread_row(row, place, knots, truncation, output):
    numbers, values = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    steps, function = _steps(knots), _bounded(place, knots, truncation)
    for start in range(0, row.size, BLOCK):
        block = row[start : start + BLOCK]
        _block_output(block, place, knots, steps, function, numbers, values, output[start : start + BLOCK])


@njit(**OPTIONS)
def _weigh_block(output):
    """Turn output logits into weights relative to the largest of them; that one, and the sum of the weights."""
    total, largest = ZERO, _largest(output)
    if largest > MINUS_INFINITY:
        for i in range(output.size):
            below = output[i] - largest
            weight = exp(below) if below > LOWEST_EXPONENT else ZERO
            output[i] = weight
            total += weight
    return largest, total


@njit(**OPTIONS)
def _pick(weights, target):
    """The first place at which the running sum of the weights is above a target, and the sum before it.

    If rounding leaves the sum short of the target, it is the last one that still adds to the sum.
    """
    running, before, chosen = 0.0, 0.0, 0
    for place in range(weights.size):
        after = running + weights[place]
        if after > running:
            chosen, before = place, running
            if after > target:
                break
        running = after
    return chosen, before


@njit(**OPTIONS)
def _draw_row(row, place, knots, truncation, uniform):
    """Weigh the blocks, choose one, and choose a token in it."""
    numbers, values = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    output = np.empty(BLOCK, np.float32)
    steps, function = _steps(knots), _bounded(place, knots, truncation)
    blocks = (row.size + BLOCK - 1) // BLOCK
    largest, masses = np.empty(blocks, np.float32), np.empty(blocks)
    for number in range(blocks):
        block = row[number * BLOCK : (number + 1) * BLOCK]
        _block_output(block, place, knots, steps, function, numbers, values, output)
        largest[number], masses[number] = _weigh_block(output[: block.size])
    reference = largest.max()
    for number in range(blocks):
        masses[number] *= np.exp(np.float64(largest[number]) - np.float64(reference))
    target = uniform * masses.sum()
    chosen, before = _pick(masses, target)
    target = (target - before) / np.exp(np.float64(largest[chosen]) - np.float64(reference))
    block = row[chosen * BLOCK : (chosen + 1) * BLOCK]
    _block_output(block, place, knots, steps, function, numbers, values, output)
    _weigh_block(output[: block.size])
    token, _ = _pick(output[: block.size], target)
    return chosen * BLOCK + token


def parts(vocabulary: int) -> int:
    """How many parts of a row are counted separately."""
    return (vocabulary + PART - 1) // PART


def condense(logits: Tensor, intervals: int, lowest: float = -math.inf) -> Condensed:
    """See `portable.condense`."""
    rows = _as_array(logits)
    extremes = np.array(for_each_row(lambda row: _extremes(rows[row]), len(rows)), dtype=np.float32)
    largest, smallest = torch.from_numpy(extremes.reshape(-1, 2)).unbind(1)
    check_rows(largest)
    grid = KnotGrid.between(intervals, largest, smallest, lowest)
    place = torch.stack([grid.largest, grid.split, grid.near, grid.far], dim=1).numpy()
    counted = np.empty((len(rows), parts(rows.shape[1]), intervals + 1), np.int64)
    log_total = for_each_row(lambda row: _count_row(rows[row], intervals, *place[row], True, counted[row]), len(rows))
    counted = counted.sum(1)
    tokens, moved = (counted >> COUNT_BITS).astype(np.float64), (counted & FRACTIONS) / FRACTION
    sums = torch.from_numpy(tokens), torch.from_numpy(moved), torch.tensor(log_total, dtype=torch.float64)
    return Condensed.from_sums(grid, *sums, lowest)


def spread(logits: Tensor, condensed: Condensed, smooth: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """See `portable.spread`."""
    rows, place, knots = _as_array(logits), _as_table(condensed), _as_array(smooth)
    truncation = _as_array(torch.cat([scale, threshold], dim=1))
    output = np.empty_like(rows)
    for_each_row(lambda row: _spread_row(rows[row], place[row], knots[row], truncation[row], output[row]), len(rows))
    return torch.from_numpy(output)


def draw(
    logits: Tensor, condensed: Condensed, smooth: Tensor, scale: Tensor, threshold: Tensor, uniforms: Tensor
) -> Tensor:
    """See `portable.draw`."""
    rows, place, knots = _as_array(logits), _as_table(condensed), _as_array(smooth)
    truncation = _as_array(torch.cat([scale, threshold], dim=1))
    numbers = uniforms.tolist()
    drawn = for_each_row(
        lambda row: _draw_row(rows[row], place[row], knots[row], truncation[row], numbers[row]), len(rows)
    )
    return torch.tensor(drawn, dtype=torch.int64)


def _as_array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().contiguous().numpy()


def _as_table(condensed: Condensed) -> np.ndarray:
    grid = condensed.grid
    return torch.stack([grid.largest, grid.split, grid.near, grid.far, condensed.floor], dim=1).numpy()
