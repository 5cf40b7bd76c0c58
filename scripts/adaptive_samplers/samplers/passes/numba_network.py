"""`SamplingNetwork.smooth_and_truncation` compiled for the CPU by numba, one row of points at a time.

For one row, PyTorch spends most of its time launching a hundred and fifty small operations, not on arithmetic.

Values are held feature by feature, `[features, S]`, so that inner loops run along the points: they are vectorized
whatever the network's width, only sums over the points go across a vector, and the weights are read as PyTorch stores
them. They form one tape: those of a layer begin where those of the previous layer end.
"""

import math
from dataclasses import dataclass
from itertools import chain
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_samplers.compiled import OPTIONS, for_each_row
from adaptive_samplers.numba_cache import njit
from adaptive_samplers.samplers.passes.numba_passes import ONE, ZERO, exp

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
def _attention(weights, place, h, n, n_heads, contexts, fresh, out):
    """See `network.LinearAttention`, with the projection before it.

    A head's queries are multiplied by its context `[width + 1, width]`, which has the sums of the keys in a last row:
    that gives the normalizer. Contexts are sums over the points; those that are not `fresh` were computed before.
    """
    d_model, points = h.shape
    width = d_model // n_heads
    projected = np.empty((3 * d_model, points), np.float32)
    place = _linear(weights, place, h, projected)
    query, key, value = projected[:d_model], projected[d_model : 2 * d_model], projected[2 * d_model :]
    _map_features(query)
    if fresh:
        _map_features(key)
        for j in range(d_model):
            for s in range(points):
                value[j, s] *= n[s]
    no_bias = np.zeros(width + 1, np.float32)
    with_normalizer, attended = np.empty((width + 1, points), np.float32), np.empty((d_model, points), np.float32)
    for head in range(n_heads):
        first, context = head * width, contexts[head]
        if fresh:
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
def _evaluate(weights, sizes, multiplier, t, n, sums, fresh, smooth, truncation):
    """Fill one row's smooth part `[S]`, and the truncation's scale and threshold.

    `sizes` are number of blocks, number of heads, width, and the inner widths of the encoder, of a block's SwiGLU
    layer, and of the heads for transformation, truncation and scale; the last is negative where there is none and
    `multiplier` holds instead. Points influence each other only through sums over them: a block's contexts, and the
    means at the end, where the multiplier stands too. If not `fresh`, the `sums` of an earlier call hold instead, and
    the truncation is left as that call filled it.
    """
    n_blocks, n_heads, d_model, encoder_inner, ffn_inner, transformation_inner, truncation_inner, scale_inner = sizes
    contexts, means = sums
    points = t.size
    # The means follow a point's own features, as the transformation head expects.
    features, update = np.empty((2 * d_model, points), np.float32), np.empty((d_model, points), np.float32)
    h = features[:d_model]
    # Not a plain 0, for which numba would compile everything again.
    place = _swiglu(weights, np.int64(0), t.reshape((1, points)), encoder_inner, h)
    for block in range(n_blocks):
        place = _attention(weights, place, h, n, n_heads, contexts[block], fresh, update)
        place = _add_and_normalize(weights, place, h, update)
        place = _swiglu(weights, place, h, ffn_inner, update)
        place = _add_and_normalize(weights, place, h, update)
    if fresh:
        tokens = 0.0
        for s in range(points):
            tokens += n[s]
        for j in range(d_model):
            means[j] = _dot(n, h[j]) / tokens
    for j in range(d_model):
        for s in range(points):
            features[d_model + j, s] = means[j]
    change = np.empty((1, points), np.float32)
    place = _swiglu(weights, place, features, transformation_inner, change)
    if fresh:
        of_means = np.empty((2, 1), np.float32)
        mean = means[:d_model].reshape((d_model, 1))
        place = _swiglu(weights, place, mean, truncation_inner, of_means)
        for i in range(2):
            truncation[i] = _softplus(np.float64(of_means[i, 0]))
        means[d_model] = np.float32(multiplier)
        if scale_inner >= 0:
            _swiglu(weights, place, mean, scale_inner, of_means[:1])
            means[d_model] = np.float32(_softplus(np.float64(of_means[0, 0])))
    for s in range(points):
        smooth[s] = means[d_model] * (t[s] + change[0, s])


@njit(**OPTIONS)
def _no_sums(sizes):
    """Room for what `_evaluate` sums over the points."""
    n_blocks, n_heads, d_model = sizes[:3]
    width = d_model // n_heads
    return np.empty((n_blocks, n_heads, width + 1, width), np.float32), np.empty(d_model + 1, np.float32)


