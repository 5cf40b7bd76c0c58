"""Checks of what is selected, trained and compared."""

import re
from pathlib import Path

from adaptive_samplers.config.checks.common import at
from adaptive_samplers.config.model import Config
from adaptive_samplers.config.model.samplers import Samplers
from adaptive_samplers.config.model.scoring import Scoring, Weights
from adaptive_samplers.config.problems import KeyPath, Problems, dotted
from adaptive_samplers.config.typed import typed_config, typed_section
from adaptive_samplers.config.weights import (
    IMITATION,
    rounds_by_objective,
    sampler_names,
    weight_name,
    weight_names,
    weightings,
)
from adaptive_samplers.config.words import join, show, suggest
from adaptive_samplers.samplers import ARCHITECTURES
from adaptive_samplers.training.objectives import OBJECTIVES

MOST_WEIGHTINGS = 100


def check_scoring(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("scoring", "weights"):
        return
    if problems.clean("scoring", "grid") and problems.clean("scoring", "pareto"):
        _check_weightings(config, problems)
    first_place: dict[str, int] = {}
    one_seed = problems.clean("seeds") and len(config["seeds"]) == 1
    for i, weights in enumerate(config["scoring"]["weights"]):
        path: KeyPath = ("scoring", "weights", i)
        name = weight_name(typed_section(weights, Weights))
        if not any(weights.values()):
            problems.add(path, f"all weights are 0; allowed: at least one of {join(weights, 'or')} above 0")
        elif name in first_place:
            first = dotted((*path[:2], first_place[name]))
            problems.add(path, f"{name} is already listed in {first}; allowed: each weighting once")
        elif one_seed and weights["diversity"] > 0:
            problems.add(
                (*path, "diversity"),
                f"{show(weights['diversity'])} has no effect with one seed, for diversity is measured across seeds;"
                " allowed: 0, or at least two seeds",
            )
        first_place.setdefault(name, i)


def _check_weightings(config: dict, problems: Problems) -> None:
    """Of all that select answers together: that there are some, not too many, and that each can have an effect."""
    scoring, names = config["scoring"], weight_names(typed_section(config["scoring"], Scoring))
    if not names:
        problems.add(("scoring", "weights"), "is empty; allowed: at least one weighting here, by grid or by pareto")
    elif len(names) > MOST_WEIGHTINGS:
        samplers = f"each trains {len(config['samplers'])} samplers for each top_k"
        message = f"makes {len(names)} weightings, and {samplers}; allowed: at most {MOST_WEIGHTINGS} in all"
        problems.add(("scoring", "grid"), message)
    if problems.clean("seeds") and len(config["seeds"]) == 1:
        reason = "with one seed, for diversity is measured across seeds; allowed: {}, or at least two seeds"
        if any(scoring["grid"]["diversity"]):
            shown = join([show(weight) for weight in scoring["grid"]["diversity"]])
            problems.add(("scoring", "grid", "diversity"), f"{shown} has no effect {reason.format('an empty list')}")
        if scoring["pareto"]:
            problems.add(("scoring", "pareto"), f"true has no effect {reason.format('false')}")


def check_objectives(config: dict, problems: Problems, base_folder: Path) -> None:
    if not (problems.clean("evaluation", "objectives") and problems.clean("scoring", "diversity_measure")):
        return
    objectives = config["evaluation"]["objectives"]
    for needed, why in (
        ("quality", "the ranking is made of it"),
        (config["scoring"]["diversity_measure"], "it is scoring.diversity_measure, and quality is plotted against it"),
    ):
        if needed not in objectives:
            problems.add(("evaluation", "objectives"), f"lacks '{needed}': {why}; add it")


def check_samplers(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("samplers"):
        return
    samplers = config["samplers"]
    if not any(options is not None for options in samplers.values()):
        known = join(Samplers.model_fields, "or")
        problems.add(("samplers",), f"names no architecture to train; allowed: at least one of {known}")
    for name, options in samplers.items():
        if options is not None:
            for option, problem in ARCHITECTURES[name].options(**options).problems():
                problems.add(("samplers", name, option), problem)


def check_training(config: dict, problems: Problems, base_folder: Path) -> None:
    if not problems.clean("training", "steps"):
        return
    training = config["training"]
    for key in ("warmup_steps", "evaluate_every"):
        if problems.clean("training", key) and training[key] > training["steps"]:
            problems.add(
                ("training", key),
                f"{training[key]} is more than training.steps, {training['steps']}; allowed: at most training.steps",
            )


def check_training_objectives(config: dict, problems: Problems, base_folder: Path) -> None:
    """That objectives have names of their own, which cannot be taken for another part of a sampler's name."""
    if not problems.clean("training", "objectives"):
        return
    first_place: dict[str, int] = {}
    for i, objective in enumerate(config["training"]["objectives"]):
        path: KeyPath = ("training", "objectives", i)
        name = objective.get("name") or objective["kind"]
        if re.fullmatch(r"top\d+", name) or (name == IMITATION and objective["kind"] != IMITATION):
            problems.add((*path, "name"), f"'{name}' is part of the names of other samplers; allowed: another name")
        elif name in first_place:
            first = dotted((*path[:2], first_place[name]))
            advice = "give one of them a name" if "name" in objective else f"{name} once"
            problems.add(path, f"'{name}' is already listed in {first}; allowed: {advice}")
        first_place.setdefault(name, i)
        if objective.get("front") == "best_of" and objective["best_of"] == 1:
            problems.add((*path, "front"), "'best_of' needs a best_of above 1; allowed: diversity, or best_of: 8")
    learned = [OBJECTIVES[objective["kind"]].data for objective in config["training"]["objectives"]]
    weighted = not problems.clean("scoring") or weightings(typed_section(config["scoring"], Scoring))
    if not weighted and all(data.recorded for data in learned):
        problems.add(
            ("training", "objectives"),
            "all learn from recorded draws, which needs weights, and there is only scoring.pareto; allowed: an "
            "objective such as imitation too, or weights in scoring.weights",
        )


def check_sampler_generations(config: dict, problems: Problems, base_folder: Path) -> None:
    if not all(problems.clean(part) for part in ("sampler_generations", "samplers", "scoring", "training")):
        return
    for i, name in enumerate(config["sampler_generations"]["samplers"]):
        _check_sampler(name, ("sampler_generations", "samplers", i), config, problems)
    _check_rounds(config, problems)


def _check_rounds(config: dict, problems: Problems) -> None:
    """That each sampler that is trained in rounds meets in later generations what it is compared with."""
    generations, trained = config["sampler_generations"], _what_is_trained(config)
    for place, names in rounds_by_objective(trained).items():
        path: KeyPath = ("training", "objectives", place, "rounds")
        if generations["generations"] > 2 and not generations["keep_earlier"]:
            problems.add(
                path,
                "true compares each sampler with the one that it began with, which after two generations competes no "
                "more; allowed: false, or true with sampler_generations.keep_earlier",
            )
        if missing := sorted(set(names) - set(generations["samplers"] or names)):
            problems.add(
                path,
                f"true needs the answers of {missing[0]} in the next generation; allowed: false, or true with the "
                "sampler in sampler_generations.samplers",
            )


def _what_is_trained(config: dict) -> Config:
    """The parts of the config that samplers and their names follow from."""
    return typed_config({key: config[key] for key in ("samplers", "scoring", "training")})


def _check_sampler(name: str, path: KeyPath, config: dict, problems: Problems) -> None:
    """That the run trains a sampler of this name."""
    known = sampler_names(_what_is_trained(config))
    if name not in known:
        problems.add(path, f"'{name}' is no sampler of this run; allowed: {join(known, 'or')}{suggest(name, known)}")


def check_on_policy(config: dict, problems: Problems, base_folder: Path) -> None:
    """That the sampler to begin with is one of the run's."""
    name = config["on_policy"]["sampler"] if problems.clean("on_policy", "sampler") else None
    if name is not None and all(problems.clean(part) for part in ("samplers", "scoring", "training")):
        _check_sampler(name, ("on_policy", "sampler"), config, problems)


def check_explain(config: dict, problems: Problems, base_folder: Path) -> None:
    """That the samplers to show are the run's."""
    names = config["explain"]["samplers"] if problems.clean("explain", "samplers") else None
    if names and all(problems.clean(part) for part in ("samplers", "scoring", "training")):
        for place, name in enumerate(names):
            _check_sampler(name, ("explain", "samplers", place), config, problems)


def check_repeated_sampling(config: dict, problems: Problems, base_folder: Path) -> None:
    key: KeyPath = ("evaluation", "repeated_sampling", "enabled")
    if problems.clean(*key) and problems.clean("seeds") and at(config, key) and len(config["seeds"]) == 1:
        reason = "with one seed there is one sample of each prompt, and nothing to select among"
        problems.add(key, f"true has no effect: {reason}; allowed: false, or at least two seeds")
