"""What is learned of samplers from answers that others drew."""

from typing import Annotated

from pydantic import Field

from adaptive_samplers.config.fields import Section, key, named, section
from adaptive_samplers.config.model.heuristics import GridBlock
from adaptive_samplers.config.model.types import Chain


class Reward(Section):
    """Weights of the normalized labels whose sum is an answer's reward. Diversity is none of them: it belongs to a
    heuristic's answers to a prompt, not to one of them."""

    model_config = named("weight")

    quality: float = key("Weight of z(quality), at least 0.", default=1.0, ge=0)
    correctness: float = key("Weight of z(correctness), at least 0.", default=0.0, ge=0)


class Trust(Section):
    """Which estimates are shown."""

    effective: float | None = key(
        "Effective number of answers to a prompt, in the mean over prompts, that an estimate needs; `null` takes, for "
        "each horizon, the smallest at which calibration reached `coverage`.",
        default=None,
        gt=1,
    )
    mean_weight: float = key(
        "The mean weight, which is 1 in expectation, is at most this and at least 1 divided by it.",
        default=1.33,
        gt=1,
    )
    coverage: float = key(
        "Share of the heuristics left out, each in turn, whose own answers are inside of the interval of the estimate.",
        default=0.85,
        gt=0,
        lt=1,
    )


class OffPolicy(Section):
    """Recorded draws, and what follows from them about samplers that drew none: the target `off_policy`
    (docs/what_to_train_on.md)."""

    shards: int = key(
        "Jobs that share the recording of draws, each with the answers to some of the prompts.",
        default=1,
        ge=1,
        le=10000,
        affects=("record_draws",),
    )
    steps: int | None = key(
        "Token-steps of each answer that are recorded, from its beginning; `null`: all. A step takes about 1.3 kB with "
        "the default sketch.",
        default=None,
        ge=1,
        le=1000000,
        affects=("record_draws",),
        read_by=("generate_candidates",),
    )
    reward: Reward = section(Reward)
    horizons: list[Annotated[int, Field(ge=1, le=1000000)]] = key(
        "Numbers of first token-steps whose draws count; all that are recorded are counted too.",
        default=[8, 16, 32],
        unique=True,
    )
    grid: list[GridBlock] = key(
        "Families whose worth is estimated, as in `heuristics.grid`, besides all heuristics and learned samplers.",
        default=[
            {"family": "temperature", "temperatures": [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]},
            {"family": "min_p", "values": [0.02, 0.05, 0.1, 0.2], "temperatures": [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]},
        ],
    )
    pipelines: list[Chain] = key("Further chains whose worth is estimated, as in `heuristics.pipelines`.", default=[])
    trust: Trust = section(Trust)
    resamples: int = key("Bootstrap resamples of the prompts, at least 20.", default=2000, ge=20, le=10000000)
    confidence: float = key("Share of the bootstrap distribution inside an interval.", default=0.9, gt=0, lt=1)
