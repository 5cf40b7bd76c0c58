"""The table of estimates: what samplers that drew none of the answers are worth, and how far to trust it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from adaptive_samplers.bootstrap import resampled_means
from adaptive_samplers.config.model.off_policy import OffPolicy, Trust
from adaptive_samplers.evaluation import LEARNED
from adaptive_samplers.heuristics import configured_pipeline, parse_processors, pipeline_name
from adaptive_samplers.heuristics.pipelines import grid_pipelines
from adaptive_samplers.off_policy.estimates import (
    LoggedAnswers,
    Weighted,
    disagree,
    estimate,
    interval,
    log_mixture,
    near_one,
    trusted,
    weigh,
)
from adaptive_samplers.off_policy.log_probs import log_probs_of_beginnings
from adaptive_samplers.off_policy.reading import RECORDED_SPLITS, read_logged
from adaptive_samplers.stage import say

# A threshold that the estimates of fewer heuristics pass than this shows nothing.
LEAST_CALIBRATED = 5


@dataclass(frozen=True)
class LeftOut:
    """Each of H behaviors from what the others answered under one half of the seeds, and its own answers of the other
    half.

    The same random numbers draw all heuristics' answers under a seed, which makes them alike: with the answers of one
    half alone, all estimates would be too high together, or too low.

    Attributes
    ----------
    own : array [H, P]
        The mean reward of each behavior's own answers; NaN where there is none.
    weighted : for each horizon and behavior, its weights from the others' answers.
    """

    own: np.ndarray
    weighted: list[list[Weighted]]

    @classmethod
    def joined(cls, parts: Sequence["LeftOut"]) -> "LeftOut":
        """The prompts of several, one after another."""
        return cls(
            np.concatenate([part.own for part in parts], axis=1),
            [
                [Weighted.joined(of_behavior) for of_behavior in zip(*of_horizon, strict=True)]
                for of_horizon in zip(*(part.weighted for part in parts), strict=True)
            ],
        )


@dataclass(frozen=True)
class Weighings:
    """What is kept of the answers to all prompts; little, whatever their number.

    Attributes
    ----------
    splits : array [P] of str
    names : list of T, the samplers'
    families : list of T
    of_samplers : for each horizon, all samplers' weights.
    left_out : two, each half of the seeds in turn.
    behaviors : list of H names
    own_gains : array [H, P]
        What each behavior's own answers add to the mean reward of all; NaN where there is none.
    """

    splits: np.ndarray
    names: list[str]
    families: list[str]
    of_samplers: list[Weighted]
    left_out: list[LeftOut]
    behaviors: list[str]
    own_gains: np.ndarray


def targets_of(settings: OffPolicy, heuristics: pd.DataFrame, learned: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """The samplers to estimate: columns `name`, `family`, `processors`, each pipeline once.

    All heuristics of the run, then the grid and the pipelines of the settings, then learned samplers, given as rows of
    the `heuristics` table.
    """
    found = {parse_processors(row.processors): (row.name, row.family) for row in heuristics.itertuples(index=False)}
    for block in settings.grid:
        for pipeline in grid_pipelines(block):
            found.setdefault(pipeline, (pipeline_name(pipeline), block.family))
    for steps in settings.pipelines:
        pipeline = configured_pipeline(steps)
        found.setdefault(pipeline, (pipeline_name(pipeline), "pipeline"))
    for row in learned:
        found.setdefault(parse_processors(row["processors"]), (row["name"], row["family"]))
    rows = [(name, family, pipeline) for pipeline, (name, family) in found.items()]
    return pd.DataFrame(rows, columns=["name", "family", "pipeline"])


def weigh_answers(
    scores: pd.DataFrame,
    weights: Mapping[str, float],
    heuristics: pd.DataFrame,
    targets: pd.DataFrame,
    candidates: Path,
    shards: Sequence[Path],
    horizons: Sequence[int | None],
) -> Weighings:
    """Weigh the answers to the prompts of each shard in turn, as each target would draw them.

    Parameters
    ----------
    scores : DataFrame
        Of the recorded splits.
    targets : DataFrame
        As `targets_of` gives them.
    shards : sequence of Path
        Recorded draws, by number: prompts are in shards by their ids.
    """
    own_shard = scores["prompt_id"].map(lambda name: int(name, 16) % len(shards))
    parts, splits = [], []
    names = dict(zip(heuristics["heuristic_id"], heuristics["name"], strict=True))
    behaviors: list[str] = []
    for number, path in enumerate(shards):
        mine = scores[own_shard == number]
        if mine.empty:
            continue
        logged = read_logged(mine, weights, heuristics, candidates, [path])
        behaviors = [names[name] for name in logged.behaviors]
        samplers = [*targets["pipeline"], *logged.pipelines]
        log_probs = log_probs_of_beginnings(samplers, logged.draws, horizons, logged.same).numpy()
        log_probs, of_behaviors = log_probs[: len(targets)], log_probs[len(targets) :]
        mixture = log_mixture(logged.answers, of_behaviors)
        parts.append(
            (
                [weigh(logged.answers, log_probs[:, :, at], mixture[:, at]) for at in range(len(horizons))],
                leave_each_out(logged.answers, of_behaviors),
                _own_means(logged.answers, len(behaviors)) - logged.answers.means,
            )
        )
        split_of = dict(zip(mine["prompt_id"], mine["split"], strict=True))
        splits += [split_of[prompt] for prompt in logged.prompt_ids]
        say(f"{path.name}: {len(logged.answers)} answers weighed for {len(targets)} samplers")
    of_samplers, left_out, own_gains = zip(*parts, strict=True)
    return Weighings(
        np.array(splits),
        targets["name"].tolist(),
        targets["family"].tolist(),
        [Weighted.joined(of_horizon) for of_horizon in zip(*of_samplers, strict=True)],
        [LeftOut.joined(of_half) for of_half in zip(*left_out, strict=True)],
        behaviors,
        np.concatenate(own_gains, axis=1),
    )


def _own_means(answers: LoggedAnswers, behaviors: int, among: np.ndarray | slice = slice(None)) -> np.ndarray:
    """The mean reward of each behavior's own answers, of those that a mask names, `[H, P]`; NaN without any."""
    prompts = len(answers.starts) - 1
    group = answers.behaviors[among] * prompts + answers.prompts[among]
    counts = np.bincount(group, minlength=behaviors * prompts).astype(float)
    sums = np.bincount(group, answers.rewards[among], minlength=behaviors * prompts)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0).reshape(behaviors, prompts)


