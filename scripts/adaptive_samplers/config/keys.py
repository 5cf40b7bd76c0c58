"""Every key that a config may hold, as the schema describes it."""

import json
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from adaptive_samplers.config.schema import Schema, config_schema, kinds_of, resolve
from adaptive_samplers.config.words import allowed_values, join


class Key(NamedTuple):
    """A key with dots between its parts, such as `prompts.sources[].path`; the rest is Markdown."""

    path: str
    allowed: str
    default: str
    meaning: str
    reruns: str


@cache
def known_keys() -> tuple[Key, ...]:
    """All keys in the schema's order. What a shared definition holds is listed where it is first used."""
    return tuple(_keys(config_schema(), "", "", {}))


def _keys(schema: Schema, path: str, reruns: str, described: dict[str, str]) -> Iterator[Key]:
    """The keys inside a schema. `described` holds where a shared definition with keys was described."""
    if "items" in schema:
        if schema["items"].get("$ref") in described:
            return
        yield from _keys(resolve(schema["items"]), f"{path}[]", reruns, described)
        return
    if "oneOf" in schema:
        yield from _keys_of_branches(schema, path, reruns, described)
        return
    for key, part in schema.get("properties", {}).items():
        if "const" in part:
            continue
        reference, part = part.get("$ref", ""), resolve(part)
        key_path = f"{path}.{key}".removeprefix(".")
        key_reruns = part.get("x-reruns", reruns)
        is_required = key in schema.get("required", [])
        default = f"`{json.dumps(part['default'])}`" if "default" in part else "required" if is_required else ""
        meaning = part["description"]
        is_seen = bool(reference) and reference in described
        if is_seen and ("oneOf" in part or "properties" in part):
            meaning += f" The same keys as in `{described[reference]}`."
        yield Key(key_path, allowed_values(part, with_keys=False), default, meaning, key_reruns)
        if not is_seen:
            if reference:
                described[reference] = key_path
            yield from _keys(part, key_path, key_reruns, described)


def _keys_of_branches(schema: Schema, path: str, reruns: str, described: dict[str, str]) -> Iterator[Key]:
    """The keys of all alternatives of `oneOf`; a key that several have in common is listed once, with their kinds."""
    kinds: dict[Key, list[str]] = {}
    for branch in schema["oneOf"]:
        kind = branch.get("properties", {}).get("kind", {})
        for key in _keys(branch, path, branch.get("x-reruns", reruns), described):
            kinds.setdefault(key, []).append(f"`{kind['const']}`" if kind else "")
    if kinds_of(schema):
        meaning = schema["oneOf"][0]["properties"]["kind"]["description"]
        yield Key(f"{path}.kind", join(kinds_of(schema), "or"), "required", meaning, reruns)
    for key, names in kinds.items():
        prefix = f"With the kind {join(names, 'or')}: " if names[0] else ""
        yield key._replace(meaning=prefix + key.meaning)
