"""Prompts from any number of JSON lines or Parquet files, brought into one table.

A prompt's id is the hash of its messages alone, and its split follows from the id: adding a source, renaming
a file or reordering lines moves no prompt from one split to another.
"""

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id, content_number
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.labels.verifiers.pool import Task, VerifierPool
from adaptive_samplers.tables import SCHEMAS

KINDS = ("creative", "verifiable", "factual", "chat")
SPLITS = ("train", "validation", "test")
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class _Row:
    """One row of a source, and how to name it in a message."""

    values: dict[str, Any]
    place: str
    packed: bool  # from Parquet, where a column has one type and nested values may come as JSON text

    def complain(self, problem: str, remedy: str) -> UserError:
        return UserError(f"{self.place}: {problem}; {remedy}")


class _Checks:
    """Tries ground truths, each once: one that its verifier cannot use is found before answers are generated."""

    def __init__(self, pool: VerifierPool) -> None:
        self.names = pool.verification.names()
        self._pool = pool
        self._passed: set[tuple[str, str]] = set()

    def problem(self, verifier: str, ground_truth: Any) -> str | None:
        """Why the verifier cannot use the ground truth; None if it can."""
        content = (verifier, json.dumps(ground_truth, sort_keys=True))
        if content in self._passed:
            return None
        [outcome] = self._pool.outcomes([Task(*content, kind="check")])
        if outcome.error is None:
            self._passed.add(content)
        return outcome.error


def collect_prompts(
    sources: list[dict[str, Any]],
    split: dict[str, float],
    per_kind: dict[str, int | None] | None,
    base_folder: Path,
    verification: Verification | None = None,
) -> pd.DataFrame:
    """Read all sources into the `prompts` table.

    Parameters
    ----------
    sources
        For each: `path` (JSON lines, or Parquet by its suffix; relative to `base_folder`), and where they
        differ from the defaults: `dataset` (the file's stem), `prompt_key` (`messages` where a row has it,
        else `prompt`), `kind` (one for all rows) or `kind_key` ("kind"), `system_prompt` (put before every
        prompt that has none), `verifier` (one for all rows) or `verifier_key` ("verifier"),
        `ground_truth_key` ("ground_truth"), `limit` (first rows to take). In Parquet, a ground truth that is
        the text of a JSON list or object is taken as such.
    split
        The share of prompts in `train`, `validation` and `test`; they sum to 1.
    per_kind
        The most prompts of each kind in each split, those with the lowest ids; None, here or for a split,
        takes all.
    base_folder
        The folder that relative paths start from.
    verification
        How answers will be verified: which verifiers there are, and the limits in which each ground truth is tried;
        None takes those that come with the project.

    Returns
    -------
    The table ordered by `prompt_id`. Repeated prompts appear once, as their first source has them;
    `attrs["duplicates"]` counts those dropped.

    Raises
    ------
    UserError
        Naming file, row, key and remedy, if a file or row cannot be used.
    """
    _check_split(split)
    prompts: dict[str, dict[str, Any]] = {}
    duplicates = 0
    with VerifierPool(verification or Verification(), processes=1) as pool:
        checks = _Checks(pool)
        for source in sources:
            path = Path(base_folder) / source["path"]
            count = len(prompts) + duplicates
            for row in _read_rows(path, source.get("limit")):
                prompt = _prompt(row, source, path, checks)
                if prompt["prompt_id"] in prompts:
                    duplicates += 1
                else:
                    prompts[prompt["prompt_id"]] = prompt
            if len(prompts) + duplicates == count:
                raise UserError(f"{path}: the file holds no prompts; fill it or take it out of prompts.sources")
    if not prompts:
        raise UserError("prompts.sources: there is no source; name at least one file of prompts")
    rows = [prompts[prompt_id] | {"split": _split_of(prompt_id, split)} for prompt_id in sorted(prompts)]
    table = pd.DataFrame(_capped(rows, per_kind or {}), columns=SCHEMAS["prompts"].names)
    table.attrs["duplicates"] = duplicates
    return table


def _check_split(split: dict[str, float]) -> None:
    for name, share in split.items():
        if name not in SPLITS:
            raise UserError(f"prompts.split: unknown split '{name}'; {_nearest(name, SPLITS)}")
        if share < 0:
            raise UserError(f"prompts.split.{name}: the share {share:g} is negative; shares sum to 1")
    if abs(sum(split.values()) - 1) > 1e-6:
        raise UserError(f"prompts.split: the shares sum to {sum(split.values()):g}; make them sum to 1")


def _split_of(prompt_id: str, split: dict[str, float]) -> str:
    """The split in whose share of [0, 1) the id's hash falls, in the fixed order of `SPLITS`."""
    position = content_number(prompt_id) / 2**64
    names = [name for name in SPLITS if split.get(name, 0) > 0]
    for name in names:
        position -= split[name]
        if position < 0:
            return name
    return names[-1]


def _capped(rows: Iterable[dict[str, Any]], per_kind: dict[str, int | None]) -> Iterator[dict[str, Any]]:
    taken: dict[tuple[str, str], int] = {}
    for row in rows:
        group = (row["kind"], row["split"])
        cap = per_kind.get(row["split"])
        if cap is None or taken.get(group, 0) < cap:
            taken[group] = taken.get(group, 0) + 1
            yield row