def leave_each_out(answers: LoggedAnswers, log_probs: np.ndarray) -> list[LeftOut]:
    """Each behavior from the others' answers, with each half of the seeds in turn.

    Parameters
    ----------
    answers : LoggedAnswers
    log_probs : array [H, D, L]
        Of each recorded draw under each behavior, by horizon.
    """
    found = []
    for estimating in _halves(answers):
        weighted: list[list[Weighted]] = [[] for _ in range(log_probs.shape[2])]
        for behavior in range(len(log_probs)):
            rest = answers.only(estimating & (answers.behaviors != behavior))
            mixture = log_mixture(rest, log_probs)
            for at, of_horizon in enumerate(weighted):
                of_horizon.append(weigh(rest, log_probs[[behavior], :, at], mixture[:, at]))
        found.append(LeftOut(_own_means(answers, len(log_probs), ~estimating), weighted))
    return found


def _halves(answers: LoggedAnswers) -> np.ndarray:
    """Which answers to estimate from, in turn, `[2, A]`: those to a prompt under every other seed.

    Where a half has no answers of two behaviors, as with one seed, all answers estimate, and none are left to compare.
    """
    found = np.ones((2, len(answers)), dtype=bool)
    for begin, end in zip(answers.starts[:-1], answers.starts[1:], strict=True):
        of_prompt = answers.seeds[begin:end]
        first = np.isin(of_prompt, np.unique(of_prompt)[::2])
        if all(len(np.unique(answers.behaviors[begin:end][half])) > 1 for half in (first, ~first)):
            found[:, begin:end] = first, ~first
    return found


def calibrate(
    weighings: Weighings, horizons: Sequence[int | None], resamples: int, confidence: float, seed: int
) -> pd.DataFrame:
    """How near estimates come to the own answers of heuristics that are left out in turn.

    Returns
    -------
    DataFrame
        A row for each `half` of the seeds that estimates, heuristic and horizon (null: all steps): `gain` with its
        interval, `own_gain`, both against the same prompts' mean reward; `error_low` and `error_high`, the interval of
        the first less the second; `effective`, `mean_weight`; `covered`, whether 0 is inside that interval, null
        without own answers.

        Own answers are few, and what they say is uncertain too: the interval of the estimate alone would miss them far
        more often than its confidence says.
    """
    rows = [
        {"half": half, "name": name, "horizon": horizon} | _compared(weighted, own, resamples, confidence, seed)
        for half, left_out in enumerate(weighings.left_out, start=1)
        for horizon, of_horizon in zip(horizons, left_out.weighted, strict=True)
        for name, weighted, own in zip(weighings.behaviors, of_horizon, left_out.own, strict=True)
    ]
    table = pd.DataFrame(rows)
    return table.astype({"horizon": "Int64", "covered": "boolean"})


