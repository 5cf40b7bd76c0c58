"""Time and memory of stages that read all answers, on synthetic answers, as many as a real grid has.

    python bench/tables.py                  2,000 prompts x 143 heuristics x 8 seeds; writes bench/tables.json
    python bench/tables.py --labels         the five labelling stages instead; writes bench/labels.json
    python bench/tables.py --prompts 100    fewer prompts
    python bench/tables.py --plain          verify, score and select in plain pandas too (see bench/plain_tables.py)
    python bench/tables.py --folder FOLDER  where the data goes meanwhile: about 10 GB, with --labels 20
    python bench/tables.py --steps STEP ... these only; what they read must be in the FOLDER, which --keep leaves there

Each step is its rule's own script, in a process of its own. The time is that of the process, its start and its imports
included, by the clock and of all cores together; the memory is its largest resident set (VmHWM), so it needs Linux.

Every answer has a text of its own. The labelling stages do all that they do in a run with the default settings, except
that the embedder is a table of one random vector per word (384 numbers, as the default embedder has) in place of a
network, and that the weights of the embedded judge are made up: neither changes what is read, kept or written. The
answers to every other prompt are verified, by `numeric`; the corpus has ten million tokens.
"""

import argparse
import json
import os
import platform
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
SCRIPTS = FOLDER.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import numpy as np  # noqa: E402 (after the library's place is known)
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from adaptive_samplers.config.schema import complete, config_schema  # noqa: E402
from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.generation import ROWS_PER_WRITE  # noqa: E402
from adaptive_samplers.hashing import content_id  # noqa: E402
from adaptive_samplers.measures import DIVERSITY_MEASURES, LABELS  # noqa: E402
from adaptive_samplers.provenance import versions  # noqa: E402
from adaptive_samplers.tables import KEY, SCHEMAS, read_table, write_table  # noqa: E402

STEPS = ("verify_candidates", "score_candidates", "select_training_set", "summarize_selection", "summarize_labels")
PLAIN_STEPS = STEPS[:3]
LABELLING_STEPS = ("label_correctness", "embed_candidates", "label_diversity", "label_quality", "label_overlap")
PROMPTS, HEURISTICS, SEEDS, SHARDS = 2_000, 143, 8, 8
VOCABULARY = 49_152
SHORTEST, LONGEST = 100, 200  # tokens of an answer
DISTINCT_PARTS = 4  # parts of ROWS_PER_WRITE answers that are drawn; then they come again, under other keys
WEIGHTS, TOP_K, MEASURE, TOLERANCE = "a0.7_b0.3_c0.1", 2, "embedding_entropy", 0.5
DIMENSIONS, CORPUS_TOKENS = 384, 10_000_000

Row = dict[str, Any]


def make_words() -> list[str]:
    """A word for each token, all different, about as long as in English; one of 16 ends a sentence."""
    generator, letters, words = np.random.default_rng(2), "abcdefghijklmnopqrstuvwxyz", {}
    while len(words) < VOCABULARY:
        size = int(generator.integers(1, 6))
        word = " " + "".join(letters[place] for place in generator.integers(0, len(letters), size))
        words.setdefault(word, f"{word}." if len(words) % 16 == 8 else word)
    return list(words.values())


def draw_tokens(generator: np.random.Generator, count: int) -> np.ndarray:
    """Tokens of a Zipf-like distribution, int32."""
    return (VOCABULARY ** generator.random(count)).astype(np.int32) - 1


