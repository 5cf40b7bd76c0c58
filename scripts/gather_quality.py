"""One table of ratings, and one summary of the tournaments, of all shards."""

from pathlib import Path

from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.labels.quality import gather_quality, merge_summaries
from adaptive_samplers.stage import run_stage


def main(snakemake):
    gather_quality([Path(path) for path in snakemake.input.labels], Path(snakemake.output.labels))
    write_json(merge_summaries([read_json(path) for path in snakemake.input.reports]), snakemake.output.report)


run_stage(main, snakemake)
