"""Join the tables of both rounds, and the reports of their answers."""

from pathlib import Path

from adaptive_samplers.budgets import join_reports, join_tables
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.stage import run_stage


def main(snakemake):
    join_tables(snakemake.params.table, [Path(path) for path in snakemake.input.tables], Path(snakemake.output.table))
    if snakemake.input.get("reports"):
        write_json(join_reports([read_json(path) for path in snakemake.input.reports]), snakemake.output.report)


run_stage(main, snakemake)
