"""What a request asks of our processor in a server, checked, with all that it leaves out filled in.

    {"processors": [{"temperature": 0.7}, {"top_p": 0.9}], "sample_seed": 1}

`processors` is needed, as configs write pipelines or as `processor.request_parameters` does; the other keys are those
of `request_parameters`, and follow from the rest of the request where they are left out. Nothing here needs a server's
packages.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.heuristics import HEURISTICS, Numbers
from adaptive_samplers.heuristics.registry import LEARNED, PREFERENCES, VERBALIZED

FIELD = "adaptive_samplers"
FOLDERS_VARIABLE = "ADAPTIVE_SAMPLERS_FOLDERS"
# More than any model's context; so many uniform numbers are 32 MB.
MOST_TOKENS = 1 << 22
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+@[\w./-]+")
# Keys after which an answer may be complete before vLLM ends it.
_ENDING = {"max_new_tokens", "stop", "given"}
_WEIGHTS = ("config.json", "model.safetensors")


class Refused(UserError, ValueError):
    """A request that cannot be served as it is; the message says which key, what is wrong with it, and what to do."""


class Around(NamedTuple):
    """The rest of a request, in its server's words.

    Attributes
    ----------
    parameters : what the server calls its sampling parameters; `n`, penalties and `ignore_eos` are looked at.
    longest : tokens that the answer may have; None if the server sets no limit.
    seed : of the request; None if it has none.
    end_token_ids : that end answers, of the model and of the request.
    """

    parameters: Any
    longest: int | None
    seed: int | None
    end_token_ids: Sequence[int]


def read_request(value: Any, around: Around) -> dict[str, Any]:
    """What a request asks of us, all keys filled in.

    Parameters
    ----------
    value : a map, or one in JSON
    around : Around

    Returns
    -------
    dict
        As `processor.request_parameters`, with the samplers' folders resolved; perhaps with `failure_token_id`, the
        token that is drawn where drawing fails.

    Raises
    ------
    Refused
    """
    asked = decoded(value)
    for key in asked:
        if key not in _READERS:
            raise Refused(f"{FIELD}.{key}: is not known; allowed: {', '.join(_READERS)}")
    if "processors" not in asked:
        raise Refused(f'{FIELD}.processors: is missing; give a list of steps, such as [{{"temperature": 0.7}}]')
    _check_the_rest(around.parameters)
    longest = min(around.longest or MOST_TOKENS, MOST_TOKENS)
    read = {
        # The same request gets the same answer, so that one that is sent again goes on where it was.
        "sample_seed": (around.seed or 0) % 2**64,
        "max_new_tokens": longest,
        "stop": [],
        "end_token_ids": sorted(around.end_token_ids),
        "sampler_hashes": {},
        **{key: _READERS[key](f"{FIELD}.{key}", given) for key, given in asked.items()},
    }
    if not read["end_token_ids"] and getattr(around.parameters, "ignore_eos", False) and len(asked.keys() & _ENDING):
        raise Refused(
            f"{FIELD}.end_token_ids: is missing, and with ignore_eos nothing else says how answers end; give it"
        )
    if "given" in read and len(read["given"]) < min(read["max_new_tokens"], longest):
        read["max_new_tokens"] = len(read["given"])
    # There are so many uniform numbers.
    read["max_new_tokens"] = min(read["max_new_tokens"], longest)
    steps, folders = read["processors"]
    unknown = set(read["sampler_hashes"]) - set(folders)
    if unknown:
        raise Refused(f"{FIELD}.sampler_hashes: {min(unknown)} is not among the processors; allowed: their folders")
    try:
        # Without a hash it is the sampler that is there now.
        read["sampler_hashes"] = {
            folder: read["sampler_hashes"].get(name) or file_sha256(Path(folder) / "model.safetensors")
            for name, folder in folders.items()
        }
    except OSError as error:
        raise Refused(f"{FIELD}.processors: a sampler cannot be read ({error.strerror})") from error
    return read | {"processors": json.dumps(steps)}


def last_token(value: Any, end_token_ids: Sequence[int]) -> int:
    """The token that ends an answer to a request that cannot be served: it may tell of the failure."""
    try:
        asked = decoded(value)
        return asked["failure_token_id"] if "failure_token_id" in asked else asked["end_token_ids"][0]
    except (Refused, KeyError, IndexError, TypeError):
        return min(end_token_ids, default=0)


def check_loads(read: Mapping[str, Any]) -> None:
    """Load the learned samplers of a request.

    Raises
    ------
    Refused
        One cannot be loaded, is another one than the request means, or takes no such preference.
    """
    from adaptive_samplers.samplers.base import load_sampler
    from adaptive_samplers.serving.next_tokens import check_samplers, parsed

    try:
        check_samplers(read["sampler_hashes"])
        for step in parsed(read["processors"]):
            if step.name == LEARNED:
                load_sampler(step.folder, "cpu", step.preference)
    except (UserError, ValueError, OSError) as error:
        raise Refused(f"{FIELD}.processors: {error}") from error


def allowed_samplers() -> list[str]:
    """The entries of `ADAPTIVE_SAMPLERS_FOLDERS`: what requests may name as learned samplers.

    Absolute folders, for all that is in them, and hub ids with a revision, `owner/name@revision`, joined by colons.
    """
    return [entry for entry in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if entry]


def decoded(value: Any) -> Mapping[str, Any]:
    """The request's own map, from JSON or, from Python, as it is."""
    value = _unpacked(FIELD, value, "is not JSON", "give a map in JSON with the key processors")
    if not isinstance(value, Mapping):
        raise Refused(f"{FIELD}: is {_kind(value)}; give a map in JSON with the key processors")
    return value


