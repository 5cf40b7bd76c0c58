"""Time and memory of verify, score and select on synthetic answers, as many as a real grid has.

    python bench/tables.py                  2,000 prompts x 143 heuristics x 8 seeds; writes bench/tables.json
    python bench/tables.py --prompts 100    fewer prompts
    python bench/tables.py --plain          the same in plain pandas beside it (see bench/plain_tables.py)
    python bench/tables.py --folder FOLDER  where the data goes meanwhile: about 10 GB

Each step is its rule's own script, in a process of its own. The time is that of the process, its start and its imports
included; the memory is its largest resident set (VmHWM), so it needs Linux.
"""

import argparse
import json
import os
import platform
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FOLDER = Path(__file__).parent
SCRIPTS = FOLDER.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import numpy as np  # noqa: E402 (after the library's place is known)
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from adaptive_samplers.files import write_json  # noqa: E402
from adaptive_samplers.generation import ROWS_PER_WRITE  # noqa: E402
from adaptive_samplers.hashing import content_id  # noqa: E402
from adaptive_samplers.measures import DIVERSITY_MEASURES, LABELS  # noqa: E402
from adaptive_samplers.provenance import versions  # noqa: E402
from adaptive_samplers.tables import KEY, SCHEMAS, read_table, write_table  # noqa: E402

STEPS = ("verify_candidates", "score_candidates", "select_training_set", "summarize_selection", "summarize_labels")
PLAIN_STEPS = STEPS[:3]
PROMPTS, HEURISTICS, SEEDS, SHARDS = 2_000, 143, 8, 8
VOCABULARY = 49_152
SHORTEST, LONGEST = 100, 200  # tokens of an answer
DISTINCT_PARTS = 4  # parts of ROWS_PER_WRITE answers that are drawn; then they come again, under other keys
WEIGHTS, TOP_K, MEASURE, TOLERANCE = "a0.7_b0.3_c0.1", 2, "embedding_entropy", 0.5

Row = dict[str, Any]


class Answers:
    """Answers drawn once: tokens of a Zipf-like distribution, as many characters a token as English has."""

    def __init__(self, generator: np.random.Generator) -> None:
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        sizes = generator.integers(1, 6, VOCABULARY)
        self.words = pa.array([" " + "".join(generator.choice(letters, size)) for size in sizes])
        self.parts = [self._part(generator) for _ in range(DISTINCT_PARTS)]

    def _part(self, generator: np.random.Generator) -> dict[str, pa.Array]:
        lengths = generator.integers(SHORTEST, LONGEST + 1, ROWS_PER_WRITE)
        starts, count = np.concatenate([[0], np.cumsum(lengths)]), int(lengths.sum())
        token_ids = (VOCABULARY ** generator.random(count)).astype(np.int32) - 1
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
    """Write prompts, heuristics, shards of candidates (one answer failed) and labels as the workflow does."""
    generator = np.random.default_rng(0)
    prompt_ids = pa.array(sorted(content_id(["prompt", number]) for number in range(prompts)))
    heuristic_ids = pa.array(sorted(content_id(["heuristic", number]) for number in range(heuristics)))
    kinds = [("creative", "verifiable")[number % 2] for number in range(prompts)]
    write_table(
        "prompts",
        pd.DataFrame({"prompt_id": prompt_ids.to_pylist(), "kind": kinds}).assign(
            dataset="synthetic",
            messages="[]",
            verifier=["numeric" if kind == "verifiable" else None for kind in kinds],
            ground_truth=None,
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
    answers = Answers(generator)
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
    inputs = {
        "verify_candidates": {
            "prompts": tables["prompts"],
            "heuristics": tables["heuristics"],
            "shards": [str(path) for path in sorted(folder.glob("candidates/*/*.parquet"))],
        },
        "score_candidates": {"prompts": tables["prompts"], **labels},
        "select_training_set": {name: tables[name] for name in ("scores", "candidates", "heuristics")},
        "summarize_selection": {**tables, "training_sets": [training_set]},
        "summarize_labels": {**tables, **labels, "overlap": []},
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
        },
    }
    settings = {
        "seeds": list(range(len(list(folder.glob("candidates/*"))))),
        "generation": {"tolerance": TOLERANCE},
        "scoring": scoring,
    }
    return SimpleNamespace(
        input=Files(**inputs[step]),
        output=Files(**outputs[step]),
        params=SimpleNamespace(settings=settings, unrelated={}),
        wildcards=SimpleNamespace(weights=WEIGHTS, top_k=TOP_K),
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


def measure(step: str, form: str, folder: Path) -> tuple[float, int]:
    """Seconds and peak bytes of one step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--form", form, "--folder", str(folder)]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1])


def measure_all(prompts: int, forms: Sequence[str], parent: Path | None) -> list[Row]:
    """Make the data, measure the steps, delete the data."""
    rows = []
    with tempfile.TemporaryDirectory(dir=parent) as place:
        folder = Path(place)
        start = time.perf_counter()
        make_data(folder, prompts)
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        print(f"{size / 1e9:.1f} GB of data made in {time.perf_counter() - start:.0f} s", flush=True)
        print(f"{'step':<22} {'form':<6} {'rows':>10} {'seconds':>8} {'peak GB':>8}")
        for form in forms:
            for step in STEPS if form == "ours" else PLAIN_STEPS:
                seconds, peak = measure(step, form, folder)
                rows.append(
                    {
                        "step": step,
                        "form": form,
                        "rows": prompts * HEURISTICS * SEEDS,
                        "seconds": seconds,
                        "peak_bytes": peak,
                        "load": os.getloadavg()[0],
                        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
                        "versions": versions("pandas", "pyarrow", "numpy"),
                    }
                )
                print(f"{step:<22} {form:<6} {rows[-1]['rows']:>10,} {seconds:>8.1f} {peak / 1e9:>8.2f}", flush=True)
    return rows


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="how many prompts")
    parser.add_argument("--plain", action="store_true", help="measure plain pandas too")
    parser.add_argument("--folder", type=Path, help="folder for the data, which is deleted at the end")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--form", choices=("ours", "plain"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.step:
        run_step(options.step, options.form, options.folder)
        return
    rows = measure_all(options.prompts, ("ours", "plain") if options.plain else ("ours",), options.folder)
    write_json(rows, FOLDER / "tables.json")
    print(f"written to {FOLDER / 'tables.json'}")


if __name__ == "__main__":
    main()
