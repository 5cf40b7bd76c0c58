"""The transformers engine with heuristics that remember: an answer's state is its own."""

from dataclasses import replace

import pytest
import torch

from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.engines import Request
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.heuristics import (
    apply_on_support,
    draw,
    expand_heuristics,
    initial_state,
    next_states,
    parse_processors,
    sort_logits,
)
from adaptive_samplers.randomness import sample_seed, uniforms

PIPELINES = [
    parse_processors(row["processors"])
    for row in expand_heuristics(
        Heuristics(
            grid=[{"family": "temperature", "temperatures": [0.7, 1.0]}],
            pipelines=[
                [{"mirostat": {"tau": 2, "eta": 0.5}}],
                [{"annealed_temperature": {"highest": 1.5, "lowest": 0.3, "decay": 4}}],
                [{"temperature": 1.3}, {"mirostat": {"tau": 1, "eta": 1}}],
            ],
        )
    )
]


@pytest.fixture(scope="module")
def requests(tiny_model) -> list[Request]:
    """Prompts, pipelines and seeds; pipelines with the same seed begin alike and share the model's work."""
    return [
        Request(
            tuple(tiny_model.encode_chat([{"role": "user", "content": text}])), pipeline, sample_seed(3, text, seed), 14
        )
        for text in ("The sea", "A lantern burned all night")
        for pipeline in PIPELINES
        for seed in (0, 1)
    ]


def answers(model, requests, batch_size) -> list[list[int]]:
    done = sorted(TransformersEngine(model, batch_size).generate(requests), key=lambda completion: completion.index)
    return [completion.token_ids for completion in done]


@torch.inference_mode()
def one_answer(model, request) -> list[int]:
    """The reference: whole forward passes, one answer at a time."""
    tokens, state = list(request.prompt_token_ids), initial_state(request.pipeline)
    for number in uniforms(request.sample_seed, request.max_new_tokens):
        t, order = sort_logits(model.model(torch.tensor([tokens])).logits[:, -1].float().log_softmax(-1))
        support = apply_on_support(t, None, [request.pipeline], [state])
        place = draw(support.t, torch.tensor([number]))
        (state,) = next_states([request.pipeline], [state], support.log_probs[:, place].flatten())
        token = int(order[0, place])
        if token in model.end_token_set:
            break
        tokens.append(token)
    return tokens[len(request.prompt_token_ids) :]


def test_answers_are_those_of_a_plain_loop(tiny_model, requests):
    got = answers(tiny_model, requests, batch_size=64)
    assert got == [one_answer(tiny_model, request) for request in requests]
    forgetful = [one_answer(tiny_model, replace(request, pipeline=PIPELINES[1])) for request in requests]
    assert got != forgetful


def test_states_do_not_depend_on_the_batch(tiny_model, requests):
    together = answers(tiny_model, requests, batch_size=64)
    assert answers(tiny_model, requests, batch_size=3) == together
    assert answers(tiny_model, requests[::-1], batch_size=7)[::-1] == together


def test_an_answer_that_may_get_too_long_leaves_others_to_its_prompt_alone(tiny_model, requests):
    long = replace(requests[0], max_new_tokens=100_000)
    done = TransformersEngine(tiny_model, 8).generate([requests[0], long, requests[1]])
    found = {completion.index: completion for completion in done}
    assert found[1].finish_reason == "error" and "128 tokens" in found[1].error
    assert [found[0].token_ids, found[2].token_ids] == answers(tiny_model, requests[:2], 8)
