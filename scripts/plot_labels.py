"""Plot how labels are distributed and how they go together."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.figures.labels import label_correlations, label_distributions
from adaptive_samplers.figures.style import save
from adaptive_samplers.files import read_json
from adaptive_samplers.stage import run_stage


def main(snakemake):
    summary = read_json(snakemake.input.summary)
    pairs = pd.read_csv(snakemake.input.correlations)
    figures = {
        snakemake.output.distributions: label_distributions(summary["distributions"], summary["columns"]),
        snakemake.output.correlations: label_correlations(pairs, summary["correlated"]["columns"]),
    }
    for path, figure in figures.items():
        save(figure, Path(path).with_suffix(""), ["pdf", "png"])


run_stage(main, snakemake)
