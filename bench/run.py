"""Speed, as ratios: each row times a baseline and ours in turns, in the same process, and reports baseline / ours.

    python bench/run.py                 all rows; writes bench/results.json and prints a table
    python bench/run.py core labels     rows whose names start so

Absolute seconds depend on the machine; ratios much less. The medians of several turns are compared.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))

import torch  # noqa: E402 (after the library's place is known)

from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.provenance import versions  # noqa: E402

THREADS = 1
TURNS = 5
Work = Callable[[], Any]
Row = dict[str, Any]
Case = tuple[Row, Work, Work]


def realistic_logits(batch: int, vocabulary: int) -> torch.Tensor:
    """Logits shaped like a language model's: a few likely tokens over a wide bell of unlikely ones."""
    generator = torch.Generator().manual_seed(0)
    bell = torch.randn(batch, vocabulary, generator=generator) * 2.5
    peaks = torch.zeros(batch, vocabulary)
    peaks[:, :64] = torch.linspace(14, 4, 64)
    return bell + peaks


def core_cases() -> Iterator[Case]:
    """The learned sampler's sketch against the whole vocabulary; heuristics against Hugging Face's warpers."""
    from transformers import LogitsProcessorList, MinPLogitsWarper, TemperatureLogitsWarper, TopPLogitsWarper

    from adaptive_samplers.heuristics import apply_to_logits, parse_processors
    from adaptive_samplers.samplers import build_sampler

    sampler = build_sampler("SamplingNetwork", {}, seed=0).eval()
    for batch in (1, 16):
        logits = realistic_logits(batch, 128_256)
        meta = {"batch": batch, "vocabulary": 128_256, "unit": "seconds a decode step"}
        # One row at a time: at batch 16 the whole vocabulary takes tens of gigabytes at once.
        exact = torch.no_grad()(lambda logits=logits: [sampler.logits(row[None], exact=True) for row in logits])
        sketched = torch.no_grad()(lambda logits=logits: sampler.logits(logits))
        name = "core/sampling_network_sketch_over_full_vocabulary"
        yield {"name": name, "against": "the network on every token", **meta}, exact, sketched

    chains = [
        [{"name": "temperature", "params": {"temperature": 0.7}}, {"name": "top_p", "params": {"p": 0.9}}],
        [{"name": "temperature", "params": {"temperature": 1.2}}, {"name": "min_p", "params": {"p": 0.1}}],
    ]
    warpers = [
        LogitsProcessorList([TemperatureLogitsWarper(0.7), TopPLogitsWarper(0.9)]),
        LogitsProcessorList([TemperatureLogitsWarper(1.2), MinPLogitsWarper(0.1)]),
    ]
    logits = realistic_logits(32, 49_152)
    pipelines = [parse_processors(chains[row % 2]) for row in range(32)]
    yield (
        {
            "name": "core/mixed_heuristics_over_hugging_face_warpers",
            "against": "Hugging Face's warpers, a call a row",
            "batch": 32,
            "vocabulary": 49_152,
            "unit": "seconds a decode step",
        },
        lambda: [warpers[row % 2](None, logits[row : row + 1]) for row in range(32)],
        lambda: apply_to_logits(logits, pipelines),
    )


def label_cases() -> Iterator[Case]:
    """Labellers against the libraries that define them."""
    import random

    from sacrebleu.metrics import BLEU

    from adaptive_samplers.labels.diversity import self_bleu

    words = [
        "the",
        "a",
        "cat",
        "dog",
        "sat",
        "on",
        "ran",
        "to",
        "mat",
        "house",
        "river",
        "quickly",
        "slowly",
        "and",
        "but",
        "with",
        "under",
        "over",
        "blue",
        "red",
    ]
    draw = random.Random(0)
    texts = [" ".join(draw.choices(words, k=150)) for _ in range(8)]
    bleu = BLEU(effective_order=True)
    yield (
        {
            "name": "labels/self_bleu_over_sacrebleu",
            "against": "sacrebleu per answer",
            "batch": 8,
            "unit": "seconds a group",
        },
        lambda: [bleu.sentence_score(t, texts[:i] + texts[i + 1 :]).score for i, t in enumerate(texts)],
        lambda: self_bleu(texts),
    )


def engine_cases() -> Iterator[Case]:
    """Generation on the embedded model against `generate`, called for each answer and for each heuristic."""
    import tempfile

    import yaml
    from transformers import GenerationConfig

    from adaptive_samplers.engines import Request
    from adaptive_samplers.engines.transformers_engine import TransformersEngine
    from adaptive_samplers.heuristics import expand_heuristics, parse_processors
    from adaptive_samplers.models.fetch import fetch_model
    from adaptive_samplers.models.language_model import LanguageModel
    from adaptive_samplers.randomness import sample_seed

    config = yaml.safe_load((FOLDER.parent / "config" / "config.yaml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model"
        fetch_model(config["model"]["name"], config["model"]["source"], config["model"]["license"], place)
        model = LanguageModel(place, device="cpu")
    questions = ["What is the capital of France?", "Write a two-line poem about the sea.", "How do I sleep better?"]
    prompts = [model.encode_chat([{"role": "user", "content": question}]) for question in questions]
    rows = expand_heuristics([{"family": "top_p", "values": [0.8, 0.9], "temperatures": [0.7, 1.0]}], [])
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


CASES = {"core": core_cases, "labels": label_cases, "engine": engine_cases}


def measure(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(row: Row, baseline: Work, ours: Work) -> Row:
    """Time both in turns, after a warm-up."""
    ours()
    times = [(measure(baseline), measure(ours)) for _ in range(TURNS)]
    slow, quick = (statistics.median(side) for side in zip(*times, strict=True))
    return {
        **{"batch": None, "vocabulary": None},
        **row,
        "baseline": slow,
        "ours": quick,
        "ratio": slow / quick,
        "threads": THREADS,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": versions("torch", "transformers", "numpy", "sacrebleu"),
    }


def main(areas: list[str]) -> None:
    torch.set_num_threads(THREADS)
    results = []
    print(f"{'name':<52} {'batch':>5} {'vocabulary':>10} {'ratio':>8}  against")
    for area, cases in CASES.items():
        if areas and area not in areas:
            continue
        for row, baseline, ours in cases():
            result = compare(row, baseline, ours)
            results.append(result)
            shown = [str(result[key] or "") for key in ("batch", "vocabulary")]
            print(
                f"{result['name']:<52} {shown[0]:>5} {shown[1]:>10} {result['ratio']:>7.1f}x  {row['against']}",
                flush=True,
            )
    write_json(results, FOLDER / "results.json")
    print(f"written to {FOLDER / 'results.json'}")


if __name__ == "__main__":
    main(sys.argv[1:])
