"""Several judges: how far their ratings agree, and one quality table made from them."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from adaptive_samplers.tables import KEY, SCHEMAS, parts_of_prompts, read_table, write_parts

# The answers that meet in a tournament, by `labels.quality.tournament.group`.
GROUPS = {"seed": ["prompt_id", "seed"], "prompt": ["prompt_id"]}
DECIMALS = 9


class Agreement:
    """How far two judges agree, accumulated group by group.

    A group counts if both judges rated at least two of the same answers: its Kendall's tau-b (nan, and left out of the
    mean, if a judge rated all of them equally), and whether the two name the same best answer; among ties, one in
    common is enough.

    References
    ----------
    Kendall (1945), The Treatment of Ties in Ranking Problems.
    """

    def __init__(self) -> None:
        self.taus: list[float] = []
        self.same_best = 0
        self.groups = 0

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        """Add a group by the ratings [N] of its answers; nan where a judge has none."""
        both = ~np.isnan(one) & ~np.isnan(other)
        if both.sum() < 2:
            return
        # Equal ratings may differ in their last bits.
        one, other = one[both].round(DECIMALS), other[both].round(DECIMALS)
        self.groups += 1
        self.same_best += bool(((one == one.max()) & (other == other.max())).any())
        if np.ptp(one) > 0 and np.ptp(other) > 0:
            self.taus.append(float(kendalltau(one, other).statistic))

    def measured(self) -> dict[str, Any]:
        """`kendall_tau`, the mean over groups; `top_1`, the share with the same best answer; and `groups`."""
        return {
            "kendall_tau": float(np.mean(self.taus)) if self.taus else None,
            "top_1": self.same_best / self.groups if self.groups else None,
            "groups": self.groups,
        }


def combine_quality(tables: Mapping[str, Path], method: str, output: Path, group: str = "seed") -> dict[str, Any]:
    """Combine the `quality` tables of several judges, for the same answers, into one.

    Parameters
    ----------
    tables : by judge, the first one first; at least one.
    method : `first` takes the first judge's table as it is. `mean` takes the mean of all judges' ratings, each
        standardized among the answers of its group (`standardized`): of an answer that some judges could not rate, the
        mean of the others; a judge that could not rate it has no say. The standard error is that of a mean of
        independent ratings, comparisons are summed, and there is no reward, for each judge has a scale of its own.
    output : where the table goes; its rows are in the order of the first judge's.
    group : which answers to a prompt met in the judges' tournaments, those under one `seed` or all to a `prompt`.

    Returns
    -------
    `agreement`, for each pair of judges as `Agreement.measured` with `judges`, their names; and `answers_rated`: by how
    many judges (`all`, `some`, `none`).
    """
    pairs = {pair: Agreement() for pair in combinations(tables, 2)}
    rated = {"all": 0, "some": 0, "none": 0}

    def parts() -> Iterator[pd.DataFrame]:
        for part in _side_by_side(tables):
            ratings = {name: table["rating"].to_numpy() for name, table in part.items()}
            for places in next(iter(part.values())).groupby(GROUPS[group], sort=False).indices.values():
                for (one, other), agreement in pairs.items():
                    agreement.add(ratings[one][places], ratings[other][places])
            raters = (~np.isnan(np.column_stack(list(ratings.values())))).sum(axis=1)
            for word, answers in (("all", raters == len(tables)), ("none", raters == 0)):
                rated[word] += int(answers.sum())
            rated["some"] += int(((raters > 0) & (raters < len(tables))).sum())
            yield next(iter(part.values())) if method == "first" else _mean(list(part.values()), group)

    write_parts("quality", parts(), output)
    agreement = [{"judges": list(pair), **found.measured()} for pair, found in pairs.items()]
    return {"agreement": agreement, "answers_rated": rated}


def _side_by_side(tables: Mapping[str, Path]) -> Iterator[dict[str, pd.DataFrame]]:
    """The judges' tables in parts of whole prompts, with the same answer in the same row of each."""
    first, *others = tables
    for part in parts_of_prompts("quality", tables[first], SCHEMAS["quality"].names):
        prompts = set(part["prompt_id"])
        keys = part[KEY]
        yield {first: part} | {
            name: keys.merge(
                read_table("quality", tables[name], prompt_ids=prompts), on=KEY, how="left", validate="one_to_one"
            )
            for name in others
        }


def _mean(judged: list[pd.DataFrame], group: str) -> pd.DataFrame:
    """The `quality` table of the means over judges."""
    standard = [standardized(table, group) for table in judged]
    ratings = np.column_stack([ratings for ratings, _ in standard])
    variances = np.column_stack([errors for _, errors in standard]) ** 2
    count = (~np.isnan(ratings)).sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 for an answer that nobody rated is nan, as it should be
        mean = np.nansum(ratings, axis=1) / count
        error = np.sqrt(np.where(np.isnan(ratings), 0, variances).sum(axis=1)) / count
    table = judged[0][KEY].copy()
    table["rating"], table["rating_stderr"] = mean, error
    comparisons = np.column_stack([table["comparisons"].fillna(0) for table in judged])
    table["comparisons"] = comparisons.sum(axis=1).astype(np.int32)
    table["reward"] = np.nan
    return table[SCHEMAS["quality"].names]


def standardized(table: pd.DataFrame, group: str = "seed") -> tuple[np.ndarray, np.ndarray]:
    """Ratings [N] less their group's mean over its standard deviation, and standard errors [N] on that scale.

    A group is the answers that met (see `combine_quality`), and only those with a rating count. Judges differ in
    confidence, and so in the spread of their ratings: after this, each has the same weight. If all ratings of a group
    are equal, they are 0, and their errors are left out (nan).
    """
    groups = table.groupby(GROUPS[group])["rating"]
    spread = groups.transform("std", ddof=0)
    even = spread.round(DECIMALS) == 0
    ratings = ((table["rating"] - groups.transform("mean")) / spread).where(~even, table["rating"] * 0.0)
    errors = (table["rating_stderr"] / spread).where(~even)
    return ratings.to_numpy(), errors.to_numpy()


def combined_report(reports: Mapping[str, dict[str, Any]], method: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The report on several judges: that of the first, plus what is known of each and of all together.

    Parameters
    ----------
    reports : by judge, the first one first, as `label_quality` returns them.
    method, found : as `combine_quality` takes and returns them.

    Returns
    -------
    The first judge's report; `combine`, the method; `judges`, by name what was measured of each, with the counts of its
    tournaments; and what `combine_quality` found.
    """
    first = next(iter(reports.values()))
    judges = {
        name: {**{key: value for key, value in report.items() if key != "judge"}, **report["judge"]}
        for name, report in reports.items()
    }
    return {**first, "combine": method, "judges": judges, **found}
