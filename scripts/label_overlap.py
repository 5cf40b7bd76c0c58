"""Trace answers to the reference corpus."""

from adaptive_samplers.labels.overlap import label_overlap
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import KEY, read_table, write_table


def main(snakemake):
    labels = label_overlap(
        read_table("candidates", snakemake.input.candidates, [*KEY, "token_ids", "finish_reason", "error"]),
        snakemake.input.index,
        snakemake.params.settings["labels"]["overlap"]["minimum_match"],
    )
    write_table("overlap", labels, snakemake.output.labels)


run_stage(main, snakemake)
