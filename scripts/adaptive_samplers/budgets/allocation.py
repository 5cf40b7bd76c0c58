"""Divides the rest of the budget among prompts: seeds go where one more is most informative."""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from adaptive_samplers.budgets.elimination import eliminate
from adaptive_samplers.budgets.first_phase import FirstPhase
from adaptive_samplers.config.model.generation import AdaptiveBudgets
from adaptive_samplers.files import write_json
from adaptive_samplers.tables import write_parts

UNSETTLED, UNDECIDED = "unsettled", "undecided"
LISTED = 1_000  # prompts that are listed in the report; the table has all


def worth_of_seeds(first: FirstPhase, kept: np.ndarray, top: int) -> dict[str, np.ndarray]:
    """How much the first phase leaves undecided about each prompt, from the heuristics that stay.

    Parameters
    ----------
    kept : bool [H]
    top : how many heuristics are to be known as the best of a prompt.

    Returns
    -------
    dict of arrays [P]
        `success_rate`, the share of correct answers (nan without any verdict). `unsettled`, P(the last of the `top`
        heuristics and the next one are in the wrong order), doubled: 0 to 1. `worth`, 0 to 1, and `reason`, which of
        the two it is. With p = (correct + 1) / (verdicts + 2), Laplace's estimate of the success rate, it is the larger
        of `4 p (1 - p)`, the variance of an answer's verdict as a share of the largest, and `p * unsettled`, because it
        does not matter which wrong answer is best. Without verdicts, p is 1.
    """
    verdicts = (~np.isnan(first.correct[:, kept])).sum(axis=(1, 2))
    successes = np.nansum(first.correct[:, kept], axis=(1, 2))
    p = np.where(verdicts > 0, (successes + 1) / (verdicts + 2), 1.0)
    unsettled = _unsettled(first.rating[:, kept], first.rating_stderr[:, kept], top)
    by_success, by_rating = 4 * p * (1 - p), p * unsettled
    with np.errstate(invalid="ignore"):
        success_rate = successes / verdicts
    return {
        "success_rate": success_rate,
        "unsettled": unsettled,
        "worth": np.maximum(by_success, by_rating),
        "reason": np.where(by_success > by_rating, UNDECIDED, UNSETTLED),
    }


