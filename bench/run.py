"""Speed, as ratios: each row times a baseline and ours in turns, in the same process, and reports baseline / ours.

    python bench/run.py                 all rows; writes bench/results.json and prints a table
    python bench/run.py core labels     rows whose names start so

Absolute seconds depend on the machine; ratios much less. The medians of several turns are compared.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
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


VOCABULARY = 128_256


def core_cases() -> Iterator[Case]:
    """Sketches, heuristics, samplers and training against the same on the whole vocabulary."""
    yield from decoding_cases()
    yield from drawing_cases()
    yield from training_cases()
    yield from sketch_cases()
    yield from heuristic_cases()


def decoding_cases() -> Iterator[Case]:
    """The output logits of one decode step, by knots and by every token."""
    from adaptive_samplers.samplers import ARCHITECTURES, build_sampler

    for architecture in sorted(ARCHITECTURES):
        sampler = build_sampler(architecture, {}, seed=0).eval()
        for batch in (1, 16):
            logits = realistic_logits(batch, VOCABULARY)
            # One row at a time: at batch 16 the whole vocabulary takes tens of gigabytes at once.
            exact = torch.no_grad()(lambda of=sampler, x=logits: [of.logits(row[None], exact=True) for row in x])
            yield (
                {
                    "name": f"core/forward_{architecture}",
                    "against": "the same network on every token, float32",
                    "batch": batch,
                    "vocabulary": VOCABULARY,
                    "unit": "seconds a decode step",
                },
                exact,
                lambda of=sampler, x=logits: of.logits(x),
            )


def drawing_cases() -> Iterator[Case]:
    """A token drawn through the sampling network, and all its output logits, against plain draws."""
    from adaptive_samplers.samplers import build_sampler

    sampler = build_sampler("SamplingNetwork", {}, seed=0).eval()

    def multinomial(logits: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(torch.softmax(logits, -1), 1)

    def inverse_cdf(logits: torch.Tensor) -> torch.Tensor:
        cumulative = torch.exp(logits - logits.amax(-1, keepdim=True)).cumsum(-1)
        return torch.searchsorted(cumulative, torch.rand(len(logits), 1) * cumulative[:, -1:])

    for batch in (1, 16):
        logits = realistic_logits(batch, VOCABULARY)
        meta = {"batch": batch, "vocabulary": VOCABULARY, "unit": "seconds a decode step"}
        for ours, work in (("sample", sampler.sample), ("logits", sampler.logits)):
            for against, baseline in (("softmax and multinomial", multinomial), ("inverse CDF", inverse_cdf)):
                yield (
                    {"name": f"core/{ours}_over_{against.replace(' ', '_').lower()}", "against": against, **meta},
                    lambda baseline=baseline, x=logits: baseline(x),
                    lambda work=work, x=logits: work(x),
                )


def training_cases() -> Iterator[Case]:
    """A token-step of training: target, forward, loss, backward."""
    from adaptive_samplers.heuristics import apply_on_support, parse_processors
    from adaptive_samplers.samplers import build_sampler
    from adaptive_samplers.sketch import DistributionSketch, sorted_log_probs
    from adaptive_samplers.training.loss import truncated_logits_loss

    pipeline = parse_processors([{"name": "top_p", "params": {"p": 0.9}}])
    sampler = build_sampler("SamplingNetwork", {}, seed=0)
    batch = 32
    logits = realistic_logits(batch, VOCABULARY)
    sketch = DistributionSketch.from_logits(logits, 128, 128)

    def step(t: torch.Tensor, n: torch.Tensor | None) -> float:
        target = apply_on_support(t, n, [pipeline] * len(t))
        counts = torch.ones_like(t) if n is None else n
        terms = truncated_logits_loss(sampler(t, counts), target.t, counts, target.n, gamma=1.0)
        sampler.zero_grad()
        terms.loss.backward()
        return float(terms.loss.detach())

    one = sorted_log_probs(logits[:1])
    exact, sketched = step(one, None), step(sketch.t[:1], sketch.n[:1])
    yield (
        {
            "name": "core/training_token_step",
            "against": f"the same on every token (the loss differs by {abs(sketched / exact - 1):.1e} of it)",
            "batch": batch,
            "vocabulary": VOCABULARY,
            "unit": "seconds a token-step",
            "divide": (1, batch),
        },
        lambda: step(one, None),
        lambda: step(sketch.t, sketch.n),
    )


def sketch_cases() -> Iterator[Case]:
    """What is stored of a token-step, and statistics read from it."""
    from adaptive_samplers.sketch import DistributionSketch

    batch = 16
    logits = realistic_logits(batch, VOCABULARY)
    sketch = DistributionSketch.from_logits(logits, 256, 256)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in sketch.to_tensors().values()) / batch
    meta = {"batch": batch, "vocabulary": VOCABULARY}
    yield (
        {"name": "core/stored_bytes", "against": "float32 logits", "unit": "bytes a token-step", **meta},
        lambda: Measured(VOCABULARY * 4),
        lambda: Measured(stored),
    )

    def statistics_of_logits() -> None:
        log_probs = logits.log_softmax(-1)
        -(log_probs.exp() * log_probs).sum(-1)
        ordered = log_probs.sort(-1, descending=True).values
        ordered.gather(-1, (ordered.exp().cumsum(-1) < 0.9).sum(-1, keepdim=True))

    yield (
        {"name": "core/entropy_and_quantile", "against": "the same of all logits", "unit": "seconds", **meta},
        statistics_of_logits,
        lambda: (sketch.entropy(), sketch.quantile(0.9)),
    )


def heuristic_cases() -> Iterator[Case]:
    """Heuristics, each row its own, on logits and on sketches, against Hugging Face's warpers."""
    from transformers import LogitsProcessorList, MinPLogitsWarper, TemperatureLogitsWarper, TopPLogitsWarper

    from adaptive_samplers.heuristics import apply_on_support, apply_to_logits, parse_processors
    from adaptive_samplers.sketch import DistributionSketch

    chains = [
        [{"name": "temperature", "params": {"temperature": 0.7}}, {"name": "top_p", "params": {"p": 0.9}}],
        [{"name": "temperature", "params": {"temperature": 1.2}}, {"name": "min_p", "params": {"p": 0.1}}],
    ]
    warpers = [
        LogitsProcessorList([TemperatureLogitsWarper(0.7), TopPLogitsWarper(0.9)]),
        LogitsProcessorList([TemperatureLogitsWarper(1.2), MinPLogitsWarper(0.1)]),
    ]
    logits = realistic_logits(32, 49_152)
    sketch = DistributionSketch.from_logits(logits, 256, 256)
    pipelines = [parse_processors(chains[row % 2]) for row in range(32)]

    def warp() -> list[torch.Tensor]:
        return [warpers[row % 2](None, logits[row : row + 1]) for row in range(32)]

    meta = {
        "against": "Hugging Face's warpers, a call a row",
        "batch": 32,
        "vocabulary": 49_152,
        "unit": "seconds a decode step",
    }
    yield {"name": "core/mixed_heuristics_on_logits", **meta}, warp, lambda: apply_to_logits(logits, pipelines)
    yield (
        {"name": "core/mixed_heuristics_on_sketches", **meta},
        warp,
        lambda: apply_on_support(sketch.t, sketch.n, pipelines),
    )


