"""Labellers against the libraries that define them, or the plain way."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from cases import Case


def cases() -> Iterator[Case]:
    """Labellers against the libraries that define them, or the plain way."""
    yield from diversity_cases()
    yield from overlap_cases()
    yield from rating_cases()


def diversity_cases() -> Iterator[Case]:
    """Self-BLEU of a group of answers of 150 words."""
    import random

    from sacrebleu.metrics import BLEU

    from adaptive_samplers.labels.diversity import self_bleu

    words = [f"word{number}" for number in range(20)]
    bleu = BLEU(effective_order=True)

    def each_answer(texts: list[str]) -> list[float]:
        return [bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]

    for answers in (8, 64):
        draw = random.Random(0)
        texts = [" ".join(draw.choices(words, k=150)) for _ in range(answers)]
        yield (
            {
                "name": "labels/self_bleu_over_sacrebleu",
                "against": "sacrebleu per answer",
                "batch": answers,
                "unit": "seconds a group",
            },
            lambda texts=texts: each_answer(texts),
            lambda texts=texts: self_bleu(texts),
        )


def rating_cases() -> Iterator[Case]:
    """Bradley-Terry ratings, with their errors, of 143 players after nine Swiss rounds."""
    import math

    import numpy as np

    from adaptive_samplers.labels.tournament import bradley_terry
    from adaptive_samplers.labels.tournament.group import sum_wins

    count, alpha, rate, groups = 143, 0.001, 0.02, 50
    random = np.random.default_rng(0)
    strengths = random.normal(0, 2, count)
    first, second = np.concatenate([random.permutation(count)[:142].reshape(71, 2) for _ in range(9)]).T
    outcomes = 1 / (1 + np.exp(strengths[second] - strengths[first] + random.normal(0, 1, len(first))))
    comparisons = list(zip(first, second, outcomes, strict=True))

    def gradient_ascent() -> np.ndarray:
        ratings = np.zeros(count)
        for _ in range(1000):
            gradient = np.zeros(count)
            for one, other, won in comparisons:
                surplus = won - 1 / (1 + math.exp(ratings[other] - ratings[one]))
                gradient[one] += surplus
                gradient[other] -= surplus
            share = np.exp(ratings) / np.exp(ratings).sum()
            ratings += rate * (gradient + alpha * count * (1 - count * share))
        return ratings

    wins = sum_wins(first, second, outcomes, count)
    yield (
        {
            "name": "labels/ratings_over_gradient_ascent",
            "against": "1,000 iterations in Python",
            "batch": count,
            "unit": "seconds a group",
            "divide": (1, groups),
        },
        gradient_ascent,
        lambda: [bradley_terry(wins, alpha) for _ in range(groups)],
    )


def overlap_cases() -> Iterator[Case]:
    """Answers traced to a corpus of ten million tokens, half of them put together from copied spans."""
    import numpy as np

    from adaptive_samplers.labels.overlap import build_index, match_lengths, open_index

    generator = np.random.default_rng(0)
    vocabulary, corpus_tokens, answer_tokens, few = 49_152, 10_000_000, 300, 10

    def draw(count: int) -> np.ndarray:
        # Frequencies as in text: the k-th most frequent token comes up about 1 / k times as often as the first.
        return np.minimum(vocabulary ** generator.random(count), vocabulary - 1).astype(np.int64)

    corpus = draw(corpus_tokens)

    def answer() -> list[int]:
        pieces: list[np.ndarray] = []
        while sum(map(len, pieces)) < answer_tokens:
            start, length = generator.integers(0, corpus_tokens - 500), generator.geometric(1 / 15)
            pieces += [corpus[start : start + length], draw(length)]
        return np.concatenate(pieces)[:answer_tokens].tolist()

    answers = [answer() for _ in range(300)]
    with tempfile.TemporaryDirectory() as place:
        build_index(np.split(corpus, 1000), Path(place) / "index", vocabulary)
        contains = open_index(Path(place) / "index")

        def search_each_position(answer: list[int]) -> list[int]:
            lengths = []
            for start in range(len(answer)):
                end = start
                while end < len(answer) and contains(answer[start : end + 1]):
                    end += 1
                lengths.append(end - start)
            return lengths

        yield (
            {
                "name": "labels/overlap",
                "against": "a search from each position; a corpus of 10 million tokens",
                "batch": len(answers),
                "vocabulary": vocabulary,
                "unit": "seconds a token",
                "divide": (few * answer_tokens, len(answers) * answer_tokens),
            },
            lambda: [search_each_position(answer) for answer in answers[:few]],
            lambda: [match_lengths(answer, contains) for answer in answers],
        )
