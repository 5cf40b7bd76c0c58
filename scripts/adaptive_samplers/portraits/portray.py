"""The portrait of one learned sampler: everything that tables and figures say of it."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adaptive_samplers.heuristics import Pipeline, parse_processors, pipeline_name
from adaptive_samplers.portraits.closed_form import ClosedForm, fit_closed_form
from adaptive_samplers.portraits.closest import Applied, fit_chain
from adaptive_samplers.portraits.effects import Effects, effective_temperature, effects, entropy_bins
from adaptive_samplers.portraits.families import chains, family
from adaptive_samplers.portraits.states import Distributions, States, interval, kl_divergence, total_variation
from adaptive_samplers.portraits.statistics import ALL, permutation_importance, regress
from adaptive_samplers.samplers import ARCHITECTURES
from adaptive_samplers.samplers.base import AdaptiveSampler, load_sampler
from adaptive_samplers.stage import say

Row = dict[str, Any]

# Where closed forms are fitted, and where everything is measured.
FITTED, MEASURED = "train", "test"
BINS = 8
KNOTS = (4, 7, 13)  # the knots of each are among those of the next
COORDINATES = ("log_prob", "below_largest")
STATISTICS = ((), ("entropy",), ("entropy", "largest"))
# The closed form to copy is the one with the fewest numbers that explains so much, where it was fitted.
ENOUGH = 0.99
# Of the states whose functions are drawn, as shares of all in the order of their entropies.
DRAWN = (0.25, 0.5, 0.75)
DRAWN_ABOVE = -14.0  # nats
CLOSEST, LEARNED, RAW = "closest heuristic", "learned", "raw"


@dataclass(frozen=True)
class Intervals:
    """How intervals are made: resamples of the prompts, the share of them inside, and the seed."""

    resamples: int
    confidence: float
    seed: int

    def ratio(self, prefix: str, numerator: Tensor, denominator: Tensor, states: States) -> Row:
        """A ratio of sums over states as three columns."""
        ends = interval(numerator, denominator, states.prompts, self.resamples, self.confidence, self.seed)
        return dict(zip((prefix, f"{prefix}_low", f"{prefix}_high"), ends, strict=True))

    def mean(self, prefix: str, values: Tensor, states: States) -> Row:
        """A mean over states as three columns."""
        return self.ratio(prefix, values, torch.ones_like(values), states)

    def explained(self, left: Tensor, raw: Tensor, states: States) -> Row:
        """How much of the raw distribution's divergence is gone, 1 - left / raw, as three columns."""
        share = self.ratio("explained", left, raw, states)
        value, low, high = (None if end is None else 1 - end for end in share.values())
        return {"explained": value, "explained_low": high, "explained_high": low}


def portray(described: Mapping[str, str], states: Mapping[str, States], intervals: Intervals) -> Row:
    """Describe one learned sampler.

    Parameters
    ----------
    described : dict
        Its row of the `heuristics` table (`samplers.evaluated`), which says where it is saved.
    states : dict of str to States
        By split: closed forms and regressions are fitted on `FITTED`, and all is measured on `MEASURED`. Heuristics
        have few parameters and are fitted on the states that they are measured on.

    Returns
    -------
    dict
        `name` and `architecture`; lists of rows `heuristics`, `effects`, `closed_forms` and `statistics`; `snippet`,
        the closed form to copy; and `curves` to draw.
    """
    [step] = parse_processors(described["processors"])
    sampler = load_sampler(step.folder, "cpu", step.preference)
    architecture = described["name"].split(" ")[0]
    fitted, measured = states[FITTED], states[MEASURED]
    made = {split: states[split].under(sampler) for split in (FITTED, MEASURED)}
    heuristics = closest_heuristics(measured, made[MEASURED], intervals)
    [best] = [row for row in heuristics if row["closest"]]
    say(f"{described['name']}: {best['heuristic']} is the closest, KL {best['kl']:.4f} of {best['kl_raw']:.4f}")
    forms, form = closed_forms(fitted, made[FITTED], measured, made[MEASURED], intervals)
    say(f"closed form with {len(form.knots)} knots: KL {next(r['kl'] for r in forms if r['copied']):.4f}")
    closest = Applied(measured)(parse_processors(best["processors"]))
    temperatures = [effective_temperature(states[split], made[split]).log() for split in (FITTED, MEASURED)]
    return {
        "name": described["name"],
        "architecture": architecture,
        "heuristics": heuristics,
        "effects": binned_effects(measured, {LEARNED: made[MEASURED], CLOSEST: closest, RAW: measured.raw}),
        "closed_forms": forms,
        "snippet": form.snippet(),
        "statistics": [
            *permutation_rows(sampler, architecture, measured, intervals),
            *regression_rows(fitted, temperatures[0], measured, temperatures[1]),
        ],
        "curves": curves(measured, made[MEASURED], form.under(measured)),
    }


def closest_heuristics(states: States, learned: Distributions, intervals: Intervals) -> list[Row]:
    """The nearest chain of each kind in `families.chains`, the nearest of all marked, a row each."""
    raw = kl_divergence(states.raw, learned)
    raw_variation = total_variation(states.raw, learned)
    apply = Applied(states)
    rows = []
    for chain in chains():
        pipeline = fit_chain(chain, states, learned)
        made = apply(pipeline)
        kl = kl_divergence(made, learned)
        rows.append(
            {
                "family": family(chain),
                "chain": "+".join(chain),
                "steps": len(chain),
                "parameters": sum(len(step.values) for step in pipeline),
                "heuristic": pipeline_name(pipeline),
                "processors": _described(pipeline),
                **intervals.mean("kl", kl, states),
                "kl_raw": float(raw.mean()),
                **intervals.explained(kl, raw, states),
                **intervals.mean("total_variation", total_variation(made, learned), states),
                "total_variation_raw": float(raw_variation.mean()),
                "states": len(states),
                "prompts": len(set(states.prompts.tolist())),
            }
        )
    # Of equally near ones, the simplest.
    nearest = min(rows, key=lambda row: (round(row["kl"], 6), row["parameters"], row["steps"]))
    return [row | {"closest": row is nearest} for row in rows]


