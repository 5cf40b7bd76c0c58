"""Which heuristics there are, which parameters they take, and their state from token to token.

Nothing here needs torch, so that a config is checked without loading it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from adaptive_samplers.heuristics.support import Support


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The numbers that a parameter may be; written out, they read `a number above 0 and at most 1`."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
            and (not self.whole or float(value).is_integer())
        )

    def __str__(self) -> str:
        words = {"of at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        bounds = " and ".join(f"{word} {bound:g}" for word, bound in words.items() if bound is not None)
        return f"a {'whole ' if self.whole else ''}number {bounds}".rstrip()

    def typed(self, value: float) -> float:
        """The value as `int` where it must be whole, else as `float`, so that equal settings are written alike."""
        return int(value) if self.whole else float(value)


@dataclass
class Heuristic:
    """A named transform of supports.

    Attributes
    ----------
    name : str
        What configs and tables call it.
    transform : function `(support, *parameters, **state) -> support`
        All parameters and states are tensors `[R, 1]`, one value per row.
    parameters : dict of str to Numbers
        Which numbers each parameter may be, in the order of the function's arguments.
    start : dict of str to function
        What a stateful heuristic remembers, each with its value before the first token as a function of the parameters.
    update : function `(log_prob, *parameters, **state) -> state`, or None
        The state after a token was drawn with the log-probability `log_prob` [R, 1], in nats, under the distribution
        that it was drawn from: that of the whole pipeline.
    version : int
        Which definition of the name this is. It is part of the ids of heuristics, so that answers of another definition
        are not mistaken for this one's.
    """

    name: str
    transform: Callable[..., Support]
    parameters: dict[str, Numbers]
    start: dict[str, Callable[..., float]]
    update: Callable[..., Mapping[str, Tensor]] | None = None
    version: int = 1

    def __call__(self, support: Support, *parameters: Tensor, **state: Tensor) -> Support:
        return self.transform(support, *parameters, **state)

    def after_draw(self, update: Callable[..., Mapping[str, Tensor]]) -> Callable[..., Mapping[str, Tensor]]:
        """Declare, as a decorator, how the state follows from the token that was drawn."""
        self.update = update
        return update

    @property
    def summary(self) -> str:
        """The first paragraph of the function's docstring."""
        return " ".join((inspect.getdoc(self.transform) or "").split("\n\n")[0].split())


HEURISTICS: dict[str, Heuristic] = {}


def heuristic(
    *, start: Mapping[str, Callable[..., float]] | None = None, version: int = 1, **parameters: Numbers
) -> Callable[[Callable[..., Support]], Heuristic]:
    """Register a function `(support, *parameters, **state) -> support` as a heuristic under its own name.

    Parameters
    ----------
    start
        For a stateful heuristic, the initial value of each of its keyword-only arguments, as a function of the
        parameters. `after_draw` of the result declares how they change.
    version
        To be increased if and only if the function's behavior changes.
    parameters
        Which numbers each of the function's other arguments may be.

    Raises
    ------
    TypeError
        If what is declared is not what the function takes.
    """

    def register(transform: Callable[..., Support]) -> Heuristic:
        _, *arguments = inspect.signature(transform).parameters.values()
        states = {argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY}
        names = [argument.name for argument in arguments if argument.name not in states]
        if set(names) != set(parameters) or states != set(start or {}):
            raise TypeError(
                f"heuristic '{transform.__name__}' takes the parameters {names} and the state {sorted(states)},"
                f" but declares {list(parameters)} and {sorted(start or {})}"
            )
        ranges = {name: parameters[name] for name in names}
        made = Heuristic(transform.__name__, transform, ranges, dict(start or {}), version=version)
        HEURISTICS[made.name] = made
        return made

    return register


LEARNED = "learned"
"""The step of a pipeline that is no heuristic but a learned sampler: its path and, perhaps, a preference."""

PREFERENCES = Numbers(at_least=0, at_most=1)
"""The preferences that a learned sampler for a whole front may be given."""

VERBALIZED = "verbalized"
"""The first step of a pipeline under which the model is asked for several answers (see `verbalized`); it changes no
logits."""

_OTHER_STEPS = {LEARNED: ("path",), VERBALIZED: ("answers", "max_new_tokens", "template")}


_OPTIONAL = {LEARNED: ("preference",)}


def parameter_names(name: str, count: int | None = None) -> tuple[str, ...]:
    """The parameters of a heuristic, `learned` or `verbalized`: those that are needed, or the first `count`.

    Raises KeyError if there is none of this name.
    """
    needed = _OTHER_STEPS[name] if name in _OTHER_STEPS else tuple(HEURISTICS[name].parameters)
    return needed if count is None else (*needed, *_OPTIONAL.get(name, ()))[:count]
