"""Write preference pairs, or labels of single answers, in one of the formats that trainers read."""

from adaptive_samplers.preferences.formats import write_format
from adaptive_samplers.stage import run_stage, say


def main(snakemake):
    params, inputs = snakemake.params, snakemake.input
    rows = write_format(params.format, inputs.pairs, inputs.answers, snakemake.output[0], params.split)
    say(f"{rows} rows")


run_stage(main, snakemake)
