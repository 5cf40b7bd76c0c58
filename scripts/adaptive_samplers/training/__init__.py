"""Training of samplers on distribution sketches."""

from adaptive_samplers.training.loss import LossTerms, truncated_logits_loss
from adaptive_samplers.training.trainer import (
    TokenSteps,
    TrainingResult,
    TrainingSettings,
    evaluate,
    evaluate_identity,
    train,
)

__all__ = [
    "LossTerms",
    "TokenSteps",
    "TrainingResult",
    "TrainingSettings",
    "evaluate",
    "evaluate_identity",
    "train",
    "truncated_logits_loss",
]
