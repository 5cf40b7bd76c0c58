"""Write preference pairs, or labels of single answers, in one of the formats that trainers read."""

from pathlib import Path

from adaptive_samplers.preferences.formats import write_format
from adaptive_samplers.stage import run_stage, say


def main(snakemake):
    rows = write_format(
        Path(snakemake.output[0]).stem, snakemake.input.pairs, snakemake.input.answers, snakemake.output[0]
    )
    say(f"{rows} rows")


run_stage(main, snakemake)
