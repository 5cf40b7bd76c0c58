"""The transformers engine on the real language model."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.engines import Request
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.generation import GenerationSettings, generate, shard_of
from adaptive_samplers.heuristics import expand_heuristics, parse_processors
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.randomness import sample_seed, uniforms

pytestmark = pytest.mark.model

QUESTIONS = [
    "What is the capital of France?",
    "Write a two-line poem about the sea.",
    "Give me one tip for better sleep, in one sentence.",
    "Calculate 4 + 5.",
]
GRID = [
    {"family": "temperature", "temperatures": [0.5, 1.0]},
    {"family": "top_p", "values": [0.9], "temperatures": [0.8]},
    {"family": "min_p", "values": [0.1], "temperatures": [1.0]},
]
HEURISTICS = pd.DataFrame(expand_heuristics(Heuristics(grid=GRID, pipelines=[[{"mirostat": {"tau": 3, "eta": 0.5}}]])))


def make_requests(model: LanguageModel, max_new_tokens: int = 12, stop: tuple[str, ...] = ()) -> list[Request]:
    return [
        Request(
            prompt_token_ids=tuple(model.encode_chat([{"role": "user", "content": question}])),
            pipeline=parse_processors(processors),
            sample_seed=sample_seed(7, question, seed),
            max_new_tokens=max_new_tokens,
            stop=stop,
        )
        for question in QUESTIONS
        for processors in HEURISTICS["processors"]
        for seed in (0, 1)
    ]


def answers(engine: TransformersEngine, requests: list[Request]) -> list:
    return sorted(engine.generate(requests), key=lambda completion: completion.index)


def reference_answer(model: LanguageModel, request: Request, warpers: LogitsProcessorList) -> list[int]:
    """One answer by whole forward passes, Hugging Face's warpers and the inverse CDF along sorted raw logits."""
    tokens, numbers = list(request.prompt_token_ids), uniforms(request.sample_seed, request.max_new_tokens)
    for number in numbers:
        with torch.inference_mode():
            raw = model.model(torch.tensor([tokens])).logits[0, -1]
        order = torch.argsort(raw, descending=True, stable=True)
        p = torch.softmax(warpers(None, raw[None])[0].double(), -1)[order]
        token = int(order[np.searchsorted(p.cumsum(0).numpy(), number * float(p.sum()), side="right")])
        if token in model.end_token_set:
            break
        tokens.append(token)
    return tokens[len(request.prompt_token_ids) :]


def test_answers_equal_a_plain_loop_with_hugging_face_warpers(model):
    requests = make_requests(model)
    got = answers(TransformersEngine(model, batch_size=64), requests)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(0.8), TopPLogitsWarper(0.9)])
    checked = [
        i for i, request in enumerate(requests) if [s.name for s in request.pipeline] == ["temperature", "top_p"]
    ]
    assert len(checked) == 2 * len(QUESTIONS)
    for i in checked:
        assert got[i].token_ids == reference_answer(model, requests[i], warpers)


def test_answers_do_not_depend_on_the_batch(model):
    requests = make_requests(model)
    together = answers(TransformersEngine(model, batch_size=64), requests)
    for batch_size in (1, 5):
        apart = answers(TransformersEngine(model, batch_size), requests)
        assert [a.token_ids for a in apart] == [a.token_ids for a in together]
    reversed_order = answers(TransformersEngine(model, batch_size=7), requests[::-1])
    assert [a.token_ids for a in reversed_order[::-1]] == [a.token_ids for a in together]


def test_recorded_log_probabilities_are_those_of_reading_the_answer(model):
    requests = make_requests(model)
    got = answers(TransformersEngine(model, batch_size=64), requests)
    read = model.score_answers([(r.prompt_token_ids, a.token_ids) for r, a in zip(requests, got, strict=True)], 8)
    assert {a.finish_reason for a in got} == {"stop", "length"}
    for answer, (token_logprobs, end_logprobs) in zip(got, read, strict=True):
        assert len(answer.end_logprobs) == len(answer.token_ids) + 1
        np.testing.assert_allclose(answer.token_logprobs, token_logprobs, atol=2e-3)
        np.testing.assert_allclose(answer.end_logprobs, end_logprobs, atol=2e-3)


def test_stop_strings_cut_the_text_and_end_the_answer(model):
    free = answers(TransformersEngine(model, batch_size=64), make_requests(model, 24))
    stopped = answers(TransformersEngine(model, batch_size=64), make_requests(model, 24, stop=(" a",)))
    assert any(" a" in answer.text for answer in free)
    for before, after in zip(free, stopped, strict=True):
        assert " a" not in after.text
        if " a" in before.text:
            assert after.finish_reason == "stop"
            assert after.text == before.text[: before.text.index(" a")]
            assert before.token_ids[: len(after.token_ids)] == after.token_ids
        else:
            assert after.token_ids == before.token_ids


def test_heuristics_that_agree_share_the_models_work(model, monkeypatch):
    rows = 0
    forward = model.next_logits

    def counting(token_ids, mask, cache):
        nonlocal rows
        rows += len(token_ids)
        return forward(token_ids, mask, cache)

    monkeypatch.setattr(model, "next_logits", counting)
    got = answers(TransformersEngine(model, batch_size=64), make_requests(model))
    distinct = {(i // (2 * len(HEURISTICS)), *a.token_ids[:n]) for i, a in enumerate(got) for n in range(1, 13)}
    assert rows <= len(distinct) + len(QUESTIONS)
    assert rows < sum(len(a.token_ids) for a in got)


def test_a_prompt_beyond_the_context_is_a_row_with_its_error(model):
    requests = make_requests(model)[:1]
    long = Request((1,) * 9000, requests[0].pipeline, 1, 12)
    first, second = answers(TransformersEngine(model, batch_size=4), [long, *requests])
    assert first.finish_reason == "error"
    assert "9000 tokens" in first.error
    assert "8192" in first.error
    assert second.error is None


def test_candidates_do_not_depend_on_shards(model, tmp_path):
    prompts = pd.DataFrame(
        {
            "prompt_id": [f"{i:016x}" for i in range(len(QUESTIONS))],
            "messages": [f'[{{"role": "user", "content": "{question}"}}]' for question in QUESTIONS],
            "kind": "chat",
        }
    )
    settings = GenerationSettings(run_seed=3, max_new_tokens=8, stop=(), dtype="float32")
    tables = []
    for shards, batch_size in ((1, 64), (3, 5)):
        parts = []
        for shard in range(shards):
            path = tmp_path / f"{shards}_{shard}.parquet"
            engine = TransformersEngine(model, batch_size)
            generate(shard_of(prompts, shard, shards), HEURISTICS, [0], engine, "hash", settings, path)
            parts.append(pd.read_parquet(path))
        tables.append(pd.concat(parts, ignore_index=True))
    columns = ["prompt_id", "heuristic_id", "seed", "text", "finish_reason", "sample_seed"]
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])
    assert [list(ids) for ids in tables[0]["token_ids"]] == [list(ids) for ids in tables[1]["token_ids"]]
