"""`SamplingNetwork.smooth_and_truncation` compiled for the CPU by numba, one row of points at a time.

For one row, PyTorch spends most of its time launching a hundred and fifty small operations, not on arithmetic.

Values are held feature by feature, `[features, S]`, so that inner loops run along the points: they are vectorized
whatever the network's width, only sums over the points go across a vector, and the weights are read as PyTorch stores
them. They form one tape: those of a layer begin where those of the previous layer end.
"""

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from adaptive_samplers.samplers.passes.numba_passes import ONE, OPTIONS, ZERO, exp, for_each_row

# PyTorch's default, and that of `network.LinearAttention`: numba compiles both into the code.
NORM_EPSILON = np.float32(1e-5)
ATTENTION_EPSILON = np.float32(1e-6)


@njit(**OPTIONS)
def _multiply(weight, bias, x, out):
    """`out = weight @ x + bias`, four outputs by four inputs at a time, so that each load is used four times."""
    outputs, inputs = weight.shape
    for j in range(outputs):
        for s in range(x.shape[1]):
            out[j, s] = bias[j]
    whole_outputs, whole_inputs = outputs - outputs % 4, inputs - inputs % 4
    for j in range(0, whole_outputs, 4):
        for k in range(0, whole_inputs, 4):
            a0, a1, a2, a3 = weight[j, k], weight[j, k + 1], weight[j, k + 2], weight[j, k + 3]
            b0, b1, b2, b3 = weight[j + 1, k], weight[j + 1, k + 1], weight[j + 1, k + 2], weight[j + 1, k + 3]
            c0, c1, c2, c3 = weight[j + 2, k], weight[j + 2, k + 1], weight[j + 2, k + 2], weight[j + 2, k + 3]
            d0, d1, d2, d3 = weight[j + 3, k], weight[j + 3, k + 1], weight[j + 3, k + 2], weight[j + 3, k + 3]
            for s in range(x.shape[1]):
                x0, x1, x2, x3 = x[k, s], x[k + 1, s], x[k + 2, s], x[k + 3, s]
                out[j, s] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                out[j + 1, s] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                out[j + 2, s] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                out[j + 3, s] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3
    for j in range(outputs):
        for k in range(whole_inputs if j < whole_outputs else 0, inputs):
            factor = weight[j, k]
            for s in range(x.shape[1]):
                out[j, s] += factor * x[k, s]


@njit(**OPTIONS)
def _linear(weights, place, x, out):
    """Apply the linear layer at this position of the tape; return where the next one begins."""
    outputs, inputs = out.shape[0], x.shape[0]
    bias = place + outputs * inputs
    _multiply(weights[place:bias].reshape((outputs, inputs)), weights[bias : bias + outputs], x, out)
    return bias + outputs


@njit(**OPTIONS)
def _swiglu(weights, place, x, inner, out):
    """See `base.SwiGLU`; `inner` is its inner width."""
    gate, up = np.empty((inner, x.shape[1]), np.float32), np.empty((inner, x.shape[1]), np.float32)
    place = _linear(weights, place, x, gate)
    place = _linear(weights, place, x, up)
    for j in range(inner):
        for s in range(x.shape[1]):
            value = gate[j, s]
            small = exp(-abs(value))
            up[j, s] *= value * (ONE if value > ZERO else small) / (ONE + small)
    return _linear(weights, place, up, out)


@njit(**OPTIONS)
def _add_and_normalize(weights, place, h, update):
    """`h = LayerNorm(h + update)`."""
    features, points = h.shape
    mean, variance = np.zeros(points, np.float32), np.zeros(points, np.float32)
    share = np.float32(1 / features)
    for j in range(features):
        for s in range(points):
            h[j, s] += update[j, s]
            mean[s] += share * h[j, s]
    for j in range(features):
        for s in range(points):
            h[j, s] -= mean[s]
            variance[s] += share * h[j, s] * h[j, s]
    for s in range(points):
        variance[s] = ONE / np.sqrt(variance[s] + NORM_EPSILON)
    for j in range(features):
        factor, bias = weights[place + j], weights[place + features + j]
        for s in range(points):
            h[j, s] = factor * h[j, s] * variance[s] + bias
    return place + 2 * features


@njit(**OPTIONS)
def _map_features(x):
    """`elu(x) + 1` in place."""
    for j in range(x.shape[0]):
        for s in range(x.shape[1]):
            x[j, s] = max(x[j, s], ZERO) + exp(min(x[j, s], ZERO))


@njit(**OPTIONS)
def _dot(a, b):
    """Summed in float64, as a row of counts adds up to a hundred thousand tokens."""
    total = 0.0
    for s in range(a.size):
        total += a[s] * b[s]
    return total


@njit(**OPTIONS)
def _attention(weights, place, h, n, n_heads, out):
    """See `network.LinearAttention`, with the projection before it.

    A head's queries are multiplied by the context and, in a last row below it, by the sums of the keys, which gives
    the normalizer.
    """
    d_model, points = h.shape
    width = d_model // n_heads
    projected = np.empty((3 * d_model, points), np.float32)
    place = _linear(weights, place, h, projected)
    query, key, value = projected[:d_model], projected[d_model : 2 * d_model], projected[2 * d_model :]
    _map_features(query)
    _map_features(key)
    for j in range(d_model):
        for s in range(points):
            value[j, s] *= n[s]
    context, no_bias = np.empty((width + 1, width), np.float32), np.zeros(width + 1, np.float32)
    with_normalizer, attended = np.empty((width + 1, points), np.float32), np.empty((d_model, points), np.float32)
    for first in range(0, d_model, width):
        for k in range(width):
            for j in range(width):
                context[j, k] = _dot(value[first + j], key[first + k])
            context[width, k] = _dot(n, key[first + k])
        _multiply(context, no_bias, query[first : first + width], with_normalizer)
        for j in range(width):
            for s in range(points):
                attended[first + j, s] = with_normalizer[j, s] / (with_normalizer[width, s] + ATTENTION_EPSILON)
    return _linear(weights, place, attended, out)