@dataclass(frozen=True)
class _Network:
    """What `_evaluate` needs to know about a network.

    Attributes
    ----------
    outer : the dictionaries of submodules, of the network and of those that have some.
    modules : what these held when this was made.
    holders : the dictionaries of parameters.
    addresses : of the parameters when this was made.
    parameters : the same memory as arrays, in the order of evaluation. They see what is written into it, by
        whatever means, and keep it from being used for anything else, so that an address means one parameter.
    axis : by which `np.concatenate` makes the tape of them.
    tape : room for it.
    sizes : see `_evaluate`.
    """

    outer: list[dict[str, nn.Module | None]]
    modules: list[nn.Module | None]
    holders: list[dict[str, nn.Parameter]]
    addresses: list[int]
    parameters: list[np.ndarray]
    axis: int | None
    tape: np.ndarray
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, network: nn.Module) -> "_Network":
        n_heads = network.blocks[0].attention.n_heads if network.blocks else 1
        ffn = network.blocks[0].ffn if network.blocks else None
        heads = [network.transformation_head, network.truncation_head, network.scaling_head]
        inner = tuple(-1 if mlp is None else mlp.gate_proj.out_features for mlp in [network.encoder.mlp, ffn, *heads])
        layers = [*network.encoder.mlp.children()]
        for block in network.blocks:
            layers += [block.qkv_proj, block.attention.o_proj, block.norm1, *block.ffn.children(), block.norm2]
        layers += [layer for head in heads if head is not None for layer in head.children()]
        parameters = [parameter.detach() for layer in layers for parameter in (layer.weight, layer.bias)]
        # Flat arrays are put together faster, but what is not contiguous would be copied once and for all.
        flat = all(parameter.is_contiguous() for parameter in parameters)
        outer = [module._modules for module in network.modules() if module._modules]
        holders = [module._parameters for module in network.modules() if module._parameters]
        return cls(
            outer,
            _values(outer),
            holders,
            _addresses(holders),
            [(parameter.flatten() if flat else parameter).numpy() for parameter in parameters],
            0 if flat else None,
            np.empty(sum(parameter.numel() for parameter in parameters), np.float32),
            (len(network.blocks), n_heads, len(layers[2].bias), *inner),
        )

    def holds(self) -> bool:
        """Whether no module has been replaced and no parameter has moved. `Module.parameters` takes far longer."""
        return _values(self.outer) == self.modules and _addresses(self.holders) == self.addresses


def _values(dictionaries: list[dict]) -> list:
    return [*chain.from_iterable(dictionary.values() for dictionary in dictionaries)]


def _addresses(holders: list[dict[str, nn.Parameter]]) -> list[int]:
    return [parameter.data_ptr() for holder in holders for parameter in holder.values()]


# Kept outside the networks, so that they are copied and saved without it.
_networks: WeakKeyDictionary[nn.Module, _Network] = WeakKeyDictionary()


def network_of(network: nn.Module) -> tuple[np.ndarray, tuple[int, ...], float]:
    """The weights, sizes and multiplier with which to call `_evaluate`, as they are now."""
    known = _networks.get(network)
    if known is None or not known.holds():
        known = _networks[network] = _Network.of(network)
    np.concatenate(known.parameters, axis=known.axis, out=known.tape)
    return known.tape, known.sizes, float(network.multiplier)


def fits(network: nn.Module) -> bool:
    """Whether the functions can evaluate this network: any `SamplingNetwork`."""
    return True


def smooth_and_truncation(network: nn.Module, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`network.smooth_and_truncation(t, n)` up to rounding, for a `SamplingNetwork` in float32 on the CPU.

    There are no gradients, and no hooks of the modules are called. Rows are independent of each other, and are spread
    over as many threads as PyTorch may use.
    """
    weights, sizes, multiplier = network_of(network)
    points, counts = t.contiguous().numpy(), n.contiguous().numpy()
    smooth, truncation = np.empty_like(points), np.empty((len(points), 2), np.float32)

    def evaluate(row: int) -> None:
        sums = _no_sums(sizes)
        _evaluate(weights, sizes, multiplier, points[row], counts[row], sums, True, smooth[row], truncation[row])

    for_each_row(evaluate, len(t))
    scale, threshold = torch.from_numpy(truncation).split(1, dim=1)
    return torch.from_numpy(smooth), scale, threshold
