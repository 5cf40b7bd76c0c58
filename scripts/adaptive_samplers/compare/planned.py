"""A run compared by its declared plan: every family with every other, and all learned samplers with all heuristics."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from adaptive_samplers.compare.families import UNDECIDED, Comparison, Settings, compare_families, fewest_configurations
from adaptive_samplers.compare.fronts import compare_family_fronts
from adaptive_samplers.compare.results import Objective, Results
from adaptive_samplers.evaluation import LEARNED
from adaptive_samplers.fronts import HEURISTICS_TOGETHER

LEARNED_TOGETHER = f"all {LEARNED}"


def compare_planned(
    results: Results, plan: Mapping[str, Any], seed: int, notes: Sequence[str] = ()
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Compare a run as its plan says.

    Parameters
    ----------
    results : with the plan's families.
    plan : a frozen one.
    notes : what was left out of the results.

    Returns
    -------
    The tables `families`, `pairs` and `curves` of `Comparison`, whose column `comparison` is `families` or `overall`,
    `fronts` and `points` of `compare_family_fronts`, and a summary: plans, tries, claims that hold, how many
    comparisons were won, lost and neither, and doubts.
    """
    statistics = plan["statistics"]
    fewest = fewest_configurations(results, plan["references"])
    notes = list(notes)
    if fewest < plan["tries"]:
        notes.append(f"configurations with identical values count once, which leaves {fewest} of {plan['tries']} tries")
    settings = Settings(
        claims=plan["claims"],
        references=plan["references"],
        tries=min(fewest, plan["tries"]),
        level=statistics["level"],
        power=statistics["power"],
        resamples=statistics["resamples"],
        seed=seed,
    )
    found = {
        "families": compare_families(results, settings),
        # As many tries as the smaller of the two has.
        "overall": compare_families(
            _together(results, plan), replace(settings, claims=[LEARNED_TOGETHER], references=(), tries=None)
        ),
    }
    tables = {
        name: pd.concat([getattr(one, name).assign(comparison=kind) for kind, one in found.items()], ignore_index=True)
        for name in ("families", "pairs", "curves")
    }
    tables = {
        name: table[["comparison", *(column for column in table if column != "comparison")]].assign(plans=plan["plans"])
        for name, table in tables.items()
    }
    fronts, points = compare_family_fronts(results, plan, seed)
    tables |= {"fronts": fronts.assign(plans=plan["plans"]), "points": points.assign(plans=plan["plans"])}
    return tables, _summary(found, plan, notes)


def _together(results: Results, plan: Mapping[str, Any]) -> Results:
    """All learned samplers as one family, and all heuristics as another."""
    joined = []
    for one in results.objectives:
        kept = ~np.isin(one.families, list(plan["references"]))
        names = np.where(np.isin(one.families, list(plan["claims"])), LEARNED_TOGETHER, HEURISTICS_TOGETHER)
        joined.append(_of_configurations(replace(one, families=names), kept))
    return Results(joined)


def _of_configurations(objective: Objective, kept: np.ndarray) -> Objective:
    """Some of an objective's configurations, in the order of their families."""
    order = np.flatnonzero(kept)
    order = order[np.argsort(objective.families[order], kind="stable")]
    return replace(
        objective,
        families=objective.families[order],
        configurations=objective.configurations[order],
        values=objective.values[order],
        halves=None if objective.halves is None else objective.halves[:, order],
        duplicates=[],
    )


def _summary(found: Mapping[str, Comparison], plan: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
    pairs = found["families"].pairs
    undecided = pairs["verdict"] == UNDECIDED
    won = pairs["verdict"] == pairs["family"] + " is better"
    doubts = [*notes, *found["families"].flags]
    doubts += [flag for flag in found["overall"].flags if flag not in doubts]
    if plan["plans"] > 1:
        doubts.insert(0, f"the test prompts were read under {plan['plans']} plans")
    if plan["read_before"]:
        doubts.insert(0, "this run's test answers were compared before the plan was declared")
    return {
        "plan": plan["plan"],
        "plans": plan["plans"],
        "read_before": plan["read_before"],
        "tries": {kind: one.tries for kind, one in found.items()},
        "claims": found["families"].claims | found["overall"].claims,
        "comparisons": {
            "won": int(won.sum()),
            "lost": int((~won & ~undecided).sum()),
            UNDECIDED: int(undecided.sum()),
        },
        "doubts": doubts,
    }
