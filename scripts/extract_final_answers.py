"""Extract the final answers of test answers, for votes among them."""

from pathlib import Path

from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.repeated_sampling.final_answers import extract_final_answers
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake).labels.correctness
    counts = extract_final_answers(
        Path(snakemake.input.candidates),
        read_table("prompts", snakemake.input.prompts),
        Path(snakemake.output[0]),
        settings.tolerance,
        Verification.from_settings(settings),
        snakemake.threads,
    )
    say(
        f"answers that gave a final answer: {counts['gave']}, none: {counts['none']}, not known: {counts['failed']}, "
        f"not generated: {counts['missing']}"
    )


run_stage(main, snakemake)
