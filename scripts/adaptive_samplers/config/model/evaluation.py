"""How samplers and heuristics are compared."""

from typing import Annotated, Literal

from pydantic import Field

from adaptive_samplers.config.fields import Section, key, section
from adaptive_samplers.config.model.samplers import LearningRates
from adaptive_samplers.config.model.types import Chain, Objective


class Learnability(Section):
    """The target `learnability`: how well each architecture learns single heuristics."""

    heuristics: list[Chain] = key(
        "Chains of steps `family: setting`, applied in order. The setting is a number, a map of several "
        "parameters, or null for none. A step `learned: path` is a saved sampler: a folder with its "
        "`config.json` and `model.safetensors`, relative to the working directory.",
        default=[
            [{"temperature": 0.7}],
            [{"epsilon": 0.01}],
            [{"min_p": 0.1}],
            [{"eta": 0.01}],
            [{"top_k": 10}],
            [{"top_p": 0.9}],
            [{"typical": 0.9}],
        ],
        affects=(),
        adds_jobs_of=("learn_heuristic",),
    )
    learning_rates: LearningRates = section(LearningRates)
    steps: int = key(
        "Optimizer steps for each, without early stopping; all other settings are those of `training`.",
        default=4000,
        ge=10,
        le=100000000,
    )


class Portraits(Section):
    """The target `portraits`: what each learned sampler is, in terms that people know."""

    states: int = key(
        "Token-steps of training prompts, and as many of test prompts, on which samplers are looked at; drawn at "
        "random. A sampler takes seconds for 256, and longer in proportion.",
        default=256,
        ge=20,
        le=1000000,
    )


class RepeatedSampling(Section):
    """The target `repeated_sampling`: coverage, best of n and majority votes over a prompt's answers."""

    enabled: bool = key(
        "Whether the default target and the report include its figures and tables.", default=False, affects=()
    )
    k: list[Annotated[int, Field(ge=1, le=100000)]] = key(
        "Numbers of samples; those above the number of seeds are skipped, and that number itself is added.",
        default=[1, 2, 4, 8, 16, 32, 64, 128, 256],
        min_length=1,
        unique=True,
    )
    confidence: float = key(
        "Confidence in the majority at which sampling stops (adaptive-consistency), above 0 and below 1.",
        default=0.95,
        gt=0,
        lt=1,
    )
    criterion: Literal["beta", "dirichlet"] = key(
        "`beta` compares the most frequent answer with the second, `dirichlet` with all others.", default="beta"
    )


class Protocol(Section):
    """The target `protocol`: families of samplers compared after equal numbers of tries, by a plan declared before."""

    enabled: bool = key("Whether the default target and the report include it.", default=False, affects=())
    objectives: list[Objective] = key(
        "The measures that families are compared by. A claim over several holds if it holds in each.",
        default=["quality", "embedding_entropy", "correctness"],
        min_length=1,
        unique=True,
    )
    tries: int | None = key(
        "Configurations that each family may try: so many of its own, drawn at random. `null` means as many as the "
        "smallest family has.",
        default=None,
        ge=1,
        le=100000,
    )
    level: float = key("Chance of any false finding in an objective.", default=0.05, gt=0, lt=1)
    power: float = key("With which the smallest detectable difference would be found.", default=0.8, gt=0, lt=1)
    resamples: int = key("Bootstrap resamples of the prompts, at least 100.", default=10000, ge=100, le=10000000)
    further_plans: Literal["refuse", "count"] = key(
        "What happens if another plan has read any of the same test prompts: the plan is refused, or tables and "
        "figures say how many plans there were.",
        default="refuse",
    )


class Evaluation(Section):
    """How the learned samplers are compared with the heuristics on the test split."""

    objectives: list[Objective] = key(
        "The measures to compare.",
        default=["quality", "embedding_entropy", "self_bleu", "correctness"],
        min_length=1,
        unique=True,
        affects=("compare_samplers",),
    )
    resamples: int = key(
        "Bootstrap resamples of the prompts, at least 20.",
        default=2000,
        ge=20,
        le=10000000,
        affects=("compare_samplers", "measure_repeated_sampling", "portray_sampler"),
    )
    confidence: float = key(
        "Share of the bootstrap distribution inside an interval, above 0 and below 1.",
        default=0.95,
        gt=0,
        lt=1,
        affects=("compare_samplers", "measure_repeated_sampling", "portray_sampler"),
    )
    sampling_jobs: int = key(
        "Jobs among which the learned samplers are split when they answer the test prompts. Each loads the model, and "
        "its samplers share work. Size them so that a job lasts about an hour; answers do not depend on it.",
        default=1,
        ge=1,
        le=10000,
        affects=("sample_with_sampler",),
    )
    preferences: list[Annotated[float, Field(ge=0, le=1)]] = key(
        "Preferences at which a learned sampler that takes one answers the test prompts and is estimated, each as a "
        "sampler of its own in tables and figures.",
        default=[0.0, 0.5, 1.0],
        min_length=1,
        unique=True,
        affects=("sample_with_sampler", "estimate_samplers", "portray_sampler", "explain_prompt"),
    )
    temperatures: list[Annotated[float, Field(gt=0, le=100)]] = key(
        "Temperatures that follow a learned sampler when it answers the test prompts and is estimated, each as a "
        "sampler of its own in tables and figures. 1 leaves it as it is.",
        default=[1.0],
        min_length=1,
        unique=True,
        affects=("sample_with_sampler", "estimate_samplers"),
    )
    learnability: Learnability = section(Learnability, affects=("learn_heuristic",))
    portraits: Portraits = section(Portraits, affects=("portray_sampler",))
    repeated_sampling: RepeatedSampling = section(RepeatedSampling, affects=("measure_repeated_sampling",))
    protocol: Protocol = section(Protocol, affects=("declare_plan", "compare_families"))
