"""The distribution sketch: a few hundred support points that stand for a whole next-token distribution.

A permutation-equivariant sampler sees the vocabulary as a multiset of log-probabilities, so everything it computes is
a function of one log-probability and of sums `sum_i g(logp_i)`. A sketch keeps what such sums need. The tokens, most
probable first, are cut into groups of neighbors; a support point is the logarithm of a group's mean probability, with
the number of its tokens. The `top` most probable tokens are groups of their own. So the number of tokens and their
probability are kept, ranks are known at every group's end, and a sum differs from the exact one by an amount of the
order of the square of a group's width in nats (docs/measurements.md).
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers import sketch_passes_portable
from adaptive_samplers.compiled import compiled_or
from adaptive_samplers.sketch_passes_portable import group_numbers, merge

# Some models write the most negative number of their data type where they mean minus infinity. No language
# model means a logit below this one, and a range of log-probabilities that reached down there would resolve nothing.
MASKED_BELOW = -1e30

# Others ban tokens with -1e4, or float16's most negative number. A token this many nats less probable than the first
# has no probability even in float64: a network does not see it, as if it were masked.
BANNED_DEPTH = 1000.0

# Rows are sketched in blocks of about this many logits, which bounds the memory of the intermediate results.
BLOCK_ELEMENTS = 2**22
SHARED_SORT = 2**18  # so many logits, some milliseconds of work, are sorted by all of torch's threads


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
        return _in_blocks(logits, lambda rows: _sketch_sorted(sorted_log_probs(rows), top, tail))

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


def check_rows(largest: Tensor) -> None:
    """Refuse rows that are not distributions, by the largest element or the log-sum-exp `[B]` of their logits.

    Raises
    ------
    ValueError
        A row holds NaN or plus infinity, or no token that is not masked; it says which one.
    """
    # Any of the three mistakes shows in the whole row.
    if not (largest.isfinite() & (largest > MASKED_BELOW)).all():
        values = largest.flatten().tolist()
        row = next(row for row, value in enumerate(values) if not MASKED_BELOW < value < math.inf)
        if values[row] <= MASKED_BELOW:
            raise ValueError(
                f"row {row} of the logits has every token masked, at minus infinity or below {MASKED_BELOW:g}: leave "
                "at least one to draw"
            )
        raise ValueError(
            f"row {row} of the logits holds NaN or plus infinity, or a number beyond float32: the model's data type "
            "may have overflowed; run it in bfloat16 or float32"
        )


def mask_and_check(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits `[..., V]` with minus infinity where masked, the mask, and their log-sum-exp `[..., 1]`.

    They are float64 where the logits are, else float32.

    Raises
    ------
    ValueError
        A row holds NaN or plus infinity, or no token that is not masked.
    """
    masked = logits <= MASKED_BELOW
    kept = logits.to(torch.promote_types(logits.dtype, torch.float32)).masked_fill(masked, -torch.inf)
    log_normalizer = kept.logsumexp(-1, keepdim=True)
    check_rows(log_normalizer)
    return kept, masked, log_normalizer


def masked_log_softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities in nats of logits `[..., V]`, minus infinity where masked, and the mask.

    Precision and errors are those of `mask_and_check`.
    """
    kept, masked, log_normalizer = mask_and_check(logits)
    # PyTorch's log_softmax adds in one chain and loses 1e-4 nats on a flat vocabulary; its logsumexp loses 1e-6.
    return kept - log_normalizer, masked


def sorted_log_probs(logits: Tensor) -> Tensor:
    """Log-probabilities of logits `[B, V]` in descending order, float32 nats; masked tokens last, at minus infinity.

    Raises
    ------
    ValueError
        A row holds NaN or plus infinity, or no token that is not masked.
    """
    log_probs, _ = masked_log_softmax(logits)
    if log_probs.device.type != "cpu":
        return log_probs.sort(-1, descending=True).values
    # PyTorch sorts numbers together with their indices; NumPy sorts them alone with vector instructions, on one core.
    negated = log_probs.neg().numpy()
    threads = min(torch.get_num_threads(), len(negated))
    if threads > 1 and negated.size >= SHARED_SORT:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(np.ndarray.sort, np.array_split(negated, threads)))
    else:
        negated.sort()
    return torch.from_numpy(negated).neg_()


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


def _sketch_sorted(s: Tensor, top: int, tail: int) -> DistributionSketch:
    """Sketch sorted log-probabilities `[B, V]`."""
    passes = sketch_passes_portable if s.device.type != "cpu" else _compiled()
    return DistributionSketch(*passes.sketch_sorted(s, top, tail))


@lru_cache(maxsize=1)
def _compiled() -> ModuleType:
    return compiled_or(
        sketch_passes_portable, "adaptive_samplers.sketch_passes", "numba", "Sketches of distributions", "the CPU"
    )
