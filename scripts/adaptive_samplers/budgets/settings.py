"""What an allocation depends on beside labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class BudgetSettings:
    """The config's `generation.adaptive`; the schema says what each key means."""

    first_seeds: int
    budget: float
    top: int
    confidence: float
    keep: int
    keep_share: float
    weights: tuple[Mapping[str, float], ...]

    @classmethod
    def from_config(cls, adaptive: Mapping[str, Any]) -> Self:
        """The settings in a config; whether they are enabled is not among them."""
        values = {key: value for key, value in adaptive.items() if key != "enabled"}
        return cls(**{**values, "weights": tuple(values["weights"])})
