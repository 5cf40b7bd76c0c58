"""Majority vote among the final answers of several samples: self-consistency."""

import math
from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, xlog1py, xlogy


def majority_vote(
    answers: Sequence[Hashable | None],
    values: ArrayLike,
    n: int,
    weights: ArrayLike | None = None,
    subsets: int = 1000,
    seed: int = 0,
) -> float:
    """Expected value of the answer that most of `n` samples give (Wang et al. 2023, arXiv 2203.11171).

    The expectation is over all subsets of `n` of the samples. A sample without an answer has no vote. A subset without
    votes elects nothing and counts 0. Ties are broken uniformly at random.

    Parameters
    ----------
    answers : sequence of N
        The samples' final answers, equal for equivalent answers; None for a sample that gives none.
    values : array [N]
        The samples' values, such as 1 for a right answer. An answer's value is the mean over the samples that give it.
    n : int
        Number of samples that vote, 1 to N.
    weights : array [N], optional
        Weights of the votes, 0 or more, such as a judge's. The answer with the largest sum is elected.
    subsets, seed : int
        Without weights the expectation is exact. With weights it is exact if there are at most this many subsets;
        otherwise it is the mean over this many subsets, drawn with this seed.

    Raises
    ------
    ValueError
        If the lengths differ, `n` is not between 1 and N, or a weight is negative or not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.shape != (len(answers),):
        raise ValueError(f"{len(answers)} answers and values of shape {values.shape}")
    if not 1 <= n <= len(answers):
        raise ValueError(f"n is {n}, and there are {len(answers)} samples")
    names = list(dict.fromkeys(answer for answer in answers if answer is not None))
    positions = {name: position for position, name in enumerate(names)}
    votes = np.array([-1 if answer is None else positions[answer] for answer in answers])
    if not names:
        return 0.0
    means = np.array([values[votes == position].mean() for position in range(len(names))])
    if weights is None:
        counts = np.bincount(votes[votes >= 0], minlength=len(names))
        return _expected_plurality(counts, means, len(votes), n)
    weights = np.asarray(weights, dtype=float)
    if weights.shape != votes.shape or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("weights must be finite, 0 or more, and one for each sample")
    chosen = _subsets(len(votes), n, subsets, seed)
    sums = np.zeros((len(chosen), len(names)))
    present = np.zeros((len(chosen), len(names)), dtype=bool)
    for position in range(len(names)):
        members = votes[chosen] == position
        sums[:, position] = np.where(members, weights[chosen], 0.0).sum(axis=1)
        present[:, position] = members.any(axis=1)
    best = np.where(present, sums, -np.inf).max(axis=1, keepdims=True)
    # Sums of the same weights in a different order differ by rounding.
    elected = present & (sums >= best * (1 - 1e-12))
    credit = (elected * means).sum(axis=1) / np.maximum(elected.sum(axis=1), 1)
    return float(credit.mean())


def _subsets(size: int, n: int, most: int, seed: int) -> np.ndarray:
    """All subsets of `n` as positions `[subsets, n]`; if there are more than `most`, that many random ones."""
    if math.comb(size, n) <= most:
        return np.array(list(combinations(range(size), n)))
    drawn = np.random.default_rng(seed).random((most, size))
    return np.argpartition(drawn, n - 1, axis=1)[:, :n]


def _expected_plurality(counts: np.ndarray, means: np.ndarray, size: int, n: int) -> float:
    """The exact expectation for votes of weight 1, `counts [C]` for each answer, among `size` samples.

    If each sample is drawn independently with probability n / size, the drawn votes for an answer are binomial, and
    given that n samples were drawn, all subsets of n are equally likely. The other answers' votes add up as a product
    of polynomials in x, whose power counts the samples drawn, and y, whose power counts the answers tied for the most.
    """
    share = n / size
    drawn = [_binomial(np.arange(min(count, n) + 1), count, share) for count in counts]
    expected = 0.0
    for most in range(1, min(int(counts.max()), n) + 1):
        rivals = np.flatnonzero(counts >= most)
        # Answers with fewer votes can neither win nor tie. Like samples without an answer, they only fill the subset.
        rest = size - int(counts[rivals].sum())
        others = _binomial(np.arange(n + 1), rest, share)[:, None]
        for winner in rivals[means[rivals] != 0]:
            polynomial = others
            for rival in rivals[rivals != winner]:
                polynomial = _times(polynomial, drawn[rival], most, n)
            ties = polynomial[n - most]
            expected += means[winner] * drawn[winner][most] * (ties / np.arange(1, len(ties) + 1)).sum()
    return float(expected / _binomial(n, size, share))


def _binomial(votes: ArrayLike, count: int, share: float) -> np.ndarray:
    """Binomial probability that `votes` of `count` are drawn, each with probability `share`; 0 above `count`."""
    votes = np.asarray(votes, dtype=float)
    within = np.minimum(votes, count)
    logarithm = gammaln(count + 1) - gammaln(within + 1) - gammaln(count - within + 1)
    logarithm += xlogy(within, share) + xlog1py(count - within, -share)
    return np.where(votes <= count, np.exp(logarithm), 0.0)


def _times(polynomial: np.ndarray, drawn: np.ndarray, most: int, n: int) -> np.ndarray:
    """Multiply `polynomial [n + 1, T]` by one more answer's votes, at most `most`; exactly `most` is a tie."""
    product = np.zeros((n + 1, polynomial.shape[1] + 1))
    for votes in range(min(most, n) + 1):
        tied = int(votes == most)
        product[votes:, tied : tied + polynomial.shape[1]] += drawn[votes] * polynomial[: n + 1 - votes]
    # At most n // most answers can tie.
    return product[:, : n // most + 1]
