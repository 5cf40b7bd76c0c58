"""Write what the planned comparison found for the report and as LaTeX."""

import pandas as pd

from adaptive_samplers.compare.pages import protocol_page, write_latex
from adaptive_samplers.files import read_json
from adaptive_samplers.stage import run_stage


def main(snakemake):
    given = snakemake.input
    families, pairs = pd.read_csv(given.families), pd.read_csv(given.pairs)
    plan = read_json(given.plan)
    protocol_page(plan, families, pairs, read_json(given.summary), snakemake.output.html)
    write_latex(families, plan, snakemake.output.tex)


run_stage(main, snakemake)