@njit(**OPTIONS)
def _softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@njit(**OPTIONS)
def _evaluate(weights, n_blocks, n_heads, d_model, inner, multiplier, t, n, smooth, truncation):
    """Fill one row's smooth part `[S]`, and the truncation's scale and threshold.

    `inner` has the inner widths of the encoder, of a block's SwiGLU layer, and of the heads for transformation,
    truncation and scale; the last is negative where there is none and `multiplier` holds instead.
    """
    points = t.size
    # The context follows a point's own features, as the transformation head expects.
    features, update = np.empty((2 * d_model, points), np.float32), np.empty((d_model, points), np.float32)
    h = features[:d_model]
    # Not a plain 0, for which numba would compile everything again.
    place = _swiglu(weights, np.int64(0), t.reshape((1, points)), inner[0], h)
    for _ in range(n_blocks):
        place = _attention(weights, place, h, n, n_heads, update)
        place = _add_and_normalize(weights, place, h, update)
        place = _swiglu(weights, place, h, inner[1], update)
        place = _add_and_normalize(weights, place, h, update)
    tokens = 0.0
    for s in range(points):
        tokens += n[s]
    context = np.empty((d_model, 1), np.float32)
    for j in range(d_model):
        context[j, 0] = _dot(n, h[j]) / tokens
        for s in range(points):
            features[d_model + j, s] = context[j, 0]
    change, of_context = np.empty((1, points), np.float32), np.empty((2, 1), np.float32)
    place = _swiglu(weights, place, features, inner[2], change)
    place = _swiglu(weights, place, context, inner[3], of_context)
    for i in range(2):
        truncation[i] = _softplus(np.float64(of_context[i, 0]))
    if inner[4] >= 0:
        _swiglu(weights, place, context, inner[4], of_context[:1])
        multiplier = _softplus(np.float64(of_context[0, 0]))
    for s in range(points):
        smooth[s] = np.float32(multiplier) * (t[s] + change[0, s])


@dataclass(frozen=True)
class _Network:
    """What `_evaluate` needs to know about a network.

    Attributes
    ----------
    addresses : of its parameters when this was made.
    parameters : the same memory as arrays, in the order of evaluation. They see what is written into it, by
        whatever means, and keep it from being used for anything else, so that an address means one parameter.
    sizes : number of blocks, number of heads, width, and the inner widths of the SwiGLU layers.
    """

    addresses: list[int]
    parameters: list[np.ndarray]
    sizes: tuple[int, int, int, tuple[int, int, int, int, int]]

    @classmethod
    def of(cls, network: nn.Module, addresses: list[int]) -> "_Network":
        n_heads = network.blocks[0].attention.n_heads if network.blocks else 1
        ffn = network.blocks[0].ffn if network.blocks else None
        heads = [network.transformation_head, network.truncation_head, network.scaling_head]
        inner = tuple(-1 if mlp is None else mlp.gate_proj.out_features for mlp in [network.encoder.mlp, ffn, *heads])
        layers = [*network.encoder.mlp.children()]
        for block in network.blocks:
            layers += [block.qkv_proj, block.attention.o_proj, block.norm1, *block.ffn.children(), block.norm2]
        layers += [layer for head in heads if head is not None for layer in head.children()]
        parameters = [parameter.detach().numpy() for layer in layers for parameter in (layer.weight, layer.bias)]
        return cls(addresses, parameters, (len(network.blocks), n_heads, len(layers[2].bias), inner))


# Kept outside the networks, so that they are copied and saved without it.
_networks: WeakKeyDictionary[nn.Module, _Network] = WeakKeyDictionary()


def _described(network: nn.Module) -> _Network:
    """The network's description, remade if one of its parameters has moved."""
    addresses = _addresses(network)
    known = _networks.get(network)
    if known is None or known.addresses != addresses:
        known = _networks[network] = _Network.of(network, addresses)
    return known


def _addresses(module: nn.Module) -> list[int]:
    """The addresses of a module's parameters, recursively. `Module.parameters` takes five times as long."""
    modules = [module]
    for outer in modules:
        if outer._modules:
            modules += outer._modules.values()
    return [parameter.data_ptr() for inner in modules if inner._parameters for parameter in inner._parameters.values()]


def smooth_and_truncation(network: nn.Module, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`network.smooth_and_truncation(t, n)` up to rounding, for a `SamplingNetwork` in float32 on the CPU.

    There are no gradients, and no hooks of the modules are called. Rows are independent of each other, and are spread
    over as many threads as PyTorch may use.
    """
    described = _described(network)
    weights = np.concatenate(described.parameters, axis=None)
    points, counts = t.contiguous().numpy(), n.contiguous().numpy()
    smooth, truncation = np.empty_like(points), np.empty((len(points), 2), np.float32)
    arguments = (weights, *described.sizes, float(network.multiplier))
    for_each_row(lambda row: _evaluate(*arguments, points[row], counts[row], smooth[row], truncation[row]), len(t))
    scale, threshold = torch.from_numpy(truncation).split(1, dim=1)
    return torch.from_numpy(smooth), scale, threshold
