"""What `make plan` says: its arithmetic against numbers worked out otherwise, and what it reads from a dry run."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.engines.registry import ENGINES
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.tournament import run_tournaments
from adaptive_samplers.off_policy import RecordedDraws
from adaptive_samplers.off_policy.shards import SketchShard
from adaptive_samplers.plan import (
    Assumptions,
    Prompts,
    billions_of_parameters,
    comparisons_in_a_tournament,
    estimate,
    job_counts,
    planned_prompts,
    render,
)
from support import HUB, changed

KINDS = {"creative": 0.25, "verifiable": 0.5, "factual": 0.25, "chat": 0.0}
PROMPTS = Prompts(train=50, validation=20, test=30, kinds=KINDS)
ASSUMED = Assumptions(
    tokens_per_second=1000,
    in_process_tokens_per_second=100,
    judge_tokens_per_second=2000,
    replay_tokens_per_second=500,
    texts_per_second=10,
    training_steps_per_second=2,
    groups_per_second=5,
    verifications_per_second=4,
    start_minutes=6,
    answer_share=0.5,
    prompt_tokens=80,
    instruction_tokens=20,
    bytes_per_token=10,
    bytes_per_row=50,
    bytes_per_vector=1000,
)
JUDGE = {"kind": "scalar", "name": "judge", "source": {"kind": "hub", "repo": "owner/Judge-6B"}, "engine": "sglang"}


@pytest.fixture
def field_config(good_config):
    """Four heuristics, two seeds, a 3B model on SGLang, answers of 100 tokens."""
    grid = [{"family": "temperature", "temperatures": [0.5, 1.0]}, {"family": "top_k", "values": [5, 10]}]
    return changed(
        good_config,
        ("model", {"name": "base", "source": {"kind": "hub", "repo": "owner/Base-3B"}}),
        ("heuristics", {"grid": grid}),
        ("seeds", [0, 1]),
        ("generation", {"engine": "sglang", "max_new_tokens": 200, "shards": 2}),
        ("scoring.top_k", [1]),
        ("training.steps", 400),
        ("training.replay_shards", 2),
    )


@pytest.fixture
def estimated(config_folder):
    def of(config, assumptions=ASSUMED, prompts=PROMPTS):
        return estimate(typed_config(load_config(config, config_folder)), prompts, assumptions)

    return of


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("meta-llama/Llama-3.2-3B-Instruct", 3),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5),
        ("google/gemma-3-4b-it", 4),
        ("Skywork/Skywork-Reward-V2-Llama-3.1-8B", 8),
        ("NiuTrans/GRAM-LLaMA3.2-3B-RewardModel", 3),
        ("smollm2-135m-instruct", 0.135),
        ("owner-7b/phi-4", None),
        ("all-minilm-l6-v2", None),
    ],
)
def test_the_size_in_a_name(name, billions):
    assert billions_of_parameters(name) == billions


@pytest.mark.parametrize("competitors", [2, 3, 5, 8, 13, 24])
@pytest.mark.parametrize(
    ("schedule", "rounds", "budget"),
    [
        ("swiss", None, None),
        ("swiss", 3, None),
        ("round_robin", None, None),
        ("adaptive", None, None),
        ("adaptive", 2, 7),
    ],
)
def test_comparisons_are_those_of_a_real_tournament(competitors, schedule, rounds, budget):
    asked = []

    def judge(comparisons):
        asked.extend(comparisons)
        return np.full(len(comparisons), 0.5)

    players = [f"h{i}" for i in range(competitors)]
    adaptive = {"comparisons": budget, "confidence": None}
    run_tournaments({("p", 0): players}, judge, schedule, rounds, regularization=0.1, seed=0, adaptive=adaptive)
    assert comparisons_in_a_tournament(competitors, schedule, rounds, budget) == len(asked)


def test_counts(field_config, estimated):
    counts = estimated(field_config).counts
    assert counts["answers"] == 100 * 4 * 2
    assert counts["generated tokens"] == 100 * 4 * 2 * 100
    assert counts["learned samplers"] == 2 * 3  # weightings, architectures
    assert counts["selected answers (at most)"] == 100 * 2 * 2
    assert "judge calls" not in counts


def test_verbalized_heuristics_write_whole_replies_and_train_nothing(field_config, estimated):
    entries = [{"answers": 3}, {"answers": 2, "max_new_tokens": 400}]
    plain, counts = (
        estimated(field_config).counts,
        estimated(changed(field_config, ("heuristics.verbalized", entries))).counts,
    )
    assert counts["answers"] == 100 * 6 * 2
    assert counts["generated tokens"] == 100 * 2 * (4 * 100 + 0.5 * (3 * (200 + 32) + 400))
    assert counts["selected answers (at most)"] == plain["selected answers (at most)"]


def test_hours(field_config, estimated):
    work = estimated(field_config).work
    start = 0.1
    # 50 prompts under 4 heuristics, 100 tokens each, 1000 tokens a second
    assert work["generate_candidates"].hours == pytest.approx(20 / 3600 + start)
    # 30 prompts under 6 learned samplers, in two jobs
    assert work["sample_with_sampler"].hours == pytest.approx(3 * 30 * 2 * 100 / 1000 / 3600 + start)
    assert work["sample_with_sampler_2"] == work["sample_with_sampler"]
    # With a declared plan, validation prompts are answered too, in jobs of their own.
    planned = estimated(changed(field_config, ("evaluation.protocol.enabled", True)))
    answered = planned.work["sample_with_sampler"].hours - start
    assert answered == pytest.approx(3 * (PROMPTS.test + PROMPTS.validation) / 2 * 2 * 100 / 1000 / 3600)
    plain = estimated(field_config)
    grown = planned.disk["labels and scores"] - plain.disk["labels and scores"]
    assert grown == pytest.approx(PROMPTS.validation * (4 + 6) * 2 * ASSUMED.bytes_per_row)
    assert work["embed_candidates"].hours == pytest.approx(80 / 3600 + start)
    assert work["embed_evaluation"].hours == pytest.approx(30 * 6 * 2 / 10 / 3600 + start)
    assert work["label_diversity"].hours == pytest.approx(400 / 5 / 3600)
    assert work["label_correctness"].hours == pytest.approx(400 / 4 / 3600)
    assert work["replay_distributions"].hours == pytest.approx(200 * 180 / 500 / 3600 + start)
    assert work["train_sampler"].hours == pytest.approx(200 / 3600)
    assert work["generate_candidates"].gpus == work["replay_distributions"].gpus == 1
    assert work["label_diversity"].gpus == work["train_sampler"].gpus == 0
    assert "label_quality" not in work  # the embedded judge takes no time to speak of


def test_samplers_are_split_among_jobs(field_config, estimated):
    work = estimated(changed(field_config, ("evaluation.sampling_jobs", 4))).work
    samplers = {"sample_with_sampler": 2, "sample_with_sampler_2": 2, "sample_with_sampler_3": 1} | {
        "sample_with_sampler_4": 1
    }
    for rule, count in samplers.items():
        assert work[rule].hours == pytest.approx(count * 30 * 2 * 100 / 1000 / 3600 + 0.1)
    assert "sample_with_sampler_5" not in work


def test_a_sampler_that_takes_a_preference_answers_at_several(field_config, estimated):
    def hours(preferences):
        changes = [("samplers", {"ConditionedSamplingNetwork": {}}), ("evaluation.preferences", preferences)]
        return estimated(changed(field_config, *changes)).work["sample_with_sampler"].hours - 0.1

    assert hours([0.0, 0.25, 0.5, 1.0]) == pytest.approx(4 * hours([0.5]))


def test_a_larger_model_is_slower_and_a_smaller_one_as_fast(field_config, estimated):
    def hours(repo):
        config = changed(field_config, ("model.source.repo", repo))
        return estimated(config).work["generate_candidates"].hours - 0.1

    assert hours("owner/Base-6B") == pytest.approx(2 * hours("owner/Base-3B"))
    assert hours("owner/Base-1B") == pytest.approx(hours("owner/Base-3B"))
    assert hours("owner/Base") == pytest.approx(hours("owner/Base-3B"))


def test_more_gpus_take_less_time_and_the_same_gpu_hours(field_config, estimated):
    sglang = {"tensor_parallel": 2, "data_parallel": 3}
    one = estimated(field_config).work["generate_candidates"]
    six = estimated(changed(field_config, ("generation.sglang", sglang))).work["generate_candidates"]
    assert (one.gpus, six.gpus) == (1, 6)
    assert (six.hours - 0.1) * 6 == pytest.approx(one.hours - 0.1)


def test_jobs_at_endpoints_take_no_gpus(field_config, estimated):
    config = changed(field_config, ("generation.sglang", {"endpoints": ["http://a:1", "http://b:1"]}))
    work = estimated(config).work["generate_candidates"]
    assert work.gpus == 0
    assert work.hours == pytest.approx(10 / 3600)


def test_the_engine_in_process(field_config, estimated):
    work = estimated(changed(field_config, ("generation.engine", "transformers"))).work
    assert work["generate_candidates"].hours == pytest.approx(200 / 3600 + 0.1)
    on_cpu = changed(field_config, ("generation.engine", "transformers"), ("model.device", "cpu"))
    assert {work.gpus for work in estimated(on_cpu).work.values()} == {0}


def test_answers_limited_by_kind(field_config, estimated):
    limits = {"creative": 400, "verifiable": 100, "factual": 40, "chat": 1000}
    found = estimated(changed(field_config, ("generation.max_new_tokens", limits)))
    assert found.counts["generated tokens"] == pytest.approx(800 * 0.5 * (100 + 50 + 10))


def test_a_scalar_judge_reads_every_answer_once(field_config, estimated):
    found = estimated(changed(field_config, ("labels.quality.judge", JUDGE)))
    assert found.counts["judge calls"] == 800
    # 80 tokens of the prompt and 100 of the answer; 6B is half as fast as 3B
    assert found.work["label_quality"].hours == pytest.approx(800 * 180 / 1000 / 3600 + 0.1)
    assert found.work["label_evaluation_quality"].hours == pytest.approx(30 * 2 * 10 * 180 / 1000 / 3600 + 0.1)
    assert found.disk["models"] == pytest.approx((3e9 + 6e9) * 2)


def test_a_pairwise_judge_reads_both_answers_in_both_orders(field_config, estimated):
    both = {**JUDGE, "kind": "pairwise", "order": "both"}
    found = estimated(changed(field_config, ("labels.quality.judge", both)))
    assert found.counts["judge calls"] == 100 * 2 * 6 * 2  # all pairs of four, for Swiss rounds find no more
    assert found.work["label_quality"].hours == pytest.approx(2400 * (80 + 200 + 20) / 1000 / 3600 + 0.1)
    one = estimated(changed(field_config, ("labels.quality.judge", {**both, "order": "one"})))
    assert one.counts["judge calls"] == 1200
    met = changed(field_config, ("labels.quality.judge", both), ("labels.quality.tournament.group", "prompt"))
    assert estimated(met).counts["judge calls"] == 100 * 2 * 4 * 4  # four Swiss rounds of the eight under both seeds


LIKELIHOOD = {**JUDGE, "kind": "likelihood", "name": "reference", "engine": "transformers"}
ENDPOINT = {"kind": "endpoint", "name": "far", "base_url": "http://node:1/v1", "model": "m", "order": "one"}


def test_a_likelihood_judge_reads_an_answer_as_often_as_its_weights_need(field_config, estimated):
    weights = {"answer": 1, "end": 1, "unconditional": -1, "question": 0}
    found = estimated(changed(field_config, ("labels.quality.judge", {**LIKELIHOOD, "weights": weights})))
    assert found.counts["judge calls"] == 1600
    assert found.work["label_quality"].hours == pytest.approx(1600 * 180 / 1000 / 3600 + 0.1)


def test_several_judges_each_take_their_own(field_config, estimated):
    others = [LIKELIHOOD, ENDPOINT, {**JUDGE, "sglang": {"data_parallel": 2}}]
    found = estimated(changed(field_config, ("labels.quality.others", others)))
    assert found.counts["judge calls"] == 800 + 100 * 2 * 6 + 800
    # The first is the embedded one; of the endpoint nobody knows how fast it is.
    assert not any(rule == "label_quality" for rule in found.work)
    one, two = 800 * 180 / 1000 / 3600 + 0.1, 800 * 180 / 1000 / 3600 / 2 + 0.1
    assert found.work["label_quality_by_others"].hours == pytest.approx((one + two) / 2)
    assert found.work["label_quality_by_others"].gpus == 2
    assert found.disk["models"] == pytest.approx((3e9 + 2 * 6e9) * 2)


def test_an_endpoint_takes_no_gpus_and_has_no_hours(field_config, estimated):
    found = estimated(changed(field_config, ("labels.quality.judge", ENDPOINT)))
    assert found.counts["judge calls"] == 1200 and "label_quality" not in found.work
    assert found.disk["models"] == 6e9


def test_a_budget_takes_its_share_in_two_phases(field_config, estimated):
    judged = changed(field_config, ("labels.quality.judge", JUDGE), ("seeds", [0, 1, 2, 3]))
    whole = estimated(judged)
    found = estimated(changed(judged, ("generation.adaptive", {"enabled": True, "budget": 0.6})))
    share = (50 * 0.6 + 20 + 30) / 100
    for name in ("answers", "generated tokens", "judge calls"):
        assert found.counts[name] == pytest.approx(share * whole.counts[name])
    start = 0.1
    shard = share * (whole.work["generate_candidates"].hours - start) + start
    assert found.work["generate_candidates"] == found.work["generate_allocated"]
    assert found.work["generate_allocated"].hours == pytest.approx(shard)
    judging = share * (whole.work["label_quality"].hours - start) + start
    assert found.work["label_budget_quality"].hours == pytest.approx(judging / 2)
    assert found.work["label_budget_correctness"].hours == pytest.approx(share * 800 / 4 / 3600 / 2)


def test_disk(field_config, estimated):
    disk = estimated(field_config).disk
    assert disk["models"] == 6e9
    # in shards, in the verified table, and the test answers of the samplers (360) and of all (600) in the evaluation
    assert disk["candidates"] == (2 * 800 + 360 + 600) * 100 * 10
    assert disk["embeddings"] == 1400 * 1000
    assert disk["labels and scores"] == 1400 * 50


def test_sketches_take_as_much_as_they_do(field_config, estimated, tmp_path):
    found = estimated(field_config)
    points = sum(field_config["training"]["sketch"].values())
    draws = RecordedDraws.room([101] * 40, points)  # 40 answers of 100 tokens, each with its end
    ids = [f"{i:016x}" for i in range(40)]
    shard = SketchShard(ids, torch.zeros(101 * 40, dtype=torch.int32), draws)
    shard.save(tmp_path / "shard.safetensors", "fingerprint")
    size = (tmp_path / "shard.safetensors").stat().st_size
    assert found.disk["sketches (at most)"] == pytest.approx(size * 400 / 40, rel=0.01)
    assert found.memory["train_sampler"] == pytest.approx(size * 200 / 40, rel=0.01)


def test_learning_from_outcomes_is_planned(field_config, estimated):
    assert "record_draws" not in estimated(field_config).work
    objectives = [{"kind": "imitation"}, {"kind": "outcome", "horizon": 8, "steps": 50, "prompts": 4}]
    config = changed(field_config, ("training.objectives", objectives), ("off_policy", {"steps": 20}))
    found, plain = estimated(config), estimated(field_config)
    assert found.counts["learned samplers"] > plain.counts["learned samplers"]
    # Answers to prompts of the test split are not recorded.
    draws = found.disk["recorded draws"] / (21 * (8 * sum(config["training"]["sketch"].values()) + 12))
    assert 0 < draws < found.counts["answers"]
    assert found.work["record_draws"].gpus == 1 and found.work["train_on_outcomes"].gpus == 0
    # Recorded as they are generated, they are not read again, but on disk twice.
    in_process = changed(config, ("generation.engine", "transformers"), ("off_policy", {}))
    read, kept = (estimated(changed(in_process, ("generation.record_draws", value))) for value in (False, True))
    for rule in ("record_draws", "replay_distributions"):
        assert kept.work[rule].hours < read.work[rule].hours
    assert kept.disk["recorded draws"] == 2 * read.disk["recorded draws"]
    shorter = estimated(changed(config, ("off_policy", {"steps": 10})))
    assert shorter.work["record_draws"].hours < found.work["record_draws"].hours
    assert shorter.disk["recorded draws"] == pytest.approx(found.disk["recorded draws"] * 11 / 21)


def test_every_assumption_matters(field_config, estimated):
    """One that changed nothing would only mislead."""
    judged = changed(field_config, ("labels.quality.judge", {**JUDGE, "kind": "pairwise"}))
    engines = [changed(field_config, ("generation.engine", name)) for name in ENGINES]
    unnamed = changed(field_config, ("model.source", HUB))
    for item in fields(Assumptions):
        other = replace(ASSUMED, **{item.name: 7 * getattr(ASSUMED, item.name)})
        configs = [judged, unnamed, *engines]
        assert any(estimated(config) != estimated(config, other) for config in configs), item.name


def test_an_impossible_assumption():
    with pytest.raises(UserError, match=re.escape("--texts-per-second: 0 is out of range")):
        Assumptions(texts_per_second=0)


DRY_RUN = """\
Building DAG of jobs...
Job stats:
job                    count
-------------------  -------
all                        1
generate_candidates       32
train_sampler              9
total                     42
"""


def test_jobs_of_a_dry_run():
    assert job_counts(DRY_RUN) == {"all": 1, "generate_candidates": 32, "train_sampler": 9}
    assert job_counts("Building DAG of jobs...\nNothing to be done.\n") == {}


def test_what_is_printed(field_config, estimated):
    found = estimated(field_config)
    text = render(found, job_counts(DRY_RUN), ASSUMED)
    gpu_hours = 32 * found.work["generate_candidates"].hours
    assert re.search(rf"generate_candidates +32 +1 +0\.11 +{gpu_hours:.1f}\n", text)
    assert re.search(rf"\n  total +42 +{gpu_hours:.1f}\n", text)
    for item in fields(Assumptions):
        assert f"--{item.name.replace('_', '-')} " in text and item.metadata["meaning"] in text


def test_prompts_are_those_that_would_be_used(good_config, config_folder):
    lines = [f'{{"prompt": "Say {i}.", "kind": "{kind}"}}\n' for i in range(40) for kind in ("chat", "creative")]
    (config_folder / "resources" / "prompts.jsonl").write_text("".join(dict.fromkeys(lines)))

    def planned(*changes):
        return planned_prompts(typed_config(load_config(changed(good_config, *changes), config_folder)), config_folder)

    free = ("prompts.per_kind", {"train": None, "validation": None, "test": None})
    prompts, here = planned(free)
    assert here == 40 and prompts.total == 40
    assert prompts.kinds["chat"] == 1.0
    source = {"path": "resources/prompts.jsonl"}
    assert planned(free, ("prompts.sources", [{**source, "limit": 10}]))[0].total == 10
    prompts, here = planned(free, ("prompts.sources", [{**source, "limit": 100}]))
    assert here == 40 and (prompts.train, prompts.validation, prompts.test) == pytest.approx((50, 20, 30))
    # Caps hold whatever the limit: five, two and four prompts of one kind.
    assert planned(("prompts.sources", [{**source, "limit": 100}]))[0].total == 11
