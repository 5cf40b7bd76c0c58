"""Plot the training curves of all samplers."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.figures.curves import curves
from adaptive_samplers.figures.style import save
from adaptive_samplers.files import read_json
from adaptive_samplers.stage import run_stage


def main(snakemake):
    folders = [Path(folder) for folder in snakemake.input.samplers]
    names = [(folder.parent.name, folder.name.replace("_top", " top")) for folder in folders]
    figure = curves(
        {name: pd.read_csv(folder / "curves.csv") for name, folder in zip(names, folders, strict=True)},
        {name: read_json(folder / "metrics.json") for name, folder in zip(names, folders, strict=True)},
    )
    save(figure, Path(snakemake.output.pdf).with_suffix(""), ["pdf", "png"])


run_stage(main, snakemake)
