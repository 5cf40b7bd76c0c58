"""Adaptive Samplers: learn how to sample from a language model.

from adaptive_samplers import AdaptiveSampler

sampler = AdaptiveSampler.from_pretrained("results/demo/samplers/SamplingNetwork/a0_b1_c0_top2")
token_ids = sampler.sample(logits)
"""

import os
from typing import Any

from adaptive_samplers.extras import name_missing_extras

# Before torch is loaded: threads that wait by spinning slow down every neighbour on a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

name_missing_extras()

__version__ = "0.1.0"
__all__ = ["AdaptiveSampler", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: stages that need no torch start in a fraction of a second without it.
    if name == "AdaptiveSampler":
        from adaptive_samplers.samplers import AdaptiveSampler

        return AdaptiveSampler
    raise AttributeError(f"module 'adaptive_samplers' has no attribute '{name}'")
