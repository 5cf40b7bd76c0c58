"""Declare what is compared, and how, before any test answer is judged."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.protocol import declare, freeze
from adaptive_samplers.samplers import evaluated
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    protocol, given = settings_of(snakemake).evaluation.protocol, snakemake.params
    prompts = read_table("prompts", snakemake.input.prompts)
    at = given.preferences, given.temperatures
    learned = [row for name in given.learned for row in evaluated(name, *at)]
    heuristics = pd.concat([read_table("heuristics", snakemake.input.heuristics), pd.DataFrame(learned)])
    plan = declare(protocol, prompts, heuristics, given.learned, given.seeds, given.planned)
    output = Path(snakemake.output[0])
    was_read = Path(given.comparison).exists() and not output.exists()
    frozen = freeze(plan, prompts, given.run, was_read, protocol.further_plans, Path("results"), output)
    say(f"plan {frozen['plan']}: {len(frozen['families'])} families, {frozen['tries']} tries each")


run_stage(main, snakemake)
