"""What families are worth at each temperature: that before a heuristic, or after a learned sampler."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from adaptive_samplers.compare.results import Results
from adaptive_samplers.evaluation import intervals
from adaptive_samplers.heuristics.pipelines import parse_processors


def temperature_of(processors: str) -> float | None:
    """The temperature of a chain in its interchange form, 1 without any; None if it has several, or one that varies."""
    found = [step for step in parse_processors(processors) if "temperature" in step.name]
    if len(found) > 1 or any(step.name != "temperature" for step in found):
        return None
    return float(found[0].value) if found else 1.0


def values_by_temperature(
    results: Results, processors: Mapping[str, str], resamples: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Of each family at each of its temperatures, the configuration that validation prompts choose, on test prompts.

    Parameters
    ----------
    results : with values of prompts
    processors : chains in their interchange form, by configuration
    resamples, confidence, seed : of percentile intervals over prompts

    Returns
    -------
    DataFrame with the columns objective, family, temperature, configurations, chosen, value, low, high
    """
    rows = []
    for objective in results.objectives:
        is_test = objective.is_test
        heats = np.array([temperature_of(processors[name]) for name in objective.configurations], dtype=float)
        for family in results.families:
            of_family = objective.rows(family)
            for heat in np.unique(heats[of_family][np.isfinite(heats[of_family])]):
                there = of_family[heats[of_family] == heat]
                best = there[objective.values[there][:, ~is_test].mean(axis=1).argmax()]
                interval = intervals(objective.values[best, is_test][:, None], resamples, confidence, seed)[0]
                chosen = objective.configurations[best]
                rows.append((objective.name, family, float(heat), len(there), chosen, *interval[:3]))
    columns = ["objective", "family", "temperature", "configurations", "chosen", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
