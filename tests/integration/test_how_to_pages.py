"""Each how-to page, followed step by step in a copy of the project, ends green, and what it adds works in a run."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from adaptive_samplers.tables import read_table
from how_to import contents, copy_of_the_project, fenced_blocks, follow
from support import REPOSITORY, Workflow, tiny_run

pytestmark = pytest.mark.pipeline

PROMPTS = [{"prompt": f"Write {number}.", "kind": "creative"} for number in range(20)]


def added(page: str, project: Path, touches: set[str] | None = None, before_commands: str = "") -> dict[str, Path]:
    """Follow a page in a copy of the project, which `touches` these files. Returns where those are that blocks name."""
    blocks = fenced_blocks((REPOSITORY / "docs" / page).read_text())
    assert {"sh", "python"} <= {block.language for block in blocks}
    before = contents(copy_of_the_project(project))
    for block in blocks:
        if block.language == "sh" and before_commands:
            subprocess.run([".venv/bin/python", "-c", before_commands], cwd=project, check=True)
            before_commands = ""
        follow(block, project)
    if touches is not None:
        assert {path for path, content in contents(project).items() if before.get(path) != content} == touches
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


def test_adding_an_engine(tmp_path, tiny_model_folder):
    files = added("add_an_engine.md", tmp_path / "project")
    work = run_of(tmp_path / "project", tmp_path / "work", tiny_model_folder)
    found = candidates(work, "plain", yaml.safe_load(files["plain.yaml"].read_text()))
    usual = candidates(work, "tiny", {})
    for name, answers in found.items():
        assert set(answers["engine"]) == {"plain"} and set(usual[name]["engine"]) == {"transformers"}
        assert answers["token_ids"].map(list).tolist() == usual[name]["token_ids"].map(list).tolist()


# The config's schema does not read the declarations yet, and is told of them here.
TELL_THE_SCHEMA = """
import sys, yaml
from pathlib import Path
sys.path.insert(0, "scripts")
from adaptive_samplers.samplers import ARCHITECTURES

path = Path("scripts/adaptive_samplers/config/schemas/config.schema.yaml")
schema = yaml.safe_load(path.read_text())
samplers = schema["properties"]["samplers"]
rates = schema["properties"]["evaluation"]["properties"]["learnability"]["properties"]["learning_rates"]["properties"]
for name in ARCHITECTURES.keys() - rates.keys():
    own = ARCHITECTURES[name].options.model_json_schema()
    for option in own["properties"].values():
        del option["title"]
    del own["title"]
    samplers["default"][name], samplers["properties"][name] = {}, {**own, "type": ["object", "null"]}
    rates[name] = {**rates["SamplingNetwork"], "default": ARCHITECTURES[name].learning_rate}
path.write_text(yaml.safe_dump(schema, sort_keys=False))
"""


def test_adding_an_architecture(tmp_path, tiny_model_folder):
    touches = {
        "config/README.md",
        "scripts/adaptive_samplers/samplers/definitions.py",
        "scripts/adaptive_samplers/samplers/entropy.py",
        "tests/unit/test_samplers.py",
    }
    schema = "scripts/adaptive_samplers/config/schemas/config.schema.yaml"
    files = added("add_an_architecture.md", tmp_path / "project", touches | {schema}, TELL_THE_SCHEMA)
    work = run_of(tmp_path / "project", tmp_path / "work", tiny_model_folder)
    sampler = "results/tiny/samplers/EntropyScaledTransform/a0_b1_c0_top2"
    done = work.run(sampler, config=yaml.safe_load(files["entropy.yaml"].read_text()))
    assert done.returncode == 0, done.stdout
    saved = json.loads((work.folder / sampler / "config.json").read_text())
    assert (saved["architecture"], saved["hidden_dims"]) == ("EntropyScaledTransform", 8)


def test_adding_a_training_objective(tmp_path):
    objectives = "scripts/adaptive_samplers/training/objectives"
    touches = {f"{objectives}/definitions.py", f"{objectives}/reverse_kl.py", "tests/unit/test_reverse_kl.py"}
    added("add_a_training_objective.md", tmp_path / "project", touches)
    # The page's example of its use, on what the objective's test trains on.
    code = """
import sys
sys.path[:0] = ["scripts", "tests", "tests/unit"]
from pathlib import Path
from learn import learn
from test_replay import TRAINING
from test_training import token_steps

result = learn(TRAINING, {"train": token_steps(40, 1), "validation": token_steps(20, 2)}, Path("learned"))
sys.exit(result.curves[-1]["loss"] > result.curves[0]["loss"])
"""
    subprocess.run([".venv/bin/python", "-c", code], cwd=tmp_path / "project", check=True)
