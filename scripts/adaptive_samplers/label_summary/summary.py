"""Everything the report says about the labels, from one pass through each table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adaptive_samplers.grid import Grid
from adaptive_samplers.hashing import content_number
from adaptive_samplers.label_summary.correlations import correlations
from adaptive_samplers.label_summary.distributions import distribution, group_values
from adaptive_samplers.label_summary.examples import Extreme, extremes
from adaptive_samplers.label_summary.likelihood import explained_by_likelihood
from adaptive_samplers.label_summary.values import answer_values, grid_of, label_values, rows_at
from adaptive_samplers.measures import CANDIDATES, LABEL_TABLES, MEASURES, measures_of
from adaptive_samplers.tables import ROWS_AT_A_TIME

CORRELATED_ANSWERS = 200_000  # above which correlations use only some prompts, with all their answers
EXAMPLES = 3  # best ones and worst ones of a kind
LONGEST_TEXT = 20_000  # characters of a text that the summary keeps


def summarize_labels(
    tables: Mapping[str, Path | str],
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    judged: Mapping[str, Path | str],
    correlated_answers: int = CORRELATED_ANSWERS,
    rows_at_a_time: int = ROWS_AT_A_TIME,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Distributions of labels, the best and worst answers, and correlations.

    Parameters
    ----------
    tables : files of `candidates`, `quality`, `diversity`, `correctness`, and of `overlap` where it is made.
    prompts, heuristics : the tables of these names.
    judged : the table of quality by each judge, by its name.
    correlated_answers : where there are more, prompts are taken in the order of a hash until there are so many
        answers, and correlations are of those.
    rows_at_a_time : rows of a table in memory at once; they change nothing.

    Returns
    -------
    dict
        `answers`, `failed`, `groups`, `prompts`, `heuristics`, `seeds`: how many; `strays`: by table, rows of no answer
        there is, which are left out; `kinds` of prompts; `columns`: the labels with any value, and `empty`, those
        without; `correlated`: the `columns`, and of how many `prompts` and
        `answers`; `likelihood`: for each judge's `rating`, and its `reward` where it has any, what
        `explained_by_likelihood` finds, with `judge` and `measure`; `distributions` by label; `examples`.
    DataFrame
        What `correlations` returns.

    Raises
    ------
    UserError
        If a table is missing or of another version.
    """
    grid = grid_of(tables[CANDIDATES], rows_at_a_time)
    present, failed, values = answer_values(grid, tables[CANDIDATES], rows_at_a_time)
    kinds = sorted(prompts["kind"].unique())
    rows = prompts.set_index("prompt_id").loc[grid.prompt_ids.to_pylist()]
    codes = rows["kind"].map({kind: code for code, kind in enumerate(kinds)}).to_numpy(int)
    per_prompt = present.reshape(grid.shape[0], -1)
    sampled = _sampled_prompts(grid, per_prompt.sum(axis=1), correlated_answers)
    places = np.flatnonzero(present & np.repeat(sampled, per_prompt.shape[1]))
    sample = {"prompt": places // per_prompt.shape[1], "group": places // grid.shape[2]}
    distributions: dict[str, Any] = {}
    chosen: list[Extreme] = []
    shown: dict[str, np.ndarray] = {}
    strays: dict[str, int] = {}
    # Ratings first, because they choose the examples, whose other labels are kept.
    for table in (*(table for table in LABEL_TABLES if table in tables), CANDIDATES):
        columns = [measure.column for measure in measures_of(table)]
        if table == CANDIDATES:
            found = values
        else:
            found, strays[table] = label_values(grid, present, table, tables[table], columns, rows_at_a_time)
        if table == "quality":
            chosen = extremes(found["rating"].reshape(per_prompt.shape), grid.prompt_ids, codes, kinds, EXAMPLES)
        for column in columns:
            distributions[column] = _distribution(column, found[column], present, codes, kinds, grid)
            shown[column] = found[column][[extreme.place for extreme in chosen]]
            sample[column] = found[column][places]
    known = [column for column in distributions if distributions[column]["kinds"]["all"]["n"]]
    correlated = [column for column in known if MEASURES[column].correlated]
    summary = {
        "answers": int(present.sum()),
        "failed": int(failed.sum()),
        "strays": {table: count for table, count in strays.items() if count},
        "groups": int(present.reshape(-1, grid.shape[2]).any(axis=1).sum()),
        **dict(zip(("prompts", "heuristics", "seeds"), grid.shape, strict=True)),
        "kinds": kinds,
        "columns": known,
        "empty": [column for column in distributions if column not in known],
        "correlated": {"columns": correlated, "prompts": int(sampled.sum()), "answers": len(places)},
        "likelihood": _likelihood(grid, present, values["mean_logprob"], judged, rows_at_a_time),
        "distributions": distributions,
        "examples": _examples(grid, tables, chosen, shown, rows, heuristics, rows_at_a_time),
    }
    return summary, correlations(pd.DataFrame(sample), correlated)


def distributions_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """The distributions of a summary without their histograms: a row per label and kind of prompt."""
    rows = [
        {"label": column, "unit": found["unit"], "kind": kind}
        | {name: value for name, value in described.items() if name != "histogram"}
        for column, found in summary["distributions"].items()
        for kind, described in found["kinds"].items()
    ]
    return pd.DataFrame(rows)


def _likelihood(
    grid: Grid, present: np.ndarray, mean_logprobs: np.ndarray, judged: Mapping[str, Path | str], rows_at_a_time: int
) -> list[dict[str, Any]]:
    """How much the mean log-probability explains of what each judge says, a judge's table at a time."""
    shape = (grid.shape[0], -1)
    rows = []
    for judge, path in judged.items():
        found, _ = label_values(grid, present, "quality", path, ["rating", "reward"], rows_at_a_time)
        for measure, values in found.items():
            if measure == "rating" or np.isfinite(values).any():
                explained = explained_by_likelihood(values.reshape(shape), mean_logprobs.reshape(shape))
                rows.append({"judge": judge, "measure": measure, **explained})
    return rows


def _sampled_prompts(grid: Grid, counts: np.ndarray, most: int) -> np.ndarray:
    """Which prompts correlations are of, bool [prompts]: all, or in the order of a hash those that make up `most`."""
    if counts.sum() <= most:
        return np.ones(len(counts), dtype=bool)
    hashes = np.array([content_number(["labels", prompt_id]) for prompt_id in grid.prompt_ids.to_pylist()], np.uint64)
    order = np.argsort(hashes, kind="stable")
    sampled = np.zeros(len(counts), dtype=bool)
    sampled[order[: max(1, np.searchsorted(np.cumsum(counts[order]), most, side="right"))]] = True
    return sampled


def _distribution(
    column: str, values: np.ndarray, present: np.ndarray, codes: np.ndarray, kinds: list[str], grid: Grid
) -> dict[str, Any]:
    """The distribution of a label over the existing answers, or over their groups."""
    unit = "answer"
    if MEASURES[column].of_group:
        unit = "group"
        values = group_values(np.where(present, values, np.nan), grid.shape[2])
        present = present.reshape(-1, grid.shape[2]).any(axis=1)
    kind_of_value = np.repeat(codes, len(values) // max(1, len(codes)))
    return {"unit": unit, **distribution(values[present], kind_of_value[present], kinds)}


def _examples(
    grid: Grid,
    tables: Mapping[str, Path | str],
    chosen: list[Extreme],
    shown: Mapping[str, np.ndarray],
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    rows_at_a_time: int,
) -> list[dict[str, Any]]:
    """The chosen answers with their prompts, texts and labels, as JSON can hold them."""
    places = {extreme.place for extreme in chosen}
    answers = rows_at(grid, CANDIDATES, tables[CANDIDATES], ["text", "finish_reason"], places, rows_at_a_time)
    columns = ["verifier", "detail", "error"]
    verdicts = rows_at(grid, "correctness", tables["correctness"], columns, places, rows_at_a_time)
    names = heuristics.set_index("heuristic_id")["name"]
    examples = []
    for position, extreme in enumerate(chosen):
        prompt_id, heuristic_id, seed = grid.keys(np.array([extreme.place])).iloc[0]
        prompt, answer = prompts.loc[prompt_id], answers[extreme.place]
        verdict = verdicts.get(extreme.place, {"verifier": None, "detail": None, "error": None})
        labels = {column: float(values[position]) for column, values in shown.items()}
        examples.append(
            {
                **{name: getattr(extreme, name) for name in ("kind", "end", "rank")},
                "prompt_id": prompt_id,
                "heuristic": names[heuristic_id],
                "seed": int(seed),
                "dataset": prompt["dataset"],
                "split": prompt["split"],
                "messages": [_cut(message) for message in json.loads(prompt["messages"])],
                "text": answer["text"][:LONGEST_TEXT],
                "characters": len(answer["text"]),
                "finish_reason": answer["finish_reason"],
                **verdict,
                "labels": {column: None if np.isnan(value) else value for column, value in labels.items()},
            }
        )
    return examples


def _cut(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with a limited number of characters, and how many it had."""
    content = str(message["content"])
    return {"role": str(message["role"]), "content": content[:LONGEST_TEXT], "characters": len(content)}
