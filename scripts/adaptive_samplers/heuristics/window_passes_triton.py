"""The passes over the vocabulary for windows as Triton kernels for CUDA, one for each pass.

They agree with `window_passes_portable` up to the rounding of float64. A row is cut into blocks of `BLOCK` tokens, and
several programs share the blocks of a row; what they find is added up in one order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from adaptive_samplers.compiled import programs_of_a_row, with_adjacent_tokens
from adaptive_samplers.heuristics.window_passes_portable import largest

__all__ = ["divide", "drawing_masses", "largest", "moments", "sums"]

BLOCK = tl.constexpr(1024)
# Programs that read logits: enough to hide the memory's latency on the largest devices.
PROGRAMS = 1024
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def _load_block(logits, row_stride, vocabulary, rows, edges, block):
    """Ids and float64 logits of a block's tokens, and which of them are finite and at or below the edge."""
    place = tl.program_id(0)
    token = block * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(rows + place)
    value = tl.load(logits + row * row_stride + token, mask=token < vocabulary, other=-INFINITY)
    return token, value.to(tl.float64), (value <= tl.load(edges + place)) & (tl.abs(value) < INFINITY)


@triton.jit
def _divided(value, temperatures, DIVISIONS: tl.constexpr):
    """Logits divided by a row's temperatures in turn."""
    for division in tl.static_range(DIVISIONS):
        value = value / tl.load(temperatures + tl.program_id(0) * DIVISIONS + division)
    return value


@triton.jit
def _store(parts, number: tl.constexpr, COUNT: tl.constexpr, value):
    """One of the numbers that a program found."""
    place = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    tl.store(parts + place * COUNT + number, value)


@triton.jit
def _sums_kernel(logits, row_stride, vocabulary, rows, edges, largest, temperatures, parts, SPLITS: tl.constexpr):
    top, temperature = tl.load(largest + tl.program_id(0)), tl.load(temperatures + tl.program_id(0))
    mass = tl.zeros([BLOCK], tl.float64)
    first = tl.zeros([BLOCK], tl.float64)
    second = tl.zeros([BLOCK], tl.float64)
    for block in range(tl.program_id(1), tl.cdiv(vocabulary, BLOCK), SPLITS):
        _, value, inside = _load_block(logits, row_stride, vocabulary, rows, edges, block)
        depth = tl.where(inside, (value - top) / temperature, 0.0)
        weight = tl.where(inside, tl.exp(depth), 0.0)
        mass += weight
        first += weight * depth
        second += weight * weight
    _store(parts, 0, 3, tl.sum(mass, axis=0))
    _store(parts, 1, 3, tl.sum(first, axis=0))
    _store(parts, 2, 3, tl.sum(second, axis=0))


@triton.jit
def _moments_kernel(logits, row_stride, vocabulary, rows, edges, parts, SPLITS: tl.constexpr):
    """Sums of distances from the edge, so that squares lose few digits when the mean is taken from them."""
    edge = tl.load(edges + tl.program_id(0)).to(tl.float64)
    count = tl.zeros([BLOCK], tl.float64)
    first = tl.zeros([BLOCK], tl.float64)
    second = tl.zeros([BLOCK], tl.float64)
    smallest = tl.full([BLOCK], INFINITY, tl.float64)
    for block in range(tl.program_id(1), tl.cdiv(vocabulary, BLOCK), SPLITS):
        _, value, inside = _load_block(logits, row_stride, vocabulary, rows, edges, block)
        below = tl.where(inside, value - edge, 0.0)
        count += tl.where(inside, 1.0, 0.0)
        first += below
        second += below * below
        smallest = tl.minimum(smallest, tl.where(inside, value, INFINITY))
    _store(parts, 0, 4, tl.sum(count, axis=0))
    _store(parts, 1, 4, tl.sum(first, axis=0))
    _store(parts, 2, 4, tl.sum(second, axis=0))
    _store(parts, 3, 4, tl.min(smallest, axis=0))


