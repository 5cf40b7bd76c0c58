"""Plot quality against diversity, learned samplers among the heuristics."""

from pathlib import Path

from adaptive_samplers.figures.style import save
from adaptive_samplers.figures.tradeoff import tradeoff
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake)
    comparison = read_table("comparison", snakemake.input[0])
    figure = tradeoff(comparison, settings.scoring.diversity_measure)
    save(figure, Path(snakemake.output.pdf).with_suffix(""), ["pdf", "png"])


run_stage(main, snakemake)
