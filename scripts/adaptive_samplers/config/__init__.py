"""The configuration: defaults, validation before any job starts, and the slices of it that rules depend on.

What a config may hold is said once, in config/schemas/config.schema.yaml, and of heuristics in their definitions. From
the schema come the defaults (`schema`), the sentences about what JSON Schema finds wrong (`validation`) and the table
in config/README.md (`document`); what a schema cannot express is in `checks`. All problems are reported together, a
line each.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "document": ["document_families", "with_key_table"],
    "judges": ["judge_name", "judged_by", "judges_by_name", "likelihood_calls"],
    "load": ["load_config"],
    "packages": ["require_packages"],
    "schema": ["SCHEMA_PATH"],
    "slices": ["config_slice"],
    "weights": ["PARETO", "parse_weight_name", "sampler_names", "weight_name", "weight_names", "weightings"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    # Loaded on first use: whoever declares options needs `fields` alone, and not what checks whole configs.
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
