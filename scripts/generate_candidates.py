"""Answer a shard of the prompts under every heuristic, for one seed."""

from pathlib import Path

from adaptive_samplers.engines.build import build_engine
from adaptive_samplers.generation import GenerationSettings, generate, shard_of
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    prompts = read_table("prompts", snakemake.input.prompts)
    shards = snakemake.params.settings["generation"]["shards"]
    engine = build_engine(snakemake.config, Path(snakemake.input.model), Path(snakemake.log[0]))
    generate(
        shard_of(prompts, int(snakemake.wildcards.shard), shards),
        read_table("heuristics", snakemake.input.heuristics),
        [int(snakemake.wildcards.seed)],
        engine,
        model_hash(snakemake.input.model),
        GenerationSettings.from_config(snakemake.params.settings),
        Path(snakemake.output[0]),
    )


run_stage(main, snakemake)
