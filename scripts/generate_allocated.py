"""Answer those prompts of a shard, for one later seed, that the budget was allocated to."""

from pathlib import Path

from adaptive_samplers.engines.build import build_engine
from adaptive_samplers.generation import GenerationSettings, allocated_keys, generate, shard_of
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    prompts = read_table("prompts", snakemake.input.prompts)
    seed = int(snakemake.wildcards.seed)
    shard = shard_of(prompts, int(snakemake.wildcards.shard), snakemake.params.settings["generation"]["shards"])
    generate(
        shard,
        read_table("heuristics", snakemake.input.heuristics),
        [seed],
        build_engine(snakemake.config, Path(snakemake.input.model), Path(snakemake.log[0])),
        model_hash(snakemake.input.model),
        GenerationSettings.from_config(snakemake.params.settings),
        Path(snakemake.output[0]),
        allocated_keys(Path(snakemake.input.allocation), set(shard["prompt_id"]), seed),
    )


run_stage(main, snakemake)
