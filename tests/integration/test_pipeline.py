"""The real DAG: complete, repeatable, and stale exactly where it should be."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.compare import Settings, compare_families, read_results
from adaptive_samplers.measures import OBJECTIVES
from adaptive_samplers.tables import KEY, read_table
from support import REPOSITORY, Workflow, working_directory

pytestmark = [pytest.mark.pipeline, pytest.mark.model]

FIGURES = [
    "tradeoff",
    "ranking",
    "distributions",
    "training_curves",
    "kept_heuristics",
    "label_distributions",
    "label_correlations",
]
ENDINGS = {"all", "write_report"}
AFTER_TRAINING = {
    "sample_with_sampler",
    "gather_evaluation",
    "embed_evaluation",
    "label_evaluation_quality",
    "gather_evaluation_quality",
    "label_evaluation_diversity",
    "label_evaluation_correctness",
    "compare_samplers",
    "probe_distributions",
    "plot_tradeoff",
    "plot_ranking",
    "plot_distributions",
    "plot_training_curves",
    "tabulate_comparison",
    "tabulate_checks",
    "record_provenance",
    *ENDINGS,
}
BEFORE_TRAINING = {
    "embed_candidates",
    "label_quality",
    "gather_quality",
    "label_diversity",
    "label_correctness",
    "score_candidates",
    "summarize_labels",
    "plot_labels",
    "tabulate_labels",
}
SELECTION = {
    "select_training_set",
    "summarize_selection",
    "replay_distributions",
    "train_sampler",
    "plot_kept_heuristics",
}


def told(planned: dict[str, int]) -> set[str]:
    """The rules of planned jobs, without plots that are not told of above: who adds a figure need not add it here."""
    known = AFTER_TRAINING | BEFORE_TRAINING | SELECTION
    return {rule for rule in planned if rule in known or not rule.startswith("plot_")}


def test_everything_is_made(workflow):
    for name in FIGURES:
        assert workflow.result(f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
        assert workflow.result(f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    comparison = read_table("comparison", workflow.result("evaluation/comparison.parquet"))
    assert set(comparison["kind"]) == {"heuristic", "learned"}
    assert len(comparison["name"].unique()) == 4 + 3
    assert (comparison.query("objective == 'quality'")["n_prompts"] == 4).all()
    report = json.loads(workflow.result("candidates_report.json").read_text())
    assert report["expected"] == report["found"] == 16 * 4 * 2
    assert report["missing"] == report["duplicated"] == report["failed"] == []
    for architecture in ("LocalProbabilityTransform", "SimpleDistributionAwareTransform", "SamplingNetwork"):
        folder = workflow.result(f"samplers/{architecture}/a0.7_b0.3_c0_top2")
        assert type(AdaptiveSampler.from_pretrained(folder)).__name__ == architecture
        curves = pd.read_csv(folder / "curves.csv")
        assert set(curves["split"]) == {"train", "validation"}
        assert list((folder / "tensorboard").glob("events*"))


def test_provenance_names_hashes_and_licences_of_what_was_fetched(workflow):
    provenance = json.loads(workflow.result("provenance.json").read_text())
    models = {model["name"]: model for model in provenance["models"]}
    base = models["smollm2-135m-instruct"]
    assert base["license"] == "Apache-2.0"
    assert base["source"]["sha256"] == "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
    assert len(base["files"]["model.safetensors"]["sha256"]) == 64
    assert "all-minilm-l6-v2" in models
    assert provenance["settings"]["run"]["name"] == "smoke"
    assert provenance["versions"]["torch"].startswith("2.13.0")


def test_progress_is_readable_in_the_logs(workflow):
    logs = workflow.folder / "logs" / "smoke"
    for path, words in {
        "generate_candidates/seed=0/shard=0.log": "answers: 100%",
        "replay_distributions/shard=0.log": "replay: 100%",
        "train_sampler/SamplingNetwork/a0.7_b0.3_c0_top2.log": "training SamplingNetwork: 100%",
        "label_quality/shard=0.log": "judging answers: 100%",
    }.items():
        text = (logs / path).read_text()
        assert words in text
        assert "\r" not in text


def test_nothing_is_to_be_done_again(workflow):
    done = workflow.run()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


def test_a_new_title_reruns_nothing(workflow):
    assert workflow.planned(config={"run": {"title": "Another title"}}) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"generation": {"batch_size": 3}},
        {"model": {"device": "cpu"}},
    ],
)
def test_how_the_work_is_done_reruns_nothing(workflow, change):
    assert workflow.planned(config=change) == {}


def test_the_target_learnability(workflow):
    assert set(workflow.planned("learnability")) <= {
        "learn_heuristic",
        "plot_learnability",
        "tabulate_learnability",
        "learnability",
    }
    done = workflow.run("learnability")
    assert done.returncode == 0, done.stdout
    table = pd.read_csv(workflow.result("tables/learnability.csv"))
    assert len(table) == 3 * 2 and (table["kl"] < table["identity_kl"]).any()
    assert workflow.result("figures/learnability.png").read_bytes().startswith(b"\x89PNG")
    # Another heuristic is learned beside those that were.
    pipelines = [[{"temperature": 0.7}], [{"top_p": 0.9}], [{"top_k": 5}]]
    more = {"evaluation": {"learnability": {"heuristics": pipelines}}}
    assert workflow.planned("learnability", config=more)["learn_heuristic"] == 3
    assert workflow.planned("all", config=more) == {}


def test_the_target_repeated_sampling(workflow):
    own = {
        "extract_final_answers",
        "measure_repeated_sampling",
        "plot_repeated_sampling",
        "tabulate_repeated_sampling",
        "repeated_sampling",
    }
    assert set(workflow.planned("repeated_sampling")) <= own
    done = workflow.run("repeated_sampling")
    assert done.returncode == 0, done.stdout
    table = pd.read_csv(workflow.result("tables/repeated_sampling.csv"))
    coverage = table[(table["method"] == "pass_at_k") & (table["prompts"] == "verifiable")]
    assert set(coverage["n"]) == {1, 2} and coverage["mean"].between(0, 1).all()
    assert set(coverage["kind"]) == {"heuristic", "learned"}
    for name in ("coverage", "selecting"):
        assert workflow.result(f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    # Another confidence measures anew, and neither labels nor extracts anything.
    surer = {"evaluation": {"repeated_sampling": {"confidence": 0.99}}}
    assert set(workflow.planned("repeated_sampling", config=surer)) == own - {"extract_final_answers"}
    assert workflow.planned("all", config=surer) == {}
    # Where it is enabled it is part of the report.
    enabled = {"evaluation": {"repeated_sampling": {"enabled": True}}}
    assert set(workflow.planned("all", config=enabled)) == {*ENDINGS}


def test_a_training_rate_reruns_training_and_what_follows(workflow):
    planned = workflow.planned(config={"training": {"learning_rate": 0.002}})
    assert told(planned) == {"train_sampler", *AFTER_TRAINING}
    assert planned["train_sampler"] == 3


def test_an_architecture_reruns_its_own_training_only(workflow):
    planned = workflow.planned(config={"samplers": {"LocalProbabilityTransform": {"hidden_dims": 32}}})
    assert told(planned) == {"train_sampler", *AFTER_TRAINING}
    assert planned["train_sampler"] == planned["sample_with_sampler"] == 1


def test_a_sampler_that_was_trained_again_answers_again_alone(workflow, tmp_path):
    shutil.copytree(workflow.folder, tmp_path / "work", symlinks=True)
    work = Workflow(tmp_path / "work")
    made = {path: path.read_bytes() for path in work.result("evaluation/samplers").glob("*/*.parquet")}
    assert len(made) == 3
    # Another sampler's file is asked for: it comes from the same job.
    target = "results/smoke/evaluation/samplers/SamplingNetwork/a0.7_b0.3_c0_top2.parquet"
    done = work.run(target, config={"samplers": {"LocalProbabilityTransform": {"hidden_dims": 32}}})
    assert done.returncode == 0, done.stdout
    assert "16 of 24 answers were finished before" in done.stdout
    changed = {path.parent.name for path, before in made.items() if path.read_bytes() != before}
    assert changed == {"LocalProbabilityTransform"}


def test_samplers_are_split_among_jobs(workflow):
    planned = workflow.planned(config={"evaluation": {"sampling_jobs": 2}})
    assert planned["sample_with_sampler"] == planned["sample_with_sampler_2"] == 1
    assert "train_sampler" not in planned and "sample_with_sampler_3" not in planned


def test_another_interval_reruns_the_comparison_only(workflow):
    planned = workflow.planned(config={"evaluation": {"confidence": 0.9}})
    assert told(planned) == {
        "compare_samplers", "plot_tradeoff", "plot_ranking", "tabulate_comparison", "record_provenance", *ENDINGS
    }  # fmt: skip


def test_a_tournament_setting_reruns_quality_and_what_follows(workflow):
    planned = workflow.planned(config={"labels": {"quality": {"tournament": {"schedule": "round_robin"}}}})
    assert "label_quality" in planned
    assert not {"generate_candidates", "label_diversity", "label_correctness", "embed_candidates"} & set(planned)


def test_what_still_holds_is_taken_over_and_a_deleted_shard_is_made_again(workflow):
    shard, sketches = (
        workflow.result("candidates/seed=1/shard=0.parquet"),
        workflow.result("sketches/shard=0.safetensors"),
    )
    comparison = workflow.result("evaluation/comparison.parquet")
    made = {path: path.read_bytes() for path in (sketches, comparison)}
    answers = pd.read_parquet(shard)

    # Another weight: selection is done again, and only new answers are replayed.
    weights = [{"diversity": 0.7, "quality": 0.3, "correctness": 0.0}, {"diversity": 0.0, "quality": 1.0}]
    change = {"scoring": {"weights": weights}}
    planned = workflow.planned(config=change)
    assert told(planned) == {*SELECTION, *AFTER_TRAINING}
    assert planned["select_training_set"] == 1
    # The old weights' samplers are looked at again, for their shard grows, and found to be finished.
    assert planned["train_sampler"] == 6
    done = workflow.run("results/smoke/sketches/shard=0.safetensors", config=change)
    assert done.returncode == 0, done.stdout
    log = (workflow.folder / "logs/smoke/replay_distributions/shard=0.log").read_text()
    replayed, new = map(int, re.search(r"(\d+) answers, (\d+) of them not replayed before", log).groups())
    assert 0 < new < replayed

    # Another heuristic: it generates only its own answers.
    change = {"heuristics": {"pipelines": [[{"top_k": 5}]]}}
    done = workflow.run("results/smoke/candidates/seed=0/shard=0.parquet", config=change)
    assert done.returncode == 0, done.stdout
    assert "64 of 80 answers were finished before" in done.stdout

    # A shard that is deleted: it is made again, with what depends on it.
    shard.unlink()
    planned = workflow.planned()
    assert planned["generate_candidates"] == 2
    assert {"verify_candidates", *BEFORE_TRAINING, *SELECTION, *AFTER_TRAINING} <= set(planned)

    # Back at the old config, the rest has to be neither sampled nor read again, and every file holds what it held.
    done = workflow.run()
    assert done.returncode == 0, done.stdout
    assert "64 of 64 answers were finished before" in done.stdout
    assert ", 0 of them not replayed before" in done.stdout
    pd.testing.assert_frame_equal(pd.read_parquet(shard), answers)
    assert {path: path.read_bytes() for path in made} == made


@pytest.mark.fault
def test_a_killed_generation_keeps_every_finished_answer(workflow, tmp_path):
    killed = working_directory(tmp_path / "work")
    change = {"run": {"name": "killed"}, "generation": {"batch_size": 8}}
    target = "results/killed/candidates/seed=0/shard=0.parquet"
    part = killed.folder / f"{target}.part"
    process = subprocess.Popen(
        killed.command(target, config=change),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (part.exists() and len(part.read_text().splitlines()) > 12):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    whole = part.read_text()[: part.read_text().rindex("\n") + 1]
    kept = {tuple(row["key"]): row["token_ids"] for row in map(json.loads, whole.splitlines()[1:])}
    assert 12 <= len(kept) < 64
    # A kill may leave half a line; it must cost that row alone.
    part.write_text(whole + '{"key": ["half')
    done = killed.run(target, config=change)
    assert done.returncode == 0, done.stdout
    assert f"{len(kept)} of 64 answers were finished before" in done.stdout
    answers = read_table("candidates", killed.folder / target)
    assert len(answers) == 64
    assert not answers.duplicated(KEY).any()
    assert not part.exists()
    found = {tuple(row[:3]): list(row[3]) for row in answers[[*KEY, "token_ids"]].itertuples(index=False)}
    assert all(found[key] == tokens for key, tokens in kept.items())
    # And they are the answers of a run that nobody killed.
    undisturbed = read_table("candidates", workflow.result("candidates/seed=0/shard=0.parquet"))
    assert [list(ids) for ids in undisturbed["token_ids"]] == [list(ids) for ids in answers["token_ids"]]


def test_what_a_run_has_found_is_compared_after_equal_tries(workflow):
    results = read_results(workflow.result(""))
    comparison = read_table("comparison", workflow.result("evaluation/comparison.parquet"))
    means = comparison.dropna(subset="mean").set_index(["objective", "family", "name"])["mean"]
    compared = results.only(comparison["objective"].unique())
    for objective in compared.objectives:
        sign = 1 if OBJECTIVES[objective.name].higher_is_better else -1
        names = zip(objective.families, objective.configurations, strict=True)
        expected = [means[objective.name, family, name] for family, name in names]
        assert (sign * objective.values.mean(axis=1)).tolist() == pytest.approx(expected, abs=1e-9)
    found = compare_families(results, Settings(claims=["learned"], resamples=200))
    assert found.tries == 1 and not found.claims["learned"], "four prompts show nothing"


def test_bad_config_is_one_clear_message_before_any_job(workflow):
    done = workflow.run(config={"heuristics": {"grid": [{"family": "topp", "values": [0.9]}]}})
    assert done.returncode != 0
    assert "heuristics.grid[0].family" in done.stdout
    assert "top_p" in done.stdout
    assert "Traceback" not in done.stdout
    assert "Select jobs" not in done.stdout


@pytest.mark.parametrize("arguments", [["--lint"], ["--dry-run", "--profile", "slurm"]])
def test_the_workflow_itself_is_in_order(arguments):
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
