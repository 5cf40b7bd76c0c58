"""The distribution sketch: a few hundred support points that stand for a whole next-token distribution.

A permutation-equivariant sampler sees the vocabulary as a multiset of log-probabilities, so everything it computes is
a function of one log-probability and of sums `sum_i g(logp_i)`. A sketch keeps what such sums need. The tokens, most
probable first, are cut into groups of neighbors; a support point is the logarithm of a group's mean probability, with
the number of its tokens. The `top` most probable tokens are groups of their own. So the number of tokens and their
probability are kept, ranks are known at every group's end, and a sum differs from the exact one by an amount of the
order of the square of a group's width in nats (docs/measurements.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from adaptive_samplers import sketch_passes_portable
from adaptive_samplers.compiled import fastest_passes
from adaptive_samplers.logits import sorted_log_probs
from adaptive_samplers.sketch_passes_portable import group_numbers, merge

# By kind of device, with the package that it needs.
FAST_PASSES = {"cpu": ("adaptive_samplers.sketch_passes", "numba")}

# Rows are sketched in blocks of about this many logits, which bounds the memory of the intermediate results.
BLOCK_ELEMENTS = 2**22


@dataclass(frozen=True)
class DistributionSketch:
    """Support points and counts of one or more next-token distributions.

    Attributes
    ----------
    t : log-probabilities of the support points in nats, `[..., S]` float32, descending.
    n : how many tokens each point stands for, `[..., S]` float32. A point with count 0 only fills up the
        row; it repeats a log-probability that the row contains.
    """

    t: Tensor
    n: Tensor

    def __post_init__(self) -> None:
        if self.t.shape != self.n.shape:
            raise ValueError(
                f"log-probabilities {tuple(self.t.shape)} and counts {tuple(self.n.shape)} differ in shape"
            )

    @classmethod
    def from_logits(cls, logits: Tensor, top: int, tail: int) -> "DistributionSketch":
        """Sketch the distributions `softmax(logits)`.

        The groups of the tail share its probability and its range of log-probabilities: each has at most `2 / tail`
        of the one and spans at most `2 / tail` of the other, unless a single token has more.

        Parameters
        ----------
        logits : `[..., V]`, any floating type. Tokens at minus infinity (or below `MASKED_BELOW`) are left out.
        top : how many of the most probable tokens to keep exactly (at least 1).
        tail : how many groups to make of the rest (at least 2).

        Returns
        -------
        A sketch of shape `[..., top + tail]`, on the device of the logits.

        Raises
        ------
        ValueError
            A row holds NaN or plus infinity, or no token that is not masked.
        """
        if top < 1 or tail < 2:
            raise ValueError(f"a sketch needs at least 1 top point and 2 groups, not {top} and {tail}")
        passes = _passes_for(logits.device.type)
        return _in_blocks(logits, lambda rows: DistributionSketch(*passes.sketch_logits(rows, top, tail)))

    @classmethod
    def from_distinct_values(cls, logits: Tensor) -> "DistributionSketch":
        """The lossless sketch: a point for each distinct logit.

        Useful if there are few, as among the logits of a model in bfloat16: about 3,000 in a vocabulary of
        128,000. Arguments, devices and errors are those of `from_logits`; the number of points is that of the row
        with the most.
        """

        def sketch(rows: Tensor) -> DistributionSketch:
            s = sorted_log_probs(rows)
            steps = (s[:, 1:] < s[:, :-1]) & s[:, 1:].isfinite()
            number = torch.nn.functional.pad(steps.cumsum(-1), (1, 0))
            return DistributionSketch(*merge(s, s.isfinite().double(), number, int(number.amax()) + 1))

        return _in_blocks(logits, sketch)

    @property
    def log_probs(self) -> Tensor:
        """Log-probabilities of the support points, nats, `[..., S]`."""
        return self.t

    @property
    def total_count(self) -> Tensor:
        """Number of tokens that are not masked, `[...]`."""
        return self.n.sum(-1)

    def expect(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The expectation of `function(log-probability)` under the distribution, `[...]`."""
        return (self.n * self.t.exp() * function(self.t)).sum(-1)

    def entropy(self) -> Tensor:
        """Shannon entropy in nats, `[...]`."""
        return -self.expect(lambda t: t)

    def max(self) -> Tensor:
        """The largest log-probability in nats, `[...]`."""
        return self.t[..., 0]

    def mass_above(self, threshold: Tensor | float) -> Tensor:
        """Probability of the points at or above `threshold` nats (a number or a tensor `[...]`), `[...]`."""
        threshold = torch.as_tensor(threshold, dtype=self.t.dtype, device=self.t.device)
        return self.expect(lambda t: (t >= threshold[..., None]).to(t.dtype))

    def quantile(self, mass: Tensor | float) -> Tensor:
        """The largest log-probability (nats) such that points at or above it hold at least `mass`, `[...]`."""
        mass = torch.as_tensor(mass, dtype=self.t.dtype, device=self.t.device)
        cumulative = (self.n * self.t.exp()).cumsum(-1)
        index = (cumulative < mass[..., None]).sum(-1, keepdim=True).clamp(max=self.t.shape[-1] - 1)
        return self.t.gather(-1, index).squeeze(-1)

    def resample(self, top: int, tail: int) -> "DistributionSketch":
        """A coarser sketch, `[..., top + tail]`: of the points below the first `top`, neighbors are merged.

        Raises
        ------
        ValueError
            Fewer than 1 top point or 2 groups are requested, or more points than there are.
        """
        points = self.t.shape[-1]
        if top < 1 or tail < 2 or top + tail > points:
            raise ValueError(f"cannot make {top} top points and {tail} groups of {points} points")
        t, n = self.t.reshape(-1, points), self.n.reshape(-1, points).double()
        shape = (*self.t.shape[:-1], top + tail)
        points, counts = merge(t, n, group_numbers(t, n, top, tail), top + tail)
        return DistributionSketch(points.reshape(shape), counts.reshape(shape))

    def to_tensors(self) -> dict[str, Tensor]:
        """The tensors to store, by name."""
        return {"t": self.t, "n": self.n}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "DistributionSketch":
        """The inverse of `to_tensors`."""
        return cls(tensors["t"], tensors["n"])


def _in_blocks(logits: Tensor, sketch: Callable[[Tensor], DistributionSketch]) -> DistributionSketch:
    """Sketch logits `[..., V]` block by block of rows; rows with fewer points are filled up."""
    rows = logits.reshape(-1, logits.shape[-1])
    block = max(1, BLOCK_ELEMENTS // max(1, rows.shape[-1]))
    parts = [sketch(part) for part in rows.split(block)]
    points = max(part.t.shape[-1] for part in parts)
    shape = (*logits.shape[:-1], points)

    def fill(values: Tensor, last: Tensor) -> Tensor:
        return torch.cat([values, last.expand(-1, points - values.shape[-1])], dim=-1)

    t = torch.cat([fill(part.t, part.t[:, -1:]) for part in parts])
    n = torch.cat([fill(part.n, torch.zeros_like(part.n[:, -1:])) for part in parts])
    return DistributionSketch(t.reshape(shape), n.reshape(shape))


@cache
def _passes_for(kind: str) -> ModuleType:
    return fastest_passes(sketch_passes_portable, FAST_PASSES, "Sketches of distributions", kind)
