"""Candidates: shards, resuming, faults of an engine, and the check that every answer is there."""

import json
from dataclasses import dataclass, field, replace
from importlib import metadata

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_samplers import generation
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.engines.base import Completion
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.generation import (
    GenerationSettings,
    generate,
    generate_tables,
    recorded_engines,
    shard_of,
)
from adaptive_samplers.heuristics import expand_heuristics, learned_heuristic
from adaptive_samplers.randomness import sample_seed
from adaptive_samplers.samplers import ARCHITECTURES, build_sampler
from adaptive_samplers.tables import KEY, read_table, write_table
from adaptive_samplers.verification import verify_candidates


@dataclass
class Table:
    """An engine in memory: an answer is a function of its request. Some requests fail, are lost, or end the process."""

    failing: set[int] = field(default_factory=set)  # indices within a call
    lost: set[int] = field(default_factory=set)
    dies_after: int | None = None
    asked: list = field(default_factory=list)
    name: str = "table"

    def encode_chat(self, messages):
        return [len(message["content"]) for message in messages]

    def generate(self, requests):
        self.asked += requests
        done = 0
        for index in reversed(range(len(requests))):  # answers finish in any order
            if self.dies_after is not None and done >= self.dies_after:
                raise ConnectionError("the engine died")
            done += 1
            request = requests[index]
            if index in self.lost:
                continue
            if index in self.failing:
                yield Completion(index, error="out of memory")
                continue
            token = request.sample_seed % 1000
            count = request.max_new_tokens % 5
            yield Completion(
                index,
                token_ids=[token] * count,
                text=f"{token} {request.pipeline[0].value} é\n" * count,
                finish_reason="stop",
                token_logprobs=[-0.5] * count,
                end_logprobs=[-2.0] * (count + 1),
            )


HEURISTICS = pd.DataFrame(
    expand_heuristics(Heuristics(grid=[{"family": "temperature", "temperatures": [0.3, 0.7, 1.0]}]))
)
SETTINGS = GenerationSettings(run_seed=5, max_new_tokens={"chat": 3, "creative": 4}, stop=("\n\n",), dtype="float32")


def prompts_of(count: int) -> pd.DataFrame:
    rows = [
        {
            "prompt_id": f"p{(7 * i) % 100:02d}",  # not in order
            "dataset": "test",
            "kind": ["chat", "creative"][i % 2],
            "messages": json.dumps([{"role": "user", "content": "x" * (i + 1)}]),
            "verifier": None,
            "ground_truth": None,
            "split": "train",
        }
        for i in range(count)
    ]
    return pd.DataFrame(rows)


PROMPTS = prompts_of(4)
SEEDS = [0, 2]


def run(engine, output, prompts=PROMPTS, heuristics=HEURISTICS, seeds=SEEDS, model="model", settings=SETTINGS):
    generate(prompts, heuristics, seeds, engine, model, settings, output)
    return read_table("candidates", output)


def test_every_answer_in_the_order_of_its_key(tmp_path):
    table = run(Table(), tmp_path / "c.parquet")
    expected = [
        (prompt, heuristic, seed)
        for seed in SEEDS
        for prompt in sorted(PROMPTS["prompt_id"])
        for heuristic in sorted(HEURISTICS["heuristic_id"])
    ]
    assert list(table[KEY].itertuples(index=False, name=None)) == expected
    kinds, lengths = (PROMPTS.set_index("prompt_id")[column] for column in ("kind", "messages"))
    for row in table.itertuples():
        assert row.sample_seed == sample_seed(5, row.prompt_id, row.seed)
        assert row.prompt_token_ids.tolist() == [len(json.loads(lengths[row.prompt_id])[0]["content"])]
        assert len(row.token_ids) == SETTINGS.limit(kinds[row.prompt_id]) == len(row.end_logprobs) - 1
        assert (row.finish_reason, row.engine) == ("stop", "table") and pd.isna(row.error)
    assert [path.name for path in tmp_path.iterdir()] == ["c.parquet"]


def test_the_engines_versions_are_on_record(tmp_path):
    for name, engine in (("a", "table"), ("b", "table"), ("c", "other")):
        run(Table(name=engine), tmp_path / name)
    older = read_table("candidates", tmp_path / "a")
    write_table("candidates", older, tmp_path / "older")
    found = recorded_engines([tmp_path / name for name in ("a", "b", "c", "older")])
    assert [engine["engine"] for engine in found] == ["table", "other", "table"], "each once"
    assert found[0]["versions"]["torch"] == metadata.version("torch")
    assert "not installed" not in found[0]["versions"].values()
    assert found[2]["versions"] is None


