"""The adaptive schedule: the most informative comparisons, until it is settled who is in the top."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from adaptive_samplers.hashing import content_number
from adaptive_samplers.labels.tournament.group import Comparison, Group
from adaptive_samplers.labels.tournament.pairing import default_rounds
from adaptive_samplers.labels.tournament.ratings import SPREAD, Parts, log_likelihood, newton, without_position
from adaptive_samplers.numba_cache import njit

# The prior counts as this many outcomes as noisy as coins, before a judge's own noise is measured.
NOISE_PRIOR = 10.0
# The share of the information sought that is about who is in the top; the rest is about every rating alike.
ABOUT_THE_TOP = 0.5
DRAWS = 1000


class Adaptive:
    """Each round, the comparisons expected to narrow the ratings most, above all at the boundary of the top.

    The posterior of the ratings is a normal distribution: Laplace's approximation around the maximum of the
    Bradley-Terry likelihood with a normal prior. The likelihood is scaled by the dispersion of the outcomes, as a
    quasi-likelihood: a judge with consistent probabilities is more informative than one that tosses coins with them. A
    comparison of i and j is expected to reduce

        sum_l u_l Var(r_l),   u_l = (1 - a) / n + a q_l (1 - q_l) / sum q (1 - q),   a = 1/2,

    with q_l the probability that l is in the top, by w |u^(1/2) C (e_i - e_j)|^2 / (1 + w v), where C is the
    covariance, v the variance of r_i - r_j, and w an outcome's information p (1 - p) over the dispersion. Comparisons
    are taken one by one, always the one with the largest reduction, C being updated after each; half as many a round as
    there are players. No pair meets twice. A group is done when its budget is spent, when all have met, or when the top
    is settled: of draws from the distribution, at least the share `confidence` has the same top as the ratings.

    Parameters
    ----------
    comparisons : budget of each group; None takes half the comparisons of the Swiss schedule, which in one order are a
        quarter of the calls of a Swiss tournament in both.
    top : players whose names are to be found, without their order.
    confidence : between 0 and 1; None spends the whole budget.
    correct_position : remove the worth of being shown first from the outcomes, as the ratings do.

    References
    ----------
    Chaloner and Verdinelli (1995), Bayesian Experimental Design: A Review; Wedderburn (1974), Quasi-likelihood
    Functions, Generalized Linear Models, and the Gauss-Newton Method.
    """

    def __init__(self, comparisons: int | None, top: int, confidence: float | None, correct_position: bool) -> None:
        self.comparisons = comparisons
        self.top = top
        self.confidence = confidence
        self.correct_position = correct_position

    def next_round(self, group: Group, number: int) -> list[Comparison]:
        """The comparisons of round `number`, counted from 0; none when the group is done."""
        count = len(group.players)
        left = self.budget(count) - group.asked
        if left <= 0 or not group.pairs_left():
            return []
        ratings, covariance, dispersion = self._posterior(group)
        random = np.random.default_rng(content_number([int(group.random.integers(2**63)), number]))
        membership, settled = top_memberships(ratings, covariance, self.top, random)
        if self.confidence is not None and settled >= self.confidence and group.asked:
            return []
        doubt = membership * (1 - membership)
        importance = (1 - ABOUT_THE_TOP) / count + ABOUT_THE_TOP * doubt / max(doubt.sum(), 1e-12)
        # Equally informative comparisons, as before the first one, are drawn by lot.
        lots = 1 + 1e-6 * random.random((count, count))
        pairs = most_telling(
            covariance,
            covariance * importance @ covariance,
            lots * information(ratings, covariance) / dispersion,
            group.met > 0,
            min(left, max(1, count // 2)),
        )
        return [group.ask(int(one), int(other)) for one, other in pairs]

    def settled(self, group: Group) -> float:
        """The probability that the best-rated players are the best."""
        ratings, covariance, _ = self._posterior(group)
        return top_memberships(ratings, covariance, self.top, np.random.default_rng(content_number(group.key)))[1]

    def budget(self, count: int) -> int:
        """Comparisons that a group of `count` players may ask for."""
        return default_comparisons(count) if self.comparisons is None else self.comparisons

    def _posterior(self, group: Group) -> tuple[np.ndarray, np.ndarray, float]:
        outcomes = group.outcomes
        if self.correct_position and len(outcomes):
            outcomes, _ = without_position(group.first, group.second, outcomes, len(group.players))
        return posterior(group.first, group.second, outcomes, len(group.players))


def default_comparisons(count: int) -> int:
    """Half the comparisons of a Swiss tournament of `count` players, rounded up."""
    return math.ceil(default_rounds(count) * (count // 2) / 2)


def posterior(
    first: Sequence[int], second: Sequence[int], outcomes: Sequence[float], count: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """What outcomes say about `count` ratings: their mean [n], covariance [n, n], and the outcomes' dispersion.

    The dispersion is 1 for outcomes as noisy as coins with the fitted probabilities, and less for more consistent ones.
    """
    precision = SPREAD**-2
    first, second = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    won = np.asarray(outcomes, dtype=np.float64)
    likelihood = log_likelihood(first, second, won, np.ones(len(won)), count)

    def fit(start: np.ndarray, dispersion: float) -> tuple[np.ndarray, np.ndarray]:
        def objective(ratings: np.ndarray) -> Parts:
            value, gradient, curvature = likelihood(ratings)
            return (
                value / dispersion - precision * float(ratings @ ratings) / 2,
                gradient / dispersion - precision * ratings,
                curvature / dispersion + precision * np.eye(count),
            )

        ratings = newton(objective, start)
        return ratings, np.linalg.inv(objective(ratings)[2])

    ratings, covariance = fit(np.zeros(count), 1.0)
    if not len(won):
        return ratings, covariance, 1.0
    chance = expit(ratings[first] - ratings[second])
    weight = np.maximum(chance * (1 - chance), 1e-12)
    variance = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
    # Each outcome has already pulled the fit towards itself by the share weight * variance.
    free = len(won) - float(weight @ variance)
    dispersion = (NOISE_PRIOR + float(((won - chance) ** 2 / weight).sum())) / (NOISE_PRIOR + free)
    return *fit(ratings, dispersion), dispersion


def top_memberships(
    ratings: np.ndarray, covariance: np.ndarray, top: int, random: np.random.Generator
) -> tuple[np.ndarray, float]:
    """The probability of each player to be in the top [n], and that these are the `top` best-rated players."""
    count = len(ratings)
    top = min(top, count)
    noise = random.standard_normal((DRAWS, count)) @ np.linalg.cholesky(covariance).T
    best = np.argpartition(-(ratings + noise), top - 1, axis=1)[:, :top]
    expected = np.zeros(count, dtype=bool)
    expected[np.argsort(-ratings, kind="stable")[:top]] = True
    return np.bincount(best.ravel(), minlength=count) / DRAWS, float(expected[best].all(axis=1).mean())


def information(ratings: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The expected information of an outcome of each pair [n, n] on the difference of its two ratings.

    That is p (1 - p) at the difference's mean, flattened for its variance as MacKay (1992, The Evidence Framework
    Applied to Classification Networks) does for p.
    """
    own = np.diag(covariance)
    variance = own[:, None] + own[None, :] - 2 * covariance
    chance = expit((ratings[:, None] - ratings[None, :]) / np.sqrt(1 + np.pi / 8 * variance))
    return chance * (1 - chance)


