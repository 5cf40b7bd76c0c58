"""The weightings that a config asks for, and their names in paths and tables."""

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction

from adaptive_samplers.config.fields import Section
from adaptive_samplers.config.model import Config
from adaptive_samplers.config.model.scoring import Scoring, Weights
from adaptive_samplers.errors import UserError
from adaptive_samplers.training.objectives import OBJECTIVES

IMITATION = "imitation"
PARETO = "pareto"  # replaces a weighting's name if the answers are selected by Pareto fronts
_WEIGHT_LABELS = {"a": "diversity", "b": "quality", "c": "correctness"}


def weight_name(weights: Weights) -> str:
    """The name of a weighting in paths and tables, such as `a0.7_b0.3_c0` for diversity, quality and correctness."""
    return "_".join(f"{letter}{getattr(weights, label):g}" for letter, label in _WEIGHT_LABELS.items())


def weightings(scoring: Scoring) -> list[Weights]:
    """All weightings: those listed, then those of the grid that select something different.

    The grid holds every combination of its values, an empty list counting as 0. Left out are those of zeros only, and
    of those that are multiples of each other, which select the same answers, all but the first.
    """
    found = list(scoring.weights)
    grid = [getattr(scoring.grid, label) for label in _WEIGHT_LABELS.values()]
    combinations = itertools.product(*(values or [0.0] for values in grid)) if any(grid) else []
    known = {_proportions(weights) for weights in found}
    for values in combinations:
        weights = Weights(**dict(zip(_WEIGHT_LABELS.values(), values, strict=True)))
        if any(values) and _proportions(weights) not in known:
            known.add(_proportions(weights))
            found.append(weights)
    return found


def _proportions(weights: Weights) -> tuple[Fraction, ...]:
    """What weightings that are multiples of each other have in common."""
    values = [Fraction(f"{getattr(weights, label):g}") for label in _WEIGHT_LABELS.values()]
    return tuple(value / (sum(values) or 1) for value in values)


def weight_names(scoring: Scoring) -> list[str]:
    """The names of all selections of answers: the weightings, then `pareto` if it is requested."""
    names = [weight_name(weights) for weights in weightings(scoring)]
    return [*names, PARETO] if scoring.pareto else names


def objective_name(objective: Section) -> str:
    """What an entry of `training.objectives` is called: its name, or its kind."""
    return getattr(objective, "name", None) or objective.kind


def lesson_names(config: Config) -> list[str]:
    """What the samplers of each architecture are trained on and for, in paths.

    That is `{weights}_top{k}` for imitation, `{weights}_top{k}_{objective}` for other objectives on selected answers
    and `{weights}_{objective}` for those on recorded draws, of which none is for Pareto fronts.
    """
    return [lesson for objective in config.training.objectives for lesson in _lessons_of(objective, config)]


def _lessons_of(objective: Section, config: Config) -> list[str]:
    name = objective_name(objective)
    if OBJECTIVES[objective.kind].data.recorded:
        return [f"{weight_name(weights)}_{name}" for weights in weightings(config.scoring)]
    suffix = "" if name == IMITATION else f"_{name}"
    sets = itertools.product(weight_names(config.scoring), config.scoring.top_k)
    return [f"{weights}_top{top_k}{suffix}" for weights, top_k in sets]


def sampler_names(config: Config) -> list[str]:
    """The names of a config's learned samplers in paths: `{architecture}/{lesson}`."""
    return _samplers_of(lesson_names(config), config)


def sampler_families(config: Config) -> dict[str, str]:
    """The families in which learned samplers compete, `{architecture} {objective}`, by the samplers' names.

    The members of one differ in the answers that they were trained on.
    """
    return {
        sampler: f"{sampler.partition('/')[0]} {objective_name(objective)}"
        for objective in config.training.objectives
        for sampler in _samplers_of(_lessons_of(objective, config), config)
    }


def training_set_of(lesson: str) -> str | None:
    """The training set, `{weights}_top{k}`, that a lesson imitates; None for the lessons of other objectives."""
    return lesson if re.fullmatch(rf"(?:{PARETO}|a[^_]+_b[^_]+_c[^_]+)_top\d+", lesson) else None


def rounds_by_objective(config: Config) -> dict[int, list[str]]:
    """The samplers of each objective that is trained in rounds, by the objective's place in `training.objectives`."""
    return {
        place: _samplers_of(_lessons_of(objective, config), config)
        for place, objective in enumerate(config.training.objectives)
        if OBJECTIVES[objective.kind].data.recorded and objective.rounds
    }


def _samplers_of(lessons: Sequence[str], config: Config) -> list[str]:
    return [
        f"{architecture}/{lesson}"
        for architecture, options in config.samplers
        for lesson in lessons
        if options is not None
    ]


def samplers_by_rule(config: Config) -> dict[str, list[str]]:
    """The rules that answer the test prompts, each with a job of its own, and the samplers of each."""
    names = sampler_names(config)
    jobs = min(config.evaluation.sampling_jobs, len(names))
    rule = "sample_with_sampler"
    # Dealt out, so that each job has its share of every architecture.
    return {f"{rule}_{job + 1}" if job else rule: names[job::jobs] for job in range(jobs)}


def parse_weight_name(name: str) -> dict[str, float]:
    """The weighting that `weight_name` gave a name. Raises UserError if the name is not of that form."""
    number = r"(\d+(?:\.\d+)?(?:e[+-]\d+)?)"
    match = re.fullmatch(f"a{number}_b{number}_c{number}", name)
    if match is None:
        raise UserError(
            f"'{name}' does not name a weighting; names look like a0.7_b0.3_c0 (diversity, quality, correctness)"
        )
    return {label: float(text) for label, text in zip(_WEIGHT_LABELS.values(), match.groups(), strict=True)}
