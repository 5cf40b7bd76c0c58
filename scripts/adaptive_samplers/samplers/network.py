"""The sampling network: a small transformer over the vocabulary as a set, with linear attention."""

from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, softplus

from adaptive_samplers.samplers.base import AdaptiveSampler, SwiGLU

# The modules that evaluate the network on knots faster than PyTorch, by kind of device.
NETWORKS = {"cpu": "numba_network", "cuda": "triton_network"}

# As in the architecture's definition; it keeps the quotient of linear attention finite.
ATTENTION_EPSILON = 1e-6


class Encoder(nn.Module):
    """Features `[B, S, d_model]` of log-probabilities `[B, S]`, each on its own."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.mlp = SwiGLU(1, d_model, d_model)

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(t[..., None])


class LinearAttention(nn.Module):
    """Non-causal linear attention over weighted points, feature map `elu + 1` (Katharopoulos et al., 2020).

    A point with count n enters both sums as n equal tokens would, so the cost is `O(S d_model**2 / n_heads)`
    however large the vocabulary.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.o_proj = nn.Linear(d_model, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, n: Tensor) -> Tensor:
        query = elu(self._split_heads(query)) + 1
        key = (elu(self._split_heads(key)) + 1) * n[:, None, :, None]
        context = key.transpose(-2, -1) @ self._split_heads(value)
        normalizer = query @ key.sum(-2)[..., None]
        attended = (query @ context) / (normalizer + ATTENTION_EPSILON)
        return self.o_proj(attended.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        """`[B, S, d_model]` to `[B, n_heads, S, d_model / n_heads]`."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Linear attention and a SwiGLU layer, each with a residual connection and a LayerNorm after it."""

    def __init__(self, d_model: int, d_ff: int, n_heads: int) -> None:
        super().__init__()
        self.qkv_proj = nn.Linear(d_model, 3 * d_model)
        self.attention = LinearAttention(d_model, n_heads)
        self.ffn = SwiGLU(d_model, d_ff, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)

    def forward(self, h: Tensor, n: Tensor) -> Tensor:
        query, key, value = self.qkv_proj(h).chunk(3, dim=-1)
        h = self.norm1(h + self.attention(query, key, value, n))
        return self.norm2(h + self.ffn(h))


class SamplingNetwork(AdaptiveSampler):
    """A transformer over the set of log-probabilities; sums over the vocabulary are sums weighted by count.

    It sees the whole distribution, so it can approximate top-k, top-p and typical sampling too.

    Parameters
    ----------
    d_model : features per log-probability.
    d_ff : hidden features of a block's SwiGLU layer.
    n_blocks : number of blocks.
    n_heads : attention heads; they divide `d_model`.
    scale : multiply the smooth part by a learned positive function of the distribution, as a temperature
        does; without it the multiplier is `multiplier`.
    multiplier : that constant. The published reference networks without a scaling head have softplus(1).

    Raises
    ------
    UserError
        An argument is out of its limits (`definitions`), or `n_heads` does not divide `d_model`.
    """

    # A knot costs as much as a token does in the evaluation of the whole vocabulary.
    stride = 4

    def __init__(
        self,
        d_model: int = 32,
        d_ff: int = 64,
        n_blocks: int = 4,
        n_heads: int = 4,
        scale: bool = True,
        *,
        multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(d_model)
        self.blocks = nn.ModuleList(Block(d_model, d_ff, n_heads) for _ in range(n_blocks))
        self.transformation_head = SwiGLU(2 * d_model, d_model, 1)
        self.truncation_head = SwiGLU(d_model, d_model // 2, 2)
        self.scaling_head = SwiGLU(d_model, d_model // 2, 1) if scale else None
        self.multiplier = multiplier

    def smooth_and_truncation(self, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(t)
        for block in self.blocks:
            h = block(h, n)
        # A sum rather than a matrix product, which costs 5e-3 of accuracy over a whole vocabulary in float32.
        context = (n[..., None] * h).sum(1) / n.sum(-1, keepdim=True)
        features = torch.cat([h, context[:, None].expand_as(h)], dim=-1)
        smooth = t + self.transformation_head(features).squeeze(-1)
        if self.scaling_head is not None:
            smooth = softplus(self.scaling_head(context)) * smooth
        else:
            smooth = self.multiplier * smooth
        scale, threshold = softplus(self.truncation_head(context)).split(1, dim=-1)
        return smooth, scale, threshold

    def _compiled_for(self, passes: ModuleType) -> ModuleType | None:
        # Not `_dtype`, which takes longer than this may.
        is_single = self.encoder.mlp.gate_proj.weight.dtype == torch.float32
        if not is_single or not self._is_as_defined() or not passes.__name__.endswith(".numba_passes"):
            return None
        return _compiled_module("numba_decoding")

    def _evaluate(self, t: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        name = NETWORKS.get(t.device.type) if t.dtype == torch.float32 and self._is_as_defined() else None
        compiled = _compiled_module(name) if name else None
        if compiled is None or not compiled.fits(self):
            return super()._evaluate(t, n)
        return compiled.smooth_and_truncation(self, t, n)

    def _is_as_defined(self) -> bool:
        """Whether the method has not been replaced, for example by torch.compile or in a subclass."""
        of_class = type(self).smooth_and_truncation is SamplingNetwork.smooth_and_truncation
        return of_class and "smooth_and_truncation" not in vars(self)


@cache
def _compiled_module(name: str) -> ModuleType | None:
    """What is compiled of this architecture, imported on first use, or None if its package is missing."""
    try:
        return import_module(f"adaptive_samplers.samplers.passes.{name}")
    except ImportError:  # the passes, which need the same package, have warned about it
        return None
