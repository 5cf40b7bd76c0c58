"""Train the policy of an iteration by the command of the config."""

from pathlib import Path

from adaptive_samplers.policies.update import train_policy, training_seed
from adaptive_samplers.stage import run_stage, settings_of


def main(snakemake):
    settings, output = settings_of(snakemake), Path(snakemake.output[0])
    number = int(snakemake.wildcards.iteration)
    words = {
        "data": Path(snakemake.input.data).resolve(),
        "model": Path(snakemake.input.model).resolve(),
        "reference": Path(snakemake.input.reference).resolve(),
        "scratch": output.with_name("training").resolve(),
        "iteration": number,
        "seed": training_seed(settings.run.seed, number),
        "threads": snakemake.threads,
    }
    train_policy(settings.iteration.command, words, output, Path(snakemake.log.training), snakemake.threads)


run_stage(main, snakemake)
