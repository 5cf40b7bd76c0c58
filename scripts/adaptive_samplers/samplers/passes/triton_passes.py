"""The passes over the vocabulary as Triton kernels for CUDA: three to condense, two to spread, three to draw.

They agree with `portable` up to rounding, read logits in their own type, and can be captured in a CUDA graph: shapes
are static, and the host waits for nothing. A row is cut into blocks of `BLOCK` tokens, and several programs share the
blocks of a row, so that one row can occupy the whole device. Floating-point sums are kept for each block and added up
in one order, and the counts are integers; so a row's result is the same to the bit in every run and in every batch.

While a graph is captured, rows that are no distributions cannot be refused. Their output logits are NaN, and -1 is
drawn from them.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from adaptive_samplers.compiled import programs_of_a_row, with_adjacent_tokens
from adaptive_samplers.logits import BANNED_DEPTH, MASKED_BELOW, check_rows
from adaptive_samplers.samplers.passes.knots import (
    LARGEST_OUTPUT,
    NARROWEST,
    NEAR_SHARE,
    REACH,
    Condensed,
    KnotGrid,
)
from adaptive_samplers.sketch import DistributionSketch

BLOCK = tl.constexpr(1024)
# Programs of a batch that read logits: enough to hide the memory's latency on the largest devices, and no more than
# necessary, as each has to know the row's grid first.
PROGRAMS = 1024
# Tables of counts per row. A single one would make the programs of a row wait for each other.
TABLES = 8
# Knots that one program condenses.
TILE = tl.constexpr(128)

# Positions are counted in these parts of an interval, so that a token's count and its fraction add up in one integer.
# The fractions of a million tokens fit below the counts.
FRACTION_BITS = tl.constexpr(20)
COUNT_BITS = tl.constexpr(40)
FRACTION = tl.constexpr(1 << FRACTION_BITS.value)
TOKEN = tl.constexpr(1 << COUNT_BITS.value)
FRACTIONS_MASK = tl.constexpr(TOKEN.value - 1)

FLOOR = tl.constexpr(MASKED_BELOW)
BANNED = tl.constexpr(BANNED_DEPTH)
SPLIT = tl.constexpr(REACH)
NEAR = tl.constexpr(NEAR_SHARE)
SMALLEST_DEPTH = tl.constexpr(NARROWEST)
LARGEST = tl.constexpr(LARGEST_OUTPUT)
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def _load_block(row_of_logits, block, vocabulary):
    """Ids and logits of a block's tokens; minus infinity past the end of the vocabulary."""
    token = block * BLOCK + tl.arange(0, BLOCK)
    return token, tl.load(row_of_logits + token, mask=token < vocabulary, other=-INFINITY).to(tl.float32)


