"""Training sets: the best answers of each prompt and seed, by a weighted sum or by Pareto fronts."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from adaptive_samplers.errors import UserError
from adaptive_samplers.grid import Grid
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import prompted_heuristics
from adaptive_samplers.selection.pareto import fronts, spread_order
from adaptive_samplers.selection.scores import refuse_repeated, weighted_score
from adaptive_samplers.tables import KEY, SCHEMAS

SCORED = [*KEY, "split", "quality", "z_quality", "z_diversity", "z_correctness", "correct"]  # what selection needs
ANSWER = ["prompt_token_ids", "token_ids", "finish_reason"]  # columns of an answer's content
# The score that Pareto selection's answers have in the table; it does not choose them.
PARETO_WEIGHTS = {"diversity": 1.0, "quality": 1.0, "correctness": 0.0}
_PARETO = ["z_quality", "z_diversity"]
Candidates = Callable[[list[str]], Iterable[pa.RecordBatch]]


def select_training_set(
    scores: pd.DataFrame,
    candidates: Candidates,
    heuristics: pd.DataFrame,
    weights: dict[str, float] | None,
    weights_name: str,
    top_k: int,
    correct_only: bool,
) -> pd.DataFrame:
    """The `top_k` best answers for each prompt and seed, with the heuristic that made each.

    The best have the highest weighted score or, without weights, come first in Pareto selection of quality against
    diversity: front by front (`fronts`), and within a front in the order of `spread_order`, where the area begins at
    the lowest quality and diversity among the answers to the prompt and seed. A null label is 0, the middle, here too.

    Answers drawn from a reply with several are never kept: they give no distribution over next tokens that a sampler
    could learn.

    Heuristics that use the same random numbers often give the same answer with the same score. Such ties are broken by
    a hash of the answer's key, which favors no heuristic.

    Parameters
    ----------
    scores : DataFrame
        The columns `SCORED` of the `scores` table.
    candidates : function of a list of columns
        Yields these columns of the `candidates` table in parts. It is called twice: for how answers ended, and for the
        tokens of the kept ones; the tokens of all are never in memory together.
    weights : `{diversity, quality, correctness}`; None for Pareto selection.
    correct_only : bool
        Keep only correct answers if there is something to verify.

    Raises
    ------
    UserError
        If nothing is left to train on, or an answer occurs twice.
    """
    grid = Grid.around(scores)
    places = grid.places(scores)
    usable = present_and_finished(candidates, grid)[1][places] & scores["quality"].notna().to_numpy()
    if correct_only:
        usable &= ~not_correct(scores)
    prompted = prompted_heuristics(dict(zip(heuristics["heuristic_id"], heuristics["processors"], strict=True)))
    usable &= ~scores["heuristic_id"].isin(prompted).to_numpy()
    columns = [*KEY, "split"] if weights is not None else [*KEY, "split", *_PARETO]
    score = weighted_score(scores, PARETO_WEIGHTS if weights is None else weights)
    table = scores[columns].assign(score=score, place=places)[usable]
    if table.empty:
        raise UserError(
            f"training set {weights_name}_top{top_k}: no answer is left; none of {len(scores)} was labelled and "
            "correct. Look at labels/correctness.parquet, or set scoring.correct_only to false"
        )
    table = _best_by_score(table, top_k) if weights is not None else _best_by_fronts(table, top_k)
    table = table.merge(_tokens(candidates, grid, table["place"]), on="place", validate="one_to_one")
    table = table.merge(heuristics[["heuristic_id", "processors"]], on="heuristic_id", validate="many_to_one")
    table = table.sort_values(["prompt_id", "seed", "rank"]).assign(weights=weights_name, top_k=top_k)
    table["answer_id"] = [answer_id(*columns) for columns in zip(*(table[name] for name in ANSWER), strict=True)]
    return table[SCHEMAS["training_sets"].names]


def not_correct(scores: pd.DataFrame) -> np.ndarray:
    """Which answers a verifier did not find correct, bool [N]; False for those with nothing to verify."""
    return ~scores["correct"].fillna(True).to_numpy(dtype=bool)


def present_and_finished(candidates: Candidates, grid: Grid) -> np.ndarray:
    """Which keys have a row, and which have one that did not fail, bool [2, size of the grid].

    Raises UserError if an answer occurs twice.
    """
    seen, finished = np.zeros((2, len(grid)), dtype=bool)
    for batch in candidates([*KEY, "finish_reason"]):
        places = grid.places(batch)
        inside = places >= 0
        refuse_repeated(places[inside], seen, "candidates.parquet", grid)
        succeeded = pc.not_equal(batch["finish_reason"], "error").to_numpy(zero_copy_only=False)
        finished[places[inside & succeeded]] = True
    return np.stack([seen, finished])


def _best_by_score(table: pd.DataFrame, top_k: int) -> pd.DataFrame:
    # Only ties with one of the best matter, so only their hashes are computed.
    groups = table.groupby(["prompt_id", "seed"])["score"]
    table = _with_ties(table[groups.rank(method="min", ascending=False) <= top_k])
    table = table.sort_values(["prompt_id", "seed", "score", "tie"], ascending=[True, True, False, True])
    table["rank"] = table.groupby(["prompt_id", "seed"]).cumcount() + 1
    return table[table["rank"] <= top_k]


def _best_by_fronts(table: pd.DataFrame, top_k: int) -> pd.DataFrame:
    # Computed group by group, in the order of groups.
    table = table.sort_values(["prompt_id", "seed"], kind="stable", ignore_index=True)
    points = table[_PARETO].to_numpy()
    numbers, lowest = np.empty(len(table), dtype=np.int64), np.empty_like(points)
    for group in _runs(table):
        numbers[group] = fronts(points[group])
        lowest[group] = points[group].min(axis=0)
    table = table.assign(front=numbers, lowest_quality=lowest[:, 0], lowest_diversity=lowest[:, 1])
    # The number of points before a front; those of later fronts have no chance.
    before = table.groupby(["prompt_id", "seed"])["front"].rank(method="min") - 1
    table = _with_ties(table[before < top_k]).sort_values(["prompt_id", "seed", "front", "tie"], ignore_index=True)
    points, lowest = table[_PARETO].to_numpy(), table[["lowest_quality", "lowest_diversity"]].to_numpy()
    numbers, picked = table["front"].to_numpy(), []
    for group in _runs(table):
        rows: list[int] = []
        for front in np.split(np.arange(group.start, group.stop), np.flatnonzero(np.diff(numbers[group])) + 1):
            rows += front[spread_order(points[front], lowest[group.start], top_k - len(rows))].tolist()
        picked += rows
    table = table.iloc[picked]
    return table.assign(rank=table.groupby(["prompt_id", "seed"]).cumcount() + 1)


def _runs(table: pd.DataFrame) -> list[slice]:
    """The rows of each prompt and seed of a table that is sorted by them."""
    new = (table["prompt_id"] != table["prompt_id"].shift()) | (table["seed"] != table["seed"].shift())
    edges = [*np.flatnonzero(new.to_numpy(dtype=bool)).tolist(), len(table)]
    return [slice(first, last) for first, last in pairwise(edges)]


def _with_ties(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(tie=[content_id(key) for key in table[KEY].values.tolist()])


def _tokens(candidates: Candidates, grid: Grid, places: pd.Series) -> pd.DataFrame:
    """The tokens of the answers at some indices, and how they ended."""
    wanted = np.zeros(len(grid), dtype=bool)
    wanted[places] = True
    parts = []
    for batch in candidates([*KEY, *ANSWER]):
        found = grid.places(batch)
        rows = np.flatnonzero((found >= 0) & wanted[found])
        parts.append(batch.select(ANSWER).take(pa.array(rows)).to_pandas().assign(place=found[rows]))
    return pd.concat(parts, ignore_index=True)


def answer_id(prompt_token_ids: list[int], token_ids: list[int], finish_reason: str) -> str:
    """The id of an answer for replay: its tokens and whether it ended by itself; seeds and heuristics do not matter."""
    return content_id([[int(i) for i in prompt_token_ids], [int(i) for i in token_ids], finish_reason])
