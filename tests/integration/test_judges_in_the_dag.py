"""Judges that are models, in the DAG: by config alone, with nothing of the embedded judge left."""

import json
import os
import shutil

import pytest

from adaptive_samplers.tables import read_table
from support import working_directory
from tiny_judges import TEMPLATE, write_judge

pytestmark = [pytest.mark.pipeline, pytest.mark.model]


def judged_by(kind, folder, **judge):
    source = {"kind": "folder", "path": str(folder)}
    return {"labels": {"quality": {"judge": {"kind": kind, "name": f"tiny-{kind}", "source": source, **judge}}}}


@pytest.fixture(scope="module")
def judge_folders(tiny_model_folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("judges")
    return {kind: write_judge(tiny_model_folder, place / kind, kind) for kind in ("scalar", "pairwise")}


@pytest.mark.parametrize("kind", ["scalar", "pairwise"])
def test_a_model_takes_the_place_of_the_trained_judge(kind, judge_folders, tmp_path):
    planned = working_directory(tmp_path / "work").planned(config=judged_by(kind, judge_folders[kind]))
    assert "train_judge" not in planned
    assert planned["fetch_model"] == 3 and planned["label_quality"] == planned["label_evaluation_quality"] == 1


def test_answers_are_judged_by_the_model_of_the_config(workflow, judge_folders, tmp_path):
    copied = working_directory(tmp_path / "work")
    shutil.copytree(workflow.folder / ".snakemake", copied.folder / ".snakemake")
    shutil.copytree(workflow.folder / "results", copied.folder / "results", copy_function=os.link)
    labels = "results/smoke/labels/quality.parquet"

    config = judged_by("scalar", judge_folders["scalar"])
    done = copied.run(labels, config=config)
    # The tiny model's context is short: answers to long prompts fail, and the stage says so.
    assert done.returncode != 0 and "times: longer than 120 tokens" in done.stdout
    config["labels"]["quality"]["tolerance"] = 1.0
    done = copied.run(labels, config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    table = read_table("quality", copied.result("labels/quality.parquet"))
    report = json.loads(copied.result("labels/quality_report.json").read_text())
    assert report["judge"]["model"] == "tiny-scalar" and report["judge"]["calls_made"] == 0
    assert report["judge"]["answers_rated"] == table["reward"].notna().sum() > 50
    assert report["judge"]["answers_failed"] == table["reward"].isna().sum() > 0
    assert table.loc[table["reward"].isna(), "rating"].isna().all()
    assert copied.planned(labels, config=config) == {}

    # Where it computes, and how much at once, changes nothing.
    config["labels"]["quality"]["judge"] |= {"device": "cpu", "batch_size": 3, "sglang": {"concurrency": 7}}
    assert copied.planned(labels, config=config) == {}

    config = judged_by("pairwise", judge_folders["pairwise"], template=TEMPLATE, order="one")
    config["labels"]["quality"]["tolerance"] = 1.0
    assert copied.planned(labels, config=config) == {"fetch_model": 1, "label_quality": 1, "gather_quality": 1}
    done = copied.run(labels, config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    report = json.loads(copied.result("labels/quality_report.json").read_text())
    assert report["judge"]["kind"] == "pairwise" and report["judge"]["orders_disagree"] is None
    assert abs(report["judge"]["position_bias"]) <= 0.5 and report["failed"] < report["calls"]
