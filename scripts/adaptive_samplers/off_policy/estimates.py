"""The mean reward of samplers, estimated from answers that others drew.

Answers are weighted by how much more probable the sampler makes them than the mixture of all behaviors did (the balance
heuristic of Veach and Guibas, SIGGRAPH 1995), and the weights are divided by their mean (self-normalized; Owen, "Monte
Carlo theory, methods and examples", 2013, chapter 9). Only what an answer's reward adds to the mean of its prompt, as
other answers tell it, is weighted. With the weights of the first tokens of answers alone the variance is smaller, but
so is what is estimated: a sampler that is followed by the mixture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from adaptive_samplers.bootstrap import resampled_counts

_WEIGHTS_IN_MEMORY = 20_000_000


@dataclass(frozen=True)
class LoggedAnswers:
    """Answers with what they were worth; those to one prompt are neighbors.

    Attributes
    ----------
    prompts : array [A] of int
        The number of each answer's prompt, ascending from 0 without gaps.
    behaviors : array [A] of int
        The number of the sampler that drew it.
    seeds : array [A] of int
    rewards : array [A] of float
    draws : array [A] of int
        Which of the recorded draws it is; equal answers share theirs.
    """

    prompts: np.ndarray
    behaviors: np.ndarray
    seeds: np.ndarray
    rewards: np.ndarray
    draws: np.ndarray

    def __post_init__(self) -> None:
        sizes = {len(column) for column in self.columns}
        steps = np.diff(self.prompts)
        if len(sizes) > 1 or (len(self.prompts) and (self.prompts[0] != 0 or not np.isin(steps, (0, 1)).all())):
            raise ValueError("answers need a prompt, behavior, seed, reward and draws each, and their prompts in order")

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """What there is of each answer, in the order of the attributes."""
        return (self.prompts, self.behaviors, self.seeds, self.rewards, self.draws)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where the answers to each prompt begin, and the end, `[P + 1]`."""
        return np.append(np.flatnonzero(np.diff(self.prompts, prepend=-1)), len(self.prompts))

    @cached_property
    def means(self) -> np.ndarray:
        """The mean reward of each prompt's answers, `[P]`."""
        return np.add.reduceat(self.rewards, self.starts[:-1]) / np.diff(self.starts)

    @cached_property
    def baselines(self) -> np.ndarray:
        """What each answer's reward is compared with, `[A]`: the mean reward of its prompt, of which the answer knows
        nothing.

        The same random numbers draw the answers of all behaviors under a seed. So in its baseline the rewards of its
        own seed are replaced by the mean of the same behavior's under the prompt's other seeds. With the mean of all
        answers, an answer would count against itself, and estimates would be drawn towards the mixture. Where a
        behavior has no answer under another seed, its own is taken.
        """
        of_behavior = _sums_within(self.rewards, self.prompts, self.behaviors)
        others = _sums_within(np.ones(len(self)), self.prompts, self.behaviors) - 1
        elsewhere = np.divide(of_behavior - self.rewards, others, out=self.rewards.astype(float), where=others > 0)
        replaced = _sums_within(elsewhere - self.rewards, self.prompts, self.seeds)
        counts = np.diff(self.starts)
        return np.repeat(self.means, counts) + replaced / np.repeat(counts, counts)

    def only(self, wanted: np.ndarray) -> "LoggedAnswers":
        """Some of the answers, by a mask. Raises ValueError if a prompt loses all of its answers."""
        if len(np.unique(self.prompts[wanted])) < len(np.unique(self.prompts)):
            raise ValueError("every prompt must keep an answer")
        return LoggedAnswers(*(column[wanted] for column in self.columns))


def log_mixture(answers: LoggedAnswers, log_probs: np.ndarray) -> np.ndarray:
    """The log-probability of each answer under the mixture of all that answered its prompt, each with its true number.

    Parameters
    ----------
    answers : LoggedAnswers of A
    log_probs : array [H, D, L]
        Of each recorded draw under each behavior, by horizon.

    Returns
    -------
    array [A, L]
        Nats. Never minus infinity: an answer's own behavior drew it.
    """
    found = np.empty((len(answers), log_probs.shape[2]))
    for begin, end in zip(answers.starts[:-1], answers.starts[1:], strict=True):
        behaviors, counts = np.unique(answers.behaviors[begin:end], return_counts=True)
        of_prompt = log_probs[behaviors[:, None], answers.draws[None, begin:end]]
        shares = np.log(counts / counts.sum())[:, None, None]
        found[begin:end] = np.logaddexp.reduce(of_prompt + shares, axis=0)
    return found


class Weighted(NamedTuple):
    """What weights make of the answers to each prompt, by sampler and prompt.

    Attributes
    ----------
    mass : array [T, P]
        Mean weight; its expectation is 1.
    gain : array [T, P]
        Mean of weight times what the reward adds to the baseline.
    effective : array [T, P]
        Effective number of answers, (sum of weights)² / sum of squares; 0 where all weights are.
    peak : array [T, P]
        The largest weight, divided by the number of answers, so that it is a share of `mass`.
    means : array [P]
        The mean reward of each prompt's answers.
    """

    mass: np.ndarray
    gain: np.ndarray
    effective: np.ndarray
    peak: np.ndarray
    means: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Weighted"]) -> "Weighted":
        """The prompts of several, one after another."""
        return cls(*(np.concatenate(columns, axis=-1) for columns in zip(*parts, strict=True)))

    def select(self, prompts: np.ndarray) -> "Weighted":
        """Some of the prompts."""
        return Weighted(*(column[..., prompts] for column in self))


