"""Distributions of which only the most probable tokens are sorted: what is kept is known without sorting the others.

A window holds the tokens above an edge, in descending order; of the rest it is known how many tokens there are, the
largest and smallest logit, and, by a pass over the vocabulary when it is first asked for, their mass and moments.
Heuristics see windows as `windowed_support` shows them.

Only the logits, and what is written back over the vocabulary, lie on the language model's device. Windows and all that
is known of the rest lie in the processor's memory: heuristics are hundreds of operations on a few numbers, and on a GPU
each of them would cost a kernel, and many a wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from adaptive_samplers.compiled import fastest_passes
from adaptive_samplers.heuristics import window_passes_portable
from adaptive_samplers.heuristics.support import Support
from adaptive_samplers.heuristics.windowed_support import Window, WindowedSupport

# Each with the package that it needs.
FAST_PASSES = {
    "cpu": (f"{__package__}.window_passes", "numba"),
    "cuda": (f"{__package__}.window_passes_triton", "triton"),
}

# How many tokens a window holds. Larger ones cost more than they save.
WINDOW_SIZES = (256, 1024, 4096, 16384)


@cache
def passes_for(kind: str) -> ModuleType:
    """The module whose passes over the vocabulary serve this kind of device best."""
    return fastest_passes(window_passes_portable, FAST_PASSES, "Heuristics", kind)


def window_sizes(vocabulary: int) -> list[int]:
    """The sizes of windows that are worth their price in a vocabulary."""
    return [size for size in WINDOW_SIZES if 2 * size <= vocabulary]


def over_the_vocabulary(name: str, logits: Tensor, *arguments: Tensor | int) -> Any:
    """A pass on the device of the logits; other tensors and results are in the processor's memory."""
    device = logits.device
    there = [argument.to(device) if isinstance(argument, Tensor) else argument for argument in arguments]
    result = getattr(passes_for(device.type), name)(logits, *there)
    return tuple(part.cpu() for part in result) if isinstance(result, tuple) else result.cpu()


@dataclass(frozen=True)
class Windows:
    """The most probable tokens of each row of logits, see `window_passes_portable.largest`.

    Attributes
    ----------
    logits : Tensor [L, V], float32
        On any device.
    rows : Tensor [U]
        Which of them have a window.
    t : Tensor [U, W], float32
        The logits above the edge in descending order, minus infinity after the last.
    token_ids : Tensor [U, W]
        Whose they are; equal logits in the order of their ids.
    edges : Tensor [U], float32
        The largest logit outside of the window.
    """

    logits: Tensor
    rows: Tensor
    t: Tensor
    token_ids: Tensor
    edges: Tensor

    @classmethod
    def of(cls, logits: Tensor, rows: Sequence[int], size: int) -> Windows:
        """Windows of at most `size` tokens, fewer than there are, of rows `[U]` of float32 logits `[L, V]`."""
        index = torch.tensor(rows)
        return cls(logits, index, *over_the_vocabulary("largest", logits, index, size))

    def support(self, places: Tensor) -> WindowedSupport:
        """The distributions of some windows, `[R]`; a window may be taken several times."""
        points = self._points
        rest = Rest(self.logits, self.rows[places], self._known_edges[places], points.largest[places])
        return WindowedSupport(Window(points.t[places], points.n[places], None, rest), self._unsure[places])

    @cached_property
    def _points(self) -> Support:
        return Support.of(self.t).to(torch.float64)

    @cached_property
    def _unsure(self) -> Tensor:
        """Where the first logit is not finite: the window is empty, or the row is no distribution."""
        return ~self.t[:, :1].isfinite()

    @cached_property
    def _known_edges(self) -> Tensor:
        return self.edges.masked_fill(self._unsure.squeeze(1), -torch.inf)


