"""Prompts from any number of JSON lines or Parquet files, in one table.

A prompt's id is the hash of its messages alone, and its split follows from the id: adding a source, renaming
a file or reordering lines moves no prompt from one split to another.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from adaptive_samplers.config.model.prompts import PromptSource
from adaptive_samplers.config.model.types import PromptKind, Split
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id, content_number
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.labels.verifiers.processes import Task, VerifierPool
from adaptive_samplers.reading import Row, read_objects
from adaptive_samplers.tables import SCHEMAS

KINDS = get_args(PromptKind)
SPLITS = get_args(Split)
ROLES = ("system", "user", "assistant")


SHOWN_FAULTS = 10
_LONGEST_SHOWN = 300  # characters of a ground truth


@dataclass
class _Asked:
    """A prompt, where it first occurs, and the ground truths that later rows give it."""

    prompt: dict[str, Any]
    place: str
    others: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


def collect_prompts(
    sources: Sequence[PromptSource],
    split: Mapping[str, float],
    per_kind: Mapping[str, int | None] | None,
    base_folder: Path,
    verification: Verification | None = None,
    leave_out: bool = False,
    processes: int = 1,
) -> pd.DataFrame:
    """Read all sources into the `prompts` table.

    Parameters
    ----------
    sources
        The files, relative to `base_folder`: JSON lines, or JSON or Parquet by suffix. In Parquet, a ground truth
        that is the text of a JSON list or object is taken as such.
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
    leave_out
        Whether prompts are left out whose ground truth cannot be used: one that its verifier does not find right in
        its own words, or that another row contradicts. If not, they are an error.
    processes
        Processes that try ground truths.

    Returns
    -------
    The table ordered by `prompt_id`. Repeated prompts appear once, as their first source has them;
    `attrs["duplicates"]` counts those dropped, `attrs["left_out"]` has a sentence for each prompt that is left out.

    Raises
    ------
    UserError
        Naming file, row, key and remedy, if a file or row cannot be used.
    """
    _check_split(split)
    verification = verification or Verification()
    asked: dict[str, _Asked] = {}
    duplicates = 0
    for source in sources:
        path = Path(base_folder) / source.path
        count = 0
        for row in islice(read_objects(path, "prompts.sources.path"), source.limit):
            count += 1
            prompt = _prompt(row, source, path, verification.names())
            known = asked.setdefault(prompt["prompt_id"], _Asked(prompt, row.place))
            if known.prompt is not prompt:
                duplicates += 1
                known.others.append((row.place, prompt))
        if not count:
            raise UserError(f"{path}: the file holds no prompts; fill it or take it out of prompts.sources")
    if not asked:
        raise UserError("prompts.sources: there is no source; name at least one file of prompts")
    with VerifierPool(verification, processes) as pool:
        faults = {**_contradictions(asked, pool), **_unusable(asked, pool)}
    if faults and not leave_out:
        raise UserError(_listed(list(faults.values())))
    rows = [
        asked[prompt_id].prompt | {"split": _split_of(prompt_id, split)}
        for prompt_id in sorted(asked)
        if prompt_id not in faults
    ]
    if not rows:
        raise UserError(f"prompts.sources: no prompt is left.\n{_listed(list(faults.values()))}")
    table = pd.DataFrame(_capped(rows, per_kind or {}), columns=SCHEMAS["prompts"].names)
    table.attrs["duplicates"] = duplicates
    table.attrs["left_out"] = [faults[prompt_id] for prompt_id in asked if prompt_id in faults]
    return table


def _listed(faults: list[str]) -> str:
    """Some of the faults, and how to continue without these prompts."""
    more = [f"and {len(faults) - SHOWN_FAULTS} more like these"] if len(faults) > SHOWN_FAULTS else []
    remedy = "`prompts.unusable_ground_truths: leave_out` goes on without such prompts, and names them in the log."
    return "\n".join([*faults[:SHOWN_FAULTS], *more, remedy])


def _unusable(asked: dict[str, _Asked], pool: VerifierPool) -> dict[str, str]:
    """What is wrong with the ground truths of prompts that their verifiers cannot use, by prompt.

    Each ground truth is tried once: one that its verifier cannot use is found before answers are generated.
    """
    prompts = {prompt_id: one.prompt for prompt_id, one in asked.items() if one.prompt["verifier"] is not None}
    tasks = dict.fromkeys(Task(prompt["verifier"], prompt["ground_truth"], kind="check") for prompt in prompts.values())
    outcomes = dict(zip(tasks, pool.outcomes(tasks), strict=True))
    faults = {}
    for prompt_id, prompt in prompts.items():
        error = outcomes[Task(prompt["verifier"], prompt["ground_truth"], kind="check")].error
        if error is not None:
            problem = f"the verifier '{prompt['verifier']}' cannot use the ground truth {_shown(prompt)} ({error})"
            remedy = "correct the ground truth or name another verifier"
            faults[prompt_id] = f"{asked[prompt_id].place}: {problem}; {remedy}"
    return faults


def _contradictions(asked: dict[str, _Asked], pool: VerifierPool) -> dict[str, str]:
    """What is wrong with prompts for which rows have different ground truths, by prompt.

    There is no way to tell which row is right, and a mistake in one of them would make answers count as wrong.
    """
    faults = {}
    for prompt_id, first in asked.items():
        for place, other in first.others:
            if not _agree(first.prompt, other, pool):
                faults[prompt_id] = (
                    f"{first.place}, and {place}: the same prompt has two ground truths, {_shown(first.prompt)} for "
                    f"'{first.prompt['verifier']}' and {_shown(other)} for '{other['verifier']}'; correct or delete one"
                )
                break
    return faults


def _agree(first: dict[str, Any], other: dict[str, Any], pool: VerifierPool) -> bool:
    """Whether two rows of a prompt ask for the same, or one of them asks for nothing."""
    if None in (first["verifier"], other["verifier"]):
        return True
    if first["verifier"] != other["verifier"]:
        return False
    if first["ground_truth"] == other["ground_truth"]:
        return True
    truth = json.loads(other["ground_truth"])
    if not isinstance(truth, str | int | float):
        return False
    [outcome] = pool.outcomes([Task(first["verifier"], first["ground_truth"], str(truth))])
    return outcome.score == 1


def _shown(prompt: dict[str, Any]) -> str:
    text = repr(json.loads(prompt["ground_truth"]))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _check_split(split: Mapping[str, float]) -> None:
    for name, share in split.items():
        if name not in SPLITS:
            raise UserError(f"prompts.split: unknown split '{name}'; {_nearest(name, SPLITS)}")
        if share < 0:
            raise UserError(f"prompts.split.{name}: the share {share:g} is negative; shares sum to 1")
    if abs(sum(split.values()) - 1) > 1e-6:
        raise UserError(f"prompts.split: the shares sum to {sum(split.values()):g}; make them sum to 1")


def _split_of(prompt_id: str, split: Mapping[str, float]) -> str:
    """The split in whose share of [0, 1) the id's hash falls, in the fixed order of `SPLITS`."""
    position = content_number(prompt_id) / 2**64
    names = [name for name in SPLITS if split.get(name, 0) > 0]
    for name in names:
        position -= split[name]
        if position < 0:
            return name
    return names[-1]


