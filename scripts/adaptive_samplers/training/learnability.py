"""Which architecture can learn which heuristic: each pair is trained alone, on recorded distributions of the model."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from adaptive_samplers.config.fields import Section
from adaptive_samplers.heuristics import Pipeline, pipeline_name
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.samplers.base import AdaptiveSampler, build_sampler
from adaptive_samplers.stage import say
from adaptive_samplers.training.objectives.imitation import log_softmax_with_counts
from adaptive_samplers.training.replay import steps_of_splits
from adaptive_samplers.training.trainer import (
    TokenSteps,
    TrainingSettings,
    device_of,
    evaluate,
    evaluate_identity,
    train,
)

BATCH_SIZE = 1024


def learn_heuristic(
    answers: pd.DataFrame,
    sketches: list[Path],
    pipeline: Pipeline,
    architecture: str,
    options: Section,
    settings: TrainingSettings,
    checkpoint: Path,
) -> dict[str, Any]:
    """Train one architecture to imitate one heuristic, and measure it on the prompts of the test split.

    Parameters
    ----------
    answers : DataFrame
        Replayed answers with `answer_id` and `split`; several rows of one answer count once.
    sketches : list of Path
        The shards that hold their distributions.
    pipeline : Pipeline
        The heuristic.
    checkpoint : Path
        Folder from which training resumes after a kill.

    Returns
    -------
    dict
        `architecture`, `heuristic`, the means over held-out token-steps of `kl` (nats), `truncated_mass` and
        `kept_overlap`, `identity_kl` and `identity_truncated_mass` of the raw logits, `token_steps`, `best_step`.

    Raises
    ------
    UserError
        If one of the splits has no answer.
    """
    processors = json.dumps([step.describe() for step in pipeline])
    asked = answers.drop_duplicates("answer_id").assign(processors=processors)
    steps = steps_of_splits(asked, sketches)
    sampler = build_sampler(architecture, options.model_dump(), settings.seed).to(choose_device("auto"))
    result = train(sampler, steps["train"], steps["validation"], settings, checkpoint)
    measured = evaluate(result.sampler, steps["test"], settings.loss)
    identity = evaluate_identity(steps["test"], settings.loss)
    name = pipeline_name(pipeline)
    say(f"{architecture}, {name}: KL {measured['kl']:.4f}, of the raw logits {identity['identity_kl']:.4f} (test)")
    return {
        "architecture": architecture,
        "heuristic": name,
        "kl": measured["kl"],
        "identity_kl": identity["identity_kl"],
        "truncated_mass": measured["truncated_mass"],
        "identity_truncated_mass": identity["identity_truncated_mass"],
        "kept_overlap": kept_overlap(result.sampler, steps["test"]),
        "token_steps": len(steps["test"]),
        "best_step": result.best_step,
    }


@torch.no_grad()
def kept_overlap(sampler: AdaptiveSampler, steps: TokenSteps) -> float | None:
    """Mean overlap (intersection over union, counted in tokens) of what a heuristic keeps and what a sampler keeps.

    A sampler removes nothing outright. A token counts as kept if its odds against the most probable token are at least
    half of those in the raw distribution. This is meant for heuristics that only truncate: the result is None if the
    heuristic truncates nothing, or changes the odds of what it keeps.
    """
    overlaps = []
    for start in range(0, len(steps), BATCH_SIZE):
        batch = steps.select(slice(start, start + BATCH_SIZE), device_of(sampler))
        if _changes_odds(batch):
            return None
        lost = _odds(batch.t, batch.n) - _odds(sampler(batch.t, batch.n), batch.n)
        predicted = batch.n.where(lost <= torch.tensor(2.0).log(), 0.0)
        both = batch.kept.minimum(predicted).sum(-1)
        overlaps.append(both / batch.kept.maximum(predicted).sum(-1))
    cuts = bool((steps.kept < steps.n).any())
    return float(torch.cat(overlaps).mean()) if cuts else None


def _odds(logits: Tensor, n: Tensor) -> Tensor:
    """Log odds of a token at each point against the most probable one, `[B, S]`."""
    log_probs = log_softmax_with_counts(logits, n)
    return log_probs - log_probs.masked_fill(n <= 0, -torch.inf).amax(-1, keepdim=True)


def _changes_odds(steps: TokenSteps) -> bool:
    survives = steps.kept > 0
    change = (steps.target - steps.t).where(survives, torch.nan)
    first = change.nan_to_num(-torch.inf).amax(-1, keepdim=True)
    return bool(((first - change).where(survives, 0.0) > 1e-3).any())
