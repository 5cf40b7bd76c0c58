"""Plot raw, target and learned distributions at a few token-steps."""

from pathlib import Path

from adaptive_samplers.figures.distributions import distributions
from adaptive_samplers.figures.style import save
from adaptive_samplers.files import read_json
from adaptive_samplers.stage import run_stage


def main(snakemake):
    figure = distributions(read_json(snakemake.input[0])["probes"])
    save(figure, Path(snakemake.output.pdf).with_suffix(""), ["pdf", "png"])


run_stage(main, snakemake)
