"""A whole decoding step of a `SamplingNetwork` compiled for the CPU by numba, from a row of logits to a token.

A row's function is not computed on a fixed number of knots but on as many as it needs. The network's sums over the
tokens are sums over a few nodes first, and over more where an estimate of their error says so. With the sums known, a
point's output depends on nothing but the point; so where the output bends between nodes and tokens have probability, it
is computed on more points, which leave the sums alone. Errors are estimated from fourth differences, as the cubics
between nodes are off by a multiple of them.

A draw needs the weights of all tokens before the one that is drawn, but only in sum. The counts of `_count_row` are
kept for each part of the row and give these sums; then the tokens of one part are weighed.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_samplers.compiled import OPTIONS, for_each_row
from adaptive_samplers.logits import check_rows
from adaptive_samplers.numba_cache import njit
from adaptive_samplers.samplers.passes.knots import INTERVALS, NARROWEST, NEAR_SHARE, REACH, cubic_lines, lagrange
from adaptive_samplers.samplers.passes.numba_network import _evaluate, _no_sums, network_of
from adaptive_samplers.samplers.passes.numba_passes import (
    BLOCK,
    COUNT_BITS,
    FLOOR,
    FRACTION,
    FRACTION_BITS,
    FRACTIONS,
    HALF,
    LOWEST_EXPONENT,
    MINUS_INFINITY,
    ONE,
    PART,
    TWO,
    ZERO,
    _as_array,
    _block_output,
    _bounded,
    _count_row,
    _draw_row,
    _extremes,
    _largest,
    _pick,
    _spread_row,
    _steps,
    _truncate,
    _weigh_block,
    exp,
    parts,
)

# Nodes for the sums, from few to many. Whole vectors: the last incomplete one would cost as much as two others.
NODES = (32, 128, 256, 512)
# They are denser where the probability is: the distance between nodes grows by `1 + 2 * GRADING` over the near part.
GRADING = 1.0
# The output is computed on every such knot, or interpolated to it from the nodes; and from there to the knots between.
STRIDE = 4
TURN = round(NEAR_SHARE * INTERVALS)
# Between nodes a cubic is off by up to a twentieth of the fourth difference; in the first and last interval that is the
# largest value, elsewhere twice that.
OF_FOURTH_DIFFERENCE = np.float32(0.05)
# Accept sums over the nodes of a level where the output's mean error over all tokens is estimated below this, in nats.
# Errors in the sums cancel out better the more nodes there are.
SUMS_TOLERANCES = (2e-5, 3e-3, 1e-2)
# Compute the output on more points in intervals whose share of the total variation is estimated above this.
VALUES_TOLERANCE = 6e-6
# Weigh a whole row where counts do not tell the weights of its parts, in relation to the total.
MASS_TOLERANCE = 2e-5
WHOLE_VECTOR = 16


@njit(**OPTIONS)
def _place_knots(largest, smallest, lowest, place):
    """See `knots.KnotGrid.between`: fill the row's largest logit, split, near and far."""
    depth = min(np.float64(largest - smallest), -lowest)
    place[0] = largest
    if depth > REACH:
        place[1], place[2] = REACH, NEAR_SHARE * INTERVALS / REACH
        place[3] = (1 - NEAR_SHARE) * INTERVALS / (depth - REACH)
    else:
        place[1], place[2], place[3] = depth, (INTERVALS / depth if depth > NARROWEST else 0.0), 0.0


@njit(**OPTIONS)
def _log_total_of(summed, place):
    """The log-sum-exp of a row less its largest logit, from its counts.

    A single token's place in an interval is known. For several, their mean place is, and they are taken to be spread
    evenly around it: if they are not, the sum is off by up to a 24th of the square of the interval's width in nats.
    """
    split, near, far = place[1], place[2], place[3]
    turn = split * near
    above = ONE / near if near > ZERO else ZERO
    below = ONE / far if far > ZERO else ZERO
    total = 0.0
    for knot in range(INTERVALS + 1):
        count = np.float32(np.int32(summed[knot] >> COUNT_BITS))
        moved = np.float32(summed[knot] & FRACTIONS) * np.float32(1 / FRACTION) / max(count, ONE)
        position = np.float32(knot)
        depth = min(position, turn) * above + max(position - turn, ZERO) * below
        width = above if position < turn else below
        spread = max(count - ONE, ZERO) * width * width * np.float32(1 / 24)
        total += exp(-depth) * exp(-moved * width) * (count + spread)
    return np.log(total)


