"""The configuration: defaults, validation before any job starts, and the slices of it that rules depend on.

What a config may hold is said once, in `model`, and of heuristics in their definitions. From the model come a JSON
schema with the defaults (`schema`), the sentences about what JSON Schema finds wrong (`validation`), the tables in the
documents (`document`), the slices of the config that rules depend on (`slices`), and the typed objects that scripts
read (`typed`). What a schema cannot express is in `checks`. All problems are reported together, a line each.
"""

from adaptive_samplers.config.document import document_families, with_key_table
from adaptive_samplers.config.judges import judge_name, judged_by, judges_by_name, likelihood_calls
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.packages import require_packages
from adaptive_samplers.config.slices import affected_stages, slice_of_stage, unrelated_slice
from adaptive_samplers.config.typed import typed_config, typed_section
from adaptive_samplers.config.weights import (
    PARETO,
    parse_weight_name,
    sampler_names,
    weight_name,
    weight_names,
    weightings,
)

__all__ = [
    "PARETO",
    "affected_stages",
    "document_families",
    "judge_name",
    "judged_by",
    "judges_by_name",
    "likelihood_calls",
    "load_config",
    "parse_weight_name",
    "require_packages",
    "sampler_names",
    "slice_of_stage",
    "typed_config",
    "typed_section",
    "unrelated_slice",
    "weight_name",
    "weight_names",
    "weightings",
    "with_key_table",
]
