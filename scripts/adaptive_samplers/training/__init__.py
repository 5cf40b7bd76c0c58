"""Training of samplers on distribution sketches; `objectives` declares what they may be trained for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptive_samplers.training.objectives.imitation import LossTerms, truncated_logits_loss
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


def __getattr__(name: str) -> Any:
    # Loaded on first use: objectives are declared without torch.
    if name in __all__:
        module = "objectives.imitation" if name in ("LossTerms", "truncated_logits_loss") else "trainer"
        return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
