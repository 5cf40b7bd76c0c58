"""Draw the figures of a rule: `draw` of its module in `adaptive_samplers.figures` reads its inputs and makes them."""

from importlib import import_module
from pathlib import Path

from adaptive_samplers.figures.declaration import FORMATS
from adaptive_samplers.figures.style import save
from adaptive_samplers.stage import run_stage, settings_of


def main(snakemake):
    module = import_module(f"adaptive_samplers.figures.{snakemake.params.drawn_by}")
    for name, figure in module.draw(snakemake.input, settings_of(snakemake)).items():
        save(figure, Path(snakemake.output[0]).with_name(name), FORMATS)


run_stage(main, snakemake)
