"""Prompts that share a run of words with an evaluation, which a model must not be trained on."""

import difflib
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_number
from adaptive_samplers.reading import Row, read_rows

WORD = re.compile(r"\w+")
# The key of the prompt in external files: the first of these that a row has.
TEXT_KEYS = (
    *("messages", "prompt", "instruction", "question", "text"),
    *("conversations", "conversation", "turns", "problem", "query", "instructions", "questions", "prompts", "texts"),
)
_KEY = "preferences.decontamination.files"
# In messages: ShareGPT's have `from` and `value`.
_ROLES, _CONTENTS = ("role", "from"), ("content", "value", "text")


class Overlap(NamedTuple):
    """What a prompt shares with an evaluation: the words, and the evaluation's name."""

    words: str
    source: str


def runs_of_words(text: str, count: int) -> set[str]:
    """All runs of this many words, in lower case and without punctuation; for a shorter text, all of its words."""
    words = WORD.findall(text.lower())
    if len(words) < count:
        return {" ".join(words)} if words else set()
    return {" ".join(words[i : i + count]) for i in range(len(words) - count + 1)}


def contaminated_prompts(
    prompts: pd.DataFrame, evaluations: Iterable[tuple[str, str]], count: int
) -> dict[str, Overlap]:
    """The prompts that share a run of `count` words with a text of an evaluation.

    A text with fewer words counts as shared if the other one has exactly these words. System messages, which many
    prompts have in common, are not looked at. Memory grows with `prompts` alone, by a hash for each of their runs:
    evaluations pass through.

    Parameters
    ----------
    prompts : DataFrame with the columns `prompt_id` and `messages` (JSON).
    evaluations : (name of the source, text)

    Returns
    -------
    dict
        For each such prompt the first shared run, ordered by evaluation and then alphabetically.
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
    """The hashes of all runs of conversations in JSON, uint64 in ascending order, and the index of each one's owner."""
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
    """The texts of one split of the `prompts` table, with its name: the run's own evaluations."""
    for messages in prompts["messages"][prompts["split"] == split]:
        yield from ((f"{split} split", text) for text in said(json.loads(messages)))


def evaluation_texts(path: Path | str) -> Iterator[tuple[str, str]]:
    """The texts of a file of evaluation prompts, with the file's name.

    JSON lines, JSON or Parquet, with the prompt under the first of `TEXT_KEYS` that a row has: a text, a list of texts,
    or a conversation of `{role, content}` or `{from, value}`. A JSON document may hold its rows in a list, under a name
    (`{"data": [...]}`), by id, or in columns. Any other file is text, one prompt per line.

    Raises
    ------
    UserError
        If the file cannot be read, or there is no text in it or in one of its rows.
    """
    path = Path(path)
    is_empty = True
    for row in read_rows(path, _KEY, others_are_text=True):
        is_document = path.suffix == ".json" and isinstance(row.values, dict)
        for one in _rows_of(row.values, row.place) if is_document else [row]:
            texts = list(_row_texts(one.values))
            if not texts:
                raise _without_text(one)
            is_empty = False
            yield from ((path.name, text) for text in texts)
    if is_empty:
        raise UserError(f"{path}: no text in it; looked under {', '.join(TEXT_KEYS)}; correct {_KEY}")


def _rows_of(value: Any, place: str) -> Iterator[Row]:
    """The rows of a JSON document that is one object: under a name, by id, in columns, or itself the only one."""
    if isinstance(value, list):
        for number, part in enumerate(value, start=1):
            yield Row(part, f"{place}, item {number}")
        return
    parts = {name: part for name, part in value.items() if isinstance(part, list | dict)}
    if any(value.get(key) is not None for key in TEXT_KEYS) or not (parts or _is_texts_by_id(value)):
        yield Row(value, place)
    elif not parts:
        yield from (Row(text, f"{place}, {name}") for name, text in value.items())
    else:
        is_by_id = all(isinstance(part, dict) for part in value.values())
        for name, part in parts.items():
            # Besides lists of rows, an object may have metadata of the file.
            if is_by_id or isinstance(part, list) or any(_row_texts(part)):
                yield from _rows_of(part, f"{place}, {name}")


def _is_texts_by_id(value: dict[str, Any]) -> bool:
    near = any(difflib.get_close_matches(name, TEXT_KEYS, n=1) for name in value)
    return not near and len(value) > 1 and all(isinstance(part, str) for part in value.values())


def _row_texts(value: Any) -> Iterator[str]:
    """The texts of a row: all of it if it is a text or a list of texts, else the value of the first key for texts."""
    if isinstance(value, dict):
        value = next((value[key] for key in TEXT_KEYS if value.get(key) is not None), None)
    yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    """All texts of a prompt: itself, its messages except the system's, the texts in a list or a column."""
    if isinstance(value, str):
        yield from [value] * bool(value.strip())
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        if not _is_message(value):
            value = [*value.values()]
        elif any(value.get(name) == "system" for name in _ROLES):
            return
        else:
            value = next((value[name] for name in _CONTENTS if value.get(name) is not None), None)
        yield from _texts(value)


def _is_message(value: dict[str, Any]) -> bool:
    return any(name in value for name in _CONTENTS) and any(name in value for name in (*_ROLES, "type"))


def _without_text(row: Row) -> UserError:
    names = [str(name) for name in row.values] if isinstance(row.values, dict) else []
    near = next((match for name in TEXT_KEYS for match in difflib.get_close_matches(name, names, n=1)), None)
    hint = f"is it '{near}'? " if near else f"it has {', '.join(names)}. " if names else ""
    return row.complain(
        f"no text under {', '.join(TEXT_KEYS)}",
        f"{hint}Rename the field that holds the prompt, or write a text file with a prompt a line",
    )
