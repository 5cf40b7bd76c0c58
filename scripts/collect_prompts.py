"""Collect the prompts of all sources into one table."""

from pathlib import Path

from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.prompts import collect_prompts
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import write_table


def main(snakemake):
    config = settings_of(snakemake)
    settings = config.prompts
    prompts = collect_prompts(
        settings.sources,
        settings.split.model_dump(),
        settings.per_kind.model_dump(),
        Path(),
        Verification.from_settings(config.labels.correctness),
        leave_out=settings.unusable_ground_truths == "leave_out",
        processes=snakemake.threads,
    )
    say(f"{len(prompts)} prompts; {prompts.attrs['duplicates']} duplicates were left out")
    for fault in prompts.attrs["left_out"]:
        say(f"left out: {fault}")
    say(prompts.groupby(["kind", "split"]).size().unstack(fill_value=0).to_string())
    write_table("prompts", prompts, snakemake.output[0])


run_stage(main, snakemake)
