"""Preference pairs: DPO (Rafailov et al., NeurIPS 2023) over a sampler's parameters, by the mean of a step.

The policy is the sampler with the frozen language model, the reference the sampler that training began with. The
language model's own probabilities are part of both and need not be known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from adaptive_samplers.training.objectives.outcome import gains_of_answers, log_prob_of_batch

if TYPE_CHECKING:
    from adaptive_samplers.training.objectives.definitions import Pairs
    from adaptive_samplers.training.objectives.registry import Predict
    from adaptive_samplers.training.outcomes import OutcomeBatch


# Margins in nats a step below this are rounding.
_TIE = 1e-6


class PairTerms(NamedTuple):
    """Means over a batch.

    Attributes
    ----------
    loss : of the pairs.
    accuracy : share of the pairs whose better answer gained more than the worse one; a tie, such as there is before
        anything is learned, is half of one.
    all : how much more probable all answers are than when training began, nats a step.
    """

    loss: Tensor
    accuracy: Tensor
    all: Tensor


def loss(options: Pairs, predict: Predict, batch: OutcomeBatch) -> PairTerms:
    """The loss of a sampler on pairs of the best and the worst answer to a prompt under each seed."""
    log_probs = log_prob_of_batch(predict, batch)
    gains = gains_of_answers(log_probs, batch)
    better, worse = pairs_of(batch)
    margins = options.beta * (gains[better] - gains[worse])
    count = max(len(better), 1)
    right = torch.where(margins.abs() < _TIE, 0.5, (margins > 0).to(margins))
    return PairTerms(-logsigmoid(margins).sum() / count, right.sum() / count, gains.mean())


def pairs_of(batch: OutcomeBatch) -> tuple[Tensor, Tensor]:
    """The best and the worst answer to each prompt under each seed, where their rewards differ; two `[pairs]`."""
    _, group = torch.unique(torch.stack([batch.prompt, batch.seed]), dim=1, return_inverse=True)
    # Stable, so that of equal rewards the first answer is always the one.
    by_reward = batch.reward.argsort(stable=True)
    by_group = by_reward[group[by_reward].argsort(stable=True)]
    ends = torch.bincount(group).cumsum(0)
    worse, better = by_group[torch.cat([ends.new_zeros(1), ends[:-1]])], by_group[ends - 1]
    differ = batch.reward[better] > batch.reward[worse]
    return better[differ], worse[differ]
