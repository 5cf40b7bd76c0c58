"""Describe one learned sampler: the nearest heuristics, what it does to distributions, a formula, what it reads."""

from pathlib import Path

import pandas as pd

from adaptive_samplers.files import write_json
from adaptive_samplers.portraits.portray import FITTED, MEASURED, Intervals, portray
from adaptive_samplers.portraits.states import read_states
from adaptive_samplers.samplers import evaluated
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings = settings_of(snakemake)
    own, seed = settings.evaluation, settings.run.seed
    columns = ["answer_id", "prompt_id", "split"]
    states = read_states(
        pd.concat([read_table("training_sets", path, columns=columns) for path in snakemake.input.training_sets]),
        [Path(path) for path in snakemake.input.sketches],
        (FITTED, MEASURED),
        own.portraits.states,
        seed,
    )
    intervals = Intervals(own.resamples, own.confidence, seed)
    rows = evaluated(snakemake.input.sampler, own.preferences)
    write_json({"portraits": [portray(row, states, intervals) for row in rows]}, snakemake.output[0])


run_stage(main, snakemake)