def test_requests_carry_what_the_answer_depends_on(tmp_path):
    engine = Table()
    run(engine, tmp_path / "c.parquet")
    assert {request.max_new_tokens for request in engine.asked} == {3, 4}
    assert {request.stop for request in engine.asked} == {("\n\n",)}
    # All heuristics see the same random numbers.
    assert len({request.sample_seed for request in engine.asked}) == len(PROMPTS) * len(SEEDS)


def test_rows_are_written_a_part_at_a_time(tmp_path, monkeypatch):
    whole = run(Table(), tmp_path / "a.parquet")
    monkeypatch.setattr(generation, "ROWS_PER_WRITE", 5)
    pd.testing.assert_frame_equal(run(Table(), tmp_path / "b.parquet"), whole)
    assert pq.ParquetFile(tmp_path / "b.parquet").num_row_groups == 5


def test_only_the_rows_that_are_asked_for_are_sampled(tmp_path):
    whole = run(Table(), tmp_path / "whole.parquet")
    rows = {tuple(key) for key in whole.loc[::5, KEY].values.tolist()}
    engine, output = Table(), tmp_path / "c.parquet"
    for _ in range(2):
        generate(PROMPTS, HEURISTICS, SEEDS, engine, "model", SETTINGS, output, rows)
        pd.testing.assert_frame_equal(read_table("candidates", output), whole[::5].reset_index(drop=True))
        assert len(engine.asked) == len(rows) == 5
    # More rows cost only their own answers; no rows give an empty table.
    pd.testing.assert_frame_equal(run(engine, output), whole)
    assert len(engine.asked) == len(whole)
    generate(PROMPTS, HEURISTICS, SEEDS, engine, "model", SETTINGS, tmp_path / "none.parquet", set())
    assert read_table("candidates", tmp_path / "none.parquet").empty


@given(st.integers(1, 40), st.integers(1, 12))
def test_shards_are_even_runs_in_the_order_of_ids(count, shards):
    prompts = prompts_of(count)
    parts = [shard_of(prompts, shard, shards) for shard in range(shards)]
    assert pd.concat(parts)["prompt_id"].tolist() == sorted(prompts["prompt_id"])
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("shards", [1, 3, 6])
def test_shards_give_the_same_answers(tmp_path, shards):
    expected = run(Table(), tmp_path / "whole.parquet", seeds=[0])
    paths = [tmp_path / f"seed=0/shard={shard}.parquet" for shard in range(shards)]  # the last of six are empty
    for shard, path in enumerate(paths):
        run(Table(), path, shard_of(PROMPTS, shard, shards), seeds=[0])
    verify(tmp_path, paths, seeds=[0])
    pd.testing.assert_frame_equal(read_table("candidates", tmp_path / "all.parquet"), expected)


@pytest.mark.parametrize("dies_after", [0, 1, 10, 23])
def test_a_killed_job_goes_on_where_it_stopped(tmp_path, dies_after):
    expected = run(Table(), tmp_path / "whole.parquet")
    output = tmp_path / "c.parquet"
    with pytest.raises(ConnectionError):
        run(Table(dies_after=dies_after), output)
    assert not output.exists()
    with open(tmp_path / "c.parquet.part", "a") as part:
        part.write('{"key": ["p00", ')  # the row that was being written
    engine = Table()
    pd.testing.assert_frame_equal(run(engine, output), expected)
    assert len(engine.asked) == len(expected) - dies_after
    assert not (tmp_path / "c.parquet.part").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "another"},
        {"settings": GenerationSettings(6, {"chat": 3, "creative": 4}, ("\n\n",), "float32")},
        {"settings": GenerationSettings(5, {"chat": 3, "creative": 3}, ("\n\n",), "float32")},
        {"settings": GenerationSettings(5, {"chat": 3, "creative": 4}, (), "float32")},
        {"settings": GenerationSettings(5, {"chat": 3, "creative": 4}, ("\n\n",), "bfloat16")},
    ],
)
def test_answers_of_other_settings_are_not_taken_up(tmp_path, change):
    output = tmp_path / "c.parquet"
    run(Table(), output)
    with pytest.raises(ConnectionError):
        run(Table(dies_after=3), output, model="third")
    engine = Table()
    run(engine, output, **change)
    assert len(engine.asked) == len(PROMPTS) * len(HEURISTICS) * len(SEEDS)


