"""Bradley-Terry ratings and their standard errors from soft outcomes, and how much being shown first is worth."""

from collections.abc import Callable, Sequence

import choix
import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.special import expit, log_expit, logit

LUCE_ITERATIONS = 10_000
NEWTON_STEPS = 100
# Share of the trace added to a curvature that cannot be factored.
RAISED = 1e-10
# Convergence is quadratic: after a step this small, the remaining error is near its square.
NEWTON_TOLERANCE = 1e-5
# Priors of a rating and of the worth of being shown first: normal around 0 with these standard deviations, in nats.
SPREAD = 3.0
POSITION_SPREAD = 10.0
# The closest to 0 or 1 that an outcome is taken for when position is taken out of it: float32's resolution near 1.
CLOSEST = 1e-7

Parts = tuple[float, np.ndarray, np.ndarray]  # an objective's value, its gradient, and its negative Hessian


def bradley_terry(wins: np.ndarray, regularization: float) -> tuple[np.ndarray, np.ndarray]:
    """Bradley-Terry ratings and their standard errors from soft outcomes.

    The ratings are those of choix's iterative Luce spectral ranking with alpha = `regularization`, started from where
    Newton's method ends, which takes it the last step instead of all of them. Its fixed point is the maximum of

        sum_ij wins[i, j] log sigmoid(r_i - r_j) + alpha n sum_i log softmax(r)_i

    with n players: as if each player had, besides its comparisons, been chosen alpha n times from among all n. The
    standard errors are the square roots of the diagonal of the pseudo-inverse of this function's negative Hessian,

        L + alpha n^2 (diag(s) - s s^T),   s = softmax(r),

    with L the Laplacian of the weights games[i, j] p_ij (1 - p_ij); the pseudo-inverse belongs to ratings with mean 0.
    They are a curvature: how sharply outcomes and regularization together determine a rating, for independent
    comparisons. With few comparisons the regularization supplies much of it, and a judge's own mistakes are not in it.

    Parameters
    ----------
    wins : array [n, n]; wins[i, j] sums the probabilities that i beats j.
    regularization : alpha, above 0; keeps ratings finite when a player wins always or groups of players never meet.

    Returns
    -------
    ratings, stderr : arrays [n], natural-log scale; the ratings have mean 0.

    References
    ----------
    Bradley and Terry (1952); Maystre and Grossglauser (2015), Fast and Accurate Inference of Plackett-Luce Models.
    """
    count = len(wins)
    games = wins + wins.T
    first, second = np.nonzero(np.triu(games, k=1))
    likelihood = log_likelihood(first, second, wins[first, second], games[first, second], count)

    def penalized(ratings: np.ndarray) -> Parts:
        return _chosen_from_all(ratings, regularization * count, likelihood(ratings))

    # One pass of Luce spectral ranking gets near the maximum, Newton's method reaches it, and choix does the last step.
    start = newton(penalized, choix.lsr_pairwise_dense(wins, alpha=regularization))
    ratings = choix.ilsr_pairwise_dense(
        wins, alpha=regularization, initial_params=start - start.mean(), max_iter=LUCE_ITERATIONS
    )
    ratings = ratings - ratings.mean()
    # `_chosen_from_all` adds 1/n everywhere, the one direction in which the curvature is 0: this is its pseudo-inverse.
    curvature = penalized(ratings)[2]
    variances = np.diag(_solve(curvature, np.eye(count))) - 1 / count
    return ratings, np.sqrt(variances)


