"""One report of the tournaments from those of all shards. Loads no judge, and nothing that fits ratings."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def merge_summaries(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report of `label_quality` on several shards, as if they were one.

    Counts are summed, except `most_byes`, which is the maximum; means are weighted by judged comparisons.
    """
    return _merged(summaries, [summary["calls"] - summary["failed"] for summary in summaries])


def _merged(summaries: Sequence[dict[str, Any]], weights: Sequence[int]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name in dict.fromkeys(name for summary in summaries for name in summary):
        known = [(summary[name], weight) for summary, weight in zip(summaries, weights, strict=True) if name in summary]
        values = [value for value, _ in known if value is not None]
        if not values or isinstance(values[0], str):
            merged[name] = values[0] if values else None
        elif isinstance(values[0], dict):
            merged[name] = _merged(values, [weight for value, weight in known if value is not None])
        elif name == "most_byes":
            merged[name] = max(values)
        elif isinstance(values[0], int):
            merged[name] = sum(values)
        else:
            # A shard without judged comparisons has no mean, and no weight.
            usable = [weight for value, weight in known if value is not None]
            merged[name] = float(np.average(values, weights=usable)) if any(usable) else values[0]
    return merged
