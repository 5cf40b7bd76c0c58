"""How labels become one score, and which answers are kept."""

from typing import Annotated, Literal

from pydantic import Field

from adaptive_samplers.config.fields import Section, key, named, section
from adaptive_samplers.config.model.types import DiversityMeasure, PromptKind


class Weights(Section):
    """Weights of the normalized labels, whose weighted sum is an answer's score."""

    model_config = named("weight")

    diversity: float = key("Weight of z(diversity), at least 0.", default=0.0, ge=0)
    quality: float = key("Weight of z(quality), at least 0.", default=0.0, ge=0)
    correctness: float = key("Weight of z(correctness), at least 0.", default=0.0, ge=0)


class WeightGrid(Section):
    """Further weightings: every combination of these values, except all zeros and multiples of an earlier weighting,
    which would select the same answers. At most 100 weightings in all."""

    diversity: list[Annotated[float, Field(ge=0)]] = key(
        "Weights of diversity; an empty list counts as 0.", default=[], adds_jobs_of=("select_training_set",)
    )
    quality: list[Annotated[float, Field(ge=0)]] = key(
        "Weights of quality; an empty list counts as 0.", default=[], adds_jobs_of=("select_training_set",)
    )
    correctness: list[Annotated[float, Field(ge=0)]] = key(
        "Weights of correctness; an empty list counts as 0.", default=[], adds_jobs_of=("select_training_set",)
    )


class Normalization(Section):
    """How labels are brought to one scale before they are weighted."""

    scope: Literal["global", "dataset", "prompt"] = key(
        "Answers over which a label is normalized: all (`global`), or those of the same `dataset` or `prompt`.",
        default="global",
    )
    method: Literal["zscore", "robust", "rank"] = key(
        "`zscore` (mean and standard deviation), `robust` (median and MAD) or `rank` (z-score of the ranks).",
        default="zscore",
    )


class ScoredKinds(Section):
    """The kinds of prompts for which each label counts, under every weighting. For other kinds it adds nothing to the
    score, and their answers are left out of its normalization."""

    quality: list[PromptKind] = key(
        "Kinds of prompts for which quality counts.",
        default=["creative", "verifiable", "factual", "chat"],
        min_length=1,
        unique=True,
    )
    diversity: list[PromptKind] = key(
        "Kinds of prompts for which diversity counts; `[creative]` rewards it in creative writing only.",
        default=["creative", "verifiable", "factual", "chat"],
        min_length=1,
        unique=True,
    )
    correctness: list[PromptKind] = key(
        "Kinds of prompts for which correctness counts.",
        default=["creative", "verifiable", "factual", "chat"],
        min_length=1,
        unique=True,
    )


class Scoring(Section):
    """How labels become one score, and which answers are kept."""

    weights: list[Weights] = key(
        "Weightings of the normalized labels, `a{diversity}_b{quality}_c{correctness}` in file names. Each gives "
        "a training set and a sampler of each architecture. May be empty if `grid` or `pareto` give some.",
        default=[
            {"diversity": 0.0, "quality": 1.0, "correctness": 0.0},
            {"diversity": 0.5, "quality": 0.5, "correctness": 0.0},
            {"diversity": 0.7, "quality": 0.3, "correctness": 0.0},
        ],
        adds_jobs_of=("select_training_set",),
    )
    grid: WeightGrid = section(WeightGrid)
    pareto: bool = key(
        "Whether answers are also selected by Pareto fronts of quality against diversity, without weights; file "
        "names have `pareto` instead of weights.",
        default=False,
        adds_jobs_of=("select_training_set",),
    )
    normalization: Normalization = section(Normalization, affects=("score_candidates",))
    kinds: ScoredKinds = section(ScoredKinds, affects=("score_candidates",))
    diversity_measure: DiversityMeasure = key(
        "Diversity in the score; self_bleu and compression_ratio are negated, so that higher is more diverse.",
        default="embedding_entropy",
        affects=("score_candidates", "tabulate_labels", "plot_tradeoff"),
    )
    top_k: list[Annotated[int, Field(ge=1, le=100000)]] = key(
        "Answers kept for each prompt and seed; each number gives its own training sets.",
        default=[1],
        min_length=1,
        unique=True,
        adds_jobs_of=("select_training_set",),
    )
    correct_only: bool = key(
        "Whether only correct answers to verifiable prompts are kept.",
        default=True,
        affects=("allocate_budget", "select_training_set", "summarize_selection"),
    )
