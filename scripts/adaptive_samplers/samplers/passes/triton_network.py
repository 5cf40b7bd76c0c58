"""The sampling network on a few knots in Triton kernels for CUDA: one a block and two beside, in place of about 140.

A program evaluates a tile of a row's points, and leaves what it adds to the sums over all points to the next kernel.
They are added up in one order, so that a row's result does not depend on the batch. Like the passes, all can be
captured in a CUDA graph: the parameters are read anew each time, and the host waits for nothing.
"""

from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor

from adaptive_samplers.samplers.network import ATTENTION_EPSILON, SamplingNetwork

EPSILON = tl.constexpr(ATTENTION_EPSILON)
NORM_EPSILON = tl.constexpr(1e-5)
# The fewest rows and columns that matrix units take.
SMALLEST = tl.constexpr(16)
# Points that one program evaluates, and its warps (docs/gpu.md has what others took on an H100).
TILE = 32
WARPS = 4


@triton.constexpr_function
def _width(features):
    """Columns of a matrix with so many features; the others are 0."""
    return max(SMALLEST.value, triton.next_power_of_2(features))


@triton.constexpr_function
def _linear_size(inputs, outputs):
    return inputs * outputs + outputs


@triton.constexpr_function
def _swiglu_size(inputs, inner, outputs):
    return 2 * _linear_size(inputs, inner) + _linear_size(inner, outputs)


@triton.jit
def _linear(x, matrix, bias, IN: tl.constexpr, OUT: tl.constexpr):
    row, column = tl.arange(0, x.shape[1]), tl.arange(0, _width(OUT))
    transposed = matrix + column[None, :] * IN + row[:, None]
    m = tl.load(transposed, mask=(row < IN)[:, None] & (column < OUT)[None, :], other=0.0)
    # Three products in TensorFloat-32 for one in float32: one alone would leave three digits.
    return tl.dot(x, m, input_precision="tf32x3") + tl.load(bias + column, mask=column < OUT, other=0.0)[None, :]


@triton.jit
def _swiglu(x, weights, IN: tl.constexpr, INNER: tl.constexpr, OUT: tl.constexpr):
    up = weights + _linear_size(IN, INNER)
    down = up + _linear_size(IN, INNER)
    gate = _linear(x, weights, weights + IN * INNER, IN, INNER)
    inner = gate * tl.sigmoid(gate) * _linear(x, up, up + IN * INNER, IN, INNER)
    return _linear(inner, down, down + INNER * OUT, INNER, OUT)


@triton.jit
def _layer_norm(x, weights, D: tl.constexpr):
    column = tl.arange(0, D)
    x -= tl.sum(x, axis=1)[:, None] / D
    x *= tl.rsqrt(tl.sum(x * x, axis=1) / D + NORM_EPSILON)[:, None]
    return x * tl.load(weights + column)[None, :] + tl.load(weights + D + column)[None, :]


@triton.jit
def _positive(x):
    """The feature map of linear attention, `elu + 1`."""
    return tl.where(x > 0, x + 1, tl.exp(tl.minimum(x, 0.0)))


@triton.jit
def _store_context(h, n, weights, context, D: tl.constexpr):
    """What a tile of points adds to the sums of linear attention: of key times value, and of the keys."""
    bias = weights + 3 * D * D
    key = _positive(_linear(h, weights + D * D, bias + D, D, D)) * n[:, None]
    value = _linear(h, weights + 2 * D * D, bias + 2 * D, D, D)
    row, column = tl.arange(0, D)[:, None], tl.arange(0, D)
    tl.store(context + row * D + column[None, :], tl.dot(tl.trans(key), value, input_precision="tf32x3"))
    tl.store(context + D * D + column, tl.sum(key, axis=0))


