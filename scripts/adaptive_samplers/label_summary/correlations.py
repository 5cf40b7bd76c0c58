"""Rank correlations between labels, over all answers and within prompts.

Spearman (1904), "The proof and measurement of association between two things".
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from adaptive_samplers.measures import MEASURES
from adaptive_samplers.rendering import latex_text, write_csv, write_latex_table

FEWEST = 3  # pairs of values, below which there is no correlation


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation of two arrays without nulls; nan for fewer than `FEWEST` values, or if one does not vary."""
    if len(x) < FEWEST:
        return np.nan
    # Imported here: figures and pages of labels must not take its second.
    from scipy.stats import rankdata

    return float(_grouped_pearson(np.zeros(len(x), dtype=np.int64), rankdata(x), rankdata(y))[0])


def spearman_by_group(groups: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlations within groups, for each group in which it is defined as in `spearman`.

    Parameters
    ----------
    groups : int [N]
    x, y : float [N], without nulls.
    """
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if not len(codes):
        return np.array([])
    ranks = pd.DataFrame({"x": x, "y": y}).groupby(codes).rank()
    found = _grouped_pearson(codes, ranks["x"].to_numpy(), ranks["y"].to_numpy())[counts >= FEWEST]
    return found[np.isfinite(found)]


def _grouped_pearson(codes: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson correlation of each group of ranks; nan if one of the two does not vary."""
    counts = np.bincount(codes)
    x, y = (values - (np.bincount(codes, values) / counts)[codes] for values in (x, y))
    xx, yy, xy = (np.bincount(codes, product) for product in (x * x, y * y, x * y))
    varied = (xx > 1e-9) & (yy > 1e-9)  # ranks differ by at least one half
    return np.where(varied, np.clip(xy / np.sqrt(np.where(varied, xx * yy, 1.0)), -1, 1), np.nan)


def correlations(answers: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Spearman's correlation of every pair of labels.

    Where one of two labels is a group's (the answers to a prompt under a heuristic, across seeds), a group counts once
    and an answer's label is averaged over it: three answers that share a value are not three observations of it.

    Parameters
    ----------
    answers : DataFrame
        A row per answer: `prompt` and `group`, numbers of both, and the labels, null where there is none.
    columns : names of labels, as in `measures`.

    Returns
    -------
    DataFrame
        A row per pair: `first`, `second`, `unit` (answer or group), `n` of them that have both labels, `overall` over
        all of these, and the mean `within` the `n_prompts` prompts that have at least three and in which both labels
        vary, with its standard error over prompts. Null where it is not defined.
    """
    grouped = answers.groupby("group")
    # Not the mean of a group's own label: rounding would break ties between groups.
    how = {column: "first" if MEASURES[column].of_group else "mean" for column in columns}
    groups = grouped.agg({"prompt": "first", **how})
    rows = []
    for first, second in combinations(columns, 2):
        of_group = MEASURES[first].of_group or MEASURES[second].of_group
        pairs = (groups if of_group else answers)[["prompt", first, second]].dropna()
        prompt, x, y = (pairs[column].to_numpy() for column in ("prompt", first, second))
        inside = spearman_by_group(prompt, x, y)
        rows.append(
            {
                "first": first,
                "second": second,
                "unit": "group" if of_group else "answer",
                "n": len(pairs),
                "overall": spearman(x, y),
                "within": float(inside.mean()) if len(inside) else np.nan,
                "within_stderr": float(inside.std(ddof=1) / np.sqrt(len(inside))) if len(inside) > 1 else np.nan,
                "n_prompts": len(inside),
            }
        )
    names = ["first", "second", "unit", "n", "overall", "within", "within_stderr", "n_prompts"]
    return pd.DataFrame(rows, columns=names)


def as_matrix(pairs: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Correlations as a matrix [labels, labels]: overall below the diagonal, within prompts above it, nan on it."""
    matrix = np.full((len(columns), len(columns)), np.nan)
    place = {column: position for position, column in enumerate(columns)}
    for row in pairs.itertuples(index=False):
        low, high = sorted((place[row.first], place[row.second]))
        matrix[high, low], matrix[low, high] = row.overall, row.within
    return matrix


def write_correlations(pairs: pd.DataFrame, columns: list[str], csv_path: Path | str, tex_path: Path | str) -> None:
    """Write correlations for people: every pair and digit as CSV, and the matrix as LaTeX for a paper.

    In the LaTeX table, overall correlations are below the diagonal and those within prompts above it.
    """
    write_csv(pairs, csv_path)
    numbers = [str(position + 1) for position in range(len(columns))]
    rows = []
    for position, row in enumerate(as_matrix(pairs, columns)):
        cells = ["" if place == position else _latex_number(value) for place, value in enumerate(row)]
        rows.append([numbers[position], latex_text(MEASURES[columns[position]].title), *cells])
    write_latex_table(f"rl{'r' * len(columns)}", [["", "Label", *numbers]], [rows], tex_path)


def _latex_number(value: float) -> str:
    return "--" if np.isnan(value) else f"${value:z.2f}$"
