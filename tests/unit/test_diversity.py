"""Self-BLEU against sacrebleu, the similarity entropy against eigenvalues, and the table's groups."""

import subprocess
import sys
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.labels import embeddings as embedding
from adaptive_samplers.labels.diversity import (
    compression_ratio,
    distinct_ngrams,
    label_diversity,
    self_bleu,
    similarity_entropy,
)
from adaptive_samplers.labels.embeddings import embed_in_parts, embed_others, embed_texts
from adaptive_samplers.labels.vectors import read_embeddings, vectors_for
from adaptive_samplers.measures import DIVERSITY_MEASURES
from adaptive_samplers.tables import to_arrow, write_parts
from support import REPOSITORY

SENTENCES = [
    "The lighthouse keeper counted the waves until the storm forgot his name.",
    "The lighthouse keeper counted ships, and the storm forgot his name.",
    "A lighthouse keeper, aged 71, counted 1,000.5 waves -\nuntil morning!",
    'She said: "It\'s &quot;done&quot; &amp; dusted"; then she left.',
    "the the the the the the",
    "No.",
    "",
]

words = st.sampled_from(["a", "b", "c", "d.", "It's", "&amp;", "3.5", "x-y", "end\n", "<skipped>", "é", "。"])
answers = st.lists(words, max_size=14).map(" ".join)


def sacrebleu_self_bleu(texts):
    metric = BLEU(effective_order=True)
    return [
        metric.sentence_score(text, texts[:index] + texts[index + 1 :]).score / 100 for index, text in enumerate(texts)
    ]


@settings(max_examples=300, deadline=None)
@given(st.lists(answers, min_size=2, max_size=8))
def test_self_bleu_is_sacrebleus_on_random_texts(texts):
    np.testing.assert_allclose(self_bleu(texts), sacrebleu_self_bleu(texts), atol=1e-12)


@pytest.mark.parametrize("size", range(2, len(SENTENCES) + 1))
def test_self_bleu_is_sacrebleus_on_sentences(size):
    texts = SENTENCES[-size:]
    np.testing.assert_allclose(self_bleu(texts), sacrebleu_self_bleu(texts), atol=1e-12)


def test_self_bleu_of_equal_texts_is_one_and_of_a_single_text_is_missing():
    np.testing.assert_allclose(self_bleu([SENTENCES[0]] * 3), 1.0)
    assert np.isnan(self_bleu([SENTENCES[0]])).all()
    assert self_bleu([]).shape == (0,)


def test_self_bleu_of_a_large_group_with_equal_and_empty_answers():
    generator = np.random.default_rng(5)
    vocabulary = [f"w{number}" for number in range(60)]
    texts = [" ".join(generator.choice(vocabulary, size=size)) for size in generator.integers(0, 40, size=60)]
    texts += [texts[3], texts[3], texts[7], "", ""]
    np.testing.assert_allclose(self_bleu(texts), sacrebleu_self_bleu(texts), atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=4))
def test_distinct_ngrams_are_those_counted_by_hand(texts):
    found = distinct_ngrams([" ".join(words) for words in texts])
    for order in range(1, 5):
        ngrams = [tuple(words[i : i + order]) for words in texts for i in range(len(words) - order + 1)]
        expected = len(set(ngrams)) / len(ngrams) if ngrams else np.nan
        assert found[order - 1] == pytest.approx(expected, nan_ok=True)


def test_compression_ratio():
    texts = ["the same words again and again", "und etwas anderes", ""]
    raw = "\n".join(texts).encode()
    assert compression_ratio(texts) == len(raw) / len(zlib.compress(raw, 9))
    assert compression_ratio([SENTENCES[0]] * 8) > 3 * compression_ratio(SENTENCES)
    assert compression_ratio(["\ud800 half a pair"]) > 0
    assert np.isnan(compression_ratio(["", ""]))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_similarity_entropy_is_that_of_the_eigenvalues(count, dimensions, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions))
    unit = vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / count)
    positive = eigenvalues[eigenvalues > 1e-14]
    assert similarity_entropy(vectors) == pytest.approx(-(positive * np.log2(positive)).sum(), abs=1e-9)


