"""Passes over the vocabulary for one decoding step: condense logits, spread a function of them, draw a token.

Between them is a network on a few knots; only these passes have a cost per token.
"""

from functools import cache
from types import ModuleType

import torch

from adaptive_samplers.compiled import fastest_passes
from adaptive_samplers.samplers.passes import portable
from adaptive_samplers.samplers.passes.knots import Condensed, KnotGrid

__all__ = ["Condensed", "KnotGrid", "passes_for"]

FAST_PASSES = {"cpu": (f"{__name__}.numba_passes", "numba"), "cuda": (f"{__name__}.triton_passes", "triton")}


def passes_for(device: torch.device) -> ModuleType:
    """The module whose `condense`, `spread` and `draw` serve this device best.

    If its package cannot be imported, it is the one in plain PyTorch, and a warning is logged once.
    """
    return _passes_for_kind(device.type)


@cache
def _passes_for_kind(kind: str) -> ModuleType:
    return fastest_passes(portable, FAST_PASSES, "Learned samplers", kind)