def without_position(
    first: Sequence[int], second: Sequence[int], outcomes: Sequence[float], count: int
) -> tuple[np.ndarray, float]:
    """The outcomes of comparisons asked in one order each, minus the worth of being shown first in this group.

    Its worth b, in nats, is fitted together with ratings that are normal around 0 with standard deviation `SPREAD`:
    P(i, shown first, beats j) = sigmoid(r_i - r_j + b). It is then taken from every outcome's log-odds. An outcome of
    exactly 0 or 1 counts as 1e-7 from it.

    Parameters
    ----------
    first, second, outcomes : players shown first and second [m], and P(first beats second).
    count : players, n.

    Returns
    -------
    The outcomes [m], and b.

    References
    ----------
    Davidson and Beaver (1977), On Extending the Bradley-Terry Model to Incorporate Within-Pair Order Effects.
    """
    outcomes = np.asarray(outcomes, dtype=np.float64)
    likelihood = log_likelihood(first, second, outcomes, np.ones(len(outcomes)), count)
    precision = np.append(np.full(count, SPREAD**-2), POSITION_SPREAD**-2)

    def penalized(parameters: np.ndarray) -> Parts:
        value, gradient, curvature = likelihood(parameters[:-1], parameters[-1])
        value -= float(precision @ parameters**2) / 2
        return value, gradient - precision * parameters, curvature + np.diag(precision)

    worth = float(newton(penalized, np.zeros(count + 1))[-1])
    return expit(logit(np.clip(outcomes, CLOSEST, 1 - CLOSEST)) - worth), worth


def log_likelihood(
    first: Sequence[int], second: Sequence[int], won: np.ndarray, games: np.ndarray, count: int
) -> Callable[..., Parts]:
    """Bradley and Terry's log-likelihood of `won` of `games` that `first` had against `second`, arrays [m].

    Returns
    -------
    A function of the ratings [n], and of what being first is worth; given that, its gradient and Hessian have it last.
    """
    first, second = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    pairs = first * count + second

    def per_player(values: np.ndarray) -> np.ndarray:
        return np.bincount(first, values, count) - np.bincount(second, values, count)

    def parts(ratings: np.ndarray, worth: float | None = None) -> Parts:
        difference = ratings[first] - ratings[second] + (worth or 0.0)
        chance = expit(difference)
        surplus, weight = won - games * chance, games * chance * (1 - chance)
        between = np.bincount(pairs, weight, count * count).reshape(count, count)
        curvature = -between - between.T
        curvature.flat[:: count + 1] -= curvature.sum(axis=1)
        gradient = per_player(surplus)
        value = float(won @ difference + games @ log_expit(-difference))
        if worth is not None:
            mixed = per_player(weight)
            curvature = np.block([[curvature, mixed[:, None]], [mixed[None, :], weight.sum()]])
            gradient = np.append(gradient, surplus.sum())
        return value, gradient, curvature

    return parts


def _chosen_from_all(ratings: np.ndarray, times: float, outcomes: Parts) -> Parts:
    """`outcomes` as if in addition each player had been chosen `times` times from among all; with a mean of 0."""
    count = len(ratings)
    value, gradient, curvature = outcomes
    shifted = ratings - ratings.max()
    share = np.exp(shifted)
    total = share.sum()
    share /= total
    mean = ratings.mean()
    value += times * float(shifted.sum() - count * np.log(total)) - count * mean**2 / 2
    curvature = curvature - np.outer(times * count * share, share)
    curvature += 1 / count
    curvature.flat[:: count + 1] += times * count * share
    return value, gradient + times * (1 - count * share) - mean, curvature


def _solve(curvature: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The inverse curvature times `gradient`; if rounding leaves no inverse, the curvature is raised a little."""
    try:
        factor = cho_factor(curvature, check_finite=False)
    except LinAlgError:
        factor = cho_factor(curvature + RAISED * np.trace(curvature) * np.eye(len(curvature)), check_finite=False)
    return cho_solve(factor, gradient, check_finite=False)


def newton(objective: Callable[[np.ndarray], Parts], start: np.ndarray) -> np.ndarray:
    """The maximizer of the concave `objective`, by Newton's method with halved steps if a full one overshoots."""
    at = start
    value, gradient, curvature = objective(at)
    for _ in range(NEWTON_STEPS):
        step = _solve(curvature, gradient)
        promised, share = float(gradient @ step), 1.0
        found = objective(at + step)
        # The slack allows for rounding: at the maximum, no step shows a gain.
        while found[0] < value + 1e-4 * share * promised - 1e-12 * abs(value) and share > 1e-6:
            share /= 2
            found = objective(at + share * step)
        at = at + share * step
        value, gradient, curvature = found
        if np.abs(step).max() < NEWTON_TOLERANCE:
            break
    return at