def _unpacked(key: str, value: Any, problem: str, remedy: str) -> Any:
    """What text says in JSON; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{key}: {problem} ({error}); {remedy}") from error


def _check_the_rest(params: Any) -> None:
    """Refuse what a server's own parameters ask for and would not get, or not in each of its model runners."""
    if (getattr(params, "n", None) or 1) > 1:
        message = (
            "all answers to one request would be the same; send a request for each, with sample_seeds of their own"
        )
        raise Refused(f"n: {params.n} with {FIELD}; {message}")
    neutral = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
    for name, value in neutral.items():
        if getattr(params, name, value) != value:
            raise Refused(
                f"{name}: {getattr(params, name):g} with {FIELD}, whose draws it would not reach or would change; send "
                f"{value:g} (a model's generation_config.json may have set it, which servers can leave out)"
            )
    if getattr(params, "thinking_token_budget", None) is not None:
        raise Refused(f"thinking_token_budget: is not possible with {FIELD}, which draws every token; leave it out")


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    return "null" if value is None else kinds.get(type(value), "a map")


def _shown(value: Any) -> str:
    """A value in few characters: requests may hold anything."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _number(key: str, value: Any, numbers: Numbers) -> float:
    try:
        known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        known = False
    if not known or value not in numbers:
        raise Refused(f"{key}: is {_shown(value)}; allowed: {numbers}")
    return numbers.typed(value)


def _whole(at_least: int, at_most: int) -> Callable[[str, Any], int]:
    def read(key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= at_most:
            raise Refused(f"{key}: is {_shown(value)}; allowed: a whole number from {at_least} to {at_most}")
        return value

    return read


def _list_of(what: str, read: Callable[[str, Any], Any], at_least: int = 0) -> Callable[[str, Any], list]:
    def read_all(key: str, value: Any) -> list:
        if not isinstance(value, list) or len(value) < at_least:
            some = "a list with at least one item" if at_least else "a list"
            raise Refused(f"{key}: is {_shown(value)}; allowed: {some}, each {what}")
        return [read(f"{key}[{place}]", item) for place, item in enumerate(value)]

    return read_all


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Refused(f"{key}: is {_shown(value)}; allowed: text that is not empty")
    return value


def _hashes(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise Refused(f"{key}: is {_kind(value)}; allowed: a map of samplers' folders to the SHA-256 of their weights")
    for folder, found in value.items():
        if not isinstance(found, str) or not re.fullmatch(r"[0-9a-f]{64}", found):
            raise Refused(f"{key}.{folder}: is {_shown(found)}; allowed: a SHA-256, 64 hexadecimal digits")
    return dict(value)


def _processors(key: str, value: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The steps in their interchange form with folders resolved, and the folders by the names in the request."""
    value = _unpacked(key, value, "is text but not JSON", "give a list of steps")
    if not isinstance(value, list):
        raise Refused(f'{key}: is {_kind(value)}; give a list of steps, such as [{{"temperature": 0.7}}]')
    folders: dict[str, str] = {}
    return [_step(f"{key}[{place}]", step, folders) for place, step in enumerate(value)], folders


