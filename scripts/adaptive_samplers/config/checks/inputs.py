"""Checks of a run's inputs: prompts, files, verifiers and models."""

import math
from pathlib import Path

from adaptive_samplers.config.checks.common import TRAINED_KIND, at, check_exists, judges
from adaptive_samplers.config.model.policies import Policy
from adaptive_samplers.config.model.sources import BaseModelSettings
from adaptive_samplers.config.problems import KeyPath, Problems, dotted
from adaptive_samplers.config.typed import typed_section
from adaptive_samplers.config.words import join, show, suggest
from adaptive_samplers.policies.sources import policy_source

# Repeated here, because not every environment that reads the config has the verifiers' imports; a test compares.
VERIFIERS = ("code", "exact", "instructions", "math", "numeric", "reasoning_gym", "regex")


def check_split(config: dict, problems: Problems, base_folder: Path) -> None:
    if problems.clean("prompts", "split"):
        shares = config["prompts"]["split"]
        total = math.fsum(shares.values())
        if abs(total - 1) > 1e-6:
            listed = join([f"{name} {show(share)}" for name, share in shares.items()])
            problems.add(("prompts", "split"), f"the shares {listed} sum to {total:g}; allowed: shares that sum to 1")


def check_files(config: dict, problems: Problems, base_folder: Path) -> None:
    wanted: list[tuple[KeyPath, str]] = []
    if problems.clean("prompts", "sources"):
        sources = config["prompts"]["sources"]
        wanted += [(("prompts", "sources", i, "path"), source["path"]) for i, source in enumerate(sources)]
    for place in judges(config, problems):
        if at(config, place)["kind"] == TRAINED_KIND:
            wanted.append(((*place, "pairs"), at(config, place)["pairs"]))
    if problems.clean("labels", "overlap", "corpus"):
        corpus = config["labels"]["overlap"]["corpus"]
        wanted += [(("labels", "overlap", "corpus", i), name) for i, name in enumerate(corpus)]
    for path, name in wanted:
        check_exists(path, name, base_folder, Path.is_file, "file", problems)


def check_verifiers(config: dict, problems: Problems, base_folder: Path) -> None:
    key: KeyPath = ("labels", "correctness", "verifiers")
    if not problems.clean(*key):
        return
    names = list(VERIFIERS)
    for i, own in enumerate(at(config, key)):
        check_exists((*key, i, "path"), own["path"], base_folder, Path.is_file, "file", problems)
        if own["name"] in names:
            taken = "the name of another verifier; allowed: a name of its own"
            problems.add((*key, i, "name"), f"'{own['name']}' is {taken}")
        names.append(own["name"])
    if problems.clean("prompts", "sources"):
        for i, source in enumerate(config["prompts"]["sources"]):
            name = source["verifier"]
            if name is not None and name not in names:
                message = f"'{name}' is not known; allowed: {join(names, 'or')}{suggest(name, names)}"
                problems.add(("prompts", "sources", i, "verifier"), message)


def check_models(config: dict, problems: Problems, base_folder: Path) -> None:
    places: list[KeyPath] = [("model",), ("labels", "embedder"), *judges(config, problems)]
    models = [(place, at(config, place)) for place in places if problems.clean(*place)]
    models = [(place, model) for place, model in models if "source" in model]
    for place, model in models:
        _check_source(model["source"], (*place, "source"), problems, base_folder)
    if problems.clean("policy_samples", "policies") and problems.clean("model"):
        for i, policy in enumerate(config["policy_samples"]["policies"]):
            policy_place = ("policy_samples", "policies", i)
            for part in ("source", "adapter"):
                if policy[part] is not None:
                    _check_source(policy[part], (*policy_place, part), problems, base_folder)
            models.append(
                (
                    policy_place,
                    {
                        "name": policy["name"],
                        "source": policy_source(
                            typed_section(policy, Policy), typed_section(config["model"], BaseModelSettings)
                        ),
                    },
                )
            )
    first_place: dict[str, tuple[KeyPath, dict]] = {}
    for place, model in models:
        first, other = first_place.setdefault(model["name"], (place, model))
        if other["source"] != model["source"]:
            problems.add(
                (*place, "name"),
                f"'{model['name']}' is the name of {dotted(first)} too, but another model; allowed: a name of its own",
            )


def _check_source(source: dict, place: KeyPath, problems: Problems, base_folder: Path) -> None:
    path = (*place, "path")
    if source["kind"] == "folder":
        check_exists(path, source["path"], base_folder, Path.is_dir, "folder", problems)
    elif source["kind"] == "package":
        parts = source["path"].split("/")
        if ".." in parts or source["path"].startswith("/"):
            problems.add(path, f"'{source['path']}' leaves the package; allowed: a path inside the wheel")
