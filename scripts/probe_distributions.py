"""Look at a few next-token distributions of test answers: raw, target and learned."""

from pathlib import Path

from adaptive_samplers.files import write_json
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.probes import probe_distributions
from adaptive_samplers.stage import run_stage
from adaptive_samplers.tables import read_table


def main(snakemake):
    probes = probe_distributions(
        read_table("training_sets", snakemake.input.training_set),
        read_table("prompts", snakemake.input.prompts),
        LanguageModel.from_config(snakemake.config, Path(snakemake.input.model)),
        {Path(folder).parent.name: Path(folder) for folder in snakemake.input.samplers},
        snakemake.params.settings["report"]["distributions"],
    )
    write_json({"probes": probes}, snakemake.output[0])


run_stage(main, snakemake)
