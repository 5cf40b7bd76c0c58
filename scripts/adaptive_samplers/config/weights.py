"""The names of weightings in paths and tables."""

import re
from collections.abc import Mapping
from typing import Any

from adaptive_samplers.errors import UserError

_WEIGHT_LABELS = {"a": "diversity", "b": "quality", "c": "correctness"}


def weight_name(weights: Mapping[str, float]) -> str:
    """The name of a weighting in paths and tables, such as `a0.7_b0.3_c0` for diversity, quality and correctness."""
    return "_".join(f"{letter}{weights[label]:g}" for letter, label in _WEIGHT_LABELS.items())


def weight_names(config: Mapping[str, Any]) -> list[str]:
    """The names of all weightings in a complete config, in its order."""
    return [weight_name(weights) for weights in config["scoring"]["weights"]]


def parse_weight_name(name: str) -> dict[str, float]:
    """The weighting that `weight_name` gave a name. Raises UserError if the name is not of that form."""
    number = r"(\d+(?:\.\d+)?(?:e[+-]\d+)?)"
    match = re.fullmatch(f"a{number}_b{number}_c{number}", name)
    if match is None:
        raise UserError(
            f"'{name}' does not name a weighting; names look like a0.7_b0.3_c0 (diversity, quality, correctness)"
        )
    return {label: float(text) for label, text in zip(_WEIGHT_LABELS.values(), match.groups(), strict=True)}
