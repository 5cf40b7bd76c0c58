"""What heuristics see of windows, and whether a window tells what is kept.

A heuristic sees a `WindowedSupport`, with the verbs and sums of a `Support`. It says of every row what is kept, or that
it is not sure: the cut lies below the window, or so near a token that another order of summation could move it across.
Rows that are not sure are computed again in a larger window and at last on all tokens. So no window changes what is
kept.

What a heuristic does with single points (`t`, `probabilities`, ...) can depend on all of them: where tokens are left
below the window, it is refused with `WindowTooSmall`, and the rows are computed on all tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adaptive_samplers.heuristics.support import Support

if TYPE_CHECKING:
    from adaptive_samplers.heuristics.windows import Rest

# Sums of float64 numbers differ by less than this share of them, whatever the order of a vocabulary's tokens.
TOLERANCE = 1e-10


class WindowTooSmall(Exception):
    """A heuristic asks for what only all tokens can tell."""


@dataclass(frozen=True)
class Window(Support):
    """The points of a window, with probabilities and sums among all tokens."""

    rest: Rest

    @cached_property
    def highest(self) -> Tensor:
        return 1 / self._total

    @cached_property
    def count(self) -> Tensor:
        return self._inside + self.rest.count

    @cached_property
    def entropy(self) -> Tensor:
        mass, first, _ = self.rest.sums
        outside = (self._total.log() * mass - first) / self._total
        return (self.information.sum(-1, keepdim=True) + outside).clamp(min=0)

    @cached_property
    def collision(self) -> Tensor:
        return ((self._weights**2).sum(-1, keepdim=True) + self.rest.sums[2]) / self._total**2

    @cached_property
    def deviation(self) -> Tensor:
        t = torch.where(self.n > 0, self.t, 0.0)
        mean = t.sum(-1, keepdim=True) / self._inside
        squares = torch.where(self.n > 0, (t - mean) ** 2, 0.0).sum(-1, keepdim=True)
        other_mean, other_squares = self.rest.squares
        between = (mean - other_mean) ** 2 * self._inside * self.rest.count / self.count
        return ((squares + other_squares + between) / self.count).sqrt()

    @cached_property
    def _inside(self) -> Tensor:
        """How many tokens are left in the window, `[R, 1]` float64."""
        return self.n.sum(-1, keepdim=True, dtype=torch.float64)

    @cached_property
    def _total(self) -> Tensor:
        return self._weights.sum(-1, keepdim=True) + self.rest.sums[0]

    def with_points(self, points: Support, rest: Rest) -> Window:
        """Other points, and what is left outside of them."""
        return Window(points.t, points.n, None, rest)


class WindowedSupport(Support):
    """One distribution per row, its most probable tokens in a window: what heuristics see in place of all tokens.

    Parameters
    ----------
    window : Window
    unsure : Tensor [R, 1]
        Of which rows it is not known what is left. Their values mean nothing.
    """

    def __init__(self, window: Window, unsure: Tensor) -> None:
        self.window = window
        self.unsure = unsure

    @property
    def rest(self) -> Rest:
        """What is left below the windows."""
        return self.window.rest

    @property
    def largest(self) -> Tensor:
        """The largest logit, `[R, 1]`."""
        return self.window.largest

    @property
    def highest(self) -> Tensor:
        """The largest probability of one token, `[R, 1]`."""
        return self.window.highest

    @property
    def count(self) -> Tensor:
        """How many tokens are left, `[R, 1]`."""
        return self.window.count

    @property
    def entropy(self) -> Tensor:
        """Shannon entropy in nats, `[R, 1]`."""
        return self.window.entropy

    @property
    def collision(self) -> Tensor:
        """The probability that two draws agree, `sum p^2`, `[R, 1]`."""
        return self.window.collision

    @property
    def deviation(self) -> Tensor:
        """The standard deviation of the logits of all tokens that are left, each counted once, `[R, 1]`."""
        return self.window.deviation

    @property
    def mass_upto(self) -> Tensor:
        """The probability of each token of the window and of all above it, `[R, W]`."""
        return self.window.mass_upto

    @property
    def information_upto(self) -> Tensor:
        """What each token of the window and all above it contribute to the entropy, in nats, `[R, W]`."""
        return self.window.information_upto

    @property
    def t(self) -> Tensor:
        """The logits of single points, if these are all that is left; what follows from them is inherited."""
        return self._only_window.t

    @property
    def n(self) -> Tensor:
        """How many tokens of each point are left."""
        return self._only_window.n

    @property
    def span(self) -> None:
        """None: every point is one token."""
        return self._only_window.span

    @property
    def _only_window(self) -> Window:
        if not self.rest.is_empty:
            raise WindowTooSmall
        return self.window

    def replaced_by(self, points: Support) -> WindowedSupport:
        """The same with what a heuristic made of its points, where these were all that was left."""
        return WindowedSupport(self.window.with_points(points, self.rest), self.unsure)

    def map(self, function: Callable[[Tensor], Tensor]) -> WindowedSupport:
        """See `Support.map`."""
        return WindowedSupport(self.window.with_points(self.window.map(function), self.rest.map(function)), self.unsure)

    def divide(self, temperature: Tensor) -> WindowedSupport:
        """See `Support.divide`."""
        window = self.window
        return WindowedSupport(
            window.with_points(window.divide(temperature), self.rest.divide(temperature)), self.unsure
        )

    def keep_above(self, logit: Tensor) -> WindowedSupport:
        """See `Support.keep_above`."""
        window = self.window
        bound = torch.minimum(logit, window.largest)
        slack = TOLERANCE * (bound.abs() + window.largest.abs())
        return self._keep_from(window.keep_above(logit), window.t, bound, slack, lambda logit: logit)

    def keep_probable(self, probability: Tensor) -> WindowedSupport:
        """See `Support.keep_probable`."""
        window = self.window
        bound = torch.minimum(probability, window.highest)

        def of(logit: Tensor) -> Tensor:
            return (logit - window.largest).exp() / window._total

        kept = window.keep_probable(probability)
        return self._keep_from(kept, window.probabilities, bound, TOLERANCE * bound.abs(), of)

    def keep_relative(self, share: Tensor) -> WindowedSupport:
        """See `Support.keep_relative`."""
        window = self.window

        def of(logit: Tensor) -> Tensor:
            return (logit - window.largest).exp()

        share = share.clamp(max=1)
        kept = window._left(torch.where(window._weights >= share, window.n, 0.0), None)
        return self._keep_from(kept, window._weights, share, TOLERANCE * share, of)

    def keep_first(self, count: Tensor) -> WindowedSupport:
        """See `Support.keep_first`."""
        window, rest = self.window, self.rest
        kept = window.keep_first(count)
        if rest.is_empty:
            return self._keep(kept, torch.zeros_like(self.unsure))
        last = kept.t.masked_fill(kept.n <= 0, torch.inf).amin(-1, keepdim=True)
        # Functions may have made the last one equal to some that are not in the window.
        cut = (count <= window._inside) & (last > rest.largest)
        everything = ~cut & (count > window._inside)
        if everything.any():
            everything &= count >= window.count
        return self._keep(kept, torch.zeros_like(self.unsure), cut, everything)

    def keep_at_most(self, count: int) -> WindowedSupport:
        """See `Support.keep_at_most`."""
        cut = self.window._inside >= count
        return self._keep(self.window.keep_at_most(count), torch.zeros_like(cut), cut)

    def keep_mass(self, mass: Tensor) -> WindowedSupport:
        """See `Support.keep_mass`."""
        window, outside = self.window, self.rest.sums[0] / self.window._total
        from_below = window.masses.flip(-1).cumsum(-1) + outside
        most = torch.minimum(1 - mass, from_below[..., -1:] * (1 - 1e-12))
        kept = window._left(torch.where((from_below > most).flip(-1), window.n, 0.0), None)
        near = self._near(from_below.flip(-1), most, TOLERANCE * most)
        cut = outside <= most * (1 - TOLERANCE)

        def of(logit: Tensor) -> Tensor:
            return (logit - window.largest).exp()

        # At a mass of 1, all that have a probability in float64 are kept.
        return self._keep(kept, near, cut, self._from_the_last((most <= 0) & ~cut, torch.full_like(most, 1e-250), of))

    def keep_while(self, growing: Tensor, bound: Tensor) -> WindowedSupport:
        """See `Support.keep_while`."""
        window = self.window
        slack = TOLERANCE * bound.abs().clamp(min=1e-3)
        kept = window.keep_while(growing, bound)
        last = growing.where(window.n > 0, -torch.inf).amax(-1, keepdim=True)
        # The first is kept in any case.
        near = self._near(growing[..., 1:], bound, slack, window.n[..., 1:])
        return self._keep(kept, near, last > bound + slack)

    def keep_nearest(self, log_prob: Tensor, mass: Tensor) -> WindowedSupport:
        """See `Support.keep_nearest`."""
        window, rest = self.window, self.rest
        distance = (window.log_probs - log_prob).abs()
        order = distance.argsort(-1)
        masses = window.masses.gather(-1, order).cumsum(-1)
        near = self._near(masses, mass, TOLERANCE * mass, window.n.gather(-1, order))
        index = (masses < mass).sum(-1, keepdim=True).clamp(max=window.t.shape[-1] - 1)
        last = order.gather(-1, index)
        reach, at = distance.gather(-1, last), window.t.gather(-1, last)
        slack = TOLERANCE * (1 + reach + log_prob.abs())
        near |= ((distance - reach).abs() <= slack).logical_and(window.t != at).any(-1, keepdim=True)
        kept = window._left(torch.where(distance <= reach, window.n, 0.0), None)
        cut = log_prob - (rest.largest - window._log_total) > reach + slack
        return self._keep(kept, near, cut & (masses[..., -1:] > mass))

    def _near(self, quantity: Tensor, bound: Tensor, slack: Tensor, n: Tensor | None = None) -> Tensor:
        """Whether rounding could move a token of the window across a bound, `[R, 1]`."""
        n = self.window.n if n is None else n
        return ((quantity - bound).abs() <= slack).logical_and(n > 0).any(-1, keepdim=True)

    def _keep_from(
        self, kept: Support, quantity: Tensor, bound: Tensor, slack: Tensor, of: Callable[[Tensor], Tensor]
    ) -> WindowedSupport:
        """Keep what has at least the bound in a quantity that grows with the logit, and the most probable tokens.

        `of` gives the quantity at a logit.
        """
        window, rest = self.window, self.rest
        below = (window.t < window.largest) & (window.n > 0)
        near = ((quantity - bound).abs() <= slack).logical_and(below).any(-1, keepdim=True)
        if rest.is_empty:
            return self._keep(kept, near)
        cut = of(rest.largest) < bound - slack
        return self._keep(kept, near, cut, self._from_the_last(~cut, bound + slack, of))

    def _from_the_last(self, asked: Tensor, bound: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
        """Whether even the least probable token has more than a bound, `[R, 1]`, of the rows that ask."""
        asked = asked & self.rest.there & ~self.unsure
        if not asked.any():
            return asked
        return asked & (of(self.rest.smallest) > bound)

    def _keep(
        self, kept: Support, near: Tensor, cut: Tensor | None = None, everything: Tensor | None = None
    ) -> WindowedSupport:
        """The support with some of the window's tokens; of the rest none where `cut`, all where `everything`."""
        rest = self.rest
        if rest.is_empty:
            return WindowedSupport(self.window.with_points(kept, rest), self.unsure | near)
        known = ~rest.there | cut
        if everything is not None:
            known |= everything
        unsure = self.unsure | near | ~known
        gone = unsure | (cut if everything is None else cut & ~everything)
        return WindowedSupport(self.window.with_points(kept, rest.without(gone)), unsure)