@njit(**OPTIONS)
def _errors(values, turn, errors):
    """Estimate how far cubics through the nodes are from what they interpolate, in each interval between nodes."""
    for low, high in ((0, turn), (turn, values.size - 1)):
        before = ZERO
        for node in range(low + 2, high - 1):
            fourth = values[node - 2] + values[node + 2] - 4 * (values[node - 1] + values[node + 1]) + 6 * values[node]
            error = OF_FOURTH_DIFFERENCE * abs(fourth)
            errors[node - 1] = max(before, error)
            errors[node] = before = error
        errors[low] = errors[low + 1]
        errors[high - 1] = errors[high - 2]


@njit(**OPTIONS)
def _total(values):
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


@njit(**OPTIONS)
def _interpolate(start, weight, values, out):
    """Fill each as a sum of adjacent values, from `start` on, with weights."""
    for i in range(out.size):
        first = start[i]
        total = ZERO
        for k in range(weight.shape[1]):
            total += weight[i, k] * values[first + k]
        out[i] = total


@njit(**OPTIONS)
def _condense(row, lowest, is_exact, counted, place, counts):
    """Fill `counted` and `place` as `_function_of` does, and the counts of the knots; return the log-sum-exp.

    That is less the largest logit. It is NaN where the row is no distribution; then only the largest logit is filled.
    """
    largest, smallest = _extremes(row)
    place[0] = largest
    if not FLOOR < largest < np.inf:
        return np.nan
    _place_knots(largest, smallest, lowest, place)
    log_total = _count_row(row, INTERVALS, place[0], place[1], place[2], place[3], is_exact, counted)
    summed = np.zeros(INTERVALS + 2, np.int64)
    for part in range(counted.shape[0]):
        for knot in range(INTERVALS + 1):
            summed[knot + 1] += counted[part, knot]
    # A token shares its unit count between its two neighboring knots, as in `Condensed`.
    for knot in range(INTERVALS + 1):
        left, right = summed[knot], summed[knot + 1]
        fractions = ((right >> COUNT_BITS) << FRACTION_BITS) - (right & FRACTIONS) + (left & FRACTIONS)
        counts[knot] = np.float64(fractions) / FRACTION
    if not is_exact:
        log_total = _log_total_of(summed[1:], place)
    place[4] = -log_total - lowest
    return log_total


@njit(**OPTIONS)
def _points_at(positions, log_total, lowest, place, t):
    """Fill the log-probabilities at positions among the knots."""
    split, near, far = np.float64(place[1]), np.float64(place[2]), np.float64(place[3])
    turn = split * near
    for i in range(t.size):
        position = np.float64(positions[i])
        depth = min(position, turn) / near if near > 0 else 0.0
        depth += max(position - turn, 0.0) / far if far > 0 else 0.0
        t[i] = max(-log_total - depth, lowest)


@njit(**OPTIONS)
def _counts_at(first, share, counts, n):
    """Fill the counts of the nodes from those of the knots."""
    for node in range(n.size):
        total = 0.0
        for k in range(share.shape[1]):
            total += share[node, k] * counts[first[node] + k]
        n[node] = total


@njit(**OPTIONS)
def _mean_error(errors, edges, counts):
    """The output's mean error over all tokens."""
    error, tokens = 0.0, 0.0
    for interval in range(errors.size):
        inside = _total(counts[edges[interval] : edges[interval + 1]])
        error += inside * errors[interval]
        tokens += inside
    return error / tokens


@njit(**OPTIONS)
def _sensitivities(counts, smooth, truncation, masses):
    """Fill by how much the weights at each knot change with the smooth part; return the sum of the weights.

    By as much as they are, and more where they are truncated.
    """
    scale, threshold = truncation[0], truncation[1]
    outputs = np.empty(INTERVALS + 1, np.float32)
    for knot in range(INTERVALS + 1):
        outputs[knot] = _truncate(smooth[knot], scale, threshold)
        masses[knot] = outputs[knot] if counts[knot] > ZERO else MINUS_INFINITY
    highest = _largest(masses)
    for knot in range(INTERVALS + 1):
        masses[knot] = counts[knot] * exp(min(outputs[knot] - highest, ZERO))
    total = _total(masses)
    for knot in range(INTERVALS + 1):
        argument = smooth[knot] * scale + threshold
        small = exp(-abs(argument))
        masses[knot] *= ONE + scale * (small if argument > ZERO else ONE) / (ONE + small)
    return total


