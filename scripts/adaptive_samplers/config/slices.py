"""The parts of a config that rules depend on."""

import copy
from collections.abc import Mapping
from typing import Any


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
