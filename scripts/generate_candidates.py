"""Answer a shard of the prompts under every heuristic, for one seed."""

from pathlib import Path

from adaptive_samplers.engines.base import Recording
from adaptive_samplers.engines.build import build_engine
from adaptive_samplers.generation import GenerationSettings, allocated_keys, generate, shard_of
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake)
    prompts = read_table("prompts", snakemake.input.prompts)
    seed, shards = int(snakemake.wildcards.seed), settings.generation.shards
    shard = shard_of(prompts, int(snakemake.wildcards.shard), shards)
    engine = build_engine(settings, Path(snakemake.input.model), Path(snakemake.log[0]))
    base_model = model_hash(snakemake.input.model)
    # Where budgets are adaptive, for the answers of a later seed.
    allocation = snakemake.input.get("allocation")
    # Where the config asks for them.
    recorder = None
    if draws := snakemake.output.get("draws"):
        # Jobs that ask a server do without torch.
        from adaptive_samplers.off_policy.recorder import DrawRecorder

        sketch = settings.training.sketch
        recording = Recording(sketch.top, sketch.tail, settings.off_policy.steps)
        draws_before = [Path(path) for path in snakemake.input.draws_before]
        recorder = DrawRecorder.of(Path(draws), engine, base_model, recording, draws_before)
    generate(
        shard,
        read_table("heuristics", snakemake.input.heuristics),
        [seed],
        engine,
        base_model,
        GenerationSettings.from_config(settings),
        Path(snakemake.output.candidates),
        allocated_keys(Path(allocation), set(shard["prompt_id"]), seed) if allocation else None,
        # Where learned samplers of an earlier generation join the heuristics.
        [Path(path) for path in snakemake.input.get("others", [])],
        recorder,
    )


run_stage(main, snakemake)
