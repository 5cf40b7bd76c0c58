"""Write the comparison as CSV, as LaTeX and for the report."""

from adaptive_samplers.pages import comparison_page
from adaptive_samplers.protocol import said_of_plans
from adaptive_samplers.rendering import write_tables
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    comparison = read_table("comparison", snakemake.input.comparison)
    said = said_of_plans(snakemake.input.get("plan"))
    write_tables(comparison, snakemake.output.csv, snakemake.output.tex, said)
    comparison_page(comparison, snakemake.output.html, said)


run_stage(main, snakemake)
