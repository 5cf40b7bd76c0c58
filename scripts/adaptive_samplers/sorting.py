"""Sorting logits by the fastest means that the device has."""

from functools import cache
from types import ModuleType

from torch import Tensor

from adaptive_samplers import sort_passes_portable
from adaptive_samplers.compiled import fastest_passes

# By kind of device, with the package that it needs.
FAST_PASSES = {"cpu": ("adaptive_samplers.sort_passes", "numba")}


@cache
def _passes_for(kind: str) -> ModuleType:
    return fastest_passes(sort_passes_portable, FAST_PASSES, "Sorts", kind)


def sort_logits(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[B, V]` in descending order as float32, and the token ids in that order; equal logits by their ids."""
    return _passes_for(logits.device.type).sort_descending(logits.float())
