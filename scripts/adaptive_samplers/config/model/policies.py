"""Policies: how they are sampled, and trained iteration by iteration; and generations of learned samplers."""

from adaptive_samplers.config.fields import Section, key
from adaptive_samplers.config.model.sources import Source
from adaptive_samplers.config.model.types import NAME, PreferenceFormat, Split, Step, Text, Tokens


class Policy(Section):
    """A trained model that is sampled."""

    name: str = key("Folder name of the model, `models/{name}/`.", example="name: my-model", **NAME)
    source: Source | None = key(
        "Where the policy's model comes from; `null` is the run's base model.",
        default=None,
    )
    adapter: Source | None = key(
        "Where a PEFT adapter comes from, such as LoRA's, that is merged into that model; `null` for none.",
        default=None,
    )
    license: str = key("The model's license, for the record of where it came from.", default="unknown", min_length=1)


class PolicySamples(Section):
    """The target `policy_samples`: answers of trained policies (docs/policy_samples.md)."""

    policies: list[Policy] = key(
        "The models that are sampled; without any, the base model.",
        default=[],
        adds_jobs_of=("fetch_model", "sample_policy"),
    )
    splits: list[Split] = key(
        "Splits of the prompts that are answered.",
        default=["train", "validation", "test"],
        min_length=1,
        unique=True,
        affects=("slice_prompts",),
    )
    skip: int = key(
        "So many prompts are left out, the first in the order of their ids.",
        default=0,
        ge=0,
        affects=("slice_prompts",),
    )
    limit: int | None = key(
        "At most so many prompts are answered, after those that are skipped; `null` takes all.",
        default=None,
        ge=1,
        affects=("slice_prompts",),
    )
    samples: int = key(
        "Answers to each prompt.", default=1, ge=1, le=100000, affects=("sample_policy", "verify_policy_samples")
    )
    sampling: list[Step] = key(
        "How answers are drawn, one chain of steps as in `heuristics.pipelines`; a step `learned: path` is a "
        "saved learned sampler.",
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
        "Strings that end an answer, beside the model's own end-of-turn tokens; `null` takes `generation.stop`.",
        default=None,
        affects=("sample_policy",),
    )
    shards: int = key(
        "Jobs of each policy. Size them so that a job lasts about an hour.",
        default=1,
        ge=1,
        le=10000,
        affects=("sample_policy",),
    )
    tolerance: float = key(
        "Share of prompts that may lack an answer; they are left out, and listed.",
        default=0.0,
        ge=0,
        le=1,
        affects=("verify_policy_samples", "gather_iteration"),
    )


class Iteration(Section):
    """The target `iterations`: a policy is sampled, judged and trained, again and again (docs/iteration.md). How it is
    sampled is in `policy_samples`, how answers become pairs in `preferences`."""

    policy: str | None = key(
        "What the first iteration samples and trains, a name in `policy_samples.policies`; `null` is the base model.",
        default=None,
        min_length=1,
        affects=(),
    )
    count: int | None = key("Iterations, at most; `null` goes on until the prompts end.", default=2, ge=1, le=10000)
    prompts_per_iteration: int = key(
        "Prompts of each iteration, in the order of their ids; the last iteration takes what is left.",
        default=1000,
        ge=1,
    )
    splits: list[Split] = key(
        "Splits of the prompts that iterations take.",
        default=["train"],
        min_length=1,
        unique=True,
        affects=("plan_iterations", "pair_iteration"),
    )
    skip: int = key("So many prompts are left out before the first iteration.", default=0, ge=0)
    samples: int = key(
        "Answers to each prompt, which meet in one tournament.",
        default=4,
        ge=2,
        le=100000,
        affects=("gather_iteration",),
    )
    format: PreferenceFormat = key(
        "What the training command reads, one of the formats in docs/preferences.md.",
        default="trl_preference",
        affects=("pair_iteration",),
    )
    command: str | None = key(
        "Shell command that trains the policy. Its words {data}, {model}, {reference}, {output}, {scratch}, "
        "{iteration}, {seed} and {threads} are replaced (docs/iteration.md); `null` where nothing is trained.",
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
    """The target `sampler_generations`: learned samplers compete with the heuristics of the next generation, from whose
    best answers the next ones learn (docs/iteration.md)."""

    generations: int = key(
        "Generations, of which the first is the run itself; each later one is the whole run once more.",
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
