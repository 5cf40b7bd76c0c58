"""The configuration: defaults, validation before any job starts, and the slices of it that rules depend on.

What a config may hold is said once, in config/schemas/config.schema.yaml, and of heuristics in their definitions. From
the schema come the defaults (`schema`), the sentences about what JSON Schema finds wrong (`validation`) and the table
in config/README.md (`document`); what a schema cannot express is in `checks`. All problems are reported together, a
line each.
"""

from adaptive_samplers.config.document import document_families, with_key_table
from adaptive_samplers.config.judges import judge_name, judged_by, judges_by_name
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.packages import require_packages
from adaptive_samplers.config.schema import SCHEMA_PATH
from adaptive_samplers.config.slices import config_slice
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
    "SCHEMA_PATH",
    "config_slice",
    "document_families",
    "judge_name",
    "judged_by",
    "judges_by_name",
    "load_config",
    "parse_weight_name",
    "require_packages",
    "sampler_names",
    "weight_name",
    "weight_names",
    "weightings",
    "with_key_table",
]
