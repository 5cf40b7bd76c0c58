"""Recorded draws with what their answers were worth: the data of objectives that learn from outcomes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import is_stateful
from adaptive_samplers.off_policy.draws import RecordedDraws, steps_of_answers
from adaptive_samplers.off_policy.estimates import LoggedAnswers, log_mixture, weigh
from adaptive_samplers.off_policy.log_probs import log_probs_of_beginnings
from adaptive_samplers.off_policy.reading import Logged

if TYPE_CHECKING:
    from adaptive_samplers.training.objectives.definitions import FromOutcomes


@dataclass(frozen=True)
class OutcomeBatch:
    """The answers to some prompts, on one device. Steps with the same distribution and draw are there once.

    Attributes
    ----------
    t, n : Tensor [M, S] of float32
        Log-probabilities in nats and counts, as of sketches; each draw has a point of its own.
    places : Tensor [M]
        The points of the drawn tokens.
    steps : Tensor [K]
        The row of each step of the D distinct answers, one answer after another, of steps that count.
    draw_of_step : Tensor [K]
        Whose step it is, 0 to D - 1.
    lengths : Tensor [D]
        How many steps of each count.
    reference : Tensor [D]
        The answers' log-probability under the sampler that training began with, nats.
    draw, prompt, behavior, seed : Tensor [A]
        Of each answer: which of the D it is, the number of its prompt, ascending from 0, that of the sampler that drew
        it, and its seed.
    reward : Tensor [A]
    mixture : Tensor [A]
        Log-probability under the mixture of all behaviors, nats.
    vectors : Tensor [D, E], or None
        Embeddings of unit length, where the distance of answers counts.
    distance_weight : float
        What the distance of two answers counts for, against rewards.
    """

    t: Tensor
    n: Tensor
    places: Tensor
    steps: Tensor
    draw_of_step: Tensor
    lengths: Tensor
    reference: Tensor
    draw: Tensor
    prompt: Tensor
    behavior: Tensor
    seed: Tensor
    reward: Tensor
    mixture: Tensor
    vectors: Tensor | None
    distance_weight: float

    def __len__(self) -> int:
        """How many prompts there are."""
        return int(self.prompt[-1]) + 1


@dataclass(frozen=True)
class Outcomes:
    """Answers to P prompts, with recorded draws and rewards.

    Attributes
    ----------
    draws : RecordedDraws of D distinct answers
        Those to one prompt are neighbors, in the order of prompts.
    answers : LoggedAnswers of A
    counted : Tensor [N] of bool
        Which steps count.
    same : Tensor [N]
        As `equal_steps` finds them.
    mixture : array [A]
        The log-probability of each answer's steps that count, under the mixture of all behaviors.
    reference : Tensor [D] of float32
        And under the sampler that training begins with.
    vectors : Tensor [D, E] of float32, or None
        Embeddings of unit length, where the distance of answers counts.
    distance_weight : float
        What the distance of two answers counts for, against rewards.
    """

    draws: RecordedDraws
    answers: LoggedAnswers
    counted: Tensor
    same: Tensor
    mixture: np.ndarray
    reference: Tensor
    vectors: Tensor | None = None
    distance_weight: float = 0.0

    # Prompts that are measured together; weights are normalized over them.
    measured_together = 512

    def __len__(self) -> int:
        return len(self.answers.starts) - 1

    @property
    def t(self) -> Tensor:
        """Log-probabilities of all sketches, nats, `[N, S]`."""
        return self.draws.sketch.t

    @property
    def n(self) -> Tensor:
        """Counts of all sketches, `[N, S]`."""
        return self.draws.sketch.n

    def select(self, index: Tensor | slice, device: torch.device | None = None) -> OutcomeBatch:
        """The answers to some prompts, on `device`."""
        chosen = np.arange(len(self))[index.numpy() if isinstance(index, Tensor) else index]
        starts = self.answers.starts
        sizes = np.diff(starts)[chosen]
        rows = np.concatenate([np.arange(starts[prompt], starts[prompt + 1]) for prompt in chosen])
        wanted, draw = np.unique(self.answers.draws[rows], return_inverse=True)
        spans = [self.draws.span(one) for one in wanted.tolist()]
        origin = torch.cat([torch.arange(span.start, span.stop) for span in spans])
        owner = torch.repeat_interleave(torch.tensor([span.stop - span.start for span in spans]))
        counted = self.counted[origin]
        origin, owner = origin[counted], owner[counted]
        # Equal steps are those whose first equal step is the same; it belongs to the same prompt.
        first, row_of_step = torch.unique(self.same[origin], return_inverse=True)
        t, n, places = self.draws.taken(first, torch.arange(len(first) + 1)).with_own_points()
        batch = OutcomeBatch(
            t.float(),
            n.float(),
            places,
            row_of_step,
            owner,
            torch.bincount(owner, minlength=len(spans)),
            self.reference[torch.from_numpy(wanted)],
            torch.from_numpy(draw),
            torch.from_numpy(np.repeat(np.arange(len(chosen)), sizes)),
            torch.from_numpy(self.answers.behaviors[rows]),
            torch.from_numpy(self.answers.seeds[rows]),
            torch.from_numpy(self.answers.rewards[rows]).float(),
            torch.from_numpy(self.mixture[rows]).float(),
            None if self.vectors is None else self.vectors[torch.from_numpy(wanted)],
            self.distance_weight,
        )
        tensors = {name: value.to(device) for name, value in vars(batch).items() if isinstance(value, Tensor)}
        return replace(batch, **tensors)

    def fingerprint(self) -> str:
        """A hash of the content."""
        digest = blake2b(str(self.distance_weight).encode())
        columns = (*self.answers.columns, self.mixture)
        tensors = [*self.draws.to_tensors().values(), self.counted, self.same, self.reference]
        tensors += [] if self.vectors is None else [self.vectors]
        for array in (*columns, *(tensor.contiguous().numpy() for tensor in tensors)):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def outcomes_of(logged: Logged, options: "FromOutcomes", distance_weight: float, horizon: int | None) -> Outcomes:
    """The first `horizon` steps of logged answers, all for None; the reference is zero until it is known."""
    counted = counted_steps(logged, options.sure)
    if horizon is not None:
        counted &= steps_of_answers(logged.draws.starts)[1] < horizon
    log_probs = behavior_log_probs(logged, options.sure, [horizon])
    return Outcomes(
        logged.draws,
        logged.answers,
        counted,
        logged.same,
        log_mixture(logged.answers, log_probs)[:, 0],
        torch.zeros(len(logged.draws)),
        logged.vectors if distance_weight else None,
        distance_weight,
    )


def counted_steps(logged: Logged, sure: float | None) -> Tensor:
    """The steps at which no token is more probable than `sure`, bool [N]."""
    return logged.draws.sketch.t[:, 0] <= (0.0 if sure is None else math.log(sure))


def behavior_log_probs(logged: Logged, sure: float | None, horizons: Sequence[int | None]) -> np.ndarray:
    """The log-probability of each distinct answer's beginnings under each behavior, `[H, D, L]` nats."""
    counted = counted_steps(logged, sure)
    return log_probs_of_beginnings(logged.pipelines, logged.draws, horizons, logged.same, counted).numpy()


