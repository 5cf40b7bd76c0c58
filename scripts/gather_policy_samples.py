"""Write the samples of a policy as one table, in the formats of others, and where they came from."""

from pathlib import Path

from adaptive_samplers.engines.registry import ENGINE_PACKAGES
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.generation import GenerationSettings
from adaptive_samplers.policies.formats import write_formats
from adaptive_samplers.policies.samples import gather_policy_samples
from adaptive_samplers.provenance import provenance
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings, samples = settings_of(snakemake), Path(snakemake.output.samples)
    prompts = read_table("prompts", snakemake.input.prompts)
    gather_policy_samples(Path(snakemake.input.candidates), prompts, snakemake.wildcards.policy, samples)
    limits = GenerationSettings.from_config(settings)
    generation = {
        "max_new_tokens": limits.max_new_tokens,
        "stop": list(limits.stop),
        "sampling": settings.policy_samples.sampling,
    }
    write_formats(samples, prompts, generation, Path(snakemake.output.formats))
    model = read_json(Path(snakemake.input.model) / "provenance.json")
    write_json(provenance(snakemake.params.settings, *ENGINE_PACKAGES, model=model), snakemake.output.provenance)


run_stage(main, snakemake)
