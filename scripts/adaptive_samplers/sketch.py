"""The distribution sketch: a few hundred support points that stand for a whole next-token distribution.

A permutation-equivariant sampler sees the vocabulary as a multiset of log-probabilities, so everything it computes is
a function of one log-probability and of sums `sum_i g(logp_i)`. A sketch keeps what such sums need: the `top` largest
log-probabilities as they are, and `tail` evenly spaced knots over the rest, each with a fractional count. A tail token
shares its unit count between its two neighboring knots in proportion to closeness. So the number of tokens and the sum
of their log-probabilities are kept, and `sum_k n_k g(t_k)` differs from the exact sum by at most
`max|g''| * spacing**2 / 8` for each tail token.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Some models write the most negative number of their data type where they mean minus infinity. No language
# model means a logit below this one, and a knot range that reached down there would resolve nothing.
MASKED_BELOW = -1e30

# Rows are sketched in blocks of about this many logits, which bounds the memory of the intermediate results.
BLOCK_ELEMENTS = 2**22


@dataclass(frozen=True)
class DistributionSketch:
    """Support points and counts of one or more next-token distributions.

    Attributes:
        t: log-probabilities of the support points in nats, `[..., S]` float32, descending.
        n: how many tokens each point stands for, `[..., S]` float32, fractional in the tail. A point with
            count 0 only fills up the row; it repeats a log-probability that the row contains.
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

        Args:
            logits: `[..., V]`, any floating type. Tokens at minus infinity (or below `MASKED_BELOW`) are left out.
            top: how many of the largest log-probabilities to keep exactly (at least 1).
            tail: how many knots to lay over the rest (at least 2).

        Returns:
            A sketch of shape `[..., top + tail]`, on the device of the logits.

        Raises:
            ValueError: a row holds NaN or plus infinity, or no token that is not masked.
        """
        rows = logits.reshape(-1, logits.shape[-1])
        block = max(1, BLOCK_ELEMENTS // max(1, rows.shape[-1]))
        sketches = [place_tokens(part, top, tail).sketch for part in rows.split(block)]
        shape = (*logits.shape[:-1], top + tail)
        t = torch.cat([sketch.t for sketch in sketches]).reshape(shape)
        n = torch.cat([sketch.n for sketch in sketches]).reshape(shape)
        return cls(t, n)

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
        """Probability of the tokens at or above `threshold` nats (a number or a tensor `[...]`), `[...]`."""
        threshold = torch.as_tensor(threshold, dtype=self.t.dtype, device=self.t.device)
        return self.expect(lambda t: (t >= threshold[..., None]).to(t.dtype))

    def quantile(self, mass: Tensor | float) -> Tensor:
        """The largest log-probability (nats) such that tokens at or above it hold at least `mass`, `[...]`."""
        mass = torch.as_tensor(mass, dtype=self.t.dtype, device=self.t.device)
        cumulative = (self.n * self.t.exp()).cumsum(-1)
        index = (cumulative < mass[..., None]).sum(-1, keepdim=True).clamp(max=self.t.shape[-1] - 1)
        return self.t.gather(-1, index).squeeze(-1)

    def to_tensors(self) -> dict[str, Tensor]:
        """The tensors to store, by name."""
        return {"t": self.t, "n": self.n}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "DistributionSketch":
        """The inverse of `to_tensors`."""
        return cls(tensors["t"], tensors["n"])


@dataclass(frozen=True)
class PlacedTokens:
    """A sketch together with where every token of the vocabulary lies on it.

    Attributes:
        sketch: the sketch, `[B, top + tail]`.
        top: how many of its points are exact; the knots follow them.
        masked: which tokens are left out, `[B, V]` bool.
        top_index: ids of the tokens that have a support point of their own, most probable first, `[B, min(top, V)]`.
        knot: for every other token the knot above it, counted from the first knot, `[B, V]` int64.
        fraction: how far it lies from that knot to the next, in `[0, 1]`, `[B, V]` float32.
    """

    sketch: DistributionSketch
    top: int
    masked: Tensor
    top_index: Tensor
    knot: Tensor
    fraction: Tensor

    def spread(self, values: Tensor) -> Tensor:
        """Carry a function of the log-probability from the support points `[B, S]` to all tokens `[B, V]`.

        The top tokens take the value of their own point; the others get it by linear interpolation between
        knots. What masked tokens get is finite and means nothing.
        """
        knots = values[:, self.top :]
        spread = torch.lerp(knots.gather(1, self.knot), knots.gather(1, self.knot + 1), self.fraction)
        return spread.scatter(1, self.top_index, values[:, : self.top_index.shape[1]])


def masked_log_softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities in float32 nats of logits `[..., V]`, minus infinity where masked, and the mask.

    Raises:
        ValueError: a row holds NaN or plus infinity, or no token that is not masked.
    """
    masked = logits <= MASKED_BELOW
    kept = logits.float().masked_fill(masked, -torch.inf)
    # PyTorch's log_softmax adds in one chain and loses 1e-4 nats on a flat vocabulary; its logsumexp loses 1e-6.
    log_probs = kept - kept.logsumexp(-1, keepdim=True)
    # Any of the three mistakes turns the whole row into NaN, so that its largest element tells.
    if not log_probs.amax(-1).isfinite().all():
        raise ValueError("logits hold NaN, plus infinity, or a row with every token masked")
    return log_probs, masked


