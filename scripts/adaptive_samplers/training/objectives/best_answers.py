"""Best answers: likelihood of the tokens of the best answers to each prompt.

Likelihood alone makes a sampler more like the mixture that the answers were drawn from, good or bad: colder samplers
become warmer. So the mean log-probability of all answers is held where it was when training began, and only what the
best have more of than the others counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from adaptive_samplers.training.objectives.outcome import gains_of_answers, log_prob_of_batch, rows_of_prompts

if TYPE_CHECKING:
    from adaptive_samplers.training.objectives.definitions import BestAnswers
    from adaptive_samplers.training.objectives.registry import Predict
    from adaptive_samplers.training.outcomes import OutcomeBatch


class BestTerms(NamedTuple):
    """Means over a batch of prompts, nats a step.

    Attributes
    ----------
    loss : `-best`, with the penalty.
    best : how much more probable the best answers are than when training began.
    all : how much more probable all answers are.
    """

    loss: Tensor
    best: Tensor
    all: Tensor


def loss(options: BestAnswers, predict: Predict, batch: OutcomeBatch) -> BestTerms:
    """The loss of a sampler on the answers to a batch of prompts.

    Of prompts whose best answers are no better than the others, nothing counts.
    """
    log_probs = log_prob_of_batch(predict, batch)
    gains = gains_of_answers(log_probs, batch)
    best, everything, prompts = gains.new_zeros(()), gains.new_zeros(()), 0
    for rows in rows_of_prompts(batch.prompt):
        reward = batch.reward[rows]
        bound = reward.quantile(1 - options.best)
        if reward.amin() < bound:
            best = best + gains[rows][reward >= bound].mean()
            everything = everything + gains[rows].mean()
            prompts += 1
    best, everything = best / max(prompts, 1), everything / max(prompts, 1)
    return BestTerms(-best + options.hold * everything**2, best, everything)
