"""Train one architecture on one training set, for one objective."""

from pathlib import Path

from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table
from adaptive_samplers.training.train_sampler import train_on_training_set


def main(snakemake):
    settings = settings_of(snakemake)
    # The params hold one objective only.
    [objective] = settings.training.objectives
    train_on_training_set(
        read_table("training_sets", snakemake.input.training_set),
        [Path(path) for path in snakemake.input.sketches],
        snakemake.wildcards.architecture,
        getattr(settings.samplers, snakemake.wildcards.architecture),
        objective,
        settings.training,
        settings.run.seed,
        Path(snakemake.output[0]),
    )


run_stage(main, snakemake)
