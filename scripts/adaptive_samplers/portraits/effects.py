"""What a sampler does to a distribution, in three numbers: how hot it makes it, and how much and how many it keeps."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.heuristics import Support
from adaptive_samplers.portraits.states import Distributions, States

# Inverse temperatures are looked for between 1 divided by this and this.
HOTTEST = 1e3
HALVINGS = 50
# A learned sampler cuts nothing off: what it keeps are the fewest tokens with this probability.
KEPT = 0.99


class Effects(NamedTuple):
    """Numbers of each state, `[N]`: see `effective_temperature` and `kept`."""

    effective_temperature: Tensor
    kept_mass: Tensor
    kept_count: Tensor


def effects(states: States, made: Distributions) -> Effects:
    """What a sampler or heuristic that makes these distributions of the states does to them."""
    return Effects(effective_temperature(states, made), *kept(states, made))


def effective_temperature(states: States, made: Distributions) -> Tensor:
    """The temperature at which the raw distribution is nearest to what was made of it, `[N]`; between 0.001 and 1000.

    It is the least `KL(made || heated)`. That is where the mean raw log-probability is the same under both, the moment
    equation of an exponential family, of which there is one solution. Cutting the tail off counts as cooling.

    Where all tokens are equally probable, no temperature changes anything: it is NaN.
    """
    t, n = states.t, states.n
    wanted = (made.masses * t).sum(-1, keepdim=True)
    low, high = (torch.full_like(wanted, sign * np.log(HOTTEST)) for sign in (-1, 1))
    log_n = n.log()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        heated = (middle.exp() * t + log_n).softmax(-1)
        colder = (heated * t).sum(-1, keepdim=True) < wanted
        low, high = torch.where(colder, middle, low), torch.where(colder, high, middle)
    there = n > 0
    spread = t.masked_fill(~there, -torch.inf).amax(-1) - t.masked_fill(~there, torch.inf).amin(-1)
    return (-(low + high) / 2).exp()[:, 0].masked_fill(spread <= 0, torch.nan)


def kept(states: States, made: Distributions, share: float = KEPT) -> tuple[Tensor, Tensor]:
    """The fewest tokens that hold a share of the probability: their probability under the language model, and how many
    they are, `[N]` each."""
    order = made.log_probs.argsort(dim=-1, descending=True, stable=True)
    left = Support.of(made.log_probs.gather(-1, order), made.counts.gather(-1, order))
    count = left.keep_mass(torch.full_like(states.t[:, :1], share)).n
    return (count * states.raw.log_probs.exp().gather(-1, order)).sum(-1), count.sum(-1)


def entropy_bins(entropy: Tensor, bins: int) -> np.ndarray:
    """Which bin each state belongs to, `[N]`: bins of about as many states each, in the order of raw entropy."""
    ranks = entropy.argsort(stable=True).argsort(stable=True).numpy()
    return ranks * bins // max(len(ranks), 1)