def test_similarity_entropy_by_hand():
    assert similarity_entropy(np.eye(5)) == pytest.approx(np.log2(5))
    assert similarity_entropy(np.ones((4, 3))) == pytest.approx(0.0, abs=1e-12)
    # Two vectors at cosine 0.6: eigenvalues of K / 2 are 0.8 and 0.2.
    two = np.array([[1.0, 0.0], [3.0, 4.0]])
    assert similarity_entropy(two) == pytest.approx(-(0.8 * np.log2(0.8) + 0.2 * np.log2(0.2)), abs=1e-12)
    # Opposite directions: cosine -1, one eigenvalue of 1.
    assert similarity_entropy(np.array([[1.0, 2.0], [-1.0, -2.0]])) == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_vectors_without_direction_are_equal_and_unlike_all_others(zeros, count, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    total = zeros + count
    if not total:
        return
    similarities = np.zeros((total, total))
    unit = vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    similarities[:count, :count] = unit @ unit.T
    similarities[count:, count:] = 1
    eigenvalues = np.linalg.eigvalsh(similarities / total)
    positive = eigenvalues[eigenvalues > 1e-14]
    found = similarity_entropy(np.concatenate([vectors, np.zeros((zeros, 3))]))
    assert found == pytest.approx(-(positive * np.log2(positive)).sum(), abs=1e-9)


def test_an_embedder_may_give_an_empty_answer_the_zero_vector():
    candidates = candidates_of([("p", "h", seed, text, "stop", None) for seed, text in enumerate(["yes", "", ""])])
    embeddings = embeddings_of(["yes", ""])
    embeddings["vector"] = [
        np.zeros(4, dtype=np.float32) if text_id == content_id("") else vector
        for text_id, vector in zip(embeddings["text_id"], embeddings["vector"], strict=True)
    ]
    table, _ = label_diversity(candidates, embeddings)
    # Two kinds of answers, a third and two thirds of the group.
    expected = np.log2(3) - 2 / 3
    np.testing.assert_allclose(table["embedding_entropy"], expected)


@pytest.mark.parametrize("vectors", [np.empty((0, 3)), np.array([[1.0, np.nan]]), np.array([[np.inf, 0.0]])])
def test_similarity_entropy_refuses_what_has_no_similarity(vectors):
    with pytest.raises(ValueError, match="vector"):
        similarity_entropy(vectors)


def candidates_of(rows):
    frame = pd.DataFrame(rows, columns=["prompt_id", "heuristic_id", "seed", "text", "finish_reason", "error"])
    return frame.astype({"error": object}).where(frame.notna(), None)


def embeddings_of(texts, dimensions=4):
    generator = np.random.default_rng(0)
    unique = sorted(set(texts), key=content_id)
    vectors = generator.normal(size=(len(unique), dimensions))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pd.DataFrame({"text_id": [content_id(text) for text in unique], "vector": list(vectors.astype(np.float32))})


def test_table_has_a_row_per_candidate_in_groups_across_seeds():
    candidates = candidates_of(
        [
            ("p1", "h1", 0, SENTENCES[0], "stop", None),
            ("p1", "h2", 0, SENTENCES[1], "stop", None),  # alone: its other seed failed
            ("p1", "h1", 1, SENTENCES[1], "length", None),
            ("p1", "h2", 1, "", "error", "lost"),
            ("p1", "h1", 2, "", "stop", None),  # an empty answer is an answer
            ("p2", "h1", 0, "yes", "stop", None),
            ("p2", "h1", 1, "yes", "stop", None),
        ]
    )
    embeddings = embeddings_of(candidates["text"])
    table, report = label_diversity(candidates, embeddings)
    assert to_arrow("diversity", table).num_rows == len(candidates)
    assert table[["prompt_id", "heuristic_id", "seed"]].equals(candidates[["prompt_id", "heuristic_id", "seed"]])
    assert table["group_size"].tolist() == [3, 1, 3, 1, 3, 2, 2]

    group = [SENTENCES[0], SENTENCES[1], ""]
    entropy = similarity_entropy(vectors_for(group, embeddings))
    members = table.iloc[[0, 2, 4]]
    np.testing.assert_allclose(members["self_bleu"], sacrebleu_self_bleu(group), atol=1e-12)
    np.testing.assert_allclose(members["embedding_entropy"], entropy)
    np.testing.assert_allclose(members["vendi_score"], 2**entropy)
    np.testing.assert_allclose(members[["distinct_1", "distinct_2", "distinct_3"]], [distinct_ngrams(group)[:3]] * 3)
    np.testing.assert_allclose(members["compression_ratio"], compression_ratio(group))
    np.testing.assert_allclose(table.iloc[5:]["self_bleu"], 1.0)
    np.testing.assert_allclose(table.iloc[5:]["vendi_score"], 1.0)
    assert table.iloc[[1, 3]][list(DIVERSITY_MEASURES)].isna().all(axis=None)
    nulls = {name: to_arrow("diversity", table)[name].null_count for name in DIVERSITY_MEASURES}
    # Two answers of one word have no runs of two.
    assert (nulls.pop("distinct_2"), nulls.pop("distinct_3")) == (4, 4) and set(nulls.values()) == {2}
    assert report == {
        "answers": 7,
        "failed_answers": 1,
        "empty_answers": 1,
        "groups": 3,
        "groups_of_one": 1,
        "groups_of_none": 0,
    }


def test_a_group_of_empty_answers_has_no_words_to_compare():
    candidates = candidates_of([("p1", "h1", seed, text, "stop", None) for seed, text in enumerate(["", " \n"])])
    table, report = label_diversity(candidates, embeddings_of(candidates["text"]))
    assert report["empty_answers"] == 2
    assert table["self_bleu"].tolist() == [0.0, 0.0]  # as sacrebleu has it
    assert table["vendi_score"].notna().all()
    assert table[["distinct_1", "distinct_2", "distinct_3"]].isna().all(axis=None)


def test_a_table_of_failures_alone_has_null_values():
    candidates = candidates_of([("p1", "h1", seed, "", "error", "lost") for seed in range(2)])
    table, report = label_diversity(candidates, embeddings_of([]))
    assert (report["failed_answers"], report["groups_of_none"]) == (2, 1)
    assert table["group_size"].tolist() == [0, 0]
    assert table["self_bleu"].isna().all()


def test_a_text_without_vector_is_a_clear_error():
    candidates = candidates_of([("p1", "h1", 0, "known", "stop", None), ("p1", "h1", 1, "unknown", "stop", None)])
    with pytest.raises(UserError, match="1 of 2 texts have no vector, the first is 'unknown'"):
        label_diversity(candidates, embeddings_of(["known"]))


def test_vectors_come_in_the_order_of_the_texts():
    embeddings = embeddings_of(["one", "two", ""])
    vectors = vectors_for(["two", "", "two"], embeddings)
    assert vectors.shape == (3, 4) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors[0], vectors[2])
    expected = embeddings.set_index("text_id")["vector"][content_id("")]
    np.testing.assert_array_equal(vectors[1], expected)


