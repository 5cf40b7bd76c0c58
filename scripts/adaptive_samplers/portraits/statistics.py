"""What statistics of the distribution contribute to a learned sampler."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.portraits.states import Distributions, States, kl_divergence
from adaptive_samplers.samplers.base import AdaptiveSampler

SHUFFLES = 5
ALL = "all of them"
# Of the regression: mass that the most probable tokens hold, at the least probable of which its log-probability counts.
QUANTILES = (0.5, 0.9)


def permutation_importance(sampler: AdaptiveSampler, states: States, seed: int) -> dict[str, Tensor]:
    """How far a sampler's distributions move if one statistic that it reads is that of another state (Breiman 2001).

    Statistics are shuffled among all states, `SHUFFLES` times, the same way for every sampler.

    Returns
    -------
    dict of str to Tensor [N]
        For each of the sampler's `statistic_names`, and for all of them shuffled together, the mean over shuffles of
        `KL(sampler || sampler with the shuffled statistic)` in nats; empty if it reads no statistics.
    """
    names = sampler.statistic_names
    if not names:
        return {}
    exact = copy.deepcopy(sampler).double()
    own = exact.statistics(states.t, states.n)

    def given(statistics: Tensor) -> Distributions:
        with torch.no_grad():
            return Distributions.of_logits(exact.with_statistics(states.t, states.n, statistics), states.n)

    unshuffled = given(own)
    chosen = {name: [place] for place, name in enumerate(names)}
    chosen |= {ALL: list(range(len(names)))} if len(names) > 1 else {}
    moved = {name: torch.zeros(len(states), dtype=torch.float64) for name in chosen}
    for shuffle in range(SHUFFLES):
        order = torch.from_numpy(np.random.default_rng([seed, shuffle]).permutation(len(states)))
        for name, columns in chosen.items():
            others = own.clone()
            others[:, columns] = own[order][:, columns]
            moved[name] += kl_divergence(unshuffled, given(others)) / SHUFFLES
    return moved


class Regression(NamedTuple):
    """Of a number of each state on statistics of its distribution, by least squares.

    Attributes
    ----------
    r_squared : share of the variance explained, on states that were not fitted; below 0 if worse than the mean.
    lost : for each statistic, how much less it is without that one.
    alone : for each statistic, how much it is with that one alone.
    """

    r_squared: float
    lost: dict[str, float]
    alone: dict[str, float]


def standard_statistics(states: States) -> dict[str, Tensor]:
    """Statistics of distributions that need no sampler, `[N]` each, nats; varentropy in squared nats."""
    masses, log_probs = states.raw.masses, states.raw.finite_log_probs
    varentropy = (masses * (log_probs + states.entropy[:, None]) ** 2).sum(-1)
    found = {"entropy": states.entropy, "largest log-probability": states.t[:, 0], "varentropy": varentropy}
    for share in QUANTILES:
        place = (masses.cumsum(-1) < share).sum(-1, keepdim=True).clamp(max=states.t.shape[1] - 1)
        found[f"log-probability at mass {share:g}"] = states.t.gather(-1, place)[:, 0]
    return found


def regress(fitted: States, fitted_to: Tensor, held_out: States, measured_on: Tensor) -> Regression | None:
    """Regress a number of each state, `[N]`, on `standard_statistics`; states where it is NaN are left out.

    None where the number does not vary, or too few states are left to fit.
    """
    train, test = standard_statistics(fitted), standard_statistics(held_out)
    names = list(train)
    wanted, there = fitted_to.numpy(), measured_on.numpy()
    fit, measure = np.isfinite(wanted), np.isfinite(there)
    if fit.sum() < 2 * (len(names) + 1) or not measure.any() or np.ptp(there[measure]) < 1e-9:
        return None

    def r_squared(chosen: list[str]) -> float:
        def design(statistics: dict[str, Tensor], rows: np.ndarray) -> np.ndarray:
            columns = [statistics[name].numpy()[rows] for name in chosen]
            return np.column_stack([np.ones(int(rows.sum())), *columns])

        weights = np.linalg.lstsq(design(train, fit), wanted[fit], rcond=None)[0]
        residual = there[measure] - design(test, measure) @ weights
        return float(1 - residual @ residual / ((there[measure] - there[measure].mean()) ** 2).sum())

    whole = r_squared(names)
    lost = {name: whole - r_squared([other for other in names if other != name]) for name in names}
    return Regression(whole, lost, {name: r_squared([name]) for name in names})
