"""Describe the labels: distributions, correlations, and the best and worst answers."""

import pandas as pd

from adaptive_samplers.files import write_json
from adaptive_samplers.label_summary import distributions_table, summarize_labels, write_correlations
from adaptive_samplers.rendering import write_csv
from adaptive_samplers.stage import run_stage, say
from adaptive_samplers.tables import read_table


def main(snakemake):
    names = ("candidates", "quality", "diversity", "correctness", "overlap")
    tables = {name: getattr(snakemake.input, name) for name in names if getattr(snakemake.input, name)}
    prompts = read_table("prompts", snakemake.input.prompts)
    heuristics = read_table("heuristics", snakemake.input.heuristics)
    judged = dict(zip(snakemake.params.judges, snakemake.input.judged, strict=True))
    if snakemake.params.averaged:
        judged["all judges, averaged"] = tables["quality"]
    summary, pairs = summarize_labels(tables, prompts, heuristics, judged)
    say(f"labels of {summary['answers']} answers; correlations of {summary['correlated']['answers']}")
    write_csv(distributions_table(summary), snakemake.output.distributions)
    columns = summary["correlated"]["columns"]
    write_correlations(pairs, columns, snakemake.output.correlations, snakemake.output.tex)
    write_csv(pd.DataFrame(summary["likelihood"]), snakemake.output.likelihood)
    write_json(summary, snakemake.output.summary)


run_stage(main, snakemake)
