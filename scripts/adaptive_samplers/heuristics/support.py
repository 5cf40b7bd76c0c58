"""The distribution that heuristics see: logits in descending order, and how many tokens share each of them.

The full vocabulary is the case of one token a point. In a `DistributionSketch` a point may stand for a group of tokens
of about equal log-probability; a cut inside a group keeps a part of its tokens. Its tokens are taken as evenly spread
over a span of logits, which borders on the spans of the groups above and below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Halvings of the distance up to which tokens of groups are kept: 30 nats shrink to float32's resolution.
HALVINGS = 26


@dataclass(frozen=True)
class Support:
    """One distribution per row.

    Attributes
    ----------
    t : Tensor [R, S]
        Logits in nats, up to a constant per row, in descending order; -inf where no token is left.
    n : Tensor [R, S]
        How many tokens of each point are left, integers as float32.
    span : pair of Tensors [R, S], or None
        The largest and smallest logit of the tokens that are left at each point; None for a full vocabulary.
    """

    t: Tensor
    n: Tensor
    span: tuple[Tensor, Tensor] | None

    @classmethod
    def of(cls, t: Tensor, n: Tensor | None = None) -> Support:
        """The support with logits `t` in descending order and counts `n`; what is -inf or has no count is left out.

        Without counts, every point is one token: a full vocabulary.
        """
        there = torch.isfinite(t)
        n_left = there.float() if n is None else torch.where(there, n, 0.0)
        t = t.masked_fill(n_left <= 0, -math.inf)
        return cls(t, n_left, None if n is None else _spans(t, n_left))

    def rows(self, index: list[int]) -> Support:
        """Some of the distributions."""
        return Support(self.t[index], self.n[index], self.span and (self.span[0][index], self.span[1][index]))

    def take(self, order: Tensor) -> Support:
        """The points in another order, `[R, S]` int64."""
        tensors = [tensor.gather(-1, order) for tensor in (self.t, self.n, *(self.span or ()))]
        return Support(tensors[0], tensors[1], (tensors[2], tensors[3]) if self.span else None)

    def to(self, dtype: torch.dtype) -> Support:
        """The same with logits in another type of numbers."""
        return Support(self.t.to(dtype), self.n, self.span and (self.span[0].to(dtype), self.span[1].to(dtype)))

    @cached_property
    def largest(self) -> Tensor:
        """The largest logit, `[R, 1]`."""
        return self.t.amax(-1, keepdim=True)

    @cached_property
    def highest(self) -> Tensor:
        """The largest probability of one token, `[R, 1]`."""
        return self.probabilities.amax(-1, keepdim=True)

    @cached_property
    def count(self) -> Tensor:
        """How many tokens are left, `[R, 1]`."""
        return self.n.sum(-1, keepdim=True)

    @cached_property
    def probabilities(self) -> Tensor:
        """The probability of one token at each point, `[R, S]`; 0 where none is left."""
        return self._weights / self._total

    @cached_property
    def log_probs(self) -> Tensor:
        """The same as log-probabilities in nats, `[R, S]`; -inf where no token is left."""
        return self.t - self._log_total

    @cached_property
    def masses(self) -> Tensor:
        """The probability of the tokens of each point together, `[R, S]`."""
        return self._of_all(self.probabilities)

    @cached_property
    def information(self) -> Tensor:
        """What the tokens of each point contribute to the entropy, `-n p log p` in nats, `[R, S]`."""
        return -self._of_all(torch.xlogy(self.probabilities, self.probabilities))

    @cached_property
    def mass_upto(self) -> Tensor:
        """The probability of the tokens of each point and of all above it, `[R, S]`."""
        return self.masses.cumsum(-1)

    @cached_property
    def information_upto(self) -> Tensor:
        """What the tokens of each point and all above it contribute to the entropy, in nats, `[R, S]`."""
        return self.information.cumsum(-1)

    @cached_property
    def entropy(self) -> Tensor:
        """Shannon entropy in nats, `[R, 1]`."""
        return self.information.sum(-1, keepdim=True).clamp(min=0)

    @cached_property
    def collision(self) -> Tensor:
        """The probability that two draws agree, `sum p^2`, `[R, 1]`."""
        return self._of_all(self.probabilities**2).sum(-1, keepdim=True)

    @cached_property
    def deviation(self) -> Tensor:
        """The standard deviation of the logits of all tokens that are left, each counted once, `[R, 1]`."""
        t = torch.where(self.n > 0, self.t, 0.0)
        mean = (self.n * t).sum(-1, keepdim=True) / self.count
        square = (t - mean) ** 2
        if self.span is not None:
            high, low = self.span
            square = torch.where(self._is_group, square + (high - low) ** 2 / 12, square)
        return ((self.n * square).sum(-1, keepdim=True) / self.count).sqrt()

    @cached_property
    def _weights(self) -> Tensor:
        return torch.exp(self.t - self.largest)

    @cached_property
    def _total(self) -> Tensor:
        return self._of_all(self._weights).sum(-1, keepdim=True)

    def _of_all(self, values: Tensor) -> Tensor:
        """Values of one token at each point, 0 where none is left, times the number of tokens there."""
        return values if self.span is None else self.n * values

    @cached_property
    def _log_total(self) -> Tensor:
        return self.largest + self._total.log()

    def map(self, function: Callable[[Tensor], Tensor]) -> Support:
        """Apply a function that preserves order to every logit."""
        t = function(self.t).masked_fill(self.n <= 0, -math.inf)
        return Support(t, self.n, self.span and (function(self.span[0]), function(self.span[1])))

    def divide(self, temperature: Tensor) -> Support:
        """Divide every logit by a temperature `[R, 1]` above 0."""
        return self.map(lambda logits: logits / temperature)

    def keep_above(self, logit: Tensor) -> Support:
        """Keep the tokens with at least the logit `[R, 1]`, and the most probable ones whatever it is."""
        return self._keep_between(self.t >= torch.minimum(logit, self.largest), logit)

    def keep_probable(self, probability: Tensor) -> Support:
        """Keep the tokens with at least the probability `[R, 1]`, and the most probable ones whatever it is."""
        logit = probability.clamp(min=0).log() + self._log_total
        return self._keep_between(self.probabilities >= torch.minimum(probability, self.highest), logit)

    def keep_relative(self, share: Tensor) -> Support:
        """Keep the tokens with at least the share `[R, 1]`, up to 1, of the largest probability."""
        return self.keep_probable(share * self.highest)

    def keep_first(self, count: Tensor) -> Support:
        """Keep the `count` [R, 1] most probable tokens and what ties with the last of them."""
        upto = self.n.cumsum(-1)
        last = (upto >= torch.minimum(count, upto[..., -1:])).to(torch.uint8).argmax(-1, keepdim=True)
        ties = self.t >= self.t.gather(-1, last)
        if self.span is None:
            return self._keep_upper(torch.where(ties, self.n, 0.0))
        # Which tokens of a group are equal is not known.
        ties &= ~self._is_group.gather(-1, last)
        return self._keep_upper(torch.where(ties, self.n, (count - upto + self.n).clamp(min=0).minimum(self.n)))

    def keep_at_most(self, count: int) -> Support:
        """Keep the `count` most probable tokens, and of equal ones as many as fit."""
        return self._keep_upper((count - self.n.cumsum(-1) + self.n).clamp(min=0).minimum(self.n))

    def keep_mass(self, mass: Tensor) -> Support:
        """Keep the fewest most probable tokens that hold the mass `[R, 1]`; always one.

        The rest, which holds no more than 1 minus the mass, is summed from the least probable token up: sums from the
        other end reach 1 before the least probable tokens add to them.
        """
        from_below = self.masses.flip(-1).cumsum(-1)
        # The sum of all has the first token that is left, which is kept even where the mass is 0.
        most = torch.minimum(1 - mass, from_below[..., -1:] * (1 - 1e-12))
        if self.span is None:
            return self._keep_upper(torch.where((from_below > most).flip(-1), self.n, 0.0))
        tiny = torch.finfo(self.t.dtype).tiny
        room = (from_below.flip(-1) - most) / self.probabilities.clamp(min=tiny)
        return self._keep_upper(room.ceil().clamp(min=0).minimum(self.n))

    def keep_while(self, growing: Tensor, bound: Tensor) -> Support:
        """Keep the most probable tokens for as long as a quantity is at most `bound` [R, 1]; always one.

        `growing` [R, S], at least 0, is the quantity of all tokens up to and at each point. It must not fall along the
        support, and is taken to grow evenly inside a group.
        """
        kept = torch.where(growing <= bound, self.n, 0.0)
        if self.span is not None:
            before = torch.nn.functional.pad(growing[..., :-1], (1, 0))
            share = (bound - before) / (growing - before).clamp(min=torch.finfo(growing.dtype).tiny)
            kept = torch.where(growing <= bound, kept, (share.clamp(0, 1) * self.n).floor())
        return self._keep_upper(self._with_the_first(kept))

    def keep_nearest(self, log_prob: Tensor, mass: Tensor) -> Support:
        """Keep the tokens whose log-probability is nearest to `log_prob` [R, 1], as few as hold the mass `[R, 1]`.

        Tokens that are equally near are kept together.
        """
        distance = (self.log_probs - log_prob).abs()
        center = log_prob + self._log_total
        if self.span is None:
            order = distance.argsort(-1)
            masses = self.masses.gather(-1, order).cumsum(-1)
            last = (masses < mass).sum(-1, keepdim=True).clamp(max=self.t.shape[-1] - 1)
            reach = distance.gather(-1, order).gather(-1, last)
            return self._keep_between(distance <= reach, center - reach, center + reach)
        # The mass within a distance grows with it: the shortest that suffices is found by halving.
        short = torch.zeros_like(log_prob)
        reach = distance.masked_fill(self.n <= 0, 0.0).amax(-1, keepdim=True) + 1
        for _ in range(HALVINGS):
            middle = (short + reach) / 2
            kept = self._count_between(distance <= middle, center - middle, center + middle)
            enough = (kept * self.probabilities).sum(-1, keepdim=True) >= mass
            short, reach = torch.where(enough, short, middle), torch.where(enough, middle, reach)
        return self._keep_between(distance <= reach, center - reach, center + reach)

    def _with_the_first(self, kept: Tensor) -> Tensor:
        """How many tokens of each point are kept, and at least the most probable of those that are left."""
        is_first = self.n.cumsum(-1) <= self.n
        return torch.where(is_first, kept.maximum(self.n.clamp(max=1)), kept)

    @cached_property
    def _is_group(self) -> Tensor:
        high, low = self.span
        return high > low

    def _count_between(self, single: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
        """How many tokens of each point lie between two logits; `single` says it of points that are one token."""
        if self.span is None:
            return torch.where(single, self.n, 0.0)
        high, low = self.span
        share = (torch.minimum(high, highest) - torch.maximum(low, lowest)) / (high - low)
        return torch.where(self._is_group, (share.clamp(0, 1) * self.n).round(), torch.where(single, self.n, 0.0))

    def _keep_between(self, single: Tensor, lowest: Tensor, highest: Tensor | None = None) -> Support:
        ceiling = torch.full_like(lowest, math.inf) if highest is None else highest
        kept = self._count_between(single, lowest, ceiling)
        if self.span is None:
            return self._left(kept, None)
        if highest is None:
            # The most probable point may be a group, all of it below the threshold.
            kept = torch.where(self.t >= self.largest, kept.maximum(self.n.clamp(max=1)), kept)
        high, low = self.span
        return self._left(kept, (torch.minimum(high, ceiling), torch.maximum(low, lowest)))

    def _keep_upper(self, kept: Tensor) -> Support:
        """Keep this many of the tokens of each point, the most probable ones."""
        if self.span is None:
            return self._left(kept, None)
        high, low = self.span
        share = kept / self.n.clamp(min=torch.finfo(kept.dtype).tiny)
        return self._left(kept, (high, torch.where(self._is_group, high - share * (high - low), low)))

    def _left(self, n: Tensor, span: tuple[Tensor, Tensor] | None) -> Support:
        return Support(self.t.masked_fill(n <= 0, -math.inf), n.to(self.n), span)


def _spans(t: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and smallest logit of the tokens at each point, `[R, S]` each.

    Where tokens are equally dense in two neighboring groups, the border between them divides the distance of their
    means as their counts.
    """
    place = torch.arange(t.shape[-1], device=t.device).expand(t.shape)
    last = t.shape[-1] - 1
    previous = torch.where(n > 0, place, -1).cummax(-1).values
    previous = torch.nn.functional.pad(previous[..., :-1], (1, 0), value=-1)
    following = torch.where(n > 0, place, last + 1).flip(-1).cummin(-1).values.flip(-1)
    following = torch.nn.functional.pad(following[..., 1:], (0, 1), value=last + 1)

    def reach(neighbor: Tensor, exists: Tensor) -> Tensor:
        index = neighbor.clamp(0, last)
        distance = (t - t.gather(-1, index)).abs()
        return torch.where(exists, distance * n / (n + n.gather(-1, index)), math.inf)

    up, down = reach(previous, previous >= 0), reach(following, following <= last)
    # A group without a neighbor on one side reaches as far there as on the other.
    up, down = torch.where(up.isinf(), down, up), torch.where(down.isinf(), up, down)
    is_group = (n > 1) & up.isfinite() & down.isfinite()
    return torch.where(is_group, t + up, t), torch.where(is_group, t - down, t)
