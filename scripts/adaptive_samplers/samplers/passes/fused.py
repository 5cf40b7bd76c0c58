"""The passes over the vocabulary as Triton kernels for CUDA: three to condense, one to spread, two to draw.

They agree with `portable` up to rounding, read logits in their own type, and can be captured in a CUDA graph: shapes
are static, and the host waits for nothing. A row is cut into blocks of `BLOCK` tokens, and several programs share the
blocks of a row, so that one row can occupy the whole device. Floating-point sums are kept for each block and added up
in one order, and the counts are integers; so a row's result is the same to the bit in every run and in every batch.

While a graph is captured, rows that are no distributions cannot be refused. Their output logits are NaN, and -1 is
drawn from them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from adaptive_samplers.samplers.passes.grid import NEAR_SHARE, REACH, Condensed, Grid
from adaptive_samplers.sketch import MASKED_BELOW, DistributionSketch, check_rows

BLOCK = tl.constexpr(1024)
# Programs of a batch that read logits: enough to hide the memory's latency on the largest devices, and no more than
# necessary, as each has to know the row's grid first.
PROGRAMS = 1024
# Tables of counts a row. One alone would make the programs of a row wait for each other.
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
SPLIT = tl.constexpr(REACH)
NEAR = tl.constexpr(NEAR_SHARE)
INFINITY = tl.constexpr(float("inf"))
NOT_A_NUMBER = tl.constexpr(float("nan"))


@triton.jit
def _load_block(row_of_logits, block, vocabulary):
    """Ids and logits of a block's tokens; minus infinity behind the end of the vocabulary."""
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
        # NaN fails every comparison. As infinity it survives the maximum, and spoils the row as it should.
        high = tl.maximum(high, tl.where(kept, value, tl.where(value <= FLOOR, -INFINITY, INFINITY)))
        low = tl.minimum(low, tl.where(kept, value, INFINITY))
    tl.store(largest + row * SPLITS + share, tl.max(high, axis=0))
    tl.store(smallest + row * SPLITS + share, tl.min(low, axis=0))


@triton.jit
def _grid_between(largest, smallest, INTERVALS: tl.constexpr):
    """See `Grid.between`. All is NaN in a row that is no distribution."""
    largest = tl.where((largest > FLOOR) & (largest < INFINITY), largest, NOT_A_NUMBER)
    depth = (largest - smallest).to(tl.float64)
    wide = depth > SPLIT
    evenly = tl.where(depth > 0, INTERVALS / tl.where(depth > 0, depth, 1.0), 0.0)
    split = tl.where(wide, SPLIT, depth)
    near = tl.where(wide, NEAR * INTERVALS / SPLIT, evenly)
    far = tl.where(wide, (1 - NEAR) * INTERVALS / tl.where(wide, depth - SPLIT, 1.0), 0.0)
    return largest, split.to(tl.float32), near.to(tl.float32), far.to(tl.float32)


@triton.jit
def _place(value, largest, split, near, far, INTERVALS: tl.constexpr):
    """Which tokens count, how far they are below the largest, in which interval they lie, and where in it (0 to 1)."""
    # Nothing compares with the NaN that a row that is no distribution has for its largest logit.
    kept = (value > FLOOR) & (value <= largest)
    depth = tl.where(kept, largest - value, 0.0)
    position = tl.minimum(depth, split) * near + tl.maximum(depth - split, 0.0) * far
    position = tl.where(kept, tl.minimum(tl.maximum(position, 0.0), INTERVALS), 0.0)
    interval = tl.minimum(position.to(tl.int32), INTERVALS - 1)
    return kept, depth, interval, position - interval.to(tl.float32)


