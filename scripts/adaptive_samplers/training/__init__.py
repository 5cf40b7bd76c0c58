"""Training of samplers on distribution sketches; `objectives` declares what they may be trained for."""

from importlib import import_module
from typing import Any

_MODULES = {
    "objectives.imitation": ["LossTerms", "truncated_logits_loss"],
    "trainer": ["TokenSteps", "TrainingResult", "TrainingSettings", "evaluate", "evaluate_identity", "train"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    # Loaded on first use: objectives are declared without torch.
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