def test_a_vector_that_is_not_finite_is_an_error_that_names_the_text(tmp_path, monkeypatch):
    class Overflowing:
        def encode(self, texts, **_):
            return np.array([[np.inf, 1.0] if text == "much" else [0.6, 0.8] for text in texts])

    monkeypatch.setattr(embedding, "_load_model", lambda *_: Overflowing())
    with pytest.raises(UserError, match=r"model: the embedder gives 1 of 2 texts .* 'much'"):
        embed_texts(["much", "a"], tmp_path / "model", "cpu", 8)


def test_embedding_without_a_model_folder_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        embed_texts(["text"], tmp_path / "absent", "cpu", 8)
    assert list(embed_texts([], tmp_path / "absent", "cpu", 8).columns) == ["text_id", "vector"]


def test_labels_of_texts_need_no_torch():
    code = "import sys, adaptive_samplers.labels.diversity, adaptive_samplers.labels.tournament; "
    code += "sys.exit('torch' in sys.modules)"
    path = str(REPOSITORY / "scripts")
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"})


def test_texts_of_several_parts_are_embedded_once(tmp_path):
    asked = []

    def embed(texts):
        asked.append(sorted(texts))
        return pd.DataFrame({"text_id": [content_id(t) for t in texts], "vector": [[float(len(t))] for t in texts]})

    path = tmp_path / "embeddings.parquet"
    write_parts("embeddings", embed_in_parts([{"a", "bb"}, {"bb", "", "ccc"}, {"a"}], embed), path)
    assert asked == [["a", "bb"], ["", "ccc"]]
    assert vectors_for(["ccc", "a", ""], read_embeddings(path)).tolist() == [[3.0], [1.0], [0.0]]
    some = read_embeddings(path, {"a", "ccc", "not there"})
    assert len(some) == 2 and vectors_for(["ccc", "a"], some).tolist() == [[3.0], [1.0]]


def test_vectors_that_are_known_are_not_made_again(tmp_path):
    asked = []

    def embed(texts):
        asked.append(sorted(texts))
        return pd.DataFrame({"text_id": [content_id(t) for t in texts], "vector": [[float(len(t))] for t in texts]})

    known = tmp_path / "known.parquet"
    write_parts(
        "embeddings", [pd.DataFrame({"text_id": [content_id("a"), content_id("b")], "vector": [[7.0], [8.0]]})], known
    )
    table = embed_others(["ccc", "a", "dd", "a"], known, embed)
    assert asked == [["ccc", "dd"]]
    assert table["text_id"].is_monotonic_increasing and len(table) == 3
    assert vectors_for(["a", "dd", "ccc"], table).tolist() == [[7.0], [2.0], [3.0]]
    assert vectors_for(["b"], embed_others(["b"], known, embed)).tolist() == [[8.0]] and len(asked) == 1
