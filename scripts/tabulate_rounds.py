"""Put the verdicts of all rounds into one table."""

from pathlib import Path

from adaptive_samplers.rendering import write_csv
from adaptive_samplers.stage import run_stage
from adaptive_samplers.training.rounds import table_of_rounds


def main(snakemake):
    generations = snakemake.params.generations
    folders = dict.fromkeys(generations)
    for folder, generation in zip(snakemake.input, generations, strict=True):
        folders[generation] = [*(folders[generation] or []), Path(folder)]
    write_csv(table_of_rounds(folders), snakemake.output[0])


run_stage(main, snakemake)
