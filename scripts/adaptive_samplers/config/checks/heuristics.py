"""Checks of heuristics, which also convert their settings to the right types."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adaptive_samplers.config.checks.common import at, check_exists
from adaptive_samplers.config.model.heuristics import GridBlock, Official, Verbalized
from adaptive_samplers.config.problems import KeyPath, Problems, dotted
from adaptive_samplers.config.schema import is_type
from adaptive_samplers.config.typed import typed_section
from adaptive_samplers.config.words import join, show, suggest, type_advice, wrong_type
from adaptive_samplers.heuristics import HEURISTICS, Numbers, Pipeline, pipeline_name
from adaptive_samplers.heuristics.pipelines import (
    configured_pipeline,
    grid_pipelines,
    official_pipelines,
    verbalized_pipeline,
)
from adaptive_samplers.heuristics.registry import LEARNED, PREFERENCES, Heuristic
from adaptive_samplers.samplers import ARCHITECTURES


def check_heuristics(config: dict, problems: Problems, base_folder: Path) -> None:
    if not isinstance(config.get("heuristics"), dict):
        return
    chains = [
        *_grid_chains(("heuristics", "grid"), config["heuristics"].get("grid"), problems),
        *_pipeline_chains(("heuristics", "pipelines"), config["heuristics"].get("pipelines"), problems, base_folder),
    ]
    _check_each_once(chains, problems)
    _check_verbalized(config["heuristics"].get("verbalized"), problems, base_folder)
    official = _official_chains(config["heuristics"].get("official"), problems, base_folder)
    _check_each_once(official, problems)
    if problems.clean("heuristics"):
        count = len({chain for _, chain in [*chains, *official]})
        if count < 2 and not (count == 1 and _meets_other_seeds(config, problems)):
            problems.add(("heuristics",), f"holds {count} in all; allowed: at least 2, for a tournament needs two")
        elif problems.clean("scoring", "top_k"):
            for i, kept in enumerate(config["scoring"]["top_k"]):
                if kept > count:
                    problems.add(
                        ("scoring", "top_k", i),
                        f"{kept} is more than there are answers to a prompt with one seed;"
                        f" allowed: at most {count}, the number of heuristics",
                    )


def _check_verbalized(entries: Any, problems: Problems, base_folder: Path) -> None:
    """Types the settings on the way; the chains train no sampler and are no rivals of those that do."""
    chains = []
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        path: KeyPath = ("heuristics", "verbalized", index)
        if not problems.clean(*path):
            continue
        check_steps(entry["pipeline"], (*path, "pipeline"), problems, base_folder)
        if missing := [name for name in ("{prompt}", "{answers}") if name not in entry["template"]]:
            problems.add((*path, "template"), f"lacks {join(missing)}; allowed: text with {{prompt}} and {{answers}}")
        if problems.clean(*path):
            chains.append((path, verbalized_pipeline(typed_section(entry, Verbalized))))
    _check_each_once(chains, problems)


def _meets_other_seeds(config: dict, problems: Problems) -> bool:
    """Whether answers under different seeds meet, so that one heuristic is enough for a tournament."""
    place: KeyPath = ("labels", "quality", "tournament")
    if not (problems.clean(*place) and problems.clean("seeds")):
        return False
    return at(config, place).get("group") == "prompt" and len(config["seeds"]) > 1


def check_learnability(config: dict, problems: Problems, base_folder: Path) -> None:
    key = ("evaluation", "learnability", "heuristics")
    if not problems.clean(*key):
        return
    chains = _pipeline_chains(key, at(config, key), problems, base_folder)
    for path, chain in chains:
        if any(step.name == LEARNED for step in chain):
            problems.add(path, "holds a learned sampler; allowed: heuristics")
    _check_each_once(chains, problems)


def _check_each_once(chains: Iterable[tuple[KeyPath, Pipeline]], problems: Problems) -> None:
    first_place: dict[Pipeline, KeyPath] = {}
    for path, chain in chains:
        if chain in first_place:
            first = first_place[chain]
            where = "in the same entry" if first == path else f"in {dotted(first)}"
            problems.add(path, f"{pipeline_name(chain)} is already listed {where}; allowed: each heuristic once")
        first_place.setdefault(chain, path)


def check_off_policy(config: dict, problems: Problems, base_folder: Path) -> None:
    """Types the settings on the way. What is also a heuristic of the run is estimated once, so that it may be here."""
    if isinstance(own := config.get("off_policy"), dict):
        chains = [
            *_grid_chains(("off_policy", "grid"), own.get("grid"), problems),
            *_pipeline_chains(("off_policy", "pipelines"), own.get("pipelines"), problems, base_folder),
        ]
        _check_each_once(chains, problems)
        if problems.clean("off_policy", "reward") and not any(own["reward"].values()):
            message = f"all weights are 0; allowed: at least one of {join(own['reward'], 'or')} above 0"
            problems.add(("off_policy", "reward"), message)


def check_explained_chains(config: dict, problems: Problems, base_folder: Path) -> None:
    """Types the settings on the way."""
    if isinstance(own := config.get("explain"), dict):
        chains = _pipeline_chains(("explain", "chains"), own.get("chains"), problems, base_folder)
        _check_each_once(chains, problems)


def _grid_chains(key: KeyPath, grid: Any, problems: Problems) -> list[tuple[KeyPath, Pipeline]]:
    """The chains of a grid with the entries that they come from; checks settings on the way and types them."""
    chains = []
    for index, block in enumerate(grid if isinstance(grid, list) else []):
        path: KeyPath = (*key, index)
        if not problems.clean(*path):
            continue
        _check_temperatures(block, path, problems)
        family, values = block["family"], block.get("values")
        if family not in HEURISTICS:
            message = f"{show(family)} is not known; allowed: {join(HEURISTICS, 'or')}{suggest(family, HEURISTICS)}"
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
            chains += [(path, chain) for chain in grid_pipelines(typed_section(block, GridBlock))]
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
        check_steps(steps, path, problems, base_folder)
        if problems.clean(*path):
            chains.append((path, configured_pipeline(steps)))
    return chains


def _official_chains(official: Any, problems: Problems, base_folder: Path) -> list[tuple[KeyPath, Pipeline]]:
    """The chains of the model's own defaults with their place; checks settings on the way and types them."""
    path: KeyPath = ("heuristics", "official")
    if not isinstance(official, dict) or not problems.clean(*path):
        return []
    _check_temperatures(official, path, problems)
    check_steps(official["steps"], (*path, "steps"), problems, base_folder)
    if not problems.clean(*path):
        return []
    return [(path, chain) for chain in official_pipelines(typed_section(official, Official))]


