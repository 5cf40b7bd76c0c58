"""Labels brought to one scale: by mean and deviation, by median and MAD, or by ranks; over all answers or in groups."""

from typing import Any

import numpy as np
import pandas as pd

METHODS = ("zscore", "robust", "rank")
SCOPES = ("global", "dataset", "prompt")
# Factors from a normal distribution's median and mean absolute deviation to its standard deviation.
_FROM_MEDIAN_DEVIATION = 1.4826
_FROM_MEAN_DEVIATION = 1.2533


def z_score(values: pd.Series) -> pd.Series:
    """`(value - mean) / standard deviation`; 0 for nulls and if all values are equal."""
    return normalize(values, None, "zscore")


def normalize(values: pd.Series, groups: np.ndarray | None, method: str) -> pd.Series:
    """Bring a label to a scale on which 0 is the middle of its group and 1 is one deviation above.

    - `zscore`: `(value - mean) / standard deviation`.
    - `robust`: `(value - median) / (1.4826 MAD)`, where MAD is the median of the distances to the median. Where it is
      0, because more than half of the values are equal, `1.2533` times the mean of these distances is used instead
      (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993), so that rare values still count.
    - `rank`: the z-score of the ranks, with the mean rank for equal values.

    Parameters
    ----------
    values : Series of float [N]; nulls are left out of every statistic.
    groups : int array [N], the group of each value; None: all values are one group.

    Returns
    -------
    Series [N]
        0 for nulls, and for all values of a group without spread (with one value, or only equal ones).
    """

    def over(some: pd.Series, statistic: str, **options: Any) -> Any:
        """A statistic of each value's group."""
        if groups is None:
            return getattr(some, statistic)(**options)
        return some.groupby(groups, sort=False).transform(statistic, **options)

    if method == "rank":
        values = values.rank() if groups is None else values.groupby(groups, sort=False).rank()
    # Rounding can give equal values a deviation of 1e-17, and thus z-scores of 1.
    spreads = over(values, "max") > over(values, "min")
    if method == "robust":
        center = over(values, "median")
        distances = (values - center).abs()
        deviation = _FROM_MEDIAN_DEVIATION * over(distances, "median")
        deviation = np.where(deviation > 0, deviation, _FROM_MEAN_DEVIATION * over(distances, "mean"))
    else:
        center = over(values, "mean")
        deviation = over(values, "std", ddof=0)
    spreads = np.broadcast_to(np.asarray(spreads & (deviation > 0)), len(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((values - center) / deviation).fillna(0.0).where(spreads, 0.0)
