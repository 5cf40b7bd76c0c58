"""What the embedded judge knows about an answer: features from its text, its embedding and generation records."""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from adaptive_samplers.labels.judges.registry import DEFAULT_FEATURES, has_likelihood
from adaptive_samplers.labels.vectors import vectors_for
from adaptive_samplers.messages import question_of
from adaptive_samplers.progress import progress
from adaptive_samplers.tables import ROWS_AT_A_TIME

WINDOW = 20  # words

Decode = Callable[[Sequence[int]], str]

SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’)\]*_]*(?=\s|$))|(?:[。！？]+[」』”’）]*)")
WORD = re.compile(r"\w+")
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


def word_variety(text: str) -> float:
    """The mean share of distinct words in the text's windows of 20 words, 0 to 1; 1 without words.

    Unlike the share in the whole text, it does not fall with length (Covington and McFall, 2010, "Cutting the Gordian
    Knot: The Moving-Average Type-Token Ratio"). Letter case and punctuation do not count. A shorter text is one window.
    """
    words = WORD.findall(text.lower())
    if not words:
        return 1.0
    size = min(WINDOW, len(words))
    last_start = len(words) - size
    seen: dict[str, int] = {}
    distinct = 0
    for position, word in enumerate(words):
        # A word counts in the windows that hold it and begin after its place before.
        first_start = max(seen.get(word, -1) + 1, position - size + 1)
        distinct += max(0, min(position, last_start) - first_start + 1)
        seen[word] = position
    return distinct / ((last_start + 1) * size)


def is_finished(text: str) -> float:
    """1 if the text ends where a sentence does, otherwise 0; an ordinal such as `2.` or an abbreviation ends none."""
    return float(_last_sentence_end(text) == len(text.rstrip()))


OF_TEXT: dict[str, Callable[[str], float]] = {
    "distinct_2": distinct_2,
    "word_variety": word_variety,
    "finished": is_finished,
}


def answer_features(
    text: str,
    token_logprobs: Sequence[float],
    end_logprobs: Sequence[float],
    token_ends: Sequence[int],
    finish_reason: str,
    relevance: float,
    features: Sequence[str] = DEFAULT_FEATURES,
) -> np.ndarray:
    """The features of one answer `[F]`, in the order of `features`.

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
    features : names from `JUDGE_FEATURES`. If none is a log-probability, the three sequences are not looked at.

    Returns
    -------
    By name: `relevance`; `mean_logprob`, the mean of `token_logprobs`; `end_logprob`, the end's log-probability after
    the last token; and what `OF_TEXT` finds in the text. All nan for a failed answer. In an empty answer the end is the
    only token that was drawn, so its log-probability is the mean too.

    Raises
    ------
    ValueError
        If the lengths of the sequences do not fit together.
    """
    by_likelihood = has_likelihood(features)
    if by_likelihood and not len(token_logprobs) + 1 == len(end_logprobs) == len(token_ends) + 1:
        raise ValueError(
            f"{len(token_logprobs)} token log-probabilities, {len(end_logprobs)} end log-probabilities and "
            f"{len(token_ends)} token ends: one of each per token, and one end more, are needed"
        )
    if finish_reason == "error":
        return np.full(len(features), np.nan)
    found = {"relevance": relevance}
    if by_likelihood:
        kept_text, kept = trim_to_sentence(text, token_ends, finish_reason)
        drawn = token_logprobs[:kept] if kept else end_logprobs[:1]
        found["mean_logprob"] = float(np.mean(np.asarray(drawn, dtype=np.float64)))
        found["end_logprob"] = float(end_logprobs[kept])
    else:
        kept_text = judged_text(text, finish_reason)
    return np.array([found[name] if name in found else OF_TEXT[name](kept_text) for name in features])


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
    prompts: pd.DataFrame,
    candidates: pd.DataFrame,
    embeddings: pd.DataFrame,
    decode: Decode,
    names: Sequence[str] = DEFAULT_FEATURES,
) -> np.ndarray:
    """The judge's features of every candidate, `[N, F]` in the order of `names`; NaN for a failed answer."""
    questions = dict(zip(prompts["prompt_id"], prompts["messages"].map(question_of), strict=True))
    features = np.full((len(candidates), len(names)), np.nan)
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
            names,
        )
        for row, similarity in zip(
            progress(rows, description="judging answers", unit=" answers"), relevance, strict=True
        )
    ]
    return features
