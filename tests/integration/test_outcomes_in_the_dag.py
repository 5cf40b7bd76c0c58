"""Learning from outcomes in the DAG: what is recorded, trained, estimated and made again."""

import re

import pandas as pd
import pytest

from adaptive_samplers.files import read_json
from adaptive_samplers.fronts import HEURISTICS_TOGETHER
from adaptive_samplers.tables import read_table
from support import tiny_run
from tiny_judges import write_judge

pytestmark = [pytest.mark.pipeline, pytest.mark.model]

OUTCOMES = [
    {"kind": "imitation"},
    {"kind": "outcome", "steps": 4, "start_steps": 5, "horizon": 3},
    {"kind": "outcome", "name": "varied", "steps": 4, "start_steps": 5, "horizon": 3, "best_of": 2},
    {"kind": "pairs", "steps": 4, "start_steps": 5},
]
SAMPLERS = "results/tiny/samplers/LocalProbabilityTransform"
VARIED = f"{SAMPLERS}/a0.5_b0.5_c0_varied"
ESTIMATES = "results/tiny/off_policy/estimates.csv"
COMPARISON = "results/tiny/evaluation/comparison.parquet"
CONDITIONED = "ConditionedSamplingNetwork"
# One network for a whole front, instead of the other architecture; it reads embeddings, whatever diversity counts.
SMALL = {"d_model": 8, "d_ff": 12, "n_blocks": 1, "n_heads": 2}
FRONT = {
    "samplers": {"LocalProbabilityTransform": None, CONDITIONED: SMALL},
    "scoring": {"weights": [{"quality": 1.0}]},
    "training": {"objectives": OUTCOMES[1:2]},
    "evaluation": {"preferences": [0, 1]},
}


@pytest.fixture(scope="module")
def work(tiny_model_folder, tmp_path_factory):
    """A run of a tiny model with a judge, an architecture and four objectives."""
    place = tmp_path_factory.mktemp("outcomes")
    judge = str(write_judge(tiny_model_folder, place / "judge", "scalar"))
    work = tiny_run(
        place / "work",
        tiny_model_folder,
        [{"prompt": f"Write {number}.", "kind": "creative"} for number in range(60)],
        ("prompts.per_kind", {"train": 5, "validation": 3, "test": 2}),
        ("seeds", [0, 1]),
        ("generation.record_draws", True),
        ("labels.quality.judge", {"kind": "scalar", "name": "judge", "source": {"kind": "folder", "path": judge}}),
        ("scoring.weights", [{"diversity": 0.5, "quality": 0.5}]),
        ("samplers", {"LocalProbabilityTransform": {"hidden_dims": 8}}),
        ("training.objectives", OUTCOMES),
        ("off_policy", {"steps": 4, "shards": 2, "horizons": [2], "resamples": 50, "trust": {"effective": 1.1}}),
    )
    yield work
    work.kill()


def test_draws_are_recorded_for_objectives_that_need_them(work):
    assert "record_draws" not in work.planned(f"{SAMPLERS}/a0.5_b0.5_c0_top2")
    planned = work.planned(VARIED)
    assert planned["record_draws"] == 2 and "train_sampler" not in planned and "replay_distributions" not in planned


def test_a_whole_run_with_four_objectives(work):
    done = work.run("all", "off_policy")
    assert done.returncode == 0, done.stdout
    for name in ("top2", "outcome", "varied", "pairs"):
        metrics = read_json(work.folder / f"{SAMPLERS}/a0.5_b0.5_c0_{name}/metrics.json")
        assert metrics["split"] == ("test" if name == "top2" else "validation")
    assert read_json(work.folder / f"{VARIED}/metrics.json")["horizon"] == 3
    # Draws were recorded as answers were generated.
    logs = [path.read_text() for path in (work.folder / "logs/tiny/record_draws").glob("shard=*.log")]
    assert len(logs) == 2 and all(re.search(r"[1-9]\d* answers, 0 of them not replayed before", log) for log in logs)
    comparison = read_table("comparison", work.folder / "results/tiny/evaluation/comparison.parquet")
    learned = set(comparison["name"][comparison["kind"] == "learned"])
    assert learned == {
        f"LocalProbabilityTransform a0.5_b0.5_c0 {name}" for name in ("top2", "outcome", "varied", "pairs")
    }


def test_estimates_are_of_heuristics_the_grid_and_learned_samplers(work):
    table = pd.read_csv(work.folder / ESTIMATES)
    heuristics = read_table("heuristics", work.folder / "results/tiny/heuristics.parquet")
    assert set(heuristics["name"]) < set(table["name"]) and "temperature_0.2+min_p_0.05" in set(table["name"])
    assert set(table["name"][table["kind"] == "learned"]) == {
        f"LocalProbabilityTransform a0.5_b0.5_c0 {name}" for name in ("top2", "outcome", "varied", "pairs")
    }
    assert set(table["split"]) == {"train", "validation"} and table["trusted"].any()
    assert table["value"].notna().equals(table["trusted"])
    assert (work.folder / "results/tiny/figures/off_policy_surface.png").exists()


def test_another_option_trains_what_it_is_of(work):
    changed = [*OUTCOMES[:2], OUTCOMES[2] | {"best_of": 3}, OUTCOMES[3]]
    planned = work.planned("all", config={"training": {"objectives": changed}})
    assert planned["train_on_outcomes"] == 1 and not {"train_sampler", "record_draws"} & planned.keys()
    fewer = work.planned("off_policy", config={"off_policy": {"resamples": 60}})
    assert set(fewer) == {"estimate_samplers", "plot_off_policy", "off_policy"}


