"""Look at a few next-token distributions of test answers: raw, target and learned."""

from pathlib import Path

from adaptive_samplers.files import write_json
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.probes import probe_distributions
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake)
    probes = probe_distributions(
        read_table("training_sets", snakemake.input.training_set),
        read_table("prompts", snakemake.input.prompts),
        LanguageModel.from_config(settings, Path(snakemake.input.model)),
        {Path(folder).parent.name: Path(folder) for folder in snakemake.input.samplers},
        settings.report.distributions,
    )
    write_json({"probes": probes}, snakemake.output[0])


run_stage(main, snakemake)
