"""The configuration: defaults, validation before any job starts, and the slices of it that rules depend on.

What a config may hold is said once, in config/schemas/config.schema.yaml, and of heuristics in their definitions. This
module fills in the schema's defaults, turns what JSON Schema finds wrong into sentences, and adds the checks that a
schema cannot express. All problems are
reported together, a line each.
"""

import copy
import difflib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import HEURISTICS, Numbers, Pipeline, pipeline_name
from adaptive_samplers.heuristics.pipelines import configured_pipeline, grid_pipelines
from adaptive_samplers.heuristics.registry import LEARNED, Heuristic

SCHEMA_PATH = Path(__file__).resolve().parents[2] / "config" / "schemas" / "config.schema.yaml"

KeyPath = tuple[str | int, ...]
Schema = Mapping[str, Any]


def load_config(raw: Mapping[str, Any], base_folder: Path) -> dict[str, Any]:
    """Check a config and fill in its defaults.

    Whole numbers come back as `int` and other numbers as `float`, whichever way they were written, so that `1` and
    `1.0` mean the same to Snakemake. Of a model's source, keys that belong to another kind of source are left out, and
    so are architectures set to null: both remain when a config of one's own is layered over config/config.yaml.

    Parameters
    ----------
    raw
        The config as read from YAML; it is not changed.
    base_folder
        Folder to which the paths in the config are relative.

    Returns
    -------
    dict
        A new, complete config.

    Raises
    ------
    UserError
        With a line for each problem: the key, what is wrong with its value, what is allowed, and the nearest name.
    """
    if not isinstance(raw, Mapping):
        raise UserError(
            f"The config is {_kind_of(raw)}; it must be a map with the keys {_join(_schema()['properties'])}"
        )
    config = _complete(raw, _schema())
    problems = Problems()
    _check_schema(config, problems)
    for check in _CHECKS:
        check(config, problems, Path(base_folder))
    problems.raise_if_any()
    config["samplers"] = {name: options for name, options in config["samplers"].items() if options is not None}
    return config


def config_slice(config: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The part of a complete config under dotted keys, for a rule's `params`: `config_slice(config, "run.seed")`.

    Returns a nested plain dict with sorted keys, which shares nothing with `config`. Raises KeyError for a key that the
    config does not have.
    """
    picked: dict[str, Any] = {}
    for key in keys:
        value: Any = config
        target = picked
        names = key.split(".")
        for depth, name in enumerate(names):
            if not isinstance(value, Mapping) or name not in value:
                raise KeyError(f"the config has no key '{key}'")
            value = value[name]
            if depth < len(names) - 1:
                target = target.setdefault(name, {})
        target[names[-1]] = copy.deepcopy(value)
    return _sort_keys(picked)


def _sort_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sort_keys(value[key]) for key in sorted(value)}
    return [_sort_keys(item) for item in value] if isinstance(value, list) else value


_WEIGHT_LABELS = {"a": "diversity", "b": "quality", "c": "correctness"}


def weight_name(weights: Mapping[str, float]) -> str:
    """The name of a weighting in paths and tables, such as `a0.7_b0.3_c0` for diversity, quality and correctness."""
    return "_".join(f"{letter}{weights[label]:g}" for letter, label in _WEIGHT_LABELS.items())


def weight_names(config: Mapping[str, Any]) -> list[str]:
    """The names of all weightings in a complete config, in its order."""
    return [weight_name(weights) for weights in config["scoring"]["weights"]]


def parse_weight_name(name: str) -> dict[str, float]:
    """The weighting that `weight_name` gave a name. Raises UserError if the name is not of that form."""
    number = r"(\d+(?:\.\d+)?(?:e[+-]\d+)?)"
    match = re.fullmatch(f"a{number}_b{number}_c{number}", name)
    if match is None:
        raise UserError(
            f"'{name}' does not name a weighting; names look like a0.7_b0.3_c0 (diversity, quality, correctness)"
        )
    return {label: float(text) for label, text in zip(_WEIGHT_LABELS.values(), match.groups(), strict=True)}


class Problems:
    """What is wrong with a config, at most one problem for each key."""

    def __init__(self) -> None:
        self._found: dict[KeyPath, str] = {}

    def add(self, path: KeyPath, message: str) -> None:
        self._found.setdefault(path, message)

    def clean(self, *path: str | int) -> bool:
        """Whether nothing is known to be wrong with a value, with what contains it, or with what it contains."""
        return not any(all(a == b for a, b in zip(path, known, strict=False)) for known in self._found)

    def raise_if_any(self) -> None:
        """Raise one UserError that lists everything."""
        if self._found:
            count = "a problem" if len(self._found) == 1 else f"{len(self._found)} problems"
            # Numbers sort by value and never meet text: a key's children are either named or numbered.
            found = sorted(self._found.items(), key=lambda item: [(type(key).__name__, key) for key in item[0]])
            lines = [f"  {_on_one_line(f'{dotted(path)}: {message}')}" for path, message in found]
            raise UserError("\n".join([f"The config has {count}:", *lines]))


def _on_one_line(text: str) -> str:
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def dotted(path: Iterable[str | int]) -> str:
    """A key's path as users write it, such as `heuristics.grid[2].values[0]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def suggest(name: Any, known: Iterable[str]) -> str:
    """`. Did you mean 'x'?` with the known name that is nearest, or nothing if none is near."""
    plain = {re.sub(r"[-\s]", "_", candidate).lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(re.sub(r"[-\s]", "_", str(name)).lower(), plain, n=1)
    return f". Did you mean '{plain[nearest[0]]}'?" if nearest else ""


@cache
def _schema() -> Schema:
    return yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))


