"""Verify the answers to prompts that have a verifier."""

from pathlib import Path

from adaptive_samplers.labels.correctness import label_correctness
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake).labels.correctness
    tally = label_correctness(
        Path(snakemake.input.candidates),
        read_table("prompts", snakemake.input.prompts),
        Path(snakemake.output.labels),
        settings.tolerance,
        Verification.from_settings(settings),
        snakemake.threads,
    )
    say(tally.table())


run_stage(main, snakemake)
