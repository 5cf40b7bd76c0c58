"""Prompts that share a run of words with those of an evaluation, which a model must not be trained on."""

import difflib
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_number

WORD = re.compile(r"\w+")
TEXT_KEYS = ("messages", "prompt", "instruction", "question", "text")  # where a prompt stands in others' files


class Overlap(NamedTuple):
    """What a prompt shares with an evaluation: the words, and the evaluation's name."""

    words: str
    source: str


def runs_of_words(text: str, count: int) -> set[str]:
    """All runs of so many words, in lower case and without punctuation; of a shorter text, all of its words."""
    words = WORD.findall(text.lower())
    if len(words) < count:
        return {" ".join(words)} if words else set()
    return {" ".join(words[i : i + count]) for i in range(len(words) - count + 1)}


def contaminated_prompts(
    prompts: pd.DataFrame, evaluations: Iterable[tuple[str, str]], count: int
) -> dict[str, Overlap]:
    """The prompts that share a run of `count` words with a text of an evaluation.

    A text with fewer words counts as shared where the other one has exactly these words. System messages, which many
    prompts have in common, are not looked at. Memory grows with `prompts` alone, by a hash for each of their runs:
    evaluations pass through.

    Parameters
    ----------
    prompts : DataFrame with the columns `prompt_id` and `messages` (JSON).
    evaluations : (name of the source, text)

    Returns
    -------
    dict
        Of each such prompt the first shared run, in the order of evaluations and then of the alphabet.
    """
    ids = prompts["prompt_id"].to_numpy()
    hashes, owners = _hashed_runs(prompts["messages"], count)
    found: dict[str, Overlap] = {}
    for source, text in evaluations:
        runs = sorted(runs_of_words(text, count))
        wanted = np.array([content_number(run) for run in runs], dtype=np.uint64)
        starts, ends = (np.searchsorted(hashes, wanted, side) for side in ("left", "right"))
        for place in np.flatnonzero(starts < ends):
            for owner in owners[starts[place] : ends[place]]:
                found.setdefault(ids[owner], Overlap(runs[place], source))
    return found


def _hashed_runs(conversations: Iterable[str], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of all runs of conversations in JSON, uint64 in ascending order, and the place of each one's owner."""
    hashes, owners = array("Q"), array("q")
    for place, messages in enumerate(conversations):
        runs = {run for text in said(json.loads(messages)) for run in runs_of_words(text, count)}
        hashes.extend(map(content_number, runs))
        owners.extend([place] * len(runs))
    order = np.argsort(np.asarray(hashes), kind="stable")
    return np.asarray(hashes)[order], np.asarray(owners)[order]


def said(messages: Sequence[dict[str, str]]) -> list[str]:
    """The texts of a conversation, without system messages."""
    return [message["content"] for message in messages if message["role"] != "system"]


def split_texts(prompts: pd.DataFrame, split: str) -> Iterator[tuple[str, str]]:
    """The texts of one split of the `prompts` table, with its name: evaluations of the run's own."""
    for messages in prompts["messages"][prompts["split"] == split]:
        yield from ((f"{split} split", text) for text in said(json.loads(messages)))


def evaluation_texts(path: Path | str) -> Iterator[tuple[str, str]]:
    """The texts of a file of evaluation prompts, with the file's name.

    JSON lines, a JSON list or Parquet, with the prompt under the first of `TEXT_KEYS` that a row has: a text, or a list
    of `{role, content}`. Any other file is text, a prompt a line.

    Raises
    ------
    UserError
        If the file cannot be read, or a row has no prompt.
    """
    path = Path(path)
    for number, row in enumerate(_rows(path), start=1):
        if isinstance(row, str):
            yield path.name, row
            continue
        key = next((key for key in TEXT_KEYS if isinstance(row, dict) and row.get(key) is not None), None)
        if key is None:
            raise _without_prompt(path, number, row)
        value = row[key]
        if not isinstance(value, str):
            value = "\n".join(said(value))
        yield path.name, value


def _without_prompt(path: Path, number: int, row: Any) -> UserError:
    names = list(row) if isinstance(row, dict) else []
    near = next((match for name in TEXT_KEYS for match in difflib.get_close_matches(name, names, n=1)), None)
    hint = f"is it '{near}'? " if near else ""
    return UserError(
        f"{path}, row {number}: no prompt under {', '.join(TEXT_KEYS)}; {hint}rename the field that holds it, or write "
        "a text file with a prompt a line"
    )


def _rows(path: Path) -> Iterator[Any]:
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        elif path.suffix == ".json":
            yield from json.loads(path.read_text(encoding="utf-8"))
        else:
            with open(path, encoding="utf-8") as file:
                for line in filter(str.strip, file):
                    yield json.loads(line) if path.suffix == ".jsonl" else line
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as prompts of an evaluation ({error}); correct the file") from error
