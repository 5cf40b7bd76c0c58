"""Scores and training sets: labels joined once, brought to one scale, weighted, and the best answers kept."""

import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.tables import KEY, SCHEMAS

DIVERSITY_MEASURES = {
    "self_bleu": -1.0,
    "embedding_entropy": 1.0,
    "vendi_score": 1.0,
}  # sign: more is more diverse


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
    """
    table = quality[[*KEY, "rating"]].rename(columns={"rating": "quality"})
    measure = diversity[KEY].assign(diversity=diversity[diversity_measure] * DIVERSITY_MEASURES[diversity_measure])
    table = table.merge(measure, on=KEY, how="outer", validate="one_to_one")
    table = table.merge(
        correctness[[*KEY, "score"]].rename(columns={"score": "correctness"}),
        on=KEY,
        how="outer",
        validate="one_to_one",
    )
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
    candidates: pd.DataFrame,
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
        The `scores` table.
    candidates : DataFrame
        Key, `prompt_token_ids`, `token_ids` and `finish_reason`.
    correct_only : bool
        Keep only correct answers where there is something to verify.

    Raises
    ------
    UserError
        If nothing is left to train on.
    """
    table = scores.assign(score=weighted_score(scores, weights))
    if correct_only:
        table = table[table["correct"].fillna(True).astype(bool)]
    table = table.merge(candidates, on=KEY, how="inner", validate="one_to_one")
    table = table[(table["finish_reason"] != "error") & table["quality"].notna()]
    if table.empty:
        raise UserError(
            f"training set {weights_name}_top{top_k}: no answer is left; none of {len(scores)} was labelled and "
            "correct. Look at labels/correctness.parquet, or set scoring.correct_only to false"
        )
    table["answer_id"] = [
        answer_id(*columns)
        for columns in zip(table["prompt_token_ids"], table["token_ids"], table["finish_reason"], strict=True)
    ]
    table["tie"] = [content_id(key) for key in table[KEY].values.tolist()]
    table = table.sort_values(["prompt_id", "seed", "score", "tie"], ascending=[True, True, False, True])
    table["rank"] = table.groupby(["prompt_id", "seed"]).cumcount() + 1
    table = table[table["rank"] <= top_k]
    table = table.merge(heuristics[["heuristic_id", "processors"]], on="heuristic_id", validate="many_to_one")
    table = table.sort_values(["prompt_id", "seed", "rank"]).assign(weights=weights_name, top_k=top_k)
    return table[SCHEMAS["training_sets"].names]


def answer_id(prompt_token_ids: list[int], token_ids: list[int], finish_reason: str) -> str:
    """The id of an answer for replay: its tokens and whether it ended by itself; seeds and heuristics do not matter."""
    return content_id([[int(i) for i in prompt_token_ids], [int(i) for i in token_ids], finish_reason])
