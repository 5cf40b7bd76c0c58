"""Check that every (prompt, heuristic, seed) was answered exactly once; gather the shards into one table."""

from pathlib import Path

from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table
from adaptive_samplers.verification import verify_candidates


def main(snakemake):
    settings = settings_of(snakemake)
    # Where budgets are adaptive, for the answers of the later seeds.
    allocation = snakemake.input.get("allocation")
    verify_candidates(
        [Path(path) for path in snakemake.input.shards],
        read_table("prompts", snakemake.input.prompts),
        read_table("heuristics", snakemake.input.heuristics),
        settings.seeds,
        settings.generation.tolerance,
        Path(snakemake.output.candidates),
        Path(snakemake.output.report),
        allocation=Path(allocation) if allocation else None,
    )


run_stage(main, snakemake)
