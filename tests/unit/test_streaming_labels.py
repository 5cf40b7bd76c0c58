"""Labels in parts: the same as of all answers at once, with the answers to a few prompts in memory."""

import tempfile
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_samplers.config.model.labels import Tournament
from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.labels import correctness
from adaptive_samplers.labels.correctness import label_correctness
from adaptive_samplers.labels.diversity import label_diversity
from adaptive_samplers.labels.embeddings import embed_in_parts
from adaptive_samplers.labels.judges.base import RewardJudge
from adaptive_samplers.labels.judges.feature_reward import FeatureReward, feature_reward_judge
from adaptive_samplers.labels.judges.features import TokenEnds, texts_to_embed, trim_to_sentence
from adaptive_samplers.labels.overlap import Trace, label_overlap, match_lengths
from adaptive_samplers.labels.quality import label_quality, write_quality
from adaptive_samplers.labels.vectors import read_embeddings, vectors_for
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.tables import (
    KEY,
    SCHEMAS,
    parts_of_prompts,
    read_batches,
    read_table,
    to_arrow,
    write_parts,
    write_table,
)
from support import in_whole

WORDS = ["One", " two.", " three", " four", "!", " 7", " é", ""]
SEEDS, HEURISTICS = (0, 1, 2), ("h1", "h2", "h3", "h4")
# Answers to each prompt: all, some, one, or nothing but failures; `lone` has no other answer to be compared with.
PROMPTS = pd.DataFrame({"prompt_id": ["q", "b", "lone", "failed", "a"]}).assign(
    dataset="test",
    kind="verifiable",
    messages=[f'[{{"role": "user", "content": "Question {prompt}"}}]' for prompt in "qblfa"],
    verifier=["numeric", None, "numeric", "numeric", "numeric"],
    ground_truth=["7", None, "7", "7", "7"],
    split="train",
)


def decode(token_ids: Iterable[int]) -> str:
    return "".join(WORDS[token] for token in token_ids)


def answers() -> pd.DataFrame:
    """Answers by seed, as shards are gathered: those to a prompt are far apart. Many tie, some are empty or failed."""
    generator, rows = np.random.default_rng(3), []
    for seed in SEEDS:
        for prompt in PROMPTS["prompt_id"]:
            for heuristic in HEURISTICS if prompt != "lone" else HEURISTICS[:1]:
                token_ids = generator.integers(0, len(WORDS), generator.integers(0, 6)).tolist()
                if heuristic == "h4" and prompt == "q":
                    token_ids = [0, 1, 2]  # the same under every seed
                failed = prompt == "failed" or (prompt == "a" and heuristic == "h1" and seed)
                rows.append(
                    {
                        **dict(zip(KEY, (prompt, heuristic, seed), strict=True)),
                        "prompt_token_ids": [1],
                        "token_ids": [] if failed else token_ids,
                        "text": "" if failed else decode(token_ids),
                        "finish_reason": "error" if failed else ("stop", "length")[len(rows) % 2],
                        "sample_seed": len(rows),
                        "engine": "test",
                        "error": "lost" if failed else None,
                        "token_logprobs": [] if failed else (-1 - generator.random(len(token_ids))).tolist(),
                        "end_logprobs": [-3.0] if failed else (-2 - generator.random(len(token_ids) + 1)).tolist(),
                    }
                )
    return pd.DataFrame(rows)


ANSWERS = answers()


@pytest.fixture
def candidates(tmp_path) -> Path:
    """The file of the answers, with those to every prompt in several row groups."""
    path = tmp_path / "candidates.parquet"
    pq.write_table(to_arrow("candidates", ANSWERS), path, row_group_size=5)
    return path