class Answers:
    """Answers drawn once: tokens of a Zipf-like distribution, as many characters a token as English has."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.words = pa.array(make_words())
        self.parts = [self._part(generator) for _ in range(DISTINCT_PARTS)]

    def _part(self, generator: np.random.Generator) -> dict[str, pa.Array]:
        lengths = generator.integers(SHORTEST, LONGEST + 1, ROWS_PER_WRITE)
        starts, count = np.concatenate([[0], np.cumsum(lengths)]), int(lengths.sum())
        token_ids = draw_tokens(generator, count)
        texts = pc.binary_join(pa.ListArray.from_arrays(_int32(starts), self.words.take(pa.array(token_ids))), "")
        ends = starts + np.arange(len(starts))
        log_probs = -generator.exponential(1.5, count + len(lengths)).astype(np.float32)
        return {
            "token_ids": pa.ListArray.from_arrays(_int32(starts), pa.array(token_ids)),
            "text": texts,
            "finish_reason": pa.array(np.where(generator.random(len(lengths)) < 0.5, "stop", "length").tolist()),
            "token_logprobs": pa.ListArray.from_arrays(_int32(starts), pa.array(log_probs[:count])),
            "end_logprobs": pa.ListArray.from_arrays(_int32(ends), pa.array(log_probs - 3)),
        }


def _int32(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.int32))


def make_data(
    folder: Path, prompts: int, heuristics: int = HEURISTICS, seeds: int = SEEDS, shards: int = SHARDS
) -> None:
    """Write prompts, heuristics, shards of candidates (one answer failed) and labels as the workflow does.

    Each answer begins with a number of its own: texts are distinct, and there is something to verify.
    """
    generator = np.random.default_rng(0)
    prompt_ids = pa.array(sorted(content_id(["prompt", number]) for number in range(prompts)))
    heuristic_ids = pa.array(sorted(content_id(["heuristic", number]) for number in range(heuristics)))
    kinds = [("creative", "verifiable")[number % 2] for number in range(prompts)]
    write_table(
        "prompts",
        pd.DataFrame({"prompt_id": prompt_ids.to_pylist(), "kind": kinds}).assign(
            dataset="synthetic",
            messages=[json.dumps([{"role": "user", "content": f"question {number}"}]) for number in range(prompts)],
            verifier=["numeric" if kind == "verifiable" else None for kind in kinds],
            ground_truth=["7" if kind == "verifiable" else None for kind in kinds],
            split=[("train", "validation", "test")[number % 3] for number in range(prompts)],
        ),
        folder / "prompts.parquet",
    )
    processors = [json.dumps([{"name": "temperature", "params": {"temperature": n / 100}}]) for n in range(heuristics)]
    named = {"heuristic_id": heuristic_ids, "name": heuristic_ids, "processors": processors}
    write_table("heuristics", pd.DataFrame(named).assign(family="temperature"), folder / "heuristics.parquet")

    keys = [
        _keys(prompt_ids, heuristic_ids, seed, range(first, last))
        for seed in range(seeds)
        for first, last in _ranges(prompts, shards)
    ]
    lengths = generator.integers(40, 121, prompts)
    questions = pa.ListArray.from_arrays(
        _int32(np.concatenate([[0], np.cumsum(lengths)])),
        _int32(generator.integers(0, VOCABULARY, int(lengths.sum()))),
    )
    answers, written = Answers(generator), 0
    for number, shard in enumerate(keys):
        path = folder / "candidates" / f"seed={number // shards}" / f"shard={number % shards}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, SCHEMAS["candidates"]) as writer:
            for start in range(0, len(shard), ROWS_PER_WRITE):
                rows = shard.slice(start, ROWS_PER_WRITE)
                columns = {
                    name: array.slice(0, len(rows)) for name, array in answers.parts[number % DISTINCT_PARTS].items()
                }
                columns |= {name: rows[name] for name in KEY}
                numbers = pa.array(range(written, written + len(rows))).cast(pa.string())
                columns["text"] = pc.binary_join_element_wise(numbers, columns["text"], "")
                written += len(rows)
                columns["prompt_token_ids"] = questions.take(rows["prompt"])
                columns["sample_seed"] = pa.array(np.arange(len(rows), dtype=np.uint64))
                columns["engine"] = pa.array(["synthetic"] * len(rows))
                columns["error"] = pa.nulls(len(rows), pa.string())
                if number == start == 0:
                    reasons = columns["finish_reason"].to_pylist()
                    columns["finish_reason"] = pa.array(["error", *reasons[1:]])
                    columns["error"] = pa.array(["out of memory", *[None] * (len(rows) - 1)])
                writer.write_table(pa.table(columns).select(SCHEMAS["candidates"].names).cast(SCHEMAS["candidates"]))
    _write_labels(folder / "labels", pa.concat_tables(keys), generator)


def make_models(folder: Path) -> None:
    """Write what labelling stages read besides tables: a tokenizer, an embedder, a judge, and an index of a corpus."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    from adaptive_samplers.labels.judges.feature_reward import FeatureReward
    from adaptive_samplers.labels.overlap import build_index

    words = make_words()
    tokenizer = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder / "model")
    LlamaConfig(vocab_size=VOCABULARY).save_pretrained(folder / "model")
    generator = np.random.default_rng(1)
    plain = {word.strip(): token for token, word in enumerate(words)}
    by_word = Tokenizer(models.WordLevel(plain, unk_token=words[0].strip()))
    by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    weights = generator.normal(size=(VOCABULARY, DIMENSIONS)).astype(np.float32)
    SentenceTransformer(modules=[StaticEmbedding(by_word, embedding_weights=weights)]).save(str(folder / "embedder"))
    FeatureReward(np.array([1.0, 0.5, 0.25, 2.0]), np.zeros(4), np.ones(4)).save(folder / "judge.json")
    build_index(np.split(draw_tokens(generator, CORPUS_TOKENS), 1000), folder / "corpus_index", VOCABULARY)


