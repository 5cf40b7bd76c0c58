"""The target `on_policy` in the DAG: a sampler of the run goes on learning from answers of its own."""

import os
import shutil
import signal
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.files import read_json
from adaptive_samplers.models.fetch import model_hash
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.tables import read_table
from adaptive_samplers.tensors import load_tensors
from adaptive_samplers.training.on_policy import train_on_policy
from support import tiny_run, wait_until

pytestmark = [pytest.mark.pipeline, pytest.mark.model]

START = "results/tiny/samplers/LocalProbabilityTransform/a0.7_b0.3_c0_top2"
LEARNED = "results/tiny/on_policy/LocalProbabilityTransform/a0.7_b0.3_c0_top2"
# With a model and a sampler that are there: how the run makes them is for other tests.
AS_IT_IS = ("on_policy", "--allowed-rules", "collect_prompts", "train_on_policy", "on_policy")
# Answers of a random model end in either of two ways about as often.
PROMPTS = [
    {
        "prompt": f"Say something about {number}.",
        "kind": "verifiable",
        "verifier": "regex",
        "ground_truth": r"[a-m]\W*$",
    }
    for number in range(40)
]


@pytest.fixture(scope="module")
def work(tiny_model_folder, tmp_path_factory):
    """A run of a tiny model with one architecture."""
    work = tiny_run(
        tmp_path_factory.mktemp("on_policy") / "work",
        tiny_model_folder,
        PROMPTS,
        ("prompts.per_kind", {"train": 4, "validation": 2, "test": 1}),
        ("generation.max_new_tokens", 6),
        ("scoring.correct_only", False),
        ("samplers", {"LocalProbabilityTransform": {"hidden_dims": 8}}),
        (
            "on_policy",
            {"steps": 3, "prompts": 3, "answers": 4, "updates": 2, "evaluate_every": 3, "learning_rate": 0.01},
        ),
    )
    yield work
    work.kill()


def test_it_is_no_part_of_the_whole_run(work):
    assert "train_on_policy" not in work.planned("all")
    planned = work.planned("on_policy")
    assert planned["train_on_policy"] == planned["train_sampler"] == 1 and "sample_with_sampler" not in planned


def test_a_killed_job_goes_on_and_ends_as_an_undisturbed_one(work, tiny_model_folder):
    shutil.copytree(tiny_model_folder, work.folder / "results/tiny/models/tiny")
    build_sampler("LocalProbabilityTransform", {"hidden_dims": 8}, seed=1).save_pretrained(work.folder / START)
    process = work.start(*AS_IT_IS)
    checkpoint = work.folder / f"{LEARNED}.checkpoint" / "checkpoint.safetensors"
    wait_until(
        lambda: checkpoint.exists() and '"split": "train"' in load_tensors(checkpoint)[1]["progress"], 300, process
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = work.run(*AS_IT_IS, "--rerun-incomplete")
    assert done.returncode == 0, done.stdout
    curves = pd.read_csv(work.folder / LEARNED / "curves.csv")
    assert curves[curves["split"] == "train"]["step"].tolist() == [0, 1, 2]
    assert curves[curves["split"] == "validation"]["step"].tolist() == [0, 3]
    assert curves["reward"].between(0, 1).all() and (curves["learning_from"] > 0).any()
    metrics = read_json(work.folder / LEARNED / "metrics.json")
    assert metrics["steps"] == 3 and metrics["prompts"] == 2 and metrics["reward"] is not None
    assert read_json(work.folder / LEARNED / "provenance.json")["settings"]["start"]["sampler"] == START
    assert not list((work.folder / f"{LEARNED}.checkpoint").glob("*/step=*")), "answers of the last step are left"
    begun, learned = (AdaptiveSampler.from_pretrained(work.folder / folder) for folder in (START, LEARNED))
    weights = learned.state_dict()
    assert any(not (weights[name] == tensor).all() for name, tensor in begun.state_dict().items())

    # Once more without a kill, in this process.
    config = typed_config(load_config(yaml.safe_load(work.base.read_text()), work.folder))
    model, whole = Path("results/tiny/models/tiny"), "whole"
    with chdir(work.folder):
        reader = LanguageModel.from_config(config, model)
        engine, prompts = TransformersEngine(reader, 4), read_table("prompts", "results/tiny/prompts.parquet")
        train_on_policy(config, prompts, Path(START), engine, reader, model_hash(model), 1, Path(whole))
    # Up to what the number of threads does to sums; a step more or less is a hundredth.
    for name, tensor in AdaptiveSampler.from_pretrained(work.folder / whole).state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-4)
    assert pd.read_csv(work.folder / whole / "curves.csv")["reward"].equals(curves["reward"])


def test_what_makes_it_run_again(work):
    assert set(work.planned(*AS_IT_IS, config={"on_policy": {"steps": 5}})) == {"train_on_policy", "on_policy"}
