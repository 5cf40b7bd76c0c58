"""Rounds: a generation's sampler goes on from the one before it, if fresh answers say that it had become better.

A step within the reach of recorded answers, fresh answers by the new sampler, which join the others, and the next step:
a trust region as in Schulman and others, "Trust Region Policy Optimization" (2015), whose size is that of the penalties
in `objectives.outcome`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.evaluation import intervals
from adaptive_samplers.files import read_json
from adaptive_samplers.heuristics import Pipeline, Processor, parse_processors, pipeline_name
from adaptive_samplers.heuristics.registry import LEARNED
from adaptive_samplers.off_policy.reading import Logged
from adaptive_samplers.samplers.base import AdaptiveSampler
from adaptive_samplers.stage import say
from adaptive_samplers.training.objectives.definitions import FromOutcomes
from adaptive_samplers.training.outcomes import own_values

RESAMPLES = 10_000


class Verdict(NamedTuple):
    """How much better the own answers of a sampler were than those of another, which it began with.

    Attributes
    ----------
    sampler, other : names
    difference, low, high : mean over prompts with its bootstrap interval
    n_prompts : int
    accepted : bool
    """

    sampler: str
    other: str
    difference: float
    low: float
    high: float
    n_prompts: int
    accepted: bool


def judge_round(
    logged: Logged, sampler: int, other: int, distance_weight: float, objective: FromOutcomes, seed: int
) -> Verdict:
    """Compare a behavior with the one that it began with, by their own answers to the same prompts."""
    differences = own_values(logged, sampler, distance_weight) - own_values(logged, other, distance_weight)
    found = intervals(differences[:, None], RESAMPLES, objective.accept_confidence, seed)[0]
    accepted = found.n_prompts >= objective.accept_prompts and found.low > 0
    names = (pipeline_name(logged.pipelines[behavior]) for behavior in (sampler, other))
    return Verdict(*names, *found, accepted)


def start_of_round(
    previous: Path, logged: Logged, distance_weight: float, objective: FromOutcomes, seed: int
) -> tuple[Pipeline, Verdict]:
    """What a round begins with: the previous generation's sampler, or what that one began with.

    Parameters
    ----------
    previous : Path
        The previous generation's sampler of the same name.
    logged : Logged
        The answers to prompts of the validation split, on which nothing was trained.

    Raises
    ------
    UserError
        If one of the two did not answer.
    """
    sampler = (Processor(LEARNED, (str(previous),)),)
    other = parse_processors(json.dumps(read_json(previous / "metrics.json")["start_processors"]))
    numbers = []
    for pipeline in (sampler, other):
        if pipeline not in logged.pipelines:
            raise UserError(
                f"training.objectives: rounds: there are no answers of {pipeline_name(pipeline)} to compare with; list "
                "the sampler in sampler_generations.samplers, and set sampler_generations.keep_earlier"
            )
        numbers.append(logged.pipelines.index(pipeline))
    verdict = judge_round(logged, *numbers, distance_weight, objective, seed)
    say(
        f"{verdict.sampler} against {verdict.other}: {verdict.difference:+.4f} [{verdict.low:.4f}, {verdict.high:.4f}] "
        f"on {verdict.n_prompts} prompts (validation): {'accepted' if verdict.accepted else 'not accepted'}"
    )
    return (sampler if verdict.accepted else other), verdict


def take_over_weights(sampler: AdaptiveSampler, pipeline: Pipeline) -> bool:
    """Whether a pipeline is a saved sampler with the same options; then the sampler gets its weights."""
    if len(pipeline) != 1 or pipeline[0].name != LEARNED:
        return False
    saved = AdaptiveSampler.from_pretrained(pipeline[0].folder)
    if saved.config | {"lowest_log_prob": sampler.lowest_log_prob} != sampler.config:
        return False
    sampler.load_state_dict(saved.state_dict())
    return True


def table_of_rounds(samplers: Iterable[tuple[int, Path]]) -> pd.DataFrame:
    """The verdicts that samplers of later generations were trained by.

    Parameters
    ----------
    samplers : pairs of a generation and the folder of a saved sampler

    Returns
    -------
    DataFrame
        A row for each sampler: `generation`, of the one that is judged; `architecture` and `lesson`; the columns of
        `Verdict`.
    """
    rows = []
    for generation, folder in samplers:
        verdict = read_json(folder / "metrics.json")["round"]
        names = {"architecture": folder.parent.name, "lesson": folder.name}
        rows.append({"generation": generation - 1, **names, **verdict})
    return pd.DataFrame(rows, columns=["generation", "architecture", "lesson", *Verdict._fields])
