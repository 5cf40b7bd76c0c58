"""Train one architecture on one heuristic alone, and measure how well it learned it."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.files import write_json
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table
from adaptive_samplers.training import TrainingSettings
from adaptive_samplers.training.learnability import learn_heuristic


def main(snakemake):
    settings = settings_of(snakemake)
    output, architecture = Path(snakemake.output[0]), snakemake.wildcards.architecture
    own = settings.evaluation.learnability
    learnability = {
        "learning_rate": getattr(own.learning_rates, architecture),
        "steps": own.steps,
        "patience": None,
    }
    tables = [
        read_table("training_sets", path, columns=["answer_id", "split"]) for path in snakemake.input.training_sets
    ]
    row = learn_heuristic(
        pd.concat(tables),
        [Path(path) for path in snakemake.input.sketches],
        configured_pipeline(snakemake.params.heuristic),
        architecture,
        getattr(settings.samplers, architecture),
        # All else is as in `training`.
        TrainingSettings.from_config(settings.training, settings.run.seed, **learnability),
        output.with_suffix(".checkpoint"),
    )
    write_json(row, output)


run_stage(main, snakemake)
