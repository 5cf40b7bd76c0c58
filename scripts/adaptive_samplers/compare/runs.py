"""What the samplers of a run of this project are worth on every prompt, by its labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from adaptive_samplers.compare.results import Results, results_of_table
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.measures import JUDGED_SPLITS, OBJECTIVES
from adaptive_samplers.tables import KEY, read_table

HEURISTICS = Path("evaluation/heuristics.parquet")
PLAN = Path("protocol/plan.json")


def results_of_run(folder: Path) -> Results:
    """Of a run's folder: by its plan if it has one, else of its test answers alone."""
    heuristics = read_table("heuristics", folder / HEURISTICS)
    if (folder / PLAN).is_file():
        plan = read_json(folder / PLAN)
        return judged_results(folder, heuristics, plan["families"], plan["objectives"])[0]
    families = heuristics.groupby("family")["name"].agg(list).to_dict()
    return judged_results(folder, heuristics, families, list(OBJECTIVES), ["evaluation"])[0]


def judged_results(
    folder: Path,
    heuristics: pd.DataFrame,
    families: Mapping[str, Sequence[str]],
    objectives: Sequence[str],
    parts: Sequence[str] = tuple(JUDGED_SPLITS),
) -> tuple[Results, list[str]]:
    """The labels of a run as results, and what was left out, in words.

    A prompt counts only where every sampler has a value: answers that failed, or cannot be verified, are no zeros.

    Parameters
    ----------
    heuristics : DataFrame with the columns heuristic_id, name
    families : the names of the samplers in each family; a sampler may be in several.
    parts : folders of judged answers, of `JUDGED_SPLITS`.

    Raises
    ------
    UserError
        No prompt is left in some part.
    """
    members = pd.DataFrame(
        [(family, name) for family, names in families.items() for name in names], columns=["family", "configuration"]
    )
    ids = heuristics.set_index("name")["heuristic_id"]
    members["heuristic_id"] = ids.loc[members["configuration"]].to_numpy()
    tables, notes = [], []
    for objective in objectives:
        for part in parts:
            values, left_out = _values(folder / part / "labels", objective, set(members["heuristic_id"]))
            if not len(values):
                raise UserError(
                    f"{folder / part}: no prompt has a value of '{objective}' for every sampler; leave it out of "
                    "evaluation.protocol.objectives"
                )
            if left_out:
                notes.append(
                    f"{objective}: {left_out} {JUDGED_SPLITS[part]} prompts were left out, because not every sampler "
                    "has a value there"
                )
            tables.append(values.assign(objective=objective, split=JUDGED_SPLITS[part]))
    joined = pd.concat(tables).merge(members, on="heuristic_id")
    table = joined.rename(columns={"prompt_id": "prompt"})
    if len(parts) == 1:
        table = table.drop(columns="split")
    turned = [name for name in objectives if not OBJECTIVES[name].higher_is_better]
    return results_of_table(table, str(folder), turned), notes


def _values(labels: Path, objective: str, wanted: set[str]) -> tuple[pd.DataFrame, int]:
    """A measure of answers under its name `value`, of the prompts where all have one, and how many others there are."""
    measure = OBJECTIVES[objective]
    rows = read_table(measure.table, labels / f"{measure.table}.parquet", [*KEY, measure.column])
    rows = rows[rows["heuristic_id"].isin(wanted)].dropna(subset=measure.column)
    counts = rows.groupby("prompt_id")["heuristic_id"].nunique()
    complete = counts.index[counts == len(wanted)]
    kept = rows[rows["prompt_id"].isin(complete)].rename(columns={measure.column: "value"})
    return kept, len(counts) - len(complete)
