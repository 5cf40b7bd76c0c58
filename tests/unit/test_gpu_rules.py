"""Rules that run a model ask for a GPU, as a SLURM job would; no other rule does."""

import ast
import os
from pathlib import Path

import pytest
import yaml

from adaptive_samplers.stage import run_stage
from support import REPOSITORY, SMOKE, changed, of_workflow, working_directory

# What scripts call to run a model. Training a sampler needs no language model, and is quick on a CPU.
RUNS_A_MODEL = {"LanguageModel", "build_engine", "embed_texts", "train_policy"}
SAMPLING = {"generate_candidates", "sample_with_sampler", "sample_policy", "sample_iteration", "train_on_policy"}
LIST_RULES = """{
    rule.name: (rule.script, rule.resources["gpu"].value if "gpu" in rule.resources else 0)
    for rule in workflow.rules
    if rule.script
}"""


def runs_a_model(script: str) -> bool:
    tree = ast.parse((REPOSITORY / "scripts" / script).read_text())
    return bool(RUNS_A_MODEL & {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})


def gpus_by_rule(folder, *changes) -> dict[str, tuple[str, int]]:
    """The script of every rule, and the number of GPUs that the rule asks for."""
    work = working_directory(folder)
    config = work.folder / "config.yaml"
    # Rounds have rules only where something trains them.
    trained = ("iteration.command", "train {data} {model} {output}")
    config.write_text(yaml.safe_dump(changed(SMOKE, trained, *changes)))
    return of_workflow(LIST_RULES, work.folder, config)


def test_rules_that_run_a_model_ask_for_a_gpu_and_no_others_do(tmp_path):
    rules = gpus_by_rule(tmp_path / "work")
    assert {Path(script).name for script, _ in rules.values()} >= {"train_sampler.py", "write_report.py"}
    wanted = {rule: int(runs_a_model(Path(script).name)) for rule, (script, _) in rules.items()}
    assert {rule: gpus for rule, (_, gpus) in rules.items()} == wanted
    assert sum(wanted.values()) == 15


def test_on_the_cpu_no_rule_asks_for_one(tmp_path):
    assert {gpus for _, gpus in gpus_by_rule(tmp_path / "work", ("model.device", "cpu")).values()} == {0}


@pytest.mark.parametrize("engine", ["sglang", "vllm"])
def test_a_model_on_several_gpus_gets_as_many(tmp_path, engine):
    sizes = {"tensor_parallel": 2, "data_parallel": 3}
    changes = [("generation.engine", engine), *((f"generation.{engine}.{key}", value) for key, value in sizes.items())]
    rules = gpus_by_rule(tmp_path / "work", *changes)
    assert {rule for rule, (_, gpus) in rules.items() if gpus == 6} == SAMPLING
    assert rules["replay_distributions"][1] == 1


def test_judges_ask_for_what_their_models_run_on(tmp_path):
    source = {"kind": "hub", "repo": "owner/name"}
    served = {"engine": "sglang", "sglang": {"tensor_parallel": 2, "data_parallel": 2}}
    kept_up = {"engine": "sglang", "sglang": {"endpoints": ["http://node:1"]}}
    far = {"kind": "endpoint", "name": "far", "base_url": "http://node:1/v1", "model": "m"}
    reference = {"kind": "likelihood", "name": "reference", "source": source}
    judges = [(far, 0), (reference, 1), ({**reference, **served}, 4), ({**reference, **kept_up}, 0)]
    judges.append(({**reference, "engine": "vllm", "vllm": {"tensor_parallel": 3}}, 3))
    judges += [({**reference, "device": "cpu"}, 0), ({**reference, "device": "cpu", **served}, 0)]
    for number, (judge, gpus) in enumerate(judges):
        rules = gpus_by_rule(tmp_path / str(number), ("labels.quality.judge", judge))
        assert rules["label_quality"][1] == rules["label_evaluation_quality"][1] == gpus, judge


class Stage:
    """What Snakemake gives a script."""

    threads = 1

    def __init__(self, log, resources):
        self.log, self.resources = [str(log)], resources


@pytest.mark.parametrize(
    ("job", "resources", "seen"),
    [("4711", {}, ""), ("4711", {"gpu": 0}, ""), ("4711", {"gpu": 1}, "3"), (None, {}, "3")],
)
def test_a_job_that_asked_for_no_gpu_sees_none(tmp_path, monkeypatch, job, resources, seen):
    """A node that does not fence devices off shows all of them to all jobs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    found = []
    run_stage(lambda stage: found.append(os.environ["CUDA_VISIBLE_DEVICES"]), Stage(tmp_path / "log", resources))
    assert found == [seen]
