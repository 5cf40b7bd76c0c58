"""A learned sampler as a formula that one can copy: a spline in the log-probability, whose values at its knots are
linear in the entropy and the largest log-probability."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.portraits.states import Distributions, States

Coordinate = Literal["log_prob", "below_largest"]
Statistic = Literal["entropy", "largest"]

# Added to the loss for each squared nat that a value is away from the raw logits: it decides where data does not.
IDENTITY_WEIGHT = 1e-10
ITERATIONS = 60
ENOUGH = 1e-5  # a gain that is a smaller share of the loss ends the fit
NEGLIGIBLE = 1e-7
DIGITS = 4  # after the point, of what is printed and measured


@dataclass(frozen=True)
class ClosedForm:
    """New logits by linear interpolation between knots; below the first, tokens keep their raw distances.

    Attributes
    ----------
    knots : places of the knots in nats, `[K]`, ascending, the last at 0.
    values : what the new logit at each knot is, `[1 + statistics, K]`: the constant, and a term per nat of each.
    coordinate : `log_prob`, or `below_largest`: the log-probability minus the largest.
    statistics : which statistics of the distribution the values depend on.
    """

    knots: np.ndarray
    values: np.ndarray
    coordinate: Coordinate
    statistics: tuple[Statistic, ...]

    def under(self, states: States) -> Distributions:
        """What it makes of states."""
        hat, below = _interpolation(states, torch.from_numpy(self.knots), self.coordinate)
        at_knots = _context(states, self.statistics) @ torch.from_numpy(self.values)
        return Distributions.of_logits(torch.einsum("nsk,nk->ns", hat, at_knots) + below, states.n)

    def rounded(self) -> "ClosedForm":
        """The same with the digits that `snippet` prints."""
        return ClosedForm(self.knots.round(DIGITS), self.values.round(DIGITS), self.coordinate, self.statistics)

    def snippet(self) -> str:
        """A Python function of a row of logits, which needs numpy alone; it holds the rounded numbers."""
        names = {"entropy": "-(p[p > 0] * logp[p > 0]).sum()", "largest": "logp.max()"}
        context = ", ".join(["1", *(names[name] for name in self.statistics)])
        place = "logp" if self.coordinate == "log_prob" else "logp - logp.max()"
        form = self.rounded()
        return "\n".join(
            [
                "import numpy as np",
                f"KNOTS = np.array({_numbers(form.knots)})",
                "VALUES = np.array([",
                *(f"    {_numbers(row)}," for row in form.values),
                "])",
                "def logits_to_sample_from(logits):",
                "    logp = logits - np.logaddexp.reduce(logits)",
                "    p = np.exp(logp)",
                f"    values = np.array([{context}]) @ VALUES",
                f"    x = {place}",
                "    return np.interp(x, KNOTS, values) + np.minimum(x - KNOTS[0], 0)",
            ]
        )


def _numbers(row: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.{DIGITS}f}".rstrip("0").rstrip(".") for value in row + 0.0) + "]"


def fit_closed_form(
    states: States,
    learned: Distributions,
    knots: int,
    coordinate: Coordinate = "log_prob",
    statistics: Sequence[Statistic] = ("entropy", "largest"),
) -> ClosedForm:
    """The closed form with the least mean `KL(learned || closed form)` over states.

    That is a soft-target logistic regression, which is convex in the values at the knots: Levenberg's damped Newton
    steps find its one minimum. Knots are denser towards the most probable tokens, as squares are towards 0, and reach
    down to where almost no probability is left.
    """
    deepest = _depth(states, learned, coordinate)
    places = torch.from_numpy(-(np.linspace(1, 0, knots) ** 2) * deepest).round(decimals=DIGITS)
    context = _context(states, tuple(statistics))
    hat, below = _interpolation(states, places, coordinate)
    # The raw logits, up to a constant.
    start = torch.zeros(context.shape[1], knots, dtype=torch.float64)
    start[0] = places
    values, damping = start.clone(), 1e-3
    loss, gradient, curvature = _derivatives(values, start, hat, below, context, learned, states.n)
    for _ in range(ITERATIONS):
        step = torch.linalg.solve(curvature + damping * torch.diag(curvature.diagonal() + IDENTITY_WEIGHT), gradient)
        trial = values - step.reshape(values.shape)
        found = _derivatives(trial, start, hat, below, context, learned, states.n)
        gain = loss - found[0]
        if gain >= 0:
            values, damping = trial, max(damping / 8, 1e-9)
            loss, gradient, curvature = found
            if gain < ENOUGH * loss or loss < 1e-9:
                break
        else:
            damping *= 8
            if damping > 1e6:
                break
    return ClosedForm(places.numpy(), values.numpy(), coordinate, tuple(statistics))


def _depth(states: States, learned: Distributions, coordinate: Coordinate) -> float:
    """How far down the most probable tokens reach that hold all but `NEGLIGIBLE` of the probability, nats above 0."""
    place = (states.t if coordinate == "log_prob" else states.t - states.t[:, :1]).flatten()
    order = place.argsort()
    masses = torch.maximum(states.raw.masses, learned.masses).flatten()[order] / len(states)
    first = int((masses.cumsum(0) > NEGLIGIBLE).to(torch.uint8).argmax())
    return max(-float(place[order][first]), 1.0)


def _context(states: States, statistics: tuple[Statistic, ...]) -> Tensor:
    """A one and the statistics of each state, `[N, 1 + statistics]`."""
    known = {"entropy": states.entropy, "largest": states.t[:, 0]}
    return torch.stack([torch.ones(len(states), dtype=torch.float64), *(known[name] for name in statistics)], dim=-1)


def _interpolation(states: States, knots: Tensor, coordinate: Coordinate) -> tuple[Tensor, Tensor]:
    """The weight of each knot at each point, `[N, S, K]`, and how far below the first knot a point is, `[N, S]`."""
    place = states.t if coordinate == "log_prob" else states.t - states.t[:, :1]
    inside = place.clamp(float(knots[0]), float(knots[-1]))
    right = torch.searchsorted(knots, inside.contiguous()).clamp(1, len(knots) - 1)
    share = (inside - knots[right - 1]) / (knots[right] - knots[right - 1])
    hat = torch.zeros(*place.shape, len(knots), dtype=torch.float64)
    hat.scatter_(-1, right[..., None], share[..., None])
    hat.scatter_(-1, right[..., None] - 1, 1 - share[..., None])
    return hat, (place - knots[0]).clamp(max=0)


def _derivatives(
    values: Tensor, start: Tensor, hat: Tensor, below: Tensor, context: Tensor, learned: Distributions, n: Tensor
) -> tuple[float, Tensor, Tensor]:
    """The loss, its gradient `[P]` and its second derivatives `[P, P]` in the values at the knots."""
    made = Distributions.of_logits(torch.einsum("nsk,nk->ns", hat, context @ values) + below, n)
    # Not clamped at 0, unlike `kl_divergence`: it is compared with itself.
    kl = (learned.masses * (learned.finite_log_probs - made.finite_log_probs)).sum(-1).mean()
    away = values - start
    loss = float(kl + IDENTITY_WEIGHT / 2 * (away**2).sum())
    mean = torch.einsum("nsk,ns->nk", hat, made.masses)
    residual = mean - torch.einsum("nsk,ns->nk", hat, learned.masses)
    gradient = context.T @ residual / len(n) + IDENTITY_WEIGHT * away
    spread = hat.transpose(1, 2) @ (hat * made.masses[..., None]) - mean[:, :, None] * mean[:, None, :]
    size = values.numel()
    pairs = (context[:, :, None] * context[:, None, :]).flatten(1).T @ spread.flatten(1) / len(n)
    features, knots = values.shape
    curvature = pairs.reshape(features, features, knots, knots).transpose(1, 2).reshape(size, size)
    return loss, gradient.flatten(), curvature + IDENTITY_WEIGHT * torch.eye(size, dtype=torch.float64)
