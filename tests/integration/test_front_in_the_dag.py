"""A sampler that takes a preference in the DAG: trained with embeddings, and evaluated at several preferences."""

import pandas as pd
import pytest

from adaptive_samplers.files import read_json
from adaptive_samplers.tables import read_table
from support import tiny_run
from tiny_judges import write_judge

pytestmark = [pytest.mark.pipeline, pytest.mark.model]

NAME = "ConditionedSamplingNetwork"
SAMPLER = f"results/tiny/samplers/{NAME}/a0_b1_c0_outcome"
COMPARISON = "results/tiny/evaluation/comparison.parquet"
ESTIMATES = "results/tiny/off_policy/estimates.csv"


@pytest.fixture(scope="module")
def work(tiny_model_folder, tmp_path_factory):
    """A run of a tiny model with a judge, and one network for a whole front, although diversity has no weight."""
    place = tmp_path_factory.mktemp("front")
    judge = str(write_judge(tiny_model_folder, place / "judge", "scalar"))
    work = tiny_run(
        place / "work",
        tiny_model_folder,
        [{"prompt": f"Write {number}.", "kind": "creative"} for number in range(60)],
        ("prompts.per_kind", {"train": 5, "validation": 3, "test": 2}),
        ("seeds", [0, 1]),
        ("labels.quality.judge", {"kind": "scalar", "name": "judge", "source": {"kind": "folder", "path": judge}}),
        ("scoring.weights", [{"quality": 1.0}]),
        ("samplers", {NAME: {"d_model": 8, "d_ff": 12, "n_blocks": 1, "n_heads": 2}}),
        ("training.objectives", [{"kind": "outcome", "steps": 4, "start_steps": 5, "horizon": 3}]),
        ("evaluation.preferences", [0, 1]),
        ("off_policy", {"steps": 4, "horizons": [2], "resamples": 50, "trust": {"effective": 1.1}}),
    )
    yield work
    work.kill()


def test_it_is_trained_compared_and_estimated_at_each_preference(work):
    done = work.run(COMPARISON, ESTIMATES)
    assert done.returncode == 0, done.stdout
    metrics = read_json(work.folder / SAMPLER / "metrics.json")
    assert [*metrics["at_preferences"]] == ["0", "0.5", "1"]
    comparison = read_table("comparison", work.folder / COMPARISON)
    expected = {f"{NAME} a0_b1_c0 outcome preference {preference}" for preference in (0, 1)}
    assert set(comparison["name"][comparison["kind"] == "learned"]) == expected
    estimates = pd.read_csv(work.folder / ESTIMATES)
    assert set(estimates["name"][estimates["kind"] == "learned"]) == expected


def test_other_preferences_train_nothing_anew(work):
    planned = work.planned(COMPARISON, config={"evaluation": {"preferences": [0, 0.5, 1]}})
    assert planned["sample_with_sampler"] == planned["gather_evaluation"] == 1
    assert not {"train_on_outcomes", "record_draws", "generate_candidates"} & planned.keys()
