"""Generation on the embedded model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from adaptive_samplers.config.model.heuristics import Heuristics
from cases import Case, Measured

if TYPE_CHECKING:
    from adaptive_samplers.models.language_model import LanguageModel


def cases() -> Iterator[Case]:
    """Generation on the embedded model against `generate`, called for each answer and for each heuristic."""

    from embedded_model import load_embedded_model
    from transformers import GenerationConfig

    from adaptive_samplers.engines import Request
    from adaptive_samplers.engines.transformers_engine import TransformersEngine
    from adaptive_samplers.heuristics import expand_heuristics, parse_processors
    from adaptive_samplers.randomness import sample_seed

    model = load_embedded_model()
    questions = ["What is the capital of France?", "Write a two-line poem about the sea.", "How do I sleep better?"]
    prompts = [model.encode_chat([{"role": "user", "content": question}]) for question in questions]
    rows = expand_heuristics(Heuristics(grid=[{"family": "top_p", "values": [0.8, 0.9], "temperatures": [0.7, 1.0]}]))
    settings = [{"top_p": p, "temperature": t} for p in (0.8, 0.9) for t in (0.7, 1.0)]
    tokens, seeds = 16, (0, 1)
    requests = [
        Request(tuple(prompt), parse_processors(row["processors"]), sample_seed(1, question, seed), tokens)
        for question, prompt in zip(questions, prompts, strict=True)
        for row in rows
        for seed in seeds
    ]
    engine = TransformersEngine(model, batch_size=64)
    # The same number of tokens for all: neither side may end early.
    model.end_token_set = set()
    yield from decoding_cases(model, questions, prompts)

    def options(setting: dict[str, float]) -> GenerationConfig:
        return GenerationConfig(
            do_sample=True,
            top_k=0,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            pad_token_id=2,
            eos_token_id=2,
            **setting,
        )

    def each_answer() -> None:
        for prompt in prompts:
            for setting in settings:
                for _ in seeds:
                    model.model.generate(torch.tensor([prompt]), generation_config=options(setting))

    model.tokenizer.padding_side = "left"
    padded = model.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")

    def each_heuristic() -> None:
        for setting in settings:
            for _ in seeds:
                model.model.generate(**padded, generation_config=options(setting))

    meta = {"batch": len(requests), "vocabulary": 49_152, "unit": "seconds for all answers"}
    name = "engine/mixed_batch_over_generate"
    yield (
        {"name": f"{name}_per_answer", "against": "generate, a call an answer", **meta},
        each_answer,
        lambda: list(engine.generate(requests)),
    )
    yield (
        {
            "name": f"{name}_per_heuristic",
            "against": "generate, a call a heuristic and seed over padded prompts",
            **meta,
        },
        each_heuristic,
        lambda: list(engine.generate(requests)),
    )


# Of every kind: without a cut, by rank, by mass, by a threshold, around the entropy.
DECODED = [
    [{"temperature": 0.7}],
    [{"temperature": 1.0}],
    [{"top_k": 50}, {"top_p": 0.95}, {"temperature": 0.8}],
    [{"temperature": 0.7}, {"top_p": 0.9}],
    [{"temperature": 1.2}, {"min_p": 0.1}],
    [{"temperature": 0.7}, {"typical": 0.9}],
    [{"eta": 0.01}],
    [{"mirostat": {"tau": 3, "eta": 0.1}}],
]


def decoding_cases(model: LanguageModel, questions: list[str], prompts: list[list[int]]) -> Iterator[Case]:
    """What decoding 96 answers at once takes besides the language model: a ratio of 0.9 means a tenth of the time.

    And what recording all their draws takes besides decoding.
    """
    from adaptive_samplers.engines import Request
    from adaptive_samplers.engines.base import Recording
    from adaptive_samplers.engines.transformers_engine import TransformersEngine
    from adaptive_samplers.heuristics import configured_pipeline
    from adaptive_samplers.randomness import sample_seed

    requests = [
        Request(tuple(prompt), configured_pipeline(steps), sample_seed(2, question, seed), 16)
        for question, prompt in zip(questions, prompts, strict=True)
        for steps in DECODED
        for seed in range(4)
    ]
    recorded = [replace(request, recording=Recording(top=96, tail=64, steps=None)) for request in requests]
    in_model: list[float] = []
    next_logits = model.next_logits

    def timed(*arguments: Any) -> torch.Tensor:
        start = time.perf_counter()
        logits = next_logits(*arguments)
        in_model.append(time.perf_counter() - start)
        return logits

    def decode(asked: Sequence[Request] = requests) -> float:
        """Seconds for all answers."""
        in_model.clear()
        engine = TransformersEngine(model, batch_size=len(asked))
        start = time.perf_counter()
        model.next_logits = timed
        try:
            list(engine.generate(asked))
        finally:
            del model.next_logits
        return time.perf_counter() - start

    def model_alone() -> Measured:
        decode()
        return Measured(sum(in_model))

    meta = {"batch": len(requests), "vocabulary": 49_152, "unit": "seconds for all answers"}
    yield (
        {"name": "engine/decoding_over_language_model", "against": "the language model's part of it", **meta},
        model_alone,
        lambda: Measured(decode()),
    )
    yield (
        {"name": "engine/recording", "against": "decoding the same answers without", **meta},
        lambda: Measured(decode()),
        lambda: Measured(decode(recorded)),
    )
