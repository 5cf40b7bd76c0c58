"""Decide from the first phase's labels which answers the second phase makes."""

from pathlib import Path

from adaptive_samplers.budgets import allocate_budget, read_first_phase
from adaptive_samplers.files import read_json
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    config = settings_of(snakemake)
    settings = config.generation.adaptive
    prompts = read_table("prompts", snakemake.input.prompts)
    heuristics = read_table("heuristics", snakemake.input.heuristics)
    first = read_first_phase(
        Path(snakemake.input.scores),
        Path(snakemake.input.quality),
        prompts,
        heuristics,
        config.seeds[: settings.first_seeds],
        settings.weights,
        config.scoring.correct_only,
    )
    report = Path(snakemake.output.report)
    allocate_budget(first, prompts, heuristics, config.seeds, settings, Path(snakemake.output.allocation), report)
    made = read_json(report)
    say(f"{made['eliminated']} of {len(heuristics)} heuristics eliminated; answers to train on: {made['answers']}")


run_stage(main, snakemake)
