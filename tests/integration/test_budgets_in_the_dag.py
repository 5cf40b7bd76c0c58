"""Adaptive budgets in the DAG: two phases, nothing made twice, a second phase that survives a kill, a balanced test."""

import re

import numpy as np
import pandas as pd
import pytest

from adaptive_samplers.files import read_json
from adaptive_samplers.tables import KEY, read_table
from support import freeze_generation, tiny_run
from tiny_judges import write_judge

pytestmark = [pytest.mark.pipeline, pytest.mark.model, pytest.mark.fault]

SEEDS, FIRST = [0, 1, 2], [0, 1]
CANDIDATES, SELECTION = "results/tiny/candidates.parquet", "results/tiny/selection/report.json"
ALLOCATION, SHARD = "results/tiny/allocation.parquet", "results/tiny/candidates/seed=2/shard=0.parquet"


@pytest.fixture(scope="module")
def work(tiny_model_folder, tmp_path_factory):
    """The answers of a tiny model in two phases, of which the second was killed once, labelled and selected."""
    place = tmp_path_factory.mktemp("budgets")
    prompts = [
        {"prompt": f"{'Add' if number % 2 else 'Write'} {number}.", "kind": "verifiable" if number % 2 else "creative"}
        | ({"verifier": "regex", "ground_truth": "[aeiou]"} if number % 2 else {"verifier": None, "ground_truth": None})
        for number in range(200)
    ]
    judge = str(write_judge(tiny_model_folder, place / "judge", "scalar"))
    work = tiny_run(
        place / "work",
        tiny_model_folder,
        prompts,
        ("prompts.per_kind", {"train": 6, "validation": 2, "test": 2}),
        ("seeds", SEEDS),
        ("generation.batch_size", 4),
        ("generation.adaptive.enabled", True),
        ("generation.adaptive.keep", 2),
        ("generation.adaptive.keep_share", 1.0),
        ("generation.adaptive.confidence", 0.05),  # so that something is eliminated by this little
        ("generation.adaptive.weights", [{"quality": 1.0}]),
        ("labels.quality.judge", {"kind": "scalar", "name": "judge", "source": {"kind": "folder", "path": judge}}),
        ("scoring.weights", [{"quality": 1.0}]),
    )
    yield work
    work.kill()


def table(work, name, path):
    return read_table(name, work.folder / "results" / "tiny" / path)


def keys(rows):
    return set(rows[KEY].itertuples(index=False, name=None))


def test_the_second_phase_goes_on_after_a_kill(work):
    planned = work.planned(SELECTION)
    assert planned["generate_candidates"] == 2 and planned["generate_allocated"] == 1
    assert {planned[rule] for rule in ("embed_budget_phase", "label_budget_quality", "label_budget_correctness")} == {2}
    assert not {"label_quality", "embed_candidates", "label_correctness", "verify_candidates"} & set(planned)

    done = work.run(ALLOCATION)
    assert done.returncode == 0, done.stdout[-5000:]
    part = work.folder / f"{SHARD}.part"
    process = work.start(SHARD)
    _, kept = freeze_generation(part, process)
    work.kill()
    assert not (work.folder / SHARD).exists() and kept
    first = {
        path: path.stat().st_mtime_ns
        for seed in FIRST
        for path in work.folder.glob(f"results/tiny/candidates/seed={seed}/*")
    }
    done = work.run(SELECTION)
    assert done.returncode == 0, done.stdout[-5000:]
    log = (work.folder / "logs/tiny/generate_allocated/seed=2/shard=0.log").read_text()
    assert f"{len(kept)} of " in log and "answers were finished before" in log
    assert {path: path.stat().st_mtime_ns for path in first} == first
    answers = table(work, "candidates", "candidates.parquet").set_index(KEY)
    assert all(answers.loc[key, "token_ids"].tolist() == tokens for key, tokens in kept.items())
    assert work.planned(SELECTION) == {}


