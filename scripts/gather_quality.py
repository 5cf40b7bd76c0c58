"""One table of ratings, and one summary of the tournaments, of all shards."""

from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.labels.quality_report import merge_summaries
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import join_tables
from adaptive_samplers.verification import dropped_prompts


def main(snakemake):
    without = dropped_prompts(snakemake.input.get("phases", []))
    join_tables("quality", snakemake.input.labels, snakemake.output.labels, without)
    write_json(merge_summaries([read_json(path) for path in snakemake.input.reports]), snakemake.output.report)


run_stage(main, snakemake)
