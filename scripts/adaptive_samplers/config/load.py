"""A config, completed and checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptive_samplers.config.checks import CHECKS
from adaptive_samplers.config.problems import Problems
from adaptive_samplers.config.schema import complete, config_schema
from adaptive_samplers.config.validation import check_schema
from adaptive_samplers.config.words import join, kind_of
from adaptive_samplers.errors import UserError


def load_config(raw: Mapping[str, Any], base_folder: Path) -> dict[str, Any]:
    """Check a config and fill in the schema's defaults.

    Whole numbers come back as `int` and other numbers as `float`, whichever way they were written, so that `1` and
    `1.0` mean the same to Snakemake. Of a model's source, keys that belong to another kind of source are left out:
    they remain when one file is layered over another. A complete config comes back as it is.

    Parameters
    ----------
    raw
        The config as read from YAML; it is not changed.
    base_folder
        Folder to which the paths in the config are relative.

    Returns
    -------
    dict
        A new, complete config.

    Raises
    ------
    UserError
        With a line for each problem: the key, what is wrong with its value, what is allowed, and the nearest name.
    """
    if not isinstance(raw, Mapping):
        raise UserError(
            f"The config is {kind_of(raw)}; it must be a map with the keys {join(config_schema()['properties'])}"
        )
    config = complete(raw, config_schema())
    problems = Problems()
    check_schema(config, problems)
    for check in CHECKS:
        check(config, problems, Path(base_folder))
    problems.raise_if_any()
    return config
