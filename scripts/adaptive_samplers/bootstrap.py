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
