"""Rate every answer in a tournament for each prompt and seed."""

from adaptive_samplers.files import write_json
from adaptive_samplers.labels.judge import FeatureReward
from adaptive_samplers.labels.quality import label_quality
from adaptive_samplers.models.language_model import load_decoder
from adaptive_samplers.stage import run_stage, say
from adaptive_samplers.tables import KEY, read_table, write_table


def main(snakemake):
    settings = snakemake.params.settings
    columns = [*KEY, "token_ids", "text", "finish_reason", "token_logprobs", "end_logprobs"]
    labels, report = label_quality(
        read_table("prompts", snakemake.input.prompts),
        read_table("candidates", snakemake.input.candidates, columns),
        read_table("embeddings", snakemake.input.embeddings),
        FeatureReward.load(snakemake.input.judge),
        load_decoder(snakemake.input.model, snakemake.config["model"]["trust_remote_code"]),
        settings["labels"]["quality"]["tournament"],
        settings["labels"]["quality"]["tolerance"],
        settings["run"]["seed"],
    )
    say(f"tournaments: {report}")
    write_table("quality", labels, snakemake.output.labels)
    write_json(report, snakemake.output.report)


run_stage(main, snakemake)
