"""Verify, score and select as one would write them in pandas, with all answers in memory: what `bench/tables.py` and
the tests compare the library with.

Each function takes the paths that the rule of its name has, and writes what the rule writes.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from adaptive_samplers.files import write_json
from adaptive_samplers.hashing import content_id
from adaptive_samplers.measures import DIVERSITY_MEASURES
from adaptive_samplers.selection import answer_id, weighted_score, z_score
from adaptive_samplers.tables import KEY, SCHEMAS, read_table, write_table


def verify_candidates(
    shards: Sequence[Path],
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    seeds: Sequence[int],
    output: Path,
    report: Path,
) -> None:
    """Gather the complete prompts' answers; whatever their share is."""
    found = pd.concat([read_table("candidates", path) for path in shards], ignore_index=True)
    found = found[found["prompt_id"].isin(prompts["prompt_id"])]
    expected = pd.MultiIndex.from_product([prompts["prompt_id"], heuristics["heuristic_id"], seeds], names=KEY)
    # Where nothing was found, pandas leaves them in another order.
    missing = expected.difference(pd.MultiIndex.from_frame(found[KEY])).sort_values().to_frame(index=False)
    duplicated = found[found.duplicated(KEY, keep="first")][KEY]
    failed = found[found["finish_reason"] == "error"][[*KEY, "error"]]
    incomplete = sorted(set(missing["prompt_id"]) | set(duplicated["prompt_id"]) | set(failed["prompt_id"]))
    summary = {
        "expected": len(expected),
        "found": len(found),
        "missing": missing.to_dict("records"),
        "duplicated": duplicated.to_dict("records"),
        "failed": failed.to_dict("records"),
        "dropped_prompts": incomplete,
        "finish_reasons": found["finish_reason"].value_counts().to_dict(),
    }
    write_json(summary, report)
    kept = found[~found["prompt_id"].isin(incomplete)]
    # Of a frame without rows, Arrow cannot tell the types.
    write_table("candidates", kept if len(kept) else [], output)


def score_candidates(
    prompts: pd.DataFrame,
    quality: pd.DataFrame,
    diversity: pd.DataFrame,
    correctness: pd.DataFrame,
    diversity_measure: str,
) -> pd.DataFrame:
    """The `scores` table, joined by the three columns of the key."""
    sign = DIVERSITY_MEASURES[diversity_measure].sign
    table = quality[[*KEY, "rating"]].rename(columns={"rating": "quality"})
    measure = diversity[KEY].assign(diversity=diversity[diversity_measure] * sign)
    table = table.merge(measure, on=KEY, how="outer", validate="one_to_one")
    scored = correctness[[*KEY, "score"]].rename(columns={"score": "correctness"})
    table = table.merge(scored, on=KEY, how="outer", validate="one_to_one")
    table = table.merge(prompts[["prompt_id", "kind", "split"]], on="prompt_id", how="left", validate="many_to_one")
    for label in ("quality", "diversity", "correctness"):
        table[f"z_{label}"] = z_score(table[label])
    verifiable = table["correctness"].notna() | table["prompt_id"].isin(
        prompts["prompt_id"][prompts["verifier"].notna()]
    )
    table["correct"] = (table["correctness"] >= 1.0).astype("boolean").where(verifiable, pd.NA)
    return table


def select_training_set(
    scores: pd.DataFrame,
    candidates: pd.DataFrame,
    heuristics: pd.DataFrame,
    weights: dict[str, float],
    weights_name: str,
    top_k: int,
    correct_only: bool,
) -> pd.DataFrame:
    """The `training_sets` table, every answer with its tokens ranked."""
    table = scores.assign(score=weighted_score(scores, weights))
    if correct_only:
        table = table[table["correct"].fillna(True).astype(bool)]
    table = table.merge(candidates, on=KEY, how="inner", validate="one_to_one")
    table = table[(table["finish_reason"] != "error") & table["quality"].notna()]
    answers = zip(table["prompt_token_ids"], table["token_ids"], table["finish_reason"], strict=True)
    table["answer_id"] = [answer_id(*answer) for answer in answers]
    table["tie"] = [content_id(key) for key in table[KEY].values.tolist()]
    table = table.sort_values(["prompt_id", "seed", "score", "tie"], ascending=[True, True, False, True])
    table["rank"] = table.groupby(["prompt_id", "seed"]).cumcount() + 1
    table = table[table["rank"] <= top_k]
    table = table.merge(heuristics[["heuristic_id", "processors"]], on="heuristic_id", validate="many_to_one")
    table = table.sort_values(["prompt_id", "seed", "rank"]).assign(weights=weights_name, top_k=top_k)
    return table[SCHEMAS["training_sets"].names]
