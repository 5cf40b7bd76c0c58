"""Check that a policy answered every prompt as often as it should; gather the shards into one table."""

from pathlib import Path

from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table
from adaptive_samplers.verification import verify_candidates


def main(snakemake):
    settings = settings_of(snakemake).policy_samples
    verify_candidates(
        [Path(path) for path in snakemake.input.shards],
        read_table("prompts", snakemake.input.prompts),
        read_table("heuristics", snakemake.input.heuristics),
        range(settings.samples),
        settings.tolerance,
        Path(snakemake.output.candidates),
        Path(snakemake.output.report),
        tolerance_key="policy_samples.tolerance",
    )


run_stage(main, snakemake)
