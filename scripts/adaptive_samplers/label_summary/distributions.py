"""How the values of a label are distributed, by kind of prompt."""

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 40
QUANTILES = {"minimum": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "maximum": 1.0}
ALL_KINDS = "all"


def group_values(values: np.ndarray, seeds: int) -> np.ndarray:
    """One value for each group of `seeds` neighbors, nan where none has one.

    Parameters
    ----------
    values : float [groups * seeds], the same for all of a group that have a value.
    """
    return np.fmax.reduce(values.reshape(-1, seeds), axis=1)


def bin_edges(values: np.ndarray) -> np.ndarray:
    """Edges of the bins that hold all `values`: integers in a small range have one bin each.

    Returns
    -------
    float [bins + 1]; empty if there are no values.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return np.array([])
    low, high = values.min(), values.max()
    if high - low > 1 and (values == np.round(values)).all():
        step = int((high - low) // BINS) + 1
        bins = int((high - low) // step) + 1
        return low - 0.5 + step * np.arange(bins + 1)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, BINS + 1)


def distribution(values: np.ndarray, codes: np.ndarray, kinds: Sequence[str]) -> dict[str, Any]:
    """Moments, quantiles and histograms of all values and of those of each kind.

    Parameters
    ----------
    values : float [N], nan where a label is null.
    codes : int [N], the index in `kinds` of each.

    Returns
    -------
    dict
        `edges` of the bins, and `kinds`: for `all` and each kind `n` values, `nulls`, `mean`, `sd` (with n - 1),
        quantiles (linear between neighbors), and `histogram`, counts by bin. None where there are too few values.
    """
    edges = bin_edges(values)
    parts = {ALL_KINDS: values} | {kind: values[codes == code] for code, kind in enumerate(kinds)}
    return {"edges": edges.tolist(), "kinds": {kind: _described(part, edges) for kind, part in parts.items()}}


def _described(values: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    counts = {"n": len(known), "nulls": len(values) - len(known)}
    if not len(known):
        return {**counts, **dict.fromkeys(["mean", "sd", *QUANTILES]), "histogram": [0] * max(0, len(edges) - 1)}
    sd = float(known.std(ddof=1)) if len(known) > 1 else None
    quantiles = np.quantile(known, list(QUANTILES.values())).tolist()
    histogram = np.histogram(known, edges)[0].tolist()
    shape = dict(zip(QUANTILES, quantiles, strict=True))
    return {**counts, "mean": float(known.mean()), "sd": sd, **shape, "histogram": histogram}
