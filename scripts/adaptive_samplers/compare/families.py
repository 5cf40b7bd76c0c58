"""Families of samplers after equal numbers of tries: best-of-N curves, paired tests, and doubts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy.stats import norm

from adaptive_samplers.compare.results import Objective, Results
from adaptive_samplers.compare.statistics import PairedTest, detectable_difference, holm, paired_test
from adaptive_samplers.compare.tuning import tuned_bands, tuned_published, tuned_values
from adaptive_samplers.errors import UserError

# The last one is all configurations that there are.
TRIES = (1, 3, 6, 10, 31, 56, 100)
FEW_PROMPTS = 30
UNDECIDED = "no difference found"


@dataclass(frozen=True)
class Settings:
    """How families are compared.

    Attributes
    ----------
    claims : families that are each said to be better than every other that is not claimed; none compares every two.
    references : families with nothing to choose, such as greedy decoding, which do not limit the tries of others.
    tries : configurations of each family that are drawn; None: as many as the family with the fewest has.
    level : chance of any false finding among all comparisons of an objective.
    power : with which the smallest detectable difference would be found.
    resamples, seed : of prompts.
    """

    claims: Sequence[str] = ()
    references: Sequence[str] = ()
    tries: int | None = None
    level: float = 0.05
    power: float = 0.8
    resamples: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes
    ----------
    tries : of each family, in the tests.
    families : a row for each objective and family: configurations, the chosen one, value after equal tries with a band,
        value if all configurations are tried, and the noise of a sampler against itself.
    pairs : a row for each objective and comparison: difference, interval, p and Holm's adjusted p, smallest difference
        that could have been found, prompts won, lost and tied, and the verdict.
    curves : a row for each objective, family and number of tries, with a band.
    claims : of each claimed family, whether it is better than every other in every objective.
    flags : what is doubtful, a sentence each.
    """

    tries: int
    families: pd.DataFrame
    pairs: pd.DataFrame
    curves: pd.DataFrame
    claims: dict[str, bool]
    flags: list[str]


def compare_families(results: Results, settings: Settings = Settings()) -> Comparison:
    """Compare the families of results after equal numbers of tries.

    Configurations are chosen by their values on validation prompts and judged on test prompts. Where results do not
    say which prompt is which, half of them choose. (Letting each half choose for the other would not keep the level:
    the two choices are not independent of what they are judged by.) Where only means and standard errors were
    published, see `tuning.tuned_published`.

    Holm's procedure keeps the chance of any false finding in an objective at the level. A claim over several objectives
    needs all of them: an intersection-union test, which needs no further correction (Berger 1982).

    Raises
    ------
    UserError
        A family that is named is not among the results, or there are not so many configurations as tries.
    """
    names = results.families
    for option in ("claims", "references"):
        for family in getattr(settings, option):
            if family not in names:
                raise UserError(f"--{option[:-1]}: there is no family '{family}'; there are {', '.join(names)}")
    if set(settings.claims) >= set(names):
        raise UserError("--claim: every family is claimed to be better than the others; leave out some")
    fewest = fewest_configurations(results, settings.references)
    tries = settings.tries or fewest
    if tries > fewest:
        raise UserError(f"--tries: {tries} are more than the {fewest} configurations that one family has")
    families, pairs, curves, flags = [], [], [], []
    for objective in results.objectives:
        judged = [_judge(objective, family, tries, settings) for family in names]
        families += [one.row for one in judged]
        curves += [row for one in judged for row in one.curve]
        tested = _pairs(objective, names, judged, tries, settings)
        pairs += tested
        flags += _flags(objective, names, judged, tested, tries, settings)
    table = pd.DataFrame(pairs)
    claims = {
        family: bool((table.loc[table["family"] == family, "verdict"] == f"{family} is better").all())
        for family in settings.claims
    }
    return Comparison(tries, pd.DataFrame(families), table, pd.DataFrame(curves), claims, flags)


def fewest_configurations(results: Results, references: Sequence[str] = ()) -> int:
    """As many tries as every family has that is no reference."""
    names = [family for family in results.families if family not in references] or results.families
    return min(len(one.rows(family)) for one in results.objectives for family in names)


@dataclass(frozen=True)
class _Judged:
    """A family in an objective: its value on each judged prompt (of published means: mean and standard error)."""

    row: dict
    curve: list[dict]
    values: np.ndarray
    untuned: np.ndarray


def _judge(objective: Objective, family: str, tries: int, settings: Settings) -> _Judged:
    rows = objective.rows(family)
    named = {"objective": objective.name, "family": family, "configurations": len(rows)}
    levels = [*(count for count in TRIES if count < len(rows)), len(rows)]
    tries = min(tries, len(rows))  # of a reference, which has one
    names = objective.configurations[rows]
    confidence = 1 - settings.level
    if objective.is_published:
        values, errors = objective.values[rows, 0], objective.standard_errors[rows]
        found = {
            count: tuned_published(values, errors, count, settings.resamples, settings.seed)
            for count in {*levels, tries}
        }
        bands = {count: (mean, *_normal_band(mean, error, confidence)) for count, (mean, error) in found.items()}
        chosen, noise = names[values.argmax()], float("nan")
        judged, untuned = np.array(found[tries]), np.array(found[len(rows)])
    else:
        values, is_test = objective.values[rows], objective.is_test
        bands = tuned_bands(values, is_test, {*levels, tries}, settings.resamples, confidence, settings.seed)
        chosen = names[values[:, ~is_test].mean(axis=1).argmax()]
        noise = _noise(objective, rows, is_test)
        judged, untuned = tuned_values(values, is_test, tries), tuned_values(values, is_test, len(rows))
    mean, low, high = bands[tries]
    row = named | {
        "chosen": chosen,
        "value": mean,
        "low": low,
        "high": high,
        "all_tries": bands[len(rows)][0],
        "noise": noise,
    }
    curve = [
        named | dict(zip(("tries", "value", "low", "high"), (count, *bands[count]), strict=True)) for count in levels
    ]
    return _Judged(row, curve, judged, untuned)


