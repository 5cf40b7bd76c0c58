"""The outcome of selection: which answers could not be selected and why, and how each heuristic did."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from adaptive_samplers.grid import Grid
from adaptive_samplers.measures import LABELS
from adaptive_samplers.selection.training_sets import Candidates, not_correct, present_and_finished
from adaptive_samplers.tables import KEY, SCHEMAS

# Why an answer could not be selected; if there are several reasons, the first.
REASONS = {
    "incomplete": "it is not among the verified answers, for its prompt has missing, repeated or failed ones",
    "failed": "it ended in an error",
    "unrated": "it has no rating of quality",
    "unverified": "its verifier came to no verdict, and scoring.correct_only is true",
    "incorrect": "its verifier refused it, and scoring.correct_only is true",
    "prompted": "it was drawn from a reply with several answers, which no distribution over next tokens explains",
}
SUMMARIZED = [*KEY, "kind", *LABELS, *(f"z_{label}" for label in LABELS), "correct"]  # columns of the scores
ALL_KINDS = "all"
NOT_ASKED = -1  # instead of a reason: the answer was not requested, as adaptive budgets skip some


def filtering_reasons(
    grid: Grid,
    scores: pd.DataFrame,
    candidates: Candidates,
    correct_only: bool,
    prompted: Collection[str] = (),
    asked: np.ndarray | None = None,
) -> np.ndarray:
    """Why the answer to each key could not be selected, by index in the grid of all requested keys.

    Parameters
    ----------
    prompted : the ids of the grid's heuristics whose answers are drawn from replies.
    asked : bool by index, if not every key of the grid was requested.

    Returns
    -------
    int8 array
        0 if it could be selected, else n for the n-th of `REASONS`; `NOT_ASKED` if it was not requested.
    """
    present, finished = present_and_finished(candidates, grid)
    places = grid.places(scores)
    inside = places >= 0
    rated, silent, refused = np.zeros((3, len(grid)), dtype=bool)
    rated[places[inside]] = scores["quality"].notna().to_numpy()[inside]
    if correct_only:
        refused[places[inside]] = not_correct(scores)[inside]
        silent[places[inside]] = scores["correctness"].isna().to_numpy()[inside]
    drawn = np.zeros(grid.shape, dtype=bool)
    drawn[:, np.isin(grid.heuristic_ids.to_pylist(), list(prompted))] = True
    conditions = [~present, ~finished, ~rated, refused & silent, refused, drawn.ravel()]
    reasons = np.select(conditions, range(1, len(REASONS) + 1), 0).astype(np.int8)
    if asked is not None:
        reasons[~asked] = NOT_ASKED
    return reasons


def filtered_answers(grid: Grid, reasons: np.ndarray) -> pa.Table:
    """The `filtered` table: a row for each answer that could not be selected, in key order."""
    places = np.flatnonzero(reasons > 0)
    names = pa.DictionaryArray.from_arrays(pa.array(reasons[places] - 1, pa.int8()), pa.array(list(REASONS)))
    keys = pa.Table.from_pandas(grid.keys(places), preserve_index=False)
    return keys.append_column("reason", names).cast(SCHEMAS["filtered"])


def filtering_report(grid: Grid, reasons: np.ndarray, prompts: pd.DataFrame) -> dict[str, Any]:
    """How many answers could not be selected, and every prompt and seed for which none could.

    Returns
    -------
    dict
        `answers`: by kind of prompt, and for `all`, how many were `expected`, are `selectable`, and were filtered for
        each reason; `prompted` is present only if any were. `groups`: how many prompts and seeds were requested.
        `empty_groups`: for those without a selectable answer, `{prompt_id, seed, kind, split}` and how many answers
        have each reason.
    """
    found = prompts.set_index("prompt_id").loc[grid.prompt_ids.to_pylist()]
    # [prompts, seeds, codes]: how many heuristics' answers have the code.
    counts = np.stack([(reasons.reshape(grid.shape) == code).sum(axis=1) for code in range(len(REASONS) + 1)], axis=-1)
    answers = {}
    for kind in (ALL_KINDS, *sorted(found["kind"].unique())):
        some = counts if kind == ALL_KINDS else counts[(found["kind"] == kind).to_numpy()]
        answers[kind] = {"expected": int(some.sum()), **_by_reason(some.sum(axis=(0, 1)))}
    if not answers[ALL_KINDS]["prompted"]:
        for counted in answers.values():
            del counted["prompted"]
    seeds = grid.seeds.to_pylist()
    empty = []
    asked = counts.sum(axis=-1) > 0
    for prompt, seed in np.argwhere((counts[..., 0] == 0) & asked).tolist():
        group = {"prompt_id": grid.prompt_ids[prompt].as_py(), "seed": seeds[seed]}
        row = found.iloc[prompt]
        why = {name: count for name, count in _by_reason(counts[prompt, seed]).items() if count}
        empty.append({**group, "kind": row["kind"], "split": row["split"], "reasons": why})
    return {"answers": answers, "groups": int(asked.sum()), "empty_groups": empty}


def _by_reason(counts: np.ndarray) -> dict[str, int]:
    return dict(zip(("selectable", *REASONS), counts.tolist(), strict=True))


def marginals(
    scores: pd.DataFrame,
    selectable: np.ndarray,
    heuristics: pd.DataFrame,
    training_sets: Mapping[tuple[str, int], tuple[dict[str, float], pd.DataFrame]],
) -> pd.DataFrame:
    """How often each heuristic's answers were selected into each training set, and what labels they have.

    Parameters
    ----------
    scores : DataFrame
        The columns `SUMMARIZED` of the `scores` table.
    selectable : bool [N], which rows of the scores could be selected. The means are over these.
    training_sets : mapping
        From the name of the weights and `top_k` to the weights of its score, and the heuristics of its rows with their
        prompts' `kind`.

    Returns
    -------
    DataFrame
        The `marginals` table: training sets and heuristics in their order, kinds of prompt by name, `all` first.
    """
    columns = [*LABELS, *(f"z_{label}" for label in LABELS)]
    groups = scores[selectable].groupby(["heuristic_id", "kind"])
    kinds = [ALL_KINDS, *sorted(scores["kind"].unique())]
    rows = pd.MultiIndex.from_product([heuristics["heuristic_id"], kinds], names=["heuristic_id", "kind"])
    answers = _with_all_kinds(groups[columns].count().assign(answers=groups.size())).reindex(rows, fill_value=0)
    means = _with_all_kinds(groups[columns].sum()).reindex(rows) / answers[columns].replace(0, np.nan)
    table = pd.DataFrame({"answers": answers["answers"], **{label: means[label] for label in LABELS}})
    table = table.assign(name=heuristics.set_index("heuristic_id")["name"].reindex(rows.get_level_values(0)).to_numpy())
    parts = []
    for (name, top_k), (weights, kept) in training_sets.items():
        selected = _with_all_kinds(kept.groupby(["heuristic_id", "kind"]).size().to_frame("selected"))
        selected = selected["selected"].reindex(rows, fill_value=0)
        of_kind = selected.groupby(level="kind").transform("sum")
        score = sum(weight * means[f"z_{label}"] for label, weight in weights.items())
        shares = {"selected": selected, "share": selected / of_kind.replace(0, np.nan), "score": score}
        parts.append(table.assign(weights=name, top_k=top_k, **shares).reset_index())
    return pd.concat(parts, ignore_index=True)[SCHEMAS["marginals"].names]


def _with_all_kinds(counts: pd.DataFrame) -> pd.DataFrame:
    """Counts or sums by heuristic and kind, preceded by those of all kinds together."""
    together = counts.groupby(level="heuristic_id").sum()
    together.index = pd.MultiIndex.from_product([together.index, [ALL_KINDS]], names=counts.index.names)
    return pd.concat([together, counts])
