"""Measure how often a language model answers `verifiable_prompts.jsonl` rightly, colder and warmer.

Each prompt gets 8 answers of at most 40 tokens at each of two temperatures, without any other heuristic, and its
verifier scores them. Colder and warmer answers share their random numbers, as in the workflow. Printed is a table in
Markdown with pass@1 and pass@8 of each family and level; with `--answers FILE`, all answers are written there:

    python resources/measure_verifiable_prompts.py --model FOLDER

The folder is one that the rule `fetch_model` made, such as `results/demo/models/smollm2-135m-instruct`. Without a GPU,
the default model takes about an hour.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))

from adaptive_samplers.engines.base import Engine, Request  # noqa: E402
from adaptive_samplers.hashing import content_id  # noqa: E402
from adaptive_samplers.heuristics.pipelines import Processor  # noqa: E402
from adaptive_samplers.labels.verifiers import VERIFIERS  # noqa: E402
from adaptive_samplers.randomness import sample_seed  # noqa: E402
from adaptive_samplers.repeated_sampling.coverage import pass_at_k  # noqa: E402

PROMPTS = FOLDER / "verifiable_prompts.jsonl"
TEMPERATURES = [0.3, 1.0]
ANSWERS = 8
MAX_NEW_TOKENS = 40
RUN_SEED = 20260101
AT_ONCE = 8  # prompts; their answers are in the model's batch together


def answered(rows: list[dict[str, Any]], engine: Engine) -> Iterator[dict[str, Any]]:
    """All answers to the prompts with their scores, in any order."""
    requests, about = [], []
    for row in rows:
        messages = [{"role": "user", "content": row["prompt"]}]
        token_ids, prompt_id = tuple(engine.encode_chat(messages)), content_id(messages)
        for temperature in TEMPERATURES:
            for seed in range(1, ANSWERS + 1):
                pipeline = (Processor("temperature", (temperature,)),)
                key = sample_seed(RUN_SEED, prompt_id, seed)
                requests.append(Request(token_ids, pipeline, key, MAX_NEW_TOKENS))
                about.append({**row, "temperature": temperature, "seed": seed})
    for completion in engine.generate(requests):
        row = about[completion.index]
        score, _ = VERIFIERS[row["verifier"]](completion.text, row["ground_truth"])
        yield {**row, "text": completion.text, "score": score}


def tabulate(answers: pd.DataFrame) -> pd.DataFrame:
    """Pass@1 and pass@8 by family and level, and for each family and all together, in the order of the answers.

    An answer is right if its score is 1. `between` is the share of prompts with right and wrong answers.
    """
    answers = answers.assign(right=answers["score"] == 1)
    counts = answers.pivot_table(
        "right", ["family", "level", "prompt"], "temperature", aggfunc="sum", sort=False, observed=True
    )
    if counts.isna().any(axis=None):
        raise ValueError("some prompts have no answer at one of the temperatures; measure them again")
    columns = {"n": 1, "between": ~counts.sum(axis=1).isin([0, len(TEMPERATURES) * ANSWERS])}
    for k in (1, ANSWERS):
        for temperature in TEMPERATURES:
            columns[f"pass@{k} at {temperature}"] = pass_at_k(ANSWERS, counts[temperature].astype(int), k)
    prompts = pd.DataFrame(columns, index=counts.index)
    how = {name: "sum" if name == "n" else "mean" for name in prompts}
    return pd.concat(
        [
            prompts.groupby(["family", "level"], sort=False).agg(how).reset_index(),
            prompts.groupby("family", sort=False).agg(how).reset_index().assign(level="all"),
            prompts.agg(how).to_frame().T.assign(family="all", level="all"),
        ]
    )


def as_markdown(table: pd.DataFrame) -> str:
    """The table as README.md shows it, numbers with two digits."""
    header = [str(column) for column in table]
    lines = [
        [f"{value:.2f}" if isinstance(value, float) and name != "n" else f"{value}" for name, value in row.items()]
        for row in table.astype({"n": int}).to_dict("records")
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *lines])


def main() -> None:
    """Answer all prompts, verify the answers, print the table."""
    parser = argparse.ArgumentParser(description="Measure how often a model answers the verifiable prompts rightly.")
    parser.add_argument("--model", required=True, help="a local Hugging Face folder")
    parser.add_argument(
        "--dtype", default="float32", help="float32, bfloat16 or float16; the first takes twice as long"
    )
    parser.add_argument("--answers", type=Path, help="a file for the answers, JSON lines")
    arguments = parser.parse_args()

    from adaptive_samplers.engines.transformers_engine import TransformersEngine
    from adaptive_samplers.models.language_model import LanguageModel

    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").split("\n") if line]
    # In random order, what is there of the answers is a fair sample of all at any time.
    shuffled = random.Random(RUN_SEED).sample(rows, len(rows))
    engine = TransformersEngine(LanguageModel(arguments.model, arguments.dtype), AT_ONCE * len(TEMPERATURES) * ANSWERS)
    answers = []
    with open(arguments.answers or os.devnull, "w", encoding="utf-8") as file:
        for answer in answered(shuffled, engine):
            answers.append(answer)
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            if len(answers) % 200 == 0:
                file.flush()
                print(f"{len(answers)} answers to {len(rows)} prompts", file=sys.stderr, flush=True)
    order = {row["prompt"]: place for place, row in enumerate(rows)}
    answers.sort(key=lambda answer: (order[answer["prompt"]], answer["temperature"], answer["seed"]))
    print(as_markdown(tabulate(pd.DataFrame(answers))))


if __name__ == "__main__":
    main()
