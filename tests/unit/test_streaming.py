"""Verify, score and select in parts: what plain pandas gives with everything in memory, and memory that stays."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_samplers import verification
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.grid import Grid, first_of_their_place
from adaptive_samplers.hashing import content_id
from adaptive_samplers.labels import vectors as embeddings
from adaptive_samplers.selection import SCORED, score_candidates, select_training_set
from adaptive_samplers.tables import KEY, SCHEMAS, read_batches, read_table, to_arrow, write_table
from adaptive_samplers.verification import verify_candidates
from support import REPOSITORY


@pytest.fixture(scope="module")
def bench() -> tuple[ModuleType, ModuleType]:
    """The formulations in plain pandas, and the maker of synthetic answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "bench"))
        import plain_tables
        import tables

        return plain_tables, tables


IDS = ["c", "a", "d", "b"]  # in no order
PROMPTS = pd.DataFrame(
    {"prompt_id": IDS, "kind": "chat", "split": ["train", "test", "train", "validation"], "messages": "[]"}
).assign(dataset="test", verifier=None, ground_truth=None)
HEURISTICS = pd.DataFrame({"heuristic_id": ["z", "x", "y"]}).assign(name="n", family="f", processors="[]")
SEEDS = [3, 0]
KEYS = [(prompt, heuristic, seed) for seed in SEEDS for prompt in IDS for heuristic in HEURISTICS["heuristic_id"]]


def answers(keys: list[tuple], failed: set[int]) -> pd.DataFrame:
    table = pd.DataFrame(keys, columns=KEY)
    places = range(len(keys))
    return table.assign(
        prompt_token_ids=[[ord(key[0])] for key in keys],
        token_ids=[list(range(place % 5)) for place in places],
        text=[f"answer {place}" for place in places],
        finish_reason=["error" if place in failed else ("stop", "length")[place % 2] for place in places],
        sample_seed=list(places),
        engine="test",
        error=[f"reason {place}" if place in failed else None for place in places],
        token_logprobs=[[-1.0] * (place % 5) for place in places],
        end_logprobs=[[-2.0] * (place % 5 + 1) for place in places],
    )


@settings(deadline=None, max_examples=30)
@given(
    kept=st.lists(st.integers(0, len(KEYS) - 1), max_size=40) | st.permutations(range(len(KEYS))),
    failed=st.sets(st.integers(0, 30), max_size=3),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    rows=st.integers(1, 50),
    row_group=st.integers(1, 50),
    others=st.booleans(),
)
def test_verification_equals_plain_pandas(bench, kept, failed, cuts, rows, row_group, others):
    table = to_arrow("candidates", answers([KEYS[place] for place in kept], failed) if kept else [])
    prompts = PROMPTS[1:] if others else PROMPTS
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "read_batches", lambda *asked: read_batches(*asked, rows=rows))
        folder = Path(place)
        edges = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
        shards = [folder / f"{number}.parquet" for number in range(len(edges) - 1)]
        for path, first, last in zip(shards, edges[:-1], edges[1:], strict=True):
            pq.write_table(table.slice(first, last - first), path, row_group_size=row_group)
        tables = (shards, prompts, HEURISTICS, SEEDS)
        verify_candidates(*tables, 1.0, folder / "ours", folder / "ours.json", set(PROMPTS["prompt_id"]))
        bench[0].verify_candidates(*tables, folder / "plain", folder / "plain.json")
        ours, plain = (pq.read_table(folder / name) for name in ("ours", "plain"))
        assert ours.equals(plain) and ours.schema.equals(SCHEMAS["candidates"])
        report = read_json(folder / "ours.json")
        share = report.pop("incomplete_share"), report.pop("tolerance")
        assert report == read_json(folder / "plain.json")
        assert share == (len(report["dropped_prompts"]) / len(prompts), 1.0)


def test_a_report_lists_the_first_rows_and_counts_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verification, "LISTED", 4)
    keys = [key for key in KEYS if key[2] == 0] + [("a", "x", 0)] * 9
    write_table("candidates", answers(keys, failed={0, 1, 2, 3, 4, 5}), tmp_path / "shard.parquet")
    report = tmp_path / "report.json"
    with pytest.raises(UserError, match="4 of 4 prompts are incomplete"):
        verify_candidates(
            [tmp_path / "shard.parquet"], PROMPTS, HEURISTICS, SEEDS, 0.5, tmp_path / "all.parquet", report
        )
    found = read_json(report)
    assert [len(found[kind]) for kind in ("missing", "duplicated", "failed")] == [4, 4, 4]
    assert found["unlisted"] == {"missing": 8, "duplicated": 5, "failed": 2}
    assert found["dropped_prompts"] == sorted(IDS)
    said = capsys.readouterr().err
    assert "12 missing, 9 duplicated, 6 failed" in said and "missing: and 8 more" in said
    assert said.count("missing: {") == 4


