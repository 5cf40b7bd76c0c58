"""Collect the prompts of all sources into one table."""

from pathlib import Path

from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.prompts import collect_prompts
from adaptive_samplers.stage import run_stage, say
from adaptive_samplers.tables import write_table


def main(snakemake):
    settings = snakemake.params.settings["prompts"]
    # No param of the rule: verifiers decide whether the prompts are taken, not what is written.
    verification = Verification.from_settings(snakemake.config["labels"]["correctness"])
    prompts = collect_prompts(
        settings["sources"],
        settings["split"],
        settings["per_kind"],
        Path(),
        verification,
        leave_out=settings["unusable_ground_truths"] == "leave_out",
        processes=snakemake.threads,
    )
    say(f"{len(prompts)} prompts; {prompts.attrs['duplicates']} duplicates were left out")
    for fault in prompts.attrs["left_out"]:
        say(f"left out: {fault}")
    say(prompts.groupby(["kind", "split"]).size().unstack(fill_value=0).to_string())
    write_table("prompts", prompts, snakemake.output[0])


run_stage(main, snakemake)
