"""The judge that the config asks for."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd

from adaptive_samplers.config.model import Config
from adaptive_samplers.labels.judges.base import Case, Judge
from adaptive_samplers.labels.judges.registry import JUDGES
from adaptive_samplers.tables import KEY


def candidate_columns(kind: str) -> list[str]:
    """The columns of the candidates that a judge of this kind reads."""
    return [*KEY, "text", "finish_reason", *JUDGES[kind].columns]


def open_judge(
    config: Config,
    prompts: pd.DataFrame,
    inputs: Mapping[str, str],
    output: Path,
    log: Path,
) -> AbstractContextManager[Judge]:
    """The judge `labels.quality.judge`, for a `with` block.

    Calls of a judge's model are kept in a part file next to `output` until the block ends without an error, so `output`
    should be written inside it. If a server is started, its output goes into a file next to `log`.

    Parameters
    ----------
    config : a config, or what the stage may read of it.
    prompts : the table.
    inputs : paths by name, those that the judge's declaration names.
    """
    settings = config.labels.quality.judge
    return JUDGES[settings.kind].opened_by(Case(config, settings, prompts, inputs, output, log))