def test_the_shard_with_answers_of_another_run_is_named(tmp_path):
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for number, path in enumerate(paths):
        rows = answers(KEYS[8 * number : 8 * number + 8], failed=set())
        write_table("candidates", rows.replace({"prompt_id": {"b": "stranger"}}) if number == 1 else rows, path)
    with pytest.raises(UserError) as caught:
        verify_candidates(paths, PROMPTS, HEURISTICS, SEEDS, 1.0, tmp_path / "all.parquet", tmp_path / "r.json")
    assert "stranger" in str(caught.value) and f"delete the shards {[str(paths[1])]}" in str(caught.value)


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "gone"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    path = tmp_path / "shard=7.parquet"
    write_table("candidates", answers(KEYS, failed=set()), path)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "overwritten":
        path.write_bytes(content[:4] + b"\xff" * (len(content) // 2) + content[4 + len(content) // 2 :])
    else:
        path.unlink()
    with pytest.raises(UserError, match=r"shard=7\.parquet: cannot be read as a 'candidates' table"):
        verify_candidates([path], PROMPTS, HEURISTICS, SEEDS, 1.0, tmp_path / "all.parquet", tmp_path / "r.json")
    assert not (tmp_path / "all.parquet").exists()


places = st.lists(st.integers(0, len(KEYS) - 1), unique=True, max_size=len(KEYS))
numbers = st.lists(st.sampled_from([None, -1.0, 0.0, 0.5, 1.0]), min_size=len(KEYS), max_size=len(KEYS))


def label_table(chosen: list[int], column: str, values: list[float | None]) -> pd.DataFrame:
    table = pd.DataFrame([KEYS[place] for place in chosen], columns=KEY)
    return table.astype({"seed": np.int64}).assign(**{column: np.array([values[place] for place in chosen], float)})


@settings(deadline=None, max_examples=30)
@given(st.tuples(places, places, places), st.tuples(numbers, numbers, numbers))
def test_scores_equal_plain_pandas(bench, chosen, values):
    columns = ("rating", "self_bleu", "score")
    labels = [label_table(*of) for of in zip(chosen, columns, values, strict=True)]
    ours, plain = (
        function(PROMPTS, *labels, "self_bleu") for function in (score_candidates, bench[0].score_candidates)
    )
    if len(plain):  # without a row, pandas has no types
        pd.testing.assert_frame_equal(ours, plain, check_exact=True)
    assert len(ours) == len(plain)


@settings(deadline=None, max_examples=30)
@given(
    labels=st.tuples(numbers, numbers, numbers),
    absent=st.sets(st.integers(0, len(KEYS) - 1), max_size=8),
    failed=st.sets(st.integers(0, len(KEYS) - 1), max_size=4),
    order=st.permutations(range(len(KEYS))),
    top_k=st.integers(1, 4),
    correct_only=st.booleans(),
    rows=st.integers(1, 30),
)
def test_selection_equals_plain_pandas(bench, labels, absent, failed, order, top_k, correct_only, rows):
    everything = list(range(len(KEYS)))
    columns = ("rating", "self_bleu", "score")
    tables = [label_table(everything, column, values) for column, values in zip(columns, labels, strict=True)]
    scores = score_candidates(PROMPTS, *tables, "self_bleu")
    made = answers(KEYS, failed).iloc[[place for place in order if place not in absent]]
    table = to_arrow("candidates", made)
    weights = {"diversity": 1.0, "quality": 0.5, "correctness": 0.0}
    options = (HEURISTICS, weights, "a1_b0.5_c0", top_k, correct_only)

    def parts(names):
        return table.select(names).to_batches(rows)

    plain = bench[0].select_training_set(scores, table.to_pandas()[[*KEY, *PLAIN_COLUMNS]], *options)
    if plain.empty:
        with pytest.raises(UserError, match="no answer is left"):
            select_training_set(scores[SCORED], parts, *options)
        return
    ours = select_training_set(scores[SCORED], parts, *options)
    assert to_arrow("training_sets", ours).equals(to_arrow("training_sets", plain))


PLAIN_COLUMNS = ["prompt_token_ids", "token_ids", "finish_reason"]


def test_an_answer_that_comes_twice_is_not_selected_from():
    everything = list(range(len(KEYS)))
    values = [1.0] * len(KEYS)
    tables = [label_table(everything, column, values) for column in ("rating", "self_bleu", "score")]
    scores = score_candidates(PROMPTS, *tables, "self_bleu")
    table = to_arrow("candidates", answers([*KEYS, KEYS[4]], failed=set()))
    for rows in (3, 100):
        with pytest.raises(
            UserError, match=r"candidates\.parquet: 1 answers come twice, the first: .*'prompt_id': 'a'"
        ):
            select_training_set(
                scores,
                lambda names, rows=rows: table.select(names).to_batches(rows),
                HEURISTICS,
                {"diversity": 1.0, "quality": 0.0, "correctness": 0.0},
                "a1_b0_c0",
                1,
                False,
            )


@given(st.lists(st.tuples(st.sampled_from("abc?"), st.sampled_from("xy?"), st.integers(0, 3)), max_size=30))
def test_places_in_the_grid(keys):
    grid = Grid(["c", "a", "b"], ["y", "x"], [2, 0, 1])
    frame = pd.DataFrame(keys, columns=KEY).astype({"prompt_id": str, "heuristic_id": str, "seed": np.int64})
    every = [(prompt, heuristic, seed) for prompt in "abc" for heuristic in "xy" for seed in range(3)]
    expected = [every.index(key) if key in every else -1 for key in keys]
    assert len(grid) == len(every)
    for form in (frame, pa.Table.from_pandas(frame)):
        assert grid.places(form).tolist() == expected
    found = np.array([place for place in expected if place >= 0], np.int64)
    assert list(grid.keys(found).itertuples(index=False, name=None)) == [every[place] for place in found]


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=5))
def test_first_of_their_place(parts):
    seen, before = np.zeros(10, dtype=bool), []
    for part in parts:
        first = first_of_their_place(np.array(part, np.int64), seen)
        assert first.tolist() == [place not in before + part[:row] for row, place in enumerate(part)]
        before += part
        assert np.flatnonzero(seen).tolist() == sorted(set(before))


