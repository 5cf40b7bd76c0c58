"""Plot the ranking of heuristics and learned samplers by quality, with intervals."""

from pathlib import Path

from adaptive_samplers.figures.ranking import ranking
from adaptive_samplers.figures.style import save
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    figure = ranking(read_table("comparison", snakemake.input[0]))
    save(figure, Path(snakemake.output.pdf).with_suffix(""), ["pdf", "png"])


run_stage(main, snakemake)
