"""Every key that a config may hold, as the schema describes it."""

import json
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from adaptive_samplers.config.schema import Schema, config_schema, kinds_of
from adaptive_samplers.config.words import allowed_values, join


class Key(NamedTuple):
    """A key with dots between its parts, such as `prompts.sources[].path`; the texts are Markdown.

    `affects` are the stages whose output depends on it, `adds_jobs_of` those that have another job for another value.
    """

    path: str
    allowed: str
    default: str
    meaning: str
    affects: tuple[str, ...]
    adds_jobs_of: tuple[str, ...]


@cache
def known_keys() -> tuple[Key, ...]:
    """All keys in the order of the model. A section's keys are listed where it is first used."""
    return tuple(_keys(config_schema(), "", (), {}))


def _keys(schema: Schema, path: str, affects: tuple[str, ...], described: dict[str, str]) -> Iterator[Key]:
    """The keys inside a schema. `described` holds where a section was described."""
    if "items" in schema:
        yield from _keys(schema["items"], f"{path}[]", affects, described)
        return
    if "oneOf" in schema:
        yield from _keys_of_branches(schema, path, affects, described)
        return
    for key, part in schema.get("properties", {}).items():
        if "const" in part:
            continue
        section = part.get("x-section", part.get("items", {}).get("x-section", ""))
        key_path = f"{path}.{key}".removeprefix(".")
        key_affects = tuple(part.get("x-affects", affects))
        is_required = key in schema.get("required", [])
        default = f"`{json.dumps(part['default'])}`" if "default" in part else "required" if is_required else ""
        meaning = part["description"]
        if section in described:
            meaning += f" The same keys as in `{described[section]}`."
        adds = tuple(part.get("x-adds-jobs-of", ()))
        yield Key(key_path, allowed_values(part, with_keys=False), default, meaning, key_affects, adds)
        if section not in described:
            yield from _keys(part, key_path, key_affects, described)
            if section:
                described[section] = key_path


def _keys_of_branches(schema: Schema, path: str, affects: tuple[str, ...], described: dict[str, str]) -> Iterator[Key]:
    """The keys of all alternatives of `oneOf`; a key that several have in common is listed once, with their kinds."""
    kinds: dict[Key, list[str]] = {}
    for branch in schema["oneOf"]:
        kind = branch.get("properties", {}).get("kind", {})
        for key in _keys(branch, path, affects, described):
            kinds.setdefault(key, []).append(f"`{kind['const']}`" if kind else "")
    if kinds_of(schema):
        meaning = schema["oneOf"][0]["properties"]["kind"]["description"]
        yield Key(f"{path}.kind", join(kinds_of(schema), "or"), "required", meaning, affects, ())
    for key, names in kinds.items():
        prefix = f"With the kind {join(names, 'or')}: " if names[0] else ""
        yield key._replace(meaning=prefix + key.meaning)