def label_cases() -> Iterator[Case]:
    """Labellers against the libraries that define them, or the plain way."""
    yield from diversity_cases()
    yield from overlap_cases()
    yield from rating_cases()


def diversity_cases() -> Iterator[Case]:
    """Self-BLEU of a group of answers of 150 words."""
    import random

    from sacrebleu.metrics import BLEU

    from adaptive_samplers.labels.diversity import self_bleu

    words = [f"word{number}" for number in range(20)]
    bleu = BLEU(effective_order=True)

    def each_answer(texts: list[str]) -> list[float]:
        return [bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]

    for answers in (8, 64):
        draw = random.Random(0)
        texts = [" ".join(draw.choices(words, k=150)) for _ in range(answers)]
        yield (
            {
                "name": "labels/self_bleu_over_sacrebleu",
                "against": "sacrebleu per answer",
                "batch": answers,
                "unit": "seconds a group",
            },
            lambda texts=texts: each_answer(texts),
            lambda texts=texts: self_bleu(texts),
        )


def rating_cases() -> Iterator[Case]:
    """Bradley-Terry ratings, with their errors, of 143 players after nine Swiss rounds."""
    import math

    import numpy as np

    from adaptive_samplers.labels.tournament import bradley_terry
    from adaptive_samplers.labels.tournament.group import sum_wins

    count, alpha, rate, groups = 143, 0.001, 0.02, 50
    random = np.random.default_rng(0)
    strengths = random.normal(0, 2, count)
    first, second = np.concatenate([random.permutation(count)[:142].reshape(71, 2) for _ in range(9)]).T
    outcomes = 1 / (1 + np.exp(strengths[second] - strengths[first] + random.normal(0, 1, len(first))))
    comparisons = list(zip(first, second, outcomes, strict=True))

    def gradient_ascent() -> np.ndarray:
        ratings = np.zeros(count)
        for _ in range(1000):
            gradient = np.zeros(count)
            for one, other, won in comparisons:
                surplus = won - 1 / (1 + math.exp(ratings[other] - ratings[one]))
                gradient[one] += surplus
                gradient[other] -= surplus
            share = np.exp(ratings) / np.exp(ratings).sum()
            ratings += rate * (gradient + alpha * count * (1 - count * share))
        return ratings

    wins = sum_wins(first, second, outcomes, count)
    yield (
        {
            "name": "labels/ratings_over_gradient_ascent",
            "against": "1,000 iterations in Python",
            "batch": count,
            "unit": "seconds a group",
            "divide": (1, groups),
        },
        gradient_ascent,
        lambda: [bradley_terry(wins, alpha) for _ in range(groups)],
    )


