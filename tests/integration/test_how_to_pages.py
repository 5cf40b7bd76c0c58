"""Each how-to page, followed step by step in a copy of the project, ends green, and what it adds works in a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from adaptive_samplers.tables import KEY, read_table, write_table
from how_to import contents, copy_of_the_project, fenced_blocks, follow
from support import REPOSITORY, Workflow, tiny_run

pytestmark = pytest.mark.pipeline

# What commands of the pages write, from what is declared.
WRITTEN = {
    "config/README.md",
    "config/schemas/config.schema.json",
    "docs/tables.md",
    "docs/what_reruns.md",
    "tests/unit/golden_stages.json",
}
PROMPTS = [{"prompt": f"Write {number}.", "kind": "creative"} for number in range(20)]


def added(page: str, project: Path) -> tuple[dict[str, Path], set[str]]:
    """Follow a page in a copy of the project.

    Returns where the files are that its blocks name, and the files that it touches by hand.
    """
    blocks = fenced_blocks((REPOSITORY / "docs" / page).read_text())
    assert {"sh", "python"} <= {block.language for block in blocks}
    before = contents(copy_of_the_project(project))
    for block in blocks:
        follow(block, project)
    touched = {path for path, content in contents(project).items() if before.get(path) != content}
    return {block.path: project / block.path for block in blocks if block.path}, touched - WRITTEN


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
    files, touched = added("add_a_heuristic.md", tmp_path / "project")
    assert len(touched) <= 3, touched
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
    files, touched = added("add_a_judge.md", tmp_path / "project")
    assert len(touched) <= 5, touched
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
    files, touched = added("add_an_engine.md", tmp_path / "project")
    assert len(touched) <= 6, touched
    work = run_of(tmp_path / "project", tmp_path / "work", tiny_model_folder)
    found = candidates(work, "plain", yaml.safe_load(files["plain.yaml"].read_text()))
    usual = candidates(work, "tiny", {})
    for name, answers in found.items():
        assert set(answers["engine"]) == {"plain"} and set(usual[name]["engine"]) == {"transformers"}
        assert answers["token_ids"].map(list).tolist() == usual[name]["token_ids"].map(list).tolist()


def test_adding_a_measure(tmp_path, tiny_model_folder):
    project = tmp_path / "project"
    files, touched = added("add_a_measure.md", project)
    assert len(touched) <= 4, touched
    work = tiny_run(tmp_path / "work", tiny_model_folder, PROMPTS, ("generation.max_new_tokens", 6))
    work.snakefile = project / "Snakefile"
    config = yaml.safe_load(files["distinct.yaml"].read_text())
    # One sampler is enough to compare.
    config["samplers"] = {"SimpleDistributionAwareTransform": None, "SamplingNetwork": None}
    folder = work.folder / "results" / "tiny"
    wanted = ["scores.parquet", "tables/labels.html", "evaluation/comparison.parquet", "figures/tradeoff.pdf"]
    done = work.run(*(f"results/tiny/{name}" for name in wanted), config=config)
    assert done.returncode == 0, done.stdout
    # Not by `read_table`, which has the columns of the project as it is.
    labels = pq.read_table(folder / "labels" / "diversity.parquet").to_pandas()
    joined = read_table("scores", folder / "scores.parquet").merge(labels, on=KEY)
    assert joined["distinct_answers"].gt(0).any() and joined["diversity"].equals(joined["distinct_answers"])
    assert "Distinct answers (share)" in (folder / "tables/labels.html").read_text()
    comparison = read_table("comparison", folder / "evaluation/comparison.parquet")
    assert comparison.query("objective == 'distinct_answers'")["mean"].gt(0).any()


def test_adding_a_figure(tmp_path, tiny_model_folder):
    project = tmp_path / "project"
    _, touched = added("add_a_figure.md", project)
    assert len(touched) <= 4, touched
    work = run_of(project, tmp_path / "work", tiny_model_folder)
    assert work.planned("figures")["plot_precision"] == 1
    comparison = work.folder / "results/tiny/evaluation/comparison.parquet"
    row = {"family": "temperature", "name": "temperature_1", "kind": "heuristic", "objective": "quality"}
    write_table("comparison", [{**row, "mean": 1.0, "low": 0.5, "high": 1.5, "n_prompts": 3}], comparison)
    figure = "results/tiny/figures/precision.pdf"
    done = work.run(figure, "--allowed-rules", "plot_precision")
    assert done.returncode == 0, done.stdout
    assert (work.folder / figure).read_bytes().startswith(b"%PDF")


def test_adding_an_architecture(tmp_path, tiny_model_folder):
    files, touched = added("add_an_architecture.md", tmp_path / "project")
    assert len(touched) <= 4, touched
    work = run_of(tmp_path / "project", tmp_path / "work", tiny_model_folder)
    sampler = "results/tiny/samplers/EntropyScaledTransform/a0_b1_c0_top2"
    done = work.run(sampler, config=yaml.safe_load(files["entropy.yaml"].read_text()))
    assert done.returncode == 0, done.stdout
    saved = json.loads((work.folder / sampler / "config.json").read_text())
    assert (saved["architecture"], saved["hidden_dims"]) == ("EntropyScaledTransform", 8)


def test_adding_a_training_objective(tmp_path, tiny_model_folder):
    files, touched = added("add_a_training_objective.md", tmp_path / "project")
    assert len(touched) <= 4, touched
    work = run_of(tmp_path / "project", tmp_path / "work", tiny_model_folder)
    sampler = "results/tiny/samplers/LocalProbabilityTransform/a0_b1_c0_top2_reverse_kl"
    done = work.run(sampler, config=yaml.safe_load(files["reverse.yaml"].read_text()))
    assert done.returncode == 0, done.stdout
    curves = pd.read_csv(work.folder / sampler / "curves.csv")
    assert "truncated_mass" in curves and "kl" not in curves
