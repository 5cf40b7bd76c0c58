"""Compare learned samplers with every heuristic on the test prompts."""

from adaptive_samplers.evaluation import compare_samplers, paired_differences
from adaptive_samplers.fronts import compare_fronts
from adaptive_samplers.rendering import render_table, write_csv
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table, write_table


def main(snakemake):
    tables = [read_table(name, snakemake.input[name]) for name in ("quality", "diversity", "correctness", "heuristics")]
    config = settings_of(snakemake)
    settings = {
        **config.evaluation.model_dump(include={"objectives", "resamples", "confidence"}),
        "seed": config.run.seed,
    }
    comparison = compare_samplers(*tables, **settings)
    say(render_table(comparison, settings["objectives"]))
    write_table("comparison", comparison, snakemake.output.comparison)
    write_csv(paired_differences(*tables, **settings), snakemake.output.differences)
    write_csv(compare_fronts(*tables, **settings), snakemake.output.fronts)


run_stage(main, snakemake)
