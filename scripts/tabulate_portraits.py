"""Write what learned samplers are: tables for people and for a paper, and their formulas to copy."""

from adaptive_samplers.portraits.tables import read_portraits, write_portraits
from adaptive_samplers.stage import run_stage


def main(snakemake):
    write_portraits(read_portraits(snakemake.input), **snakemake.output)


run_stage(main, snakemake)
