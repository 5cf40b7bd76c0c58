"""Requests for engines behind servers, and what their answers must share with those in process."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adaptive_samplers.config.model.sources import BaseModelSettings
from adaptive_samplers.config.typed import typed_section
from adaptive_samplers.engines import Completion, Engine, Request
from adaptive_samplers.engines.drawing import Draws, draw_tokens
from adaptive_samplers.heuristics import apply_on_support, configured_pipeline, sort_logits
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.randomness import sample_seed
from adaptive_samplers.samplers import build_sampler
from support import REPOSITORY

ON_CPU = typed_section({"dtype": "float32", "device": "cpu", "trust_remote_code": False}, BaseModelSettings)
CHAINS = [
    [{"temperature": 0.7}],
    [{"temperature": 1.0}],
    [{"top_k": 10}],
    [{"temperature": 0.7}, {"top_p": 0.9}],
    [{"min_p": 0.1}],
    [{"typical": 0.9}],
    [{"eta": 0.01}],
    [{"epsilon": 0.01}],
    [{"mirostat": {"tau": 3.0, "eta": 0.5}}],
]


def questions(count: int) -> list[str]:
    """Prompts of the demo, of all kinds."""
    lines = (REPOSITORY / "resources" / "prompts.jsonl").read_text().splitlines()
    return [json.loads(line)["prompt"] for line in lines[:: len(lines) // count][:count]]


def make_requests(
    tokenizer: ChatTokenizer, chains: list, prompts: int, seeds=(0,), max_new_tokens=8, stop=()
) -> list[Request]:
    """A request for every prompt, chain and seed."""
    return [
        Request(
            prompt_token_ids=tuple(tokenizer.encode_chat([{"role": "user", "content": question}])),
            pipeline=configured_pipeline(chain),
            sample_seed=sample_seed(7, question, seed),
            max_new_tokens=max_new_tokens,
            stop=stop,
        )
        for question in questions(prompts)
        for chain in chains
        for seed in seeds
    ]


def parity_requests(tokenizer: ChatTokenizer, folder: Path) -> list[Request]:
    """506 requests that engines must answer alike: nine heuristics, mirostat and a network, some with stop strings."""
    sampler = folder / "SamplingNetwork" / "a0_b1_c0_top2"
    build_sampler("SamplingNetwork", {}, seed=3).save_pretrained(sampler)
    chains = [*CHAINS, [{"top_n_sigma": 1.0}], [{"learned": str(sampler)}]]
    asked = make_requests(tokenizer, chains, prompts=23, seeds=(0, 1))
    return [replace(one, stop=(".", " the")) if i % 4 == 0 else one for i, one in enumerate(asked)]


def answers(engine: Engine, asked: Sequence[Request]) -> list[Completion]:
    """The completions of all requests, in their order."""
    found = sorted(engine.generate(asked), key=lambda completion: completion.index)
    assert [completion.index for completion in found] == list(range(len(asked)))
    return found


def distance_to_boundary(model: LanguageModel, request: Request, ours: list[int], theirs: list[int]) -> float:
    """How far the uniform number at the first difference is from a boundary of the token drawn in process."""
    place = next(i for i, pair in enumerate(zip([*ours, -1], [*theirs, -1], strict=False)) if pair[0] != pair[1])
    draws = Draws.start(request.pipeline, request.sample_seed, request.max_new_tokens)
    (_, logits), *_ = model.answer_logits([(request.prompt_token_ids, ours[:place])], 1)
    log_probs = logits.log_softmax(-1)
    for earlier in range(place):
        draw_tokens(log_probs[earlier : earlier + 1], [0], [draws], [earlier])
    t, _ = sort_logits(log_probs[place : place + 1])
    left = apply_on_support(t, None, [request.pipeline], [draws.state]).t[0].double().softmax(-1)
    return float((left.cumsum(0) - draws.uniforms[place]).abs().min())


def assert_same_answers(
    model: LanguageModel,
    asked: Sequence[Request],
    in_process: Sequence[Completion],
    served: Sequence[Completion],
    tolerance: float,
) -> None:
    """Nearly all answers are the same, with log-probabilities up to `tolerance`; the others were close decisions."""
    differing = []
    for request, ours, theirs in zip(asked, in_process, served, strict=True):
        assert theirs.error is None and ours.error is None, (theirs.error, ours.error)
        if ours.token_ids != theirs.token_ids:
            differing.append(distance_to_boundary(model, request, ours.token_ids, theirs.token_ids))
            continue
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)
        assert theirs.token_logprobs == pytest.approx(ours.token_logprobs, abs=tolerance)
        assert theirs.end_logprobs == pytest.approx(ours.end_logprobs, abs=tolerance)
    print(f"{len(differing)} of {len(asked)} answers differ; distances to a boundary: {differing}")
    assert len(differing) <= 0.01 * len(asked)
    assert all(distance < 1e-3 for distance in differing)
