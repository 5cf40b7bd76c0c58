"""Answer a shard of the prompts with a policy, so many times each."""

from pathlib import Path

from adaptive_samplers.engines.build import build_engine
from adaptive_samplers.generation import GenerationSettings, generate, shard_of
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake)
    prompts = read_table("prompts", snakemake.input.prompts)
    generate(
        shard_of(prompts, int(snakemake.wildcards.shard), settings.policy_samples.shards),
        read_table("heuristics", snakemake.input.heuristics),
        range(settings.policy_samples.samples),
        build_engine(settings, Path(snakemake.input.model), Path(snakemake.log[0])),
        model_hash(snakemake.input.model),
        GenerationSettings.from_config(settings),
        Path(snakemake.output[0]),
    )


run_stage(main, snakemake)
