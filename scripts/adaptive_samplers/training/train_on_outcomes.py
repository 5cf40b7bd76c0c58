"""Training on recorded draws, from what answers were worth to a saved sampler with metrics, curves and provenance."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adaptive_samplers.config.fields import Section
from adaptive_samplers.config.model.training import Training
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import Pipeline, apply_on_support, is_stateful, pipeline_name
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.off_policy.log_probs import log_probs_of_beginnings
from adaptive_samplers.off_policy.reading import Logged
from adaptive_samplers.provenance import provenance
from adaptive_samplers.samplers import ARCHITECTURES
from adaptive_samplers.samplers.base import AdaptiveSampler, build_sampler
from adaptive_samplers.stage import say
from adaptive_samplers.training.objectives.definitions import FromOutcomes
from adaptive_samplers.training.outcomes import (
    Outcomes,
    behavior_log_probs,
    best_behavior,
    longest_horizon,
    outcomes_of,
)
from adaptive_samplers.training.rounds import start_of_round, take_over_weights
from adaptive_samplers.training.saving import save_trained
from adaptive_samplers.training.trainer import (
    TokenSteps,
    TrainingSettings,
    evaluate,
    evaluate_at_preferences,
    mean_of_preferences,
    train,
)

# Among these a horizon is chosen.
HORIZONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
VALIDATIONS = 10  # in a run
MEASURED = 4096  # distributions, evenly spread over the answers, that tell how near imitation has come
ROWS_AT_ONCE = 8192


def train_on_outcomes(
    logged: Mapping[str, Logged],
    weights: Mapping[str, float],
    objective: FromOutcomes,
    architecture: str,
    options: Section,
    training: Training,
    seed: int,
    output: Path,
    previous: Path | None = None,
) -> None:
    """Imitate a heuristic on the answers of the train split, then raise what its own answers are worth.

    The validation split is measured but chooses nothing: estimates on few prompts are too noisy for that. Checkpoints
    are in `{output}.checkpoint` and stay there. A killed job continues where it stopped.

    Parameters
    ----------
    logged : the answers of the splits `train` and `validation`.
    weights : of the labels, `{diversity, quality, correctness}`.
    objective : with a `kind`.
    previous : the previous generation's sampler of the same name, for a round; see `rounds`.

    Raises
    ------
    UserError
        If the heuristic to begin with did not answer, or has a state that no sampler without one can imitate.
    """
    of_training, distance_weight = logged["train"], distance_weight_of(objective, weights, architecture)
    verdict = None
    if previous is None:
        start = _start(of_training, objective, distance_weight)
    else:
        pipeline, verdict = start_of_round(previous, logged["validation"], distance_weight, objective, seed)
        start = of_training.pipelines.index(pipeline)
    horizon = objective.horizon
    if horizon is None:
        log_probs = behavior_log_probs(of_training, objective.sure, HORIZONS)
        horizon = HORIZONS[longest_horizon(of_training.answers, log_probs, start, objective.effective)]
    name = pipeline_name(of_training.pipelines[start])
    say(f"{architecture}: begins with {name}; the first {horizon} steps of answers count")

    checkpoint = output.with_name(f"{output.name}.checkpoint")
    sampler = build_sampler(architecture, options.model_dump(), seed).to(choose_device("auto"))
    imitated = 0.0
    if not take_over_weights(sampler, of_training.pipelines[start]):
        imitated = _imitate(
            sampler, of_training.pipelines[start], logged, training, objective, seed, checkpoint / "start"
        )
    outcomes = {
        split: with_reference(outcomes_of(read, objective, distance_weight, horizon), sampler)
        for split, read in logged.items()
    }
    settings = TrainingSettings.from_config(
        training,
        seed,
        objective=objective.model_dump(),
        learning_rate=objective.learning_rate,
        batch_size=objective.prompts,
        steps=objective.steps,
        warmup_steps=objective.steps // 10,
        evaluate_every=max(1, objective.steps // VALIDATIONS),
        patience=None,
        keep="last",
    )
    result = train(sampler, outcomes["train"], outcomes["validation"], settings, checkpoint)
    of_validation = (result.sampler, outcomes["validation"], settings.loss)
    at_preferences = evaluate_at_preferences(*of_validation)
    metrics = {
        **(mean_of_preferences(at_preferences) if at_preferences else evaluate(*of_validation)),
        "prompts": len(outcomes["validation"]),
        "split": "validation",
        "start": name,
        "start_processors": [step.describe() for step in of_training.pipelines[start]],
        "start_kl": imitated,
        "horizon": horizon,
        "round": verdict and verdict._asdict(),
    }
    if at_preferences:
        metrics["at_preferences"] = at_preferences
    say(f"{architecture}: loss {metrics['loss']:.4f} (validation)")
    made_with: dict[str, Any] = {
        "architecture": architecture,
        "sampler": options.model_dump(),
        "objective": objective.model_dump(),
        "weights": dict(weights),
        "training": training.model_dump(),
        "seed": seed,
        "answers": len(of_training.answers),
    }
    record = provenance(made_with, "torch", "safetensors", answers=sorted(of_training.prompt_ids))
    save_trained(output, result.sampler, metrics, result.curves, record, checkpoint / "tensorboard")


def distance_weight_of(objective: FromOutcomes, weights: Mapping[str, float], architecture: str) -> float:
    """What the distance of two answers counts for: the weight of diversity, where the objective is one of sets.

    Where a preference weighs it against the reward, it is 1.
    """
    if not objective.of_sets:
        return 0.0
    return 1.0 if ARCHITECTURES[architecture].conditioned and objective.front == "diversity" else weights["diversity"]


def reward_of(objective: FromOutcomes, weights: Mapping[str, float]) -> dict[str, float]:
    """The weights of the labels in an answer's reward: without diversity, where that is the distance of answers."""
    return {**weights, "diversity": 0.0} if objective.of_sets else dict(weights)


