"""One token for every answer: every engine applies pipelines, states and random numbers in the same way."""

from collections.abc import Sequence
from dataclasses import dataclass

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
from adaptive_samplers.randomness import uniforms


@dataclass
class Draws:
    """What the draws of one answer depend on: its pipeline, the pipeline's state, and its uniform numbers."""

    pipeline: Pipeline
    state: State
    uniforms: Tensor

    @classmethod
    def start(cls, pipeline: Pipeline, sample_seed: int, max_new_tokens: int) -> "Draws":
        """Before the first token."""
        return cls(pipeline, initial_state(pipeline), torch.from_numpy(uniforms(sample_seed, max_new_tokens)))


def draw_tokens(
    log_probs: Tensor, rows: Sequence[int], answers: Sequence[Draws], positions: Sequence[int]
) -> tuple[list[int], list[float]]:
    """Draw the next token of every answer, and advance the states of stateful pipelines to it.

    Parameters
    ----------
    log_probs : Tensor [R, V]
        The language model's log-probabilities, nats.
    rows : sequence of A
        The row that each answer draws from; answers may share one.
    answers : sequence of A
    positions : sequence of A
        How many tokens each answer has.

    Returns
    -------
    token ids [A], and their log-probabilities under the language model [A], nats.
    """
    t, order = sort_logits(log_probs)
    index = torch.tensor(rows, device=t.device)
    numbers = torch.stack([answer.uniforms[place] for answer, place in zip(answers, positions, strict=True)])
    support = t if list(rows) == list(range(len(t))) else t[index]
    pipelines = [answer.pipeline for answer in answers]
    changed = apply_on_support(support, None, pipelines, [answer.state for answer in answers])
    places = draw(changed.t, numbers.to(t.device))
    stateful = [place for place, answer in enumerate(answers) if is_stateful(answer.pipeline)]
    if stateful:
        chosen = [answers[place] for place in stateful]
        drawn = changed.rows(stateful).log_probs.gather(1, places[stateful, None]).squeeze(1)
        states = next_states([answer.pipeline for answer in chosen], [answer.state for answer in chosen], drawn)
        for answer, state in zip(chosen, states, strict=True):
            answer.state = state
    values = support.gather(1, places[:, None]).squeeze(1)
    return order[index, places].tolist(), values.tolist()
