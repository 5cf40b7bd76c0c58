"""Sorting logits in plain PyTorch, for any device; the compiled pass gives the same, but for NaN."""

import torch
from torch import Tensor


def sort_descending(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 logits `[B, V]` in descending order, and the ids of their tokens; equal logits by their ids."""
    return torch.sort(logits, dim=-1, descending=True, stable=True)
