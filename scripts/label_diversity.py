"""Measure how different the answers to a prompt under a heuristic are across seeds."""

from adaptive_samplers.files import write_json
from adaptive_samplers.labels.diversity import label_diversity
from adaptive_samplers.labels.embeddings import read_embeddings
from adaptive_samplers.stage import run_stage, say
from adaptive_samplers.tables import KEY, read_table, write_table


def main(snakemake):
    labels, report = label_diversity(
        read_table("candidates", snakemake.input.candidates, [*KEY, "text", "finish_reason", "error"]),
        read_embeddings(snakemake.input.embeddings),
    )
    say(f"diversity: {report}")
    write_json(report, snakemake.output.report)
    write_table("diversity", labels, snakemake.output.labels)


run_stage(main, snakemake)
