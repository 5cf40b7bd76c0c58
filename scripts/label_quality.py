"""Rate every answer to a shard of the prompts in a tournament for each prompt and seed."""

from pathlib import Path

from adaptive_samplers.files import write_json
from adaptive_samplers.generation import shard_of
from adaptive_samplers.labels.judges.build import candidate_columns, open_judge
from adaptive_samplers.labels.quality import label_quality, write_quality
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import parts_of_prompts, read_table


def main(snakemake):
    settings, output, report = settings_of(snakemake), Path(snakemake.output.labels), {}
    quality, candidates = settings.labels.quality, snakemake.input.candidates
    prompts = shard_of(read_table("prompts", snakemake.input.prompts), int(snakemake.wildcards.shard), quality.shards)
    prompt_ids = set(prompts["prompt_id"])
    columns = candidate_columns(quality.judge.kind)
    parts = parts_of_prompts("candidates", candidates, columns, prompt_ids=prompt_ids)
    with open_judge(settings, prompts, dict(snakemake.input.items()), output, Path(snakemake.log[0])) as judge:
        labels = label_quality(parts, judge, quality.tournament, quality.tolerance, settings.run.seed, report)
        write_quality(labels, candidates, prompt_ids, output)
        say(f"tournaments: {report}")
        write_json(report, snakemake.output.report)


run_stage(main, snakemake)
