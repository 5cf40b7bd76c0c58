"""Resampling of prompts with replacement (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993)."""

from collections.abc import Iterator

import numpy as np

COUNTS_IN_MEMORY = 4_000_000


def resampled_counts(prompts: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each prompt occurs in resamples of as many prompts: blocks of resamples, float `[block, prompts]`.

    Drawing how often each occurs, not the prompts themselves, makes a resample one matrix product. The same numbers and
    seed draw the same prompts, so that what is computed from them is paired.
    """
    generator = np.random.default_rng(seed)
    block = max(1, COUNTS_IN_MEMORY // prompts)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        yield generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=size).astype(float)


def resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means `[resamples, systems]` of `values [prompts, systems]` over resampled prompts, ignoring NaN."""
    present = np.isfinite(values)
    filled = np.where(present, values, 0.0)
    means = [np.empty((0, values.shape[1]))]
    for counts in resampled_counts(len(values), resamples, seed):
        with np.errstate(invalid="ignore"):
            means.append((counts @ filled) / (counts @ present))
    return np.concatenate(means)