def test_a_new_heuristic_costs_only_its_own_answers(tmp_path):
    output = tmp_path / "c.parquet"
    run(Table(), output, heuristics=HEURISTICS[:2])
    engine = Table()
    table = run(engine, output)
    pd.testing.assert_frame_equal(table, run(Table(), tmp_path / "whole.parquet"))
    assert len(engine.asked) == len(PROMPTS) * len(SEEDS)
    # What is not asked for any more is left out.
    engine = Table()
    assert set(run(engine, output, heuristics=HEURISTICS[1:])["heuristic_id"]) == set(HEURISTICS["heuristic_id"][1:])
    assert not engine.asked


def test_a_sampler_that_was_trained_again_answers_again(tmp_path):
    folder = tmp_path / "sampler"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    learned = pd.DataFrame(expand_heuristics(Heuristics(pipelines=[[{"learned": str(folder)}]])))
    run(Table(), tmp_path / "c.parquet")
    asked = []
    for weights in (b"one", b"one", b"two"):
        (folder / "model.safetensors").write_bytes(weights)
        engine = Table()
        run(engine, tmp_path / "c.parquet", heuristics=pd.concat([HEURISTICS, learned]))
        assert all(request.pipeline[0].name == "learned" for request in engine.asked), "heuristics are as they were"
        asked.append(len(engine.asked))
    assert asked == [8, 0, 8]


def test_answers_of_another_output_are_taken_over(tmp_path):
    before, output = tmp_path / "before.parquet", tmp_path / "c.parquet"
    run(Table(), before, heuristics=HEURISTICS[:2])
    for settings, asked in ((SETTINGS, 8), (GenerationSettings(6, {"chat": 3, "creative": 4}, (), "float32"), 24)):
        engine = Table()
        generate(PROMPTS, HEURISTICS, SEEDS, engine, "model", settings, output, others=[before])
        assert len(engine.asked) == asked
        whole = run(Table(), tmp_path / "whole.parquet", settings=settings)
        pd.testing.assert_frame_equal(read_table("candidates", output), whole)


def tables_of(folder):
    """A table for each heuristic."""
    return {folder / f"{n}.parquet": HEURISTICS[n : n + 1] for n in range(len(HEURISTICS))}


def run_tables(engine, folder):
    generate_tables(PROMPTS, tables_of(folder), SEEDS, engine, "model", SETTINGS)
    return {path: read_table("candidates", path) for path in tables_of(folder)}


def test_several_tables_are_asked_for_together_and_as_they_are_alone(tmp_path):
    engine = Table()
    for path, table in run_tables(engine, tmp_path).items():
        pd.testing.assert_frame_equal(table, run(Table(), tmp_path / "alone", heuristics=tables_of(tmp_path)[path]))
        assert path.read_bytes() == (tmp_path / "alone").read_bytes()
        (tmp_path / "alone").unlink()
    seeds_and_prompts = [(request.sample_seed, request.prompt_token_ids) for request in engine.asked]
    assert seeds_and_prompts[::3] == seeds_and_prompts[1::3] == seeds_and_prompts[2::3]
    assert len(set(seeds_and_prompts)) == len(PROMPTS) * len(SEEDS)


def test_of_several_tables_only_what_is_missing_is_asked_for(tmp_path):
    expected = run_tables(Table(), tmp_path)
    first, second, _ = expected
    first.unlink()
    # A heuristic of its own had this table before.
    run(Table(), second, heuristics=HEURISTICS[:1])
    engine = Table()
    for path, table in run_tables(engine, tmp_path).items():
        pd.testing.assert_frame_equal(table, expected[path])
    assert len(engine.asked) == 2 * len(PROMPTS) * len(SEEDS)


@pytest.mark.parametrize("dies_after", [0, 1, 10, 23])
def test_a_killed_job_for_several_tables_goes_on_where_it_stopped(tmp_path, dies_after):
    expected = run_tables(Table(), tmp_path / "whole")
    with pytest.raises(ConnectionError):
        run_tables(Table(dies_after=dies_after), tmp_path)
    engine = Table()
    for path, table in run_tables(engine, tmp_path).items():
        pd.testing.assert_frame_equal(table, expected[tmp_path / "whole" / path.name])
    assert len(engine.asked) == 24 - dies_after
    assert not list(tmp_path.glob("*.part"))


