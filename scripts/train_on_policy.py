"""Go on training a learned sampler on answers of its own, which the base model writes anew in every step."""

from pathlib import Path

from adaptive_samplers.engines.build import build_engine
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table
from adaptive_samplers.training.on_policy import train_on_policy


def main(snakemake):
    settings, model = settings_of(snakemake), Path(snakemake.input.model)
    engine = build_engine(settings, model, Path(snakemake.log[0]))
    # An engine in this process has the model that reads its answers; a server has not.
    reader = getattr(engine, "model", None) or LanguageModel.from_config(settings, model)
    train_on_policy(
        settings,
        read_table("prompts", snakemake.input.prompts),
        Path(snakemake.input.sampler),
        engine,
        reader,
        model_hash(model),
        snakemake.threads,
        Path(snakemake.output[0]),
    )


run_stage(main, snakemake)