def overlap_cases() -> Iterator[Case]:
    """Answers traced to a corpus of ten million tokens, half of them put together from copied spans."""
    import numpy as np

    from adaptive_samplers.labels.overlap import build_index, match_lengths, open_index

    generator = np.random.default_rng(0)
    vocabulary, corpus_tokens, answer_tokens, few = 49_152, 10_000_000, 300, 10

    def draw(count: int) -> np.ndarray:
        # Frequencies as in text: the k-th most frequent token comes up about 1 / k times as often as the first.
        return np.minimum(vocabulary ** generator.random(count), vocabulary - 1).astype(np.int64)

    corpus = draw(corpus_tokens)

    def answer() -> list[int]:
        pieces: list[np.ndarray] = []
        while sum(map(len, pieces)) < answer_tokens:
            start, length = generator.integers(0, corpus_tokens - 500), generator.geometric(1 / 15)
            pieces += [corpus[start : start + length], draw(length)]
        return np.concatenate(pieces)[:answer_tokens].tolist()

    answers = [answer() for _ in range(300)]
    with tempfile.TemporaryDirectory() as place:
        build_index(np.split(corpus, 1000), Path(place) / "index", vocabulary)
        contains = open_index(Path(place) / "index")

        def search_each_position(answer: list[int]) -> list[int]:
            lengths = []
            for start in range(len(answer)):
                end = start
                while end < len(answer) and contains(answer[start : end + 1]):
                    end += 1
                lengths.append(end - start)
            return lengths

        yield (
            {
                "name": "labels/overlap",
                "against": "a search from each position; a corpus of 10 million tokens",
                "batch": len(answers),
                "vocabulary": vocabulary,
                "unit": "seconds a token",
                "divide": (few * answer_tokens, len(answers) * answer_tokens),
            },
            lambda: [search_each_position(answer) for answer in answers[:few]],
            lambda: [match_lengths(answer, contains) for answer in answers],
        )


def engine_cases() -> Iterator[Case]:
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


