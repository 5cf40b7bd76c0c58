"""One token for every answer: every engine applies pipelines, states and random numbers in the same way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from adaptive_samplers.heuristics import (
    Pipeline,
    State,
    apply_on_support,
    draw,
    initial_state,
    is_stateful,
    next_states,
    sort_logits,
)
from adaptive_samplers.heuristics.apply import apply_on_windows, has_learned_step
from adaptive_samplers.heuristics.windows import WINDOW_SIZES, Windows, window_sizes
from adaptive_samplers.randomness import uniforms

# A smaller window is tried when the last draw would have fitted into this share of it.
SPARE = 4


@dataclass
class Draws:
    """What the draws of one answer depend on: its pipeline, the pipeline's state, and its uniform numbers.

    `level` says in which of the sizes of windows the next draw is tried first, or that it is from all tokens at once.
    It follows from what the last draw needed, and changes no draw.
    """

    pipeline: Pipeline
    state: State
    uniforms: Tensor
    level: int = 0

    @classmethod
    def start(cls, pipeline: Pipeline, sample_seed: int, max_new_tokens: int) -> "Draws":
        """Before the first token."""
        level = len(WINDOW_SIZES) if has_learned_step(pipeline) else 0
        return cls(pipeline, initial_state(pipeline), torch.from_numpy(uniforms(sample_seed, max_new_tokens)), level)


class DrawnTokens(NamedTuple):
    """The next token of each of A answers.

    Attributes
    ----------
    token_ids : list of A
    log_probs : list of A
        Log-probabilities under the language model, nats.
    ranks : list of A
        How many tokens come before it, most probable first, and equally probable ones in the order of their ids.
    """

    token_ids: list[int]
    log_probs: list[float]
    ranks: list[int]


@dataclass(frozen=True)
class _Drawn:
    """Drawn tokens of some answers.

    Attributes
    ----------
    tokens : DrawnTokens
    needed : list of A
        The size of a window that would have sufficed.
    left : set of int
        The answers that this window did not suffice for; nothing else that is said of them holds.
    log_probs : function of a list of B answers
        The log-probabilities [B] of their tokens under the distributions that they were drawn from, nats.
    """

    tokens: DrawnTokens
    needed: list[int]
    left: set[int]
    log_probs: Callable[[list[int]], Tensor]


def draw_tokens(
    log_probs: Tensor, rows: Sequence[int], answers: Sequence[Draws], positions: Sequence[int]
) -> DrawnTokens:
    """Draw the next token of every answer, and advance the states of stateful pipelines to it.

    Tokens are drawn from windows of the most probable ones, and from all tokens where no window suffices. A draw is the
    same from either, unless its uniform number is within 1e-9 of a boundary between two tokens. (Where a temperature
    follows from an entropy, single logits may be rounded to the next float32 number, and boundaries move with them.)

    Parameters
    ----------
    log_probs : Tensor [R, V]
        The language model's log-probabilities, nats.
    rows : sequence of A
        The row that each answer draws from; answers may share one.
    answers : sequence of A
    positions : sequence of A
        How many tokens each answer has.
    """
    log_probs = log_probs.float()
    numbers = torch.stack([answer.uniforms[place] for answer, place in zip(answers, positions, strict=True)])
    sizes = window_sizes(log_probs.shape[1])
    tokens = DrawnTokens([0] * len(answers), [0.0] * len(answers), [0] * len(answers))
    waiting = list(range(len(answers)))
    for level in range(len(sizes) + 1):
        tried = [i for i in waiting if min(answers[i].level, len(sizes)) <= level]
        if not tried:
            continue
        some, where = [answers[i] for i in tried], [rows[i] for i in tried]
        if level < len(sizes):
            drawn = _draw_from_windows(log_probs, where, some, numbers[tried], sizes[level])
        else:
            drawn = _draw_from_all(log_probs, where, some, numbers[tried])
        done = [place for place in range(len(tried)) if place not in drawn.left]
        for place in done:
            i = tried[place]
            for values, some_values in zip(tokens, drawn.tokens, strict=True):
                values[i] = some_values[place]
            fits = level > 0 and SPARE * drawn.needed[place] <= sizes[level - 1]
            answers[i].level = level - 1 if fits else level
        _advance(some, [place for place in done if is_stateful(some[place].pipeline)], drawn.log_probs)
        waiting = sorted(set(waiting) - {tried[place] for place in done})
    return tokens


def _advance(answers: Sequence[Draws], stateful: list[int], log_probs: Callable[[list[int]], Tensor]) -> None:
    """Advance the states of some answers to the tokens that were drawn."""
    if stateful:
        chosen = [answers[place] for place in stateful]
        pipelines, states = [answer.pipeline for answer in chosen], [answer.state for answer in chosen]
        for answer, state in zip(chosen, next_states(pipelines, states, log_probs(stateful)), strict=True):
            answer.state = state


def _distinct(rows: Sequence[int]) -> tuple[list[int], Tensor]:
    """The rows that are drawn from, each once, and the place [A] of each answer's among them."""
    place = {row: number for number, row in enumerate(dict.fromkeys(rows))}
    return list(place), torch.tensor([place[row] for row in rows])