def _noise(objective: Objective, rows: np.ndarray, is_test: np.ndarray) -> float:
    """The standard deviation that the difference of a sampler from itself has, under as many other seeds.

    From each configuration's values under every other seed against those under the rest, on judged prompts.
    """
    if objective.halves is None:
        return float("nan")
    first, second = objective.halves[:, rows][:, :, is_test]
    # A half has half of the seeds, so twice the variance.
    return float((first - second).std() / np.sqrt(2 * is_test.sum()))


def _normal_band(mean: float, error: float, confidence: float) -> tuple[float, float]:
    width = norm.ppf((1 + confidence) / 2) * error
    return mean - width, mean + width


def _pairs(objective: Objective, names: list[str], judged: list[_Judged], tries: int, settings: Settings) -> list[dict]:
    if not settings.claims:
        pairs = list(combinations(range(len(names)), 2))
    else:
        claimed = [names.index(family) for family in settings.claims]
        pairs = list(product(claimed, (other for other in range(len(names)) if other not in claimed)))
    tests = [_test(objective, judged[one].values, judged[other].values, settings) for one, other in pairs]
    rows = []
    for (one, other), test, adjusted in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        difference = judged[one].values - judged[other].values
        if adjusted > settings.level:
            verdict = UNDECIDED
        else:
            verdict = f"{names[one] if test.difference > 0 else names[other]} is better"
        rows.append(
            {
                "objective": objective.name,
                "family": names[one],
                "other": names[other],
                "tries": tries,
                **test._asdict(),
                "p_holm": float(adjusted),
                "detectable": detectable_difference(test.standard_error, settings.level, settings.power, len(pairs)),
                "won": None if objective.is_published else int((difference > 0).sum()),
                "lost": None if objective.is_published else int((difference < 0).sum()),
                "tied": None if objective.is_published else int((difference == 0).sum()),
                "verdict": verdict,
            }
        )
    return rows


def _test(objective: Objective, one: np.ndarray, other: np.ndarray, settings: Settings) -> PairedTest:
    confidence = 1 - settings.level
    if not objective.is_published:
        return paired_test(one - other, settings.resamples, confidence, settings.seed)
    mean, error = float(one[0] - other[0]), float(np.hypot(one[1], other[1]))
    low, high = _normal_band(mean, error, confidence)
    return PairedTest(mean, error, low, high, float(2 * norm.sf(abs(mean) / error)), 0)


def _flags(
    objective: Objective,
    names: list[str],
    judged: list[_Judged],
    tested: list[dict],
    tries: int,
    settings: Settings,
) -> list[str]:
    flags, where = [], f"{objective.name}: "
    for family, duplicate, original in objective.duplicates:
        flags.append(f"{where}{family} {duplicate} has the values of {original} and is no further try")
    counts = {family: len(objective.rows(family)) for family in names if family not in settings.references}
    most, fewest = max(counts, key=counts.get), min(counts, key=counts.get)
    if counts[most] > counts[fewest]:
        flags.append(
            f"{where}{most} has {counts[most]} configurations and {fewest} has {counts[fewest]}; all are compared "
            f"after {tries}"
        )
    for pair in tested:
        one, other = names.index(pair["family"]), names.index(pair["other"])
        of_both = counts.get(pair["family"]), counts.get(pair["other"])
        if None in of_both or len(set(of_both)) == 1 or pair["verdict"] != UNDECIDED:
            continue
        unequal = _test(objective, judged[one].untuned, judged[other].untuned, settings)
        if unequal.p < settings.level and not objective.is_published:
            better, worse = pair["family"], pair["other"]
            if unequal.difference < 0:
                better, worse = worse, better
            flags.append(
                f"{where}{better} is ahead of {worse} by {abs(unequal.difference):.3g} with all of its "
                f"{counts[better]} configurations, and not after {tries} each"
            )
    flags += _chosen_on_test(objective, names, where)
    if not objective.is_published:
        prompts = len(judged[0].values)
        if prompts < FEW_PROMPTS:
            flags.append(f"{where}{prompts} prompts are judged: few for any conclusion")
        if objective.splits is None:
            flags.append(f"{where}no split is given; half of the prompts choose, and the others judge")
        if objective.halves is None:
            flags.append(f"{where}one seed, or not the same for all: how much a sampler differs from itself is unknown")
    return flags


def _chosen_on_test(objective: Objective, names: list[str], where: str) -> list[str]:
    """Reported configurations that only the judged prompts favor."""
    if objective.selected is None or objective.is_published:
        return []
    flags, is_test = [], objective.is_test
    for family in names:
        rows = objective.rows(family)
        reported = np.flatnonzero(objective.selected[rows])
        if not len(reported):
            continue
        row, values, configurations = int(reported[0]), objective.values[rows], objective.configurations[rows]
        validation, test = values[:, ~is_test].mean(axis=1), values[:, is_test].mean(axis=1)
        if test[row] == test.max() and validation[row] < validation.max():
            chosen = int(validation.argmax())
            flags.append(
                f"{where}{family} reports {configurations[row]}, the best of {len(rows)} on the judged prompts "
                f"({test[row]:.3g}); the others choose {configurations[chosen]} ({test[chosen]:.3g})"
            )
    return flags