def _resolve(schema: Schema) -> Schema:
    """The schema itself, or the definition that it refers to."""
    reference = schema.get("$ref")
    return _schema()["$defs"][reference.removeprefix("#/$defs/")] if reference else schema


def _types(schema: Schema) -> list[str]:
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


_Validator = extend(
    Draft202012Validator,
    {"pattern": _check_whole_pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_number),
)


def _is_type(value: Any, types: Iterable[str]) -> bool:
    return any(_Validator.TYPE_CHECKER.is_type(value, name) for name in types)


def _branch_index(schema: Schema, value: Any) -> int | None:
    """Which alternative of `oneOf` a value means to be: the one of its `kind`, or else of its type."""
    for index, branch in enumerate(schema["oneOf"]):
        kind = branch.get("properties", {}).get("kind")
        if kind is None:
            if _is_type(value, _types(branch)):
                return index
        elif isinstance(value, Mapping) and value.get("kind") == kind["const"]:
            return index
    return None


def _kinds(schema: Schema) -> list[str]:
    """The kinds among which `oneOf` chooses; empty where it chooses by type."""
    branches = [branch.get("properties", {}) for branch in schema.get("oneOf", [])]
    return [branch["kind"]["const"] for branch in branches if "kind" in branch]


def _complete(value: Any, schema: Schema) -> Any:
    """A copy of a value with the schema's defaults and number types; what does not fit the schema is only copied."""
    schema = _resolve(schema)
    if "oneOf" in schema:
        index = _branch_index(schema, value)
        if index is None:
            return copy.deepcopy(value)
        branch = schema["oneOf"][index]
        if isinstance(value, Mapping):
            elsewhere = {key for other in schema["oneOf"] for key in other.get("properties", {})}
            value = {key: item for key, item in value.items() if key in branch["properties"] or key not in elsewhere}
        return _complete(value, branch)
    if isinstance(value, Mapping) and "properties" in schema:
        return _complete_map(value, schema)
    if isinstance(value, list) and "items" in schema:
        return [_complete(item, schema["items"]) for item in value]
    if not _is_type(value, ["number"]):
        return copy.deepcopy(value)
    if "integer" in _types(schema) and float(value).is_integer():
        return int(value)
    return float(value) if "number" in _types(schema) else value


def _complete_map(value: Mapping[Any, Any], schema: Schema) -> dict[str, Any]:
    # YAML reads keys such as `on` and `1` as other things than text.
    completed = {str(key): _complete(item, schema["properties"].get(key, {})) for key, item in value.items()}
    for key, part in schema["properties"].items():
        part = _resolve(part)
        if key in completed:
            continue
        if "default" in part:
            completed[key] = _complete(part["default"], part)
        elif part.get("type") == "object" and key not in schema.get("required", []):
            completed[key] = _complete({}, part)
    return completed


_TYPE_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}


