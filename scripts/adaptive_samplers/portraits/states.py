"""The states on which samplers are looked at, distributions over their tokens, and how far apart two of these are."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adaptive_samplers.bootstrap import resampled_counts
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import Support
from adaptive_samplers.off_policy.shards import SketchShard, read_index
from adaptive_samplers.samplers.base import AdaptiveSampler
from adaptive_samplers.sketch import DistributionSketch
from adaptive_samplers.training.objectives.imitation import log_softmax_with_counts

# Hundreds of chains are applied to each state, which these points of a sketch suffice for.
TOP, TAIL = 96, 64


@dataclass(frozen=True)
class States:
    """Next-token distributions of a language model, as sketches.

    Attributes
    ----------
    t : log-probabilities of the support points in nats, `[N, S]` float64, descending.
    n : how many tokens each stands for, `[N, S]` float64.
    prompts : the number of the prompt that each belongs to, `[N]` int64, for intervals over prompts.
    """

    t: Tensor
    n: Tensor
    prompts: np.ndarray

    def __post_init__(self) -> None:
        if self.t.shape != self.n.shape or self.t.dim() != 2 or self.prompts.shape != (len(self.t),):
            raise ValueError(
                f"log-probabilities {tuple(self.t.shape)}, counts {tuple(self.n.shape)} and prompts "
                f"{self.prompts.shape} must be [N, S], [N, S] and [N]"
            )

    def __len__(self) -> int:
        return len(self.t)

    @cached_property
    def support(self) -> Support:
        """What heuristics see."""
        return Support.of(self.t, self.n)

    @cached_property
    def raw(self) -> "Distributions":
        """The language model's own distributions."""
        return Distributions.of_support(self.support)

    @cached_property
    def entropy(self) -> Tensor:
        """Shannon entropy in nats, `[N]`."""
        return self.support.entropy[:, 0]

    def under(self, sampler: AdaptiveSampler) -> "Distributions":
        """What a learned sampler makes of them, computed in float64."""
        exact = copy.deepcopy(sampler).double()
        with torch.no_grad():
            return Distributions.of_logits(exact(self.t, self.n), self.n)


@dataclass(frozen=True)
class Distributions:
    """One distribution per state, over the same support points.

    Attributes
    ----------
    log_probs : log-probability of one token at each point in nats, `[N, S]`; minus infinity where none is left.
    counts : how many tokens are left at each point, `[N, S]`.
    """

    log_probs: Tensor
    counts: Tensor

    @classmethod
    def of_logits(cls, logits: Tensor, n: Tensor) -> "Distributions":
        """That of finite logits `[N, S]` at points with counts `n`."""
        return cls(log_softmax_with_counts(logits, n).masked_fill(n <= 0, -torch.inf), n)

    @classmethod
    def of_support(cls, support: Support) -> "Distributions":
        """That of what a heuristic left."""
        return cls(support.log_probs, support.n)

    @cached_property
    def masses(self) -> Tensor:
        """Probability of each point's tokens together, `[N, S]`."""
        return self.counts * self.log_probs.exp()

    @cached_property
    def finite_log_probs(self) -> Tensor:
        """The log-probabilities with 0 where no token is left, which no mass is multiplied with."""
        return self.log_probs.masked_fill(self.counts <= 0, 0.0)


def kl_divergence(first: Distributions, second: Distributions) -> Tensor:
    """`KL(first || second)` of each state in nats, `[N]`; infinite where `second` lacks what `first` has."""
    lacking = (first.counts > 0) & (second.counts <= 0)
    difference = first.finite_log_probs - second.finite_log_probs
    kl = (first.masses * difference).sum(-1).clamp(min=0)
    return kl.masked_fill((lacking & (first.masses > 0)).any(-1), torch.inf)


def total_variation(first: Distributions, second: Distributions) -> Tensor:
    """Total variation between the two distributions of each state, 0 to 1, `[N]`.

    Where each has a part of a point's tokens, the smaller part is of the tokens that both have, as heuristics keep the
    most probable ones.
    """
    p, q = first.log_probs.exp(), second.log_probs.exp()
    both = first.counts.minimum(second.counts)
    apart = both * (p - q).abs() + (first.counts - both) * p + (second.counts - both) * q
    return apart.sum(-1) / 2