@triton.jit
def _attend(h, weights, contexts, tiles, D: tl.constexpr, HEADS: tl.constexpr):
    row, column = tl.arange(0, D)[:, None], tl.arange(0, D)
    context, keys = tl.zeros([D, D], tl.float32), tl.zeros([D], tl.float32)
    for tile in range(tiles):
        context += tl.load(contexts + tile * D * (D + 1) + row * D + column[None, :])
        keys += tl.load(contexts + tile * D * (D + 1) + D * D + column)
    # All heads at once: what would mix two of them is set to 0.
    same_head = (row // (D // HEADS) == (column // (D // HEADS))[None, :]).to(tl.float32)
    query = _positive(_linear(h, weights, weights + 3 * D * D, D, D))
    normalizer = tl.dot(query, keys[:, None] * same_head, input_precision="tf32x3")
    return tl.dot(query, context * same_head, input_precision="tf32x3") / (normalizer + EPSILON)


@triton.jit
def _column(x, number):
    """One column of a matrix."""
    return tl.sum(tl.where(tl.arange(0, x.shape[1])[None, :] == number, x, 0.0), axis=1)


@triton.jit
def _load_points(values, points, TILE: tl.constexpr):
    """The program's tile of values `[B, points]`, and 0 behind their end."""
    point = tl.program_id(1) * TILE + tl.arange(0, TILE)
    return tl.load(values + tl.program_id(0) * points + point, mask=point < points, other=0.0)


@triton.jit
def _features(h, points, TILE: tl.constexpr, D: tl.constexpr):
    """Where the program's tile of features `[B, points, D]` lies, and which of its points there are."""
    point = tl.program_id(1) * TILE + tl.arange(0, TILE)
    place = (tl.program_id(0) * points + point)[:, None] * D + tl.arange(0, D)[None, :]
    return h + place, (point < points)[:, None]


@triton.jit
def _encode_kernel(t, n, weights, h, contexts, points, TILE: tl.constexpr, D: tl.constexpr, ENCODER: tl.constexpr):
    """Encoder, and the first block's sums over the program's tile."""
    number = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    first = tl.arange(0, SMALLEST)[None, :] == 0
    encoded = _swiglu(tl.where(first, _load_points(t, points, TILE)[:, None], 0.0), weights, 1, ENCODER, D)
    place, there = _features(h, points, TILE, D)
    tl.store(place, encoded, mask=there)
    block = weights + _swiglu_size(1, ENCODER, D)
    _store_context(encoded, _load_points(n, points, TILE), block, contexts + number * D * (D + 1), D)


@triton.jit
def _block_kernel(
    n, weights, h, contexts, next_contexts, sums, points, TILE: tl.constexpr, D: tl.constexpr, FFN: tl.constexpr,
    HEADS: tl.constexpr, LAST: tl.constexpr,
):  # fmt: skip
    """One block, and the sums over the program's tile that the next block needs, or the heads after the last."""
    row, tile, tiles = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    projection = weights + _linear_size(D, 3 * D)
    ffn = projection + _linear_size(D, D)
    norms = ffn + _swiglu_size(D, FFN, D)
    place, there = _features(h, points, TILE, D)
    x = tl.load(place, mask=there, other=0.0)
    attended = _attend(x, weights, contexts + row * tiles * D * (D + 1), tiles, D, HEADS)
    x = _layer_norm(x + _linear(attended, projection, projection + D * D, D, D), norms, D)
    x = _layer_norm(x + _swiglu(x, ffn, D, FFN, D), norms + 2 * D, D)
    tl.store(place, x, mask=there)
    counts = _load_points(n, points, TILE)
    number = row * tiles + tile
    if LAST:
        tl.store(sums + number * (D + 1) + tl.arange(0, D), tl.sum(counts[:, None] * x, axis=0))
        tl.store(sums + number * (D + 1) + D, tl.sum(counts, axis=0))
    else:
        _store_context(x, counts, norms + 4 * D, next_contexts + number * D * (D + 1), D)


@triton.jit
def _head(x, weights, D: tl.constexpr, HEAD: tl.constexpr, OUT: tl.constexpr, number: tl.constexpr):
    """One output of a head, after softplus; x has one vector, as many times as matrix units want."""
    output = tl.max(_column(_swiglu(x, weights, D, HEAD, OUT), number), axis=0)
    return tl.maximum(output, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(output)))