def _unsettled(rating: np.ndarray, stderr: np.ndarray, top: int) -> np.ndarray:
    """Twice P(the last of the best `top` and the next one are in the wrong order), from ratings [P, H, S].

    A heuristic's mean rating varies with its answers and with the judge's comparisons. The first variance is measured
    between seeds and assumed equal for the heuristics of a prompt; the second is the rating's standard error. The
    larger one counts, because the first contains the second.
    """
    known = ~np.isnan(rating)
    seeds = known.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(rating, axis=2) / seeds
        squares = np.where(known, (rating - mean[..., None]) ** 2, 0).sum(axis=(1, 2))
        between = squares / np.maximum(seeds - 1, 0).sum(axis=1)  # nan with a single seed
        judged = np.nansum(stderr**2, axis=2) / seeds
        variance = np.fmax(between[:, None], judged) / seeds
    order = np.argsort(np.where(np.isnan(mean), np.inf, -mean), axis=1, kind="stable")
    if top >= order.shape[1]:
        return np.zeros(len(rating))
    pair = order[:, [top - 1, top]]
    means, variances = np.take_along_axis(mean, pair, axis=1), np.take_along_axis(variance, pair, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = (means[:, 0] - means[:, 1]) / np.sqrt(variances.sum(axis=1))
    # Equal without any variance: the same answers, which no further seed would tell apart.
    return np.nan_to_num(2 * norm.sf(distance), nan=0.0)


def divide(worth: Sequence[float], first_seeds: int, most: int, groups: int) -> np.ndarray:
    """How many further seeds each prompt gets: one at a time, always where it reduces the variance of a mean most.

    The variance of a mean over n seeds is proportional to worth / n, and another seed reduces it by worth / (n (n +
    1)). Since that decreases with n, always taking the largest minimizes the sum over prompts (Fox 1966, Discrete
    Optimization via Marginal Analysis). If prompts tie, the first one gets the seed.

    Parameters
    ----------
    worth : [P], at least 0.
    first_seeds : seeds that every prompt already has, at least 1.
    most : further seeds that a prompt can get.
    groups : seeds to divide, at least 0.

    Returns
    -------
    int [P], 0 to `most`; the sum is `groups`, or less if every prompt has `most`.
    """
    extra = np.zeros(len(worth), dtype=np.int64)

    def entry(prompt: int) -> tuple[float, int]:
        seeds = first_seeds + int(extra[prompt])
        return -float(worth[prompt]) / (seeds * (seeds + 1)), prompt

    heap = [entry(prompt) for prompt in range(len(worth))] if most else []
    heapq.heapify(heap)
    for _ in range(groups):
        if not heap:
            break
        prompt = heap[0][1]
        extra[prompt] += 1
        if extra[prompt] < most:
            heapq.heapreplace(heap, entry(prompt))
        else:
            heapq.heappop(heap)
    return extra


def budget_in_answers(share: float, prompts: int, heuristics: int, seeds: int) -> int:
    """A share of all possible answers to this many prompts, rounded down, as written in the config."""
    return int(Fraction(str(share)) * prompts * heuristics * seeds)


def allocate_budget(
    first: FirstPhase,
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    seeds: Sequence[int],
    settings: AdaptiveBudgets,
    output: Path,
    report: Path,
) -> None:
    """Write the `allocation` table, all rows of the second phase, and a report on how it was made.

    Training prompts get seeds by `divide`, each under the heuristics that `eliminate` kept of those in `first`. All
    answers to training prompts, of both phases, are at most `settings.budget` times the answers to every prompt under
    every heuristic and seed. Prompts of the other splits get every heuristic and seed, so that comparisons stay
    balanced; they are not part of the budget. A training prompt without labels, dropped in the first phase, gets
    nothing.

    Parameters
    ----------
    first : labels of the first phase.
    seeds : all seeds, in the order in which prompts get them; the first `settings.first_seeds` are the first phase's.
    output, report : a Parquet and a JSON file. Rows are in the order of seed, prompt and heuristic.
    """
    kept, evidence = eliminate(first, settings)
    later = list(seeds[settings.first_seeds :])
    training = prompts[prompts["split"] == "train"]
    uniform = len(training) * len(heuristics) * len(seeds)
    budget = budget_in_answers(settings.budget, len(training), len(heuristics), len(seeds))
    spent = len(training) * len(heuristics) * settings.first_seeds
    found = worth_of_seeds(first, kept, settings.top)
    extra = divide(found["worth"], settings.first_seeds, len(later), max(0, budget - spent) // int(kept.sum()))
    chosen = pd.DataFrame({"prompt_id": first.grid.prompt_ids.to_pylist(), "reason": found["reason"], "extra": extra})
    survivors = np.array(first.grid.heuristic_ids.to_pylist(), dtype=object)[kept].tolist()
    write_parts("allocation", _rows(chosen, survivors, prompts, heuristics, later), output)
    names = heuristics.set_index("heuristic_id")["name"]
    second = int(extra.sum()) * len(survivors)
    write_json(
        {
            "answers": {
                "uniform": uniform,
                "budget": budget,
                "first_phase": spent,
                "second_phase": second,
                "unspent": budget - spent - second,
            },
            "held_out_answers": (len(prompts) - len(training)) * len(heuristics) * len(later),
            "weightings": [weights.model_dump() for weights in settings.weights],
            "eliminated": int((~kept).sum()),
            "heuristics": [{"name": names[row["heuristic_id"]], **row} for row in evidence],
            "train_nothing": names.drop(first.grid.heuristic_ids.to_pylist()).tolist(),
            "prompts_by_seeds": _counts(extra + settings.first_seeds),
            "prompts": _listed(first, found, extra, settings.first_seeds),
            "unlisted_prompts": max(0, len(extra) - LISTED),
        },
        report,
    )


def _rows(
    chosen: pd.DataFrame, survivors: list[str], prompts: pd.DataFrame, heuristics: pd.DataFrame, later: list[int]
) -> Iterator[pd.DataFrame]:
    """The allocation, one part per seed."""
    held_out = prompts[prompts["split"] != "train"]
    everyone = pd.DataFrame({"heuristic_id": sorted(heuristics["heuristic_id"])})
    best = pd.DataFrame({"heuristic_id": sorted(survivors)})
    balanced = held_out[["prompt_id"]].assign(reason=held_out["split"]).merge(everyone, how="cross")
    for number, seed in enumerate(later):
        given = chosen.loc[chosen["extra"] > number, ["prompt_id", "reason"]].merge(best, how="cross")
        part = pd.concat([given, balanced]).sort_values(["prompt_id", "heuristic_id"], ignore_index=True)
        yield part.assign(seed=seed)


def _counts(seeds: np.ndarray) -> dict[str, int]:
    return {str(number): count for number, count in sorted(Counter(seeds.tolist()).items())}


def _listed(
    first: FirstPhase, found: dict[str, np.ndarray], extra: np.ndarray, first_seeds: int
) -> list[dict[str, Any]]:
    """The prompts with the most seeds."""
    prompt_ids = first.grid.prompt_ids.to_pylist()
    return [
        {
            "prompt_id": prompt_ids[row],
            "kind": str(first.kinds[row]),
            "seeds": first_seeds + int(extra[row]),
            "reason": str(found["reason"][row]),
            "worth": float(found["worth"][row]),
            "unsettled": float(found["unsettled"][row]),
            "success_rate": None if np.isnan(found["success_rate"][row]) else float(found["success_rate"][row]),
        }
        for row in np.lexsort((-found["worth"], -extra))[:LISTED].tolist()
    ]
