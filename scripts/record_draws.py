"""Read answers with the base language model and keep, for every step, the sketch and what was drawn from it."""

from pathlib import Path

from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.off_policy.reading import RECORDED_SPLITS, answers_to_record, without_ends_by_strings
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table
from adaptive_samplers.training.replay import replay


def main(snakemake):
    settings = settings_of(snakemake)
    sketch = settings.training.sketch
    answers = answers_to_record(
        Path(snakemake.input.candidates),
        read_table("prompts", snakemake.input.prompts),
        read_table("heuristics", snakemake.input.heuristics),
        RECORDED_SPLITS,
        settings.off_policy.steps,
        int(snakemake.wildcards.shard),
        settings.off_policy.shards,
    )
    model = LanguageModel.from_config(settings, Path(snakemake.input.model))
    replay(
        without_ends_by_strings(answers, model.decode, settings.generation.stop),
        model,
        model_hash(snakemake.input.model),
        sketch.top,
        sketch.tail,
        Path(snakemake.output[0]),
        [Path(path) for path in [*snakemake.input.others, *snakemake.input.generated]],
    )


run_stage(main, snakemake)
