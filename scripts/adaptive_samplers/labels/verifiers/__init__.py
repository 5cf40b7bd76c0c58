"""Verifiers by name: programs that check the correctness of answers.

A verifier takes an answer's text and the prompt's ground truth, and returns a score from 0 (wrong) to 1 (right) and a
short detail for readers. It never guesses: it raises on an unusable ground truth or an internal failure.
"""

# Imported because they register verifiers.
from adaptive_samplers.labels.verifiers import code, facts, instructions, mathematics, numeric, reasoning  # noqa: F401
from adaptive_samplers.labels.verifiers.registry import VERIFIERS, Verification, Verifier, nearest, verifier

__all__ = ["VERIFIERS", "Verification", "Verifier", "nearest", "verifier"]
