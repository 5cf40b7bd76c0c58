"""Outcomes: the estimated mean reward of the sampler itself, on answers that others drew.

The estimate is that of `off_policy.estimates`, differentiated through the weights. Weights that leave the answers
behind are kept away by penalties on the effective number of answers and on the mean weight, both of logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from adaptive_samplers.training.objectives.registry import preference_of

if TYPE_CHECKING:
    from adaptive_samplers.training.objectives.definitions import Outcome
    from adaptive_samplers.training.objectives.registry import Predict
    from adaptive_samplers.training.outcomes import OutcomeBatch

# Steps of which intermediate results are in memory together.
STEPS_AT_ONCE = 1024


class OutcomeTerms(NamedTuple):
    """Means over a batch of prompts.

    Attributes
    ----------
    loss : `-gain`, with penalties.
    gain : what the sampler adds to the mean reward of the logged answers, of the best of several where asked for, with
        the distance of pairs where diversity has a weight.
    effective : effective number of answers, as a share of all.
    mean_weight : 1 in expectation.
    kl : divergence from the sampler to the one that training began with, nats a step.
    entropy : of the sampler, nats a step.
    """

    loss: Tensor
    gain: Tensor
    effective: Tensor
    mean_weight: Tensor
    kl: Tensor
    entropy: Tensor


class Shares(NamedTuple):
    """What counts how much, besides the config's weights: an answer's reward, the best of several, the distance."""

    reward: float
    best: float
    distance: float

    @classmethod
    def at(cls, best_of: int, preference: float | None, front: str) -> Shares:
        """Of a sampler at a preference, None for one that takes none."""
        if preference is not None and front == "best_of":
            return cls(1 - preference, preference, 1.0)
        reward, distance = (1.0, 1.0) if preference is None else (1 - preference, preference)
        return cls(reward, 0.0, distance) if best_of == 1 else cls(0.0, reward, distance)


def loss(options: Outcome, predict: Predict, batch: OutcomeBatch) -> OutcomeTerms:
    """The loss of a sampler on the answers to a batch of prompts, at its preference if it takes one."""
    log_probs = log_prob_of_batch(predict, batch)
    counts = torch.bincount(batch.prompt)
    # All in logarithms: a sampler that makes every answer improbable must still be told where to go.
    log_weights = log_probs[batch.draw] - batch.mixture
    log_mass = _log_mean_exp(log_weights, batch.prompt, counts)
    log_mean_weight = log_mass.logsumexp(0) - math.log(len(counts))
    # Relative to the mean weight, so that the estimate is normalized.
    weights = (log_weights - log_mean_weight).exp()

    def mean_of_prompts(values: Tensor) -> Tensor:
        return torch.zeros(len(counts)).to(values).index_add(0, batch.prompt, values) / counts

    with torch.no_grad():
        added = advantages(batch, weights, options.best_of, preference_of(predict), options.front)
    gain = mean_of_prompts(weights * added).mean()
    log_effective = 2 * log_mass - _log_mean_exp(2 * log_weights, batch.prompt, counts)
    too_few = (math.log(options.least_effective) - log_effective).clamp(min=0)
    # Under the sampler itself, by the same weights: the means of log q - log reference and of -log q.
    kl = (weights * gains_of_answers(log_probs, batch)).sum() / weights.sum()
    per_step = (log_probs / batch.lengths.clamp(min=1))[batch.draw]
    entropy = -(weights * per_step).sum() / weights.sum()
    total = (
        -gain
        + options.effective_penalty * (too_few**2).mean()
        + options.weight_penalty * log_mean_weight**2
        + options.kl * kl
        - options.entropy * entropy
    )
    return OutcomeTerms(total, gain, log_effective.exp().mean(), log_mean_weight.exp(), kl, entropy)


def log_prob_of_batch(predict: Predict, batch: OutcomeBatch) -> Tensor:
    """The log-probability of the steps that count of each distinct answer, `[D]` nats."""

    def of_rows(t: Tensor, n: Tensor, places: Tensor) -> tuple[Tensor]:
        return (log_prob_at(predict(t, n), n, places),)

    steps = in_parts(of_rows, batch)[0][batch.steps]
    return torch.zeros_like(batch.reference).index_add(0, batch.draw_of_step, steps)


def log_prob_at(logits: Tensor, n: Tensor, places: Tensor) -> Tensor:
    """The log-probability of one token at a point of each row, `[M]` nats, from logits and counts `[M, S]`."""
    return logits.gather(1, places[:, None]).squeeze(1) - (logits + n.log()).logsumexp(-1)


def in_parts(of_rows: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]], batch: OutcomeBatch) -> list[Tensor]:
    """What a function makes of `t`, `n` and `places` of all rows, some at a time: tensors `[M]`."""
    found = []
    for first in range(0, len(batch.t), STEPS_AT_ONCE):
        part = slice(first, first + STEPS_AT_ONCE)
        # What lies between is computed again on the way back: it would be gigabytes.
        found.append(checkpoint(of_rows, batch.t[part], batch.n[part], batch.places[part], use_reentrant=False))
    return [torch.cat(tensors) for tensors in zip(*found, strict=True)]


def gains_of_answers(log_probs: Tensor, batch: OutcomeBatch) -> Tensor:
    """How much more probable each answer is than when training began, `[A]` nats a step; `log_probs` [D] as now."""
    return ((log_probs - batch.reference) / batch.lengths.clamp(min=1))[batch.draw]


def rows_of_prompts(prompt: Tensor) -> list[slice]:
    """The answers to each prompt, given the number of each answer's prompt `[A]`, ascending."""
    ends = torch.bincount(prompt).cumsum(0).tolist()
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def advantages(
    batch: OutcomeBatch, weights: Tensor, best_of: int, preference: float | None = None, front: str = "diversity"
) -> Tensor:
    """What each answer adds to the mean reward, or to that of the best of several, and to diversity, `[A]`.

    The others that it meets are the logged answers with their weights, itself left out. What answers to the prompt
    usually add is taken off: under the mixture nothing is gained. The distance from others counts twice, as an answer
    is in both places of pairs.

    Parameters
    ----------
    weights : Tensor [A]
    best_of : int
        k: the answer counts `k (E max(r, M) - E M)`, where M is the largest of k - 1 other rewards.
    preference : float, or None
        At which the sampler is, and what it trades at 1 for the reward: `front`, as in the options.
    """
    shares = Shares.at(best_of, preference, front)
    added = torch.empty_like(batch.reward)
    for rows in rows_of_prompts(batch.prompt):
        reward, weight = batch.reward[rows], weights[rows]
        of_prompt = shares.reward * reward
        if shares.best:
            of_prompt = of_prompt + shares.best * (best_of * best_with_others(reward, weight, best_of))
        if batch.vectors is not None:
            vectors = batch.vectors[batch.draw[rows]]
            other = weight * (batch.seed[rows, None] != batch.seed[None, rows])
            expected = (other * (1 - vectors @ vectors.T)).sum(1) / other.sum(1).clamp(min=1e-30)
            of_prompt = of_prompt + 2 * shares.distance * batch.distance_weight * expected
        added[rows] = of_prompt - usual(of_prompt, batch.behavior[rows], batch.seed[rows])
    return added