def _ranges(prompts: int, shards: int) -> Iterator[tuple[int, int]]:
    """The first prompt of every shard, and the first one that is not in it."""
    edges = np.linspace(0, prompts, shards + 1).astype(int)
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def _keys(prompt_ids: pa.Array, heuristic_ids: pa.Array, seed: int, prompts: range) -> pa.Table:
    places = pa.array(np.repeat(np.asarray(prompts), len(heuristic_ids)))
    heuristics = pa.array(np.tile(np.arange(len(heuristic_ids)), len(prompts)))
    seeds = pa.array(np.full(len(places), seed))
    columns = [prompt_ids.take(places), heuristic_ids.take(heuristics), seeds, places]
    return pa.table(columns, names=[*KEY, "prompt"])


def _write_labels(folder: Path, keys: pa.Table, generator: np.random.Generator) -> None:
    count = len(keys)
    verified = keys["prompt"].to_numpy() % 2 == 1
    keys = keys.select(KEY).combine_chunks()
    right = generator.integers(0, 2, count).astype(float)
    tables = {
        # One decimal, so that many answers tie, as they do under common random numbers.
        "quality": {
            "rating": generator.normal(0, 2, count).round(1),
            "rating_stderr": generator.random(count),
            "comparisons": np.full(count, 14, np.int32),
            "reward": generator.normal(0, 1, count),
        },
        "diversity": {
            **{name: generator.random(count) for name in DIVERSITY_MEASURES},
            "embedding_entropy": generator.random(count).round(2),
            "group_size": np.full(count, SEEDS, np.int32),
        },
        "correctness": {
            "verifier": pa.array(np.where(verified, "numeric", None), pa.string()),
            "score": pa.array(np.where(verified, right, np.nan), from_pandas=True),
            "detail": pa.array(np.where(verified, "found 12, expected 12", None), pa.string()),
            "error": pa.nulls(count, pa.string()),
        },
    }
    for name, columns in tables.items():
        arrays = {column: pa.array(values) for column, values in columns.items()}
        write_table(name, pa.table({**{key: keys[key] for key in KEY}, **arrays}), folder / f"{name}.parquet")


class Files(list):
    """Files of a rule, by number and by name, as Snakemake's scripts have them."""

    def __init__(self, **named: Any) -> None:
        super().__init__(named.values())
        self.__dict__.update(named)

    def get(self, name: str) -> Any:
        """A file by its name; None where the rule has none."""
        return self.__dict__.get(name)

    def items(self) -> Iterable[tuple[str, Any]]:
        """Names and files."""
        return self.__dict__.items()


