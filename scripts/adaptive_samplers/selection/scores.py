"""The `scores` table: all labels of an answer in one row, on one scale."""

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.grid import Grid, first_of_their_place
from adaptive_samplers.measures import DIVERSITY_MEASURES, LABELS
from adaptive_samplers.selection.normalization import normalize


def score_candidates(
    prompts: pd.DataFrame,
    quality: pd.DataFrame,
    diversity: pd.DataFrame,
    correctness: pd.DataFrame,
    diversity_measure: str,
    scope: str = "global",
    method: str = "zscore",
    kinds: Mapping[str, Collection[str]] | None = None,
) -> pd.DataFrame:
    """Join the labels and normalize each, over all answers of the run or in groups.

    A null label is neutral: it is normalized to 0, the middle. An answer is `correct` if its verifier gave it the full
    score. It is not correct if the verifier came to no verdict, and null only if the prompt has no verifier.

    Parameters
    ----------
    scope : `global`, or `dataset` or `prompt` to compare an answer only with others of its prompt's dataset or of its
        prompt, whatever their heuristic and seed.
    method : `zscore`, `robust` or `rank`, see `normalize`.
    kinds : the kinds of prompts for which each of `LABELS` counts; None: each counts for all. Answers to other prompts
        take no part in its statistics, and it is 0 for them when normalized. The label itself stays as it is.

    Returns
    -------
    DataFrame
        The `scores` table, in the order of its key.

    Raises
    ------
    UserError
        If an answer has a label twice.
    """
    labels = {
        "quality": (quality, quality["rating"]),
        "diversity": (diversity, diversity[diversity_measure] * DIVERSITY_MEASURES[diversity_measure].sign),
        "correctness": (correctness, correctness["score"]),
    }
    grid = Grid.around(*(keys for keys, _ in labels.values()))
    labelled = np.zeros(len(grid), dtype=bool)
    columns = {}
    for label, (keys, values) in labels.items():
        places = grid.places(keys)
        refuse_repeated(places, np.zeros(len(grid), dtype=bool), f"labels/{label}.parquet", grid)
        columns[label] = np.full(len(grid), np.nan)
        columns[label][places] = values
        labelled[places] = True
    places = np.flatnonzero(labelled)
    table = grid.keys(places).assign(**{label: values[labelled] for label, values in columns.items()})
    table = table.merge(prompts[["prompt_id", "kind", "split"]], on="prompt_id", how="left", validate="many_to_one")
    groups = _groups(grid, places, prompts, scope)
    for label in LABELS:
        counted = table[label] if kinds is None else table[label].where(table["kind"].isin(kinds[label]))
        table[f"z_{label}"] = normalize(counted, groups, method)
    verifiable = table["correctness"].notna() | table["prompt_id"].isin(_with_verifier(prompts))
    table["correct"] = (table["correctness"] >= 1.0).astype("boolean").where(verifiable, pd.NA)
    return table


def _with_verifier(prompts: pd.DataFrame) -> pd.Series:
    return prompts["prompt_id"][prompts["verifier"].notna()]


def weighted_score(scores: pd.DataFrame, weights: dict[str, float]) -> pd.Series:
    """The sum of normalized labels under `weights` (`{diversity, quality, correctness}`)."""
    return sum(weight * scores[f"z_{label}"] for label, weight in weights.items())


def refuse_repeated(places: np.ndarray, seen: np.ndarray, file: str, grid: Grid) -> None:
    """Raise UserError if an index occurs twice, or was `seen` before; updates `seen`."""
    repeated = places[~first_of_their_place(places, seen)]
    if len(repeated):
        raise UserError(
            f"{file}: {len(repeated)} answers come twice, the first: {grid.keys(repeated[:1]).to_dict('records')[0]}; "
            "delete the file and run again"
        )


def _groups(grid: Grid, places: np.ndarray, prompts: pd.DataFrame, scope: str) -> np.ndarray | None:
    """The group of the answer at each index, int [N]; None if there is one group."""
    if scope == "global":
        return None
    prompt = places // (grid.shape[1] * grid.shape[2])
    if scope == "prompt":
        return prompt
    datasets = prompts.set_index("prompt_id")["dataset"].reindex(grid.prompt_ids.to_pylist())
    return pd.factorize(datasets)[0][prompt]
