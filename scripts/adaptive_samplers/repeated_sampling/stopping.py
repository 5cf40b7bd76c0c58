"""Adaptive-consistency: sample until the majority is settled (Aggarwal et al. 2023, arXiv 2305.11860)."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.integrate import quad
from scipy.special import betainc, gammainc, gammaincinv, gammaln

CRITERIA = ("beta", "dirichlet")


class Stop(NamedTuple):
    """Where sampling stopped.

    `answer` is the majority at that point (the earliest of those with the most votes; None without votes), `samples`
    the number of samples drawn, and `settled` whether the confidence was reached before the samples ran out.
    """

    answer: Hashable | None
    samples: int
    settled: bool


def confidence_in_majority(counts: Sequence[int], criterion: str = "beta") -> float:
    """Probability that the answer with the most votes is the most probable one, given the votes; 0 without votes.

    Parameters
    ----------
    counts : sequence of int
        Votes for each answer.
    criterion : str
        `beta` compares the first answer with the second: its share of their votes is Beta(v1 + 1, v2 + 1), and the
        result is the probability that the share exceeds 1/2. `dirichlet` compares it with all others that were seen,
        or one unseen: the shares are Dirichlet(v1 + 1, ..., vm + 1).

    Raises
    ------
    ValueError
        If the criterion is unknown.
    """
    _check_criterion(criterion)
    return _confidence(tuple(sorted((int(count) for count in counts if count), reverse=True)), criterion)


@lru_cache(maxsize=100_000)
def _confidence(counts: tuple[int, ...], criterion: str) -> float:
    """The confidence for positive counts in descending order; cached, because few different ones occur."""
    if not counts:
        return 0.0
    first, others = counts[0], counts[1:] or (0,)
    if criterion == "beta":
        return float(betainc(others[0] + 1, first + 1, 0.5))
    # Gamma variables divided by their sum are Dirichlet, and dividing does not change which one is largest.
    distinct, repeats = np.unique(np.array(others) + 1, return_counts=True)

    def density(x: float) -> float:
        return float(np.exp(first * np.log(x) - x - gammaln(first + 1)) * np.prod(gammainc(distinct, x) ** repeats))

    low, high = gammaincinv(first + 1, [1e-14, 1 - 1e-14])
    return float(quad(density, low, high, epsabs=1e-10, limit=200)[0])


def adaptive_consistency(answers: Iterable[Hashable | None], confidence: float = 0.95, criterion: str = "beta") -> Stop:
    """Take samples in order until the majority is settled with the given confidence, or no samples are left.

    Parameters
    ----------
    answers : iterable
        The samples' answers; None counts as a sample without a vote. A generator may draw samples on demand.
    confidence : float
        Confidence in the majority at which to stop, above 0 and below 1.
    criterion : str
        How confidence is computed (see `confidence_in_majority`).

    Raises
    ------
    ValueError
        If the criterion is unknown, or the confidence is not between 0 and 1.
    """
    _check_criterion(criterion)
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence is {confidence}; it must be above 0 and below 1")
    votes: Counter[Hashable] = Counter()
    samples, settled = 0, False
    for answer in answers:
        samples += 1
        if answer is None:
            continue
        votes[answer] += 1
        if confidence_in_majority(list(votes.values()), criterion) > confidence:
            settled = True
            break
    return Stop(votes.most_common(1)[0][0] if votes else None, samples, settled)


def _check_criterion(criterion: str) -> None:
    if criterion not in CRITERIA:
        raise ValueError(f"unknown criterion '{criterion}'; known: {', '.join(CRITERIA)}")