def rule(step: str, folder: Path) -> SimpleNamespace:
    """What Snakemake gives to the script of a step."""
    tables = {name: str(folder / f"{name}.parquet") for name in ("prompts", "heuristics", "candidates", "scores")}
    labels = {name: str(folder / "labels" / f"{name}.parquet") for name in ("quality", "diversity", "correctness")}
    training_set = str(folder / f"{WEIGHTS}_top{TOP_K}.parquet")
    scoring = {
        "diversity_measure": MEASURE,
        "correct_only": True,
        "normalization": {"scope": "global", "method": "zscore"},
        "kinds": {label: ["creative", "verifiable", "factual", "chat"] for label in LABELS},
    }
    made = {name: str(folder / name) for name in ("embeddings.parquet", "model", "embedder", "judge.json")}
    answers = {"prompts": tables["prompts"], "candidates": tables["candidates"]}
    inputs = {
        "verify_candidates": {
            "prompts": tables["prompts"],
            "heuristics": tables["heuristics"],
            "shards": [str(path) for path in sorted(folder.glob("candidates/*/*.parquet"))],
        },
        "score_candidates": {"prompts": tables["prompts"], **labels},
        "select_training_set": {name: tables[name] for name in ("scores", "candidates", "heuristics")},
        "summarize_selection": {**tables, "training_sets": [training_set]},
        "summarize_labels": {**tables, **labels, "overlap": [], "judged": [labels["quality"]]},
        "label_correctness": answers,
        "embed_candidates": {**answers, "model": made["model"], "embedder": made["embedder"]},
        "label_diversity": {"candidates": tables["candidates"], "embeddings": made["embeddings.parquet"]},
        "label_quality": {
            **answers,
            "model": made["model"],
            "judge": made["judge.json"],
            "embeddings": made["embeddings.parquet"],
        },
        "label_overlap": {"index": str(folder / "corpus_index"), "candidates": tables["candidates"]},
    }
    outputs = {
        "verify_candidates": {"candidates": tables["candidates"], "report": str(folder / "candidates_report.json")},
        "score_candidates": {"scores": tables["scores"]},
        "select_training_set": {"training_set": training_set},
        "summarize_selection": {
            **{name: str(folder / f"{name}.parquet") for name in ("filtered", "marginals")},
            "report": str(folder / "selection.json"),
            "page": str(folder / "selection.html"),
        },
        "summarize_labels": {
            "summary": str(folder / "summary.json"),
            **{name: str(folder / f"{name}.csv") for name in ("distributions", "correlations")},
            "tex": str(folder / "correlations.tex"),
            "likelihood": str(folder / "likelihood.csv"),
        },
        "label_correctness": {"labels": str(folder / "made" / "correctness.parquet")},
        "embed_candidates": {"embeddings": made["embeddings.parquet"]},
        **{
            f"label_{name}": {
                "labels": str(folder / "made" / f"{name}.parquet"),
                "report": str(folder / "made" / f"{name}.json"),
            }
            for name in ("diversity", "quality", "overlap")
        },
    }
    if step in LABELLING_STEPS:
        # The defaults; what must be given is not read.
        settings = complete({"run": {}, "model": {}, "labels": {"embedder": {}}}, config_schema())
    else:
        settings = {
            "seeds": list(range(len(list(folder.glob("candidates/*"))))),
            "generation": {"tolerance": TOLERANCE},
            "scoring": scoring,
        }
    return SimpleNamespace(
        input=Files(**inputs[step]),
        output=Files(**outputs[step]),
        params=SimpleNamespace(settings=settings, unrelated={}, judges=["the judge"], averaged=False),
        wildcards=SimpleNamespace(weights=WEIGHTS, top_k=TOP_K, shard=0),
        log=[str(folder / f"{step}.log")],
        threads=1,
        resources={},
        rule=step,
    )


def run_step(step: str, form: str, folder: Path) -> None:
    """One step in this process, by its rule's script or in plain pandas; prints its peak memory in bytes."""
    snakemake = rule(step, folder)
    if form == "ours":
        runpy.run_path(str(SCRIPTS / f"{step}.py"), init_globals={"snakemake": snakemake})
    else:
        run_plainly(step, snakemake)
    [peak] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(int(peak.split()[1]) * 1024)


