"""Passes over the vocabulary for one decoding step: condense logits, spread a function of them, draw a token.

What lies between is a network on a few knots; these passes are all that costs anything per token.
"""

from types import ModuleType

import torch

from adaptive_samplers.samplers.passes import compiled, portable
from adaptive_samplers.samplers.passes.grid import Condensed, Grid

__all__ = ["Condensed", "Grid", "passes_for"]


def passes_for(device: torch.device) -> ModuleType:
    """The module whose `condense`, `spread` and `draw` serve this device best."""
    return compiled if device.type == "cpu" else portable