def usual(values: Tensor, behavior: Tensor, seed: Tensor) -> Tensor:
    """The mean of the values of a prompt's answers as each answer is compared with it, `[A]`: that of
    `LoggedAnswers.baselines`, which does not depend on the answer's own value."""
    same = (behavior[:, None] == behavior).to(values)
    others = same.sum(1) - 1
    elsewhere = torch.where(others > 0, (same @ values - values) / others.clamp(min=1), values)
    return values.mean() + (seed[:, None] == seed).to(values) @ (elsewhere - values) / len(values)


def best_with_others(reward: Tensor, weight: Tensor, k: int) -> Tensor:
    """How much higher each answer makes the expected best of itself and k - 1 others than the others' best is, `[A]`.

    The others are drawn from all answers but itself, in proportion to their weights. Without any weight left, it is 0.
    """
    order = reward.argsort()
    value, mass = reward[order], weight[order]
    others = mass[None, :].repeat(len(mass), 1)
    others.fill_diagonal_(0)
    # The probability that the largest of k - 1 is at most each value, by row without its own answer.
    upto = (others.cumsum(1) / others.sum(1, keepdim=True).clamp(min=1e-30)).clamp(max=1) ** (k - 1)
    chance = upto.diff(dim=1, prepend=upto.new_zeros(len(mass), 1))
    gain = (chance * (value[:, None] - value[None, :]).clamp(min=0)).sum(1)
    return torch.empty_like(gain).scatter_(0, order, gain)


def _log_mean_exp(values: Tensor, group: Tensor, counts: Tensor) -> Tensor:
    """The logarithm of the mean of `exp(values)` in each group, `[groups]`."""
    with torch.no_grad():
        largest = torch.full((len(counts),), -torch.inf).to(values).scatter_reduce(0, group, values, "amax")
    sums = torch.zeros_like(largest).index_add(0, group, (values - largest[group]).exp())
    return largest + (sums / counts).log()
