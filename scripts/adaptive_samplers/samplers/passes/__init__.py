"""Passes over the vocabulary for one decoding step: condense logits, spread a function of them, draw a token.

Between them is a network on a few knots; only these passes have a cost per token.
"""

from functools import cache
from types import ModuleType

import torch

from adaptive_samplers.compiled import compiled_or
from adaptive_samplers.samplers.passes import portable
from adaptive_samplers.samplers.passes.knots import Condensed, KnotGrid

__all__ = ["Condensed", "KnotGrid", "passes_for"]

# The modules that are faster than plain PyTorch on one kind of device, and the package that each needs. They are
# imported on first use, because both packages are slow to import and may be missing.
FAST_PASSES = {"cpu": ("numba_passes", "numba"), "cuda": ("triton_passes", "triton")}


def passes_for(device: torch.device) -> ModuleType:
    """The module whose `condense`, `spread` and `draw` serve this device best.

    If its package cannot be imported, it is the one in plain PyTorch, and a warning is logged once.
    """
    return _passes_for_kind(device.type)


@cache
def _passes_for_kind(kind: str) -> ModuleType:
    if kind not in FAST_PASSES:
        return portable
    module, package = FAST_PASSES[kind]
    return compiled_or(portable, f"{__name__}.{module}", package, "Learned samplers", kind)