def run_plainly(step: str, snakemake: SimpleNamespace) -> None:
    """A step in plain pandas."""
    import plain_tables

    from adaptive_samplers.config.weights import parse_weight_name

    given, made = snakemake.input, snakemake.output
    if step == "verify_candidates":
        tables = [read_table(name, getattr(given, name)) for name in ("prompts", "heuristics")]
        shards, outputs = [Path(path) for path in given.shards], [Path(path) for path in made]
        plain_tables.verify_candidates(shards, *tables, snakemake.params.settings["seeds"], *outputs)
    elif step == "score_candidates":
        tables = [read_table(name, getattr(given, name)) for name in ("prompts", "quality", "diversity", "correctness")]
        write_table("scores", plain_tables.score_candidates(*tables, MEASURE), made[0])
    else:
        columns = [*KEY, "prompt_token_ids", "token_ids", "finish_reason"]
        selected = plain_tables.select_training_set(
            read_table("scores", given.scores),
            read_table("candidates", given.candidates, columns),
            read_table("heuristics", given.heuristics),
            parse_weight_name(WEIGHTS),
            WEIGHTS,
            TOP_K,
            True,
        )
        write_table("training_sets", selected, made[0])


class Cost(NamedTuple):
    """What a step took: time by the clock and of all cores together, and its largest resident set in bytes."""

    seconds: float
    core_seconds: float
    peak_bytes: int


def measure(step: str, form: str, folder: Path) -> Cost:
    """Run one step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--form", form, "--folder", str(folder)]
    start, start_of_cores = time.perf_counter(), _seconds_of_children()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, core_seconds = time.perf_counter() - start, _seconds_of_children() - start_of_cores
    return Cost(seconds, core_seconds, int(done.stdout.split()[-1]))


def _seconds_of_children() -> float:
    """What cores have spent on finished child processes, and on theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_all(steps: Sequence[tuple[str, str]], rows: int, folder: Path) -> Iterator[Row]:
    """Measure steps, each in a form, on data with so many answers."""
    print(f"{'step':<22} {'form':<6} {'rows':>10} {'seconds':>8} {'of cores':>8} {'peak GB':>8}")
    for step, form in steps:
        cost = measure(step, form, folder)
        times = f"{cost.seconds:>8.1f} {cost.core_seconds:>8.1f}"
        print(f"{step:<22} {form:<6} {rows:>10,} {times} {cost.peak_bytes / 1e9:>8.2f}", flush=True)
        yield {
            "step": step,
            "form": form,
            "rows": rows,
            **cost._asdict(),
            "load": os.getloadavg()[0],
            "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "versions": versions("pandas", "pyarrow", "numpy"),
        }


def prepare(folder: Path, prompts: int, labels: bool) -> None:
    """Make the data; for labels, verified answers and everything else that they read."""
    start = time.perf_counter()
    make_data(folder, prompts)
    if labels:
        make_models(folder)
        measure("verify_candidates", "ours", folder)
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    print(f"{size / 1e9:.1f} GB of data made in {time.perf_counter() - start:.0f} s", flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="how many prompts")
    parser.add_argument("--labels", action="store_true", help="measure the labelling stages instead")
    parser.add_argument("--plain", action="store_true", help="measure plain pandas too")
    parser.add_argument("--folder", type=Path, help="folder for the data, which is deleted at the end")
    parser.add_argument("--keep", action="store_true", help="leave the data in the folder, and use what is there")
    parser.add_argument("--steps", nargs="+", choices=(*STEPS, *LABELLING_STEPS), help="these steps only")
    parser.add_argument("--step", choices=(*STEPS, *LABELLING_STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--form", choices=("ours", "plain"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.step:
        run_step(options.step, options.form, options.folder)
        return
    steps = [(step, "ours") for step in options.steps or (LABELLING_STEPS if options.labels else STEPS)]
    if options.plain and not options.labels:
        steps += [(step, "plain") for step in PLAIN_STEPS]
    with ExitStack() as stack:
        if options.keep:
            folder = options.folder
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        if not (folder / "heuristics.parquet").exists():
            prepare(folder, options.prompts, options.labels)
        rows = list(measure_all(steps, options.prompts * HEURISTICS * SEEDS, folder))
    output = FOLDER / ("labels.json" if options.labels else "tables.json")
    write_json(rows, output)
    print(f"written to {output}")


if __name__ == "__main__":
    main()