def _sums_within(values: np.ndarray, prompts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Of each value `[A]`, the sum of all that have its prompt and group."""
    distinct, group = np.unique(groups, return_inverse=True)
    _, members = np.unique(prompts * len(distinct) + group, return_inverse=True)
    return np.bincount(members, values)[members]


def weigh(answers: LoggedAnswers, log_probs: np.ndarray, mixture: np.ndarray) -> Weighted:
    """Weigh answers as samplers would draw them.

    Parameters
    ----------
    answers : LoggedAnswers of A to P prompts
    log_probs : array [T, D]
        Of each recorded draw under each sampler, at one horizon.
    mixture : array [A]
        `log_mixture` at that horizon.
    """
    starts = answers.starts
    counts = np.diff(starts)
    added = answers.rewards - answers.baselines
    parts = []
    block = max(1, _WEIGHTS_IN_MEMORY // max(1, len(answers)))
    for first in range(0, len(log_probs), block):
        weights = np.exp(log_probs[first : first + block][:, answers.draws] - mixture)
        sums = np.add.reduceat(weights, starts[:-1], axis=1)
        squares = np.add.reduceat(weights**2, starts[:-1], axis=1)
        gains = np.add.reduceat(weights * added, starts[:-1], axis=1)
        effective = np.divide(sums**2, squares, out=np.zeros_like(sums), where=squares > 0)
        peaks = np.maximum.reduceat(weights, starts[:-1], axis=1)
        parts.append((sums / counts, gains / counts, effective, peaks / counts))
    return Weighted(*(np.concatenate(columns) for columns in zip(*parts, strict=True)), answers.means)


class Estimates(NamedTuple):
    """Estimated mean rewards over prompts of T samplers, arrays [T].

    Attributes
    ----------
    value : the mean reward; NaN where no answer has a weight.
    low, high : its bootstrap interval over prompts.
    gain : value less the mean reward of the mixture.
    gain_low, gain_high : its interval; narrower, because prompts differ more than samplers do.
    effective : mean over prompts of the effective number of answers.
    mean_weight : 1 in expectation; elsewhere, the weights miss what the sampler draws.
    largest : the largest share that one answer has of all weight.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    gain: np.ndarray
    gain_low: np.ndarray
    gain_high: np.ndarray
    effective: np.ndarray
    mean_weight: np.ndarray
    largest: np.ndarray


def estimate(weighted: Weighted, resamples: int, confidence: float, seed: int) -> tuple[Estimates, np.ndarray]:
    """Estimates with intervals, and the resampled gains `[resamples, T]`, in which prompts are the same for all calls
    with as many prompts, resamples and the same seed: so differences between calls are paired."""
    prompts = len(weighted.means)
    value, gain = _ratio(np.ones((1, prompts)) / prompts, weighted)
    resampled = [_ratio(counts / prompts, weighted) for counts in resampled_counts(prompts, resamples, seed)]
    values, gains = (np.concatenate(parts) for parts in zip(*resampled, strict=True))
    total = weighted.mass.sum(axis=1)
    found = Estimates(
        value[0],
        *interval(values, confidence),
        gain[0],
        *interval(gains, confidence),
        weighted.effective.mean(axis=1),
        weighted.mass.mean(axis=1),
        np.divide(weighted.peak.max(axis=1), total, out=np.ones_like(total), where=total > 0),
    )
    return found, gains


def interval(resampled: np.ndarray, confidence: float) -> np.ndarray:
    """Bounds `[2, T]` of the middle of resampled values `[R, T]`; NaN where there are none."""
    bounds = np.full((2, resampled.shape[1]), np.nan)
    some = np.isfinite(resampled).any(axis=0)
    if some.any():
        bounds[:, some] = np.nanquantile(resampled[:, some], [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return bounds


def _ratio(shares: np.ndarray, weighted: Weighted) -> tuple[np.ndarray, np.ndarray]:
    """Values and gains `[R, T]`, prompts counting as `shares [R, P]` say."""
    mass = shares @ weighted.mass.T
    gains = np.divide(shares @ weighted.gain.T, mass, out=np.full_like(mass, np.nan), where=mass > 0)
    return (shares @ weighted.means)[:, None] + gains, gains


def near_one(mean_weight: np.ndarray, largest: float) -> np.ndarray:
    """Which mean weights are at most `largest` and at least one divided by it."""
    return np.abs(np.log(np.maximum(mean_weight, 1e-300))) <= np.log(largest)


def trusted(estimates: Estimates, least_effective: float, largest_mean_weight: float) -> np.ndarray:
    """Which estimates may be shown: enough effective answers, and a mean weight near 1 on the scale of ratios."""
    near = near_one(estimates.mean_weight, largest_mean_weight)
    return (estimates.effective >= least_effective) & near & np.isfinite(estimates.value)


def disagree(gains: Sequence[np.ndarray], shown: np.ndarray, confidence: float) -> np.ndarray:
    """Samplers whose estimates at two horizons differ by more than chance explains, bool [T].

    Parameters
    ----------
    gains : for each horizon, resampled gains [R, T], of the same resampled prompts
    shown : array [L, T] of bool
        Which estimates are trusted; others do not count.
    """
    found = np.zeros(shown.shape[1], dtype=bool)
    for one in range(len(gains)):
        for other in range(one):
            low, high = interval(gains[one] - gains[other], confidence)
            found |= shown[one] & shown[other] & ((low > 0) | (high < 0))
    return found
