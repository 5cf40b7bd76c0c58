"""Labels as arrays with an entry for every index of the run's grid, read in batches: texts are never in memory.

Every reader takes how many `rows` it reads at a time.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adaptive_samplers.grid import Grid
from adaptive_samplers.tables import KEY, ROWS_AT_A_TIME, read_batches


def grid_of(candidates: Path | str, rows: int = ROWS_AT_A_TIME) -> Grid:
    """The grid of the prompts, heuristics and seeds that have an answer."""
    found: list[set[Any]] = [set(), set(), set()]
    for batch in read_batches("candidates", candidates, KEY, rows):
        for values, column in zip(found, KEY, strict=True):
            values.update(pc.unique(batch[column]).to_pylist())
    return Grid(*found)


def answer_values(
    grid: Grid, candidates: Path | str, rows: int = ROWS_AT_A_TIME
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """What the answers themselves tell.

    Returns
    -------
    present, failed : bool [places]
        Whether there is an answer, and whether it ended in an error.
    values : dict of float [places]
        `tokens`, and `mean_logprob` under the base model in nats; nan where an answer failed, has no token, or its
        engine gave no log-probabilities.
    """
    present, failed = np.zeros((2, len(grid)), dtype=bool)
    values = {name: np.full(len(grid), np.nan) for name in ("tokens", "mean_logprob")}
    columns = [*KEY, "token_ids", "token_logprobs", "finish_reason", "error"]
    for batch in read_batches("candidates", candidates, columns, rows):
        places = grid.places(batch)
        wrong = pc.or_(pc.equal(batch["finish_reason"], "error"), pc.is_valid(batch["error"]))
        wrong = wrong.to_numpy(zero_copy_only=False)
        lengths = pc.list_value_length(batch["token_ids"]).to_numpy(zero_copy_only=False).astype(float)
        present[places] = True
        failed[places] = wrong
        values["tokens"][places] = np.where(wrong, np.nan, lengths)
        values["mean_logprob"][places] = np.where(wrong, np.nan, _means(batch["token_logprobs"]))
    return present, failed, values


def _means(lists: pa.ListArray) -> np.ndarray:
    """The mean of each list, float [N]; nan if the list is empty or null, or holds a null."""
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    numbers = pc.list_flatten(lists).to_numpy(zero_copy_only=False).astype(float)
    counts = np.bincount(rows, minlength=len(lists))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.bincount(rows, weights=numbers, minlength=len(lists)) / counts


def label_values(
    grid: Grid, present: np.ndarray, name: str, path: Path | str, columns: Sequence[str], rows: int = ROWS_AT_A_TIME
) -> tuple[dict[str, np.ndarray], int]:
    """Columns of a table of labels.

    Parameters
    ----------
    present : bool [places], where there is an answer.

    Returns
    -------
    values : dict of float [places], nan where there is no label.
    strays : how many rows are of no answer, and left out.
    """
    values = {column: np.full(len(grid), np.nan) for column in columns}
    strays = 0
    for batch in read_batches(name, path, [*KEY, *columns], rows):
        places = grid.places(batch)
        known = (places >= 0) & present[places]
        strays += int((~known).sum())
        for column in columns:
            values[column][places[known]] = batch[column].to_numpy(zero_copy_only=False)[known]
    return values, strays


def rows_at(
    grid: Grid, name: str, path: Path | str, columns: Sequence[str], places: Collection[int], rows: int = ROWS_AT_A_TIME
) -> dict[int, dict[str, Any]]:
    """Some columns of the rows at a few indices, from one pass through the table."""
    wanted = np.array(sorted(places), dtype=np.int64)
    found = {}
    for batch in read_batches(name, path, [*KEY, *columns], rows):
        at = grid.places(batch)
        hits = np.flatnonzero(np.isin(at, wanted))
        if len(hits):
            chosen = batch.select(list(columns)).take(pa.array(hits)).to_pylist()
            found.update(zip(at[hits].tolist(), chosen, strict=True))
    return found