@njit(cache=True, nogil=True)
def most_telling(covariance, spread, weight, met, number):
    """Up to `number` pairs [m, 2], each the one that reduces the weighted variances most after those before it.

    Parameters
    ----------
    covariance : C [n, n].
    spread : C U C [n, n], with the importance of each player on U's diagonal.
    weight : [n, n], the information of an outcome.
    met : [n, n], the pairs to exclude.
    """
    covariance, spread, met = covariance.copy(), spread.copy(), met.copy()
    count = len(covariance)
    pairs = np.empty((number, 2), dtype=np.int64)
    for taken in range(number):
        most, one, other = 0.0, -1, -1
        for i in range(count):
            for j in range(i + 1, count):
                if not met[i, j]:
                    variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
                    reach = spread[i, i] + spread[j, j] - 2 * spread[i, j]
                    reduction = weight[i, j] * reach / (1 + weight[i, j] * variance)
                    if reduction > most:
                        most, one, other = reduction, i, j
        if one < 0:
            return pairs[:taken]
        pairs[taken, 0], pairs[taken, 1] = one, other
        met[one, other] = met[other, one] = True
        along = covariance[:, one] - covariance[:, other]
        across = spread[:, one] - spread[:, other]
        share = weight[one, other] / (1 + weight[one, other] * (along[one] - along[other]))
        twice = share * share * (across[one] - across[other])
        for i in range(count):
            for j in range(count):
                covariance[i, j] -= share * along[i] * along[j]
                spread[i, j] += twice * along[i] * along[j] - share * (along[i] * across[j] + across[i] * along[j])
    return pairs
