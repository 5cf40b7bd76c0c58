"""Iterations of alignment: which prompts each takes, and how a prompt's samples meet in one tournament."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from adaptive_samplers.files import read_json
from adaptive_samplers.hashing import content_id
from adaptive_samplers.policies.prompt_slices import slice_prompts
from adaptive_samplers.tables import SCHEMAS, read_batches, table_writer


def plan_iterations(
    prompts: pd.DataFrame, splits: Sequence[str], skip: int, size: int, most: int | None
) -> list[dict[str, int]]:
    """The iterations, each `{iteration, prompts}`: at most this many (None: no limit), until the prompts run out.

    Raises
    ------
    UserError
        If there is no prompt for the first iteration.
    """
    left = len(slice_prompts(prompts, splits, skip, None))
    iterations = []
    while left > 0 and (most is None or len(iterations) < most):
        iterations.append({"iteration": len(iterations) + 1, "prompts": min(size, left)})
        left -= size
    return iterations


def contestants(heuristics: pd.DataFrame, samples: int) -> pd.DataFrame:
    """The `heuristics` table in which every sample of a policy is its own contestant.

    Tournaments and pairs compare answers to a prompt under one seed, but a policy's samples differ only in the seed. So
    each becomes the answer of a contestant, and all of a prompt's samples meet.
    """
    (row,) = heuristics.to_dict("records")
    names = [f"{row['name']} sample {number}" for number in range(samples)]
    ids = [_contestant(row["heuristic_id"], number) for number in range(samples)]
    return pd.DataFrame([{**row, "heuristic_id": id_, "name": name} for id_, name in zip(ids, names, strict=True)])


def _contestant(heuristic_id: str, number: int) -> str:
    return content_id([heuristic_id, "sample", number])


def as_contestants(candidates: Path, output: Path) -> None:
    """Write verified samples as the `candidates` of `contestants`, all with seed 0.

    Log-probabilities are left out: the engine's vary in the last digits with the other requests in flight, for example
    after a kill, and an iteration's files must be byte-identical whatever happened along the way.
    """
    with table_writer("candidates", output) as writer:
        for batch in read_batches("candidates", candidates):
            writer.write_batch(_as_contestants(batch))


def _as_contestants(batch: pa.RecordBatch) -> pa.RecordBatch:
    schema, count = SCHEMAS["candidates"], len(batch)
    ids = [
        _contestant(heuristic_id, number)
        for heuristic_id, number in zip(batch["heuristic_id"].to_pylist(), batch["seed"].to_pylist(), strict=True)
    ]
    changed = {
        "heuristic_id": pa.array(ids, pa.string()),
        "seed": pa.array([0] * count, pa.int64()),
        **{name: pa.nulls(count, schema.field(name).type) for name in ("token_logprobs", "end_logprobs")},
    }
    return pa.RecordBatch.from_arrays([changed.get(name, batch[name]) for name in schema.names], schema=schema)


def summarize_iterations(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """What each iteration did: prompts, samples, pairs, the judge's opinion of them, and the policy's hash."""
    return [_summary(number, folder) for number, folder in enumerate(folders, start=1)]


def _summary(number: int, folder: Path) -> dict[str, Any]:
    verified = read_json(folder / "candidates_report.json")
    pairs = read_json(folder / "preferences" / "report.json")
    rewards = _mean(read_batches("quality", folder / "labels" / "quality.parquet", ["reward"]), "reward")
    return {
        "iteration": number,
        "samples": verified["found"],
        "prompts_dropped": len(verified["dropped_prompts"]),
        "prompts_with_pairs": pairs["prompts"]["with_pairs"],
        "pairs": pairs["pairs"],
        "mean_reward": rewards,
        "mean_characters": pairs["mean_characters"],
        "model_hash": read_json(folder / "policy" / "provenance.json")["model_hash"],
    }


def _mean(batches: Iterator[pa.RecordBatch], column: str) -> float | None:
    values = pd.concat([batch.to_pandas()[column] for batch in batches])
    return None if values.isna().all() else float(values.mean())
