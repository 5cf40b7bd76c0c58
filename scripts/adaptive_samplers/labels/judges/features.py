"""What the embedded judge knows about an answer: four features, from generation records and embeddings."""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from adaptive_samplers.labels.embeddings import vectors_for
from adaptive_samplers.messages import question_of
from adaptive_samplers.progress import progress
from adaptive_samplers.tables import ROWS_AT_A_TIME

FEATURES = ("relevance", "mean_logprob", "end_logprob", "distinct_2")

Decode = Callable[[Sequence[int]], str]

SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’)\]*_]*(?=\s|$))|(?:[。！？]+[」』”’）]*)")
LIST_MARKER = re.compile(r"\s*(?:\d+|[A-Za-z])\.")
ABBREVIATIONS = frozenset({"mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "vs.", "e.g.", "i.e.", "cf.", "no.", "fig."})


def trim_to_sentence(text: str, token_ends: Sequence[int], finish_reason: str) -> tuple[str, int]:
    """Cut an answer that ran into the token limit back to its last complete sentence.

    Parameters
    ----------
    text : the answer.
    token_ends : for each token, the offset in `text` (characters) at which it ends; ascending. A few are looked up.
    finish_reason : only answers with `length` are cut.

    Returns
    -------
    The text up to and with the sentence's end, and how many tokens it takes; a token that reaches beyond the
    end (a full stop with a line break, say) is kept. Both whole if the answer holds no sentence end, or ended
    by itself.
    """
    if finish_reason != "length":
        return text, len(token_ends)
    end = _last_sentence_end(text)
    if end is None:
        return text, len(token_ends)
    return text[:end], min(bisect_left(token_ends, end) + 1, len(token_ends))


def _last_sentence_end(text: str) -> int | None:
    for match in reversed(list(SENTENCE_END.finditer(text))):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.end()]
        if not LIST_MARKER.fullmatch(line) and line.split()[-1].lower() not in ABBREVIATIONS:
            return match.end()
    return None


def distinct_2(text: str) -> float:
    """Distinct pairs of adjacent words over all such pairs (Li et al., 2016); 1 below two words."""
    words = text.split()
    pairs = list(pairwise(words))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def answer_features(
    text: str,
    token_logprobs: Sequence[float],
    end_logprobs: Sequence[float],
    token_ends: Sequence[int],
    finish_reason: str,
    relevance: float,
) -> np.ndarray:
    """The features of one answer [4], in the order of `FEATURES`.

    Parameters
    ----------
    text : the answer.
    token_logprobs : log-probability (nats) of each answer token under the base language model, given what
        came before.
    end_logprobs : log-probability (nats) of an end-of-turn token before the first answer token and after each: one
        entry more than there are tokens.
    token_ends : offset in `text` at which each token ends.
    finish_reason : `stop`, `length` or `error`. An answer cut at the token limit is judged up to its last
        sentence.
    relevance : cosine similarity of the embeddings of prompt and answer.

    Returns
    -------
    relevance, mean of `token_logprobs`, the end's log-probability after the last token, and `distinct_2`. All
    nan for a failed answer. In an empty answer the end is the only token that was drawn, so its log-probability
    is the mean too.

    Raises
    ------
    ValueError
        If the lengths of the sequences do not fit together.
    """
    if not len(token_logprobs) + 1 == len(end_logprobs) == len(token_ends) + 1:
        raise ValueError(
            f"{len(token_logprobs)} token log-probabilities, {len(end_logprobs)} end log-probabilities and "
            f"{len(token_ends)} token ends: one of each per token, and one end more, are needed"
        )
    if finish_reason == "error":
        return np.full(len(FEATURES), np.nan)
    kept_text, kept = trim_to_sentence(text, token_ends, finish_reason)
    drawn = token_logprobs[:kept] if kept else end_logprobs[:1]
    mean_logprob = float(np.mean(np.asarray(drawn, dtype=np.float64)))
    return np.array([relevance, mean_logprob, float(end_logprobs[kept]), distinct_2(kept_text)])


class TokenEnds(Sequence[int]):
    """The offset in the answer's text at which each token ends; each is computed when it is looked up.

    A token's end is the length of the text up to it, and decoding one text for every token of an answer takes much
    longer than all else that the judge does. Only answers cut off at the token limit are trimmed, so only theirs are
    computed; for the others each is 0.
    """

    def __init__(self, token_ids: Sequence[int], finish_reason: str, decode: Decode) -> None:
        self._token_ids = token_ids
        self._is_cut = finish_reason == "length"
        self._decode = decode

    def __len__(self) -> int:
        return len(self._token_ids)

    def __getitem__(self, position: int) -> int:
        if not 0 <= position < len(self):
            raise IndexError(position)
        return len(self._decode(self._token_ids[: position + 1])) if self._is_cut else 0


def texts_to_embed(prompts: pd.DataFrame, candidates: pd.DataFrame) -> set[str]:
    """Every text whose vector labels need: prompts, answers, and answers trimmed for the judge."""
    answered = candidates.loc[candidates["finish_reason"] != "error", "text"]
    return texts_judged(prompts, candidates).union(answered)


def texts_judged(prompts: pd.DataFrame, candidates: pd.DataFrame) -> set[str]:
    """The questions, and what the judge sees of the answers; of a failed one nothing."""
    rows = zip(candidates["text"], candidates["finish_reason"], strict=True)
    seen = {judged_text(text, finish_reason) for text, finish_reason in rows if finish_reason != "error"}
    return seen.union(map(question_of, prompts["messages"]))


def judged_text(text: str, finish_reason: str) -> str:
    """What the judge sees of an answer: all of it, or up to its last sentence if it was cut off at the token limit."""
    return trim_to_sentence(text, (), finish_reason)[0]


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
    prompt_ids, prompt_of_row = np.unique([row.prompt_id for row in rows], return_inverse=True)
    asked = vectors_for([questions[prompt_id] for prompt_id in prompt_ids], embeddings)
    said = vectors_for([judged_text(row.text, row.finish_reason) for row in rows], embeddings)
    some = [slice(start, start + ROWS_AT_A_TIME) for start in range(0, len(rows), ROWS_AT_A_TIME)]
    relevance = np.concatenate([(asked[prompt_of_row[part]] * said[part]).sum(axis=1) for part in some])
    features[answered] = [
        answer_features(
            row.text,
            row.token_logprobs,
            row.end_logprobs,
            TokenEnds(row.token_ids, row.finish_reason, decode),
            row.finish_reason,
            similarity,
        )
        for row, similarity in zip(
            progress(rows, description="judging answers", unit=" answers"), relevance, strict=True
        )
    ]
    return features
