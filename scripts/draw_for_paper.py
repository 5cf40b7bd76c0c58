"""Draw the figures of a rule as wide as the paper shows them, and record what they were drawn from."""

from pathlib import Path

from adaptive_samplers.figures.drawing import draw_figures
from adaptive_samplers.figures.looks import Look
from adaptive_samplers.figures.style import drawn_as, save
from adaptive_samplers.files import write_json
from adaptive_samplers.paper.manifest import hashes
from adaptive_samplers.stage import run_stage, settings_of


def main(snakemake):
    looks = {name: Look(*look) for name, look in snakemake.params.looks.items()}
    record = Path(snakemake.output.made_of)
    made_of = hashes(snakemake.input, record.parents[2])
    for look in set(looks.values()):
        with drawn_as(look):
            figures = draw_figures(snakemake.params.drawn_by, snakemake.input, settings_of(snakemake))
            for name, figure in figures.items():
                if looks.get(name) == look:
                    save(figure, record.with_name(name), ["pdf"])
    write_json({"figures": list(looks), "files": made_of}, record)


run_stage(main, snakemake)
