"""Put the comparisons of all generations of learned samplers into one table, and their differences into another."""

import pandas as pd

from adaptive_samplers.evaluation import join_generations
from adaptive_samplers.rendering import write_csv
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    joined = {
        "comparison": join_generations([read_table("comparison", path) for path in snakemake.input.comparison]),
        "differences": join_generations([pd.read_csv(path) for path in snakemake.input.differences]),
    }
    for name, table in joined.items():
        write_csv(table, snakemake.output[name])


run_stage(main, snakemake)
