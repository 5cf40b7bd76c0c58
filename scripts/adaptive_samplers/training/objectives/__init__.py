"""What samplers may be trained for. `definitions` declares the objectives; each loss is in its own module."""

from adaptive_samplers.training.objectives import definitions as definitions
from adaptive_samplers.training.objectives.registry import DATA, OBJECTIVES, Data, Objective, data, objective

__all__ = ["DATA", "OBJECTIVES", "Data", "Objective", "data", "objective"]
