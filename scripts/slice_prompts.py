"""Choose the prompts that policies answer, and write how they are answered as a table of one heuristic."""

from adaptive_samplers.policies.prompt_slices import slice_prompts
from adaptive_samplers.policies.samples import sampling_heuristics
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table, write_table


def main(snakemake):
    settings = settings_of(snakemake).policy_samples
    prompts = read_table("prompts", snakemake.input.prompts)
    chosen = slice_prompts(prompts, settings.splits, settings.skip, settings.limit)
    say(f"{len(chosen)} of {len(prompts)} prompts, from place {settings.skip} on")
    write_table("prompts", chosen, snakemake.output.prompts)
    write_table("heuristics", sampling_heuristics(settings.sampling), snakemake.output.heuristics)


run_stage(main, snakemake)
