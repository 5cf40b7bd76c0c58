"""A second generation of learned samplers: one of the first competes, and answers are taken over."""

import json

import pandas as pd
import pytest

from adaptive_samplers.tables import KEY, read_table
from support import SMOKE

pytestmark = [pytest.mark.pipeline, pytest.mark.model]

TARGET = "results/smoke/sampler_generations/comparison.csv"
SAMPLER = "SamplingNetwork/a0.7_b0.3_c0_top2"
CONFIG = {"sampler_generations": {"samplers": [SAMPLER]}}
SEEDS = SMOKE["seeds"]


@pytest.fixture(scope="module")
def generations(workflow):
    """The folders of both generations."""
    assert workflow.result(f"samplers/{SAMPLER}").is_dir()
    planned = workflow.planned(TARGET, config=CONFIG)
    assert planned["generate_candidates"] == len(SEEDS) and planned["compare_samplers"] == 1
    assert not {"fetch_model", "train_judge"} & set(planned), "what does not change is made once"
    done = workflow.run(TARGET, config=CONFIG)
    assert done.returncode == 0, done.stdout[-5000:]
    return workflow.result(""), workflow.result("sampler_generation=2")


def test_a_sampler_of_the_first_generation_is_a_heuristic_of_the_second(generations):
    first, second = (read_table("heuristics", folder / "heuristics.parquet") for folder in generations)
    [added] = second[~second["heuristic_id"].isin(first["heuristic_id"])].to_dict("records")
    assert len(second) == len(first) + 1
    step = {"name": "learned", "params": {"path": f"results/smoke/samplers/{SAMPLER}"}}
    assert json.loads(added["processors"]) == [step]
    prompts = len(read_table("prompts", generations[1] / "prompts.parquet"))
    for name, path in (("candidates", "candidates"), ("quality", "labels/quality"), ("scores", "scores")):
        labelled = read_table(name, generations[1] / f"{path}.parquet")
        assert (labelled["heuristic_id"] == added["heuristic_id"]).sum() == prompts * len(SEEDS)
    trained = read_table("training_sets", generations[1] / "training_sets" / "a0.7_b0.3_c0_top2.parquet")
    assert added["heuristic_id"] in set(trained["heuristic_id"])


def test_answers_of_the_first_generation_are_taken_over(workflow, generations):
    for seed in SEEDS:
        shard = f"candidates/seed={seed}/shard=0"
        first, second = (read_table("candidates", folder / f"{shard}.parquet").set_index(KEY) for folder in generations)
        pd.testing.assert_frame_equal(second.loc[first.index], first)
        log = workflow.folder / "logs/smoke/sampler_generation=2/generate_candidates" / f"seed={seed}" / "shard=0.log"
        assert f"{len(first)} of {len(second)} answers were finished before" in log.read_text()


def test_generations_stand_side_by_side(workflow, generations):
    comparison = pd.read_csv(workflow.folder / TARGET)
    assert comparison.columns[0] == "generation"
    quality = comparison[comparison["objective"] == "quality"]
    assert quality.loc[quality["kind"] == "learned", "generation"].tolist() == [1] * 3 + [2] * 3
    earlier = quality[quality["name"] == f"learned_{SAMPLER}"]
    assert earlier["generation"].tolist() == [2] and earlier["mean"].notna().all()
    assert set(pd.read_csv(workflow.result("sampler_generations/differences.csv"))["generation"]) == {1, 2}


def test_a_generation_follows_the_one_before_it(workflow, generations):
    assert not workflow.planned(TARGET, config=CONFIG), "nothing is made twice"
    planned = workflow.planned(TARGET, config=CONFIG | {"training": {"steps": SMOKE["training"]["steps"] + 1}})
    assert planned["generate_candidates"] == len(SEEDS), "the second generation's alone"
    assert planned["compare_samplers"] == 2
    assert not workflow.planned(config=CONFIG), "the run itself is as it was"
