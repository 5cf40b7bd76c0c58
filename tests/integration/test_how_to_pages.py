"""Each how-to page, followed step by step in a copy of the project, ends green, and what it adds works in a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from adaptive_samplers.tables import KEY, read_table
from how_to import copy_of_the_project, fenced_blocks, follow, touched_files
from support import REPOSITORY, Workflow, tiny_run

pytestmark = pytest.mark.pipeline

PROMPTS = [{"prompt": f"Write {number}.", "kind": "creative"} for number in range(20)]


def added(page: str, project: Path) -> dict[str, Path]:
    """Follow a page in a copy of the project. Returns where the files are that its blocks name."""
    blocks = fenced_blocks((REPOSITORY / "docs" / page).read_text())
    assert {"sh", "diff", "python"} <= {block.language for block in blocks}
    copy_of_the_project(project)
    for block in blocks:
        follow(block, project)
    return {block.path: project / block.path for block in blocks if block.path}


def run_of(project: Path, folder: Path, model: Path) -> Workflow:
    """A run of the copy on a tiny model: a few short answers."""
    small = ("generation.max_new_tokens", 6), ("seeds", [0])
    one_seed = ("scoring.weights", [{"quality": 1.0}])
    work = tiny_run(folder, model, PROMPTS, *small, one_seed)
    work.snakefile = project / "Snakefile"
    return work


def candidates(work: Workflow, run: str, config: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """A run's answers by the name of their heuristic."""
    folder = f"results/{run}"
    done = work.run(f"{folder}/candidates.parquet", config=config)
    assert done.returncode == 0, done.stdout
    answers = read_table("candidates", work.folder / folder / "candidates.parquet")
    heuristics = read_table("heuristics", work.folder / folder / "heuristics.parquet").set_index("heuristic_id")
    assert answers["error"].isna().all() and len(answers) > 10
    return dict(iter(answers.groupby(answers["heuristic_id"].map(heuristics["name"]))))


def test_adding_a_heuristic(tmp_path, tiny_model_folder):
    files = added("add_a_heuristic.md", tmp_path / "project")
    work = run_of(tmp_path / "project", tmp_path / "work", tiny_model_folder)
    found = candidates(work, "tiny", yaml.safe_load(files["top_a.yaml"].read_text()))
    assert {"top_a_0.2", "temperature_0.7+top_a_0.2"} <= set(found)


def test_adding_a_labeller(tmp_path, tiny_model_folder):
    added("add_a_labeller.md", tmp_path / "project")
    work = run_of(tmp_path / "project", tmp_path / "work", tiny_model_folder)
    label = "results/tiny/labels/brevity.parquet"
    done = work.run(label)
    assert done.returncode == 0, done.stdout
    words = pq.read_table(work.folder / label).to_pandas()
    answers = read_table("candidates", work.folder / "results/tiny/candidates.parquet")
    assert words["words"].tolist() == [len(text.split()) for text in answers["text"]]


def test_adding_a_judge(tmp_path, tiny_model_folder):
    files = added("add_a_judge.md", tmp_path / "project")
    assert touched_files(tmp_path / "project") - {"near_length.yaml"} == {
        "scripts/adaptive_samplers/labels/judges/near_length.py",
        "scripts/adaptive_samplers/labels/judges/registry.py",
        "scripts/adaptive_samplers/config/schemas/config.schema.yaml",
        "config/README.md",  # written by a script
        "docs/judges.md",
        "tests/unit/test_near_length_judge.py",
    }
    work = run_of(tmp_path / "project", tmp_path / "work", tiny_model_folder)
    config = yaml.safe_load(files["near_length.yaml"].read_text())
    config["run"]["name"] = "tiny"
    done = work.run("results/tiny/labels/quality.parquet", config=config)
    assert done.returncode == 0, done.stdout
    answers = read_table("candidates", work.folder / "results/tiny/candidates.parquet")
    rated = read_table("quality", work.folder / "results/tiny/labels/quality.parquet").merge(answers, on=KEY)
    words = rated["text"].str.split().str.len()
    assert rated["reward"].to_numpy() == pytest.approx(-np.abs(np.log((words + 1) / 6)))
    assert "train_judge" not in done.stdout


def test_adding_an_engine(tmp_path, tiny_model_folder):
    files = added("add_an_engine.md", tmp_path / "project")
    # An engine with packages of its own brings an environment and an extra as well.
    assert touched_files(tmp_path / "project") - {"plain.yaml"} == {
        "scripts/adaptive_samplers/engines/plain_engine.py",
        "scripts/adaptive_samplers/engines/registry.py",
        "scripts/adaptive_samplers/config/schemas/config.schema.yaml",
        "config/README.md",  # written by a script
        "tests/unit/test_plain_engine.py",
    }
    work = run_of(tmp_path / "project", tmp_path / "work", tiny_model_folder)
    found = candidates(work, "plain", yaml.safe_load(files["plain.yaml"].read_text()))
    usual = candidates(work, "tiny", {})
    for name, answers in found.items():
        assert set(answers["engine"]) == {"plain"} and set(usual[name]["engine"]) == {"transformers"}
        assert answers["token_ids"].map(list).tolist() == usual[name]["token_ids"].map(list).tolist()