def place_tokens(logits: Tensor, top: int, tail: int) -> PlacedTokens:
    """Sketch logits `[B, V]` and keep where each token lies; see `DistributionSketch.from_logits`."""
    if top < 1 or tail < 2:
        raise ValueError(f"a sketch needs at least 1 top point and 2 knots, not {top} and {tail}")
    log_probs, masked = masked_log_softmax(logits)
    vocabulary = log_probs.shape[-1]
    kept = min(top, vocabulary)
    smallest = log_probs.masked_fill(masked, torch.inf).amin(-1, keepdim=True)

    # One more than is kept, because the largest log-probability of the tail is where the knots begin.
    largest_values, largest_index = log_probs.topk(min(top + 1, vocabulary), dim=-1)
    top_index = largest_index[:, :kept]
    top_values = largest_values[:, :kept].maximum(smallest)
    top_counts = (~masked).gather(1, top_index).float()
    padding = top - kept
    top_values = torch.cat([top_values, smallest.expand(-1, padding)], dim=-1)
    top_counts = torch.nn.functional.pad(top_counts, (0, padding))

    # Where no tail is left, this and `smallest` coincide, and all knots with them.
    largest_of_tail = largest_values[:, -1:].maximum(smallest) if vocabulary > top else smallest
    in_tail = (~masked).scatter(1, top_index, False)
    steps = torch.linspace(0, 1, tail, device=logits.device)
    knots = torch.lerp(largest_of_tail, smallest, steps)
    spacing = (largest_of_tail - smallest) / (tail - 1)
    position = (largest_of_tail - log_probs) / torch.where(spacing > 0, spacing, 1.0)
    position = position.clamp(0, tail - 1)
    knot = position.long().clamp(max=tail - 2)
    fraction = position - knot

    # Whole tokens and fractions are summed apart and in float64: in float32, a hundred thousand equal
    # fractions added one by one would all be rounded the same way.
    tokens = torch.zeros(knots.shape, dtype=torch.float64, device=logits.device)
    tokens.scatter_add_(1, knot, in_tail.double())
    moved_down = torch.zeros_like(tokens).scatter_add_(1, knot, fraction.double() * in_tail)
    tail_counts = tokens - moved_down + moved_down.roll(1, dims=1)

    t = torch.cat([top_values, knots], dim=-1)
    n = torch.cat([top_counts, tail_counts.float()], dim=-1)
    return PlacedTokens(DistributionSketch(t, n), top, masked, top_index, knot, fraction)