def serving_cases() -> Iterator[Case]:
    """What our processor adds to a real SGLang server on this machine, against one that returns its input."""
    import json
    import pickle

    from embedded_model import default_config, fetch_embedded_model
    from identity_processor import IdentityProcessor

    from adaptive_samplers.engines import Request
    from adaptive_samplers.engines.sglang_engine import Payloads
    from adaptive_samplers.heuristics import configured_pipeline
    from adaptive_samplers.randomness import sample_seed
    from adaptive_samplers.samplers import build_sampler
    from adaptive_samplers.serving.service import serve

    repository = FOLDER.parent
    install = subprocess.run([repository / "tests/sglang_cpu/install.sh"], capture_output=True, text=True, check=True)
    config = default_config()
    model, tokens, end = config["model"], 16, 1  # a token that this model never draws, so that all answers are as long
    shims = [str(FOLDER), str(repository / "tests" / "sglang_cpu" / "shims")]
    os.environ["PYTHONPATH"] = os.pathsep.join(shims)
    settings = {**config["generation"]["sglang"], "python": install.stdout.strip(), "concurrency": 32}
    with tempfile.TemporaryDirectory() as folder:
        place, saved = fetch_embedded_model(Path(folder)), Path(folder) / "SamplingNetwork" / "a0_b1_c0_top2"
        build_sampler("SamplingNetwork", {}, seed=0).save_pretrained(saved)
        with serve(settings, {**model, "device": "cpu"}, place, Path(folder) / "server.log") as pool:

            def bodies(setting: dict) -> list[dict]:
                pipeline = configured_pipeline([setting])
                # Some prompt; what it says does not matter.
                asked = [Request(tuple(range(20, 60)), pipeline, sample_seed(1, str(i), 0), tokens) for i in range(32)]
                return list(Payloads(asked, [end]))

            identity = json.dumps({"callable": pickle.dumps(IdentityProcessor).hex()})
            plain = {"max_new_tokens": tokens + 1, "temperature": 1.0, "ignore_eos": True, "custom_params": {}}
            baseline = [
                {**body, "sampling_params": plain, "custom_logit_processor": identity}
                for body in bodies({"top_p": 0.9})
            ]

            def send(payloads: list[dict]) -> None:
                for _, reply in pool.run("/generate", payloads):
                    assert reply.error is None, reply.error

            for name, setting in {"top_p": {"top_p": 0.9}, "learned_network": {"learned": str(saved)}}.items():
                ours = bodies(setting)
                yield (
                    {
                        "name": f"engine/sglang_processor_{name}",
                        "against": "the same requests with a processor that returns its input",
                        "batch": 32,
                        "vocabulary": 49_152,
                        "unit": "seconds for all answers",
                    },
                    lambda: send(baseline),
                    lambda of=ours: send(of),
                )


def table_cases() -> Iterator[Case]:
    """Verify, score and select in parts against plain pandas with all answers in memory; each step is a process."""
    import tables

    prompts = 60
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tables.make_data(folder, prompts)

        def run(form: str) -> list[int]:
            return [tables.measure(step, form, folder)[1] for step in tables.STEPS]

        meta = {"against": "plain pandas", "batch": prompts * tables.HEURISTICS * tables.SEEDS}
        name = "tables/verify_score_select"
        yield {"name": f"{name}_seconds", "unit": "seconds", **meta}, lambda: run("plain"), lambda: run("ours")
        peaks = {form: max(run(form)) for form in ("plain", "ours")}
        yield (
            {"name": f"{name}_memory", "unit": "bytes, the largest of the steps", **meta},
            lambda: Measured(peaks["plain"]),
            lambda: Measured(peaks["ours"]),
        )


CASES = {
    "core": core_cases,
    "labels": label_cases,
    "engine": engine_cases,
    "serving": serving_cases,
    "tables": table_cases,
}


class Measured(float):
    """What a case measures itself, where it is not time."""


def measure(work: Work) -> float:
    start = time.perf_counter()
    result = work()
    return result if isinstance(result, Measured) else time.perf_counter() - start


def compare(row: Row, baseline: Work, ours: Work) -> Row:
    """Time both in turns, after a warm-up."""
    ours()
    times = [(measure(baseline), measure(ours)) for _ in range(TURNS)]
    shares = row.pop("divide", (1, 1))
    sides = zip(*times, strict=True)
    slow, quick = (statistics.median(side) / share for side, share in zip(sides, shares, strict=True))
    return {
        **{"batch": None, "vocabulary": None},
        **row,
        "baseline": slow,
        "ours": quick,
        "ratio": slow / quick,
        "threads": THREADS,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": versions("torch", "transformers", "numpy", "numba", "sacrebleu"),
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
                f"{result['name']:<52} {shown[0]:>5} {shown[1]:>10} {result['ratio']:>7.2f}x  {row['against']}",
                flush=True,
            )
    write_json(results, FOLDER / "results.json")
    print(f"written to {FOLDER / 'results.json'}")


if __name__ == "__main__":
    main(sys.argv[1:])
