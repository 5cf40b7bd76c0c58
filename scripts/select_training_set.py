"""Keep the best answers for each prompt and seed, under one set of weights or by Pareto fronts."""

from functools import partial

from adaptive_samplers.config.weights import PARETO, parse_weight_name
from adaptive_samplers.selection import SCORED, select_training_set
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_batches, read_table, write_table


def main(snakemake):
    settings = settings_of(snakemake)
    name = snakemake.wildcards.weights
    selected = select_training_set(
        read_table("scores", snakemake.input.scores, SCORED),
        partial(read_batches, "candidates", snakemake.input.candidates),
        read_table("heuristics", snakemake.input.heuristics),
        None if name == PARETO else parse_weight_name(name),
        name,
        int(snakemake.wildcards.top_k),
        settings.scoring.correct_only,
    )
    say(f"{len(selected)} answers kept: {selected['split'].value_counts().to_dict()}")
    write_table("training_sets", selected, snakemake.output[0])


run_stage(main, snakemake)
