"""Join a table of both phases, without the prompts that either dropped, and the reports of their answers."""

from adaptive_samplers.budgets import join_reports
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import join_tables
from adaptive_samplers.verification import dropped_prompts


def main(snakemake):
    reports = snakemake.input.phases
    join_tables(snakemake.params.table, snakemake.input.tables, snakemake.output.table, dropped_prompts(reports))
    if report := snakemake.output.get("report"):
        write_json(join_reports([read_json(path) for path in reports]), report)


run_stage(main, snakemake)
