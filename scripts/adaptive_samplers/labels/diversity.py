"""Diversity of the answers that one heuristic gives to one prompt across seeds."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from sacrebleu.metrics.bleu import BLEU, MAX_NGRAM_ORDER
from scipy.special import entr

from adaptive_samplers.labels.vectors import vectors_for
from adaptive_samplers.measures import DIVERSITY_MEASURES
from adaptive_samplers.tables import KEY

GROUP = ["prompt_id", "heuristic_id"]


class Overlap(NamedTuple):
    """What the texts of a group share, from n-grams that were counted once."""

    self_bleu: np.ndarray  # [m], 0 to 1
    distinct: np.ndarray  # [4], share of distinct n-grams of 1 to 4 words; nan where no text is long enough


class Counts(NamedTuple):
    """N-grams of one order in a group of texts."""

    text: np.ndarray  # [k], index of a text
    ngram: np.ndarray  # [k], number of an n-gram in it, below `distinct`
    count: np.ndarray  # [k], how often
    distinct: int


def self_bleu(texts: Sequence[str]) -> np.ndarray:
    """Sentence BLEU of each text with all the other texts as its references; lower is more diverse.

    The definition is sacrebleu's `BLEU(effective_order=True)` (13a tokenization, exponential smoothing), divided by
    100.

    Parameters
    ----------
    texts : sequence of m strings. An empty text scores 0, as in sacrebleu.

    Returns
    -------
    Array [m] in 0 to 1; nan where there is no other text (m = 1).

    References
    ----------
    Papineni et al. (2002), BLEU; Zhu et al. (2018), Texygen, for self-BLEU; Post (2018), sacrebleu.
    """
    return shared_ngrams(texts).self_bleu


def distinct_ngrams(texts: Sequence[str]) -> np.ndarray:
    """Distinct n-grams of 1 to 4 words in a group of texts, as a share of all; higher is more diverse.

    Words are those of `self_bleu`. An n-gram lies within one text.

    Returns
    -------
    Array [4] in 0 to 1; nan where no text is that long.

    References
    ----------
    Li et al. (2016), A Diversity-Promoting Objective Function for Neural Conversation Models.
    """
    return shared_ngrams(texts).distinct


def shared_ngrams(texts: Sequence[str]) -> Overlap:
    """`self_bleu` and `distinct_ngrams` of a group at once.

    A text's references clip an n-gram at the largest count among the other texts. That follows from the two largest
    counts in the whole group, so the group's n-grams are counted once, whatever its size.
    """
    words = [_tokenizer()(text.rstrip()).split() for text in texts]
    lengths = np.array([len(text) for text in words], dtype=np.int64)
    matched = np.zeros((MAX_NGRAM_ORDER, len(texts)), dtype=np.int64)
    totals = np.maximum(0, lengths - np.arange(MAX_NGRAM_ORDER)[:, None])
    distinct = np.full(MAX_NGRAM_ORDER, np.nan)
    for order, counts in enumerate(_counts(words, lengths)):
        if totals[order].any():
            clipped = np.minimum(counts.count, _largest_among_others(counts))
            matched[order] = np.bincount(counts.text, weights=clipped, minlength=len(texts))
            distinct[order] = counts.distinct / totals[order].sum()
    if len(texts) < 2:
        return Overlap(np.full(len(texts), np.nan), distinct)
    references = _nearest_lengths(lengths)
    # Plain lists: sacrebleu iterates over them in Python.
    rows = zip(matched.T.tolist(), totals.T.tolist(), lengths.tolist(), references.tolist(), strict=True)
    scores = [BLEU.compute_bleu(*row, smooth_method="exp", effective_order=True).score for row in rows]
    return Overlap(np.array(scores) / 100.0, distinct)


@cache
def _tokenizer() -> Callable[[str], str]:
    return BLEU(effective_order=True).tokenizer


def _counts(words: Sequence[Sequence[str]], lengths: np.ndarray) -> Iterator[Counts]:
    """The n-grams of each order: numbers of those one word shorter, joined with the number of one word more."""
    numbers: dict[str, int] = {}
    word = np.array([numbers.setdefault(word, len(numbers)) for text in words for word in text], dtype=np.int64)
    text = np.repeat(np.arange(len(words)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(word))  # words from an index to its text's end
    place, ngram, distinct = np.arange(len(word)), word, len(numbers)
    for order in range(1, MAX_NGRAM_ORDER + 1):
        if order > 1:
            longer = left[place] >= order
            place = place[longer]
            joined = ngram[longer] * len(numbers) + word[place + order - 1]
            found, ngram = np.unique(joined, return_inverse=True)
            distinct = len(found)
        pairs, count = np.unique(text[place] * distinct + ngram, return_counts=True)
        yield Counts(*np.divmod(pairs, max(1, distinct)), count, distinct)


def _largest_among_others(counts: Counts) -> np.ndarray:
    """For each text's n-gram, the largest count of it in any other text [k]."""
    largest, second = np.zeros((2, counts.distinct), dtype=np.int64)
    np.maximum.at(largest, counts.ngram, counts.count)
    leads = counts.count == largest[counts.ngram]
    np.maximum.at(second, counts.ngram[~leads], counts.count[~leads])
    shared = np.bincount(counts.ngram[leads], minlength=counts.distinct) > 1
    second[shared] = largest[shared]
    return np.where(leads, second[counts.ngram], largest[counts.ngram])


