"""Successive elimination of heuristics that are confidently worse than the best and good for no kind of prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata, t

from adaptive_samplers.budgets.first_phase import FirstPhase
from adaptive_samplers.config.model.generation import AdaptiveBudgets


def standings(scores: np.ndarray) -> np.ndarray:
    """The share of the other answers to its prompt and seed that an answer beats; a tie counts half.

    Standings are bounded, and comparable between prompts whatever the scale of scores.

    Parameters
    ----------
    scores : float [P, H, S]; nan is ignored. Minus infinity ties with minus infinity.

    Returns
    -------
    float [P, H, S] in 0 to 1, nan where the score is nan or no other answer has one.
    """
    ranks = rankdata(scores, axis=1, nan_policy="omit")
    others = (~np.isnan(scores)).sum(axis=1, keepdims=True) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(others > 0, (ranks - 1) / others, np.nan)


def top_shares(scores: np.ndarray, kinds: np.ndarray, top: int) -> dict[str, np.ndarray]:
    """By kind of prompt, the share of prompts and seeds where each heuristic's answer is one of the `top` best.

    Answers that tie for the last places share them, so that the shares of all heuristics sum to `top`. Prompts and
    seeds without a selectable answer do not count.

    Returns
    -------
    dict of float [H] in 0 to 1
    """
    selectable = np.where(np.isfinite(scores), scores, -np.inf)
    last = -np.sort(-selectable, axis=1)[:, min(top, scores.shape[1]) - 1][:, None]
    above, tied = selectable > last, (selectable == last) & np.isfinite(selectable)
    left = top - above.sum(axis=1, keepdims=True)
    places = above + tied * np.minimum(1, left / np.maximum(1, tied.sum(axis=1, keepdims=True)))
    counted = np.isfinite(selectable).any(axis=1)
    return {
        kind: places[kinds == kind].sum(axis=(0, 2)) / max(1, counted[kinds == kind].sum())
        for kind in sorted(set(kinds.tolist()))
    }


def eliminate(first: FirstPhase, settings: AdaptiveBudgets) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Which heuristics can go after the first phase.

    One step of successive elimination: a heuristic goes if the bounds say that its mean standing is below that of the
    best heuristic. Standings are averaged over a prompt's seeds and compared prompt by prompt, because heuristics share
    the prompts and their random numbers. The bound on the mean of the N differences d is Student's,

        mean(d) - t(1 - (1 - confidence) / (H - 1), N - 1) std(d) / sqrt(N)  >  0

    so that the truly best heuristic, of H, is eliminated with a probability of at most 1 - confidence, provided that
    the mean difference is normally distributed. Hoeffding's bound, used in the paper, needs no such assumption, but
    with tens of prompts it eliminates nothing.

    A heuristic stays if under any weighting its bound does not exclude it, or if for any kind of prompt it is among the
    `top` best in at least `keep_share` of the prompts and seeds. At least `keep` stay: those closest to the best.

    Returns
    -------
    kept : bool [H]
    evidence : for each heuristic, in the order of the grid, `heuristic_id`, `eliminated`, `reason`, and for each
        weighting its mean `standing`, how far it is `behind` the best, the `bound` on that (None for the best) and the
        `top_share` by kind of prompt.

    References
    ----------
    Even-Dar, Mannor and Mansour (2006), Action Elimination and Stopping Conditions for the Multi-Armed Bandit and
    Reinforcement Learning Problems, for successive elimination.
    """
    count = first.grid.shape[1]
    worse, common = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
    nearest = np.full(count, np.inf)
    columns = []
    for scores in first.scores:
        mean, behind, bound = _behind_the_best(standings(scores), settings.confidence)
        shares = top_shares(scores, first.kinds, settings.top)
        worse &= bound > 0
        common |= np.max([np.zeros(count), *shares.values()], axis=0) >= settings.keep_share
        nearest = np.fmin(nearest, behind)
        columns.append((mean, behind, bound, shares))
    kept = ~worse | common
    fewest = np.zeros(count, dtype=bool)
    fewest[np.lexsort((np.arange(count), nearest))[: settings.keep]] = True
    reasons = np.select(
        [~worse, common, fewest],
        ["not known to be worse than the best", "often among the best for a kind of prompt", "one of the last"],
        "worse than the best",
    )
    kept |= fewest
    return kept, _evidence(first.grid.heuristic_ids.to_pylist(), kept, reasons, columns)


def _behind_the_best(standing: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means over prompts, how far they are behind the best one, and the lower bound on that: each float [H]."""
    known = ~np.isnan(standing)
    with np.errstate(invalid="ignore"):
        prompts = np.where(known, standing, 0).sum(axis=2) / known.sum(axis=2)  # [P, H], nan where there is none
        mean = np.nansum(prompts, axis=0) / (~np.isnan(prompts)).sum(axis=0)
    if np.isnan(mean).all():
        return mean, np.full_like(mean, np.inf), np.full_like(mean, -np.inf)
    best = int(np.nanargmax(mean))
    behind, bound = np.full_like(mean, np.inf), np.full_like(mean, -np.inf)
    behind[best] = 0.0
    for heuristic in np.flatnonzero(np.arange(len(mean)) != best):
        differences = prompts[:, best] - prompts[:, heuristic]
        differences = differences[~np.isnan(differences)]
        if len(differences):
            behind[heuristic] = differences.mean()
        if len(differences) > 1:
            quantile = t.ppf(1 - (1 - confidence) / (len(mean) - 1), len(differences) - 1)
            spread = differences.std(ddof=1) / np.sqrt(len(differences))
            bound[heuristic] = differences.mean() - quantile * spread
    return mean, behind, bound


def _evidence(
    heuristic_ids: Sequence[str],
    kept: np.ndarray,
    reasons: np.ndarray,
    columns: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, Mapping[str, np.ndarray]]],
) -> list[dict[str, Any]]:
    return [
        {
            "heuristic_id": heuristic_id,
            "eliminated": not kept[number],
            "reason": str(reasons[number]),
            "weightings": [
                {
                    "standing": _finite(mean[number]),
                    "behind": _finite(behind[number]),
                    "bound": _finite(bound[number]),
                    "top_share": {kind: float(share[number]) for kind, share in shares.items()},
                }
                for mean, behind, bound, shares in columns
            ],
        }
        for number, heuristic_id in enumerate(heuristic_ids)
    ]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
