"""Quality: a tournament between the answers to each prompt and seed, judged by the configured judge."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.embeddings import vectors_for
from adaptive_samplers.labels.judge import FEATURES, FeatureReward, answer_features, trim_to_sentence
from adaptive_samplers.labels.tournament import Comparison, run_tournaments
from adaptive_samplers.messages import question_of
from adaptive_samplers.progress import progress
from adaptive_samplers.tables import KEY

Decode = Callable[[Sequence[int]], str]


def token_ends(token_ids: Sequence[int], finish_reason: str, decode: Decode) -> list[int]:
    """The offset in the answer's text at which each token ends.

    Only answers that were cut at the token limit are trimmed, so only theirs are worked out; for the others each is 0.
    """
    if finish_reason != "length":
        return [0] * len(token_ids)
    return [len(decode(token_ids[: position + 1])) for position in range(len(token_ids))]


def texts_to_embed(prompts: pd.DataFrame, candidates: pd.DataFrame, decode: Decode) -> set[str]:
    """Every text that labels need a vector of: prompts, answers, and answers trimmed for the judge."""
    texts = {question_of(messages) for messages in prompts["messages"]}
    for row in candidates.itertuples():
        if row.finish_reason != "error":
            texts.add(row.text)
            texts.add(judged_text(row, decode))
    return texts


def judged_text(row: tuple, decode: Decode) -> str:
    """What the judge sees of an answer: all of it, or up to its last sentence where it was cut at the token limit."""
    return trim_to_sentence(row.text, token_ends(row.token_ids, row.finish_reason, decode), row.finish_reason)[0]


def features_of(
    prompts: pd.DataFrame, candidates: pd.DataFrame, embeddings: pd.DataFrame, decode: Decode
) -> np.ndarray:
    """The judge's features of every candidate, `[N, 4]` in the order of `FEATURES`; NaN for a failed answer."""
    questions = dict(zip(prompts["prompt_id"], prompts["messages"].map(question_of), strict=True))
    features = np.full((len(candidates), len(FEATURES)), np.nan)
    answered = (candidates["finish_reason"] != "error").to_numpy()
    rows = [row for row in candidates.itertuples() if row.finish_reason != "error"]
    if not rows:
        return features
    asked = vectors_for([questions[row.prompt_id] for row in rows], embeddings)
    said = vectors_for([judged_text(row, decode) for row in rows], embeddings)
    relevance = (asked * said).sum(axis=1)
    features[answered] = [
        answer_features(
            row.text,
            row.token_logprobs,
            row.end_logprobs,
            token_ends(row.token_ids, row.finish_reason, decode),
            row.finish_reason,
            similarity,
        )
        for row, similarity in zip(
            progress(rows, description="judging answers", unit=" answers"), relevance, strict=True
        )
    ]
    return features


def label_quality(
    prompts: pd.DataFrame,
    candidates: pd.DataFrame,
    embeddings: pd.DataFrame,
    judge: FeatureReward,
    decode: Decode,
    tournament: dict,
    tolerance: float,
    seed: int,
) -> tuple[pd.DataFrame, dict]:
    """Rate every answer within its (prompt, seed).

    Returns
    -------
    The `quality` table, and a summary of the tournaments. An answer that failed takes no part and has null ratings.

    Raises
    ------
    UserError
        If a larger share of judge calls than `tolerance` failed.
    """
    rewards = pd.Series(
        judge.reward(features_of(prompts, candidates, embeddings, decode)),
        index=pd.MultiIndex.from_frame(candidates[KEY]),
    ).to_dict()

    def compare(comparisons: list[Comparison]) -> np.ndarray:
        first, second = (
            np.array([rewards[c.group[0], player, c.group[1]] for c, player in zip(comparisons, side, strict=True)])
            for side in ([c.first for c in comparisons], [c.second for c in comparisons])
        )
        return judge.compare(first, second)

    answered = candidates[candidates["finish_reason"] != "error"]
    groups = {key: group["heuristic_id"].tolist() for key, group in answered.groupby(["prompt_id", "seed"])}
    ratings, summary = run_tournaments(groups, compare, **tournament, seed=seed)
    share = summary["failed"] / max(1, summary["calls"])
    if share > tolerance:
        failed = [key for key, reward in rewards.items() if not np.isfinite(reward)]
        raise UserError(
            f"{summary['failed']} of {summary['calls']} judge calls failed ({share:.1%}), and labels.quality.tolerance "
            f"allows {tolerance:.1%}. Answers without a reward, the first: {failed[:5]}"
        )
    table = candidates[KEY].merge(ratings, on=KEY, how="left", validate="one_to_one")
    table["comparisons"] = table["comparisons"].fillna(0).astype(np.int32)
    table["reward"] = [rewards[tuple(key)] for key in table[KEY].itertuples(index=False)]
    return table, summary