class Held:
    """Counts the rows of parts that are in memory at once."""

    def __init__(self) -> None:
        self.rows = self.most = 0

    def count(self, parts: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        return map(self._note, parts)  # which keeps no part, as a loop would

    def _note(self, part: pd.DataFrame) -> pd.DataFrame:
        self.rows += len(part)
        self.most = max(self.most, self.rows)
        weakref.finalize(part, self._free, len(part))
        return part

    def _free(self, rows: int) -> None:
        self.rows -= rows


LARGEST = int(ANSWERS["prompt_id"].value_counts().max())


@settings(deadline=None, max_examples=60)
@given(
    prompts=st.lists(st.sampled_from("abcde"), max_size=40),
    wanted=st.sets(st.sampled_from("abcdxy")),
    row_group=st.integers(1, 12),
    rows=st.integers(1, 15),
)
def test_rows_with_some_values(prompts, wanted, row_group, rows):
    table = pa.table({"prompt_id": pa.array(prompts, pa.string())})
    table = table.append_column("heuristic_id", pa.array([f"h{n}" for n in range(len(prompts))], pa.string()))
    table = table.append_column("reason", pa.array([f"r{n}" for n in range(len(prompts))], pa.string()))
    table = table.append_column("seed", pa.array(range(len(prompts)), pa.int64())).select(SCHEMAS["filtered"].names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "filtered.parquet"
        pq.write_table(table.cast(SCHEMAS["filtered"]), path, row_group_size=row_group)
        for columns in (["seed"], ["prompt_id", "reason"]):
            batches = list(read_batches("filtered", path, columns, rows, only=("prompt_id", wanted)))
            assert all(0 < len(batch) <= rows for batch in batches)
            found = pd.concat([batch.to_pandas() for batch in batches]) if batches else pd.DataFrame(columns=columns)
            expected = table.to_pandas()[lambda kept: kept["prompt_id"].isin(wanted)][columns]
            assert found.to_numpy().tolist() == expected.to_numpy().tolist()
            assert list(found.columns) == columns
        assert read_table("filtered", path, ["seed"], wanted)["seed"].tolist() == expected.index.tolist()


def test_row_groups_without_wanted_rows_are_not_read(candidates, monkeypatch):
    groups = []
    iter_batches = pq.ParquetFile.iter_batches

    def noted(file, *arguments, row_groups=None, **named):
        groups.append(row_groups)
        return iter_batches(file, *arguments, row_groups=row_groups, **named)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    found = read_table("candidates", candidates, ["text"], {"lone"})
    places = np.flatnonzero(ANSWERS["prompt_id"] == "lone")
    assert found["text"].tolist() == ANSWERS["text"][places].tolist()
    assert groups == [[group] for group in sorted(set(places // 5))] and len(groups) == 3


def test_damage_in_a_skipped_part_of_a_file_is_noticed(candidates, tmp_path):
    content = bytearray(candidates.read_bytes())
    place = pq.read_metadata(candidates).row_group(3).column(0)
    start, size = place.dictionary_page_offset or place.data_page_offset, place.total_compressed_size
    content[start : start + size] = bytes(size)
    candidates.write_bytes(content)
    with pytest.raises(UserError, match=r"candidates\.parquet: cannot be read"):
        read_table("candidates", candidates, ["text"], {"nobody"})


@pytest.mark.parametrize("rows", [1, LARGEST, 20, 1000])
def test_parts_of_some_prompts(candidates, rows):
    wanted = {"a", "lone", "q", "nobody"}
    parts = list(parts_of_prompts("candidates", candidates, KEY, rows, prompt_ids=wanted))
    assert all(len(part) <= max(rows, LARGEST) for part in parts)
    prompts = [set(part["prompt_id"]) for part in parts]
    assert set.union(*prompts) == wanted - {"nobody"} and sum(map(len, prompts)) == 3
    expected = ANSWERS[ANSWERS["prompt_id"].isin(wanted)]
    for part in parts:
        order = expected[expected["prompt_id"].isin(part["prompt_id"])][KEY]
        assert part.to_numpy().tolist() == order.to_numpy().tolist()


def embed(texts: Iterable[str]) -> pd.DataFrame:
    """A direction for each text that has one, by its length and its first letter."""
    rows = []
    for text in sorted(set(texts)):
        angle = len(text) / 7 + ord((text or " ")[0]) / 50
        vector = [np.cos(angle), np.sin(angle)] if text else [0.0, 0.0]
        rows.append({"text_id": content_id(text), "vector": np.array(vector, np.float32)})
    return pd.DataFrame(rows)


def embedded(candidates: Path, folder: Path, rows: int) -> Path:
    path = folder / f"embeddings_{rows}.parquet"
    parts = parts_of_prompts("candidates", candidates, ["text", "finish_reason"], rows)
    write_parts("embeddings", embed_in_parts((texts_to_embed(PROMPTS, part) for part in parts), embed), path)
    return path


@pytest.mark.parametrize("rows", [1, 14, 1000])
def test_every_text_is_embedded_once_in_parts(candidates, tmp_path, rows):
    found = read_table("embeddings", embedded(candidates, tmp_path, rows))
    texts = texts_to_embed(PROMPTS, ANSWERS)
    assert {"", "Question a"} < texts and any(text not in set(ANSWERS["text"]) for text in texts)
    assert sorted(found["text_id"]) == sorted(map(content_id, texts))
    ordered = sorted(texts)
    np.testing.assert_array_equal(vectors_for(ordered, found), vectors_for(ordered, embed(texts)))
    few = read_embeddings(tmp_path / f"embeddings_{rows}.parquet", {"", "Question a", "not there"})
    assert sorted(few["text_id"]) == sorted([content_id(""), content_id("Question a")])


@pytest.mark.parametrize("rows", [1, 14])
def test_diversity_in_parts_is_that_of_all_answers(candidates, tmp_path, rows):
    embeddings, columns = embedded(candidates, tmp_path, 14), [*KEY, "text", "finish_reason", "error"]
    held, tables, report = Held(), [], {}
    for part in held.count(parts_of_prompts("candidates", candidates, columns, rows)):
        labels, counts = label_diversity(part, read_embeddings(embeddings, set(part["text"])))
        tables.append(labels)
        report = {name: report.get(name, 0) + count for name, count in counts.items()}
    expected, counted = label_diversity(ANSWERS, read_embeddings(embeddings))
    # In parts, the answers to a prompt come together.
    sorted_both = [
        table.sort_values(KEY, ignore_index=True) for table in (pd.concat(tables, ignore_index=True), expected)
    ]
    pd.testing.assert_frame_equal(*sorted_both, check_exact=True)
    assert report == counted and report["groups_of_none"] and report["failed_answers"] and report["empty_answers"]
    assert held.most <= 2 * max(rows, LARGEST) < len(ANSWERS)


def test_correctness_in_parts_is_that_of_all_answers(candidates, tmp_path, monkeypatch):
    tables = {}
    for rows in (1000, 7):
        monkeypatch.setattr(correctness, "read_batches", partial(read_batches, rows=rows))
        output = tmp_path / f"{rows}.parquet"
        label_correctness(candidates, PROMPTS, output, 1.0, Verification())
        tables[rows] = pq.read_table(output)
        # What has been written is not in memory.
        metadata = pq.read_metadata(output)
        assert max(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)) <= rows
    assert tables[7].equals(tables[1000]) and tables[7]["score"].null_count < len(ANSWERS)


class SpansOf:
    """Traces answers to a text of tokens, without an index of it."""

    columns = ("token_ids",)

    def __init__(self, corpus: list[int]) -> None:
        self.corpus = corpus

    def tokens(self, part: pd.DataFrame) -> list:
        return list(part["token_ids"])

    def trace(self, parts: Iterable) -> Iterator[Trace]:
        for token_ids in parts:
            yield Trace(match_lengths(token_ids, self._contains))

    def _contains(self, span: list[int]) -> bool:
        return any(self.corpus[start : start + len(span)] == span for start in range(len(self.corpus)))

    def measured(self) -> dict[str, str]:
        return {"kind": "test"}


def test_overlap_in_parts_is_that_of_all_answers(candidates, tmp_path):
    tracer, columns = SpansOf([0, 1, 2, 3, 5, 5, 6]), [*KEY, "token_ids", "finish_reason", "error"]
    expected, whole = in_whole(label_overlap, [ANSWERS], tracer, 2, 0.0)
    held, report = Held(), {}
    parts = held.count(batch.to_pandas() for batch in read_batches("candidates", candidates, columns, 6))
    write_parts("overlap", label_overlap(parts, tracer, 2, 0.0, report), tmp_path / "overlap.parquet")
    assert pq.read_table(tmp_path / "overlap.parquet").equals(to_arrow("overlap", expected))
    assert report == whole and report["failed_answers"] and report["empty_answers"] and report["tokens"]
    assert held.most <= 2 * 6


def test_overlap_of_too_few_answers_is_not_written(candidates, tmp_path):
    class Lost(SpansOf):
        def trace(self, parts):
            yield from (Trace(None, "gone") for _ in parts)

    columns = [*KEY, "token_ids", "finish_reason", "error"]
    parts = (batch.to_pandas() for batch in read_batches("candidates", candidates, columns, 6))
    with pytest.raises(UserError, match="could not be traced to the corpus"):
        write_parts("overlap", label_overlap(parts, Lost([]), 2, 0.5, {}), tmp_path / "overlap.parquet")
    assert not (tmp_path / "overlap.parquet").exists()


def quality_judge(embeddings: Path) -> RewardJudge:
    reward = FeatureReward(np.array([1.0, 0.5, 0.25, 2.0]), np.zeros(4), np.ones(4))
    return feature_reward_judge(reward, PROMPTS, partial(read_embeddings, embeddings), decode)


COLUMNS = [*KEY, "text", "finish_reason", "token_ids", "token_logprobs", "end_logprobs"]


@pytest.mark.parametrize("prompt_ids", [set(PROMPTS["prompt_id"]), {"q", "lone", "a"}, {"failed"}])
@pytest.mark.parametrize("schedule", ["swiss", "adaptive"])
@pytest.mark.parametrize("group", ["seed", "prompt"])
def test_quality_in_parts_is_that_of_all_answers(candidates, tmp_path, group, schedule, prompt_ids):
    embeddings = embedded(candidates, tmp_path, 14)
    tournament = Tournament(group=group, schedule=schedule, regularization=0.1, correct_position=schedule == "adaptive")
    some = read_table("candidates", candidates, COLUMNS, prompt_ids)
    expected, whole = in_whole(label_quality, [some], quality_judge(embeddings), tournament, 0.0, seed=5)
    held, report = Held(), {}
    parts = held.count(parts_of_prompts("candidates", candidates, COLUMNS, LARGEST, prompt_ids=prompt_ids))
    labels = label_quality(parts, quality_judge(embeddings), tournament, 0.0, 5, report)
    write_quality(labels, candidates, prompt_ids, tmp_path / "quality.parquet")
    found, expected = read_table("quality", tmp_path / "quality.parquet"), to_arrow("quality", expected).to_pandas()
    # The mean of a group's ratings, which is taken from them, may differ in its last bit.
    pd.testing.assert_series_equal(found["rating"], expected["rating"], rtol=0, atol=1e-15)
    pd.testing.assert_frame_equal(found.drop(columns="rating"), expected.drop(columns="rating"), check_exact=True)
    assert [*report] == [*whole] and report["judge"] == whole["judge"]
    for name, value in whole.items():
        assert report[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    # The answers of one part; the next one is read after they are let go.
    assert held.most <= LARGEST
    if len(prompt_ids) > 1:
        assert held.most < len(some) and report["calls"] and report["judge"]["answers_rated"] > LARGEST


def test_failures_of_all_parts_are_counted_and_the_first_are_shown(candidates, tmp_path):
    judge = RewardJudge(lambda part: ({}, dict.fromkeys(part[KEY].itertuples(index=False, name=None), "gone")), {})
    answered = ANSWERS[ANSWERS["finish_reason"] != "error"]
    columns = [*KEY, "text", "finish_reason"]
    first = next(iter(parts_of_prompts("candidates", candidates, columns, 1)))
    shown = r"prompt {}, heuristic {}, seed {}: gone".format(*first.loc[0, KEY])
    parts = parts_of_prompts("candidates", candidates, columns, 1)
    labels = label_quality(parts, judge, Tournament(), 0.1, 5, {})
    with pytest.raises(UserError, match=rf"(?s){len(answered)} times: gone.*the first of {len(answered)}:\n  {shown}"):
        write_quality(labels, candidates, set(PROMPTS["prompt_id"]), tmp_path / "quality.parquet")
    assert not (tmp_path / "quality.parquet").exists()
    assert judge.measured()["answers_failed"] == len(answered)


def test_quality_of_no_answers(tmp_path):
    write_table("candidates", [], tmp_path / "candidates.parquet")
    parts, report = parts_of_prompts("candidates", tmp_path / "candidates.parquet", [*KEY, "text", "finish_reason"]), {}
    labels = label_quality(parts, RewardJudge(lambda part: ({}, {}), {}), Tournament(), 0.0, 5, report)
    write_quality(labels, tmp_path / "candidates.parquet", {"a"}, tmp_path / "quality.parquet")
    assert read_table("quality", tmp_path / "quality.parquet").empty and report["groups"] == 0


@given(st.lists(st.integers(0, len(WORDS) - 1), max_size=12), st.integers(0, 40))
def test_tokens_of_a_trimmed_answer_are_those_of_all_ends(token_ids, cut):
    text = decode(token_ids)
    ends = [len(decode(token_ids[: n + 1])) for n in range(len(token_ids))]
    looked_up = TokenEnds(token_ids, "length", decode)
    assert list(looked_up) == ends
    kept_text, kept = trim_to_sentence(text, looked_up, "length")
    assert (kept_text, kept) == trim_to_sentence(text, ends, "length")
    if kept_text != text:
        # The first token that reaches the sentence's end is the last one kept.
        assert kept == int(np.searchsorted(ends, len(kept_text))) + 1
