"""Where a model runs. Imports torch alone: what trains samplers needs no language model's packages."""

import torch


def choose_device(device: str) -> str:
    """`auto` becomes cuda if there is a GPU, else cpu."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