def test_a_table_in_parts(tmp_path):
    table = to_arrow("candidates", answers(KEYS, failed={2}))
    pq.write_table(table, tmp_path / "c.parquet", row_group_size=7)
    for rows in (1, 5, 7, 100):
        batches = list(read_batches("candidates", tmp_path / "c.parquet", [*KEY, "text"], rows))
        assert max(map(len, batches)) <= rows
        assert pa.Table.from_batches(batches).equals(table.select([*KEY, "text"]))
    with pytest.raises(UserError, match="its columns are not those of a 'scores' table"):
        next(read_batches("scores", tmp_path / "c.parquet"))
    assert read_table("candidates", tmp_path / "c.parquet").equals(table.to_pandas())


@pytest.mark.parametrize("count", [0, 1, 9])
def test_embeddings_in_parts(tmp_path, monkeypatch, count):
    vectors = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    rows = [{"text_id": content_id(str(n)), "vector": vector} for n, vector in enumerate(vectors.tolist())]
    write_table("embeddings", rows, tmp_path / "e.parquet")
    monkeypatch.setattr(embeddings, "read_batches", partial(read_batches, rows=4))
    found = embeddings.read_embeddings(tmp_path / "e.parquet")
    pd.testing.assert_frame_equal(found, read_table("embeddings", tmp_path / "e.parquet"))
    # Most batches have none of these.
    assert embeddings.read_embeddings(tmp_path / "e.parquet", {"0", "x"}).equals(found[:1])
    texts = [str(n) for n in reversed(range(count))] * 2
    assert embeddings.vectors_for(texts, found).tolist() == np.tile(vectors[::-1], (2, 1)).tolist()


CHILD = """
import sys
from pathlib import Path

sys.path[:0] = sys.argv[2:]
import tables
from adaptive_samplers import selection, tables as library, verification

# Small parts, so that what a part takes hides nothing.
read_batches = library.read_batches
library.read_batches = verification.read_batches = lambda *arguments, **named: read_batches(
    *arguments[:3], **{**named, "rows": 500}
)
for step in ("verify_candidates", "select_training_set", "summarize_selection", "summarize_labels"):
    tables.run_step(step, "ours", Path(sys.argv[1]))
"""


def test_memory_does_not_grow_with_the_answers(bench, tmp_path, monkeypatch):
    synthetic = bench[1]
    monkeypatch.setattr(synthetic, "ROWS_PER_WRITE", 500)
    # Arrow's own allocators keep what was freed, as much as they please.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}
    counts, peaks = [], []
    for prompts in (20, 220):
        folder = tmp_path / str(prompts)
        synthetic.make_data(folder, prompts, seeds=1, shards=1)
        synthetic.run_step("score_candidates", "ours", folder)
        child = [sys.executable, "-c", CHILD, str(folder), str(REPOSITORY / "bench"), str(REPOSITORY / "scripts")]
        done = subprocess.run(child, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        counts.append(prompts * synthetic.HEURISTICS)
        peaks.append(int(done.stdout.split()[-1]))
    size = (folder / "candidates.parquet").stat().st_size / counts[-1]
    assert size > 1_500  # bytes an answer
    # The numbers of all answers are in memory, their texts and tokens never.
    assert (peaks[1] - peaks[0]) / (counts[1] - counts[0]) < size / 3