def test_families_are_compared_by_a_declared_plan(work):
    protocol = {"objectives": ["quality", "embedding_entropy"], "resamples": 100}

    def planning(**changes) -> dict:
        return {"evaluation": {"temperatures": [0.5, 1.0], "protocol": protocol | changes}}

    done = work.run("protocol", config=planning())
    assert done.returncode == 0, done.stdout
    place = work.folder / "results/tiny/protocol"
    plan, summary = read_json(place / "plan.json"), read_json(place / "summary.json")
    families = {f"LocalProbabilityTransform {name}" for name in ("imitation", "outcome", "varied", "pairs")}
    assert set(plan["claims"]) == families and all(len(plan["families"][family]) == 2 for family in families)
    assert {"raw logits", "temperature"} < set(plan["families"]) and plan["splits"]["validation"]["prompts"] == 3
    pairs = pd.read_csv(place / "pairs.csv").set_index("comparison")
    others = len(plan["families"]) - len(families)
    assert len(pairs.loc["families"]) == 2 * len(families) * others and len(pairs.loc["overall"]) == 2
    assert summary["plans"] == 1 and summary["read_before"], "the test before has compared test answers without a plan"
    answered = read_table("heuristics", work.folder / "results/tiny/validation/heuristics.parquet")
    assert "LocalProbabilityTransform a0.5_b0.5_c0 pairs temperature 0.5" in set(answered["name"])
    assert not work.planned("protocol", config=planning())
    # What else reads the labels of test answers waits for the plan, where a run has one.
    waiting = work.planned("all", config=planning(enabled=True))
    assert waiting["compare_samplers"] == waiting["summarize_labels"] == waiting["plot_distributions"] == 1
    # Another plan over the same prompts is refused, or counted.
    refused = work.run("protocol", config=planning(level=0.1))
    assert refused.returncode != 0 and f"another plan, {plan['plan']} of the run 'tiny', has read 2 of the 2" in (
        " ".join(refused.stdout.split())
    )
    counted = planning(level=0.1, further_plans="count")
    expected = {"declare_plan", "compare_families", "plot_protocol", "tabulate_protocol", "protocol"}
    assert set(work.planned("protocol", config=counted)) == expected
    done = work.run("protocol", config=counted)
    assert done.returncode == 0, done.stdout
    assert set(pd.read_csv(place / "pairs.csv")["plans"]) == {2}
    assert "read under 2 plans" in (work.folder / "results/tiny/tables/protocol.html").read_text()


def test_rounds_go_on_from_what_fresh_answers_accept(work):
    """Three generations: the second judges the first one's sampler, the third the second one's."""
    rounds = "results/tiny/sampler_generations/rounds"
    config = {
        "training": {"objectives": [OUTCOMES[1] | {"rounds": True, "accept_prompts": 2}]},
        "sampler_generations": {"generations": 3, "keep_earlier": True},
    }
    planned = work.planned(f"{rounds}.png", config=config)
    assert planned["train_on_outcomes"] == 3 and planned["record_draws"] == 4 and "compare_samplers" not in planned
    done = work.run(f"{rounds}.png", config=config)
    assert done.returncode == 0, done.stdout
    table = pd.read_csv(work.folder / f"{rounds}.csv")
    name = "learned_LocalProbabilityTransform/a0.5_b0.5_c0_outcome"
    assert table["generation"].tolist() == [1, 2] and table["sampler"].tolist() == [name, f"{name}@2"]
    assert (table["n_prompts"] == 3).all()
    generations = [
        work.folder / "results/tiny" / place for place in ("", "sampler_generation=2", "sampler_generation=3")
    ]
    metrics = [
        read_json(place / "samplers/LocalProbabilityTransform/a0.5_b0.5_c0_outcome/metrics.json")
        for place in generations
    ]
    for before, accepted, now in zip(metrics, table["accepted"], metrics[1:], strict=False):
        assert now["start"] == (now["round"]["sampler"] if accepted else before["start"])
    last = read_table("heuristics", generations[2] / "heuristics.parquet")
    assert {name, f"{name}@2"} < set(last["name"]), "earlier samplers still compete"
    for shard in range(2):
        log = work.folder / f"logs/tiny/sampler_generation=2/record_draws/shard={shard}.log"
        found = re.search(r"(\d+) answers, (\d+) of them not replayed before", log.read_text())
        assert int(found[2]) < int(found[1]) / 2, "answers of the first generation are taken over"
    assert not work.planned(f"{rounds}.png", config=config)


def test_a_sampler_that_takes_a_preference_is_compared_and_estimated_at_each(work):
    done = work.run(COMPARISON, ESTIMATES, config=FRONT)
    assert done.returncode == 0, done.stdout
    metrics = read_json(work.folder / f"results/tiny/samplers/{CONDITIONED}/a0_b1_c0_outcome/metrics.json")
    assert [*metrics["at_preferences"]] == ["0", "0.5", "1"]
    comparison, estimates = read_table("comparison", work.folder / COMPARISON), pd.read_csv(work.folder / ESTIMATES)
    expected = {f"{CONDITIONED} a0_b1_c0 outcome preference {preference}" for preference in (0, 1)}
    for table in (comparison, estimates):
        assert set(table["name"][table["kind"] == "learned"]) == expected
    fronts = pd.read_csv(work.folder / "results/tiny/evaluation/fronts.csv")
    assert set(fronts["front"]) == {HEURISTICS_TOGETHER, f"{CONDITIONED} a0_b1_c0 outcome"}
    planned = work.planned(COMPARISON, config=FRONT | {"evaluation": {"preferences": [0, 0.5, 1]}})
    assert planned["sample_with_sampler"] == planned["gather_evaluation"] == 1
    assert not {"train_on_outcomes", "record_draws", "generate_candidates"} & planned.keys()