@triton.jit
def _extremes_kernel(
    logits, row_stride, vocabulary, largest, smallest, tables, SPLITS: tl.constexpr, TABLES: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """The largest and the smallest logit of a share of the blocks; the tables are emptied for the next kernel."""
    row, share = tl.program_id(0).to(tl.int64), tl.program_id(1)
    if share < TABLES:
        tl.store(tables + (row * TABLES + share) * WIDTH + tl.arange(0, WIDTH), tl.zeros([WIDTH], tl.int64))
    high = tl.full([BLOCK], -INFINITY, tl.float32)
    low = tl.full([BLOCK], INFINITY, tl.float32)
    for block in range(share, tl.cdiv(vocabulary, BLOCK), SPLITS):
        _, value = _load_block(logits + row * row_stride, block, vocabulary)
        kept = value > FLOOR
        # NaN fails every comparison. As infinity it survives the maximum, and invalidates the row as it should.
        high = tl.maximum(high, tl.where(kept, value, tl.where(value <= FLOOR, -INFINITY, INFINITY)))
        low = tl.minimum(low, tl.where(kept, value, INFINITY))
    tl.store(largest + row * SPLITS + share, tl.max(high, axis=0))
    tl.store(smallest + row * SPLITS + share, tl.min(low, axis=0))


@triton.jit
def _grid_between(largest, smallest, lowest, INTERVALS: tl.constexpr):
    """See `KnotGrid.between`. Everything is NaN in a row that is not a distribution."""
    largest = tl.where((largest > FLOOR) & (largest < INFINITY), largest, float("nan"))
    depth = (largest - smallest).to(tl.float64)
    depth = tl.where(depth > -lowest, -lowest, depth)
    wide = depth > SPLIT
    evenly = tl.where(depth > SMALLEST_DEPTH, INTERVALS / tl.where(depth > SMALLEST_DEPTH, depth, 1.0), 0.0)
    split = tl.where(wide, SPLIT, depth)
    near = tl.where(wide, NEAR * INTERVALS / SPLIT, evenly)
    far = tl.where(wide, (1 - NEAR) * INTERVALS / tl.where(wide, depth - SPLIT, 1.0), 0.0)
    return largest, split.to(tl.float32), near.to(tl.float32), far.to(tl.float32)


@triton.jit
def _place(value, largest, split, near, far, INTERVALS: tl.constexpr):
    """Which tokens count, how far they are below the largest, in which interval they lie, and where in it (0 to 1)."""
    # Comparisons fail with NaN, the largest logit of a row that is not a distribution.
    kept = (value > FLOOR) & (value <= largest)
    depth = tl.where(kept, largest - value, 0.0)
    position = tl.minimum(depth, split) * near + tl.maximum(depth - split, 0.0) * far
    # A valid position among the knots whatever the numbers are: comparisons with NaN are false.
    position = tl.where(kept & (position > 0), tl.where(position < INTERVALS, position, INTERVALS), 0.0)
    interval = tl.minimum(position.to(tl.int32), INTERVALS - 1)
    return kept, depth, interval, position - interval.to(tl.float32)


@triton.jit
def _depth_of(knot, split, near, far):
    """See `KnotGrid.knots`."""
    turn = split * near
    depth = tl.where(near > 0, tl.minimum(knot, turn) / tl.where(near > 0, near, 1.0), 0.0)
    return depth + tl.where(far > 0, tl.maximum(knot - turn, 0.0) / tl.where(far > 0, far, 1.0), 0.0)


@triton.jit
def _count_kernel(
    logits, row_stride, vocabulary, largest, smallest, tables, grid, sums, lowest, SPLITS: tl.constexpr,
    TABLES: tl.constexpr, WIDTH: tl.constexpr, INTERVALS: tl.constexpr,
):  # fmt: skip
    """Place the knots, count the tokens between them, and sum up exp(logit - largest) in each block."""
    row, share = tl.program_id(0).to(tl.int64), tl.program_id(1)
    every = row * SPLITS + tl.arange(0, SPLITS)
    high, split, near, far = _grid_between(
        tl.max(tl.load(largest + every), axis=0), tl.min(tl.load(smallest + every), axis=0), lowest, INTERVALS
    )
    if share == 0:
        rows = tl.num_programs(0)
        tl.store(grid + row, high)
        tl.store(grid + rows + row, split)
        tl.store(grid + 2 * rows + row, near)
        tl.store(grid + 3 * rows + row, far)
    table = tables + (row * TABLES + share % TABLES) * WIDTH
    blocks = tl.cdiv(vocabulary, BLOCK)
    for block in range(share, blocks, SPLITS):
        _, value = _load_block(logits + row * row_stride, block, vocabulary)
        kept, depth, interval, fraction = _place(value, high, split, near, far, INTERVALS)
        parts = (fraction * FRACTION + 0.5).to(tl.int64)
        tl.atomic_add(table + interval, parts + TOKEN, mask=kept & (depth < BANNED), sem="relaxed")
        tl.store(sums + row * blocks + block, tl.sum(tl.where(kept, tl.exp(-depth), 0.0), axis=0))


@triton.jit
def _condense_kernel(
    tables, grid, sums, blocks, t, n, floor, lowest, TABLES: tl.constexpr, WIDTH: tl.constexpr,
    INTERVALS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Add up a row's tables and sums to log-probabilities and counts of a tile of knots, as `Condensed` does."""
    row, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows = tl.num_programs(0)
    split = tl.load(grid + rows + row).to(tl.float64)
    near = tl.load(grid + 2 * rows + row).to(tl.float64)
    far = tl.load(grid + 3 * rows + row).to(tl.float64)

    number = tl.arange(0, BLOCKS)
    total = tl.load(sums + row * blocks + number, mask=number < blocks, other=0.0).to(tl.float64)
    log_total = tl.log(tl.sum(total, axis=0))
    if tile == 0:
        tl.store(floor + row, (-log_total - lowest).to(tl.float32))

    knot = tile * TILE + tl.arange(0, TILE)
    table = tables + row * TABLES * WIDTH + tl.arange(0, TABLES)[:, None] * WIDTH
    below = tl.sum(tl.load(table + knot[None, :], mask=(knot < INTERVALS)[None, :], other=0), axis=0)
    inside = (knot > 0) & (knot <= INTERVALS)
    above = tl.sum(tl.load(table + knot[None, :] - 1, mask=inside[None, :], other=0), axis=0)
    # A token shares its count between the knots around it in proportion to closeness; the sums are integers.
    parts = ((below >> COUNT_BITS) << FRACTION_BITS) - (below & FRACTIONS_MASK) + (above & FRACTIONS_MASK)
    count = parts.to(tl.float64) / FRACTION

    log_prob = -log_total - _depth_of(knot.to(tl.float64), split, near, far)
    output = row * (INTERVALS + 1) + knot
    tl.store(t + output, tl.where(log_prob < lowest, lowest, log_prob).to(tl.float32), mask=knot <= INTERVALS)
    tl.store(n + output, count.to(tl.float32), mask=knot <= INTERVALS)


@triton.jit
def _truncate(smooth, scale, threshold):
    argument = smooth * scale + threshold
    return smooth + tl.minimum(argument, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(argument)))


@triton.jit
def _bounds_kernel(
    largest, split, near, far, floor, smooth, scale, scale_stride, threshold, threshold_stride, bounds,
    INTERVALS: tl.constexpr, KNOTS: tl.constexpr,
):  # fmt: skip
    """See `portable.bounds`: a row's two numbers."""
    row = tl.program_id(0).to(tl.int64)
    # Repeating the last knot changes no minimum.
    knot = tl.minimum(tl.arange(0, KNOTS), INTERVALS)
    knots = tl.load(smooth + row * (INTERVALS + 1) + knot)
    factor, offset = tl.load(scale + row * scale_stride), tl.load(threshold + row * threshold_stride)
    lowest = tl.load(floor + row)
    depth = _depth_of(knot.to(tl.float32), tl.load(split + row), tl.load(near + row), tl.load(far + row))
    raised = tl.min(_truncate(knots, factor, offset) + tl.minimum(depth, lowest), axis=0)
    unsound = tl.sum(tl.where(tl.abs(knots) <= LARGEST, 0, 1), axis=0)
    sound = (unsound == 0) & (tl.abs(factor) <= LARGEST) & (tl.abs(offset) <= LARGEST)
    tl.store(bounds + 2 * row, tl.where(sound, lowest, -INFINITY))
    tl.store(bounds + 2 * row + 1, tl.where(sound, raised, 0.0))


@triton.jit
def _output(value, row, largest, split, near, far, smooth, scale, scale_stride, threshold, threshold_stride, bounds,
            INTERVALS: tl.constexpr):  # fmt: skip
    """The output logits; minus infinity for masked tokens."""
    kept, depth, interval, fraction = _place(
        value, tl.load(largest + row), tl.load(split + row), tl.load(near + row), tl.load(far + row), INTERVALS
    )
    knots = smooth + row * (INTERVALS + 1)
    left, right = tl.load(knots + interval), tl.load(knots + interval + 1)
    factor, offset = tl.load(scale + row * scale_stride), tl.load(threshold + row * threshold_stride)
    inside = _truncate(left + fraction * (right - left), factor, offset)
    result = tl.where(depth <= tl.load(bounds + 2 * row), inside, tl.load(bounds + 2 * row + 1) - depth)
    return tl.where(kept, result, -INFINITY)


@triton.jit
def _weights(output):
    """Weights relative to the largest of a block's output logits, and that one."""
    reference = tl.max(output, axis=0)
    return tl.where(output > -INFINITY, tl.exp(output - reference), 0.0), reference


@triton.jit
def _spread_kernel(
    logits, row_stride, vocabulary, largest, split, near, far, smooth, scale, scale_stride, threshold,
    threshold_stride, bounds, output, INTERVALS: tl.constexpr,
):  # fmt: skip
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    token, value = _load_block(logits + row * row_stride, block, vocabulary)
    result = _output(
        value, row, largest, split, near, far, smooth, scale, scale_stride, threshold, threshold_stride, bounds,
        INTERVALS,
    )  # fmt: skip
    high = tl.load(largest + row)
    result = tl.where(high == high, result, float("nan"))
    tl.store(output + row * vocabulary + token, result, mask=token < vocabulary)


@triton.jit
def _weigh_kernel(
    logits, row_stride, vocabulary, largest, split, near, far, smooth, scale, scale_stride, threshold,
    threshold_stride, bounds, masses, references, SPLITS: tl.constexpr, INTERVALS: tl.constexpr,
):  # fmt: skip
    """The sum of the weights of each block, and what they are relative to, for a share of the blocks."""
    row, share = tl.program_id(0).to(tl.int64), tl.program_id(1)
    blocks = tl.cdiv(vocabulary, BLOCK)
    for block in range(share, blocks, SPLITS):
        _, value = _load_block(logits + row * row_stride, block, vocabulary)
        output = _output(
            value, row, largest, split, near, far, smooth, scale, scale_stride, threshold, threshold_stride, bounds,
            INTERVALS,
        )  # fmt: skip
        weight, reference = _weights(output)
        tl.store(masses + row * blocks + block, tl.sum(weight, axis=0))
        tl.store(references + row * blocks + block, reference)


@triton.jit
def _pick(weights, target, index):
    """The first place at which the running sum of float64 weights is above `target`, and the sum before it.

    Where rounding leaves the sum short of the target, it is the place at which the sum reaches its end.
    """
    running = tl.cumsum(weights, axis=0)
    last = tl.sum((running < tl.max(running, axis=0)).to(tl.int32), axis=0)
    place = tl.minimum(tl.sum((running <= target).to(tl.int32), axis=0), last)
    return place, tl.sum(tl.where(index < place, weights, 0.0), axis=0)


@triton.jit
def _pick_kernel(
    logits, row_stride, vocabulary, largest, split, near, far, smooth, scale, scale_stride, threshold,
    threshold_stride, bounds, masses, references, uniforms, drawn, INTERVALS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Choose a block by the sums of the weights, then a token in it."""
    row = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(vocabulary, BLOCK)
    number = tl.arange(0, BLOCKS)
    reference = tl.load(references + row * blocks + number, mask=number < blocks, other=-INFINITY)
    highest = tl.max(reference, axis=0)
    mass = tl.load(masses + row * blocks + number, mask=number < blocks, other=0.0).to(tl.float64)
    mass *= tl.where(reference > -INFINITY, tl.exp((reference - highest).to(tl.float64)), 0.0)
    total = tl.sum(mass, axis=0)
    target = tl.load(uniforms + row) * total
    block, before = _pick(mass, target, number)

    _, value = _load_block(logits + row * row_stride, block, vocabulary)
    output = _output(
        value, row, largest, split, near, far, smooth, scale, scale_stride, threshold, threshold_stride, bounds,
        INTERVALS,
    )  # fmt: skip
    weight, reference = _weights(output)
    # Sums in another order may leave slightly less than zero, which must not select a token without weight.
    left = tl.maximum(target - before, 0.0) * tl.exp((highest - reference).to(tl.float64))
    token, _ = _pick(weight.to(tl.float64), left, tl.arange(0, BLOCK))
    tl.store(drawn + row, tl.where(total > 0, block * BLOCK + token, -1).to(tl.int64))


def condense(logits: Tensor, intervals: int, lowest: float = -math.inf) -> Condensed:
    """See `portable.condense`; while a CUDA graph is captured, no row is refused."""
    logits = with_adjacent_tokens(logits)
    rows, vocabulary = logits.shape
    blocks = triton.cdiv(vocabulary, BLOCK.value)
    splits = programs_of_a_row(rows, blocks, PROGRAMS)
    tables = min(TABLES, splits)
    width = triton.next_power_of_2(intervals)
    largest, smallest = logits.new_empty(2, rows, splits, dtype=torch.float32)
    counts = logits.new_empty(rows, tables, width, dtype=torch.int64)
    grid = logits.new_empty(4, rows, dtype=torch.float32)
    sums = logits.new_empty(rows, blocks, dtype=torch.float32)
    t, n = logits.new_empty(2, rows, intervals + 1, dtype=torch.float32)
    floor = logits.new_empty(rows, dtype=torch.float32)
    read = (logits, logits.stride(0), vocabulary, largest, smallest, counts)
    with torch.cuda.device_of(logits):
        _extremes_kernel[rows, splits](*read, SPLITS=splits, TABLES=tables, WIDTH=width)
        _count_kernel[rows, splits](
            *read, grid, sums, lowest, SPLITS=splits, TABLES=tables, WIDTH=width, INTERVALS=intervals
        )
        _condense_kernel[rows, triton.cdiv(intervals + 1, TILE.value)](
            counts, grid, sums, blocks, t, n, floor, lowest,
            TABLES=tables, WIDTH=width, INTERVALS=intervals, BLOCKS=triton.next_power_of_2(blocks),
        )  # fmt: skip
    # To read a result, the host has to wait for it, which a graph cannot contain.
    if not (logits.is_cuda and torch.cuda.is_current_stream_capturing()):
        check_rows(largest.amax(-1))
    return Condensed(KnotGrid(intervals, *grid), floor, DistributionSketch(t, n))


def spread(logits: Tensor, condensed: Condensed, smooth: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """See `portable.spread`."""
    logits = with_adjacent_tokens(logits)
    rows, vocabulary = logits.shape
    output = logits.new_empty(rows, vocabulary, dtype=torch.float32)
    with torch.cuda.device_of(logits):
        _spread_kernel[rows, triton.cdiv(vocabulary, BLOCK.value)](
            *_arguments(logits, condensed, smooth, scale, threshold), output, INTERVALS=condensed.grid.intervals
        )
    return output


def draw(
    logits: Tensor, condensed: Condensed, smooth: Tensor, scale: Tensor, threshold: Tensor, uniforms: Tensor
) -> Tensor:
    """See `portable.draw`; the token of a row that is not a distribution is -1."""
    logits = with_adjacent_tokens(logits)
    rows, vocabulary = logits.shape
    blocks = triton.cdiv(vocabulary, BLOCK.value)
    splits = programs_of_a_row(rows, blocks, PROGRAMS)
    masses, references = logits.new_empty(2, rows, blocks, dtype=torch.float32)
    drawn = logits.new_empty(rows, dtype=torch.int64)
    intervals = condensed.grid.intervals
    with torch.cuda.device_of(logits):
        arguments = (*_arguments(logits, condensed, smooth, scale, threshold), masses, references)
        _weigh_kernel[rows, splits](*arguments, SPLITS=splits, INTERVALS=intervals)
        _pick_kernel[(rows,)](
            *arguments, uniforms.double().contiguous(), drawn,
            INTERVALS=intervals, BLOCKS=triton.next_power_of_2(blocks),
        )  # fmt: skip
    return drawn


def _arguments(
    logits: Tensor, condensed: Condensed, smooth: Tensor, scale: Tensor, threshold: Tensor
) -> tuple[Tensor | int, ...]:
    """What the kernels that evaluate the function on the knots have in common, its bounds last."""
    grid, scale, threshold = condensed.grid, scale.float(), threshold.float()
    places = [value.contiguous() for value in (grid.largest, grid.split, grid.near, grid.far)]
    function = (smooth.float().contiguous(), scale, scale.stride(0), threshold, threshold.stride(0))
    bounds = smooth.new_empty(len(smooth), 2, dtype=torch.float32)
    _bounds_kernel[(len(smooth),)](
        *places, condensed.floor.contiguous(), *function, bounds,
        INTERVALS=grid.intervals, KNOTS=triton.next_power_of_2(grid.intervals + 1),
    )  # fmt: skip
    return logits, logits.stride(0), logits.shape[1], *places, *function, bounds
