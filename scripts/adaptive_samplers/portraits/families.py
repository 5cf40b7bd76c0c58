"""The chains of heuristics that are fitted to a sampler, and where their parameters are looked for.

Nothing here needs torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from adaptive_samplers.heuristics.pipelines import Pipeline, Processor
from adaptive_samplers.heuristics.registry import HEURISTICS

# Names of heuristics in the order in which they are applied.
Chain = tuple[str, ...]
Scale = Literal["linear", "log", "logit"]


@dataclass(frozen=True)
class Axis:
    """Where a parameter is looked for: from `low` to `high`, first at `points` values, evenly spread on the scale."""

    low: float
    high: float
    scale: Scale
    points: int

    def value(self, place: float) -> float:
        """The parameter at a place from 0 to 1 along the axis."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        at = low + place * (high - low)
        if self.scale == "linear":
            return at
        return math.exp(at) if self.scale == "log" else 1 / (1 + math.exp(-at))

    def _scaled(self, value: float) -> float:
        if self.scale == "linear":
            return value
        return math.log(value) if self.scale == "log" else math.log(value / (1 - value))

    @property
    def grid(self) -> np.ndarray:
        """The places that are looked at first."""
        return np.linspace(0, 1, self.points)


_TEMPERATURE = Axis(0.1, 3.0, "log", 10)
_SHARE = Axis(0.05, 0.999, "logit", 9)

# The axes of each heuristic's parameters, in their order.
SEARCHED: dict[str, tuple[Axis, ...]] = {
    "temperature": (_TEMPERATURE,),
    "top_k": (Axis(1, 2000, "log", 12),),
    "top_p": (_SHARE,),
    "min_p": (Axis(1e-6, 0.9, "log", 11),),
    "typical": (_SHARE,),
    "epsilon": (Axis(1e-7, 0.3, "log", 11),),
    "eta": (Axis(1e-7, 0.5, "log", 11),),
    "top_n_sigma": (Axis(0.1, 8.0, "log", 9),),
    "top_h": (_SHARE,),
    "top_h_renormalized": (_SHARE,),
    "p_less": (),
    "p_less_norm": (),
    "quadratic": (Axis(0.003, 3.0, "log", 10), Axis(1.0, 3.0, "linear", 3)),
    "dynamic_temperature": (Axis(0.1, 3.0, "log", 6), Axis(0.1, 3.0, "log", 6), Axis(0.3, 4.0, "log", 3)),
    "entropy_temperature": (_TEMPERATURE, Axis(0.003, 10.0, "log", 7)),
}
# What they do depends on earlier tokens, so that no function of one distribution describes them.
STATEFUL = ("annealed_temperature", "mirostat")

# They set temperatures themselves.
_HEATING = ("temperature", "quadratic", "dynamic_temperature", "entropy_temperature")
# A temperature after one of these does what another parameter does before it, or nothing else than it does before it.
_SAME_AFTER = ("top_k", "min_p", "top_n_sigma")


def chains() -> list[Chain]:
    """What is fitted: each heuristic alone, after a temperature and, where that differs, before one; and a chain that
    many servers use."""
    found: list[Chain] = [(name,) for name in _HEATING]
    for name in SEARCHED:
        if name not in _HEATING:
            found += [(name,), ("temperature", name)]
            found += [] if name in _SAME_AFTER else [(name, "temperature")]
    return [*found, ("temperature", "top_k", "top_p")]


def family(chain: Chain) -> str:
    """What a chain has besides a temperature, `top_k+top_p`; a temperature where it has nothing else."""
    return "+".join(name for name in chain if name != "temperature") or "temperature"


def axes(chain: Chain) -> list[Axis]:
    """The axes of all parameters of a chain."""
    return [axis for name in chain for axis in SEARCHED[name]]


def pipeline_at(chain: Chain, places: Sequence[float]) -> Pipeline:
    """The chain whose parameters are at these places of its axes, rounded to four digits, or to whole numbers."""
    left = iter(places)
    steps = []
    for name in chain:
        values = []
        for axis, numbers in zip(SEARCHED[name], HEURISTICS[name].parameters.values(), strict=True):
            value = axis.value(next(left))
            values.append(numbers.typed(round(value) if numbers.whole else float(f"{value:.4g}")))
        steps.append(Processor(name, tuple(values)))
    return tuple(steps)
