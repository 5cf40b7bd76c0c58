"""Diversity of the answers that one heuristic gives to one prompt across seeds."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd
from sacrebleu.metrics.bleu import BLEU, MAX_NGRAM_ORDER
from sacrebleu.metrics.helpers import extract_all_word_ngrams
from scipy.special import entr

from adaptive_samplers.labels.embeddings import vectors_for
from adaptive_samplers.tables import KEY


def self_bleu(texts: Sequence[str]) -> np.ndarray:
    """Sentence BLEU of each text with all the other texts as its references; lower is more diverse.

    The definition is sacrebleu's `BLEU(effective_order=True)` (13a tokenization, exponential smoothing),
    divided by 100. The n-grams of each text are counted once: a text's references clip an n-gram at the
    largest count among the other texts, which follows from the two largest counts of the whole group.

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
    if len(texts) < 2:
        return np.full(len(texts), np.nan)
    tokenizer = BLEU(effective_order=True).tokenizer
    counted = [extract_all_word_ngrams(tokenizer(text.rstrip()), 1, MAX_NGRAM_ORDER) for text in texts]
    largest, second_largest, owner = _two_largest_counts([ngrams for ngrams, _ in counted])
    lengths = [length for _, length in counted]

    scores = np.empty(len(texts))
    for index, (ngrams, length) in enumerate(counted):
        matched = [0] * MAX_NGRAM_ORDER
        total = [0] * MAX_NGRAM_ORDER
        for ngram, count in ngrams.items():
            order = len(ngram) - 1
            total[order] += count
            among_others = second_largest[ngram] if owner[ngram] == index else largest[ngram]
            matched[order] += min(count, among_others)
        others = lengths[:index] + lengths[index + 1 :]
        # The reference length nearest to the text's own; of two equally near ones the shorter.
        reference_length = min(others, key=lambda other, own=length: (abs(own - other), other))
        score = BLEU.compute_bleu(
            matched, total, length, reference_length, smooth_method="exp", effective_order=True
        ).score
        scores[index] = score / 100.0
    return scores


def _two_largest_counts(
    counted: Sequence[Counter],
) -> tuple[dict[Hashable, int], defaultdict[Hashable, int], dict[Hashable, int]]:
    """For every n-gram: its largest count, the largest in any other text, and the index of the first text."""
    largest: dict[Hashable, int] = {}
    second_largest: defaultdict[Hashable, int] = defaultdict(int)
    owner: dict[Hashable, int] = {}
    for index, ngrams in enumerate(counted):
        for ngram, count in ngrams.items():
            if count > largest.get(ngram, 0):
                if ngram in largest:
                    second_largest[ngram] = largest[ngram]
                largest[ngram] = count
                owner[ngram] = index
            elif count > second_largest[ngram]:
                second_largest[ngram] = count
    return largest, second_largest, owner


def similarity_entropy(vectors: np.ndarray) -> float:
    """Entropy of the eigenvalues of K / m, with K the cosine similarities of m vectors.

    Its exponential is the Vendi score. It is 0 when all vectors point the same way, log(m) when they are
    orthogonal.

    Parameters
    ----------
    vectors : array [m, d], m at least 1; need not have unit length.

    Returns
    -------
    The von Neumann entropy in nats.

    Raises
    ------
    ValueError
        If there is no vector, or one has no direction (zero or not finite).

    References
    ----------
    Friedman and Dieng (2023), The Vendi Score: A Diversity Evaluation Metric for Machine Learning.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if vectors.ndim != 2 or len(vectors) == 0:
        raise ValueError(f"expected vectors of shape [m, d] with m at least 1, got {vectors.shape}")
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise ValueError("a vector is zero or not finite: it has no cosine similarity to others")
    # The squared singular values of X are the eigenvalues of K = X X^T, without losing half of the digits.
    singular_values = np.linalg.svd(vectors / norms, compute_uv=False)
    return max(0.0, float(entr(singular_values**2 / len(vectors)).sum()))


def label_diversity(candidates: pd.DataFrame, embeddings: pd.DataFrame) -> pd.DataFrame:
    """The diversity table: one row per candidate, from groups of equal prompt and heuristic across seeds.

    Self-BLEU is the answer's own; entropy and Vendi score are the group's, repeated on its rows. Failed
    answers are left out of their group and get null values. `group_size` counts the answers that were
    compared; where it is below 2 there is nothing to compare, and the values are null. An empty answer is an
    answer and counts.

    Parameters
    ----------
    candidates : the candidates table (key, `text`, `finish_reason`, `error`).
    embeddings : the embeddings table, with every answer's text, the empty one included if it occurs.

    Raises
    ------
    UserError
        If a text has no embedding.
    """
    labels = candidates[KEY].reset_index(drop=True)
    measures = ["self_bleu", "embedding_entropy", "vendi_score"]
    labels[measures] = np.nan
    answered = (candidates["finish_reason"].ne("error") & candidates["error"].isna()).to_numpy()
    texts = candidates["text"].to_numpy()
    vectors = vectors_for(list(texts[answered]), embeddings)
    vector_of_row = np.cumsum(answered) - 1

    group_sizes = np.zeros(len(labels), dtype=np.int32)
    values = np.full((len(labels), len(measures)), np.nan)
    for rows in labels.groupby(["prompt_id", "heuristic_id"], sort=False).indices.values():
        compared = rows[answered[rows]]
        group_sizes[rows] = len(compared)
        if len(compared) >= 2:
            entropy = similarity_entropy(vectors[vector_of_row[compared]])
            values[compared, 0] = self_bleu(list(texts[compared]))
            values[compared, 1] = entropy
            values[compared, 2] = np.exp(entropy)
    labels[measures] = values
    labels["group_size"] = group_sizes
    return labels