def _check_temperatures(block: dict, path: KeyPath, problems: Problems) -> None:
    block["temperatures"] = [
        _check_setting("temperature", value, (*path, "temperatures", i), problems)
        for i, value in enumerate(block["temperatures"])
    ]


def check_steps(steps: list[dict], path: KeyPath, problems: Problems, base_folder: Path) -> None:
    for i, step in enumerate(steps):
        ((name, setting),) = step.items()
        place = (*path, i, str(name))
        if name in HEURISTICS:
            step[name] = _check_setting(name, setting, place, problems)
        elif name != LEARNED:
            known = [*HEURISTICS, LEARNED]
            problems.add(place, f"unknown processor; allowed: {join(known, 'or')}{suggest(name, known)}")
        else:
            _check_learned(step, place, problems, base_folder)


def _check_learned(step: dict, place: KeyPath, problems: Problems, base_folder: Path) -> None:
    """A saved sampler, by its folder or as a map of `path` and `preference`, which is typed."""
    setting, kind = step[LEARNED], "folder with a saved sampler's config.json"
    if isinstance(setting, str):
        check_exists(place, setting, base_folder, _is_saved_sampler, kind, problems)
        return
    if not isinstance(setting, Mapping):
        problems.add(place, f"{wrong_type(setting, {})}; allowed: the folder of a saved sampler, or {_LEARNED_MAP}")
        return
    for key in setting:
        if key not in ("path", "preference"):
            known = ("path", "preference")
            problems.add((*place, str(key)), f"is not known; allowed: {join(known)}{suggest(key, known)}")
    for key in ("path", "preference"):
        if key not in setting:
            advice = "; without one, write the folder alone" if key == "preference" else ""
            problems.add((*place, key), f"is missing; allowed: {_LEARNED_MAP}{advice}")
    path, preference = setting.get("path"), setting.get("preference")
    if "preference" in setting:
        preference = _check_number(LEARNED, "preference", preference, PREFERENCES, (*place, "preference"), problems)
        step[LEARNED] = {**setting, "preference": preference}
    if "path" in setting and not isinstance(path, str):
        problems.add((*place, "path"), f"{wrong_type(path, {})}; allowed: the folder of a saved sampler")
    elif "path" in setting:
        check_exists((*place, "path"), path, base_folder, _is_saved_sampler, kind, problems)
        found = _architecture_in(base_folder / path)
        if found in ARCHITECTURES and not ARCHITECTURES[found].conditioned:
            message = f"{path} holds a {found}, which takes none; allowed: {LEARNED}: {path}"
            problems.add((*place, "preference"), message)


_LEARNED_MAP = f"a map of path (the folder of a saved sampler) and preference ({PREFERENCES})"


def _architecture_in(folder: Path) -> str | None:
    """The architecture of a saved sampler, None where nothing can be read; loading it says why."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("architecture") if isinstance(found, dict) else None


def _is_saved_sampler(place: Path) -> bool:
    return (place / "config.json").is_file()


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
        problems.add(path, f"{wrong_type(setting, {})}; {family} has several parameters; allowed: {allowed}")
        return setting
    for key in setting:
        if key not in parameters:
            message = f"unknown parameter of {family}; allowed: {join(parameters)}{suggest(key, parameters)}"
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
    if not is_type(value, ["number"]):
        advice = type_advice(value, kind)
        problems.add(path, f"{wrong_type(value, kind)}; allowed as {family}'s {name}: {numbers}{advice}")
    elif value not in numbers:
        problems.add(path, f"{show(value)} is out of range for {family}'s {name}; allowed: {numbers}")
    else:
        return numbers.typed(value)
    return value


def _allowed_setting(heuristic: Heuristic) -> str:
    """What a family's setting may be: `p: a number above 0 and at most 1`, or a map of several."""
    words = [f"{name}: {numbers}" for name, numbers in heuristic.parameters.items()]
    return words[0] if len(words) == 1 else f"a map with {join(words)}"
