"""What samplers reach together when two objectives count: the hypervolume of their front.

One sampler is better in one objective, another in the other. A set of samplers is worth the area that its points
dominate (Zitzler and Thiele, "Multiobjective evolutionary algorithms", IEEE Transactions on Evolutionary Computation,
1999). All heuristics are such a set, and so is a learned sampler at several preferences.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from adaptive_samplers.bootstrap import resampled_means
from adaptive_samplers.evaluation import LEARNED, prompt_means
from adaptive_samplers.heuristics import split_preference
from adaptive_samplers.measures import DIVERSITY_MEASURES, OBJECTIVES

HEURISTICS_TOGETHER = "all heuristics"

_COLUMNS = [
    "objective",
    "other",
    "front",
    "samplers",
    "hypervolume",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
    "n_prompts",
]


def hypervolume(points: np.ndarray) -> np.ndarray:
    """The area between the origin and what points dominate, larger being better in both coordinates.

    Parameters
    ----------
    points : array [..., S, 2]
        Points with a coordinate below 0 or NaN add nothing.

    Returns
    -------
    array [...]
    """
    points = np.where((points > 0).all(axis=-1, keepdims=True), points, 0.0)
    order = np.argsort(-points[..., 0], axis=-1, kind="stable")
    across, up = np.moveaxis(np.take_along_axis(points, order[..., None], axis=-2), -1, 0)
    # From the right: between a point and the next, the area reaches up to the highest so far.
    widths = across - np.concatenate([across[..., 1:], np.zeros_like(across[..., :1])], axis=-1)
    return (widths * np.maximum.accumulate(up, axis=-1)).sum(axis=-1)


def fronts_of(heuristics: pd.DataFrame) -> dict[str, np.ndarray]:
    """Masks over the rows of a `heuristics` table: all heuristics, and each learned sampler at all its preferences."""
    learned = (heuristics["family"] == LEARNED).to_numpy()
    found = {HEURISTICS_TOGETHER: ~learned}
    split = [split_preference(name) for name in heuristics["name"]]
    names = np.array([name if preference is not None else "" for name, preference in split])
    for name in dict.fromkeys(names[learned & (names != "")]):
        found[name] = learned & (names == name)
    return found


def compare_fronts(
    quality: pd.DataFrame,
    diversity: pd.DataFrame,
    correctness: pd.DataFrame,
    heuristics: pd.DataFrame,
    objectives: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """The front of every sampler that takes a preference, and that of all heuristics together.

    Each pair of an objective of single answers (quality, correctness) and a measure of diversity has fronts of its own.
    The area is a share of the rectangle between the worst and the best heuristic's means: 1 would be a sampler as good
    as the best in both. Which heuristics make the front is read off these same prompts, which favors the heuristics.

    Parameters
    ----------
    quality, diversity, correctness, heuristics, objectives, resamples, confidence, seed
        As in `compare_samplers`.

    Returns
    -------
    DataFrame
        Columns objective, other, front, samplers (how many points it has), hypervolume, low, high; difference from the
        heuristics' hypervolume with difference_low and difference_high, over the same resampled prompts; n_prompts, of
        those with values of both. No row where heuristics do not differ in both.
    """
    tables = {"quality": quality, "diversity": diversity, "correctness": correctness}
    means = {objective: prompt_means(objective, tables, heuristics) for objective in objectives}
    fronts = fronts_of(heuristics)
    middle = [(1 - confidence) / 2, (1 + confidence) / 2]
    rows = []
    for objective, other in product(
        [name for name in objectives if name not in DIVERSITY_MEASURES],
        [name for name in objectives if name in DIVERSITY_MEASURES],
    ):
        prompts = means[objective].index.intersection(means[other].index)
        if len(prompts) < 2:
            continue
        points = np.stack(
            [
                scaled_means(
                    OBJECTIVES[name].sign * means[name].loc[prompts].to_numpy(),
                    fronts[HEURISTICS_TOGETHER],
                    resamples,
                    seed,
                )
                for name in (objective, other)
            ],
            axis=-1,
        )
        if np.isnan(points[0]).all(axis=0).any():
            continue
        areas = {front: hypervolume(points[:, mask]) for front, mask in fronts.items()}
        for front, area in areas.items():
            gain = area - areas[HEURISTICS_TOGETHER]
            values = [value for one in (area, gain) for value in (one[0], *np.quantile(one[1:], middle))]
            rows.append((objective, other, front, int(fronts[front].sum()), *values, len(prompts)))
    return pd.DataFrame(rows, columns=_COLUMNS)


def scaled_means(values: np.ndarray, among: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of samplers over the prompts as they are and over resampled ones.

    0 is the worst heuristic over the same prompts, 1 the best: prompts differ more than samplers do, and a resample of
    easy ones moves them all.

    Parameters
    ----------
    values : array [P, S]
    among : bool array [S]
        The heuristics.
    resamples, seed : the same seed and number of prompts draw the same prompts.

    Returns
    -------
    array [1 + resamples, S]
        A row is NaN where the heuristics are equal.
    """
    means = np.vstack([np.nanmean(values, axis=0), resampled_means(values, resamples, seed)])
    worst = np.nanmin(means[:, among], axis=1, keepdims=True)
    best = np.nanmax(means[:, among], axis=1, keepdims=True)
    # Rounding leaves some difference where there is none.
    differ = best - worst > 1e-12 * np.maximum(np.abs(best), np.abs(worst))
    return np.divide(means - worst, best - worst, out=np.full_like(means, np.nan), where=differ)
