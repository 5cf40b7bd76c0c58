"""Choosing among a family's configurations on some prompts, and reading the chosen one on others.

A family that tries more configurations finds a better one, by merit and by luck. So families are compared after as many
tries, and what was chosen is judged on prompts that had no say in the choice.
"""

from collections.abc import Iterable

import numpy as np

from adaptive_samplers.bootstrap import resampled_counts


def chances_to_be_chosen(validation: np.ndarray, tries: int) -> np.ndarray:
    """How probably each configuration is the best, by its validation value, of `tries` that are drawn at random.

    Parameters
    ----------
    validation : ndarray [K]
    tries : from 1 to K
        Drawn without replacement. Equal values share their chance.

    Returns
    -------
    ndarray [K], which sums to 1: exact, nothing is simulated.
    """
    count = len(validation)
    if not 1 <= tries <= count:
        raise ValueError(f"{tries} tries of {count} configurations")
    by_rank = np.zeros(count)
    by_rank[0] = tries / count
    for rank in range(count - tries):
        # None better is drawn, but this one is.
        by_rank[rank + 1] = by_rank[rank] * (count - rank - tries) / (count - rank - 1)
    order = np.argsort(-validation, kind="stable")
    chances = np.empty(count)
    chances[order] = by_rank
    for value in np.unique(validation):
        equal = validation == value
        chances[equal] = chances[equal].mean()
    return chances


def tuned_values(values: np.ndarray, is_test: np.ndarray, tries: int) -> np.ndarray:
    """Of each test prompt, the expected value of the configuration that `tries` of them lead to.

    Parameters
    ----------
    values : ndarray [K, P]
        Of a family's configurations, averaged over seeds.
    is_test : bool ndarray [P]
        The prompts on which configurations are judged; they are chosen on the others.

    Returns
    -------
    ndarray, of as many as there are test prompts
    """
    return chances_to_be_chosen(values[:, ~is_test].mean(axis=1), tries) @ values[:, is_test]


def tuned_bands(
    values: np.ndarray, is_test: np.ndarray, tries: Iterable[int], resamples: int, confidence: float, seed: int
) -> dict[int, tuple[float, float, float]]:
    """The mean of `tuned_values`, with a band: which configurations are drawn varies, and which prompts.

    Returns
    -------
    mean, low and high, by number of tries
    """
    validation, judged = values[:, ~is_test].mean(axis=1), values[:, is_test]
    means = [counts @ judged.T / judged.shape[1] for counts in resampled_counts(judged.shape[1], resamples, seed)]
    resampled = np.concatenate(means)
    tail = (1 - confidence) / 2
    bands = {}
    for count in tries:
        chances = chances_to_be_chosen(validation, count)
        chosen = np.random.default_rng([seed, count]).choice(len(values), size=resamples, p=chances)
        low, high = np.quantile(resampled[np.arange(resamples), chosen], [tail, 1 - tail])
        bands[count] = float(chances @ judged.mean(axis=1)), float(low), float(high)
    return bands


def tuned_published(
    values: np.ndarray, errors: np.ndarray, tries: int, resamples: int, seed: int
) -> tuple[float, float]:
    """What published means lead to after so many tries, and its standard error.

    A mean with noise of its standard error added, and the mean with it taken away, are independent, at twice the
    variance (Rasines and Young 2022; Leiner et al., "Data fission", 2023): the first chooses, the second is read. What
    follows is averaged over the noise.

    Parameters
    ----------
    values, errors : ndarray [K]
    """
    noise = errors * np.random.default_rng([seed, tries]).standard_normal((resamples, len(values)))
    order = np.argsort(-(values + noise), axis=1)
    by_rank = chances_to_be_chosen(-np.arange(len(values), dtype=float), tries)
    read = np.take_along_axis(values - noise, order, axis=1) @ by_rank
    variances = 2 * (errors[order] @ by_rank) ** 2
    return float(read.mean()), float(np.sqrt(variances.mean()))