def with_reference(outcomes: Outcomes, sampler: AdaptiveSampler) -> Outcomes:
    """Outcomes whose reference is a sampler as it is now."""
    device = next(sampler.parameters()).device
    sampler.cpu().eval()
    found = log_probs_of_beginnings([sampler], outcomes.draws, [None], outcomes.same, outcomes.counted)
    sampler.to(device)
    return replace(outcomes, reference=found[0, :, 0].float())


def _start(logged: Logged, objective: FromOutcomes, distance_weight: float) -> int:
    """The number of the behavior that training begins with."""
    if objective.start is None:
        return best_behavior(logged, distance_weight)
    names = [pipeline_name(pipeline) for pipeline in logged.pipelines]
    if objective.start not in names:
        raise UserError(
            f"training.objectives: no answer of a heuristic '{objective.start}'; there are {', '.join(names)}"
        )
    found = names.index(objective.start)
    if is_stateful(logged.pipelines[found]):
        raise UserError(
            f"training.objectives: '{objective.start}' has a state, which no sampler can imitate; name another"
        )
    return found


def _imitate(
    sampler: AdaptiveSampler,
    pipeline: Pipeline,
    logged: Mapping[str, Logged],
    training: Training,
    objective: FromOutcomes,
    seed: int,
    folder: Path,
) -> float:
    """Train the sampler to do what a heuristic does; its divergence from it in nats, on the validation split."""
    most = {"train": None, "validation": MEASURED}
    steps = {split: _targets(read, pipeline, most[split]) for split, read in logged.items()}
    settings = TrainingSettings.from_config(
        training,
        seed,
        objective={"kind": "imitation"},
        steps=objective.start_steps,
        warmup_steps=min(training.warmup_steps, objective.start_steps // 10),
        evaluate_every=objective.start_steps,
        patience=None,
    )
    train(sampler, steps["train"], steps["validation"], settings, folder)
    return evaluate(sampler, steps["validation"], settings.loss)["kl"]


def _targets(logged: Logged, pipeline: Pipeline, most: int | None) -> TokenSteps:
    """What a stateless heuristic makes of each distribution, those that are equal once; of more than `most`, some."""
    places = torch.unique(logged.same)
    if most is not None and len(places) > most:
        places = places[torch.arange(most) * len(places) // most]
    t, n = logged.draws.sketch.t[places], logged.draws.sketch.n[places]
    target, kept = torch.empty_like(t), torch.empty_like(t)
    for first in range(0, len(t), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        made = apply_on_support(t[part], n[part], [pipeline] * len(t[part]))
        target[part], kept[part] = made.t, made.n
    return TokenSteps(t, n, target, kept)
