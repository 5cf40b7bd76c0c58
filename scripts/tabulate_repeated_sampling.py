"""Write what repeated sampling is worth as CSV, as LaTeX and for the report."""

from adaptive_samplers.files import atomic_output
from adaptive_samplers.repeated_sampling.report import write_latex, write_page
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    measured = read_table("repeated_sampling", snakemake.input.measured)
    laws = read_table("power_laws", snakemake.input.power_laws)
    for table, path in ((measured, snakemake.output.csv), (laws, snakemake.output.laws_csv)):
        with atomic_output(path) as temporary:
            table.to_csv(temporary, index=False)
    write_latex(measured, laws, snakemake.output.tex)
    write_page(measured, laws, snakemake.output.html)


run_stage(main, snakemake)