@triton.jit
def _heads_kernel(
    t, weights, h, sums, smooth, truncation, points, multiplier, TILE: tl.constexpr, D: tl.constexpr,
    TRANSFORMATION: tl.constexpr, HEAD: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    row, tiles = tl.program_id(0), tl.num_programs(1)
    mean, total = tl.zeros([D], tl.float32), 0.0
    for tile in range(tiles):
        mean += tl.load(sums + (row * tiles + tile) * (D + 1) + tl.arange(0, D))
        total += tl.load(sums + (row * tiles + tile) * (D + 1) + D)
    mean = (mean / total)[None, :]
    place, there = _features(h, points, TILE, D)
    x = tl.load(place, mask=there, other=0.0)
    x = tl.join(x, tl.broadcast_to(mean, TILE, D)).permute(0, 2, 1).reshape(TILE, 2 * D)
    result = _load_points(t, points, TILE) + _column(_swiglu(x, weights, 2 * D, TRANSFORMATION, 1), 0)

    context = tl.broadcast_to(mean, SMALLEST, D)
    truncation_head = weights + _swiglu_size(2 * D, TRANSFORMATION, 1)
    if SCALE:
        multiplier = _head(context, truncation_head + _swiglu_size(D, HEAD, 2), D, HEAD, 1, 0)
    point = tl.program_id(1) * TILE + tl.arange(0, TILE)
    tl.store(smooth + row * points + point, multiplier * result, mask=point < points)
    if tl.program_id(1) == 0:
        tl.store(truncation + 2 * row, _head(context, truncation_head, D, HEAD, 2, 0))
        tl.store(truncation + 2 * row + 1, _head(context, truncation_head, D, HEAD, 2, 1))


def fits(network: SamplingNetwork) -> bool:
    """Whether the kernels can evaluate this network: `d_model` must be 16, 32 or 64, as matrix units want it."""
    return len(network.blocks) > 0 and network.blocks[0].qkv_proj.in_features in (16, 32, 64)


@torch.no_grad()
def smooth_and_truncation(network: SamplingNetwork, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See `SamplingNetwork.smooth_and_truncation`; computed in float32, without gradients.

    Raises
    ------
    ValueError
        The network is none that `fits`.
    """
    if not fits(network):
        raise ValueError(f"the kernels want 16, 32 or 64 features and at least one block: {network.config}")
    rows, points = t.shape
    blocks, tiles = network.blocks, triton.cdiv(points, TILE)
    features, ffn = blocks[0].qkv_proj.in_features, blocks[0].ffn.gate_proj.out_features
    t, n = t.float().contiguous(), n.float().contiguous()
    # In the order of definition: encoder, blocks, transformation head, truncation head, scaling head.
    parts = [network.encoder, *blocks, network.transformation_head]
    weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).float()
    starts = accumulate((sum(parameter.numel() for parameter in part.parameters()) for part in parts), initial=0)
    start = [weights[place:] for place in starts]

    h = t.new_empty(rows, points, features)
    contexts = t.new_empty(2, rows, tiles, features * (features + 1))
    sums = t.new_empty(rows, tiles, features + 1)
    smooth, truncation = torch.empty_like(t), t.new_empty(rows, 2)
    grid = (rows, tiles)
    with torch.cuda.device_of(t):
        _encode_kernel[grid](
            t, n, weights, h, contexts[0], points,
            TILE=TILE, D=features, ENCODER=network.encoder.mlp.gate_proj.out_features, num_warps=WARPS,
        )  # fmt: skip
        for number, block in enumerate(blocks):
            now, after = contexts[number % 2], contexts[(number + 1) % 2]
            _block_kernel[grid](
                n, start[1 + number], h, now, after, sums, points,
                TILE=TILE, D=features, FFN=ffn, HEADS=block.attention.n_heads, LAST=number == len(blocks) - 1,
                num_warps=WARPS,
            )  # fmt: skip
        _heads_kernel[grid](
            t, start[1 + len(blocks)], h, sums, smooth, truncation, points, float(network.multiplier),
            TILE=TILE,
            D=features,
            TRANSFORMATION=network.transformation_head.gate_proj.out_features,
            HEAD=network.truncation_head.gate_proj.out_features,
            SCALE=network.scaling_head is not None,
            num_warps=WARPS,
        )  # fmt: skip
    scale, threshold = truncation.split(1, dim=-1)
    return smooth, scale, threshold
