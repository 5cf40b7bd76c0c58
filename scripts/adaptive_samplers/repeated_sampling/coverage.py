"""Coverage: the share of prompts for which at least one of k samples is right, and how it grows with k."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

LEAST_POINTS = 4  # two parameters fit any two points; three leave too little to tell a bad fit from noise


def log_share_without(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> np.ndarray:
    """Logarithm of the share of subsets of `k` out of `n` that hold none of `c` marked ones; -inf if there is none.

    log(C(n - c, k) / C(n, k)) is the sum of log(1 - max(c, k) / (n - i)) over i < min(c, k). Without factorials,
    neither large `n` nor shares near 0 or 1 lose digits. The arguments are whole numbers that broadcast.

    Raises
    ------
    ValueError
        Unless 0 <= c <= n and 0 <= k <= n.
    """
    n, c, k = np.broadcast_arrays(*(np.asarray(value, dtype=np.int64) for value in (n, c, k)))
    if ((c < 0) | (c > n)).any():
        raise ValueError("c, the number of marked samples, must be between 0 and n")
    if ((k < 0) | (k > n)).any():
        raise ValueError("k, the size of the subsets, must be between 0 and n")
    fewer, more = np.minimum(c, k), np.maximum(c, k)
    total = np.zeros(n.shape)
    with np.errstate(divide="ignore"):
        for step in range(int(fewer.max(initial=0))):
            ratio = np.where(step < fewer, more / np.maximum(n - step, 1), 0.0)
            # If c + k > n, the ratio reaches 1 before it exceeds 1, and the sum is minus infinity by then.
            total += np.log1p(-np.minimum(ratio, 1.0))
    return total


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> np.ndarray:
    """Unbiased estimate of the probability that at least one of `k` samples is right, from `n` samples.

    1 - C(n - c, k) / C(n, k), the mean over all subsets of `k` (Chen et al. 2021, "Evaluating Large Language Models
    Trained on Code", arXiv 2107.03374, equation 1).

    Parameters
    ----------
    n, c, k : array of whole numbers
        Number of samples of a prompt, how many of them are right, and how many are drawn; they broadcast.

    Returns
    -------
    array
        Between 0 and 1, of the shape to which the arguments broadcast.

    Raises
    ------
    ValueError
        Unless 0 <= c <= n and 0 <= k <= n.
    """
    return 0.0 - np.expm1(log_share_without(n, c, k))


class PowerLaw(NamedTuple):
    """coverage(k) = exp(a k^b), with standard errors of both parameters and the goodness of fit.

    `r_squared` is the share of the points' variance that the curve explains (NaN if they have none), and
    `largest_residual` the largest distance of a point from the curve.
    """

    a: float
    b: float
    a_stderr: float
    b_stderr: float
    r_squared: float
    largest_residual: float

    def __call__(self, k: ArrayLike) -> np.ndarray:
        """The coverage that the law predicts for `k` samples."""
        return np.exp(self.a * np.power(np.asarray(k, dtype=float), self.b))


def fit_power_law(k: ArrayLike, coverage: ArrayLike, covariance: ArrayLike | None = None) -> PowerLaw:
    """Fit coverage(k) = exp(a k^b) by least squares (Brown et al. 2024, "Large Language Monkeys", arXiv 2407.21787).

    Parameters
    ----------
    k : array [N]
        Numbers of samples, above 0, at least `LEAST_POINTS` different ones.
    coverage : array [N]
        Coverage at each `k`, 0 to 1.
    covariance : array [N, N], optional
        Covariance of the coverages as estimates, such as that of a mean over prompts; standard errors follow from it by
        the delta method. Without it they follow from the residuals as if the points were independent, which they are
        not: all points of a curve come from the same samples.

    Raises
    ------
    ValueError
        If there are too few different `k`, a number is out of range, no sample is ever right, or the curve is flat, so
        that `a` and `b` are not determined.
    """
    k, coverage = np.asarray(k, dtype=float), np.asarray(coverage, dtype=float)
    if len(np.unique(k)) < LEAST_POINTS:
        raise ValueError(f"{len(np.unique(k))} values of k, fewer than {LEAST_POINTS}")
    if not (k > 0).all() or not ((coverage >= 0) & (coverage <= 1)).all():
        raise ValueError("k must be above 0, and coverage between 0 and 1")
    if not coverage.any():
        raise ValueError("no sample is right")
    if np.ptp(coverage) < 1e-12:
        raise ValueError("coverage does not change with k")

    def residuals(parameters: np.ndarray) -> np.ndarray:
        log_rate, b = parameters
        return np.exp(-np.exp(log_rate + b * np.log(k))) - coverage

    # Where it is finite, log(-log c) is linear in log k; that line is the start. The fit is in log(-a), so that the
    # curve stays between 0 and 1.
    usable = (coverage > 0) & (coverage < 1)
    start = np.array([0.0, -0.5])
    if usable.sum() > 1:
        start = np.polyfit(np.log(k[usable]), np.log(-np.log(coverage[usable])), 1)[::-1]
    found = least_squares(residuals, start, method="lm", xtol=1e-12, ftol=1e-12, gtol=1e-12)
    log_rate, b = found.x
    a = -np.exp(log_rate)
    # The derivatives with respect to (a, b), not (log(-a), b).
    jacobian = found.jac / np.array([a, 1.0])
    inverse = np.linalg.pinv(jacobian)
    if covariance is None:
        covariance = np.eye(len(k)) * (found.fun @ found.fun) / (len(k) - 2)
    stderrs = np.sqrt(np.diag(inverse @ np.asarray(covariance) @ inverse.T))
    spread = ((coverage - coverage.mean()) ** 2).sum()
    r_squared = 1 - (found.fun @ found.fun) / spread
    return PowerLaw(
        float(a), float(b), *(float(error) for error in stderrs), float(r_squared), float(abs(found.fun).max())
    )