def _step(key: str, step: Any, folders: dict[str, str]) -> dict[str, Any]:
    known = f"allowed: {', '.join(sorted(HEURISTICS))} and {LEARNED}"
    if not isinstance(step, Mapping) or (len(step) != 1 and set(step) != {"name", "params"}):
        raise Refused(f'{key}: is {_shown(step)}; allowed: a map with one step, such as {{"temperature": 0.7}}')
    if set(step) == {"name", "params"}:
        name, setting = step["name"], step["params"]
        if not isinstance(setting, Mapping):
            raise Refused(f"{key}.params: is {_kind(setting)}; allowed: a map of parameters")
        key = f"{key}.params"
    else:
        ((name, setting),) = step.items()
        key = f"{key}.{name}"
    if name == VERBALIZED:
        raise Refused(f"{key}: says how the model is asked and changes no logits; leave it out")
    if not isinstance(name, str) or (name != LEARNED and name not in HEURISTICS):
        raise Refused(f"{key}: the heuristic {_shown(name)} is not known; {known}")
    if name == LEARNED:
        return {"name": name, "params": _learned(key, setting, folders)}
    ranges = HEURISTICS[name].parameters
    if not isinstance(setting, Mapping):
        if len(ranges) == 1:
            ((parameter, numbers),) = ranges.items()
            return {"name": name, "params": {parameter: _number(key, setting, numbers)}}
        if ranges or setting is not None:
            takes = f"a map of {' and '.join(ranges)}" if ranges else "null"
            raise Refused(f"{key}: is {_shown(setting)}; {name} takes {takes}")
        setting = {}
    if set(setting) != set(ranges):
        takes = ", ".join(f"{parameter}: {numbers}" for parameter, numbers in ranges.items()) or "no parameters"
        raise Refused(f"{key}: has {', '.join(map(str, setting)) or 'no parameters'}; {name} takes {takes}")
    # In the order in which the heuristic takes them.
    values = {one: _number(f"{key}.{one}", setting[one], numbers) for one, numbers in ranges.items()}
    return {"name": name, "params": values}


def _learned(key: str, setting: Any, folders: dict[str, str]) -> dict[str, Any]:
    """A sampler by its folder or hub id, or a map of `path` and `preference`."""
    setting = {"path": setting} if isinstance(setting, str) else setting
    if not isinstance(setting, Mapping) or not {"path"} <= set(setting) <= {"path", "preference"}:
        allowed = "a saved sampler's folder, or a map of path and preference"
        raise Refused(f"{key}: is {_shown(setting)}; allowed: {allowed}")
    name = _text(f"{key}.path", setting["path"])
    folders[name] = _located(f"{key}.path", name)
    params: dict[str, Any] = {"path": folders[name]}
    if "preference" in setting:
        params["preference"] = _number(f"{key}.preference", setting["preference"], PREFERENCES)
    return params


def _located(key: str, name: str) -> str:
    """The folder of a sampler that requests may name; nothing else is looked at on disk or on the hub."""
    allowed = allowed_samplers()
    where = f"those that the server's {FOLDERS_VARIABLE} names"
    if not allowed:
        raise Refused(
            f"{key}: this server has no learned samplers; start it with {FOLDERS_VARIABLE} set to their folders"
        )
    if name in allowed and not name.startswith("/"):
        return _from_hub(name)
    if not name.startswith("/"):
        raise Refused(
            f"{key}: {_shown(name)} is neither an absolute folder nor one of the hub's samplers; allowed: {where}"
        )
    try:
        place = Path(name).resolve()
        inside = any(place.is_relative_to(Path(entry).resolve()) for entry in allowed if entry.startswith("/"))
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise Refused(f"{key}: {_shown(name)} is in none of the allowed folders; allowed: {where}")
    missing = [file for file in _WEIGHTS if not (place / file).is_file()]
    if missing:
        raise Refused(f"{key}: {_shown(name)} has no {missing[0]}; name the folder of a saved sampler")
    return str(place)


@lru_cache(maxsize=64)
def _from_hub(name: str) -> str:
    """The folder of a sampler of the hub that the server's operator allows."""
    from huggingface_hub import snapshot_download

    if not _HUB_ID.fullmatch(name):
        raise Refused(f"{FOLDERS_VARIABLE}: {name} is neither an absolute folder nor owner/name@revision; correct it")
    repository, revision = name.split("@", 1)
    try:
        return str(snapshot_download(repository, revision=revision, allow_patterns=list(_WEIGHTS)))
    except Exception as error:  # of many kinds, from the network and from the hub
        raise Refused(f"{name}: cannot be had from the hub ({error}); the server's operator must fetch it") from error


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "processors": _processors,
    "sample_seed": _whole(0, 2**64 - 1),
    "max_new_tokens": _whole(0, MOST_TOKENS),
    "stop": _list_of("text", _text),
    "end_token_ids": _list_of("a token id", _whole(0, 2**31 - 1), at_least=1),
    "sampler_hashes": _hashes,
    "given": _list_of("a token id", _whole(0, 2**31 - 1)),
    "failure_token_id": _whole(0, 2**31 - 1),
}