def _draw_from_windows(
    log_probs: Tensor, rows: Sequence[int], answers: Sequence[Draws], numbers: Tensor, size: int
) -> _Drawn:
    used, index = _distinct(rows)
    windows = Windows.of(log_probs, used, size)
    kept = apply_on_windows(
        windows, index, [answer.pipeline for answer in answers], [answer.state for answer in answers]
    )
    outside = numbers.new_zeros(len(numbers))
    for group, rest in kept.rests:
        outside[group] = rest.drawing_masses(kept.t[group].amax(-1))
    places = draw(kept.t, numbers, outside)
    left = {*kept.unsure, *(places == size).nonzero().flatten().tolist()}
    places = places.clamp(max=size - 1)[:, None]

    def of(stateful: list[int]) -> Tensor:
        t = kept.t[stateful]
        largest = t.amax(-1, keepdim=True)
        # As many as there are tokens: the sum of float32 numbers depends on it.
        weights = t.new_zeros(len(stateful), log_probs.shape[1])
        weights[:, :size] = torch.exp(t - largest)
        inside = weights.sum(-1, keepdim=True)
        others = torch.log1p(outside[stateful, None] / inside).to(t)
        return (t.gather(1, places[stateful]) - (largest + inside.log()) - others).squeeze(1)

    # Where tokens are left outside of the window, so may the drawn one be the last that is needed.
    last = torch.where(kept.t > -torch.inf, torch.arange(size, device=kept.t.device), 0).amax(-1)
    needed = torch.where(outside > 0, places.squeeze(1), last) + 1
    token_ids = windows.token_ids[index].gather(1, places).squeeze(1)
    values = windows.t[index].gather(1, places).squeeze(1)
    tokens = DrawnTokens(token_ids.tolist(), values.tolist(), places.squeeze(1).tolist())
    return _Drawn(tokens, needed.tolist(), left, of)


def _draw_from_all(log_probs: Tensor, rows: Sequence[int], answers: Sequence[Draws], numbers: Tensor) -> _Drawn:
    used, index = _distinct(rows)
    in_order = index.tolist() == list(range(len(used)))
    numbers, index = numbers.to(log_probs.device), index.to(log_probs.device)
    t, order = sort_logits(log_probs if used == list(range(len(log_probs))) else log_probs[used])
    t = t if in_order else t[index]
    pipelines = [answer.pipeline for answer in answers]
    changed = apply_on_support(t, None, pipelines, [answer.state for answer in answers])
    places = draw(changed.t, numbers)[:, None]

    def of(stateful: list[int]) -> Tensor:
        return changed.rows(stateful).log_probs.gather(1, places[stateful]).squeeze(1)

    last = torch.where(changed.n > 0, torch.arange(t.shape[1], device=t.device), 0).amax(-1) + 1
    # Learned samplers need all tokens.
    needed = [
        t.shape[1] if has_learned_step(pipeline) else count
        for pipeline, count in zip(pipelines, last.tolist(), strict=True)
    ]
    token_ids, values = (of_token.gather(1, places).squeeze(1) for of_token in (order[index], t))
    tokens = DrawnTokens(token_ids.tolist(), values.tolist(), places.squeeze(1).tolist())
    return _Drawn(tokens, needed, set(), of)
