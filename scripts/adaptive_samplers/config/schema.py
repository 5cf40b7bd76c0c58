"""The schema from the config's model, with every section spelled out, and the defaults that it fills in."""

import copy
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from adaptive_samplers.config.model import Config

Schema = Mapping[str, Any]


@cache
def config_schema() -> Schema:
    """The schema of a whole config.

    It is pydantic's, except that every section is inlined where it is used, with its name under `x-section`; a value
    that may be null has a list of types; and other alternatives are `oneOf`.
    """
    schema = Config.model_json_schema()
    return _spelled_out(schema, schema["$defs"])


def _spelled_out(node: Any, sections: Mapping[str, Schema]) -> Any:
    if isinstance(node, list):
        return [_spelled_out(item, sections) for item in node]
    if not isinstance(node, Mapping):
        return node
    own = {key: value for key, value in node.items() if key not in ("$ref", "$defs", "title", "discriminator")}
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        return _spelled_out(sections[name], sections) | {"x-section": name} | own
    # Values in the schema that are not schemas stay as they are.
    plain = ("default", "enum", "const", "required", "description", "pattern")
    own = {key: value if key in plain else _of_keyword(key, value, sections) for key, value in own.items()}
    return _alternatives(own)


def _of_keyword(keyword: str, value: Any, sections: Mapping[str, Schema]) -> Any:
    if keyword == "properties":
        return {name: _spelled_out(_as_choice(part, sections), sections) for name, part in value.items()}
    return value if keyword.startswith("x-") else _spelled_out(value, sections)


def _as_choice(part: Schema, sections: Mapping[str, Schema]) -> Schema:
    """A section with a kind as a choice among kinds, even if there is only one."""
    section = sections.get(part.get("$ref", "").removeprefix("#/$defs/"), {})
    if "const" not in section.get("properties", {}).get("kind", {}):
        return part
    return {key: value for key, value in part.items() if key != "$ref"} | {"oneOf": [{"$ref": part["$ref"]}]}


def _alternatives(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema whose alternatives are a list of types, if they are one type and null, or else `oneOf`."""
    if "oneOf" in schema:
        names = "|".join(branch["x-section"] for branch in schema["oneOf"])
        return {"type": "object", "x-section": names} | schema
    if "anyOf" not in schema:
        return schema
    own = {key: value for key, value in schema.items() if key != "anyOf"}
    null = {"type": "null"}
    others = [part for part in schema["anyOf"] if part != null]
    if len(others) > 1:
        return {"oneOf": others} | own
    only = dict(others[0])
    if "oneOf" in only:
        only["oneOf"] = [*only["oneOf"], null]
    if "enum" in only:
        only["enum"] = [*only["enum"], None]
    return only | {"type": [only["type"], "null"]} | own


def types_of(schema: Schema) -> list[str]:
    """The names of the types that a schema allows; empty where it names none."""
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


def _is_number(checker: Any, value: Any) -> bool:
    # Infinity and not-a-number compare as if in range, or never out of it.
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) <= sys.float_info.max


def _check_whole_pattern(validator: Any, pattern: str, value: Any, schema: Schema) -> Iterator[ValidationError]:
    # `$` alone would let a final newline pass.
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


Validator = extend(
    Draft202012Validator,
    {"pattern": _check_whole_pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_number),
)


def is_type(value: Any, types: Iterable[str]) -> bool:
    """Whether a value is of one of the types that JSON Schema names; no number is infinite or a truth value."""
    return any(Validator.TYPE_CHECKER.is_type(value, name) for name in types)


def branch_index(schema: Schema, value: Any) -> int | None:
    """Which alternative of `oneOf` a value is meant to be: the one of its `kind`, or else of its type."""
    for index, branch in enumerate(schema["oneOf"]):
        kind = branch.get("properties", {}).get("kind")
        if kind is None:
            if is_type(value, types_of(branch)):
                return index
        elif isinstance(value, Mapping) and value.get("kind") == kind["const"]:
            return index
    return None


def kinds_of(schema: Schema) -> list[str]:
    """The kinds among which `oneOf` chooses; empty where it chooses by type."""
    branches = [branch.get("properties", {}) for branch in schema.get("oneOf", [])]
    return [branch["kind"]["const"] for branch in branches if "kind" in branch]


def complete(value: Any, schema: Schema) -> Any:
    """A copy of a value with the schema's defaults, number types and `~` in paths as the home folder.

    What does not fit the schema is only copied.
    """
    if "oneOf" in schema:
        index = branch_index(schema, value)
        if index is None:
            return copy.deepcopy(value)
        branch = schema["oneOf"][index]
        if isinstance(value, Mapping):
            elsewhere = {key for other in schema["oneOf"] for key in other.get("properties", {})}
            value = {key: item for key, item in value.items() if key in branch["properties"] or key not in elsewhere}
        return complete(value, branch)
    if isinstance(value, Mapping) and "properties" in schema:
        return _complete_map(value, schema)
    if isinstance(value, list) and "items" in schema:
        paths = {"x-path": True} if schema.get("x-path") else {}
        return [complete(item, schema["items"] | paths) for item in value]
    if schema.get("x-path") and isinstance(value, str):
        return os.path.expanduser(value)
    if not is_type(value, ["number"]):
        return copy.deepcopy(value)
    if "integer" in types_of(schema) and float(value).is_integer():
        return int(value)
    return float(value) if "number" in types_of(schema) else value


def _complete_map(value: Mapping[Any, Any], schema: Schema) -> dict[str, Any]:
    # YAML does not read keys such as `on` and `1` as text.
    completed = {str(key): complete(item, schema["properties"].get(key, {})) for key, item in value.items()}
    for key, part in schema["properties"].items():
        if key in completed:
            continue
        if "default" in part:
            completed[key] = complete(part["default"], part)
        elif part.get("type") == "object" and key not in schema.get("required", []):
            completed[key] = complete({}, part)
    return completed
