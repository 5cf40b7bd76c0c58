"""Rate every answer to a shard of the prompts in a tournament for each prompt and seed."""

from pathlib import Path

from adaptive_samplers.files import write_json
from adaptive_samplers.generation import shard_of
from adaptive_samplers.labels.judges.build import candidate_columns, open_judge
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table, write_table


def main(snakemake):
    settings, output = settings_of(snakemake), Path(snakemake.output.labels)
    quality = settings.labels.quality
    prompts = shard_of(read_table("prompts", snakemake.input.prompts), int(snakemake.wildcards.shard), quality.shards)
    columns = candidate_columns(quality.judge.kind)
    candidates = read_table("candidates", snakemake.input.candidates, columns, set(prompts["prompt_id"]))
    inputs = dict(snakemake.input.items())
    with open_judge(settings, prompts, candidates, inputs, output, Path(snakemake.log[0])) as judge:
        labels, report = label_quality(
            candidates,
            judge,
            quality.tournament,
            quality.tolerance,
            settings.run.seed,
        )
        say(f"tournaments: {report}")
        write_json(report, snakemake.output.report)
        write_table("quality", labels, output)


run_stage(main, snakemake)
