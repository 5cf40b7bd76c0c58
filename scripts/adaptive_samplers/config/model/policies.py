"""Policies, which are sampled and trained in iterations, and generations of learned samplers."""

from adaptive_samplers.config.fields import Section, key
from adaptive_samplers.config.model.sources import Source
from adaptive_samplers.config.model.types import NAME, PreferenceFormat, Split, Step, Text, Tokens


class Policy(Section):
    """A trained model that is sampled."""

    name: str = key("Folder name of the model, `models/{name}/`.", example="name: my-model", **NAME)
    source: Source | None = key(
        "Where the policy's model comes from; `null` takes the run's base model.",
        default=None,
    )
    adapter: Source | None = key(
        "Where a PEFT adapter, such as LoRA's, comes from; it is merged into that model. `null` for none.",
        default=None,
    )
    license: str = key("The model's license, for the record of its source.", default="unknown", min_length=1)


class PolicySamples(Section):
    """The target `policy_samples`: answers of trained policies (docs/policy_samples.md)."""

    policies: list[Policy] = key(
        "The models to sample; if empty, the base model.",
        default=[],
        adds_jobs_of=("fetch_model", "sample_policy"),
    )
    splits: list[Split] = key(
        "Splits whose prompts are answered.",
        default=["train", "validation", "test"],
        min_length=1,
        unique=True,
        affects=("slice_prompts",),
    )
    skip: int = key(
        "Number of prompts to leave out, from the first in the order of their ids.",
        default=0,
        ge=0,
        affects=("slice_prompts",),
    )
    limit: int | None = key(
        "Maximum number of prompts to answer, after those that are skipped; `null` takes all.",
        default=None,
        ge=1,
        affects=("slice_prompts",),
    )
    samples: int = key(
        "Answers to each prompt.", default=1, ge=1, le=100000, affects=("sample_policy", "verify_policy_samples")
    )
    sampling: list[Step] = key(
        "How answers are drawn: one chain of steps, as in `heuristics.pipelines`.",
        default=[{"temperature": 0.8}, {"top_p": 0.95}],
        min_length=1,
        affects=("slice_prompts", "sample_policy"),
    )
    max_new_tokens: Tokens | None = key(
        "Longest answer, in tokens; `null` takes `generation.max_new_tokens`.",
        default=None,
        affects=("sample_policy",),
    )
    stop: list[Text] | None = key(
        "Strings that end an answer, as `generation.stop` does; `null` takes those.",
        default=None,
        affects=("sample_policy",),
    )
    shards: int = key(
        "Jobs per policy. Choose it so that a job lasts about an hour.",
        default=1,
        ge=1,
        le=10000,
        affects=("sample_policy",),
    )
    tolerance: float = key(
        "Share of prompts that may lack an answer; they are left out and listed.",
        default=0.0,
        ge=0,
        le=1,
        affects=("verify_policy_samples", "gather_iteration"),
    )


class Iteration(Section):
    """The target `iterations`: a policy is repeatedly sampled, judged and trained (docs/iteration.md). `policy_samples`
    says how it is sampled, `preferences` how answers become pairs."""

    policy: str | None = key(
        "Policy of the first iteration, by its name in `policy_samples.policies`; `null` takes the base model.",
        default=None,
        min_length=1,
        affects=(),
    )
    count: int | None = key("Maximum number of iterations; `null` uses up all prompts.", default=2, ge=1, le=10000)
    prompts_per_iteration: int = key(
        "Prompts of each iteration, in the order of their ids; the last iteration takes the rest.",
        default=1000,
        ge=1,
    )
    splits: list[Split] = key(
        "Splits whose prompts iterations take.",
        default=["train"],
        min_length=1,
        unique=True,
        affects=("plan_iterations", "pair_iteration"),
    )
    skip: int = key("Number of prompts to leave out before the first iteration.", default=0, ge=0)
    samples: int = key(
        "Answers to each prompt, which are compared in one tournament.",
        default=4,
        ge=2,
        le=100000,
        affects=("gather_iteration",),
    )
    format: PreferenceFormat = key(
        "Format that the training command reads, one of those in docs/preferences.md.",
        default="trl_preference",
        affects=("pair_iteration",),
    )
    command: str | None = key(
        "Shell command that trains the policy. Its words {data}, {model}, {reference}, {output}, {scratch}, "
        "{iteration}, {seed} and {threads} are replaced (docs/iteration.md); `null` trains nothing.",
        default=None,
        min_length=1,
        affects=("train_policy",),
        read_by=("plan_iterations",),
    )
    files: list[Text] = key(
        "Files that the command reads, such as its script and config; iterations are trained again when one changes.",
        default=[],
        unique=True,
        path=True,
        affects=("train_policy",),
    )


class SamplerGenerations(Section):
    """The target `sampler_generations`: learned samplers compete with the heuristics in the next generation, and its
    samplers learn from the best answers (docs/iteration.md)."""

    generations: int = key(
        "Number of generations. The first is the run itself; each later one is another whole run.",
        default=2,
        ge=2,
        le=1000,
    )
    samplers: list[Text] = key(
        "Samplers of each generation that compete in the next, `{architecture}/{weights}_top{k}` as in "
        "`results/{run}/samplers/`; empty means all.",
        default=[],
        unique=True,
    )
    keep_earlier: bool = key(
        "Whether the samplers of all earlier generations compete, instead of the previous one's alone; objectives "
        "with `rounds` need it.",
        default=False,
    )
