"""Read the selected answers with the base language model and keep every token-step as a sketch."""

from pathlib import Path

from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table
from adaptive_samplers.training.replay import answers_of_shard, replay


def main(snakemake):
    settings = settings_of(snakemake)
    training = settings.training
    sets = [read_table("training_sets", path) for path in snakemake.input.training_sets]
    replay(
        answers_of_shard(sets, int(snakemake.wildcards.shard), training.replay_shards),
        LanguageModel.from_config(settings, Path(snakemake.input.model)),
        model_hash(snakemake.input.model),
        training.sketch.top,
        training.sketch.tail,
        Path(snakemake.output[0]),
        [Path(path) for path in snakemake.input.generated],
    )


run_stage(main, snakemake)
