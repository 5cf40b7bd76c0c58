"""One training run, from a training set and its sketches to a saved sampler with metrics, curves and provenance."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.config.fields import Section
from adaptive_samplers.config.model.training import Training
from adaptive_samplers.models.device import choose_device
from adaptive_samplers.provenance import provenance
from adaptive_samplers.samplers.base import build_sampler
from adaptive_samplers.stage import say
from adaptive_samplers.training.objectives import OBJECTIVES
from adaptive_samplers.training.saving import save_trained
from adaptive_samplers.training.trainer import TrainingSettings, evaluate, evaluate_identity, train


def train_on_training_set(
    training_set: pd.DataFrame,
    sketches: list[Path],
    architecture: str,
    options: Section,
    objective: Section,
    training: Training,
    seed: int,
    output: Path,
) -> None:
    """Train on the prompts of the train split, stop early on the validation split, measure on the test split.

    Checkpoints are in `{output}.checkpoint` and stay there. A killed job continues where it stopped. One that runs
    again with the same token-steps and settings, because another training set made a shard grow, ends at once.

    Raises
    ------
    UserError
        If no answer of one of the splits was selected.
    """
    settings = TrainingSettings.from_config(training, seed, objective=objective.model_dump())
    steps = OBJECTIVES[settings.objective["kind"]].data.reader(training_set, sketches)
    sampler = build_sampler(architecture, options.model_dump(), seed)
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    result = train(sampler.to(choose_device("auto")), steps["train"], steps["validation"], settings, checkpoint)
    metrics = {
        **evaluate(result.sampler, steps["test"], settings.loss),
        **evaluate_identity(steps["test"], settings.loss),
        "token_steps": len(steps["test"]),
        "best_step": result.best_step,
        "split": "test",
    }
    say(f"{architecture}: loss {metrics['loss']:.4f}, of the raw logits {metrics['identity_loss']:.4f} (test)")
    made_with = {
        "architecture": architecture,
        "sampler": options.model_dump(),
        "training": training.model_dump(),
        "seed": seed,
    }
    record = provenance(made_with, "torch", "safetensors", answers=sorted(set(training_set["answer_id"])))
    save_trained(output, result.sampler, metrics, result.curves, record, checkpoint / "tensorboard")
