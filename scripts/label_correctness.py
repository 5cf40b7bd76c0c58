"""Verify the answers to prompts that have a verifier."""

from adaptive_samplers.labels.correctness import label_correctness
from adaptive_samplers.stage import run_stage, say
from adaptive_samplers.tables import KEY, read_table, write_table


def main(snakemake):
    labels = label_correctness(
        read_table("candidates", snakemake.input.candidates, [*KEY, "text", "finish_reason", "error"]),
        read_table("prompts", snakemake.input.prompts),
        snakemake.params.settings["labels"]["correctness"]["tolerance"],
    )
    say(labels.groupby("verifier")["score"].agg(["count", "mean"]).to_string())
    write_table("correctness", labels, snakemake.output.labels)


run_stage(main, snakemake)