@njit(**OPTIONS)
def _bent(errors, edges, masses, total, asked):
    """Fill which `STRIDE`-th knots lie where the error of the output matters; return how many do."""
    count = 0
    for interval in range(errors.size):
        inside = _total(masses[edges[interval] : edges[interval + 1]])
        if inside * errors[interval] > VALUES_TOLERANCE * total:
            for knot in range((edges[interval] + STRIDE - 1) // STRIDE, (edges[interval + 1] - 1) // STRIDE + 1):
                asked[count] = knot
                count += 1
    return count


@njit(**OPTIONS)
def _function_of(row, lowest, network, levels, lines, is_exact, counted, place, smooth, truncation):
    """Fill everything that is known of a row before its tokens are read again.

    `is_exact` says whether to sum up the exponentials of all tokens. `counted` is as `_count_row` fills it; `place` has
    the row's largest logit, split, near, far and floor; `smooth` has the smooth part of the output on all knots.
    Returns the level of the nodes, or -1 where the row is no distribution; then only the largest logit is filled.
    """
    weights, sizes, multiplier = network
    counts = np.empty(INTERVALS + 1, np.float32)
    log_total = _condense(row, lowest, is_exact, counted, place, counts)
    if np.isnan(log_total):
        return -1
    # The output on every `STRIDE`-th knot.
    few = np.empty(INTERVALS // STRIDE + 1, np.float32)
    sums, level = _no_sums(sizes), 0
    while True:
        positions, turn, edges, first, share, first_of_few, share_of_few = levels[level]
        nodes = positions.size
        t, n, values = np.empty(nodes, np.float32), np.empty(nodes, np.float32), np.empty(nodes, np.float32)
        _points_at(positions, log_total, lowest, place, t)
        _counts_at(first, share, counts, n)
        _evaluate(weights, sizes, multiplier, t, n, sums, True, values, truncation)
        _interpolate(first_of_few, share_of_few, values, few)
        _interpolate(lines[0], lines[1], few, smooth)
        if level == len(levels) - 1:
            return level
        errors = np.empty(nodes - 1, np.float32)
        _errors(values, turn, errors)
        if _mean_error(errors, edges, counts) <= SUMS_TOLERANCES[level]:
            break
        level += 1

    masses, asked = np.empty(INTERVALS + 1, np.float32), np.empty(few.size + WHOLE_VECTOR, np.float64)
    total = _sensitivities(counts, smooth, truncation, masses)
    bent = _bent(errors, edges, masses, total, asked)
    if bent > 0:
        # The last one again, up to whole vectors.
        padded = (bent + WHOLE_VECTOR - 1) // WHOLE_VECTOR * WHOLE_VECTOR
        asked[bent:padded] = asked[bent - 1]
        t, values = np.empty(padded, np.float32), np.empty(padded, np.float32)
        _points_at(STRIDE * asked[:padded], log_total, lowest, place, t)
        _evaluate(weights, sizes, multiplier, t, t, sums, False, values, truncation)
        for i in range(bent):
            few[np.int64(asked[i])] = values[i]
        _interpolate(lines[0], lines[1], few, smooth)
    return level


@njit(**OPTIONS)
def _outputs_at(place, shift, smooth, function, outputs):
    """Output logits at places that lie a `shift` of an interval below the knots, from the smooth part there."""
    split, near, far = place[1], place[2], place[3]
    scale, threshold, floor, offset = function
    turn = split * near
    above = ONE / near if near > ZERO else ZERO
    below = ONE / far if far > ZERO else ZERO
    for knot in range(smooth.size):
        position = np.float32(knot) + shift
        depth = min(position, turn) * above + max(position - turn, ZERO) * below
        outputs[knot] = _truncate(smooth[knot], scale, threshold) if depth <= floor else offset - depth


@njit(**OPTIONS)
def _masses(counted, place, smooth, function, masses):
    """Fill each part's sum of weights, from the counts of its tokens.

    Returns the output logit that the weights are relative to, and whether the counts tell them well enough.

    In an interval, the output is a parabola through both knots and the middle between them. Where tokens lie is known
    as in `_log_total_of`.
    """
    size = smooth.size
    between = np.zeros(size, np.float32)
    for knot in range(size - 1):
        between[knot] = (smooth[knot] + smooth[knot + 1]) * HALF
    outputs, middles = np.empty(size, np.float32), np.empty(size, np.float32)
    _outputs_at(place, ZERO, smooth, function, outputs)
    _outputs_at(place, HALF, between, function, middles)
    steps, bends = np.zeros(size, np.float32), np.zeros(size, np.float32)
    spreads, doubts = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for knot in range(size - 1):
        steps[knot] = outputs[knot + 1] - outputs[knot]
        bends[knot] = TWO * (middles[knot] + middles[knot] - outputs[knot] - outputs[knot + 1])
        spreads[knot] = (steps[knot] * steps[knot] - TWO * bends[knot]) * np.float32(1 / 24)
        doubts[knot] = (steps[knot] * steps[knot] + TWO * abs(bends[knot])) * np.float32(1 / 24)
    logs = np.empty((counted.shape[0], size), np.float32)
    for part in range(counted.shape[0]):
        for knot in range(size):
            summed = counted[part, knot]
            count = np.float32(np.int32(summed >> COUNT_BITS))
            moved = np.float32(summed & FRACTIONS) * np.float32(1 / FRACTION) / max(count, ONE)
            log = outputs[knot] + moved * (steps[knot] + (ONE - moved) * bends[knot])
            logs[part, knot] = log if count > ZERO else MINUS_INFINITY
    highest = _largest(logs.reshape(logs.size))
    all_parts, doubtful = 0.0, 0.0
    for part in range(counted.shape[0]):
        mass, doubt = 0.0, 0.0
        for knot in range(size):
            count = np.float32(np.int32(counted[part, knot] >> COUNT_BITS))
            below = logs[part, knot] - highest
            weight = exp(below) if below > LOWEST_EXPONENT else ZERO
            more = weight * max(count - ONE, ZERO)
            mass += weight * count + more * spreads[knot]
            doubt += more * doubts[knot]
        masses[part] = mass
        all_parts += mass
        doubtful += doubt
    return highest, doubtful <= MASS_TOLERANCE * all_parts


@njit(**OPTIONS)
def _draw_among(tokens, place, smooth, function, target, highest):
    """The first token at which the sum of weights, relative to an output logit, is above `target`.

    It is -1 where the sum stays below, as counts gave the tokens slightly more.
    """
    numbers, values = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.float32)
    output = np.empty(BLOCK, np.float32)
    steps = _steps(smooth)
    before = 0.0
    for start in range(0, tokens.size, BLOCK):
        block = tokens[start : start + BLOCK]
        _block_output(block, place, smooth, steps, function, numbers, values, output)
        largest, mass = _weigh_block(output[: block.size])
        factor = np.exp(np.float64(largest) - np.float64(highest))
        if before + mass * factor > target:
            token = 0
            for i in range(block.size):
                after = before + output[i] * factor
                if after > before:
                    token = i
                    if after > target:
                        break
                before = after
            return start + token
        before += mass * factor
    return -1


@njit(**OPTIONS)
def _draw_step(row, uniform, lowest, network, levels, lines, parts, drawn, largest):
    """Fill the token that is drawn `[1]` and the row's largest logit `[1]`; return what `_function_of` does."""
    counted = np.empty((parts, INTERVALS + 1), np.int64)
    place, smooth, truncation = np.empty(5, np.float32), np.empty(INTERVALS + 1, np.float32), np.empty(2, np.float32)
    level = _function_of(row, lowest, network, levels, lines, False, counted, place, smooth, truncation)
    largest[0] = place[0]
    if level < 0:
        return level
    masses = np.empty(parts)
    function = _bounded(place, smooth, truncation)
    highest, is_told = _masses(counted, place, smooth, function, masses)
    if not is_told:
        drawn[0] = _draw_row(row, place, smooth, truncation, uniform)
        return level
    target = uniform * masses.sum()
    chosen, before = _pick(masses, target)
    tokens = row[chosen * PART : (chosen + 1) * PART]
    token = _draw_among(tokens, place, smooth, function, target - before, highest)
    # The last one of the part that has a weight.
    token = token if token >= 0 else _draw_row(tokens, place, smooth, truncation, 1.0)
    drawn[0] = chosen * PART + token
    return level


@njit(**OPTIONS)
def _spread_step(row, lowest, network, levels, lines, parts, output, largest):
    """Fill a row's output logits and its largest logit `[1]`; return what `_function_of` does."""
    counted = np.empty((parts, INTERVALS + 1), np.int64)
    place, smooth, truncation = np.empty(5, np.float32), np.empty(INTERVALS + 1, np.float32), np.empty(2, np.float32)
    level = _function_of(row, lowest, network, levels, lines, True, counted, place, smooth, truncation)
    largest[0] = place[0]
    if level >= 0:
        _spread_row(row, place, smooth, truncation, output)
    return level


def draw(network: nn.Module, logits: Tensor, uniforms: Tensor) -> Tensor:
    """Token ids `[B]` for logits `[B, V]`, by a uniform number `[B]` each; see `AdaptiveSampler.sample`."""
    rows, numbers = _as_array(logits), uniforms.tolist()
    shared = network.lowest_log_prob, network_of(network), *_levels(), parts(rows.shape[1])
    tokens, largest = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)

    def step(row: int) -> int:
        at = slice(row, row + 1)
        return _draw_step(rows[row], numbers[row], *shared, tokens[at], largest[at])

    _check(for_each_row(step, len(rows)), largest)
    return torch.from_numpy(tokens)