def best_behavior(logged: Logged, distance_weight: float) -> int:
    """The number of the stateless behavior whose own answers are best, their distance included.

    Raises
    ------
    UserError
        If all are stateful.
    """
    candidates = {
        number: np.nanmean(own_values(logged, number, distance_weight) - logged.answers.means)
        for number, pipeline in enumerate(logged.pipelines)
        if not is_stateful(pipeline)
    }
    if not candidates:
        raise UserError("no heuristic is without state, so that none can be what training begins with: add one")
    return max(candidates, key=candidates.get)


def own_values(logged: Logged, behavior: int, distance_weight: float) -> np.ndarray:
    """What a behavior's own answers to each prompt are worth, `[P]`; NaN without any.

    That is the mean reward and, where it counts, the mean distance of two answers under different seeds.
    """
    answers = logged.answers
    found = np.full(len(logged.prompt_ids), np.nan)
    mine = np.flatnonzero(answers.behaviors == behavior)
    for prompt in np.unique(answers.prompts[mine]):
        rows = mine[answers.prompts[mine] == prompt]
        found[prompt] = answers.rewards[rows].mean()
        if distance_weight and len(rows) > 1:
            vectors = logged.vectors[torch.from_numpy(answers.draws[rows])]
            pairs = len(rows) * (len(rows) - 1)
            found[prompt] += distance_weight * float((1 - vectors @ vectors.T).sum()) / pairs
    return found


def longest_horizon(answers: LoggedAnswers, log_probs: np.ndarray, number: int, least: float) -> int:
    """The last of the horizons at which one behavior has at least `least` of the answers as its effective number.

    Parameters
    ----------
    log_probs : array [H, D, L]
        `behavior_log_probs` at ascending horizons.
    number : int
        Of the behavior.

    Returns
    -------
    int
        Which of the L; 0 if none has as many.
    """
    mixture = log_mixture(answers, log_probs)
    enough = [
        (weigh(answers, log_probs[[number], :, at], mixture[:, at]).effective[0] / np.diff(answers.starts)).mean()
        >= least
        for at in range(log_probs.shape[2])
    ]
    return max((at for at, is_enough in enumerate(enough) if is_enough), default=0)
