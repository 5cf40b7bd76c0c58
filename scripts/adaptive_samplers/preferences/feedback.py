"""Feedback on single answers: desirable or not, by a threshold on the score."""

import numpy as np
import pandas as pd

THRESHOLDS = ("fixed", "mean", "median")


def binary_labels(
    scores: pd.Series, threshold: str, value: float = 0.0, groups: pd.Series | np.ndarray | None = None
) -> pd.Series:
    """Whether each answer's score reaches the threshold.

    Parameters
    ----------
    scores : Series of float [N], none of them NaN.
    threshold : `fixed`, which is `value`; or the `mean` or `median` of the answer's group.
    groups : [N], the group of each answer; None: all are one group.

    Returns
    -------
    Series of bool [N]
    """
    if threshold == "fixed":
        return scores >= value
    if groups is None:
        return scores >= getattr(scores, threshold)()
    return scores >= scores.groupby(groups).transform(threshold)