def _prompt(row: _Row, source: dict[str, Any], path: Path, checks: _Checks) -> dict[str, Any]:
    messages = _messages(row, source)
    verifier = source.get("verifier") or row.values.get(source.get("verifier_key", "verifier"))
    kind = _kind(row, source)
    if "verifier_key" in source and source["verifier_key"] not in row.values:
        raise _missing(row, source["verifier_key"], "verifier_key")
    ground_truth = _ground_truth(row, source, verifier, checks)
    if kind == "verifiable" and verifier is None:
        raise row.complain("a verifiable prompt has no verifier", "name one, or give the prompt another kind")
    return {
        "prompt_id": content_id(messages),
        "dataset": source.get("dataset") or path.stem,
        "kind": kind,
        "messages": json.dumps(messages, ensure_ascii=False),
        "verifier": verifier,
        "ground_truth": None if ground_truth is None else json.dumps(ground_truth, ensure_ascii=False),
    }


def _messages(row: _Row, source: dict[str, Any]) -> list[dict[str, str]]:
    key = source.get("prompt_key") or ("messages" if row.values.get("messages") is not None else "prompt")
    if key not in row.values:
        raise _missing(row, key, "prompt_key")
    prompt = row.values[key]
    if prompt is None:
        raise row.complain(f"the prompt under '{key}' is empty", "fill it or take the row out")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise row.complain(
            f"the prompt under '{key}' is neither text nor a list of messages",
            "write a string, or a list of {role, content}",
        )
    messages = [_message(row, key, message) for message in messages]
    if not messages:
        raise row.complain(f"the prompt under '{key}' is empty", "fill it or take the row out")
    if messages[-1]["role"] != "user":
        raise row.complain(
            f"the last message under '{key}' is the {messages[-1]['role']}'s", "end with the user's message"
        )
    system_prompt = source.get("system_prompt")
    if system_prompt and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages


def _message(row: _Row, key: str, message: dict[str, Any]) -> dict[str, str]:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise row.complain(f"unknown role {role!r} under '{key}'", _nearest(role, ROLES))
    if not isinstance(content, str):
        raise row.complain(f"a message under '{key}' has no text as its content", "give it a string")
    if not content.strip():
        raise row.complain(f"the prompt under '{key}' is empty", "fill it or take the row out")
    return {"role": role, "content": content}


def _kind(row: _Row, source: dict[str, Any]) -> str:
    kind = source.get("kind")
    if kind is None:
        key = source.get("kind_key", "kind")
        if key not in row.values:
            raise _missing(row, key, "kind_key", " or set `kind` for the whole source")
        kind = row.values[key]
    if kind not in KINDS:
        raise row.complain(f"unknown kind {kind!r}", _nearest(kind, KINDS))
    return kind


def _ground_truth(row: _Row, source: dict[str, Any], verifier: str | None, checks: _Checks) -> Any:
    key = source.get("ground_truth_key", "ground_truth")
    ground_truth = row.values.get(key)
    if row.packed and isinstance(ground_truth, str):
        ground_truth = _unpacked(ground_truth)
    if verifier is None:
        return ground_truth
    if verifier not in checks.names:
        raise row.complain(f"unknown verifier {verifier!r}", _nearest(verifier, checks.names))
    if ground_truth is None:
        found = difflib.get_close_matches(key, map(str, row.values), n=1) if key not in row.values else []
        hint = f" (did you mean '{found[0]}'?)" if found else ""
        raise row.complain(
            f"the verifier '{verifier}' has no ground truth under '{key}'{hint}",
            "add it, or name its key in `ground_truth_key`",
        )
    if (problem := checks.problem(verifier, ground_truth)) is not None:
        raise row.complain(
            f"the verifier '{verifier}' cannot use the ground truth {ground_truth!r} ({problem})",
            "correct the ground truth or name another verifier",
        )
    return ground_truth


def _unpacked(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, (list, dict)) else text


def _missing(row: _Row, key: str, option: str, remedy: str = "") -> UserError:
    present = ", ".join(map(str, row.values)) or "none"
    return row.complain(
        f"the key '{key}' is missing (present: {present})",
        f"{_nearest(key, row.values, f'name the right key in `{option}`')}{remedy}",
    )


def _nearest(name: Any, known: Iterable[str], otherwise: str = "") -> str:
    known = [str(candidate) for candidate in known]
    nearest = difflib.get_close_matches(str(name), known, n=1)
    if nearest:
        meant = f"did you mean '{nearest[0]}'?"
        return f"{meant} Then {otherwise}" if otherwise else meant
    return otherwise or f"known are {', '.join(known)}"


def _read_rows(path: Path, limit: int | None) -> Iterator[_Row]:
    if not path.is_file():
        files = [file.name for file in path.parent.iterdir() if file.is_file()] if path.parent.is_dir() else []
        nearest = difflib.get_close_matches(path.name, files, n=1)
        hint = f"did you mean '{nearest[0]}'?" if nearest else "correct prompts.sources.path"
        raise UserError(f"{path}: there is no such file; {hint}")
    rows = _read_parquet(path) if path.suffix == ".parquet" else _read_json_lines(path)
    yield from islice(rows, limit)


def _read_json_lines(path: Path) -> Iterator[_Row]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                values = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except ValueError as error:
                raise UserError(f"{place}: not readable as JSON ({error}); correct the line") from error
            if not isinstance(values, dict):
                raise UserError(f"{place}: not a JSON object; write one object a line")
            yield _Row(values, place, packed=False)


def _read_parquet(path: Path) -> Iterator[_Row]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield _Row(values, f"{path}, row {number}", packed=True)
    except pa.ArrowException as error:
        raise UserError(f"{path}: not readable as Parquet ({error}); write the file again") from error
