"""Answer the prompts of a split with learned samplers, for all seeds, through the same engine as the heuristics."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.engines.build import build_engine
from adaptive_samplers.generation import GenerationSettings, generate_tables
from adaptive_samplers.measures import JUDGED_SPLITS
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.samplers import evaluated
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake)
    prompts = read_table("prompts", snakemake.input.prompts)
    at = settings.evaluation.preferences, settings.evaluation.temperatures
    samplers = zip(snakemake.input.samplers, snakemake.output, strict=True)
    engine = build_engine(settings, Path(snakemake.input.model), Path(snakemake.log[0]))
    generate_tables(
        prompts[prompts["split"] == JUDGED_SPLITS[snakemake.wildcards.judged]],
        {Path(output): pd.DataFrame(evaluated(folder, *at)) for folder, output in samplers},
        settings.seeds,
        engine,
        model_hash(snakemake.input.model),
        GenerationSettings.from_config(settings),
    )


run_stage(main, snakemake)
