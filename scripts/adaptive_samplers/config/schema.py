"""The schema in config/schemas/config.schema.yaml: how it is read, and the defaults that it fills in."""

import copy
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

# Part of the package, so that an installed library has it too; config/schemas is a link to its folder.
SCHEMA_PATH = files("adaptive_samplers.config") / "schemas" / "config.schema.yaml"

Schema = Mapping[str, Any]


@cache
def config_schema() -> Schema:
    """The schema of a whole config."""
    return yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))


def resolve(schema: Schema) -> Schema:
    """The schema itself, or the definition that it refers to with what it says in place of it, such as a default."""
    if "$ref" not in schema:
        return schema
    own = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
    return config_schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")] | own


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
    """Which alternative of `oneOf` a value means to be: the one of its `kind`, or else of its type."""
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
    schema = resolve(schema)
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
        return [complete(item, schema["items"]) for item in value]
    if schema.get("format") == "path" and isinstance(value, str):
        return os.path.expanduser(value)
    if not is_type(value, ["number"]):
        return copy.deepcopy(value)
    if "integer" in types_of(schema) and float(value).is_integer():
        return int(value)
    return float(value) if "number" in types_of(schema) else value


def _complete_map(value: Mapping[Any, Any], schema: Schema) -> dict[str, Any]:
    # YAML reads keys such as `on` and `1` as other things than text.
    completed = {str(key): complete(item, schema["properties"].get(key, {})) for key, item in value.items()}
    for key, part in schema["properties"].items():
        part = resolve(part)
        if key in completed:
            continue
        if "default" in part:
            completed[key] = complete(part["default"], part)
        elif part.get("type") == "object" and key not in schema.get("required", []):
            completed[key] = complete({}, part)
    return completed
