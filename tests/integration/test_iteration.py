"""Two iterations of alignment on a tiny model, really trained by TRL's DPO: complete, and the same after any kill.

`pytest tests/integration/test_iteration.py --repeat 10` kills ten runs, three times each.
"""

import random
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from adaptive_samplers.files import read_json
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.tables import read_table
from support import REPOSITORY, Workflow, tiny_run
from tiny_judges import write_judge

pytestmark = [pytest.mark.pipeline]

PROMPTS, SAMPLES, ITERATIONS, KILLS = 6, 4, 2, 3
FOLDER = "results/tiny/iteration"
# Provenance, and of the judge's report how many calls an earlier attempt had made.
NOT_COMPARED = {"provenance.json", "quality_report.json"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Workflow:
    """A folder in which models and prompts are there, and no iteration; an iteration takes seconds."""
    place = tmp_path_factory.mktemp("iteration")
    judge = write_judge(tiny_model_folder, place / "judge", "scalar")
    train = f"{sys.executable} {REPOSITORY}/scripts/train_dpo.py --data {{data}} --model {{model}} --output {{output}}"
    work = tiny_run(
        place / "work",
        tiny_model_folder,
        [{"prompt": f"Write {i}.", "kind": "creative"} for i in range(60)],
        ("prompts.per_kind", {"train": 20, "validation": 1, "test": 1}),
        ("generation.max_new_tokens", 8),
        ("labels.quality.judge", {"kind": "scalar", "name": "judge", "source": {"kind": "folder", "path": str(judge)}}),
        ("preferences.decontamination.test_split", False),
        ("iteration.count", ITERATIONS),
        ("iteration.prompts_per_iteration", PROMPTS),
        ("iteration.samples", SAMPLES),
        ("iteration.command", f"{train} --seed {{seed}} --learning-rate 1e-3 --batch-size 3"),
    )
    models = [f"results/tiny/models/{name}" for name in ("tiny", "judge")]
    done = work.run("results/tiny/prompts.parquet", *models)
    assert done.returncode == 0, done.stdout[-3000:]
    return work


def copy_of(work: Workflow, folder: Path) -> Workflow:
    shutil.copytree(work.folder, folder, symlinks=True)
    return Workflow(folder, base=work.base)


@pytest.fixture(scope="module")
def finished(prepared: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """Two iterations that nobody disturbed."""
    work = copy_of(prepared, tmp_path_factory.mktemp("finished") / "work")
    started = time.monotonic()
    done = work.run("iterations")
    assert done.returncode == 0, done.stdout[-5000:]
    (work.folder / "seconds").write_text(str(time.monotonic() - started))
    return work


def iteration_folder(work: Workflow, number: int) -> Path:
    return work.folder / FOLDER / f"iteration={number}"


def test_every_iteration_takes_prompts_of_its_own_and_trains_the_policy_before(finished):
    tables = [read_table("prompts", iteration_folder(finished, number) / "prompts.parquet") for number in (1, 2)]
    assert [len(table) for table in tables] == [PROMPTS, PROMPTS]
    assert not set(tables[0]["prompt_id"]) & set(tables[1]["prompt_id"])
    assert {split for table in tables for split in table["split"]} == {"train"}

    folders = [
        finished.folder / "results/tiny/models/tiny",
        *(iteration_folder(finished, r) / "policy" for r in (1, 2)),
    ]
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    for before, after in pairwise(weights):
        assert before.keys() == after.keys()
        changes = [(before[name] - after[name]).abs().max() for name in before]
        assert max(changes) > 1e-4 and all(torch.isfinite(tensor).all() for tensor in after.values())
    log = (finished.folder / "logs/tiny/train_policy/iteration=2.training.log").read_text()
    assert "'loss'" in log and "rewards/margins" in log


def test_pairs_are_made_of_samples_of_the_iterations_policy(finished):
    summary = read_json(finished.folder / FOLDER / "summary.json")["iterations"]
    for number, told in enumerate(summary, start=1):
        folder = iteration_folder(finished, number)
        samples = read_table("candidates", folder / "contestants.parquet")
        assert len(samples) == told["samples"] == PROMPTS * SAMPLES and (samples["seed"] == 0).all()
        assert samples.groupby("prompt_id")["heuristic_id"].nunique().eq(SAMPLES).all()
        texts = samples.groupby("prompt_id")["text"].agg(set)
        quality = read_table("quality", folder / "labels/quality.parquet").merge(
            samples, on=["prompt_id", "heuristic_id"]
        )
        best = quality.groupby("prompt_id")["reward"].max()
        pairs = pd.read_json(folder / "preferences/trl_preference.jsonl", lines=True)
        table = pd.read_parquet(folder / "preferences/pairs.parquet")
        assert len(pairs) == len(table) == told["pairs"] > 0
        for row in table.itertuples():
            assert {row.chosen, row.rejected} <= texts[row.prompt_id]
            assert row.score_chosen == pytest.approx(best[row.prompt_id]) and row.margin > 0
        assert [row[0]["content"] for row in pairs["chosen"]] == table["chosen"].tolist()
        assert told["model_hash"] == read_json(folder / "policy/provenance.json")["model_hash"]
        shard = read_table("candidates", folder / "shards/shard=0.parquet")
        assert set(shard["seed"]) == set(range(SAMPLES))
    assert summary[0]["model_hash"] != summary[1]["model_hash"]
    assert finished.planned("iterations") == {}


def test_more_iterations_only_add_theirs_and_end_with_the_prompts(finished, tmp_path):
    work = copy_of(finished, tmp_path / "work")
    config = yaml.safe_load(work.base.read_text())
    config["iteration"]["count"] = None
    assert work.planned("iterations", config=config) == {
        "plan_iterations": 1,
        "summarize_iterations": 1,
        "iterations": 1,
    }
    done = work.run("results/tiny/iteration/plan.json", config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    plan = read_json(work.folder / FOLDER / "plan.json")["iterations"]
    assert [one["prompts"] for one in plan] == [6, 6, 6, 2]
    planned = work.planned("iterations", config=config)
    assert planned["train_policy"] == planned["sample_iteration"] == planned["adopt_policy"] == 2


def test_a_command_that_fails_ends_the_iteration_with_the_end_of_its_log(finished, tmp_path):
    work = copy_of(finished, tmp_path / "work")
    config = yaml.safe_load(work.base.read_text())
    config["iteration"]["command"] = "echo {data} {model} $ITERATION_OUTPUT; echo too little memory >&2; exit 7"
    failed = work.run("results/tiny/iteration/iteration=1/checkpoint", config=config)
    assert failed.returncode != 0 and "Traceback" not in failed.stdout
    assert "iteration.command ended with status 7" in failed.stdout and "too little memory" in failed.stdout
    assert not (iteration_folder(work, 1) / "checkpoint").exists()


def final_files(work: Workflow) -> dict[str, str]:
    """Hashes of a run's files, but for shards, in which the last digits of log-probabilities may differ."""
    folder = work.folder / FOLDER
    return {
        str(path.relative_to(folder)): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.parent.name not in ("shards", "quality")
        and path.name not in NOT_COMPARED
    }


@pytest.fixture
def work(prepared: Workflow, tmp_path: Path) -> Iterator[Workflow]:
    copy = copy_of(prepared, tmp_path / "work")
    yield copy
    copy.kill()


@pytest.mark.fault
def test_iterations_that_are_killed_end_in_the_same_files(work, finished, repetition):
    generator = random.Random(repetition)
    whole = float((finished.folder / "seconds").read_text())
    for _ in range(KILLS):
        work.start("iterations")
        time.sleep(whole * generator.uniform(0.1, 0.5))
        work.kill()
        left = list((work.folder / FOLDER).glob("iteration=*/*"))
        print(f"killed with {sorted(str(path.relative_to(work.folder / FOLDER)) for path in left)}")
    done = work.run("iterations")
    assert done.returncode == 0, done.stdout[-5000:]
    found, expected = final_files(work), final_files(finished)
    assert found == expected
    assert {
        "summary.json",
        "iteration=2/policy/model.safetensors",
        "iteration=2/preferences/pairs.parquet",
    } <= found.keys()
    for number in range(1, ITERATIONS + 1):
        columns = ["prompt_id", "seed", "token_ids", "text", "finish_reason", "sample_seed"]
        shards = [
            read_table("candidates", iteration_folder(one, number) / "shards/shard=0.parquet", columns)
            for one in (work, finished)
        ]
        pd.testing.assert_frame_equal(*shards)
        assert not [path for path in iteration_folder(work, number).iterdir() if path.name.endswith((".part", ".lock"))]
