"""The corpus index and the greedy segmentation against a search by brute force."""

from itertools import chain

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.labels.overlap import (
    LocalTracer,
    build_index,
    greedy_segments,
    label_overlap,
    match_lengths,
    open_index,
    read_corpus,
)
from adaptive_samplers.tables import to_arrow
from support import in_whole


def occurs(span, documents):
    return any(
        list(document[start : start + len(span)]) == list(span)
        for document in documents
        for start in range(len(document) - len(span) + 1)
    )


def longest_match(token_ids, start, documents):
    return max(
        (end - start for end in range(start + 1, len(token_ids) + 1) if occurs(token_ids[start:end], documents)),
        default=0,
    )


def brute_force(token_ids, documents, minimum_match):
    """(coverage, breaks, longest match), by the definitions and nothing else."""
    start = covered = breaks = 0
    while start < len(token_ids):
        length = longest_match(token_ids, start, documents)
        covered += length if length >= minimum_match else 0
        breaks += 1
        start += max(length, 1)
    longest = max((longest_match(token_ids, start, documents) for start in range(len(token_ids))), default=0)
    return (covered / len(token_ids) if token_ids else None), breaks, longest


def label(candidates, folder, minimum_match):
    """The table of a local index, made in parts of two answers."""
    parts = (candidates[start : start + 2] for start in range(0, len(candidates), 2))
    return in_whole(label_overlap, parts, LocalTracer(folder), minimum_match, tolerance=0.0)


def candidates_of(token_lists, errors=None):
    errors = errors or [None] * len(token_lists)
    return pd.DataFrame(
        {
            "prompt_id": "p",
            "heuristic_id": "h",
            "seed": range(len(token_lists)),
            "token_ids": [np.array(tokens, dtype=np.int32) for tokens in token_lists],
            "finish_reason": ["error" if error else "stop" for error in errors],
            "error": pd.Series(errors, dtype=object),
        }
    )


tokens = st.integers(0, 4)
documents_of_tokens = st.lists(st.lists(tokens, max_size=25), min_size=1, max_size=4).filter(any)


@pytest.mark.usefixtures("tokengrams")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents_of_tokens, st.lists(st.lists(tokens, max_size=15), min_size=1, max_size=4), st.integers(1, 5))
def test_table_is_that_of_brute_force(tmp_path, documents, answers, minimum_match):
    # Answers may use id 4 where the corpus's vocabulary ends at 4: the separator must match nothing.
    corpus = [[token % 4 for token in document] for document in documents]
    build_index(corpus, tmp_path / "index", vocab_size=4)
    table, report = label(candidates_of(answers), tmp_path / "index", minimum_match)
    assert report["answers"] == len(answers) and report["tokens"] == sum(map(len, answers))
    assert report["empty_answers"] == sum(not answer for answer in answers)
    assert report["corpus_tokens"] == sum(map(len, corpus))
    found = to_arrow("overlap", table).to_pylist()
    for row, answer in zip(found, answers, strict=True):
        coverage, breaks, longest = brute_force(answer, corpus, minimum_match)
        assert row["coverage"] == pytest.approx(coverage) if answer else row["coverage"] is None
        assert (row["breaks"], row["longest_match"]) == (breaks, longest)


@pytest.mark.usefixtures("tokengrams")
@pytest.mark.parametrize("vocab_size", [65_534, 65_535, 65_536, 128_256])
def test_vocabularies_of_16_and_32_bits(tmp_path, vocab_size):
    generator = np.random.default_rng(vocab_size)
    high = generator.integers(vocab_size - 20, vocab_size, size=(3, 200))
    metadata = build_index(high, tmp_path / "index", vocab_size)
    assert metadata["dtype"] == ("uint16" if vocab_size < 2**16 else "uint32")
    assert read_json(tmp_path / "index" / "metadata.json") == metadata
    assert (metadata["tokens"], metadata["documents"]) == (600, 3)
    contains = open_index(tmp_path / "index")
    for start in range(0, 190, 17):
        assert contains(high[1, start : start + 10].tolist())
    assert not contains([int(high[0, -1]), vocab_size])
    # The end of one document and the beginning of the next are no span of the corpus.
    across = [*high[0, -5:].tolist(), *high[1, :5].tolist()]
    assert not contains(across)
    assert match_lengths(across, contains).max() == max(longest_match(across, i, high.tolist()) for i in range(10))


def test_by_hand():
    corpus = {(1,), (2,), (1, 2), (3,)}
    lengths = match_lengths([1, 2, 9, 3, 1], lambda span: tuple(span) in corpus)
    assert lengths.tolist() == [2, 1, 0, 1, 1]
    assert greedy_segments(lengths) == [(0, 2), (2, 0), (3, 1), (4, 1)]