@dataclass(frozen=True)
class Rest:
    """The tokens at or below the edges of windows, after the changes that a pipeline made to all logits.

    Attributes
    ----------
    logits : Tensor [L, V], float32
        As the language model gave them.
    rows : Tensor [R]
        Which of them.
    edges : Tensor [R], float32
        The largest logit of the rest; minus infinity where nothing is left of it.
    top : Tensor [R, 1], float64
        The largest logit of each row.
    changes : tuple of functions
        What was done to the logits, float64, in turn.
    temperatures : tuple of Tensors [R, 1], or None
        The same where all of it was division.
    """

    logits: Tensor
    rows: Tensor
    edges: Tensor
    top: Tensor
    changes: tuple[Callable[[Tensor], Tensor], ...] = ()
    temperatures: tuple[Tensor, ...] | None = ()

    def without(self, gone: Tensor) -> Rest:
        """The same with nothing left where `gone` [R, 1]."""
        return replace(self, edges=self.edges.masked_fill(gone.squeeze(1), -torch.inf))

    def map(self, function: Callable[[Tensor], Tensor]) -> Rest:
        """Apply a function that preserves order to every logit."""
        return replace(self, changes=(*self.changes, function), temperatures=None)

    def divide(self, temperature: Tensor) -> Rest:
        """Divide every logit by a temperature `[R, 1]`."""
        divided = None if self.temperatures is None else (*self.temperatures, temperature)
        return replace(self, changes=(*self.changes, lambda logits: logits / temperature), temperatures=divided)

    @cached_property
    def there(self) -> Tensor:
        """Whether a row has tokens outside of its window, `[R, 1]`."""
        return self.edges[:, None] > -torch.inf

    @cached_property
    def is_empty(self) -> bool:
        """Whether no row has."""
        return not bool(self.there.any())

    @property
    def count(self) -> Tensor:
        """How many tokens there are, `[R, 1]` float64."""
        return self._moments[:, 0:1]

    @property
    def largest(self) -> Tensor:
        """The largest logit, `[R, 1]`; minus infinity where nothing is left."""
        return self._changed(self.edges[:, None].double())

    @property
    def smallest(self) -> Tensor:
        """The smallest logit, `[R, 1]`, where something is left."""
        return self._changed(self._moments[:, 1:2])

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of `w`, `w d` and `w^2`, with `w = exp(d)` and `d` the logit less the row's largest, `[R, 1]`."""
        if self.is_empty:
            return (torch.zeros_like(self.top),) * 3
        if self.temperatures is not None:
            temperature = math.prod(self.temperatures, start=torch.ones_like(self.top))
            both = self.top.squeeze(1), temperature.squeeze(1)
            return self._over_the_vocabulary("sums", *both).split(1, -1)
        depth = self.values() - self._changed(self.top, torch.ones_like(self.there))
        weight = depth.exp()
        products = weight, (weight * depth).where(weight > 0, 0.0), weight**2
        return tuple(product.sum(-1, keepdim=True) for product in products)

    @cached_property
    def squares(self) -> tuple[Tensor, Tensor]:
        """The mean logit, and the sum of the squares of the logits' distances from it, `[R, 1]`."""
        if self.temperatures is not None:
            temperature = math.prod(self.temperatures, start=torch.ones_like(self.top))
            return self._moments[:, 2:3] / temperature, self._moments[:, 3:4] / temperature**2
        values = self.values()
        inside = values > -torch.inf
        mean = values.where(inside, 0.0).sum(-1, keepdim=True) / self.count.clamp(min=1)
        return mean, ((values - mean) ** 2).where(inside, 0.0).sum(-1, keepdim=True)

    def drawing_masses(self, largest: Tensor) -> Tensor:
        """The sum of the weights that `apply.draw` gives them; `largest` [R] are the rows' largest logits, float32."""
        if self.is_empty:
            return torch.zeros_like(self.top).squeeze(1)
        if self.temperatures is not None:
            temperatures = torch.cat([self.top[:, :0], *self.temperatures], dim=1)
            return self._over_the_vocabulary("drawing_masses", largest, temperatures)
        return (self.values().float() - largest[:, None]).exp().sum(-1, dtype=torch.float64)

    def write(self, output: Tensor, places: Tensor) -> None:
        """Write the logits of rows that have a rest into rows `places` [R] of float32 logits, the others unchanged.

        The output is on the device of the logits.

        Tokens that are not among the rest are set to minus infinity.
        """
        there = self.there.squeeze(1)
        if self.temperatures is not None:
            chosen = there.nonzero().squeeze(1)
            temperatures = torch.cat([self.top[:, :0], *self.temperatures], dim=1)
            arguments = (self.rows[chosen], self.edges[chosen], temperatures[chosen], places[chosen])
            rows, edges, temperatures, places = (argument.to(output.device) for argument in arguments)
            passes_for(output.device.type).divide(self.logits, rows, edges, temperatures, output, places)
        else:
            output[places[there].to(output.device)] = self.values()[there].float().to(output.device)

    def values(self) -> Tensor:
        """The logits, `[R, V]` float64, minus infinity where a token is not among the rest."""
        logits = self.logits[self.rows.to(self.logits.device)].cpu()
        inside = (logits <= self.edges[:, None]) & logits.isfinite()
        return self._changed(logits.double().masked_fill(~inside, -torch.inf), inside)

    def _changed(self, logits: Tensor, there: Tensor | None = None) -> Tensor:
        there = self.there if there is None else there
        for change in self.changes:
            # Some functions are not defined at minus infinity.
            logits = change(logits).masked_fill(~there, -torch.inf)
        return logits

    @cached_property
    def _moments(self) -> Tensor:
        if self.is_empty:
            return torch.zeros_like(self.top).expand(-1, 4)
        return self._over_the_vocabulary("moments")

    def _over_the_vocabulary(self, name: str, *arguments: Tensor) -> Tensor:
        return over_the_vocabulary(name, self.logits, self.rows, self.edges, *arguments)
