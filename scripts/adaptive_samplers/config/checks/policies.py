"""Checks of policies, iterations and preference data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptive_samplers.config.checks.common import COMPARING_KINDS, QUALITY, at, check_exists
from adaptive_samplers.config.checks.heuristics import check_steps
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.problems import KeyPath, Problems
from adaptive_samplers.config.typed import typed_section
from adaptive_samplers.config.words import join, suggest
from adaptive_samplers.heuristics.pipelines import expand_heuristics
from adaptive_samplers.policies.command import REQUIRED_WORDS, variable


def check_policy_samples(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("policy_samples"):
        return
    policies = config["policy_samples"]["policies"]
    names = [policy["name"] for policy in policies]
    for i, name in enumerate(names):
        if name in names[:i]:
            message = f"'{name}' is the name of another policy; allowed: each policy once"
            problems.add(("policy_samples", "policies", i, "name"), message)
    check_steps(config["policy_samples"]["sampling"], ("policy_samples", "sampling"), problems, base_folder)


def check_iteration(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("iteration"):
        return
    iteration = config["iteration"]
    if problems.clean("policy_samples", "policies") and iteration["policy"] is not None:
        names = [policy["name"] for policy in config["policy_samples"]["policies"]]
        if iteration["policy"] not in names:
            allowed = f"{join(names, 'or')}, of policy_samples.policies, or null" if names else "null, the base model"
            hint = suggest(iteration["policy"], names)
            problems.add(("iteration", "policy"), f"'{iteration['policy']}' is not known; allowed: {allowed}{hint}")
    for i, name in enumerate(iteration["files"]):
        check_exists(("iteration", "files", i), name, base_folder, Path.is_file, "file", problems)
    if problems.clean("preferences"):
        _check_test_split(config, ("iteration", "splits"), problems)
    if iteration["command"] is not None:
        for name in REQUIRED_WORDS:
            if f"{{{name}}}" not in iteration["command"] and variable(name) not in iteration["command"]:
                message = (
                    f"lacks {{{name}}}; allowed: a command with {join([f'{{{word}}}' for word in REQUIRED_WORDS])}"
                )
                problems.add(("iteration", "command"), message)


def check_preferences(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("preferences"):
        return
    preferences = config["preferences"]
    files: KeyPath = ("preferences", "decontamination", "files")
    for i, name in enumerate(at(config, files)):
        check_exists((*files, i), name, base_folder, Path.is_file, "file", problems)
    _check_test_split(config, ("preferences", "splits"), problems)
    if problems.clean(*QUALITY) and (without := _without_rewards(at(config, QUALITY))):
        reason = f"while {without}; allowed:"
        tournament = config["labels"]["quality"]["tournament"]
        if preferences["group"] == "prompt" and tournament.get("group") != "prompt":
            problems.add(
                ("preferences", "group"), f"is prompt {reason} seed, or labels.quality.tournament.group: prompt too"
            )
        if preferences["score"] == "reward":
            problems.add(("preferences", "score"), f"is reward {reason} rating or auto")
    if problems.clean("heuristics") and preferences["heuristics"] is not None:
        _check_preferred_heuristics(config, problems)


def _check_test_split(config: dict, splits: KeyPath, problems: Problems) -> None:
    if "test" in at(config, splits) and config["preferences"]["decontamination"]["test_split"]:
        problems.add(
            splits,
            "holds test, of which preferences.decontamination.test_split leaves nothing; allowed: other splits, or "
            "test_split: false",
        )


def _without_rewards(quality: Mapping[str, Any]) -> str | None:
    """Why the quality table has no rewards; None if it has them."""
    if quality["combine"] == "mean":
        return "labels.quality.combine is mean, which gives no rewards"
    if quality["judge"]["kind"] in COMPARING_KINDS:
        return "the judge compares answers and gives no rewards"
    return None


def _check_preferred_heuristics(config: dict, problems: Problems) -> None:
    heuristics = config["heuristics"]
    rows = expand_heuristics(typed_section(heuristics, Heuristics))
    key: KeyPath = ("preferences", "heuristics")
    known = list(dict.fromkeys(row[column] for column in ("family", "name") for row in rows))
    wanted = config["preferences"]["heuristics"]
    for i, name in enumerate(wanted):
        if name not in known:
            message = f"'{name}' is neither a heuristic's name nor a family; allowed: {join(known, 'or')}"
            problems.add((*key, i), f"{message}{suggest(name, known)}")
    chosen = [row for row in rows if row["name"] in wanted or row["family"] in wanted]
    if len(chosen) == 1 and config["preferences"]["group"] == "seed":
        problems.add(
            ("preferences", "group"),
            "is seed while one heuristic takes part, so that no two answers meet; allowed: prompt, or more heuristics",
        )
