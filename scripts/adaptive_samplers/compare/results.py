"""Results of any run: what each configuration of each family is worth on each prompt, under each seed.

A table has the columns `family`, `configuration`, `prompt`, `seed` and `value`, and perhaps `objective`, `split`
(`validation` or `test`, of a prompt) and `selected` (whether its authors report this configuration). Where only a mean
and its standard error were published, a row has `standard_error` and no `prompt`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_number

NEEDED = ("family", "configuration", "value")
OPTIONAL = ("prompt", "seed", "objective", "split", "selected", "standard_error")
VALIDATION, TEST = "validation", "test"


@dataclass(frozen=True)
class Objective:
    """One objective's values.

    Attributes
    ----------
    name : str
    families, configurations : array [C]
        Of each configuration, in the order of both.
    prompts : array [P], empty where only means were published
    values : ndarray [C, P]
        Averaged over seeds; higher is better. Of published means `[C, 1]`.
    halves : ndarray [2, C, P] or None
        Averaged over every other seed, which tells the noise of a sampler against itself; None where that is not known.
    splits : array [P] or None
        `validation` or `test`; None if the results do not say.
    standard_errors : ndarray [C] or None
        Of published means.
    selected : ndarray of bool [C] or None
        The configurations that their authors report.
    duplicates : list of (family, configuration, configuration)
        The first was left out, because its values are those of the second.
    """

    name: str
    families: np.ndarray
    configurations: np.ndarray
    prompts: np.ndarray
    values: np.ndarray
    halves: np.ndarray | None
    splits: np.ndarray | None
    standard_errors: np.ndarray | None
    selected: np.ndarray | None
    duplicates: list[tuple[str, str, str]]

    @property
    def is_published(self) -> bool:
        """Whether there are means with standard errors alone."""
        return self.standard_errors is not None

    @cached_property
    def is_test(self) -> np.ndarray:
        """The prompts on which configurations are judged, bool `[P]`; the others choose among them."""
        return ~validation_half(self.prompts) if self.splits is None else self.splits == TEST

    def rows(self, family: str) -> np.ndarray:
        """Where the family's configurations are."""
        return np.flatnonzero(self.families == family)


@dataclass(frozen=True)
class Results:
    """The objectives of a run, all with the same families."""

    objectives: list[Objective]

    @property
    def families(self) -> list[str]:
        return sorted(set(self.objectives[0].families))

    def only(self, names: Sequence[str]) -> "Results":
        """Of some objectives.

        Raises
        ------
        UserError
            There is no such objective.
        """
        known = {one.name: one for one in self.objectives}
        for name in names:
            if name not in known:
                raise UserError(f"--objective: there is no '{name}'; there are {', '.join(known)}")
        return Results([known[name] for name in names])


def results_of_table(table: pd.DataFrame, name: str = "table", lower_is_better: Sequence[str] = ()) -> Results:
    """The same, of a table in memory; `name` stands for it in errors."""
    for column in NEEDED:
        if column not in table:
            raise UserError(
                f"{name}: has no column '{column}'; name its columns {', '.join(NEEDED)}, and where they are there "
                f"{', '.join(OPTIONAL)}"
            )
    if table.empty:
        raise UserError(f"{name}: has no rows; give it one for each configuration, prompt and seed")
    table = table[[column for column in (*NEEDED, *OPTIONAL) if column in table]].copy()
    for column in ("family", "configuration"):
        if table[column].isna().any():
            row = int(np.flatnonzero(table[column].isna())[0]) + 1
            raise UserError(f"{name}: row {row} has no {column}; fill it in")
        table[column] = table[column].astype(str)
    table["value"] = _numbers(table, "value", name)
    table["objective"] = table["objective"].astype(str) if "objective" in table else "value"
    unknown = sorted(set(lower_is_better) - set(table["objective"]))
    if unknown:
        known = ", ".join(sorted(set(table["objective"])))
        raise UserError(f"{name}: has no objective '{unknown[0]}'; there are {known}")
    objectives = []
    for objective, rows in table.groupby("objective", sort=True):
        sign = -1.0 if objective in lower_is_better else 1.0
        rows = rows.assign(value=sign * rows["value"])
        objectives.append(_objective(str(objective), rows, f"{name}, objective {objective}"))
    families = {one.name: sorted(set(one.families)) for one in objectives}
    first = objectives[0]
    for one in objectives:
        if families[one.name] != families[first.name]:
            missing = sorted(set(families[first.name]) ^ set(families[one.name]))[0]
            raise UserError(f"{name}: the family '{missing}' has not all objectives; give it all, or leave it out")
    if len(families[first.name]) < 2:
        only = families[first.name][0]
        raise UserError(f"{name}: has the family '{only}' alone; add what it is to be compared with")
    return Results(objectives)


