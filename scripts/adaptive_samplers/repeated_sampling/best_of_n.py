"""Best of n: the sample that a judge prefers."""

import numpy as np
from numpy.typing import ArrayLike

from adaptive_samplers.repeated_sampling.coverage import log_share_without


def best_of_n(scores: ArrayLike, values: ArrayLike, n: int) -> np.ndarray:
    """Expected value of the sample with the highest score among `n`, over all subsets of `n` of the samples.

    The expectation is exact: a sample is the best of those subsets whose other members all score lower. If several
    samples of a subset share its highest score, each is chosen equally often. With the values as scores, the result is
    the expected maximum.

    Parameters
    ----------
    scores : array [..., N]
        The judge's scores, on one scale for all samples of a prompt; higher is better.
    values : array [..., N]
        The samples' values, such as 1 for a right answer and 0 for a wrong one.
    n : int
        Number of samples that the judge sees, 1 to N.

    Returns
    -------
    array [...]
        NaN where a score or value is NaN, because what is unknown is not neutral.

    Raises
    ------
    ValueError
        If the shapes differ, or `n` is not between 1 and N.
    """
    scores, values = np.asarray(scores, dtype=float), np.asarray(values, dtype=float)
    if scores.shape != values.shape:
        raise ValueError(f"scores {scores.shape} and values {values.shape} must have the same shape")
    size = scores.shape[-1]
    if not 1 <= n <= size:
        raise ValueError(f"n is {n}, and there are {size} samples")
    ordered = np.sort(scores, axis=-1)
    lower = (ordered[..., None, :] < scores[..., :, None]).sum(axis=-1)
    not_higher = (ordered[..., None, :] <= scores[..., :, None]).sum(axis=-1)
    # share[m]: the share of the subsets of n that lie within m given samples.
    share = np.exp(log_share_without(size, size - np.arange(size + 1), n))
    with np.errstate(invalid="ignore"):
        # Samples with equal scores split their joint share. NaN equals nothing: 0 / 0.
        chosen = (share[not_higher] - share[lower]) / (not_higher - lower)
    expected = (chosen * values).sum(axis=-1)
    return np.where(np.isnan(scores).any(axis=-1), np.nan, expected)
