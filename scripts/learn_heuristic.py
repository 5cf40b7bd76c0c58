"""Train one architecture on one heuristic alone, and measure how well it learned it."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.files import write_json
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table
from adaptive_samplers.training.learnability import learn_heuristic


def main(snakemake):
    settings = snakemake.params.settings
    output = Path(snakemake.output[0])
    tables = [
        read_table("training_sets", path, columns=["answer_id", "split"]) for path in snakemake.input.training_sets
    ]
    row = learn_heuristic(
        pd.concat(tables),
        [Path(path) for path in snakemake.input.sketches],
        configured_pipeline(snakemake.params.heuristic),
        snakemake.wildcards.architecture,
        snakemake.params.sampler,
        settings["training"] | snakemake.params.training | {"patience": None},
        settings["run"]["seed"],
        output.with_suffix(".checkpoint"),
    )
    write_json(row, output)


run_stage(main, snakemake)
