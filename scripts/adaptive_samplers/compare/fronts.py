"""What families reach together where an objective and diversity both count: hypervolumes after equal tries.

A family with more configurations has more points, and so a larger front, by merit and by luck. So each counts with as
many of its own, drawn at random.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from adaptive_samplers.compare.results import Objective, Results
from adaptive_samplers.fronts import hypervolume, scaled_means
from adaptive_samplers.measures import DIVERSITY_MEASURES

_FRONTS = [
    *("objective", "other", "family", "configurations", "tries", "hypervolume", "low", "high"),
    *("against", "difference", "difference_low", "difference_high", "n_prompts"),
]
_POINTS = ["objective", "other", "family", "configuration", "value", "other_value"]


def expected_hypervolume(points: np.ndarray, tries: int) -> float:
    """The mean `hypervolume` of all sets of `tries` of the points: exact, nothing is drawn.

    Each piece of the plane counts by the chance that one of the points that dominate it is drawn.

    Parameters
    ----------
    points : array [K, 2]
        Points with a coordinate below 0 add nothing, but may be drawn.
    tries : from 1 to K
        Drawn without replacement.
    """
    count = len(points)
    if not 1 <= tries <= count:
        raise ValueError(f"{tries} tries of {count} points")
    points = np.where((points > 0).all(axis=1, keepdims=True), points, 0.0)
    across, up = (np.unique([0.0, *points[:, axis]]) for axis in (0, 1))
    dominating = (points[:, :1] >= across[1:]).T.astype(int) @ (points[:, 1:] >= up[1:])
    drawn = np.arange(tries)
    missed = (np.maximum(count - np.arange(count + 1)[:, None] - drawn, 0) / (count - drawn)).prod(axis=1)
    return float(np.diff(across) @ (1 - missed[dominating]) @ np.diff(up))


def compare_family_fronts(results: Results, plan: Mapping[str, Any], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The front of each family, for each objective that is no measure of diversity with each that is one.

    A family's points are the means of its configurations over the test prompts that have values of both objectives. The
    area is a share of the rectangle between the worst and the best configuration of the families that are not claimed.
    Each family is compared with the one among these whose area is the largest over the validation prompts.

    Parameters
    ----------
    results : with the plan's families
    plan : its references have no front. Where identical configurations leave a family with fewer than its tries, all
        families have as few.
    seed : of resampled prompts and of the configurations that are drawn

    Returns
    -------
    fronts : DataFrame
        A row for each pair of objectives and family: configurations, tries, hypervolume expected of so many tries;
        `against`, the family it is compared with, and the difference from it, over the same resampled prompts, of which
        each draws the configurations of each family anew. Percentile intervals. No row where fewer than two test
        prompts have both values, or the families that are not claimed do not differ in both on either split.
    points : DataFrame
        The unscaled means of each configuration in these rows, higher being better.
    """
    fronts, points = [], []
    for one, other in product(
        [found for found in results.objectives if found.name not in DIVERSITY_MEASURES],
        [found for found in results.objectives if found.name in DIVERSITY_MEASURES],
    ):
        if one.is_published or other.is_published:
            continue
        pair = _Pair(one, other, plan)
        rows = pair.compare(seed)
        if rows:
            fronts += rows
            points += pair.points()
    return pd.DataFrame(fronts, columns=_FRONTS), pd.DataFrame(points, columns=_POINTS)


