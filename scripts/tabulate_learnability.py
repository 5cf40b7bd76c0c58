"""Write which architecture learns which heuristic, as CSV and as LaTeX."""

import pandas as pd

from adaptive_samplers.files import read_json
from adaptive_samplers.rendering import write_learnability
from adaptive_samplers.stage import run_stage


def main(snakemake):
    rows = pd.DataFrame([read_json(path) for path in snakemake.input])
    write_learnability(rows, snakemake.output.csv, snakemake.output.tex)


run_stage(main, snakemake)
