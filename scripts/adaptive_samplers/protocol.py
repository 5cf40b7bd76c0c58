"""The declared plan of a comparison: what competes, by what and how, written down before any test answer is judged.

A second plan over the same test prompts has seen what the first one found. So every plan leaves a file beside the runs,
with its test prompts, and one that shares prompts with another is refused, or counted where the config says so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from adaptive_samplers.config.model.evaluation import Protocol
from adaptive_samplers.errors import UserError
from adaptive_samplers.evaluation import BASE, LEARNED
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics.pipelines import parse_processors
from adaptive_samplers.measures import JUDGED_SPLITS

# Heuristics without anything to choose, each a family of its own.
REFERENCES = {BASE: "raw logits", "top_k_1": "greedy"}
CHAINS = "pipeline"
PLANS = Path("plans")  # beside the runs


def families_of(heuristics: pd.DataFrame, learned: Mapping[str, str]) -> dict[str, list[str]]:
    """The configurations of every family, by its name.

    Parameters
    ----------
    heuristics : DataFrame with the columns name, family, processors
        Learned samplers have the family `learned`.
    learned : the families of learned samplers, by `{architecture}/{lesson}`.
    """
    families: dict[str, list[str]] = {}
    for row in heuristics.itertuples():
        family = row.family
        if family == LEARNED:
            folder = next(step.folder for step in parse_processors(row.processors) if step.name == LEARNED)
            family = learned["/".join(PurePath(folder).parts[-2:])]
        if row.name in REFERENCES:
            families.setdefault(REFERENCES[row.name], []).append(row.name)
        # A chain of one step that is a reference is no family of chains.
        if row.name not in REFERENCES or family != CHAINS:
            families.setdefault(family, []).append(row.name)
    return families


def declare(
    protocol: Protocol,
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    learned: Mapping[str, str],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """A plan, with its hash.

    Parameters
    ----------
    prompts, heuristics : the run's tables; heuristics with the learned samplers' rows.
    learned : as `families_of` takes them.
    settings : everything else in the config that answers, labels and training depend on.

    Raises
    ------
    UserError
        There is nothing to choose by, or nothing to compare.
    """
    families = families_of(heuristics, learned)
    references = [name for name in families if name in REFERENCES.values()]
    competing = {name: found for name, found in families.items() if name not in references}
    claims = [name for name in competing if name in learned.values()]
    if len(competing) == len(claims):
        raise UserError("evaluation.protocol: there are no heuristics to compare with; add some under heuristics.grid")
    fewest = min(competing, key=lambda name: len(competing[name]))
    tries = protocol.tries or len(competing[fewest])
    if tries > len(competing[fewest]):
        raise UserError(
            f"evaluation.protocol.tries: {tries} are more than the {len(competing[fewest])} configurations of the "
            f"family '{fewest}'; give it more, or allow fewer tries"
        )
    splits = {}
    for split in JUDGED_SPLITS.values():
        ids = sorted(prompts.loc[prompts["split"] == split, "prompt_id"])
        if not ids:
            raise UserError(
                f"prompts.split: no prompt is in the split '{split}', which the protocol needs; give it a share"
            )
        splits[split] = {"prompts": len(ids), "ids": content_id(ids)}
    plan = {
        "objectives": list(protocol.objectives),
        "families": families,
        "references": references,
        "claims": claims,
        "tries": tries,
        "splits": splits,
        "seeds": list(seeds),
        "statistics": {
            "unit": "prompt, averaged over seeds",
            "chosen_on": "validation",
            "judged_on": "test",
            "test": "symmetric bootstrap-t over prompts, paired",
            "resamples": protocol.resamples,
            "level": protocol.level,
            "power": protocol.power,
            "correction": "Holm, over the comparisons of an objective; intersection-union over objectives",
        },
        "settings": settings,
    }
    return {"plan": content_id(plan), **plan}


def freeze(
    plan: Mapping[str, Any], prompts: pd.DataFrame, run: str, was_read: bool, policy: str, results: Path, output: Path
) -> dict[str, Any]:
    """Write a plan, and leave a note of it among all plans.

    Parameters
    ----------
    was_read : whether the run's test answers were compared before without any plan.
    policy : `refuse` or `count`, of plans over the same test prompts.
    results : the folder of all runs.

    Returns
    -------
    The plan with `plans`, how many have read any of its test prompts, itself included, and `read_before`.

    Raises
    ------
    UserError
        Another plan has read some of the prompts, and none may.
    """
    ids = sorted(prompts.loc[prompts["split"] == JUDGED_SPLITS["evaluation"], "prompt_id"])
    own = results / PLANS / f"{plan['plan']}.json"
    others = []
    for path in sorted((results / PLANS).glob("*.json")):
        note = read_json(path)
        shared = len(set(ids) & set(note["test_prompts"]))
        if path != own and shared:
            others.append((path, note, shared))
    if others and policy == "refuse":
        path, note, shared = others[0]
        raise UserError(
            f"evaluation.protocol: {path}: another plan, {note['plan']} of the run '{note['run']}', has read {shared} "
            f"of the {len(ids)} test prompts, so what is found now is not independent of what it found. Take new test "
            "prompts (prompts.sources, or run.seed for another split), or set evaluation.protocol.further_plans to "
            "'count', and all tables will say how many plans there were"
        )
    write_json({"plan": plan["plan"], "run": run, "test_prompts": ids}, own)
    frozen = {**plan, "plans": len(others) + 1, "read_before": was_read}
    write_json(frozen, output)
    return frozen


def said_of_plans(path: Path | str | None) -> str:
    """What every table and figure of test answers says of a frozen plan that is not the only one; else nothing."""
    plans = read_json(path)["plans"] if path else 1
    return f"The test prompts were read under {plans} plans." if plans > 1 else ""
