"""The loss of a sampler on answers of its own: the policy gradient, for several updates from the same answers.

The language model is frozen and a sampler sees nothing but its distributions, so the probability of each drawn token
under the sampler as it is now is exact from recorded draws, and so is the ratio to the one that it was drawn with.

- An answer's advantage is its reward less the mean of the rewards of all answers to its prompt, not divided by their
  deviation, and tokens are summed rather than averaged over an answer: both would weigh questions by how hard and
  answers by how long they are (Liu et al. 2025, Understanding R1-Zero-Like Training, "Dr. GRPO").
- Ratios are clipped by token (Schulman et al. 2017, Proximal Policy Optimization Algorithms, equation 7), not by
  answer: a ratio of a whole answer is a product of hundreds, which leaves any interval at the first update. Where
  all ratios are 1, the gradient is that of REINFORCE with the group's mean as the baseline.
- The divergence from the sampler that training began with is summed over the whole distribution at each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.training.objectives.outcome import in_parts, log_prob_at
from adaptive_samplers.training.outcomes import OutcomeBatch, Outcomes

if TYPE_CHECKING:
    from adaptive_samplers.off_policy.reading import Logged
    from adaptive_samplers.training.objectives.registry import Predict

# No ratio of a token is taken to be larger than exp(20), of which the gradient would be infinite.
LARGEST_LOG_RATIO = 20.0


class PolicyTerms(NamedTuple):
    """Means over a batch of answers.

    Attributes
    ----------
    loss : `-gain`, and the divergence with its weight.
    gain : what the updates so far add to the mean reward of an answer, by clipped ratios.
    kl : divergence from the sampler to the one that training began with, nats a step.
    clipped : share of the steps of answers with an advantage that are not moved further.
    """

    loss: Tensor
    gain: Tensor
    kl: Tensor
    clipped: Tensor


@dataclass(frozen=True)
class PolicyBatch:
    """Answers that a sampler drew, before any update from them.

    Attributes
    ----------
    answers : OutcomeBatch of A answers, D distinct ones, with M distinct steps
    advantages : Tensor [D]
        Summed over the answers that are the same.
    copies : Tensor [D]
        How many of the answers each is.
    log_probs : Tensor [M]
        Log-probabilities of the drawn tokens under the sampler that drew them, nats.
    start : function as `predict`
        The sampler that training began with.
    """

    answers: OutcomeBatch
    advantages: Tensor
    copies: Tensor
    log_probs: Tensor
    start: Predict

    @classmethod
    def of(cls, logged: Logged, sampler: Predict, start: Predict, device: torch.device) -> PolicyBatch:
        """All answers, as drawn by `sampler` as it is now."""
        steps, found = len(logged.same), len(logged.draws)
        # Whose answers these are is known, so that no mixture of behaviors is needed.
        unused = np.zeros(len(logged.answers)), torch.zeros(found)
        counted = torch.ones(steps, dtype=torch.bool)
        answers = Outcomes(logged.draws, logged.answers, counted, logged.same, *unused).select(slice(None), device)
        # On the CPU: GPUs add up in no certain order.
        advantages = group_advantages(answers.reward.cpu(), answers.prompt.cpu()).to(device)
        sums = torch.zeros(found, device=device)
        with torch.no_grad():
            [log_probs] = in_parts(lambda t, n, places: (log_prob_at(sampler(t, n), n, places),), answers)
        return cls(
            answers,
            sums.index_add(0, answers.draw, advantages),
            sums.index_add(0, answers.draw, torch.ones_like(advantages)),
            log_probs,
            start,
        )


def group_advantages(reward: Tensor, prompt: Tensor) -> Tensor:
    """Each answer's reward less the mean of those to its prompt, `[A]`, exactly 0 where these are all the same.

    Parameters
    ----------
    reward : Tensor [A]
    prompt : Tensor [A]
        The number of each answer's prompt, from 0.
    """
    # Differences from one of the rewards, because the mean of equal numbers may be off by rounding.
    groups = int(prompt.max()) + 1
    least = torch.full((groups,), torch.inf).to(reward).scatter_reduce(0, prompt, reward, "amin")
    above = reward - least[prompt]
    mean = torch.zeros_like(least).index_add(0, prompt, above) / torch.bincount(prompt, minlength=groups)
    return above - mean[prompt]


def policy_loss(predict: Predict, batch: PolicyBatch, clip: float, kl: float) -> PolicyTerms:
    """The loss of a sampler on answers that it drew before it was updated.

    Parameters
    ----------
    clip : float
        A step whose ratio has left 1 by more than this, in the direction of its advantage, has no gradient.
    kl : float
        Weight of the divergence of a whole answer, in units of the reward for each nat.
    """
    answers = batch.answers

    def of_rows(t: Tensor, n: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        logits = predict(t, n)
        with torch.no_grad():
            begun = batch.start(t, n)
        return log_prob_at(logits, n, places), divergence(logits, begun, n)

    log_probs, divergences = in_parts(of_rows, answers)
    log_ratio = (log_probs - batch.log_probs).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    ratio = log_ratio.exp()[answers.steps]
    advantages, copies = batch.advantages[answers.draw_of_step], batch.copies[answers.draw_of_step]
    free, held = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    number = len(answers.reward)
    # Without the advantages' own sum, which no sampler changes, the gain is 0 before the first update.
    gain = (torch.minimum(free, held) - advantages).sum() / number
    of_answers = (divergences[answers.steps] * copies).sum() / number
    moved = copies * (advantages != 0)
    return PolicyTerms(
        kl * of_answers - gain,
        gain,
        of_answers * number / copies.sum(),
        (moved * (held < free)).sum() / moved.sum().clamp(min=1),
    )


def divergence(logits: Tensor, begun: Tensor, n: Tensor) -> Tensor:
    """The divergence of the distribution by `logits` from that by `begun`, `[M]` nats; counts `n`, all `[M, S]`."""
    there = n > 0
    log_q, log_p = (
        (values - (values + n.log()).logsumexp(-1, keepdim=True)).where(there, 0) for values in (logits, begun)
    )
    return (n * log_q.exp() * (log_q - log_p)).sum(-1)