@triton.jit
def _count_kernel(
    logits, row_stride, vocabulary, largest, smallest, tables, grid, sums, SPLITS: tl.constexpr,
    TABLES: tl.constexpr, WIDTH: tl.constexpr, INTERVALS: tl.constexpr,
):  # fmt: skip
    """Place the knots, count the tokens between them, and sum up exp(logit - largest) in each block."""
    row, share = tl.program_id(0).to(tl.int64), tl.program_id(1)
    every = row * SPLITS + tl.arange(0, SPLITS)
    high, split, near, far = _grid_between(
        tl.max(tl.load(largest + every), axis=0), tl.min(tl.load(smallest + every), axis=0), INTERVALS
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
        tl.atomic_add(table + interval, parts + TOKEN, mask=kept, sem="relaxed")
        tl.store(sums + row * blocks + block, tl.sum(tl.where(kept, tl.exp(-depth), 0.0), axis=0))


@triton.jit
def _condense_kernel(
    tables, grid, sums, blocks, t, n, log_normalizer, TABLES: tl.constexpr, WIDTH: tl.constexpr,
    INTERVALS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Add up a row's tables and sums to log-probabilities and counts of a tile of knots, as `Condensed` does."""
    row, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows = tl.num_programs(0)
    largest = tl.load(grid + row).to(tl.float64)
    split = tl.load(grid + rows + row).to(tl.float64)
    near = tl.load(grid + 2 * rows + row).to(tl.float64)
    far = tl.load(grid + 3 * rows + row).to(tl.float64)

    number = tl.arange(0, BLOCKS)
    total = tl.load(sums + row * blocks + number, mask=number < blocks, other=0.0).to(tl.float64)
    normalizer = largest + tl.log(tl.sum(total, axis=0))
    if tile == 0:
        tl.store(log_normalizer + row, normalizer)

    knot = tile * TILE + tl.arange(0, TILE)
    table = tables + row * TABLES * WIDTH + tl.arange(0, TABLES)[:, None] * WIDTH
    below = tl.sum(tl.load(table + knot[None, :], mask=(knot < INTERVALS)[None, :], other=0), axis=0)
    inside = (knot > 0) & (knot <= INTERVALS)
    above = tl.sum(tl.load(table + knot[None, :] - 1, mask=inside[None, :], other=0), axis=0)
    # A token shares its count between the knots around it in proportion to closeness; the sums are integers.
    parts = ((below >> COUNT_BITS) << FRACTION_BITS) - (below & FRACTIONS_MASK) + (above & FRACTIONS_MASK)
    count = parts.to(tl.float64) / FRACTION

    place = knot.to(tl.float64)
    turn = split * near
    depth = tl.where(near > 0, tl.minimum(place, turn) / tl.where(near > 0, near, 1.0), 0.0)
    depth += tl.where(far > 0, tl.maximum(place - turn, 0.0) / tl.where(far > 0, far, 1.0), 0.0)
    output = row * (INTERVALS + 1) + knot
    tl.store(t + output, (largest - normalizer - depth).to(tl.float32), mask=knot <= INTERVALS)
    tl.store(n + output, count.to(tl.float32), mask=knot <= INTERVALS)


@triton.jit
def _truncate(smooth, scale, threshold):
    argument = smooth * scale + threshold
    return smooth + tl.minimum(argument, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(argument)))


@triton.jit
def _output(value, largest, split, near, far, knots, scale, threshold, INTERVALS: tl.constexpr):
    """Which tokens count, and their output logits."""
    kept, _, interval, fraction = _place(value, largest, split, near, far, INTERVALS)
    left, right = tl.load(knots + interval), tl.load(knots + interval + 1)
    return kept, _truncate(left + fraction * (right - left), scale, threshold)


@triton.jit
def _weights(value, largest, split, near, far, knots, scale, threshold, reference, INTERVALS: tl.constexpr):
    kept, output = _output(value, largest, split, near, far, knots, scale, threshold, INTERVALS)
    return tl.where(kept, tl.exp(output - reference), 0.0)


@triton.jit
def _reference(knots, scale, threshold, INTERVALS: tl.constexpr, KNOTS: tl.constexpr):
    """The largest output logit of the knots, which keeps exponentials from overflowing."""
    knot = tl.arange(0, KNOTS)
    # Repeating the last knot changes no maximum.
    smooth = tl.load(knots + tl.minimum(knot, INTERVALS))
    return tl.max(_truncate(smooth, scale, threshold), axis=0)


@triton.jit
def _spread_kernel(
    logits, row_stride, vocabulary, largest, split, near, far, smooth, scale, scale_stride, threshold,
    threshold_stride, output, INTERVALS: tl.constexpr,
):  # fmt: skip
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    high = tl.load(largest + row)
    token, value = _load_block(logits + row * row_stride, block, vocabulary)
    kept, result = _output(
        value, high, tl.load(split + row), tl.load(near + row), tl.load(far + row),
        smooth + row * (INTERVALS + 1), tl.load(scale + row * scale_stride),
        tl.load(threshold + row * threshold_stride), INTERVALS,
    )  # fmt: skip
    result = tl.where(kept, result, tl.where(high == high, -INFINITY, NOT_A_NUMBER))
    tl.store(output + row * vocabulary + token, result, mask=token < vocabulary)


@triton.jit
def _weigh_kernel(
    logits, row_stride, vocabulary, largest, split, near, far, smooth, scale, scale_stride, threshold,
    threshold_stride, masses, SPLITS: tl.constexpr, INTERVALS: tl.constexpr, KNOTS: tl.constexpr,
):  # fmt: skip
    """The sum of the weights of each block, for a share of the blocks."""
    row, share = tl.program_id(0).to(tl.int64), tl.program_id(1)
    high, middle = tl.load(largest + row), tl.load(split + row)
    above, below = tl.load(near + row), tl.load(far + row)
    factor, offset = tl.load(scale + row * scale_stride), tl.load(threshold + row * threshold_stride)
    knots = smooth + row * (INTERVALS + 1)
    reference = _reference(knots, factor, offset, INTERVALS, KNOTS)
    blocks = tl.cdiv(vocabulary, BLOCK)
    for block in range(share, blocks, SPLITS):
        _, value = _load_block(logits + row * row_stride, block, vocabulary)
        weight = _weights(value, high, middle, above, below, knots, factor, offset, reference, INTERVALS)
        tl.store(masses + row * blocks + block, tl.sum(weight, axis=0))


@triton.jit
def _pick(weights, target, index):
    """The first place at which the running sum of float64 weights is above `target`, and the sum before it.

    Where rounding leaves the sum short of the target, it is the last place that has a weight.
    """
    last = tl.max(tl.where(weights > 0, index, 0), axis=0)
    place = tl.minimum(tl.sum((tl.cumsum(weights, axis=0) <= target).to(tl.int32), axis=0), last)
    return place, tl.sum(tl.where(index < place, weights, 0.0), axis=0)


@triton.jit
def _pick_kernel(
    logits, row_stride, vocabulary, largest, split, near, far, smooth, scale, scale_stride, threshold,
    threshold_stride, masses, uniforms, drawn, INTERVALS: tl.constexpr, KNOTS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Choose a block by the sums of the weights, then a token in it."""
    row = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(vocabulary, BLOCK)
    number = tl.arange(0, BLOCKS)
    mass = tl.load(masses + row * blocks + number, mask=number < blocks, other=0.0).to(tl.float64)
    total = tl.sum(mass, axis=0)
    target = tl.load(uniforms + row) * total
    block, before = _pick(mass, target, number)

    factor, offset = tl.load(scale + row * scale_stride), tl.load(threshold + row * threshold_stride)
    knots = smooth + row * (INTERVALS + 1)
    _, value = _load_block(logits + row * row_stride, block, vocabulary)
    weight = _weights(
        value, tl.load(largest + row), tl.load(split + row), tl.load(near + row), tl.load(far + row),
        knots, factor, offset, _reference(knots, factor, offset, INTERVALS, KNOTS), INTERVALS,
    )  # fmt: skip
    # Sums in another order may leave a little less than nothing; a token without weight must not be met by it.
    token, _ = _pick(weight.to(tl.float64), tl.maximum(target - before, 0.0), tl.arange(0, BLOCK))
    tl.store(drawn + row, tl.where(total > 0, block * BLOCK + token, -1).to(tl.int64))


def condense(logits: Tensor, intervals: int) -> Condensed:
    """See `portable.condense`; while a CUDA graph is captured, no row is refused."""
    logits = _with_adjacent_tokens(logits)
    rows, vocabulary = logits.shape
    splits, blocks = _splits(rows, vocabulary), triton.cdiv(vocabulary, BLOCK.value)
    tables = min(TABLES, splits)
    width = triton.next_power_of_2(intervals)
    largest, smallest = logits.new_empty(2, rows, splits, dtype=torch.float32)
    counts = logits.new_empty(rows, tables, width, dtype=torch.int64)
    grid = logits.new_empty(4, rows, dtype=torch.float32)
    sums = logits.new_empty(rows, blocks, dtype=torch.float32)
    t, n = logits.new_empty(2, rows, intervals + 1, dtype=torch.float32)
    log_normalizer = logits.new_empty(rows, dtype=torch.float64)
    read = (logits, logits.stride(0), vocabulary, largest, smallest, counts)
    with torch.cuda.device_of(logits):
        _extremes_kernel[rows, splits](*read, SPLITS=splits, TABLES=tables, WIDTH=width)
        _count_kernel[rows, splits](*read, grid, sums, SPLITS=splits, TABLES=tables, WIDTH=width, INTERVALS=intervals)
        _condense_kernel[rows, triton.cdiv(intervals + 1, TILE.value)](
            counts, grid, sums, blocks, t, n, log_normalizer,
            TABLES=tables, WIDTH=width, INTERVALS=intervals, BLOCKS=triton.next_power_of_2(blocks),
        )  # fmt: skip
    # To look at a result, the host has to wait for it, which no graph can hold.
    if not (logits.is_cuda and torch.cuda.is_current_stream_capturing()):
        check_rows(log_normalizer)
    return Condensed(Grid(intervals, *grid), DistributionSketch(t, n))


def spread(logits: Tensor, grid: Grid, smooth: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """See `portable.spread`."""
    logits = _with_adjacent_tokens(logits)
    rows, vocabulary = logits.shape
    output = logits.new_empty(rows, vocabulary, dtype=torch.float32)
    with torch.cuda.device_of(logits):
        _spread_kernel[rows, triton.cdiv(vocabulary, BLOCK.value)](
            *_arguments(logits, grid, smooth, scale, threshold), output, INTERVALS=grid.intervals
        )
    return output


def draw(logits: Tensor, grid: Grid, smooth: Tensor, scale: Tensor, threshold: Tensor, uniforms: Tensor) -> Tensor:
    """See `portable.draw`; the token of a row that is no distribution is -1."""
    logits = _with_adjacent_tokens(logits)
    rows, vocabulary = logits.shape
    splits, blocks = _splits(rows, vocabulary), triton.cdiv(vocabulary, BLOCK.value)
    masses = logits.new_empty(rows, blocks, dtype=torch.float32)
    drawn = logits.new_empty(rows, dtype=torch.int64)
    arguments = _arguments(logits, grid, smooth, scale, threshold)
    sizes = {"INTERVALS": grid.intervals, "KNOTS": triton.next_power_of_2(grid.intervals + 1)}
    with torch.cuda.device_of(logits):
        _weigh_kernel[rows, splits](*arguments, masses, SPLITS=splits, **sizes)
        _pick_kernel[(rows,)](
            *arguments, masses, uniforms.double().contiguous(), drawn, BLOCKS=triton.next_power_of_2(blocks), **sizes
        )
    return drawn


def _with_adjacent_tokens(logits: Tensor) -> Tensor:
    return logits if logits.stride(1) == 1 else logits.contiguous()


def _splits(rows: int, vocabulary: int) -> int:
    """How many programs share a row. Powers of two, as each number is compiled on its own."""
    blocks = triton.cdiv(vocabulary, BLOCK.value)
    return triton.next_power_of_2(min(blocks, triton.cdiv(PROGRAMS, rows)))


def _arguments(
    logits: Tensor, grid: Grid, smooth: Tensor, scale: Tensor, threshold: Tensor
) -> tuple[Tensor | int, ...]:
    """What the kernels that evaluate the function on the knots have in common."""
    places = (value.contiguous() for value in (grid.largest, grid.split, grid.near, grid.far))
    scale, threshold = scale.float(), threshold.float()
    read = (logits, logits.stride(0), logits.shape[1])
    return *read, *places, smooth.float().contiguous(), scale, scale.stride(0), threshold, threshold.stride(0)
