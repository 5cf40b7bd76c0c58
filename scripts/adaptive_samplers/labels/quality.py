"""Quality: a tournament between the answers to each prompt and seed, judged by the configured judge."""

from collections import Counter

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.judges.base import Judge
from adaptive_samplers.labels.tournament import run_tournaments
from adaptive_samplers.tables import KEY

SHOWN_FAILURES = 5
KEPT_REASONS = 20


def label_quality(
    candidates: pd.DataFrame, judge: Judge, tournament: dict, tolerance: float, seed: int
) -> tuple[pd.DataFrame, dict]:
    """Rate every answer within its (prompt, seed).

    Returns
    -------
    The `quality` table, and a summary of the tournaments with what was measured of the judge. An answer that failed
    takes no part and has null ratings; its reward is null too.

    Raises
    ------
    UserError
        If a larger share of judge calls than `tolerance` failed.
    """
    answered = candidates[candidates["finish_reason"] != "error"]
    groups = {key: group["heuristic_id"].tolist() for key, group in answered.groupby(["prompt_id", "seed"])}
    ratings, summary = run_tournaments(groups, judge.compare, **tournament, seed=seed)
    reasons = Counter(reason for _, reason in judge.failures)
    summary |= {"failure_reasons": dict(reasons.most_common(KEPT_REASONS)), "judge": judge.measured()}
    share = summary["failed"] / max(1, summary["calls"])
    if share > tolerance:
        causes = "\n".join(f"  {count} times: {reason}" for reason, count in reasons.most_common(SHOWN_FAILURES))
        first = "\n".join(f"  {what}: {reason}" for what, reason in judge.failures[:SHOWN_FAILURES])
        raise UserError(
            f"{summary['failed']} of {summary['calls']} judge calls failed ({share:.1%}), and labels.quality.tolerance "
            f"allows {tolerance:.1%}. Why, the most frequent causes:\n{causes}\nWhat could not be judged, the first of "
            f"{len(judge.failures)}:\n{first}\nMend the cause, or raise the tolerance"
        )
    table = candidates[KEY].merge(ratings, on=KEY, how="left", validate="one_to_one")
    table["comparisons"] = table["comparisons"].fillna(0).astype(np.int32)
    table["reward"] = [judge.rewards.get(key, np.nan) for key in table[KEY].itertuples(index=False, name=None)]
    return table, summary
