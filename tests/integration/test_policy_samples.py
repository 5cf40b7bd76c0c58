"""The target `policy_samples` on a tiny model: a base model and an adapter, slices, and prompts that do not fit."""

import json
from pathlib import Path

import pytest
import yaml

from adaptive_samplers.files import read_json
from adaptive_samplers.randomness import sample_seed
from adaptive_samplers.tables import read_table
from support import SMOKE, Workflow, changed, working_directory
from tiny_model import write_tiny_adapter

pytestmark = pytest.mark.pipeline

NAMES = ["plain", "adapted"]
SAMPLES = 3


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Workflow:
    """A folder with prompts and an adapter, where nothing has run."""
    work = working_directory(tmp_path_factory.mktemp("policies") / "work")
    prompts = [{"prompt": f"Write {i}.", "kind": "creative"} for i in range(40)]
    prompts += [
        {"prompt": f"Add {i}.", "kind": "verifiable", "verifier": "numeric", "ground_truth": "4"} for i in "123"
    ]
    (work.folder / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    write_tiny_adapter(tiny_model_folder, work.folder / "adapter")
    source = {"kind": "folder", "path": str(tiny_model_folder)}
    config = changed(
        SMOKE,
        ("run.name", "tiny"),
        ("model.name", "tiny"),
        ("model.source", source),
        ("prompts.sources", [{"path": "prompts.jsonl"}]),
        ("prompts.per_kind", {"train": None, "validation": None, "test": None}),
        ("generation.max_new_tokens", 6),
    )
    work.base = work.folder / "tiny.yaml"
    work.base.write_text(yaml.safe_dump(config))
    return work


def policies_config(**changes) -> dict:
    adapter = {"name": "adapted", "adapter": {"kind": "folder", "path": "adapter"}}
    return {"policy_samples": {"policies": [{"name": "plain"}, adapter], "samples": SAMPLES, "shards": 2, **changes}}


def samples_of(work: Workflow, policy: str):
    return read_table("policy_samples", work.folder / f"results/tiny/policy_samples/{policy}/samples.parquet")


def test_policies_answer_slices_that_do_not_overlap(work):
    done = work.run("policy_samples", config=policies_config(limit=10))
    assert done.returncode == 0, done.stdout[-3000:]
    first = {name: samples_of(work, name) for name in NAMES}
    for name, table in first.items():
        assert table["prompt_id"].nunique() == 10 and len(table) == 10 * SAMPLES
        assert not table.duplicated(["prompt_id", "sample_id"]).any()
        assert set(table["sample_id"]) == set(range(SAMPLES)) and set(table["policy"]) == {name}
        seeds = [sample_seed(20260101, row.prompt_id, row.sample_id) for row in table.itertuples()]
        assert table["sample_seed"].tolist() == seeds
        folder = work.folder / f"results/tiny/policy_samples/{name}"
        assert len((folder / "formats/samples.jsonl").read_text().splitlines()) == len(table)
        assert read_json(folder / "provenance.json")["model"]["name"] == name
    assert first["plain"]["text"].tolist() != first["adapted"]["text"].tolist()
    merged = read_json(work.folder / "results/tiny/models/adapted/provenance.json")
    assert merged["source"]["kind"] == "adapter" and merged["origin"]["versions"]["peft"][0].isdigit()

    # More samples keep those that are there; only models and prompts that are not known yet cost anything.
    planned = work.planned("policy_samples", config=policies_config(limit=10, samples=SAMPLES + 1))
    assert planned == {"sample_policy": 4, "verify_policy_samples": 2, "gather_policy_samples": 2, "policy_samples": 1}
    done = work.run("policy_samples", config=policies_config(skip=10, limit=10))
    assert done.returncode == 0, done.stdout[-3000:]
    for name in NAMES:
        table = samples_of(work, name)
        assert len(table) == 10 * SAMPLES
        assert not set(table["prompt_id"]) & set(first[name]["prompt_id"])


def test_a_prompt_that_is_not_answered_fails_the_target(work):
    # The tiny model's context has 128 tokens.
    failed = work.run("policy_samples", config=policies_config(max_new_tokens=115, skip=20, limit=5))
    assert failed.returncode != 0
    assert "5 of 5 prompts are incomplete (100.0%), and policy_samples.tolerance allows 0.0%" in failed.stdout
    failed = work.run("policy_samples", config=policies_config(skip=1000))
    assert failed.returncode != 0 and "no prompts are left: of 43 prompts 43 are in the splits" in failed.stdout