@settings(max_examples=300, deadline=None)
@given(st.lists(tokens, max_size=40), st.lists(tokens, max_size=60))
def test_match_lengths_are_the_longest_and_found_in_one_pass(answer, corpus):
    asked = []

    def contains(span):
        asked.append(span)
        return occurs(span, [corpus])

    assert match_lengths(answer, contains).tolist() == [longest_match(answer, i, [corpus]) for i in range(len(answer))]
    assert all(asked) and len(asked) <= 4 * len(answer)


def test_copied_text_takes_few_look_ups():
    corpus = np.random.default_rng(3).integers(0, 1000, size=6000).tolist()
    pieces = [corpus[2000:3000], corpus[5000:5500], [1001], corpus[0:700]]
    asked = []

    def contains(span):
        asked.append(span)
        return occurs_at_known_places(span, corpus)

    lengths = match_lengths(list(chain(*pieces)), contains)
    assert [length for _, length in greedy_segments(lengths)] == [1000, 500, 0, 700]
    assert len(asked) < 150  # of 2,201 tokens


def occurs_at_known_places(span, corpus):
    """As `occurs`, quick for a corpus without repeats of two tokens or more."""
    starts = [place for place, token in enumerate(corpus) if token == span[0]]
    return any(corpus[start : start + len(span)] == span for start in starts)


@pytest.mark.usefixtures("tokengrams")
def test_longest_match_may_start_inside_a_segment(tmp_path):
    build_index([[1, 2], [2, 3, 4, 5]], tmp_path / "index", vocab_size=10)
    table, _ = label(candidates_of([[1, 2, 3, 4, 5]]), tmp_path / "index", minimum_match=3)
    row = table.iloc[0]
    assert (row["coverage"], row["breaks"], row["longest_match"]) == (0.6, 2, 4)


@pytest.mark.usefixtures("tokengrams")
def test_failed_answers_have_null_values(tmp_path):
    build_index([[1, 2, 3]], tmp_path / "index", vocab_size=10)
    table, report = label(candidates_of([[1, 2], [], []], [None, "lost", None]), tmp_path / "index", 2)
    rows = to_arrow("overlap", table).to_pylist()
    assert [(row["coverage"], row["breaks"], row["longest_match"], row["error"]) for row in rows] == [
        (1.0, 1, 2, None),
        (None, None, None, "generation failed: lost"),
        (None, 0, 0, None),
    ]
    assert (report["failed_answers"], report["empty_answers"], report["untraced_answers"]) == (1, 1, 0)


@pytest.mark.usefixtures("tokengrams")
def test_no_answers_give_no_labels(tmp_path):
    build_index([[1, 2, 3]], tmp_path / "index", vocab_size=10)
    report = {}
    assert not list(label_overlap([], LocalTracer(tmp_path / "index"), 2, 0.0, report))
    assert report["answers"] == 0


@pytest.mark.usefixtures("tokengrams")
def test_tokens_outside_the_vocabulary_and_empty_corpora_are_refused(tmp_path):
    with pytest.raises(ValueError, match="document 1: a token id is outside 0 to 9"):
        build_index([[1], [10]], tmp_path / "index", vocab_size=10)
    with pytest.raises(UserError, match="holds no text"):
        build_index([[], []], tmp_path / "index", vocab_size=10)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"metadata\.json is missing"):
        open_index(tmp_path)


def test_reading_a_corpus(tmp_path):
    text = tmp_path / "book.txt"
    text.write_text("\ufeffOne document,\nwhatever its lines.", encoding="utf-8")
    lines = tmp_path / "more.jsonl"
    lines.write_text('\ufeff{"text": "first", "id": 1}\n\n{"text": "zw\u00f6lf"}\n', encoding="utf-8")
    assert list(read_corpus([text, str(lines)])) == ["One document,\nwhatever its lines.", "first", "zwölf"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": \n', r"a\.jsonl, line 2: not readable as JSON"),
        ("a.jsonl", b'{"content": "x"}\n', r"a\.jsonl, line 1: no `text` field"),
        ("a.jsonl", b'["x"]\n', r"a\.jsonl, line 1: not a JSON object"),
        ("a.jsonl", b'{"text": 3}\n', r"a\.jsonl, line 1: no `text` field"),
        ("a.jsonl", b'{"text": "\xff"}\n', r"a\.jsonl, line 1: not UTF-8 text"),
        ("a.txt", b"\xff\xfe", r"a\.txt: not UTF-8 text \(byte 0\)"),
        ("a.txt", None, r"a\.txt: there is no such file; correct labels\.overlap\.corpus"),
    ],
)
def test_mistakes_in_a_corpus_name_file_and_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(read_corpus([tmp_path / name]))