def spread(network: nn.Module, logits: Tensor) -> Tensor:
    """The output logits of all tokens, `[B, V]` float32; see `AdaptiveSampler.logits`.

    On as many knots as the network's `stride` leaves, in every row: engines draw from these by recorded numbers, and an
    answer must not change with how the function is computed. In flat distributions even a millionth of the probability
    decides one draw in a hundred.
    """
    rows = _as_array(logits)
    _, lines = _levels()
    shared = network.lowest_log_prob, network_of(network), _every_knot(network.stride), lines, parts(rows.shape[1])
    output, largest = np.empty_like(rows), np.empty(len(rows), np.float32)

    def step(row: int) -> int:
        return _spread_step(rows[row], *shared, output[row], largest[row : row + 1])

    _check(for_each_row(step, len(rows)), largest)
    return torch.from_numpy(output)


def _check(levels: list[int], largest: np.ndarray) -> None:
    """Raise what `check_rows` raises for rows whose function could not be computed."""
    if min(levels, default=0) < 0:
        check_rows(torch.from_numpy(largest))


@cache
def _levels() -> tuple[tuple, tuple[np.ndarray, np.ndarray]]:
    """What `_function_of` needs to know about nodes and knots, computed once.

    For each level: the nodes' positions among the knots; the node at which the spacing may change; the first knot of
    each interval between nodes, and the end of the last one; from counts on knots to counts on nodes; and from nodes to
    every `STRIDE`-th knot. For all levels: from those to all knots.
    """
    knots = np.arange(INTERVALS + 1.0)
    levels = []
    for nodes in NODES:
        near = round(NEAR_SHARE * nodes) - 1
        numbers = np.arange(nodes)
        share = numbers[: near + 1] / near
        finely = TURN * share * (1 + GRADING * share) / (1 + GRADING)
        positions = np.concatenate([finely, np.linspace(TURN, INTERVALS, nodes - near)[1:]])
        # Cubics along the nodes' numbers, in which they are even: for those, fourth differences tell the error.
        share = (np.sqrt(1 + 4 * GRADING * (1 + GRADING) * knots / TURN) - 1) / (2 * GRADING)
        places = np.where(knots <= TURN, near * share, np.interp(knots, positions, numbers))
        levels.append(_level(positions, near, lagrange(numbers.astype(float), near, places)))
    every = lagrange(knots[::STRIDE], TURN // STRIDE, knots)
    return tuple(levels), _windows(cubic_lines(every, TURN))


@cache
def _every_knot(stride: int) -> tuple[tuple]:
    """The only level, where every `stride`-th knot is a node."""
    knots = np.arange(INTERVALS + 1.0)
    nodes = knots[::stride]
    return (_level(nodes, TURN // stride, lagrange(nodes, TURN // stride, knots)),)


def _level(positions: np.ndarray, turn: int, to_knots: np.ndarray) -> tuple:
    edges = np.append(np.ceil(positions[:-1]), INTERVALS + 1).astype(np.int64)
    down = _windows(cubic_lines(to_knots, TURN).T)
    return positions, turn, edges, *down, *_windows(to_knots[::STRIDE])


def _windows(matrix: np.ndarray, least: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Where each row's elements begin that are not zero, and these; as many for all rows, and not less than `least`."""
    nonzero = matrix != 0
    first = nonzero.argmax(1)
    width = max(least, int((matrix.shape[1] - nonzero[:, ::-1].argmax(1) - first).max()))
    first = np.minimum(first, matrix.shape[1] - width)
    return first, np.take_along_axis(matrix, first[:, None] + np.arange(width), 1).astype(np.float32)