def read_states(
    answers: pd.DataFrame, shards: Sequence[Path], splits: Sequence[str], most: int, seed: int
) -> dict[str, States]:
    """Some of the stored states of each split, drawn at random without replacement.

    Parameters
    ----------
    answers : DataFrame
        Answers with `answer_id`, `prompt_id` and `split`; several rows of one answer count once.
    shards : sequence of Path
        The files that hold their sketches.
    most : int
        States of a split, at most.

    Raises
    ------
    UserError
        If a split has no state, an answer is in none of the shards, or a shard is damaged.
    """
    known = answers.drop_duplicates("answer_id").set_index("answer_id")
    lengths: dict[str, int] = {}
    for path in shards:
        ids, steps, _ = read_index(path)
        lengths |= dict(zip(ids, steps, strict=True))
    if missing := set(known.index) - set(lengths):
        raise UserError(
            f"portraits: {len(missing)} selected answers are in no sketch shard, the first: {min(missing)}; delete "
            f"{[str(path) for path in shards]} and run again"
        )
    chosen = {}
    for split in splits:
        there = sorted(answer for answer in known.index[known["split"] == split] if lengths[answer])
        if not there:
            raise UserError(
                f"portraits: no answer to a prompt of the {split} split was selected, so that there is no distribution "
                "to look at; select more answers (scoring.top_k) or prompts of this split (prompts.per_kind)"
            )
        chosen[split] = _drawn(there, lengths, most, seed)
    found = _read(chosen, shards)
    states = {}
    for split, steps in chosen.items():
        rows = [found[step] for step in steps]
        t, n = (torch.stack([row[place] for row in rows]) for place in (0, 1))
        if t.shape[1] > TOP + TAIL:
            sketch = DistributionSketch(t, n).resample(TOP, TAIL)
            t, n = sketch.t, sketch.n
        prompts = [known.at[answer, "prompt_id"] for answer, _ in steps]
        states[split] = States(t.double(), n.double(), np.unique(prompts, return_inverse=True)[1])
    return states


def _drawn(answers: Sequence[str], lengths: Mapping[str, int], most: int, seed: int) -> list[tuple[str, int]]:
    """Some of the steps of answers, as the answer's id and the step's number, in the order of the answers."""
    starts = np.cumsum([0, *(lengths[answer] for answer in answers)])
    chosen = np.sort(np.random.default_rng(seed).permutation(starts[-1])[:most])
    places = np.searchsorted(starts, chosen, side="right") - 1
    return [(answers[place], int(step - starts[place])) for place, step in zip(places, chosen, strict=True)]


def _read(
    chosen: Mapping[str, Sequence[tuple[str, int]]], shards: Sequence[Path]
) -> dict[tuple[str, int], tuple[Tensor, Tensor]]:
    """The sketches of the steps, log-probabilities and counts `[S]`; one shard at a time is in memory."""
    wanted: dict[str, list[int]] = {}
    for answer, step in itertools.chain.from_iterable(chosen.values()):
        wanted.setdefault(answer, []).append(step)
    found = {}
    for path in shards:
        shard = SketchShard.load(path)
        for place, answer in enumerate(shard.answer_ids):
            start = shard.draws.span(place).start
            for step in wanted.get(answer, ()):
                sketch = shard.draws.sketch
                found[answer, step] = sketch.t[start + step].clone(), sketch.n[start + step].clone()
    return found


def interval(
    numerator: Tensor, denominator: Tensor, prompts: np.ndarray, resamples: int, confidence: float, seed: int
) -> tuple[float | None, float | None, float | None]:
    """A ratio of sums over states and its bootstrap interval over prompts, each prompt with all of its states.

    The mean of something is its ratio to ones. All three are None where the denominator is 0.

    Parameters
    ----------
    numerator, denominator : Tensor [N]
    prompts : int [N]
        The prompt of each state.
    """
    _, place = np.unique(prompts, return_inverse=True)
    above, below = (np.bincount(place, weights=values.numpy()) for values in (numerator, denominator))
    if not below.sum() > 0:
        return None, None, None
    ratios = []
    for counts in resampled_counts(len(above), resamples, seed):
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios.append((counts @ above) / (counts @ below))
    ends = np.nanquantile(np.concatenate(ratios), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(above.sum() / below.sum()), float(ends[0]), float(ends[1])
