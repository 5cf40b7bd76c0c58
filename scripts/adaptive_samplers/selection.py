"""Scores and training sets: labels joined once, brought to one scale, weighted, and the best answers kept."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from adaptive_samplers.errors import UserError
from adaptive_samplers.grid import Grid, first_of_their_place
from adaptive_samplers.hashing import content_id
from adaptive_samplers.tables import KEY, SCHEMAS

DIVERSITY_MEASURES = {
    "self_bleu": -1.0,
    "embedding_entropy": 1.0,
    "vendi_score": 1.0,
}  # sign: more is more diverse
SCORED = [*KEY, "split", "quality", "z_quality", "z_diversity", "z_correctness", "correct"]  # what selection needs
ANSWER = ["prompt_token_ids", "token_ids", "finish_reason"]  # columns of what an answer is
Candidates = Callable[[list[str]], Iterable[pa.RecordBatch]]


def score_candidates(
    prompts: pd.DataFrame,
    quality: pd.DataFrame,
    diversity: pd.DataFrame,
    correctness: pd.DataFrame,
    diversity_measure: str,
) -> pd.DataFrame:
    """Join the labels and z-score each over all answers of the run.

    A label that is null says nothing: its z-score is 0, the mean. An answer is `correct` when its verifier gave it the
    full score.

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
        "diversity": (diversity, diversity[diversity_measure] * DIVERSITY_MEASURES[diversity_measure]),
        "correctness": (correctness, correctness["score"]),
    }
    grid = Grid.around(*(keys for keys, _ in labels.values()))
    labelled = np.zeros(len(grid), dtype=bool)
    columns = {}
    for label, (keys, values) in labels.items():
        places = grid.places(keys)
        _refuse_repeated(places, np.zeros(len(grid), dtype=bool), f"labels/{label}.parquet", grid)
        columns[label] = np.full(len(grid), np.nan)
        columns[label][places] = values
        labelled[places] = True
    table = grid.keys(np.flatnonzero(labelled)).assign(**{label: values[labelled] for label, values in columns.items()})
    table = table.merge(prompts[["prompt_id", "kind", "split"]], on="prompt_id", how="left", validate="many_to_one")
    for label in ("quality", "diversity", "correctness"):
        table[f"z_{label}"] = z_score(table[label])
    verified = table["correctness"].notna()
    table["correct"] = (table["correctness"] >= 1.0).astype("boolean").where(verified, pd.NA)
    return table


def z_score(values: pd.Series) -> pd.Series:
    """`(value - mean) / standard deviation`; 0 for nulls and where all values are equal."""
    deviation = values.std(ddof=0)
    # Rounding can give equal values a deviation of 1e-17, and z-scores of 1 with it.
    if not (values.max() > values.min() and deviation > 0):
        return pd.Series(0.0, index=values.index)
    return ((values - values.mean()) / deviation).fillna(0.0)


def weighted_score(scores: pd.DataFrame, weights: dict[str, float]) -> pd.Series:
    """The sum of z-scores under `weights` (`{diversity, quality, correctness}`)."""
    return sum(weight * scores[f"z_{label}"] for label, weight in weights.items())


def select_training_set(
    scores: pd.DataFrame,
    candidates: Candidates,
    heuristics: pd.DataFrame,
    weights: dict[str, float],
    weights_name: str,
    top_k: int,
    correct_only: bool,
) -> pd.DataFrame:
    """The `top_k` answers with the best weighted scores for each prompt and seed, with the heuristic that made each.

    Under heuristics that saw the same random numbers, the same answer often comes several times with the same score.
    Such ties are broken by a hash of the answer's key, which favors no heuristic.

    Parameters
    ----------
    scores : DataFrame
        The columns `SCORED` of the `scores` table.
    candidates : function of a list of columns
        Yields these columns of the `candidates` table in parts. It is called twice: for how answers ended, and for the
        tokens of those that are kept; the tokens of all are never in memory.
    correct_only : bool
        Keep only correct answers where there is something to verify.

    Raises
    ------
    UserError
        If nothing is left to train on, or an answer comes twice.
    """
    grid = Grid.around(scores)
    places = grid.places(scores)
    usable = _answered(candidates, grid)[places] & scores["quality"].notna().to_numpy()
    if correct_only:
        usable &= scores["correct"].fillna(True).astype(bool).to_numpy()
    table = scores[[*KEY, "split"]].assign(score=weighted_score(scores, weights), place=places)[usable]
    if table.empty:
        raise UserError(
            f"training set {weights_name}_top{top_k}: no answer is left; none of {len(scores)} was labelled and "
            "correct. Look at labels/correctness.parquet, or set scoring.correct_only to false"
        )
    # Only ties with one of the best matter, so only their hashes are worked out.
    groups = table.groupby(["prompt_id", "seed"])["score"]
    table = table[groups.rank(method="min", ascending=False) <= top_k]
    table = table.assign(tie=[content_id(key) for key in table[KEY].values.tolist()])
    table = table.sort_values(["prompt_id", "seed", "score", "tie"], ascending=[True, True, False, True])
    table["rank"] = table.groupby(["prompt_id", "seed"]).cumcount() + 1
    table = table[table["rank"] <= top_k]
    table = table.merge(_tokens(candidates, grid, table["place"]), on="place", validate="one_to_one")
    table = table.merge(heuristics[["heuristic_id", "processors"]], on="heuristic_id", validate="many_to_one")
    table = table.sort_values(["prompt_id", "seed", "rank"]).assign(weights=weights_name, top_k=top_k)
    table["answer_id"] = [answer_id(*columns) for columns in zip(*(table[name] for name in ANSWER), strict=True)]
    return table[SCHEMAS["training_sets"].names]


def _answered(candidates: Candidates, grid: Grid) -> np.ndarray:
    """Which keys have an answer that did not fail, bool, by place in the grid."""
    seen, answered = np.zeros((2, len(grid)), dtype=bool)
    for batch in candidates([*KEY, "finish_reason"]):
        places = grid.places(batch)
        scored = places >= 0
        _refuse_repeated(places[scored], seen, "candidates.parquet", grid)
        succeeded = pc.not_equal(batch["finish_reason"], "error").to_numpy(zero_copy_only=False)
        answered[places[scored & succeeded]] = True
    return answered


def _refuse_repeated(places: np.ndarray, seen: np.ndarray, file: str, grid: Grid) -> None:
    repeated = places[~first_of_their_place(places, seen)]
    if len(repeated):
        raise UserError(
            f"{file}: {len(repeated)} answers come twice, the first: {grid.keys(repeated[:1]).to_dict('records')[0]}; "
            "delete the file and run again"
        )


def _tokens(candidates: Candidates, grid: Grid, places: pd.Series) -> pd.DataFrame:
    """The tokens of the answers at some places, and how they ended."""
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
