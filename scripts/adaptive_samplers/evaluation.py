"""How learned samplers compare with every heuristic: means, bootstrap intervals and differences.

A prompt is the unit of sampling. Answers to one prompt are first averaged over seeds, and prompts are resampled, the
same ones for every sampler, so that differences between samplers are paired (Efron and Tibshirani, "An Introduction to
the Bootstrap", 1993, chapter 13).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from adaptive_samplers.bootstrap import resampled_means
from adaptive_samplers.errors import UserError
from adaptive_samplers.measures import OBJECTIVES

BASE = "temperature_1"  # sampling from the language model as it is
LEARNED = "learned"


class Interval(NamedTuple):
    """A mean over prompts with its bootstrap interval; the bounds are NaN for fewer than two prompts."""

    mean: float
    low: float
    high: float
    n_prompts: int


def intervals(values: np.ndarray, resamples: int, confidence: float, seed: int) -> list[Interval]:
    """One percentile interval per column of `values [prompts, systems]`, paired: the same prompts for every column.

    NaN, a prompt without a value, is ignored.
    """
    present = np.isfinite(values).sum(axis=0)
    if not len(values):
        return [Interval(np.nan, np.nan, np.nan, 0)] * values.shape[1]
    tail = (1 - confidence) / 2
    resampled = resampled_means(values, resamples, seed)
    intervals = []
    for column, n_prompts in enumerate(present):
        mean = low = high = np.nan
        if n_prompts:
            mean = float(np.nanmean(values[:, column]))
        if n_prompts > 1:
            low, high = (float(bound) for bound in np.nanquantile(resampled[:, column], [tail, 1 - tail]))
        intervals.append(Interval(mean, low, high, int(n_prompts)))
    return intervals


def bootstrap_mean(values_by_prompt: pd.DataFrame, resamples: int, confidence: float, seed: int) -> Interval:
    """Mean over prompts with a percentile bootstrap interval.

    Parameters
    ----------
    values_by_prompt : DataFrame with the columns prompt_id, value
        One row per answer. Null values are ignored; the values of a prompt are averaged first.
    resamples : int
        How many times the prompts are resampled.
    confidence : float
        Coverage of the interval, between 0 and 1.
    seed : int
        The same seed draws the same prompts, for samplers with the same prompts.
    """
    means = values_by_prompt.dropna(subset="value").groupby("prompt_id")["value"].mean()
    return intervals(means.to_numpy(float)[:, None], resamples, confidence, seed)[0]


def prompt_means(objective: str, tables: dict[str, pd.DataFrame], heuristics: pd.DataFrame) -> pd.DataFrame:
    """An objective's means over seeds: a row per prompt with any value, a column per heuristic_id."""
    if objective not in OBJECTIVES:
        raise UserError(f"evaluation.objectives: unknown objective '{objective}'; known: {', '.join(OBJECTIVES)}")
    source = OBJECTIVES[objective]
    labels = tables[source.table]
    unknown = sorted(set(labels["heuristic_id"]) - set(heuristics["heuristic_id"]))
    if unknown:
        raise UserError(
            f"table '{source.table}': heuristic_id {unknown[0]} is not in the table of heuristics; "
            "the labels are of another run: delete them and run again"
        )
    labels = labels.dropna(subset=source.column)
    means = labels.groupby(["prompt_id", "heuristic_id"])[source.column].mean().unstack()
    return means.reindex(columns=heuristics["heuristic_id"]).astype(float)


def compare_samplers(
    quality: pd.DataFrame,
    diversity: pd.DataFrame,
    correctness: pd.DataFrame,
    heuristics: pd.DataFrame,
    objectives: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
) -> pd.DataFrame:
    """The mean of every objective for every heuristic and learned sampler.

    Parameters
    ----------
    quality, diversity, correctness : DataFrame
        Label tables of the prompts to compare on, of heuristics and learned samplers together.
    heuristics : DataFrame with the columns heuristic_id, name, family
        Learned samplers have the family `learned`.
    objectives : sequence of names in `OBJECTIVES`
    resamples, confidence, seed
        See `bootstrap_mean`.

    Returns
    -------
    DataFrame
        A `comparison` table: a row per sampler and objective, in the order given. A sampler without any value
        of an objective has a null mean and `n_prompts` 0.

    Raises
    ------
    UserError
        If an objective is unknown, or a label's heuristic is not among `heuristics`.
    """
    tables = {"quality": quality, "diversity": diversity, "correctness": correctness}
    rows = []
    for objective in objectives:
        means = prompt_means(objective, tables, heuristics)
        found = intervals(means.to_numpy(), resamples, confidence, seed)
        for system, interval in zip(heuristics.itertuples(index=False), found, strict=True):
            kind = LEARNED if system.family == LEARNED else "heuristic"
            rows.append((system.family, system.name, kind, objective, *interval))
    columns = ["family", "name", "kind", "objective", *Interval._fields]
    return pd.DataFrame(rows, columns=columns)


def paired_differences(
    quality: pd.DataFrame,
    diversity: pd.DataFrame,
    correctness: pd.DataFrame,
    heuristics: pd.DataFrame,
    objectives: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
    base: str = BASE,
) -> pd.DataFrame:
    """Every learned sampler against the best heuristic of each objective, and against the base.

    The best heuristic is chosen by its mean on these same prompts, which favors the heuristic, not the
    learned sampler. A difference is learned minus reference, over the prompts that both have; for self-BLEU a
    negative one is the more diverse. The other parameters are those of `compare_samplers`.

    Parameters
    ----------
    base : str
        Name of the heuristic that leaves the language model as it is; ignored if the run has none.

    Returns
    -------
    DataFrame
        Columns name, reference, objective, difference, low, high, n_prompts; one row fewer if the best
        heuristic is the base.
    """
    tables = {"quality": quality, "diversity": diversity, "correctness": correctness}
    names = heuristics.set_index("heuristic_id")["name"]
    is_learned = (heuristics["family"] == LEARNED).to_numpy()
    rows = []
    for objective in objectives:
        means = prompt_means(objective, tables, heuristics)
        ordered = means.loc[:, ~is_learned].mean().dropna()
        if ordered.empty:
            continue
        best = ordered.idxmax() if OBJECTIVES[objective].higher_is_better else ordered.idxmin()
        references = [best, *(system for system in ordered.index if names[system] == base and system != best)]
        for learned in means.columns[is_learned]:
            for reference in references:
                difference = (means[learned] - means[reference]).dropna().to_numpy()[:, None]
                interval = intervals(difference, resamples, confidence, seed)[0]
                rows.append((names[learned], names[reference], objective, *interval))
    columns = ["name", "reference", "objective", "difference", "low", "high", "n_prompts"]
    return pd.DataFrame(rows, columns=columns)


def join_generations(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables of generations of learned samplers in one, whose first column is the generation, from 1."""
    return pd.concat([table.assign(generation=number) for number, table in enumerate(tables, 1)])[
        ["generation", *tables[0].columns]
    ]


def best_first(comparison: pd.DataFrame, objective: str) -> list[str]:
    """Names of all samplers, the best in an objective first and those without a value last."""
    means = comparison[comparison["objective"] == objective].set_index("name")["mean"]
    higher_is_better = OBJECTIVES[objective].higher_is_better
    ordered = means.sort_values(ascending=not higher_is_better, kind="stable", na_position="last").index.tolist()
    return ordered + [name for name in dict.fromkeys(comparison["name"]) if name not in means.index]
