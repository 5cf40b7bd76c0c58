"""What JSON Schema finds wrong with a config, in sentences."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jsonschema import ValidationError

from adaptive_samplers.config.keys import known_keys
from adaptive_samplers.config.problems import KeyPath, Problems
from adaptive_samplers.config.schema import Schema, Validator, branch_index, config_schema, kinds_of
from adaptive_samplers.config.words import allowed_values, join, show, suggest, type_advice, wrong_type

# Keys that were renamed.
RENAMED = {
    "sampler_rounds": "sampler_generations",
    "gamma": "training.objectives",
    "objective": "training.objectives",
    "prompts_per_round": "iteration.prompts_per_iteration",
}


def check_schema(config: Mapping[str, Any], problems: Problems) -> None:
    """Add what is wrong with a config according to the schema to the problems."""
    errors = list(_meant_errors(Validator(config_schema()).iter_errors(config)))
    # A value of the wrong type breaks other rules too; only the type is worth reporting.
    for error in sorted(errors, key=lambda error: error.validator != "type"):
        _translate(error, tuple(error.absolute_path), problems)


def _meant_errors(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """For a value that fits no alternative of `oneOf`, only the errors against the alternative that was meant."""
    for error in errors:
        index = branch_index(error.schema, error.instance) if error.validator == "oneOf" else None
        if index is None:
            yield error
        else:
            yield from _meant_errors(part for part in error.context if part.schema_path[0] == index)


def _translate(error: ValidationError, path: KeyPath, problems: Problems) -> None:
    value, schema = error.instance, error.schema
    allowed = f"allowed: {allowed_values(schema)}"
    if error.validator == "additionalProperties":
        for key in value:
            if key not in schema["properties"]:
                problems.add((*path, key), _unknown_key(key, schema))
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in value:
                part = schema["properties"][key]
                example = f"; for example `{part['x-example']}`" if "x-example" in part else ""
                problems.add((*path, key), f"is missing; allowed: {allowed_values(part)}{example}")
    elif error.validator == "oneOf" and isinstance(value, Mapping):
        kinds = kinds_of(schema)
        wrong = f"{show(value['kind'])} is not a known kind" if "kind" in value else "is missing"
        problems.add((*path, "kind"), f"{wrong}; allowed: {join(kinds, 'or')}{suggest(value.get('kind'), kinds)}")
    elif error.validator in ("type", "oneOf"):
        problems.add(path, f"{wrong_type(value, schema)}; {allowed}{type_advice(value, schema)}")
    elif error.validator == "enum":
        names = [name for name in error.validator_value if isinstance(name, str)]
        problems.add(path, f"{show(value)} is not known; {allowed}{suggest(value, names)}")
    elif error.validator == "uniqueItems":
        for index, item in enumerate(value):
            if item in value[:index]:
                problems.add((*path, index), f"{show(item)} is listed twice; allowed: each value once")
    elif error.validator in ("minItems", "minLength", "minProperties"):
        problems.add(path, f"is empty; {allowed}")
    elif error.validator == "maxProperties":
        problems.add(path, f"has {len(value)} keys ({join(map(str, value))}); {allowed}")
    elif error.validator == "pattern":
        problems.add(path, f"{show(value)} is not allowed; {allowed}")
    else:
        problems.add(path, f"{show(value)} is out of range; {allowed}")


def _unknown_key(key: str, schema: Schema) -> str:
    here = list(schema["properties"])
    suggestion = f". It is '{RENAMED[key]}' now" if key in RENAMED else suggest(key, here)
    if not suggestion:
        elsewhere = [known.path for known in known_keys() if known.path.rsplit(".", 1)[-1] == key]
        # Rather one that is there once than one of the entries of a list.
        meant = [path for path in elsewhere if "[]" not in path] or elsewhere
        quoted = join([f"'{path}'" for path in meant], "or")
        suggestion = f". Did you mean {quoted}?" if 0 < len(meant) < 3 else ""
    return f"unknown {schema.get('x-noun', 'key')}; allowed: {join(here)}{suggestion}"
