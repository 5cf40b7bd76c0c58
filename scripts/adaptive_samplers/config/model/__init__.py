"""The config: every key with its type, limits, default and meaning, and the stages that depend on it.

The JSON schema for editors, the tables in the documents and the `params` of rules are generated from it.
"""

from adaptive_samplers.config.fields import Section, about, key, section
from adaptive_samplers.config.model.evaluation import Evaluation
from adaptive_samplers.config.model.explain import Explain
from adaptive_samplers.config.model.generation import Generation
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.model.labels import Labels
from adaptive_samplers.config.model.off_policy import OffPolicy
from adaptive_samplers.config.model.on_policy import OnPolicy
from adaptive_samplers.config.model.policies import Iteration, PolicySamples, SamplerGenerations
from adaptive_samplers.config.model.preferences import Preferences, Report
from adaptive_samplers.config.model.prompts import PromptSettings
from adaptive_samplers.config.model.run import Run
from adaptive_samplers.config.model.samplers import Samplers
from adaptive_samplers.config.model.scoring import Scoring
from adaptive_samplers.config.model.sources import BaseModelSettings
from adaptive_samplers.config.model.training import Training
from adaptive_samplers.config.model.types import Seed
from adaptive_samplers.samplers import ARCHITECTURES


class Config(Section):
    """Configuration of Adaptive Samplers"""

    run: Run = key(about(Run), example="run: {name: my_run}", affects=())
    model: BaseModelSettings = key(
        about(BaseModelSettings), example="model: {name: my-model, source: {kind: hub, repo: owner/name}}", affects=()
    )
    prompts: PromptSettings = key(
        about(PromptSettings),
        example="prompts: {sources: [{path: resources/prompts.jsonl}]}",
        affects=("collect_prompts",),
    )
    heuristics: Heuristics = key(
        about(Heuristics),
        example="heuristics: {grid: [{family: temperature, temperatures: [0.7, 1.0]}]}",
        affects=("expand_heuristics", "explain_prompt"),
    )
    seeds: list[Seed] = key(
        "Every heuristic answers every prompt once with each of these seeds.",
        default=[0, 1, 2, 3, 4, 5, 6, 7],
        min_length=1,
        unique=True,
        affects=(
            "verify_candidates",
            "allocate_budget",
            "summarize_selection",
            "sample_with_sampler",
            "measure_repeated_sampling",
            "describe_preferences",
        ),
        adds_jobs_of=("generate_candidates",),
    )
    generation: Generation = section(Generation, affects=())
    labels: Labels = section(Labels, affects=())
    scoring: Scoring = section(Scoring, affects=())
    samplers: Samplers = key(
        about(Samplers),
        default={name: {} for name, declared in ARCHITECTURES.items() if not declared.named_only},
        noun="architecture",
        affects=("train_sampler", "train_on_outcomes", "learn_heuristic"),
    )
    training: Training = section(Training, affects=("train_sampler", "train_on_outcomes", "learn_heuristic"))
    off_policy: OffPolicy = section(OffPolicy, affects=("estimate_samplers",))
    on_policy: OnPolicy = section(OnPolicy, affects=("train_on_policy",))
    evaluation: Evaluation = section(Evaluation, affects=())
    policy_samples: PolicySamples = section(PolicySamples, affects=())
    iteration: Iteration = section(Iteration, affects=("plan_iterations",))
    sampler_generations: SamplerGenerations = section(SamplerGenerations, affects=())
    explain: Explain = section(Explain, affects=("explain_prompt",))
    report: Report = section(Report, affects=("probe_distributions",))
    preferences: Preferences = section(
        Preferences, affects=("make_preferences", "pair_iteration", "describe_preferences")
    )
