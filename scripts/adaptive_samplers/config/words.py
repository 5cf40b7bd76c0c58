"""Values, and what the schema allows instead, in words."""

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from adaptive_samplers.config.schema import Schema, kinds_of, types_of

_TYPE_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}


def allowed_values(schema: Schema, with_keys: bool = True) -> str:
    """What a schema allows, in words: `a number above 0 and at most 1`; of a map also its keys, if `with_keys`."""
    if "x-allowed" in schema:
        return schema["x-allowed"]
    if kinds_of(schema):
        otherwise = " or null" if "null" in types_of(schema) else ""
        return f"a map with a kind: {join(kinds_of(schema), 'or')}{otherwise}"
    if "oneOf" in schema:
        return " or ".join(allowed_values(branch, with_keys) for branch in schema["oneOf"])
    if "enum" in schema:
        return join(["null" if value is None else str(value) for value in schema["enum"]], "or")
    return " or ".join(_allowed_of_type(name, schema, with_keys) for name in types_of(schema))


def _allowed_of_type(name: str, schema: Schema, with_keys: bool) -> str:
    if name == "array":
        return _allowed_list(schema)
    if name == "object":
        return f"a map with the keys {join(schema['properties'])}" if with_keys else "a map"
    if name == "string" and schema.get("minLength"):
        return "text that is not empty"
    if name not in ("integer", "number"):
        return _TYPE_WORDS[name]
    limits = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    bounds = [f"{words} {show(schema[keyword])}" for keyword, words in limits.items() if keyword in schema]
    return " ".join([_TYPE_WORDS[name], " and ".join(bounds)]).rstrip()


def _allowed_list(schema: Schema) -> str:
    item = schema["items"]
    length = "a list with at least one item" if schema.get("minItems") else "a list"
    item_type = item.get("type")
    return f"{length}, each " + {"array": "a list", "object": "a map"}.get(item_type, allowed_values(item))


def wrong_type(value: Any, schema: Schema) -> str:
    """What a value is whose type a schema does not allow: `'x' is text`."""
    if isinstance(value, float) and math.isfinite(value) and "integer" in types_of(schema):
        return f"{show(value)} is not a whole number"
    kind = kind_of(value)
    is_shown = isinstance(value, str | int | float) and "finite" not in kind
    return f"{show(value)} is {kind}" if is_shown else f"is {kind}"


def type_advice(value: Any, schema: Schema) -> str:
    """`; write 0.003` or the like if YAML read a type other than the intended one, or nothing."""
    if isinstance(value, int | float) and "string" in types_of(schema):
        return "; put it in quotes"
    if isinstance(value, str) and {"number", "integer"} & set(types_of(schema)):
        try:
            number = Decimal(value)
        except InvalidOperation:
            return ""
        # YAML takes 3e-3, without a dot, as text.
        return f"; write {number:f}" if number.is_finite() and abs(number.adjusted()) < 20 else ""
    return ""


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, float) and not math.isfinite(value):
        return "not a finite number"
    kinds: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "a truth value"),
        (int, "a whole number"),
        (float, "a number"),
        (str, "text"),
        (Mapping, "a map of keys"),
        (list, "a list"),
        (type(None), "empty (null)"),
    ]
    return next((words for kind, words in kinds if isinstance(value, kind)), f"a {type(value).__name__}")


def show(value: Any) -> str:
    """A value as written in YAML, shortened."""
    if isinstance(value, str):
        shown = value if len(value) <= 60 else value[:57] + "..."
        return f"'{shown}'"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    if isinstance(value, Mapping | list):
        return kind_of(value)
    return json.dumps(value, default=str)


def join(names: Iterable[str], conjunction: str = "and") -> str:
    """Names in a row: `a, b and c`."""
    names = list(names)
    return ", ".join(names[:-1]) + f" {conjunction} {names[-1]}" if len(names) > 1 else "".join(names)


def suggest(name: Any, known: Iterable[str]) -> str:
    """`. Did you mean 'x'?` with the known name that is nearest, or nothing if none is near."""
    plain = {re.sub(r"[-\s]", "_", candidate).lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(re.sub(r"[-\s]", "_", str(name)).lower(), plain, n=1)
    return f". Did you mean '{plain[nearest[0]]}'?" if nearest else ""
