"""Write what repeated sampling is worth as CSV, as LaTeX and for the report."""

from adaptive_samplers.protocol import said_of_plans
from adaptive_samplers.rendering import write_csv
from adaptive_samplers.repeated_sampling.per_sampler import write_latex, write_page
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    measured = read_table("repeated_sampling", snakemake.input.measured)
    laws = read_table("power_laws", snakemake.input.power_laws)
    write_csv(measured, snakemake.output.csv)
    write_csv(laws, snakemake.output.laws_csv)
    write_latex(measured, laws, snakemake.output.tex)
    write_page(measured, laws, snakemake.output.html, said_of_plans(snakemake.input.get("plan")))


run_stage(main, snakemake)