def test_the_answers_are_those_of_the_allocation(work):
    prompts, heuristics = table(work, "prompts", "prompts.parquet"), table(work, "heuristics", "heuristics.parquet")
    allocation, answers = table(work, "allocation", "allocation.parquet"), table(work, "candidates", CANDIDATES[13:])
    everyone = {
        (prompt, heuristic, seed)
        for prompt in prompts["prompt_id"]
        for heuristic in heuristics["heuristic_id"]
        for seed in FIRST
    }
    assert keys(answers) == everyone | keys(allocation) and not answers.duplicated(KEY).any()
    report = read_json(work.folder / "results/tiny/allocation_report.json")
    training = set(prompts.loc[prompts["split"] == "train", "prompt_id"])
    spent = answers["prompt_id"].isin(training).sum()
    counts = report["answers"]
    assert counts["first_phase"] + counts["second_phase"] == spent <= counts["budget"]
    assert counts["budget"] == 0.75 * len(training) * len(heuristics) * len(SEEDS)
    gone = {row["heuristic_id"] for row in report["heuristics"] if row["eliminated"]}
    assert gone and not gone & set(allocation.loc[allocation["prompt_id"].isin(training), "heuristic_id"])
    # The comparison stays balanced.
    held_out = answers[~answers["prompt_id"].isin(training)]
    assert len(held_out) == (len(prompts) - len(training)) * len(heuristics) * len(SEEDS)
    found = read_json(work.folder / "results/tiny/candidates_report.json")
    assert found["expected"] == found["found"] == len(answers) and found["missing"] == []


def test_every_answer_is_labelled_once(work):
    answers = table(work, "candidates", "candidates.parquet")
    for label in ("quality", "diversity", "correctness"):
        labels = table(work, label, f"labels/{label}.parquet")
        assert keys(labels) == keys(answers) and len(labels) == len(answers)
    quality = table(work, "quality", "labels/quality.parquet")
    means = quality.groupby(["prompt_id", "seed"])["rating"].mean()
    np.testing.assert_allclose(means.dropna(), 0, atol=1e-9)
    first = table(work, "quality", "first_phase/labels/quality.parquet")
    both = quality[quality["seed"].isin(FIRST)].sort_values(KEY, ignore_index=True)
    pd.testing.assert_frame_equal(both, first.sort_values(KEY, ignore_index=True))
    report = read_json(work.folder / "results/tiny/labels/quality_report.json")
    assert report["groups"] == len(means)


def test_what_was_not_asked_for_is_not_missed(work):
    answers = table(work, "candidates", "candidates.parquet")
    report = read_json(work.folder / SELECTION)
    assert report["answers"]["all"]["expected"] == len(answers)
    assert report["answers"]["all"]["incomplete"] == 0
    assert report["groups"] == len(answers.groupby(["prompt_id", "seed"]))


def test_another_budget_makes_only_what_is_new(work):
    before = table(work, "candidates", "candidates.parquet")
    smaller = {"generation": {"adaptive": {"budget": 0.7}}}
    planned = work.planned(CANDIDATES, config=smaller)
    assert planned["allocate_budget"] == 1 and planned["generate_allocated"] == 1
    assert not {"generate_candidates", "label_budget_quality", "embed_budget_phase"} & set(planned)
    done = work.run(CANDIDATES, config=smaller)
    assert done.returncode == 0, done.stdout[-3000:]
    after = table(work, "candidates", "candidates.parquet")
    assert keys(after) < keys(before)
    for path in (work.folder / "logs/tiny/generate_allocated").glob("*/*.log"):
        finished, of = map(int, re.search(r"(\d+) of (\d+) answers were finished before", path.read_text()).groups())
        assert finished == of
    # Without budgets, the later seeds are filled up to what a run that never had any makes.
    uniform = {"generation": {"adaptive": {"enabled": False}}}
    done = work.run(CANDIDATES, config=uniform)
    assert done.returncode == 0, done.stdout[-3000:]
    whole = table(work, "candidates", "candidates.parquet")
    prompts, heuristics = table(work, "prompts", "prompts.parquet"), table(work, "heuristics", "heuristics.parquet")
    assert len(whole) == len(prompts) * len(heuristics) * len(SEEDS) and keys(before) < keys(whole)
    merged = whole.merge(before, on=KEY, suffixes=("", "_before"))
    assert len(merged) == len(before) and (merged["text"] == merged["text_before"]).all()
