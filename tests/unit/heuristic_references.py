"""Heuristics a second time, as formulas in float64, with settings to try them and Hugging Face's warpers at."""

import math

import numpy as np
import torch
from hypothesis import strategies as st

from adaptive_samplers.heuristics import Processor


def step_of(name: str, *values: float | str) -> Processor:
    """A processor with its parameters in order."""
    return Processor(name, values)


PARAMETERS = {
    "temperature": st.floats(0.05, 5),
    "top_k": st.integers(1, 50),
    "top_p": st.one_of(st.floats(0.01, 1), st.just(1.0), st.floats(1 - 1e-9, 1)),
    "min_p": st.floats(0.001, 1),
    "typical": st.floats(0.05, 0.99),
    "epsilon": st.floats(1e-4, 0.9),
    "eta": st.floats(1e-4, 0.9),
    "top_h": st.floats(0.01, 1),
}
GRID = {
    "temperature": [0.3, 1.0, 1.7],
    "top_k": [1, 10, 50, 5000],
    "top_p": [0.1, 0.5, 0.9, 0.99, 1 - 1e-6, 1.0],
    "min_p": [0.02, 0.1, 0.5, 1.0],
    "typical": [0.2, 0.5, 0.9, 0.95],
    "epsilon": [3e-4, 0.01, 0.2],
    "eta": [3e-4, 0.01, 0.2],
    "top_h": [0.1, 0.4, 0.7, 0.95],
}


def entropy_of(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def cut(logits: np.ndarray, threshold: float, slack: float) -> np.ndarray:
    """Keep what reaches a logit, but never nothing; `slack` nats more are kept."""
    return np.where(logits >= min(threshold - slack, logits.max()), logits, -np.inf)


def reference_top_n_sigma(logits, slack, n):
    return cut(logits, logits.max() - n * np.std(logits[np.isfinite(logits)]), slack)


def reference_top_h_renormalized(logits, slack, alpha):
    p = np.exp(logits - np.logaddexp.reduce(logits))
    order, kept = np.argsort(-logits, kind="stable"), 1
    while (
        kept < len(p) and entropy_of(p[order[: kept + 1]] / p[order[: kept + 1]].sum()) <= alpha * entropy_of(p) + slack
    ):
        kept += 1
    return np.where(np.isin(np.arange(len(p)), order[:kept]), logits, -np.inf)


def reference_p_less(logits, slack):
    total = np.logaddexp.reduce(logits)
    return cut(logits, np.log((np.exp(logits - total) ** 2).sum()) + total, slack)


def reference_p_less_norm(logits, slack):
    total, count = np.logaddexp.reduce(logits), np.isfinite(logits).sum()
    threshold = (count * (np.exp(logits - total) ** 2).sum() - 1) / max(count - 1, 1)
    # Among equal tokens rounding decides the sign of a threshold of 0.
    return cut(logits, np.log(threshold) + total if threshold > 1e-9 else -np.inf, slack)


def reference_quadratic(logits, slack, factor, curve):
    d, k, s = np.fmax(logits, -1e9) - logits.max(), (3 - curve) / 2, (curve - 1) / 2
    bent = -(k * factor * d**2) + s * factor * d**3 + logits.max()
    return np.where(np.isfinite(logits), bent, -np.inf)


def reference_dynamic_temperature(logits, slack, low, high, exponent):
    p = np.exp(logits - np.logaddexp.reduce(logits))
    if np.isfinite(logits).sum() == 1:
        return logits
    share = entropy_of(p) / np.log(np.isfinite(logits).sum())
    return logits / (low + (high - low) * share**exponent)


def reference_entropy_temperature(logits, slack, temperature, theta):
    entropy = entropy_of(np.exp(logits - np.logaddexp.reduce(logits)))
    return logits / max(temperature * 0.8 ** (theta / max(entropy, 1e-300)), 1e-6)


REFERENCES = {
    "top_n_sigma": (reference_top_n_sigma, st.tuples(st.floats(0.1, 4)), [(1.0,), (2.0,), (3.0,)]),
    "top_h_renormalized": (reference_top_h_renormalized, st.tuples(st.floats(0.05, 0.95)), [(0.4,), (0.7,), (0.9,)]),
    "p_less": (reference_p_less, st.just(()), [()]),
    "p_less_norm": (reference_p_less_norm, st.just(()), [()]),
    "quadratic": (reference_quadratic, st.tuples(st.floats(0.01, 3), st.floats(1, 3)), [(0.2, 1.0), (1.0, 2.0)]),
    "dynamic_temperature": (
        reference_dynamic_temperature,
        st.tuples(st.floats(0.1, 1), st.floats(1, 3), st.floats(0.3, 2)),
        [(0.5, 1.5, 1.0)],
    ),
    "entropy_temperature": (
        reference_entropy_temperature,
        st.tuples(st.floats(0.2, 2), st.floats(0.01, 2)),
        [(0.8, 0.1)],
    ),
}
STATEFUL = {"mirostat": (3.0, 0.1), "annealed_temperature": (1.2, 0.1, 30.0)}


@st.composite
def rows_of_logits(draw_from) -> torch.Tensor:
    """A row `[1, V]`: smooth, with ties, flat or peaked; some of it at minus infinity."""
    size = draw_from(st.integers(1, 40))
    elements = draw_from(
        st.sampled_from(
            [st.floats(-20, 20, width=32), st.sampled_from([-3.0, 0.0, 0.5, 1.0]), st.just(2.5), st.floats(0, 1e-3)]
        )
    )
    values = draw_from(st.lists(elements, min_size=size, max_size=size))
    masked = draw_from(st.lists(st.booleans(), min_size=size, max_size=size)) if draw_from(st.booleans()) else []
    peak = draw_from(st.integers(0, size - 1))
    row = [-math.inf if hidden else value for value, hidden in zip(values, masked or [False] * size, strict=True)]
    row[peak] = values[peak] + draw_from(st.sampled_from([0.0, 0.0, 60.0]))
    # Logits that differ by less than their probabilities can in float32 are ties to one side and not to the other.
    return torch.tensor([row], dtype=torch.float32).mul(2**20).round().div(2**20)
