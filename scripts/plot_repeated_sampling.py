"""Plot coverage by the number of samples, and what ways of choosing among samples make of it."""

from pathlib import Path

from adaptive_samplers.figures.repeated_sampling import coverage, selecting
from adaptive_samplers.figures.style import save
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    measured = read_table("repeated_sampling", snakemake.input.measured)
    laws = read_table("power_laws", snakemake.input.power_laws)
    for figure, path in (
        (coverage(measured, laws), snakemake.output.coverage_pdf),
        (selecting(measured), snakemake.output.selecting_pdf),
    ):
        save(figure, Path(path).with_suffix(""), ["pdf", "png"])


run_stage(main, snakemake)
