"""Judges that are models, in the DAG: by config alone, with nothing of the embedded judge left."""

import json
import os
import shutil

import pandas as pd
import pytest

from adaptive_samplers.labels.judges.feature_reward import TEXT_FEATURES
from adaptive_samplers.labels.judges.registry import DEFAULT_FEATURES
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


@pytest.mark.parametrize("kind", ["scalar", "pairwise", "likelihood"])
def test_a_model_takes_the_place_of_the_trained_judge(kind, judge_folders, tmp_path):
    planned = working_directory(tmp_path / "work").planned(
        config=judged_by(kind, judge_folders.get(kind, judge_folders["pairwise"]))
    )
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


def test_several_judges_are_compared_and_averaged_and_none_is_asked_again(workflow, judge_folders, tmp_path):
    copied = working_directory(tmp_path / "work")
    shutil.copytree(workflow.folder / ".snakemake", copied.folder / ".snakemake")
    shutil.copytree(workflow.folder / "results", copied.folder / "results", copy_function=os.link)
    labels, evaluation = (f"results/smoke/{part}labels/quality.parquet" for part in ("", "evaluation/"))
    alone = read_table("quality", copied.result("labels/quality.parquet"))

    scalar = judged_by("scalar", judge_folders["scalar"])["labels"]["quality"]["judge"]
    likelihood = judged_by("likelihood", judge_folders["pairwise"])["labels"]["quality"]["judge"]
    quality = {"others": [scalar], "tolerance": 0.0}
    config = {"labels": {"quality": quality}}
    wanted = {"fetch_model": 1, "label_quality_by_others": 1, "gather_quality": 2, "combine_quality": 1}
    assert copied.planned(labels, config=config) == wanted
    # The tiny model's context is short; of the embedded judge no call fails, so that it need not be asked again.
    done = copied.run(labels, config=config)
    assert done.returncode != 0 and "times: longer than 120 tokens" in done.stdout
    quality["tolerance"] = 1.0
    wanted = {"label_quality": 1, "label_quality_by_others": 1, "gather_quality": 2, "combine_quality": 1}
    assert copied.planned(labels, config=config) == wanted
    done = copied.run(labels, config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    report = json.loads(copied.result("labels/quality_report.json").read_text())
    names = ["feature_reward", "tiny-scalar"]
    assert list(report["judges"]) == names and report["combine"] == "first"
    (agreement,) = report["agreement"]
    assert agreement["judges"] == names and -1 <= agreement["kendall_tau"] <= 1 and agreement["groups"] > 10
    assert report["judge"]["kind"] == report["judges"]["feature_reward"]["kind"] == "feature_reward"
    assert report["judges"]["tiny-scalar"]["answers_failed"] > 0 == report["judges"]["feature_reward"]["failed"]
    first = read_table("quality", copied.result("labels/quality/feature_reward.parquet"))
    assert first.equals(read_table("quality", copied.result("labels/quality.parquet"))) and first.equals(alone)
    assert copied.planned(labels, config=config) == {}

    # One judge more asks none of the others again, and neither does another way of combining them.
    quality["others"] = [likelihood, scalar]
    wanted = {"fetch_model": 1, "label_quality_by_others": 1, "gather_quality": 1, "combine_quality": 1}
    assert copied.planned(labels, config=config) == wanted
    quality["combine"] = "mean"
    done = copied.run(labels, config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    quality["combine"] = "first"
    assert copied.planned(labels, config=config) == {"combine_quality": 1}
    quality["combine"] = "mean"
    # New labels make new samplers, whose answers would be judged: those that are there are enough here.
    rules = ["label_evaluation_quality", "label_evaluation_quality_by_others"]
    rules += ["gather_evaluation_quality", "combine_evaluation_quality"]
    done = copied.run(evaluation, "--allowed-rules", *rules, config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    for part in ("", "evaluation/"):
        report = json.loads(copied.result(f"{part}labels/quality_report.json").read_text())
        assert len(report["agreement"]) == 3 and set(report["judges"]) == {*names, "tiny-likelihood"}
        table = read_table("quality", copied.result(f"{part}labels/quality.parquet"))
        assert report["answers_rated"]["all"] > 10 and table["rating"].notna().sum() >= report["answers_rated"]["all"]
        assert table["rating"].abs().max() < 4 and table["reward"].isna().all()


def test_the_embedded_judge_may_be_one_of_the_others(judge_folders, tmp_path):
    config = judged_by("scalar", judge_folders["scalar"])
    config["labels"]["quality"]["others"] = [{"kind": "feature_reward", "pairs": "resources/judge_pairs.jsonl"}]
    planned = working_directory(tmp_path / "work").planned(config=config)
    assert planned["train_judge"] == planned["label_quality"] == planned["label_quality_by_others"] == 1
    assert planned["gather_quality"] == planned["gather_evaluation_quality"] == 2
    assert planned["combine_quality"] == planned["combine_evaluation_quality"] == 1


LIKELIHOOD = {"kind": "feature_reward", "name": "likelihood", "features": list(DEFAULT_FEATURES)}


def test_a_judge_of_likelihood_is_trained_and_judges_beside_the_other(workflow, tmp_path):
    """Trained on the real models' features of the project's own pairs; each share is cross-validated over prompts."""
    copied = working_directory(tmp_path / "work")
    shutil.copytree(workflow.folder / ".snakemake", copied.folder / ".snakemake")
    shutil.copytree(workflow.folder / "results", copied.folder / "results", copy_function=os.link)
    config = {"labels": {"quality": {"others": [LIKELIHOOD]}}}
    target = "results/smoke/tables/judge_likelihood.csv"
    wanted = {"train_judge": 1, "label_quality_by_others": 1, "gather_quality": 2, "combine_quality": 1}
    assert copied.planned(target, config=config) == {**wanted, "summarize_labels": 1}
    done = copied.run(target, config=config)
    assert done.returncode == 0, done.stdout[-3000:]

    report = json.loads(copied.result("judge/likelihood/report.json").read_text())
    assert report["pairs"] == 264 and report["left_out"] == 0 and set(report["weights"]) == set(DEFAULT_FEATURES)
    # Cosine of prompt and answer, the best of single features, is right in 0.92 of such pairs.
    assert report["accuracy"] >= 0.98
    shares = report["accuracy_by_corruption"]
    assert {name: shares[name] for name in shares if name != "temperature_1.3"} == dict.fromkeys(
        ("other", "repeated", "shuffled", "temperature_1.7", "truncated"), 1.0
    )
    # Answers drawn at temperature 1.3 are not all bad.
    assert shares["temperature_1.3"] >= 0.9
    # A corruption that training never saw is told nearly as well.
    assert min(report["accuracy_corruption_left_out"].values()) >= 0.94
    table = read_table("quality", copied.result("labels/quality/likelihood.parquet"))
    first = read_table("quality", copied.result("labels/quality/feature_reward.parquet"))
    assert table["reward"].notna().equals(first["reward"].notna()) and not table["reward"].equals(first["reward"])
    rows = pd.read_csv(copied.result("tables/judge_likelihood.csv"))
    measures = [(judge, measure) for judge in ("feature_reward", "likelihood") for measure in ("rating", "reward")]
    assert list(zip(rows["judge"], rows["measure"], strict=True)) == measures
    assert (rows["r_squared_low"] <= rows["r_squared_high"]).all() and (rows["answers"] > 50).all()
    assert rows["r_squared"].between(0, 1).all()


@pytest.mark.parametrize(("judge", "times"), [(LIKELIHOOD, 1), ({}, 0)])
def test_samples_of_a_policy_are_read_by_the_base_model_only_for_a_judge_of_likelihood(judge, times, tmp_path):
    config = {"iteration": {"command": "touch {output} {data} {model}"}, "labels": {"quality": {"judge": judge}}}
    target = "results/smoke/iteration/iteration=1/embeddings.parquet"
    planned = working_directory(tmp_path / "work").planned(target, config=config)
    assert planned.get("score_iteration", 0) == times and planned["embed_iteration"] == 1


def test_a_judge_behind_an_endpoint_needs_no_model(tmp_path):
    judge = {"kind": "endpoint", "name": "far", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    work, config = working_directory(tmp_path / "work"), {"labels": {"quality": {"judge": judge}}}
    planned = work.planned(config=config)
    assert "train_judge" not in planned and planned["fetch_model"] == 2 and planned["label_quality"] == 1
    assert work.planned("preferences", config=config)["fetch_model"] == 1


def test_the_embedded_judge_of_text_tells_written_answers_from_corrupted_ones(workflow):
    """Each share is cross-validated over prompts."""
    report = json.loads(workflow.result("judge/feature_reward/report.json").read_text())
    assert report["pairs"] == 264 and report["left_out"] == 0 and set(report["weights"]) == set(TEXT_FEATURES)
    assert report["accuracy"] >= 0.98 and min(report["accuracy_corruption_left_out"].values()) >= 0.9
