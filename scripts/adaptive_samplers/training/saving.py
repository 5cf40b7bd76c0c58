"""What a training leaves behind: the sampler, how well it does and what it came from, in one folder."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaptive_samplers.files import atomic_output, write_json
from adaptive_samplers.samplers import AdaptiveSampler


def save_trained(
    output: Path,
    sampler: AdaptiveSampler,
    metrics: Mapping[str, Any],
    curves: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    tensorboard: Path | None = None,
) -> None:
    """Write the folder of a trained sampler in one step: `config.json` and `model.safetensors`, `metrics.json`,
    `curves.csv`, `provenance.json`, and a copy of the `tensorboard` folder if there is one."""
    with atomic_output(output) as temporary:
        sampler.cpu().save_pretrained(temporary)
        write_json(metrics, temporary / "metrics.json")
        pd.DataFrame(curves).to_csv(temporary / "curves.csv", index=False)
        if tensorboard is not None:
            shutil.copytree(tensorboard, temporary / "tensorboard")
        write_json(provenance, temporary / "provenance.json")
