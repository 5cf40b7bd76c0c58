"""Results of any run: what each configuration of each family is worth on each prompt, under each seed.

A table has the columns `family`, `configuration`, `prompt`, `seed` and `value`, and perhaps `objective`, `split`
(`validation` or `test`, of a prompt) and `selected` (whether its authors report this configuration). Where only a mean
and its standard error were published, a row has `standard_error` and no `prompt`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_number
from adaptive_samplers.measures import OBJECTIVES
from adaptive_samplers.reading import read_objects

NEEDED = ("family", "configuration", "value")
OPTIONAL = ("prompt", "seed", "objective", "split", "selected", "standard_error")
VALIDATION, TEST = "validation", "test"
_RUN = Path("evaluation/heuristics.parquet")  # where a run of this project keeps what it has compared
# Arguments of lm-evaluation-harness that say how long an answer is and what ends it, not how it is drawn.
_NOT_SAMPLING = {"until", "max_gen_toks", "max_new_tokens", "max_tokens", "max_length", "do_sample", "seed"}


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


def read_results(path: Path, lower_is_better: Sequence[str] = (), metric: str | None = None) -> Results:
    """The results in a file: CSV, TSV, JSON lines or Parquet; or in a folder: a run's, or lm-evaluation-harness's logs.

    Parameters
    ----------
    lower_is_better : objectives whose values are turned around.
    metric : str, optional
        Of lm-evaluation-harness, where its logs have several.

    Raises
    ------
    UserError
        Naming the file and the column, configuration or prompt, with what to do.
    """
    if (path / _RUN).is_file():
        return _results_of_run(path)
    if path.is_dir():
        return results_of_table(pd.DataFrame(_lm_eval_rows(path, metric)), str(path), lower_is_better)
    readers = {".csv": pd.read_csv, ".tsv": lambda file: pd.read_csv(file, sep="\t"), ".parquet": pd.read_parquet}
    readers |= dict.fromkeys((".jsonl", ".ndjson"), lambda file: pd.read_json(file, lines=True, dtype=False))
    if path.suffix not in readers:
        known = ", ".join(sorted(readers))
        raise UserError(f"{path}: is neither a folder nor a file that ends in {known}; give it such an ending")
    try:
        table = readers[path.suffix](path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; correct its name") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); correct it") from error
    return results_of_table(table, str(path), lower_is_better)


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


def _lm_eval_rows(folder: Path, metric: str | None) -> Iterator[dict[str, Any]]:
    """Rows of the sample logs below a folder: a file is a task under one way of drawing, at one time.

    Logs of the same task, model and arguments are answers under further seeds, in the order of their times.
    """
    files = sorted(folder.rglob("samples_*.jsonl"), key=lambda path: (path.stem.rpartition("_")[2], str(path)))
    if not files:
        raise UserError(f"{folder}: has no files samples_*.jsonl; run lm-evaluation-harness with --log_samples")
    seen: dict[tuple[str, str, str], int] = {}
    for path in files:
        task = path.stem.partition("_")[2].rpartition("_")[0]
        model = str(path.parent.relative_to(folder))
        seeds: dict[tuple[str, str, str], int] = {}
        for row in read_objects(path, "the folder"):
            sample = row.values
            try:
                family, configuration = _drawn_by(sample["arguments"])
                metrics = sample.get("metrics") or [key for key in sample if _is_metric(sample[key], key)]
                prompt = sample.get("doc_hash") or str(sample["doc_id"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise row.complain(f"is no sample of lm-evaluation-harness ({error})", "leave it out") from error
            chosen = metric or (metrics[0] if len(metrics) == 1 else None)
            if chosen is None or chosen not in sample:
                wrong = f"has no metric '{chosen}'" if chosen else "has several metrics" if metrics else "has no metric"
                raise row.complain(wrong, f"choose one of {', '.join(metrics)} by --metric")
            configuration = configuration if model == "." else f"{model} {configuration}"
            key = task, family, configuration
            # The same configuration in an earlier file: answers under another seed.
            seed = seeds.setdefault(key, seen.get(key, 0))
            filtered = sample.get("filter", "none")
            yield {
                "objective": task if filtered == "none" else f"{task} ({filtered})",
                "family": family,
                "configuration": configuration,
                "prompt": prompt,
                "seed": seed,
                "value": float(sample[chosen]),
            }
        for key, seed in seeds.items():
            seen[key] = seed + 1


def _results_of_run(folder: Path) -> Results:
    """The test answers of a run of this project: what each heuristic and learned sampler is worth, by its labels."""
    from adaptive_samplers.tables import KEY, read_table

    heuristics = read_table("heuristics", folder / _RUN)[["heuristic_id", "family", "name"]]
    parts = []
    for objective, measure in OBJECTIVES.items():
        path = folder / "evaluation" / "labels" / f"{measure.table}.parquet"
        labels = read_table(measure.table, path, [*KEY, measure.column]).dropna(subset=measure.column)
        parts.append(labels.rename(columns={measure.column: "value"}).assign(objective=objective))
    table = pd.concat(parts).merge(heuristics, on="heuristic_id", validate="many_to_one")
    table = table.rename(columns={"prompt_id": "prompt", "name": "configuration"})
    turned = [name for name in set(table["objective"]) if not OBJECTIVES[name].higher_is_better]
    return results_of_table(table, str(folder), turned)


def _is_metric(value: Any, key: str) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and key != "doc_id"


def _drawn_by(arguments: Mapping[str, Any]) -> tuple[str, str]:
    """The family and the configuration of a request: what its arguments say of drawing.

    The family has the names of all arguments but the temperature; without any it is `temperature`, or `greedy`.
    """
    first = next(iter(arguments.values())) if isinstance(arguments, Mapping) else arguments[0]
    options = first.get("arg_1") if isinstance(first, Mapping) else first[1]
    options = options if isinstance(options, Mapping) else {}
    drawing = {key: value for key, value in sorted(options.items()) if key not in _NOT_SAMPLING}
    if not options.get("do_sample", bool(drawing.get("temperature"))) or drawing.get("temperature") == 0:
        return "greedy", "greedy"
    family = " + ".join(key for key in drawing if key != "temperature") or "temperature"
    return family, re.sub(r'[{}"]', "", json.dumps(drawing)) or "temperature: 1.0"