@triton.jit
def _masses_kernel(
    logits, row_stride, vocabulary, rows, edges, largest, temperatures, parts, SPLITS: tl.constexpr,
    DIVISIONS: tl.constexpr,
):  # fmt: skip
    top = tl.load(largest + tl.program_id(0))
    mass = tl.zeros([BLOCK], tl.float64)
    for block in range(tl.program_id(1), tl.cdiv(vocabulary, BLOCK), SPLITS):
        _, value, inside = _load_block(logits, row_stride, vocabulary, rows, edges, block)
        depth = _divided(value, temperatures, DIVISIONS).to(tl.float32) - top
        # Weights are float32 numbers; in float64 before, because Triton's float32 exponentials are not exact enough.
        weight = tl.exp(tl.where(inside, depth, 0.0).to(tl.float64)).to(tl.float32)
        mass += tl.where(inside, weight, 0.0).to(tl.float64)
    _store(parts, 0, 1, tl.sum(mass, axis=0))


@triton.jit
def _divide_kernel(
    logits, row_stride, vocabulary, rows, edges, temperatures, output, output_stride, places, DIVISIONS: tl.constexpr
):
    token, value, inside = _load_block(logits, row_stride, vocabulary, rows, edges, tl.program_id(1))
    divided = tl.where(inside, _divided(value, temperatures, DIVISIONS), -INFINITY).to(tl.float32)
    row = tl.load(places + tl.program_id(0))
    tl.store(output + row * output_stride + token, divided, mask=token < vocabulary)


def sums(logits: Tensor, rows: Tensor, edges: Tensor, largest: Tensor, temperatures: Tensor) -> Tensor:
    """See `window_passes_portable.sums`."""
    arguments = (largest.contiguous(), temperatures.contiguous())
    return _parts(_sums_kernel, 3, logits, rows, edges, *arguments).sum(1)


def moments(logits: Tensor, rows: Tensor, edges: Tensor) -> Tensor:
    """See `window_passes_portable.moments`."""
    parts = _parts(_moments_kernel, 4, logits, rows, edges)
    count, first, second = parts[..., :3].sum(1).unbind(-1)
    there = count > 0
    mean = first / count.clamp(min=1)
    squares = (second - mean * first).clamp(min=0)
    smallest = parts[..., 3].amin(-1).where(there, 0.0)
    return torch.stack([count, smallest, (edges.double() + mean).where(there, 0.0), squares], -1)


def drawing_masses(logits: Tensor, rows: Tensor, edges: Tensor, largest: Tensor, temperatures: Tensor) -> Tensor:
    """See `window_passes_portable.drawing_masses`."""
    arguments = (largest.contiguous(), temperatures.contiguous())
    parts = _parts(_masses_kernel, 1, logits, rows, edges, *arguments, DIVISIONS=temperatures.shape[1])
    return parts.sum((1, 2))


def divide(logits: Tensor, rows: Tensor, edges: Tensor, temperatures: Tensor, output: Tensor, places: Tensor) -> None:
    """See `window_passes_portable.divide`."""
    logits, temperatures = with_adjacent_tokens(logits), temperatures.contiguous()
    if len(rows):
        with torch.cuda.device_of(logits):
            _divide_kernel[len(rows), triton.cdiv(logits.shape[1], BLOCK.value)](
                logits, logits.stride(0), logits.shape[1], rows, edges, temperatures, output, output.stride(0), places,
                DIVISIONS=temperatures.shape[1],
            )  # fmt: skip


def _parts(
    kernel: triton.JITFunction,
    count: int,
    logits: Tensor,
    rows: Tensor,
    edges: Tensor,
    *arguments: Tensor,
    **sizes: int,
) -> Tensor:
    """What the programs of each row found, `[R, SPLITS, count]` float64."""
    logits = with_adjacent_tokens(logits)
    blocks = triton.cdiv(logits.shape[1], BLOCK.value)
    splits = programs_of_a_row(len(rows), blocks, PROGRAMS)
    parts = logits.new_empty(len(rows), splits, count, dtype=torch.float64)
    if len(rows):
        with torch.cuda.device_of(logits):
            kernel[len(rows), splits](
                logits, logits.stride(0), logits.shape[1], rows, edges.contiguous(), *arguments, parts,
                SPLITS=splits, **sizes,
            )  # fmt: skip
    return parts
