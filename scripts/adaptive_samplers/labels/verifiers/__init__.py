"""Verifiers of answers, by name: correctness checked by program.

A verifier takes the answer's text and the prompt's ground truth, and returns a score from 0 (wrong) to 1 (right) and
a short detail for a reader. It never guesses: an unusable ground truth, or an internal failure, raises.
"""

# Imported for their registrations.
from adaptive_samplers.labels.verifiers import code, facts, instructions, mathematics, numeric, reasoning  # noqa: F401
from adaptive_samplers.labels.verifiers.registry import VERIFIERS, Verification, Verifier, nearest, verifier

__all__ = ["VERIFIERS", "Verification", "Verifier", "nearest", "verifier"]
