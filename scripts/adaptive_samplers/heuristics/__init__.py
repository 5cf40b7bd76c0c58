"""Sampling heuristics, each defined once, for full vocabularies and for sketches of them.

Every heuristic that we sweep treats the vocabulary as a set, so it needs only the logits in descending order and how
many tokens share each of them: a `Support`. `definitions` holds the heuristics, one function each.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adaptive_samplers.heuristics import definitions as definitions
from adaptive_samplers.heuristics.pipelines import (
    Pipeline,
    Processor,
    configured_pipeline,
    expand_heuristics,
    learned_heuristic,
    parse_processors,
    pipeline_name,
    prompted_heuristics,
    split_preference,
    split_prompted,
)
from adaptive_samplers.heuristics.registry import HEURISTICS, Numbers, heuristic

if TYPE_CHECKING:
    from adaptive_samplers.heuristics.apply import (
        State,
        apply_along_answers,
        apply_on_support,
        apply_to_all,
        apply_to_logits,
        draw,
        initial_state,
        is_stateful,
        next_states,
        sort_logits,
    )
    from adaptive_samplers.heuristics.support import Support

__all__ = [
    "HEURISTICS",
    "Numbers",
    "Pipeline",
    "Processor",
    "State",
    "Support",
    "apply_along_answers",
    "apply_on_support",
    "apply_to_all",
    "apply_to_logits",
    "configured_pipeline",
    "draw",
    "expand_heuristics",
    "heuristic",
    "initial_state",
    "is_stateful",
    "learned_heuristic",
    "next_states",
    "parse_processors",
    "pipeline_name",
    "prompted_heuristics",
    "sort_logits",
    "split_preference",
    "split_prompted",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: a config is checked, and tables are made, without torch.
    if name in __all__:
        return getattr(import_module(f"{__name__}.{'support' if name == 'Support' else 'apply'}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
