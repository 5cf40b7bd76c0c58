"""How samplers are trained."""

from typing import Annotated, Literal, Union

from pydantic import Discriminator, create_model

from adaptive_samplers.config.fields import Section, about, key, section
from adaptive_samplers.training.objectives import OBJECTIVES

_KINDS = " ".join(f"`{name}`: {about(objective.options)}" for name, objective in OBJECTIVES.items())
_OBJECTIVES = tuple(
    create_model(objective.options.__name__, __base__=objective.options, kind=(Literal[name], key(_KINDS)))
    for name, objective in OBJECTIVES.items()
)
# pydantic refuses a discriminator on a single type.
TrainingObjective = Annotated[Union[_OBJECTIVES], Discriminator("kind")] if len(_OBJECTIVES) > 1 else _OBJECTIVES[0]  # noqa: UP007


class SketchSize(Section):
    """Support points that represent a distribution over the vocabulary."""

    top: int = key("Largest log-probabilities, kept exactly.", default=128, ge=1, le=100000)
    tail: int = key("Groups of neighbors into which all other tokens are merged.", default=128, ge=2, le=100000)


class Training(Section):
    """How the samplers are trained on sketches of the base model's distributions."""

    sketch: SketchSize = section(
        SketchSize,
        affects=("replay_distributions", "record_draws", "train_sampler", "train_on_outcomes", "train_on_policy"),
        # Answers do not depend on it, and draws that were recorded in another size are read again by `record_draws`.
        read_by=("generate_candidates",),
    )
    replay_shards: int = key(
        "Jobs that share the replay of selected answers.",
        default=1,
        ge=1,
        le=10000,
        affects=("replay_distributions", "train_sampler"),
    )
    objectives: list[TrainingObjective] = key(
        "The training objectives, each with its options; every one gives a sampler of each architecture. Those on "
        "recorded draws need one for each weighting, the others one for each training set.",
        default=[{"kind": "imitation"}],
        min_length=1,
        affects=("train_sampler", "train_on_outcomes", "learn_heuristic"),
    )
    learning_rate: float = key(
        "Peak learning rate of AdamW, above 0 and at most 1.",
        default=0.003,
        gt=0,
        le=1,
        affects=("train_sampler", "train_on_outcomes"),
    )
    weight_decay: float = key("Weight decay of AdamW.", default=0.01, ge=0)
    batch_size: int = key("Token-steps (one distribution and its target) in a batch.", default=256, ge=1, le=100000)
    steps: int = key("Maximum number of optimizer steps.", default=4000, ge=1, le=100000000, affects=("train_sampler",))
    warmup_steps: int = key("Steps over which the learning rate rises from 0; at most `steps`.", default=200, ge=0)
    gradient_clip: float = key(
        "Largest norm of the gradient, above 0.",
        default=1.0,
        gt=0,
        affects=("train_sampler", "train_on_outcomes", "train_on_policy", "learn_heuristic"),
    )
    precision: Literal["float32", "bfloat16"] = key(
        "Precision of matrix products; weights, losses and validation are always float32.", default="float32"
    )
    evaluate_every: int = key("Steps between evaluations on the validation split; at most `steps`.", default=200, ge=1)
    patience: int | None = key(
        "Evaluations without a better validation loss before training stops; `null` never stops early.",
        default=4,
        ge=1,
        affects=("train_sampler",),
    )
