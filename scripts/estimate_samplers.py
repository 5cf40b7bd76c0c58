"""Estimate what samplers are worth from answers that others drew, and how far to trust the estimates."""

from pathlib import Path

from adaptive_samplers.files import write_json
from adaptive_samplers.off_policy.reading import RECORDED_SPLITS
from adaptive_samplers.off_policy.table import (
    calibrate,
    least_effective,
    table_of_estimates,
    targets_of,
    weigh_answers,
    with_trust,
)
from adaptive_samplers.rendering import write_csv
from adaptive_samplers.samplers import evaluated
from adaptive_samplers.stage import run_stage, say, settings_of
from adaptive_samplers.tables import read_table


def main(snakemake):
    settings, given, made = settings_of(snakemake), snakemake.input, snakemake.output
    own, seed = settings.off_policy, settings.run.seed
    scores, heuristics = read_table("scores", given.scores), read_table("heuristics", given.heuristics)
    at = settings.evaluation.preferences, settings.evaluation.temperatures
    learned = [row for folder in given.samplers for row in evaluated(folder, *at)]
    targets = targets_of(own, heuristics, learned)
    horizons = [*own.horizons, None]
    weighings = weigh_answers(
        scores[scores["split"].isin(RECORDED_SPLITS)],
        {"diversity": 0.0, "quality": own.reward.quality, "correctness": own.reward.correctness},
        heuristics,
        targets,
        Path(given.candidates),
        [Path(path) for path in given.draws],
        horizons,
    )
    calibration = calibrate(weighings, horizons, own.resamples, own.confidence, seed)
    least = least_effective(calibration, horizons, own.trust)
    estimates = table_of_estimates(weighings, horizons, least, own, seed)
    say(f"{int(estimates['trusted'].sum())} of {len(estimates)} estimates are trusted")
    write_csv(estimates, made.estimates)
    write_csv(with_trust(calibration, horizons, least, own.trust), made.calibration)
    needed = {"all" if horizon is None else str(horizon): one for horizon, one in zip(horizons, least, strict=True)}
    write_json({"least_effective": needed, "mean_weight": own.trust.mean_weight}, made.report)


run_stage(main, snakemake)