def _described(pipeline: Pipeline) -> str:
    return json.dumps([step.describe() for step in pipeline])


def binned_effects(states: States, made: Mapping[str, Distributions]) -> list[Row]:
    """Median and quartiles of each of the `Effects` of some distributions, by raw entropy: a row per bin."""
    bins = entropy_bins(states.entropy, BINS)
    rows = []
    for of, distributions in made.items():
        for quantity, values in zip(Effects._fields, effects(states, distributions), strict=True):
            if of == RAW and quantity == "effective_temperature":
                continue  # it is 1
            for number in range(BINS):
                inside = torch.from_numpy(bins == number) & values.isfinite()
                if not inside.any():
                    continue
                entropy = states.entropy[inside]
                ends = values[inside].quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
                rows.append(
                    {
                        "of": of,
                        "quantity": quantity,
                        "bin": number,
                        "entropy": float(entropy.median()),
                        "entropy_low": float(entropy.min()),
                        "entropy_high": float(entropy.max()),
                        "states": int(inside.sum()),
                        **dict(zip(("lower_quartile", "median", "upper_quartile"), ends, strict=True)),
                    }
                )
    return rows


def closed_forms(
    fitted: States, fitted_to: Distributions, held_out: States, learned: Distributions, intervals: Intervals
) -> tuple[list[Row], ClosedForm]:
    """Closed forms with more and fewer knots and statistics, a row each, and the one to copy."""
    raw = kl_divergence(learned, held_out.raw)
    rows, made = [], []
    for coordinate, statistics, knots in itertools.product(COORDINATES, STATISTICS, KNOTS):
        form = fit_closed_form(fitted, fitted_to, knots, coordinate, statistics).rounded()
        under = form.under(held_out)
        kl = kl_divergence(learned, under)
        made.append(form)
        rows.append(
            {
                "knots": knots,
                "coordinate": coordinate,
                "statistics": " and ".join(statistics) or "none",
                "parameters": form.values.size,
                "fitted_kl": float(kl_divergence(fitted_to, form.under(fitted)).mean()),
                **intervals.mean("kl", kl, held_out),
                "kl_raw": float(raw.mean()),
                **intervals.explained(kl, raw, held_out),
                "reverse_kl": float(kl_divergence(under, learned).mean()),
                "total_variation": float(total_variation(under, learned).mean()),
            }
        )
    # Chosen by the states that it was fitted on.
    most = (1 - ENOUGH) * float(kl_divergence(fitted_to, fitted.raw).mean())
    by_loss = sorted(range(len(rows)), key=lambda place: rows[place]["fitted_kl"])
    near = [place for place in by_loss if rows[place]["fitted_kl"] <= most] or by_loss[:1]
    chosen = min(near, key=lambda place: rows[place]["parameters"])
    return [row | {"copied": place == chosen} for place, row in enumerate(rows)], made[chosen]


def permutation_rows(sampler: AdaptiveSampler, architecture: str, states: States, intervals: Intervals) -> list[Row]:
    """What shuffling each statistic does to a sampler that reads some; of others, a row that says why there is none."""
    moved = permutation_importance(sampler, states, intervals.seed)
    if not moved:
        sees = " ".join((ARCHITECTURES[architecture].options.__doc__ or "").split())
        return [{"method": "permutation", "statistic": None, "note": f"not applicable, it reads no statistics: {sees}"}]
    return [
        {"method": "permutation", "statistic": name, **intervals.mean("kl", kl, states)} for name, kl in moved.items()
    ]


def regression_rows(fitted: States, fitted_to: Tensor, held_out: States, measured_on: Tensor) -> list[Row]:
    """What statistics say about the logarithm of the effective temperature."""
    found = regress(fitted, fitted_to, held_out, measured_on)
    if found is None:
        note = "not applicable: the effective temperature is the same everywhere, or there are too few states"
        return [{"method": "regression", "statistic": None, "note": note}]
    rows = [{"method": "regression", "statistic": ALL, "r_squared": found.r_squared}]
    for name in found.lost:
        rows.append(
            {
                "method": "regression",
                "statistic": name,
                "lost_r_squared": found.lost[name],
                "r_squared": found.alone[name],
            }
        )
    return rows


def curves(states: States, learned: Distributions, copied: Distributions) -> list[Row]:
    """How a sampler and its closed form change log-probabilities, in some states of low, middle and high entropy."""
    order = states.entropy.argsort(stable=True)
    drawn = []
    for share in DRAWN:
        place = int(order[round(share * (len(order) - 1))])
        t = states.t[place]
        shown = (states.n[place] > 0) & (t >= DRAWN_ABOVE)
        drawn.append(
            {
                "entropy": float(states.entropy[place]),
                "log_prob": t[shown].tolist(),
                "learned": (learned.log_probs[place] - t)[shown].tolist(),
                "closed_form": (copied.log_probs[place] - t)[shown].tolist(),
            }
        )
    return drawn