def test_tables_that_are_taken_back_cost_no_answers(tmp_path, monkeypatch):
    """Snakemake deletes what a failed job has written."""
    write, written = generation._write_candidates, []

    def write_one(table, *rest):
        if written:
            raise OSError("the disk is full")
        written.append(table.output)
        write(table, *rest)

    monkeypatch.setattr(generation, "_write_candidates", write_one)
    with pytest.raises(OSError, match="full"):
        run_tables(Table(), tmp_path)
    monkeypatch.undo()
    written[0].unlink()
    engine = Table()
    assert sum(map(len, run_tables(engine, tmp_path).values())) == 24
    assert not engine.asked


def test_learned_samplers_answer_together_as_each_alone(tmp_path, tiny_model, monkeypatch):
    folders = []
    for seed, architecture in enumerate(ARCHITECTURES):
        sampler = build_sampler(architecture, {}, seed)
        # A new sampler leaves the logits nearly as they are; one that has learned does not.
        with torch.no_grad():
            for weights in sampler.parameters():
                weights.add_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)), alpha=0.3)
        folders.append(tmp_path / "samplers" / architecture / "a0_b1_c0_top2")
        sampler.save_pretrained(folders[-1])
    longer, rows, next_logits = replace(SETTINGS, max_new_tokens=20), [], tiny_model.next_logits
    monkeypatch.setattr(
        tiny_model, "next_logits", lambda tokens, *rest: rows.append(len(tokens)) or next_logits(tokens, *rest)
    )

    def read_rows(outputs):
        rows.clear()
        engine = TransformersEngine(tiny_model, batch_size=64)
        heuristics = {path: pd.DataFrame([learned_heuristic(str(folder))]) for path, folder in outputs.items()}
        generate_tables(PROMPTS, heuristics, SEEDS, engine, "model", longer)
        return sum(rows)

    together = {tmp_path / f"together{n}": folder for n, folder in enumerate(folders)}
    alone = {tmp_path / f"alone{n}": folder for n, folder in enumerate(folders)}
    shared = read_rows(together)
    assert shared < sum(read_rows({path: folder}) for path, folder in alone.items())
    tables = []
    for one, other in zip(together, alone, strict=True):
        tables.append(read_table("candidates", one))
        pd.testing.assert_frame_equal(tables[-1], read_table("candidates", other))
    assert not tables[0]["token_ids"].equals(tables[1]["token_ids"])


@pytest.mark.parametrize(
    ("fault", "message"),
    [({"failing": {0, 4}}, "out of memory"), ({"lost": {0, 4}}, "the engine gave no answer")],
)
def test_a_failure_is_a_row_with_its_error_and_tried_again(tmp_path, fault, message):
    output = tmp_path / "c.parquet"
    table = run(Table(**fault), output)
    failed = table[table["finish_reason"] == "error"]
    assert failed.index.tolist() == [0, 4] and set(failed["error"]) == {message}
    assert (failed["text"] == "").all() and failed["token_logprobs"].isna().all()
    engine = Table()
    pd.testing.assert_frame_equal(run(engine, output), run(Table(), tmp_path / "whole.parquet"))
    assert len(engine.asked) == 2


def verify(folder, paths, prompts=PROMPTS, heuristics=HEURISTICS, seeds=SEEDS, tolerance=0.0, **options):
    verify_candidates(
        paths, prompts, heuristics, seeds, tolerance, folder / "all.parquet", folder / "report.json", **options
    )
    return read_table("candidates", folder / "all.parquet"), read_json(folder / "report.json")


@pytest.fixture
def complete(tmp_path):
    """The complete table, and how to write it as two shards after a change."""
    table = run(Table(), tmp_path / "whole.parquet")

    def write(changed):
        paths = [tmp_path / f"shard={shard}.parquet" for shard in (0, 1)]
        for path, rows in zip(paths, np.array_split(np.arange(len(changed)), 2), strict=True):
            write_table("candidates", changed.iloc[rows], path)
        return paths

    return table, write


def test_complete_shards_are_gathered(tmp_path, complete):
    table, write = complete
    gathered, report = verify(tmp_path, write(table))
    pd.testing.assert_frame_equal(gathered, table)
    assert report["expected"] == report["found"] == 24 and report["finish_reasons"] == {"stop": 24}
    assert report["missing"] == report["duplicated"] == report["failed"] == report["dropped_prompts"] == []