class _Pair:
    """Two objectives: which rows of theirs each family's configurations are."""

    def __init__(self, one: Objective, other: Objective, plan: Mapping[str, Any]) -> None:
        self.both = one, other
        self.statistics = plan["statistics"]
        rows = [_rows(objective) for objective in self.both]
        kept: dict[tuple[str, int, int], str] = {}
        for family, name in sorted(set(rows[0]) & set(rows[1])):
            if family not in plan["references"]:
                # Only what is identical in both objectives is the same point.
                kept.setdefault((family, *(found[family, name] for found in rows)), name)
        self.names = list(kept.values())
        self.families = np.array([family for family, *_ in kept])
        self.rows = np.array([found for _, *found in kept]).reshape(-1, 2).T
        self.members = {family: np.flatnonzero(self.families == family) for family in dict.fromkeys(self.families)}
        self.heuristics = [family for family in self.members if family not in plan["claims"]]
        self.tries = min([plan["tries"], *map(len, self.members.values())])
        self.test_values = self._values(of_test=True)

    def _values(self, of_test: bool) -> list[np.ndarray]:
        """Of each objective `[P, S]`, over the prompts of a split that have both."""
        chosen = [objective.is_test == of_test for objective in self.both]
        prompts = np.intersect1d(*(one.prompts[mask] for one, mask in zip(self.both, chosen, strict=True)))
        return [
            one.values[rows][:, np.flatnonzero(np.isin(one.prompts, prompts))].T
            for one, rows in zip(self.both, self.rows, strict=True)
        ]

    def scaled(self, values: list[np.ndarray], resamples: int, seed: int) -> np.ndarray | None:
        """Points `[1 + resamples, S, 2]`; None without two prompts, or if heuristics do not differ in both."""
        among = np.isin(self.families, self.heuristics)
        if len(values[0]) < 2 or not among.any():
            return None
        found = np.stack([scaled_means(one, among, resamples, seed) for one in values], axis=-1)
        return None if np.isnan(found[0]).any() else found

    def compare(self, seed: int) -> list[tuple]:
        resamples = self.statistics["resamples"]
        validation = self.scaled(self._values(of_test=False), 0, seed)
        test = self.scaled(self.test_values, resamples, seed)
        if validation is None or test is None:
            return []
        against = max(
            self.heuristics, key=lambda family: expected_hypervolume(validation[0, self.members[family]], self.tries)
        )
        generator = np.random.default_rng([seed, self.tries])
        areas = {
            family: (
                expected_hypervolume(test[0, members], self.tries),
                _drawn_hypervolumes(test[1:, members], self.tries, generator),
            )
            for family, members in self.members.items()
        }
        n_prompts = len(self.test_values[0])
        return [
            (
                *(objective.name for objective in self.both),
                family,
                len(self.members[family]),
                self.tries,
                *self.interval(area, resampled),
                against,
                *self.interval(area - areas[against][0], resampled - areas[against][1]),
                n_prompts,
            )
            for family, (area, resampled) in areas.items()
        ]

    def interval(self, value: float, resampled: np.ndarray) -> tuple[float, float, float]:
        tail = self.statistics["level"] / 2
        low, high = np.nanquantile(resampled, [tail, 1 - tail])
        return value, float(low), float(high)

    def points(self) -> list[tuple]:
        names = [objective.name for objective in self.both]
        means = [values.mean(axis=0) for values in self.test_values]
        return [(*names, *row) for row in zip(self.families, self.names, *means, strict=True)]


def _rows(objective: Objective) -> dict[tuple[str, str], int]:
    """Where the values of each family's configuration are, also of those left out as identical to others."""
    named = zip(objective.families, objective.configurations, strict=True)
    found = {(str(family), str(name)): row for row, (family, name) in enumerate(named)}
    return found | {(family, name): found[family, first] for family, name, first in objective.duplicates}


def _drawn_hypervolumes(points: np.ndarray, tries: int, generator: np.random.Generator) -> np.ndarray:
    """Of `points [R, K, 2]`, the area of `tries` in each row, drawn at random; NaN where there is no scale."""
    if tries < points.shape[1]:
        drawn = np.argsort(generator.random(points.shape[:2]), axis=1)[:, :tries]
        points = np.take_along_axis(points, drawn[..., None], axis=1)
    return np.where(np.isnan(points).any(axis=(1, 2)), np.nan, hypervolume(points))