def _compared(
    weighted: Weighted, own: np.ndarray, resamples: int, confidence: float, seed: int
) -> dict[str, float | bool | None]:
    """The estimate of one behavior, and how far it is from its own mean rewards `[P]`."""
    found, gains = estimate(weighted, resamples, confidence, seed)
    own_gains = (own - weighted.means)[:, None]
    # The same seed resamples the same prompts.
    low, high = interval(gains - resampled_means(own_gains, resamples, seed), confidence)[:, 0]
    return {
        "gain": found.gain[0],
        "gain_low": found.gain_low[0],
        "gain_high": found.gain_high[0],
        "own_gain": _mean_of_known(own_gains.T)[0],
        "error_low": low,
        "error_high": high,
        "effective": found.effective[0],
        "mean_weight": found.mean_weight[0],
        "covered": bool(low <= 0 <= high) if np.isfinite([low, high]).all() else None,
    }


def least_effective(calibration: pd.DataFrame, horizons: Sequence[int | None], trust: Trust) -> list[float | None]:
    """The effective number of answers that an estimate needs at each horizon; None if no number is enough, or nothing
    is known.

    It is the smallest at which the heuristics left out are covered as often as `trust.coverage` asks for. A horizon has
    its own: a short one leaves more answers, but estimates something else.
    """
    if trust.effective is not None:
        return [trust.effective] * len(horizons)
    near = near_one(calibration["mean_weight"], trust.mean_weight)
    known = calibration[near & calibration["covered"].notna()].sort_values("effective", ascending=False)
    found: list[float | None] = []
    for horizon in horizons:
        rows = known[known["horizon"].isna() if horizon is None else known["horizon"] == horizon]
        numbers = np.arange(1, len(rows) + 1)
        covered = rows["covered"].astype(float).cumsum() / numbers
        heuristics = (~rows["name"].duplicated()).cumsum()
        enough = np.flatnonzero((covered >= trust.coverage) & (heuristics >= LEAST_CALIBRATED))
        found.append(float(rows["effective"].iloc[enough[-1]]) if len(enough) else None)
    return found


def with_trust(
    calibration: pd.DataFrame, horizons: Sequence[int | None], least: Sequence[float | None], trust: Trust
) -> pd.DataFrame:
    """The calibration with `trusted`: whether its estimates would be shown, given what `least_effective` found."""
    needed = {horizon: np.inf if one is None else one for horizon, one in zip(horizons, least, strict=True)}
    of_rows = [needed[None if pd.isna(horizon) else horizon] for horizon in calibration["horizon"]]
    enough = calibration["effective"] >= of_rows
    return calibration.assign(trusted=enough & near_one(calibration["mean_weight"], trust.mean_weight))


def table_of_estimates(
    weighings: Weighings,
    horizons: Sequence[int | None],
    least: Sequence[float | None],
    settings: OffPolicy,
    seed: int,
) -> pd.DataFrame:
    """The `estimates` table: a row for each split, sampler and horizon; values only where they are trusted, and beside
    them the gain of the sampler's own answers, where it has any.

    Parameters
    ----------
    least : effective number of answers that an estimate needs, by horizon; with None, no estimate is trusted.
    """
    parts = []
    for split in RECORDED_SPLITS:
        prompts = np.flatnonzero(weighings.splits == split)
        if not len(prompts):
            continue
        found, gains = [], []
        for weighted in weighings.of_samplers:
            one, resampled = estimate(weighted.select(prompts), settings.resamples, settings.confidence, seed)
            found.append(one)
            gains.append(resampled)
        shown = np.array(
            [
                np.zeros(len(weighings.names), dtype=bool)
                if needed is None
                else trusted(one, needed, settings.trust.mean_weight)
                for one, needed in zip(found, least, strict=True)
            ]
        )
        own = dict(zip(weighings.behaviors, _mean_of_known(weighings.own_gains[:, prompts]), strict=True))
        flagged = disagree(gains, shown, settings.confidence)
        for horizon, one, is_shown in zip(horizons, found, shown, strict=True):
            columns = {
                name: np.where(is_shown, value, np.nan) if name in _VALUES else value
                for name, value in one._asdict().items()
            }
            parts.append(
                pd.DataFrame(
                    {
                        "split": split,
                        "family": weighings.families,
                        "name": weighings.names,
                        "kind": [LEARNED if family == LEARNED else "heuristic" for family in weighings.families],
                        "horizon": horizon,
                        "trusted": is_shown,
                        "horizons_disagree": flagged,
                        **columns,
                        "own_gain": [own.get(name, np.nan) for name in weighings.names],
                        "n_prompts": len(prompts),
                    }
                ).astype({"horizon": "Int64"})
            )
    return pd.concat(parts, ignore_index=True)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Means of rows, ignoring NaN; NaN where there is nothing else."""
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


_VALUES = ("value", "low", "high", "gain", "gain_low", "gain_high")
