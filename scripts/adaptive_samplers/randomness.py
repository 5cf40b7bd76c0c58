"""Randomness that depends only on an answer's own key (not on the batch, shards, workers or order)."""

import numpy as np

from adaptive_samplers.hashing import content_number


def sample_seed(run_seed: int, prompt_id: str, seed: int) -> int:
    """The seed of an answer's uniform numbers, unsigned 64 bits.

    The heuristic is not part of it: all heuristics see the same uniform numbers for the same prompt and seed (common
    random numbers). So their comparison is paired, and answers share the language model's work up to the token where
    they diverge.
    """
    return content_number(["sample", run_seed, prompt_id, seed])


def uniforms(seed: int, count: int) -> np.ndarray:
    """The uniform numbers of an answer, float64 in [0, 1); the one at position t does not depend on `count`.

    Philox is a counter-based generator (Salmon et al. 2011): position t is a function of the key and t.
    """
    return np.random.Generator(np.random.Philox(key=seed)).random(count)
