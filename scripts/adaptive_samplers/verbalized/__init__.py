"""Verbalized sampling: a model is asked for several answers with their probabilities, and one of them is drawn."""

from adaptive_samplers.verbalized.parsing import parse_verbalized

__all__ = ["parse_verbalized"]
