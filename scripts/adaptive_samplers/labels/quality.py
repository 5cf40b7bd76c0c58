"""Quality: a tournament between the answers to each prompt and seed, judged by the configured judge."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.judges.base import Judge
from adaptive_samplers.labels.tournament import run_tournaments
from adaptive_samplers.tables import KEY

SHOWN_FAILURES = 5
KEPT_REASONS = 20


def label_quality(
    candidates: pd.DataFrame, judge: Judge, tournament: Tournament, tolerance: float, seed: int
) -> tuple[pd.DataFrame, dict]:
    """Rate every answer within its (prompt, seed), or within its prompt if `tournament` has `group: prompt`.

    `judge` knows the answers as they are given, or in the latter case as `under_one_seed` gives them.

    Answers with the same text and the same ending are one player and share its rating: no judge can tell them apart.
    Heuristics that draw with the same random numbers often give such answers, and comparisons are expensive.

    Returns
    -------
    The `quality` table, and a summary of the tournaments with what was measured of the judge. An answer that failed
    takes no part and has null ratings; its reward is null too.

    Raises
    ------
    UserError
        If a larger share of judge calls than `tolerance` failed.
    """
    rest = tournament.model_dump(exclude={"group"})
    together = tournament.group == "prompt"
    candidates = under_one_seed(candidates) if together else candidates
    answered = candidates[candidates["finish_reason"] != "error"]
    same = answered.groupby(["prompt_id", "seed", "text", "finish_reason"])["heuristic_id"]
    answered = answered[KEY].assign(player=same.transform("min"))
    groups = {key: group["player"].unique().tolist() for key, group in answered.groupby(["prompt_id", "seed"])}
    ratings, summary = run_tournaments(groups, judge.compare, **rest, seed=seed)
    summary["equal_answers"] = len(answered) - sum(map(len, groups.values()))
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
    ratings = ratings.rename(columns={"heuristic_id": "player"})
    rated = answered.merge(ratings, on=["prompt_id", "player", "seed"], validate="many_to_one")
    # If all answers are the same, their one player meets nobody, but they are known to be equally good.
    met = rated.groupby(["prompt_id", "seed"])["player"]
    rated.loc[(met.transform("nunique") == 1) & (met.transform("size") > 1), ["rating", "rating_stderr"]] = 0.0
    rated["rating"] -= rated.groupby(["prompt_id", "seed"])["rating"].transform("mean")
    table = candidates[KEY].merge(rated.drop(columns="player"), on=KEY, how="left", validate="one_to_one")
    table["comparisons"] = table["comparisons"].fillna(0).astype(np.int32)
    table["reward"] = [judge.rewards.get(key, np.nan) for key in table[KEY].itertuples(index=False, name=None)]
    return (under_own_seeds(table) if together else table), summary


def under_one_seed(candidates: pd.DataFrame) -> pd.DataFrame:
    """The same answers as if all had seed 0, so that those to a prompt meet in one tournament.

    Their original seeds are appended to their heuristics' ids.
    """
    ids = candidates["heuristic_id"] + " " + candidates["seed"].astype(str)
    return candidates.assign(heuristic_id=ids, seed=0)


def under_own_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The inverse of `under_one_seed`."""
    ids = table["heuristic_id"].str.rsplit(" ", n=1, expand=True)
    return table.assign(heuristic_id=ids[0], seed=ids[1].astype(np.int64))


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
