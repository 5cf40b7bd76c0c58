"""Train one architecture on recorded draws, for one objective and one weighting of the labels."""

from pathlib import Path

from adaptive_samplers.config.weights import parse_weight_name
from adaptive_samplers.off_policy.reading import RECORDED_SPLITS, read_logged
from adaptive_samplers.stage import run_stage, settings_of
from adaptive_samplers.tables import read_table
from adaptive_samplers.training.train_on_outcomes import HORIZONS, distance_weight_of, reward_of, train_on_outcomes


def main(snakemake):
    settings, given = settings_of(snakemake), snakemake.input
    # The params hold one objective only.
    [objective] = settings.training.objectives
    weights, architecture = parse_weight_name(snakemake.wildcards.weights), snakemake.wildcards.architecture
    scores = read_table("scores", given.scores)
    logged = {
        split: read_logged(
            scores[scores["split"] == split],
            reward_of(objective, weights),
            read_table("heuristics", given.heuristics),
            Path(given.candidates),
            [Path(path) for path in given.draws],
            objective.horizon or HORIZONS[-1],
            Path(given.embeddings) if distance_weight_of(objective, weights, architecture) else None,
        )
        for split in RECORDED_SPLITS
    }
    train_on_outcomes(
        logged,
        weights,
        objective,
        architecture,
        getattr(settings.samplers, architecture),
        settings.training,
        settings.run.seed,
        Path(snakemake.output[0]),
        Path(given.previous[0]) if given.previous else None,
    )


run_stage(main, snakemake)
