"""Gather a split's answers of heuristics and learned samplers into one table, complete or not at all."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.measures import JUDGED_SPLITS
from adaptive_samplers.samplers import evaluated
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table, write_table
from adaptive_samplers.verification import verify_candidates


def main(snakemake):
    settings = settings_of(snakemake)
    prompts = read_table("prompts", snakemake.input.prompts)
    folder = Path(snakemake.output.candidates).parents[1]
    at = snakemake.params.preferences, snakemake.params.temperatures
    learned = [row for name in snakemake.params.samplers for row in evaluated(str(folder / "samplers" / name), *at)]
    heuristics = pd.concat([read_table("heuristics", snakemake.input.heuristics), pd.DataFrame(learned)])
    write_table("heuristics", heuristics, snakemake.output.heuristics)
    verify_candidates(
        [Path(snakemake.input.candidates), *map(Path, snakemake.input.sampled)],
        prompts[prompts["split"] == JUDGED_SPLITS[snakemake.wildcards.judged]],
        heuristics,
        settings.seeds,
        settings.generation.tolerance,
        Path(snakemake.output.candidates),
        Path(snakemake.output.report),
        other_prompts=set(prompts["prompt_id"]),
    )


run_stage(main, snakemake)
