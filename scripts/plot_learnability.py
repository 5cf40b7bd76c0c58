"""Plot which architecture learns which heuristic, as a heat map."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.figures.learnability import learnability
from adaptive_samplers.figures.style import save
from adaptive_samplers.files import read_json
from adaptive_samplers.stage import run_stage


def main(snakemake):
    figure = learnability(pd.DataFrame([read_json(path) for path in snakemake.input]))
    save(figure, Path(snakemake.output.pdf).with_suffix(""), ["pdf", "png"])


run_stage(main, snakemake)
