"""Put the verdicts of all rounds into one table."""

from pathlib import Path

from adaptive_samplers.rendering import write_csv
from adaptive_samplers.stage import run_stage
from adaptive_samplers.training.rounds import table_of_rounds


def main(snakemake):
    samplers = zip(snakemake.params.generations, map(Path, snakemake.input), strict=True)
    write_csv(table_of_rounds(samplers), snakemake.output[0])


run_stage(main, snakemake)
