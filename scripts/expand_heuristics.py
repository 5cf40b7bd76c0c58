"""Expand the grid of heuristics into one table."""

from adaptive_samplers.heuristics import expand_heuristics
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import write_table


def main(snakemake):
    rows = expand_heuristics(settings_of(snakemake).heuristics)
    say(f"{len(rows)} heuristics: " + ", ".join(row["name"] for row in rows))
    write_table("heuristics", rows, snakemake.output[0])


run_stage(main, snakemake)
