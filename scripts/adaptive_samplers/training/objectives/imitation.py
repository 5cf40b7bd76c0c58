"""The truncated-logits loss: stay close to the target on its support, and avoid what it cut away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from adaptive_samplers.training.objectives.definitions import Imitation
    from adaptive_samplers.training.objectives.registry import Predict
    from adaptive_samplers.training.trainer import TokenSteps


class LossTerms(NamedTuple):
    """Means over a batch of token-steps.

    Attributes
    ----------
    loss : `kl + gamma * truncated_mass`.
    kl : KL divergence from the target to the prediction, in nats.
    truncated_mass : probability that the prediction gives to tokens which the target cut away.
    """

    loss: Tensor
    kl: Tensor
    truncated_mass: Tensor


def loss(options: Imitation, predict: Predict, batch: TokenSteps) -> LossTerms:
    """The loss of the predictions for a batch of token-steps."""
    return truncated_logits_loss(predict(batch.t, batch.n), batch.target, batch.n, batch.kept, options.gamma)


def truncated_logits_loss(
    predicted_logits: Tensor, target_logits: Tensor, n: Tensor, kept: Tensor, gamma: float
) -> LossTerms:
    """`KL(target || predicted)` over surviving tokens plus `gamma` times the predicted mass on the others.

    Parameters
    ----------
    predicted_logits : finite logits at the support points, `[B, S]`.
    target_logits : the heuristic's logits there; meaningless where it kept nothing, `[B, S]`.
    n : how many tokens each point stands for, `[B, S]`; all ones for a whole vocabulary.
    kept : how many of them survive the heuristic, `[B, S]`.
    gamma : weight of the truncated mass.
    """
    survives = kept > 0
    predicted = log_softmax_with_counts(predicted_logits, n)
    target = log_softmax_with_counts(target_logits.masked_fill(~survives, -torch.inf), kept)
    kl = (kept * target.exp() * torch.where(survives, target - predicted, 0.0)).sum(-1).mean()
    truncated_mass = ((n - kept) * predicted.exp()).sum(-1).mean()
    return LossTerms(kl + gamma * truncated_mass, kl, truncated_mass)


def log_softmax_with_counts(logits: Tensor, n: Tensor) -> Tensor:
    """Log-probability of a single token at each support point, where point k stands for `n_k` tokens."""
    return logits - torch.logsumexp(logits + n.log(), dim=-1, keepdim=True)
