"""Adaptive samplers: tiny permutation-equivariant networks from logits to the logits to sample from.

`definitions` declares the architectures, each with everything that other code needs to know about it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adaptive_samplers.samplers import definitions as definitions
from adaptive_samplers.samplers.registry import ARCHITECTURES, Architecture, Options, architecture, evaluated

if TYPE_CHECKING:
    from adaptive_samplers.samplers.base import AdaptiveSampler, build_sampler, load_sampler

__all__ = [
    "ARCHITECTURES",
    "AdaptiveSampler",
    "Architecture",
    "Options",
    "architecture",
    "build_sampler",
    "evaluated",
    "load_sampler",
    *ARCHITECTURES,
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: figures and configs read the declarations without torch.
    if name in ARCHITECTURES:
        return ARCHITECTURES[name].sampler_class
    if name in __all__:
        return getattr(import_module(f"{__name__}.base"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