def allowed_values(schema: Schema, with_keys: bool = True) -> str:
    """What a schema allows, in words: `a number above 0 and at most 1`; of a map also its keys, if `with_keys`."""
    schema = _resolve(schema)
    if "x-allowed" in schema:
        return schema["x-allowed"]
    if _kinds(schema):
        return f"a map with a kind: {_join(_kinds(schema), 'or')}"
    if "oneOf" in schema:
        return " or ".join(allowed_values(branch, with_keys) for branch in schema["oneOf"])
    if "enum" in schema:
        return _join(["null" if value is None else str(value) for value in schema["enum"]], "or")
    return " or ".join(_allowed_of_type(name, schema, with_keys) for name in _types(schema))


def _allowed_of_type(name: str, schema: Schema, with_keys: bool) -> str:
    if name == "array":
        return _allowed_list(schema)
    if name == "object":
        return f"a map with the keys {_join(schema['properties'])}" if with_keys else "a map"
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
    bounds = [f"{words} {_show(schema[keyword])}" for keyword, words in limits.items() if keyword in schema]
    return " ".join([_TYPE_WORDS[name], " and ".join(bounds)]).rstrip()


def _allowed_list(schema: Schema) -> str:
    item = _resolve(schema["items"])
    length = "a list with at least one item" if schema.get("minItems") else "a list"
    item_type = item.get("type")
    return f"{length}, each " + {"array": "a list", "object": "a map"}.get(item_type, allowed_values(item))


def _join(names: Iterable[str], conjunction: str = "and") -> str:
    names = list(names)
    return ", ".join(names[:-1]) + f" {conjunction} {names[-1]}" if len(names) > 1 else "".join(names)


def _show(value: Any) -> str:
    """A value as it would stand in YAML, shortened."""
    if isinstance(value, str):
        shown = value if len(value) <= 60 else value[:57] + "..."
        return f"'{shown}'"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    if isinstance(value, Mapping | list):
        return _kind_of(value)
    return json.dumps(value, default=str)


def _kind_of(value: Any) -> str:
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


def _check_schema(config: Mapping[str, Any], problems: Problems) -> None:
    errors = list(_meant_errors(_Validator(_schema()).iter_errors(config)))
    # A value of the wrong type breaks other rules too; only the type is worth telling.
    for error in sorted(errors, key=lambda error: error.validator != "type"):
        _translate(error, tuple(error.absolute_path), problems)


