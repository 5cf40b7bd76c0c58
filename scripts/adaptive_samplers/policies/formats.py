"""Samples of a policy as the tools that read them want them: JSON lines, HALOs, AlpacaEval, lm-evaluation-harness.

All are written a row at a time from the `policy_samples` table, and are byte-identical whenever they are made again.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from adaptive_samplers.files import atomic_output, json_line, write_json_rows
from adaptive_samplers.messages import written_out
from adaptive_samplers.preferences.formats import trainer_split
from adaptive_samplers.tables import read_batches

Row = dict[str, Any]
FILES_AT_A_TIME = 500  # open at once; systems allow a process about a thousand
# lm-evaluation-harness finds a file's task between its first and its last "_", and takes what follows for the time of
# the evaluation. It is always the same here, because the same samples are to give the same files.
NO_TIME = "1970-01-01T00-00-00.000000"


def write_formats(samples: Path, prompts: pd.DataFrame, generation: Mapping[str, Any], folder: Path) -> None:
    """Write a `policy_samples` table into `folder`, in every format.

    - `samples.jsonl`: one line per sample, with `prompt_id`, `sample_id`, the `prompt` as a list of messages, the
      `instruction` as text and the `output`; `generator`, `dataset`, `split` and `type` are named as in HALOs.
    - `halos.json`: the same as one list, with the splits that HALOs knows, `train` and `test`.
    - `alpaca_eval/sample_{sample_id}.json`: a list of `{instruction, output, generator, dataset}`, one answer to each
      prompt, which is what AlpacaEval takes for the outputs of one model.
    - `lm_eval/samples_{dataset}_{NO_TIME}.jsonl`: one line per prompt, as in lm-evaluation-harness's sample logs.

    Parameters
    ----------
    prompts : the `prompts` table, with at least the samples' prompts.
    generation : how answers were made, for the lines of lm-evaluation-harness: `max_new_tokens` (a number, or one for
        each kind of prompt), `stop` and `sampling`.
    """
    asked = prompts.assign(instruction=instructions(prompts["messages"])).set_index("prompt_id").to_dict("index")
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        for name, write in FORMATS.items():
            write(samples, asked, generation, temporary / name)


def instructions(messages: Sequence[str]) -> list[str]:
    """Conversations in JSON, each as one text: the question, or if there are more turns, all of them with roles.

    A system message is not a turn and is left out, so that answers match those that others gave to the same question.
    Readers tell prompts apart by this text: if conversations differ only in system messages, these are put in front.
    """
    conversations = [json.loads(text) for text in messages]
    turns = [written_out([message for message in found if message["role"] != "system"]) for found in conversations]
    shared = {text for text, count in Counter(turns).items() if count > 1}
    return [written_out(found) if text in shared else text for found, text in zip(conversations, turns, strict=True)]


def _rows(samples: Path) -> Iterator[Row]:
    columns = ["prompt_id", "sample_id", "policy", "dataset", "messages", "text", "finish_reason"]
    for batch in read_batches("policy_samples", samples, columns):
        yield from batch.to_pylist()


def _sample_lines(samples: Path, asked: Mapping[str, Row]) -> Iterator[Row]:
    for row in _rows(samples):
        yield {
            "prompt_id": row["prompt_id"],
            "sample_id": row["sample_id"],
            "prompt": json.loads(row["messages"]),
            "instruction": asked[row["prompt_id"]]["instruction"],
            "output": row["text"],
            "generator": row["policy"],
            "dataset": row["dataset"],
            "split": asked[row["prompt_id"]]["split"],
            "type": "sample",
            "finish_reason": row["finish_reason"],
        }


def _write_json_lines(samples: Path, asked: Mapping[str, Row], _: Mapping[str, Any], path: Path) -> None:
    with open(path, "w", encoding="utf-8") as file:
        write_json_rows(_sample_lines(samples, asked), file, as_list=False)


def _write_halos(samples: Path, asked: Mapping[str, Row], _: Mapping[str, Any], path: Path) -> None:
    with open(path, "w", encoding="utf-8") as file:
        lines = ({**line, "split": trainer_split(line["split"])} for line in _sample_lines(samples, asked))
        write_json_rows(lines, file, as_list=True)


def _write_alpaca_eval(samples: Path, asked: Mapping[str, Row], _: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir()
    ids: set[int] = set()
    for batch in read_batches("policy_samples", samples, ["sample_id"]):
        ids.update(batch["sample_id"].unique().to_pylist())
    ordered = sorted(ids)
    for start in range(0, len(ordered), FILES_AT_A_TIME):
        _write_answer_lists(_rows(samples), asked, ordered[start : start + FILES_AT_A_TIME], folder)


def _write_answer_lists(rows: Iterator[Row], asked: Mapping[str, Row], ids: Sequence[int], folder: Path) -> None:
    with ExitStack() as stack:
        places = {number: folder / f"sample_{number}.json" for number in ids}
        files = {one: stack.enter_context(open(place, "w", encoding="utf-8")) for one, place in places.items()}
        begun: set[int] = set()
        for row in rows:
            number = row["sample_id"]
            if number not in files:
                continue
            item = {
                "instruction": asked[row["prompt_id"]]["instruction"],
                "output": row["text"],
                "generator": row["policy"],
                "dataset": row["dataset"],
            }
            files[number].write((",\n" if number in begun else "[\n") + json.dumps(item, ensure_ascii=False))
            begun.add(number)
        for file in files.values():
            file.write("\n]\n")


def _write_lm_eval(samples: Path, asked: Mapping[str, Row], generation: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir()
    with ExitStack() as stack:
        files: dict[str, TextIO] = {}
        counts: dict[str, int] = {}
        for prompt_id, group in groupby(_rows(samples), lambda row: row["prompt_id"]):
            answers = list(group)
            task = answers[0]["dataset"]
            if task not in files:
                files[task] = stack.enter_context(open(_task_file(folder, task), "w", encoding="utf-8"))
            number = counts[task] = counts.get(task, -1) + 1
            line = _lm_eval_line(number, {"prompt_id": prompt_id, **asked[prompt_id]}, answers, generation)
            files[task].write(json_line(line))


def _task_file(folder: Path, task: str) -> Path:
    name = re.sub(r"\W", "_", task)
    if _sample_log(folder, name).exists():
        # Two datasets whose names differ only in other characters.
        name = f"{name}_{hashlib.sha256(task.encode()).hexdigest()[:8]}"
    return _sample_log(folder, name)


def _sample_log(folder: Path, task: str) -> Path:
    return folder / f"samples_{task}_{NO_TIME}.jsonl"


def _lm_eval_line(number: int, prompt: Row, answers: list[Row], generation: Mapping[str, Any]) -> Row:
    messages, truth, limit = prompt["messages"], prompt["ground_truth"], generation["max_new_tokens"]
    doc = {
        "prompt_id": prompt["prompt_id"],
        "messages": json.loads(messages),
        "kind": prompt["kind"],
        "verifier": None if pd.isna(prompt["verifier"]) else prompt["verifier"],
        "ground_truth": None if pd.isna(truth) else json.loads(truth),
    }
    truth = doc["ground_truth"]
    target = truth if isinstance(truth, str) else "" if truth is None else json.dumps(truth, ensure_ascii=False)
    options = {
        "until": list(generation["stop"]),
        "max_gen_toks": limit if isinstance(limit, int) else limit[prompt["kind"]],
        "do_sample": True,
        "sampling": generation["sampling"],
    }
    texts = [answer["text"] for answer in answers]
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": messages, "arg_1": options}},
        "resps": [texts],
        "filtered_resps": texts[:1],
        "filter": "take_first",
        "metrics": [],
        "doc_hash": _sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha256(messages),
        "target_hash": _sha256(target),
    }


# The writer of each format, by its file or folder.
FORMATS = {
    "samples.jsonl": _write_json_lines,
    "halos.json": _write_halos,
    "alpaca_eval": _write_alpaca_eval,
    "lm_eval": _write_lm_eval,
}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
