"""Config files layered over one another, as `snakemake --configfile` does it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from adaptive_samplers.errors import UserError

DEMO = "config/config.yaml"  # what the Snakefile reads if no file is named


def read_layers(paths: Iterable[str]) -> dict[str, Any]:
    """Merge config files: maps are merged key by key, everything else is replaced by the later file.

    Snakemake itself reads and merges the files, so that the result is the config that the rules see.
    Defaults are not filled in; `load_config` does that.

    Raises
    ------
    UserError
        If a file does not exist, or is not a map in YAML or JSON.
    """
    config: dict[str, Any] = {}
    for path in paths:
        if not Path(path).is_file():
            known = ", ".join(sorted(preset.stem for preset in Path("config/presets").glob("*.yaml")))
            raise UserError(f"'{path}' does not exist; the presets, in config/presets, are {known}")
        try:
            update_config(config, load_configfile(path))
        except WorkflowError as error:
            raise UserError(f"'{path}': {error}") from None
    return config