def _capped(rows: Iterable[dict[str, Any]], per_kind: Mapping[str, int | None]) -> Iterator[dict[str, Any]]:
    taken: dict[tuple[str, str], int] = {}
    for row in rows:
        group = (row["kind"], row["split"])
        cap = per_kind.get(row["split"])
        if cap is None or taken.get(group, 0) < cap:
            taken[group] = taken.get(group, 0) + 1
            yield row


def _prompt(row: Row, source: PromptSource, path: Path, verifiers: list[str]) -> dict[str, Any]:
    messages = _messages(row, source)
    verifier = source.verifier or row.values.get(source.verifier_key or "verifier")
    kind = _kind(row, source)
    if source.verifier_key is not None and source.verifier_key not in row.values:
        raise _missing(row, source.verifier_key, "verifier_key")
    ground_truth = _ground_truth(row, source, verifier, verifiers)
    if kind == "verifiable" and verifier is None:
        raise row.complain("a verifiable prompt has no verifier", "name one, or give the prompt another kind")
    return {
        "prompt_id": content_id(messages),
        "dataset": source.dataset or path.stem,
        "kind": kind,
        "messages": json.dumps(messages, ensure_ascii=False),
        "verifier": verifier,
        "ground_truth": None if ground_truth is None else json.dumps(ground_truth, ensure_ascii=False),
    }


def _messages(row: Row, source: PromptSource) -> list[dict[str, str]]:
    key = source.prompt_key or ("messages" if row.values.get("messages") is not None else "prompt")
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
    system_prompt = source.system_prompt
    if system_prompt and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages


def _message(row: Row, key: str, message: dict[str, Any]) -> dict[str, str]:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise row.complain(f"unknown role {role!r} under '{key}'", _nearest(role, ROLES))
    if not isinstance(content, str):
        raise row.complain(f"a message under '{key}' has no text as its content", "give it a string")
    if not content.strip():
        raise row.complain(f"the prompt under '{key}' is empty", "fill it or take the row out")
    return {"role": role, "content": content}


def _kind(row: Row, source: PromptSource) -> str:
    kind = source.kind
    if kind is None:
        key = source.kind_key
        if key not in row.values:
            raise _missing(row, key, "kind_key", " or set `kind` for the whole source")
        kind = row.values[key]
    if kind not in KINDS:
        raise row.complain(f"unknown kind {kind!r}", _nearest(kind, KINDS))
    return kind


def _ground_truth(row: Row, source: PromptSource, verifier: str | None, verifiers: list[str]) -> Any:
    key = source.ground_truth_key
    ground_truth = row.values.get(key)
    if row.packed and isinstance(ground_truth, str):
        ground_truth = _unpacked(ground_truth)
    if verifier is None:
        return ground_truth
    if verifier not in verifiers:
        raise row.complain(f"unknown verifier {verifier!r}", _nearest(verifier, verifiers))
    if ground_truth is None:
        found = difflib.get_close_matches(key, map(str, row.values), n=1) if key not in row.values else []
        hint = f" (did you mean '{found[0]}'?)" if found else ""
        raise row.complain(
            f"the verifier '{verifier}' has no ground truth under '{key}'{hint}",
            "add it, or name its key in `ground_truth_key`",
        )
    return ground_truth


def _unpacked(text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, (list, dict)) else text


def _missing(row: Row, key: str, option: str, remedy: str = "") -> UserError:
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
