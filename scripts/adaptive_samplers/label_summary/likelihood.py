"""How much of what a judge says is how probable the base model finds an answer.

A sampler that is tuned to a judge which rewards likelihood learns to be colder, whether or not colder is better. So for
every judge: the regression of its ratings on the answers' mean log-probability, within prompts, that is with a mean for
each prompt (the fixed effects of Mundlak, 1978, "On the Pooling of Time Series and Cross Section Data").
"""

from typing import Any, NamedTuple

import numpy as np

from adaptive_samplers.bootstrap import resampled_counts

RESAMPLES = 1000
TAIL = 0.025  # on either side of an interval
SEED = 0
ROUNDING = 1e-9  # of values of about 1, below which the values to a prompt are all the same


class PromptMoments(NamedTuple):
    """Sums over the answers to each prompt that have both values, of deviations from the prompt's means: `[prompts]`.

    Attributes
    ----------
    answers : how many there are; 0 for a prompt with fewer than two, which says nothing of differences.
    xx, xy, yy : sums of squares and products.
    """

    answers: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray


def prompt_moments(x: np.ndarray, y: np.ndarray) -> PromptMoments:
    """The sums of each prompt.

    Parameters
    ----------
    x, y : float [prompts, answers], nan where there is no value.
    """
    both = np.isfinite(x) & np.isfinite(y)
    both &= both.sum(axis=1, keepdims=True) > 1
    x, y = _deviations(x, both), _deviations(y, both)
    return PromptMoments(both.sum(axis=1), (x * x).sum(axis=1), (x * y).sum(axis=1), (y * y).sum(axis=1))


def _deviations(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Deviations from the means of rows; exactly 0 where a row does not vary, or nothing is known."""
    counts = np.maximum(1, known.sum(axis=1, keepdims=True))
    values = np.where(known, values, 0.0)
    deviations = np.where(known, values - values.sum(axis=1, keepdims=True) / counts, 0.0)
    # Ratings of answers that all tied differ by rounding, of which a regression would make something.
    largest = np.abs(values).max(axis=1, keepdims=True, initial=1.0)
    varies = np.abs(deviations).max(axis=1, keepdims=True, initial=0.0) > ROUNDING * largest
    return np.where(varies, deviations, 0.0)


def explained_by_likelihood(ratings: np.ndarray, mean_logprobs: np.ndarray) -> dict[str, Any]:
    """The regression of ratings on mean log-probabilities within prompts.

    Parameters
    ----------
    ratings, mean_logprobs : float [prompts, answers], nan where there is no value; nats a token for the latter.

    Returns
    -------
    dict
        `prompts` with at least two answers that have both, and their `answers`; `slope`, in units of the rating per
        nat; `r_squared`, the share of the ratings' variance within prompts that it explains; and the ends of their 95 %
        percentile intervals over resampled prompts, `slope_low` and so on. None where nothing varies, and for intervals
        where fewer than two prompts have answers that count.
    """
    moments = prompt_moments(mean_logprobs, ratings)
    used = moments.answers > 0
    sums = np.stack([moments.xx, moments.xy, moments.yy], axis=1)[used]
    found: dict[str, Any] = {"prompts": int(used.sum()), "answers": int(moments.answers.sum())}
    for name, value, resampled in zip(("slope", "r_squared"), _fit(sums.sum(axis=0)), _resampled(sums), strict=True):
        known = resampled[np.isfinite(resampled)]
        ends = np.quantile(known, [TAIL, 1 - TAIL]).tolist() if len(sums) > 1 and len(known) else [None, None]
        point = float(value) if np.isfinite(value) else None
        found |= {name: point, f"{name}_low": ends[0], f"{name}_high": ends[1]}
    return found


def _fit(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and R squared of sums of xx, xy and yy, `[..., 3]`; nan where x, or for R squared either, does not vary."""
    xx, xy, yy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return xy / xx, np.minimum(xy * xy / (xx * yy), 1.0)


def _resampled(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and R squared `[RESAMPLES]` over resampled prompts, of the sums `[prompts, 3]` of each."""
    if not len(sums):
        return np.array([]), np.array([])
    return _fit(np.concatenate([counts @ sums for counts in resampled_counts(len(sums), RESAMPLES, SEED)]))
