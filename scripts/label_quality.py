"""Rate every answer to a shard of the prompts in a tournament for each prompt and seed."""

from pathlib import Path

from adaptive_samplers.config import judged_by
from adaptive_samplers.files import write_json
from adaptive_samplers.generation import shard_of
from adaptive_samplers.labels.judges.build import candidate_columns, open_judge
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.stage import run_stage, say
from adaptive_samplers.tables import read_table, write_table


def main(snakemake):
    config = judged_by(snakemake.config, snakemake.wildcards.get("judge"))
    settings, output = snakemake.params.settings, Path(snakemake.output.labels)
    columns = candidate_columns(config["labels"]["quality"]["judge"]["kind"])
    shards = settings["labels"]["quality"]["shards"]
    prompts = shard_of(read_table("prompts", snakemake.input.prompts), int(snakemake.wildcards.shard), shards)
    candidates = read_table("candidates", snakemake.input.candidates, columns, set(prompts["prompt_id"]))
    inputs = dict(snakemake.input.items())
    with open_judge(config, prompts, candidates, inputs, output, Path(snakemake.log[0])) as judge:
        labels, report = label_quality(
            candidates,
            judge,
            settings["labels"]["quality"]["tournament"],
            settings["labels"]["quality"]["tolerance"],
            settings["run"]["seed"],
        )
        say(f"tournaments: {report}")
        write_json(report, snakemake.output.report)
        write_table("quality", labels, output)


run_stage(main, snakemake)
