"""Tests for differences between samplers. A prompt is the unit: its values are averaged over seeds first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from adaptive_samplers.bootstrap import resampled_counts


class PairedTest(NamedTuple):
    """A mean of paired differences, its standard error, an interval, and the two-sided p-value of it being 0."""

    difference: float
    standard_error: float
    low: float
    high: float
    p: float
    n_prompts: int


def paired_test(differences: np.ndarray, resamples: int, confidence: float, seed: int) -> PairedTest:
    """The symmetric bootstrap-t test and interval of a mean (Hall, "The Bootstrap and Edgeworth Expansion", 1992).

    Of each resample of prompts, the mean less the observed one is divided by that resample's own standard error. With
    tens of prompts this keeps its level where percentiles of means do not. Resamples without any spread count as
    extreme, so with few different values the test errs on the side of finding nothing.

    Parameters
    ----------
    differences : ndarray [P]
        Of each prompt, averaged over seeds, which so are nested within prompts.
    resamples, confidence, seed
        The same seed and number of prompts draw the same prompts.
    """
    n = len(differences)
    mean = float(differences.mean()) if n else np.nan
    if n < 2:
        return PairedTest(mean, np.nan, np.nan, np.nan, 1.0, n)
    error = float(differences.std(ddof=1) / np.sqrt(n))
    if error == 0:
        # All prompts say the same. Of nothing but zeros there is no difference; of others, chance says nothing.
        return PairedTest(mean, 0.0, mean, mean, 1.0 if mean == 0 else 2.0 ** (1 - n), n)
    deviations, sizes = differences - mean, []
    for counts in resampled_counts(n, resamples, seed):
        means = counts @ deviations / n
        spread = np.sqrt(np.maximum(counts @ deviations**2 / n - means**2, 0.0) / (n - 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            # Rounding leaves some spread where there is none.
            sizes.append(np.where(spread > 1e-9 * error, np.abs(means) / spread, np.inf))
    drawn = np.concatenate(sizes)
    p = (1 + np.count_nonzero(drawn >= abs(mean) / error)) / (1 + len(drawn))
    quantile = float(np.quantile(drawn, confidence, method="higher"))
    return PairedTest(mean, error, mean - quantile * error, mean + quantile * error, float(p), n)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values: the chance of any false finding among all stays below the level (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def detectable_difference(standard_error: float, level: float, power: float, comparisons: int = 1) -> float:
    """The smallest true difference that is found with this power, at a level shared among so many comparisons."""
    return float((norm.ppf(1 - level / comparisons / 2) + norm.ppf(power)) * standard_error)