def broken(table, fault):
    """A table with a fault in its row 5, and the report's entry for it."""
    key = {column: table.iloc[5][column] for column in KEY} | {"seed": int(table.iloc[5]["seed"])}
    if fault == "missing":
        return table.drop(index=5), key
    if fault == "duplicated":
        return pd.concat([table, table.iloc[[5]]]), key
    changed = table.copy()
    changed.loc[5, ["finish_reason", "error"]] = ["error", "out of memory"]
    return changed, {**key, "error": "out of memory"}


@pytest.mark.parametrize("fault", ["missing", "duplicated", "failed"])
def test_a_fault_is_listed_and_its_prompt_dropped_within_the_tolerance(tmp_path, complete, fault, capsys):
    table, write = complete
    changed, entry = broken(table, fault)
    paths = write(changed)
    with pytest.raises(UserError, match=r"1 of 4 prompts are incomplete \(25\.0%\).*allows 24\.0%"):
        verify(tmp_path, paths, tolerance=0.24)
    assert f"{fault}: {entry}" in capsys.readouterr().err
    assert not (tmp_path / "all.parquet").exists() and read_json(tmp_path / "report.json")[fault] == [entry]

    gathered, report = verify(tmp_path, paths, tolerance=0.25)
    assert {kind: report[kind] for kind in ("missing", "duplicated", "failed")} == {
        kind: [entry] if kind == fault else [] for kind in ("missing", "duplicated", "failed")
    }
    assert report["dropped_prompts"] == [entry["prompt_id"]] and report["incomplete_share"] == 0.25
    rest = table[table["prompt_id"] != entry["prompt_id"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(gathered, rest)


def test_a_row_three_times_is_two_too_many(tmp_path, complete):
    table, write = complete
    _, report = verify(tmp_path, write(pd.concat([table, table.iloc[[5]], table.iloc[[5]]])), tolerance=1.0)
    assert len(report["duplicated"]) == 2 and report["found"] == 26


@pytest.mark.parametrize(
    ("column", "value"), [("prompt_id", "stranger"), ("heuristic_id", "0123456789abcdef"), ("seed", 9)]
)
def test_answers_of_another_run_are_refused(tmp_path, complete, column, value):
    table, write = complete
    table.loc[3, column] = value
    with pytest.raises(UserError, match=rf"1 answers belong to no prompt.*{value}.*delete the shards"):
        verify(tmp_path, write(table), tolerance=1.0)


def test_other_prompts_are_passed_over(tmp_path, complete):
    table, write = complete
    prompts = PROMPTS[1:]
    others = frozenset(PROMPTS["prompt_id"])
    gathered, report = verify(tmp_path, write(table), prompts=prompts, other_prompts=others)
    assert set(gathered["prompt_id"]) == set(prompts["prompt_id"]) and report["expected"] == 18


@pytest.mark.parametrize("fault", [None, "missing", "duplicated", "failed"])
def test_exactly_the_allocated_answers_are_expected(tmp_path, complete, fault):
    table, write = complete
    allocated = table[::2].reset_index(drop=True)
    write_table("allocation", allocated[KEY].assign(reason="unsettled"), tmp_path / "allocation.parquet")
    changed, entry = (allocated, None) if fault is None else broken(allocated, fault)
    gathered, report = verify(tmp_path, write(changed), tolerance=1.0, allocation=tmp_path / "allocation.parquet")
    assert report["expected"] == 12
    assert {kind: report[kind] for kind in ("missing", "duplicated", "failed")} == {
        kind: [entry] if kind == fault else [] for kind in ("missing", "duplicated", "failed")
    }
    assert report["dropped_prompts"] == ([entry["prompt_id"]] if entry else [])
    rest = allocated[~allocated["prompt_id"].isin(report["dropped_prompts"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(gathered, rest)


def test_answers_that_were_not_allocated_are_refused(tmp_path, complete):
    table, write = complete
    write_table("allocation", table.loc[1:, KEY].assign(reason="unsettled"), tmp_path / "allocation.parquet")
    with pytest.raises(UserError, match="1 answers belong to no prompt"):
        verify(tmp_path, write(table), tolerance=1.0, allocation=tmp_path / "allocation.parquet")


def test_settings_from_the_config():
    config = {
        "run": {"seed": 3},
        "model": {"dtype": "bfloat16"},
        "generation": {"max_new_tokens": 40, "stop": ["###"]},
    }
    settings = GenerationSettings.from_config(typed_config(config))
    assert settings == GenerationSettings(3, 40, ("###",), "bfloat16") and settings.limit("chat") == 40