def _meant_errors(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """For a value that fits no alternative of `oneOf`, only the errors against the alternative that was meant."""
    for error in errors:
        index = _branch_index(error.schema, error.instance) if error.validator == "oneOf" else None
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
                part = _resolve(schema["properties"][key])
                problems.add((*path, key), f"is missing; allowed: {allowed_values(part)}")
    elif error.validator == "oneOf" and isinstance(value, Mapping):
        kinds = _kinds(schema)
        wrong = f"{_show(value['kind'])} is not a known kind" if "kind" in value else "is missing"
        problems.add((*path, "kind"), f"{wrong}; allowed: {_join(kinds, 'or')}{suggest(value.get('kind'), kinds)}")
    elif error.validator in ("type", "oneOf"):
        problems.add(path, f"{_wrong_type(value, schema)}; {allowed}{_type_advice(value, schema)}")
    elif error.validator == "enum":
        names = [name for name in error.validator_value if name is not None]
        problems.add(path, f"{_show(value)} is not known; {allowed}{suggest(value, names)}")
    elif error.validator == "uniqueItems":
        for index, item in enumerate(value):
            if item in value[:index]:
                problems.add((*path, index), f"{_show(item)} is listed twice; allowed: each value once")
    elif error.validator in ("minItems", "minLength", "minProperties"):
        problems.add(path, f"is empty; {allowed}")
    elif error.validator == "maxProperties":
        problems.add(path, f"has {len(value)} keys ({_join(map(str, value))}); {allowed}")
    elif error.validator == "pattern":
        problems.add(path, f"{_show(value)} is not allowed; {allowed}")
    else:
        problems.add(path, f"{_show(value)} is out of range; {allowed}")


def _unknown_key(key: str, schema: Schema) -> str:
    here = list(schema["properties"])
    suggestion = suggest(key, here)
    if not suggestion:
        elsewhere = [path for path in _known_keys() if path.rsplit(".", 1)[-1] == key]
        suggestion = f". Did you mean '{elsewhere[0]}'?" if len(elsewhere) == 1 else ""
    return f"unknown {schema.get('x-noun', 'key')}; allowed: {_join(here)}{suggestion}"


def _wrong_type(value: Any, schema: Schema) -> str:
    if isinstance(value, float) and math.isfinite(value) and "integer" in _types(schema):
        return f"{_show(value)} is not a whole number"
    kind = _kind_of(value)
    is_shown = isinstance(value, str | int | float) and "finite" not in kind
    return f"{_show(value)} is {kind}" if is_shown else f"is {kind}"


def _type_advice(value: Any, schema: Schema) -> str:
    if isinstance(value, int | float) and "string" in _types(schema):
        return "; put it in quotes"
    if isinstance(value, str) and {"number", "integer"} & set(_types(schema)):
        try:
            number = Decimal(value)
        except InvalidOperation:
            return ""
        # YAML takes 3e-3, without a dot, as text.
        return f"; write {number:f}" if number.is_finite() and abs(number.adjusted()) < 20 else ""
    return ""


# The checks that a schema cannot express look only at values with which nothing is wrong so far.


def _check_split(config: dict, problems: Problems, base_folder: Path) -> None:
    if problems.clean("prompts", "split"):
        shares = config["prompts"]["split"]
        total = math.fsum(shares.values())
        if abs(total - 1) > 1e-6:
            listed = _join([f"{name} {_show(share)}" for name, share in shares.items()])
            problems.add(("prompts", "split"), f"the shares {listed} sum to {total:g}; allowed: shares that sum to 1")


def _check_files(config: dict, problems: Problems, base_folder: Path) -> None:
    wanted: list[tuple[KeyPath, str]] = []
    if problems.clean("prompts", "sources"):
        sources = config["prompts"]["sources"]
        wanted += [(("prompts", "sources", i, "path"), source["path"]) for i, source in enumerate(sources)]
    if problems.clean("labels", "quality", "judge", "pairs"):
        wanted.append((("labels", "quality", "judge", "pairs"), config["labels"]["quality"]["judge"]["pairs"]))
    if problems.clean("labels", "overlap", "corpus"):
        corpus = config["labels"]["overlap"]["corpus"]
        wanted += [(("labels", "overlap", "corpus", i), name) for i, name in enumerate(corpus)]
    for path, name in wanted:
        _check_exists(path, name, base_folder, Path.is_file, "file", problems)


def _check_exists(
    path: KeyPath, name: str, base_folder: Path, exists: Callable[[Path], bool], kind: str, problems: Problems
) -> None:
    place = base_folder / name
    if exists(place):
        return
    if place.exists():
        problems.add(path, f"'{name}' is not a {kind}; allowed: a {kind}")
        return
    near = ""
    if place.parent.is_dir():
        near = suggest(place.name, sorted(entry.name for entry in place.parent.iterdir() if exists(entry)))
    problems.add(path, f"'{name}' does not exist; allowed: a {kind}, relative to {base_folder}{near}")


def _check_models(config: dict, problems: Problems, base_folder: Path) -> None:
    places: list[KeyPath] = [("model",), ("labels", "embedder")]
    models = [(place, _at(config, place)) for place in places if problems.clean(*place)]
    for place, model in models:
        source = model["source"]
        path = (*place, "source", "path")
        if source["kind"] == "folder":
            _check_exists(path, source["path"], base_folder, Path.is_dir, "folder", problems)
        elif source["kind"] == "package":
            parts = source["path"].split("/")
            if ".." in parts or source["path"].startswith("/"):
                problems.add(path, f"'{source['path']}' leaves the package; allowed: a path inside the wheel")
    if len(models) == 2:
        (_, base), (_, embedder) = models
        if base["name"] == embedder["name"] and base["source"] != embedder["source"]:
            problems.add(
                ("labels", "embedder", "name"),
                f"'{embedder['name']}' is the base model's name too, but another model; allowed: a name of its own",
            )


def _at(config: Any, path: Iterable[str | int]) -> Any:
    for key in path:
        config = config[key]
    return config


def _check_heuristics(config: dict, problems: Problems, base_folder: Path) -> None:
    if not isinstance(config.get("heuristics"), dict):
        return
    chains = [
        *_grid_chains(config["heuristics"].get("grid"), problems),
        *_pipeline_chains(("heuristics", "pipelines"), config["heuristics"].get("pipelines"), problems, base_folder),
    ]
    first_place: dict[Pipeline, KeyPath] = {}
    for path, chain in chains:
        if chain in first_place and problems.clean(*path):
            first = first_place[chain]
            where = "in the same entry" if first == path else f"in {dotted(first)}"
            problems.add(path, f"{pipeline_name(chain)} is already listed {where}; allowed: each heuristic once")
        first_place.setdefault(chain, path)
    if problems.clean("heuristics"):
        if len(chains) < 2:
            problems.add(
                ("heuristics",), f"holds {len(chains)} in all; allowed: at least 2, for a tournament needs two"
            )
        elif problems.clean("scoring", "top_k"):
            for i, kept in enumerate(config["scoring"]["top_k"]):
                if kept > len(chains):
                    problems.add(
                        ("scoring", "top_k", i),
                        f"{kept} is more than there are answers to a prompt with one seed;"
                        f" allowed: at most {len(chains)}, the number of heuristics",
                    )


def _grid_chains(grid: Any, problems: Problems) -> list[tuple[KeyPath, Pipeline]]:
    """The chains of a grid with the entries that they come from; checks settings on the way and types them."""
    chains = []
    for index, block in enumerate(grid if isinstance(grid, list) else []):
        path: KeyPath = ("heuristics", "grid", index)
        if not problems.clean(*path):
            continue
        degrees = block["temperatures"]
        block["temperatures"] = [
            _check_setting("temperature", value, (*path, "temperatures", i), problems)
            for i, value in enumerate(degrees)
        ]
        family, values = block["family"], block.get("values")
        if family not in HEURISTICS:
            message = f"{_show(family)} is not known; allowed: {_join(HEURISTICS, 'or')}{suggest(family, HEURISTICS)}"
            problems.add((*path, "family"), message)
        elif family == "temperature":
            if values is not None:
                message = "the family 'temperature' takes no values; allowed: its temperatures, in `temperatures`"
                problems.add((*path, "values"), message)
        elif not HEURISTICS[family].parameters:
            if values is not None:
                problems.add((*path, "values"), f"the family '{family}' takes no values; leave them out")
        elif values is None:
            message = f"is missing; the family '{family}' needs a list, each {_allowed_setting(HEURISTICS[family])}"
            problems.add((*path, "values"), message)
        else:
            block["values"] = [
                _check_setting(family, value, (*path, "values", i), problems) for i, value in enumerate(values)
            ]
        if problems.clean(*path):
            chains += [(path, chain) for chain in grid_pipelines(block)]
    return chains


def _pipeline_chains(
    key: KeyPath, pipelines: Any, problems: Problems, base_folder: Path
) -> list[tuple[KeyPath, Pipeline]]:
    """The chains of explicit pipelines with their places; checks settings on the way and types them."""
    chains = []
    for index, steps in enumerate(pipelines if isinstance(pipelines, list) else []):
        path = (*key, index)
        if not problems.clean(*path):
            continue
        for i, step in enumerate(steps):
            ((name, setting),) = step.items()
            place = (*path, i, str(name))
            if name in HEURISTICS:
                step[name] = _check_setting(name, setting, place, problems)
            elif name != LEARNED:
                known = [*HEURISTICS, LEARNED]
                problems.add(place, f"unknown processor; allowed: {_join(known, 'or')}{suggest(name, known)}")
            elif not isinstance(setting, str):
                problems.add(place, f"{_wrong_type(setting, {})}; allowed: the folder of a saved sampler")
            else:
                kind = "folder with a saved sampler's config.json"
                _check_exists(place, setting, base_folder, _is_saved_sampler, kind, problems)
        if problems.clean(*path):
            chains.append((path, configured_pipeline(steps)))
    return chains


def _check_setting(family: str, setting: Any, path: KeyPath, problems: Problems) -> Any:
    """The setting of a family with its numbers typed; what is wrong with it is added to the problems."""
    parameters = HEURISTICS[family].parameters
    if len(parameters) == 1:
        ((name, numbers),) = parameters.items()
        return _check_number(family, name, setting, numbers, path, problems)
    if not parameters:
        if setting is not None:
            problems.add(path, f"{family} takes no parameters; allowed: {family}: null")
        return None
    if not isinstance(setting, Mapping):
        allowed = _allowed_setting(HEURISTICS[family])
        problems.add(path, f"{_wrong_type(setting, {})}; {family} has several parameters; allowed: {allowed}")
        return setting
    for key in setting:
        if key not in parameters:
            message = f"unknown parameter of {family}; allowed: {_join(parameters)}{suggest(key, parameters)}"
            problems.add((*path, str(key)), message)
    for name, numbers in parameters.items():
        if name not in setting:
            problems.add((*path, name), f"is missing; {family} needs it; allowed: {numbers}")
    return {
        name: _check_number(family, name, value, parameters[name], (*path, name), problems)
        for name, value in setting.items()
        if name in parameters
    }


def _check_number(family: str, name: str, value: Any, numbers: Numbers, path: KeyPath, problems: Problems) -> Any:
    kind = {"type": "number"}
    if not _is_type(value, ["number"]):
        advice = _type_advice(value, kind)
        problems.add(path, f"{_wrong_type(value, kind)}; allowed as {family}'s {name}: {numbers}{advice}")
    elif value not in numbers:
        problems.add(path, f"{_show(value)} is out of range for {family}'s {name}; allowed: {numbers}")
    else:
        return numbers.typed(value)
    return value


def _allowed_setting(heuristic: Heuristic) -> str:
    """What a family's setting may be: `p: a number above 0 and at most 1`, or a map of several."""
    words = [f"{name}: {numbers}" for name, numbers in heuristic.parameters.items()]
    return words[0] if len(words) == 1 else f"a map with {_join(words)}"


def _is_saved_sampler(place: Path) -> bool:
    return (place / "config.json").is_file()


def _check_scoring(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("scoring", "weights"):
        return
    first_place: dict[str, int] = {}
    one_seed = problems.clean("seeds") and len(config["seeds"]) == 1
    for i, weights in enumerate(config["scoring"]["weights"]):
        path: KeyPath = ("scoring", "weights", i)
        name = weight_name(weights)
        if not any(weights.values()):
            problems.add(path, f"all weights are 0; allowed: at least one of {_join(weights, 'or')} above 0")
        elif name in first_place:
            first = dotted((*path[:2], first_place[name]))
            problems.add(path, f"{name} is already listed in {first}; allowed: each weighting once")
        elif one_seed and weights["diversity"] > 0:
            problems.add(
                (*path, "diversity"),
                f"{_show(weights['diversity'])} has no effect with one seed, for diversity is measured across seeds;"
                " allowed: 0, or at least two seeds",
            )
        first_place.setdefault(name, i)


def _check_objectives(config: dict, problems: Problems, base_folder: Path) -> None:
    if not (problems.clean("evaluation", "objectives") and problems.clean("scoring", "diversity_measure")):
        return
    objectives = config["evaluation"]["objectives"]
    for needed, why in (
        ("quality", "the ranking is made of it"),
        (config["scoring"]["diversity_measure"], "it is scoring.diversity_measure, and quality is plotted against it"),
    ):
        if needed not in objectives:
            problems.add(("evaluation", "objectives"), f"lacks '{needed}': {why}; add it")


def _check_learnability(config: dict, problems: Problems, base_folder: Path) -> None:
    key = ("evaluation", "learnability", "heuristics")
    if not problems.clean(*key):
        return
    chains = _pipeline_chains(key, _at(config, key), problems, base_folder)
    seen: set[Pipeline] = set()
    for path, chain in chains:
        if any(step.name == LEARNED for step in chain):
            problems.add(path, "holds a learned sampler; allowed: heuristics")
        if chain in seen:
            problems.add(path, f"{pipeline_name(chain)} is already listed; allowed: each heuristic once")
        seen.add(chain)


def _check_samplers(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("samplers"):
        return
    samplers = config["samplers"]
    if not any(options is not None for options in samplers.values()):
        known = _join(_schema()["properties"]["samplers"]["properties"], "or")
        problems.add(("samplers",), f"names no architecture to train; allowed: at least one of {known}")
    network = samplers.get("SamplingNetwork")
    if network is not None and network["d_model"] % network["n_heads"]:
        problems.add(
            ("samplers", "SamplingNetwork", "d_model"),
            f"{network['d_model']} is not divisible by n_heads, {network['n_heads']}; allowed: a multiple of n_heads",
        )


def _check_training(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("training", "steps"):
        return
    training = config["training"]
    for key in ("warmup_steps", "evaluate_every"):
        if problems.clean("training", key) and training[key] > training["steps"]:
            problems.add(
                ("training", key),
                f"{training[key]} is more than training.steps, {training['steps']}; allowed: at most training.steps",
            )


def _check_overlap(config: dict, problems: Problems, base_folder: Path) -> None:
    if problems.clean("labels", "overlap"):
        overlap = config["labels"]["overlap"]
        if overlap["enabled"] and not overlap["corpus"]:
            problems.add(
                ("labels", "overlap", "corpus"),
                "is empty while labels.overlap.enabled is true; allowed: at least one file, or enabled: false",
            )


_CHECKS: Sequence[Callable[[dict, Problems, Path], None]] = (
    _check_split,
    _check_files,
    _check_models,
    _check_heuristics,
    _check_scoring,
    _check_objectives,
    _check_learnability,
    _check_samplers,
    _check_training,
    _check_overlap,
)


TABLE_BEGIN = "<!-- keys: begin (written by scripts/document_config.py) -->"
TABLE_END = "<!-- keys: end -->"


def document_keys() -> str:
    """A Markdown table of every key: what it may hold, its default, its meaning and what runs again."""
    header = ["Key", "Allowed", "Default", "Meaning", "What runs again"]
    rows = [header, ["---"] * len(header), *_rows(_schema(), "", "", {})]
    return _table(rows)


def document_families() -> str:
    """A Markdown table of the families of heuristics: their parameters and what they do."""
    rows = [["Family", "Parameters", "What it does"], ["---"] * 3]
    for name, heuristic in HEURISTICS.items():
        parameters = "; ".join(f"`{key}`: {numbers}" for key, numbers in heuristic.parameters.items())
        rows.append([f"`{name}`", parameters or "none", heuristic.summary])
    return _table(rows)


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def with_key_table(text: str) -> str:
    """The text of config/README.md with its tables of keys and of heuristics made anew."""
    before, _, rest = text.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not end:
        raise UserError(f"config/README.md lacks the lines '{TABLE_BEGIN}' and '{TABLE_END}' around its table of keys")
    families = f"The families of heuristics:\n\n{document_families()}"
    return f"{before}{TABLE_BEGIN}\n\n{document_keys()}\n\n{families}\n\n{TABLE_END}{after}"


@cache
def _known_keys() -> tuple[str, ...]:
    return tuple(row[0].strip("`") for row in _rows(_schema(), "", "", {}))


def _rows(schema: Schema, path: str, reruns: str, described: dict[str, str], prefix: str = "") -> list[list[str]]:
    """The rows of the keys inside a schema. `described` holds where a shared definition with keys was described."""
    if "items" in schema:
        return _rows(_resolve(schema["items"]), f"{path}[]", reruns, described, prefix)
    if "oneOf" in schema:
        rows = []
        for branch in schema["oneOf"]:
            kind = branch.get("properties", {}).get("kind")
            rows += _rows(branch, path, reruns, described, f"With `kind: {kind['const']}`: " if kind else "")
        if _kinds(schema):
            kinds = [f"`{path}.kind`", _join(_kinds(schema), "or"), "required", "Which kind of source it is.", reruns]
            rows.insert(0, kinds)
        return rows
    rows = []
    for key, part in schema.get("properties", {}).items():
        if "const" in part:
            continue
        reference, part = part.get("$ref", ""), _resolve(part)
        key_path = f"{path}.{key}".removeprefix(".")
        key_reruns = part.get("x-reruns", reruns)
        is_required = key in schema.get("required", [])
        default = f"`{json.dumps(part['default'])}`" if "default" in part else "required" if is_required else ""
        meaning = prefix + part["description"]
        is_seen = bool(reference) and reference in described
        if is_seen and "oneOf" in part:
            meaning += f" The same keys as in `{described[reference]}`."
        rows.append([f"`{key_path}`", allowed_values(part, with_keys=False), default, meaning, key_reruns])
        if not is_seen:
            if reference:
                described[reference] = key_path
            rows += _rows(part, key_path, key_reruns, described)
    return rows
