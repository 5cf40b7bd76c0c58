"""Draw the figures of a rule: `draw` of its module in `adaptive_samplers.figures` reads its inputs and makes them."""

from pathlib import Path

from adaptive_samplers.figures.declaration import FORMATS
from adaptive_samplers.figures.drawing import draw_figures
from adaptive_samplers.figures.style import save
from adaptive_samplers.stage import run_stage, settings_of


def main(snakemake):
    figures = draw_figures(snakemake.params.drawn_by, snakemake.input, settings_of(snakemake))
    for name, figure in figures.items():
        save(figure, Path(snakemake.output[0]).with_name(name), FORMATS)


run_stage(main, snakemake)
