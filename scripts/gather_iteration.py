"""Check that an iteration's policy answered every prompt; make of its samples contestants that meet in a tournament."""

from pathlib import Path

from adaptive_samplers.policies.iterations import as_contestants, contestants
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table, write_table
from adaptive_samplers.verification import verify_candidates


def main(snakemake):
    settings = settings_of(snakemake)
    samples = settings.iteration.samples
    heuristics = read_table("heuristics", snakemake.input.heuristics)
    output = Path(snakemake.output.contestants)
    # Of one name: what a killed job left is written over, and deleted in the end.
    verified = output.with_name(".verified.parquet")
    verify_candidates(
        [Path(path) for path in snakemake.input.shards],
        read_table("prompts", snakemake.input.prompts),
        heuristics,
        range(samples),
        settings.policy_samples.tolerance,
        verified,
        Path(snakemake.output.report),
        tolerance_key="policy_samples.tolerance",
    )
    write_table("heuristics", contestants(heuristics, samples), snakemake.output.heuristics)
    as_contestants(verified, output)
    verified.unlink()


run_stage(main, snakemake)