def _objective(objective: str, rows: pd.DataFrame, place: str) -> Objective:
    published = "prompt" not in rows or bool(rows["prompt"].isna().all())
    if published:
        return _published(objective, rows, place)
    if rows["prompt"].isna().any():
        raise UserError(f"{place}: some rows have no prompt; give all of them one, or none and a standard_error")
    rows = rows.assign(prompt=rows["prompt"].astype(str), seed=rows["seed"].fillna(0) if "seed" in rows else 0)
    key = ["family", "configuration"]
    repeated = rows.duplicated([*key, "prompt", "seed"])
    if repeated.any():
        one = rows[repeated].iloc[0]
        raise UserError(
            f"{place}: {one['family']} {one['configuration']} has two values for prompt {one['prompt']} under seed "
            f"{one['seed']}; keep one, or tell them apart by seed"
        )
    means = _means(rows)
    if means.isna().to_numpy().any():
        configuration = means.index[means.isna().any(axis=1)][0]
        prompt = means.columns[means.loc[configuration].isna()][0]
        raise UserError(
            f"{place}: {' '.join(configuration)} has no value for prompt {prompt}, which others have; add it, or leave "
            "the prompt out for all"
        )
    seeds = rows["seed"].rank(method="dense").astype(int)
    halves = None
    if seeds.max() > 1:
        parts = [_means(rows[seeds % 2 == parity]) for parity in (0, 1)]
        if all(part.shape == means.shape and not part.isna().to_numpy().any() for part in parts):
            halves = np.stack([part.to_numpy(float) for part in parts])
    if halves is not None and np.array_equal(*halves):
        halves = None  # a value of the answers under all seeds together, which each of them has
    values = means.to_numpy(float)
    kept, duplicates = _without_duplicates(means.index, values if halves is None else np.hstack(halves))
    index = means.index[kept]
    return Objective(
        objective,
        index.get_level_values("family").to_numpy(),
        index.get_level_values("configuration").to_numpy(),
        means.columns.to_numpy(),
        values[kept],
        None if halves is None else halves[:, kept],
        _splits(rows, means.columns, place),
        None,
        _selected(rows, index, place),
        duplicates,
    )


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Over seeds: a row per family and configuration, a column per prompt, NaN where there is no value."""
    return rows.groupby(["family", "configuration", "prompt"])["value"].mean().unstack("prompt")


def _published(objective: str, rows: pd.DataFrame, place: str) -> Objective:
    """Means with standard errors: those under several seeds are averaged."""
    if "standard_error" not in rows:
        raise UserError(f"{place}: has neither prompts nor standard errors; one of both is needed")
    rows = rows.assign(variance=_numbers(rows, "standard_error", place) ** 2)
    if (rows["variance"] <= 0).any():
        raise UserError(f"{place}: a standard_error is not above 0; correct it")
    groups = rows.groupby(["family", "configuration"], sort=True)
    means, variances, counts = groups["value"].mean(), groups["variance"].sum(), groups.size()
    index = means.index
    return Objective(
        objective,
        index.get_level_values("family").to_numpy(),
        index.get_level_values("configuration").to_numpy(),
        np.array([]),
        means.to_numpy(float)[:, None],
        None,
        None,
        np.sqrt(variances.to_numpy(float)) / counts.to_numpy(float),
        _selected(rows, index, place),
        [],
    )


def _numbers(table: pd.DataFrame, column: str, place: str) -> pd.Series:
    numbers = pd.to_numeric(table[column], errors="coerce").astype(float)
    wrong = np.flatnonzero(~np.isfinite(numbers.to_numpy()))
    if len(wrong):
        shown = table[column].iloc[wrong[0]]
        raise UserError(f"{place}: row {int(wrong[0]) + 1} has the {column} {shown!r}; write a finite number")
    return numbers


def _splits(rows: pd.DataFrame, prompts: pd.Index, place: str) -> np.ndarray | None:
    if "split" not in rows or rows["split"].isna().all():
        return None
    names = rows.groupby("prompt")["split"].agg(lambda found: set(found.astype(str)))
    for prompt, found in names.items():
        if len(found) > 1 or not found <= {VALIDATION, TEST}:
            shown = ", ".join(sorted(found))
            raise UserError(f"{place}: prompt {prompt} has the split {shown}; give it one, {VALIDATION} or {TEST}")
    splits = names.reindex(prompts).map(lambda found: next(iter(found))).to_numpy()
    if set(splits) != {VALIDATION, TEST}:
        raise UserError(f"{place}: all prompts are of the split {splits[0]}; both are needed, or no column split")
    return splits


def _selected(rows: pd.DataFrame, index: pd.MultiIndex, place: str) -> np.ndarray | None:
    if "selected" not in rows or rows["selected"].isna().all():
        return None
    true = {"true", "1", "1.0", "yes"}
    selected = rows["selected"].map(lambda value: str(value).strip().lower() in true)
    found = selected.groupby([rows["family"], rows["configuration"]]).max().reindex(index)
    most = found.groupby(level="family").sum()
    if (most > 1).any():
        raise UserError(f"{place}: the family '{most.idxmax()}' has several selected configurations; select one")
    return found.to_numpy(bool)


def _without_duplicates(index: pd.MultiIndex, values: np.ndarray) -> tuple[np.ndarray, list[tuple[str, str, str]]]:
    """Which configurations to keep: one that gives the same values as another of its family is no further try."""
    first: dict[tuple[str, bytes], str] = {}
    kept, duplicates = [], []
    for row, (family, configuration) in enumerate(index):
        key = family, values[row].tobytes()
        if key in first:
            duplicates.append((family, configuration, first[key]))
        else:
            first[key] = configuration
            kept.append(row)
    return np.array(kept), duplicates


def validation_half(prompts: Sequence[str]) -> np.ndarray:
    """Half of the prompts, by their hashes: bool `[P]`. The same prompts are always halved in the same way."""
    order = np.argsort([content_number(["validation", str(prompt)]) for prompt in prompts], kind="stable")
    half = np.zeros(len(prompts), bool)
    half[order[: len(prompts) // 2]] = True
    return half
