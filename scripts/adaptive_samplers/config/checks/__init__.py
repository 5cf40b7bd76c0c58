"""The checks that a schema cannot express; they look only at values without known problems."""

from collections.abc import Callable, Sequence
from pathlib import Path

from adaptive_samplers.config.checks.generation import check_budgets, check_serving
from adaptive_samplers.config.checks.heuristics import (
    check_explained_chains,
    check_heuristics,
    check_learnability,
    check_off_policy,
)
from adaptive_samplers.config.checks.inputs import check_files, check_models, check_split, check_verifiers
from adaptive_samplers.config.checks.labels import check_judge, check_overlap
from adaptive_samplers.config.checks.policies import check_iteration, check_policy_samples, check_preferences
from adaptive_samplers.config.checks.training import (
    check_explain,
    check_objectives,
    check_on_policy,
    check_repeated_sampling,
    check_sampler_generations,
    check_samplers,
    check_scoring,
    check_training,
    check_training_objectives,
)
from adaptive_samplers.config.problems import Problems

CHECKS: Sequence[Callable[[dict, Problems, Path], None]] = (
    check_split,
    check_files,
    check_verifiers,
    check_models,
    check_policy_samples,
    check_iteration,
    check_judge,
    check_heuristics,
    check_scoring,
    check_objectives,
    check_learnability,
    check_off_policy,
    check_samplers,
    check_sampler_generations,
    check_serving,
    check_training,
    check_training_objectives,
    check_on_policy,
    check_explain,
    check_explained_chains,
    check_overlap,
    check_preferences,
    check_repeated_sampling,
    check_budgets,
)
