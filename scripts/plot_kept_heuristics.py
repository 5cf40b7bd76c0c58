"""Plot which heuristics' answers each set of weights keeps."""

from pathlib import Path

from adaptive_samplers.figures.selection import kept
from adaptive_samplers.figures.style import save
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    heuristics = read_table("heuristics", snakemake.input.heuristics)
    names = heuristics[["heuristic_id", "name"]]
    paths = [Path(path) for path in snakemake.input.training_sets]
    training_sets = {
        path.stem.replace("_top", " top"): read_table("training_sets", path).merge(names, on="heuristic_id")
        for path in paths
    }
    save(kept(training_sets, heuristics), Path(snakemake.output.pdf).with_suffix(""), ["pdf", "png"])


run_stage(main, snakemake)