def _nearest_lengths(lengths: np.ndarray) -> np.ndarray:
    """For each text, the length of another one that is nearest to its own; of two equally near ones the shorter."""
    ordered = np.sort(lengths)
    place = np.searchsorted(ordered, lengths)
    # The neighbors in sorted order, without the text itself: texts of equal length are next to it.
    shorter = np.where(place > 0, ordered[place - 1], np.iinfo(np.int64).min // 2)
    next_place = np.minimum(place + 1, len(ordered) - 1)
    longer = np.where(place + 1 < len(ordered), ordered[next_place], np.iinfo(np.int64).max // 2)
    return np.where(lengths - shorter <= longer - lengths, shorter, longer)


def similarity_entropy(vectors: np.ndarray) -> float:
    """Entropy of the eigenvalues of K / m, with K the cosine similarities of m vectors.

    Two to its power is the Vendi score. It is 0 when all vectors point the same way, log2(m) when they are
    orthogonal.

    Some embedders give an empty text the zero vector, which has no direction. Such vectors count as equal to one
    another, and as orthogonal to all others.

    Parameters
    ----------
    vectors : array [m, d], m at least 1; need not have unit length.

    Returns
    -------
    The von Neumann entropy in bits.

    Raises
    ------
    ValueError
        If there is no vector, or one is not finite.

    References
    ----------
    Friedman and Dieng (2023), The Vendi Score: A Diversity Evaluation Metric for Machine Learning.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if vectors.ndim != 2 or len(vectors) == 0:
        raise ValueError(f"expected vectors of shape [m, d] with m at least 1, got {vectors.shape}")
    if not np.isfinite(norms).all():
        raise ValueError("a vector is not finite: it has no cosine similarity to others")
    directions = np.hstack([vectors / np.where(norms > 0, norms, 1.0), norms == 0])
    # The squared singular values of X are the eigenvalues of K = X X^T, without losing half of the digits.
    singular_values = np.linalg.svd(directions, compute_uv=False)
    return max(0.0, float(entr(singular_values**2 / len(vectors)).sum() / np.log(2)))


def compression_ratio(texts: Sequence[str]) -> float:
    """Bytes of the texts, one per line, over their bytes compressed by zlib; lower is more diverse.

    Returns
    -------
    A number above 0, which grows with the length of texts and their number: compare like with like. Nan if all texts
    are empty.

    References
    ----------
    Shaib et al. (2024), Standardizing the Measurement of Text Diversity.
    """
    if not any(texts):
        return float("nan")
    raw = "\n".join(texts).encode("utf-8", errors="surrogatepass")
    return len(raw) / len(zlib.compress(raw, level=9))


def label_diversity(candidates: pd.DataFrame, embeddings: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The diversity table: one row per candidate, from groups of equal prompt and heuristic across seeds.

    Self-BLEU is the answer's own; the other measures are the group's, repeated on its rows. Failed answers are left
    out of their group and get null values. `group_size` counts the answers that were compared; if it is below 2
    there is nothing to compare, and all values are null. An empty answer is an answer and counts.

    Parameters
    ----------
    candidates : the candidates table (key, `text`, `finish_reason`, `error`).
    embeddings : the embeddings table, with every answer's text, the empty one included if it occurs.

    Returns
    -------
    The table, and a report: how many `answers` there are, of which `failed_answers` and `empty_answers` (nothing but
    white space); how many `groups`, and of those `groups_of_one`, with one answer, and `groups_of_none`, where all
    failed.

    Raises
    ------
    UserError
        If a text has no embedding.
    """
    labels = candidates[KEY].reset_index(drop=True)
    answered = (candidates["finish_reason"].ne("error") & candidates["error"].isna()).to_numpy()
    texts = candidates["text"].to_numpy()
    vectors = vectors_for(list(texts[answered]), embeddings)
    vector_of_row = np.cumsum(answered) - 1

    group_sizes = np.zeros(len(labels), dtype=np.int32)
    values = {name: np.full(len(labels), np.nan) for name in DIVERSITY_MEASURES}
    groups = labels.groupby(GROUP, sort=False).indices.values()
    for rows in groups:
        compared = rows[answered[rows]]
        group_sizes[rows] = len(compared)
        if len(compared) >= 2:
            found = _measured(texts[compared], vectors[vector_of_row[compared]])
            for name, column in values.items():
                column[compared] = found[name]
    labels = labels.assign(**values, group_size=group_sizes)
    sizes = np.array([group_sizes[rows[0]] for rows in groups], dtype=np.int32)
    report = {
        "answers": len(labels),
        "failed_answers": int((~answered).sum()),
        "empty_answers": sum(not text.strip() for text in texts[answered]),
        "groups": len(sizes),
        "groups_of_one": int((sizes == 1).sum()),
        "groups_of_none": int((sizes == 0).sum()),
    }
    return labels, report


def _measured(texts: Sequence[str], vectors: np.ndarray) -> dict[str, float | np.ndarray]:
    """Every measure of a group: one value, or one for each of its texts [m]."""
    overlap, entropy = shared_ngrams(texts), similarity_entropy(vectors)
    return {
        "self_bleu": overlap.self_bleu,
        "embedding_entropy": entropy,
        "vendi_score": 2.0**entropy,
        **{f"distinct_{order}": overlap.distinct[order - 1] for order in (1, 2, 3)},
        "compression_ratio": compression_ratio(texts),
    }
