"""From tables and shards to estimates: nothing lost, prompts in shards, calibration that leaves each heuristic out."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from outcome_world import World
from test_outcomes import BEHAVIORS

from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.model.off_policy import OffPolicy, Trust
from adaptive_samplers.errors import UserError
from adaptive_samplers.figures import off_policy as figures
from adaptive_samplers.heuristics import configured_pipeline, expand_heuristics
from adaptive_samplers.off_policy import log_prob_of_answers
from adaptive_samplers.off_policy.estimates import near_one
from adaptive_samplers.off_policy.log_probs import log_probs_of_beginnings
from adaptive_samplers.off_policy.reading import answers_to_record, read_logged, without_ends_by_strings
from adaptive_samplers.off_policy.table import (
    Weighings,
    calibrate,
    least_effective,
    leave_each_out,
    table_of_estimates,
    targets_of,
    weigh_answers,
    with_trust,
)
from adaptive_samplers.randomness import sample_seed
from adaptive_samplers.selection import answer_id
from adaptive_samplers.tables import write_table
from adaptive_samplers.training.replay import replay

SPLITS = ("train", "validation", "test")
QUALITY = {"diversity": 0.0, "quality": 1.0, "correctness": 0.0}
SETTINGS = OffPolicy(
    horizons=[2],
    grid=[{"family": "temperature", "temperatures": [0.5, 1.0]}, {"family": "min_p", "values": [0.1]}],
    pipelines=[[{"top_k": 20}, {"temperature": 2.0}]],
    resamples=200,
    # Random tokens are much more probable under one temperature than under another.
    trust={"mean_weight": 1e9},
)


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """Answers of three heuristics and four seeds to nine prompts, with scores; one failed, and one was verbalized."""
    folder, generator = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    heuristics = pd.DataFrame(
        expand_heuristics(
            Heuristics(grid=[{"family": "temperature", "temperatures": [0.5, 1.0, 2.0]}], verbalized=[{"answers": 2}])
        )
    )
    prompts, rows = [], []
    for number in range(9):
        text = f"The sea {number}"
        prompt_id = f"{number * 7919 + 5:016x}"
        tokens = tiny_model.encode_chat([{"role": "user", "content": text}])
        prompts.append({"prompt_id": prompt_id, "split": SPLITS[number % 3], "kind": "chat"})
        for heuristic in heuristics.itertuples():
            for seed in range(4):
                failed = number == 0 and seed == 3
                answer = generator.integers(3, len(tiny_model.tokenizer), int(generator.integers(0, 5))).tolist()
                rows.append(
                    {
                        "prompt_id": prompt_id,
                        "heuristic_id": heuristic.heuristic_id,
                        "seed": seed,
                        "prompt_token_ids": tokens,
                        "token_ids": [] if failed else answer,
                        "text": " ".join(map(str, answer)),
                        "finish_reason": "error" if failed else "stop" if len(answer) < 4 else "length",
                        "sample_seed": sample_seed(1, prompt_id, seed),
                        "engine": "test",
                        "error": "lost" if failed else None,
                        "token_logprobs": None,
                        "end_logprobs": None,
                    }
                )
    write_table("candidates", rows, folder / "candidates.parquet")
    answered = [row for row in rows if row["finish_reason"] != "error"]
    scores = pd.DataFrame(answered)[["prompt_id", "heuristic_id", "seed"]]
    split_of = {prompt["prompt_id"]: prompt["split"] for prompt in prompts}
    scores = scores.assign(
        split=scores["prompt_id"].map(split_of),
        z_quality=generator.normal(size=len(scores)),
        z_diversity=0.0,
        z_correctness=0.0,
    )
    return folder, pd.DataFrame(prompts), heuristics, scores, rows


def recorded(run, model, folder, shards=1, most_steps=None):
    source, prompts, heuristics, _, _ = run
    paths = [folder / f"shard={shard}.safetensors" for shard in range(shards)]
    for shard, path in enumerate(paths):
        answers = answers_to_record(
            source / "candidates.parquet", prompts, heuristics, SPLITS[:2], most_steps, shard, shards
        )
        replay(answers, model, "hash", 24, 16, path)
    return paths


def test_what_is_recorded(run):
    source, prompts, heuristics, _, rows = run
    found = answers_to_record(source / "candidates.parquet", prompts, heuristics, ["train"], None, 0, 1)
    wanted = set(prompts["prompt_id"][prompts["split"] == "train"])
    verbalized = heuristics["heuristic_id"][heuristics["family"] == "verbalized"].item()
    expected = {
        answer_id(row["prompt_token_ids"], row["token_ids"], row["finish_reason"])
        for row in rows
        if row["prompt_id"] in wanted and row["finish_reason"] != "error" and row["heuristic_id"] != verbalized
    }
    assert found["answer_id"].tolist() == sorted(expected)
    cut = answers_to_record(source / "candidates.parquet", prompts, heuristics, ["train"], 2, 0, 1)
    assert cut["answer_id"].tolist() == sorted(expected)
    for whole, short in zip(found.itertuples(), cut.itertuples(), strict=True):
        assert short.token_ids.tolist() == whole.token_ids.tolist()[:2]
        assert short.finish_reason == (whole.finish_reason if len(whole.token_ids) < 2 else "length")


def test_answers_are_joined_with_their_draws_and_rewards(run, tiny_model, tmp_path):
    source, _, heuristics, scores, rows = run
    shards = recorded(run, tiny_model, tmp_path, shards=2)
    train = scores[scores["split"] == "train"]
    logged = read_logged(train, QUALITY, heuristics, source / "candidates.parquet", shards)
    drawn = train[train["heuristic_id"].isin(logged.behaviors)]
    assert len(logged.answers) == len(drawn) < len(train)
    by_key = {(row["prompt_id"], row["heuristic_id"], row["seed"]): row for row in rows}
    behaviors = list(logged.behaviors)
    reward = drawn.set_index(["prompt_id", "heuristic_id", "seed"])["z_quality"]
    for place in range(len(logged.answers)):
        answers = logged.answers
        key = (
            logged.prompt_ids[answers.prompts[place]],
            behaviors[answers.behaviors[place]],
            int(answers.seeds[place]),
        )
        row, span = by_key[key], logged.draws.span(int(answers.draws[place]))
        assert span.stop - span.start == len(row["token_ids"]) + (row["finish_reason"] == "stop")
        assert answers.rewards[place] == reward[key]
        pairs = [(row["prompt_token_ids"], row["token_ids"])]
        [(_, logits)] = tiny_model.answer_logits(pairs, 1)
        expected = logits[: len(row["token_ids"])].log_softmax(-1)
        expected = expected.gather(1, torch.tensor(row["token_ids"], dtype=torch.long)[:, None]).squeeze(1)
        found = logged.draws.log_probs[span][: len(row["token_ids"])]
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    short = read_logged(train, QUALITY, heuristics, source / "candidates.parquet", shards, most_steps=2)
    assert short.draws.starts.diff().max() == 2
    hot = configured_pipeline([{"temperature": 2.0}])
    assert log_prob_of_answers(hot, logged.draws).isfinite().all()


def test_draws_that_are_in_no_shard_are_missed(run, tiny_model, tmp_path):
    source, _, heuristics, scores, _ = run
    shards = recorded(run, tiny_model, tmp_path, shards=2)
    with pytest.raises(UserError, match=r"the draws of \d+ answers are recorded in none of .*delete these files"):
        read_logged(scores[scores["split"] == "train"], QUALITY, heuristics, source / "candidates.parquet", shards[:1])
    with pytest.raises(UserError, match="no answer to learn from"):
        read_logged(scores[:0], QUALITY, heuristics, source / "candidates.parquet", shards)


@pytest.mark.parametrize("shards", [1, 3])
def test_the_table(run, tiny_model, tmp_path, shards):
    source, _, heuristics, scores, _ = run
    heuristics = heuristics[heuristics["family"] != "verbalized"]
    scores = scores[scores["split"] != "test"]
    targets = targets_of(SETTINGS, heuristics, [])
    assert targets["name"].tolist() == [
        *("temperature_0.5", "temperature_1", "temperature_2"),
        *("min_p_0.1", "top_k_20+temperature_2"),
    ]
    paths = recorded(run, tiny_model, tmp_path, shards)
    horizons = [*SETTINGS.horizons, None]
    weighings = weigh_answers(scores, QUALITY, heuristics, targets, source / "candidates.parquet", paths, horizons)
    assert sorted(weighings.splits) == ["train"] * 3 + ["validation"] * 3
    calibration = calibrate(weighings, horizons, 200, 0.9, seed=0)
    assert len(calibration) == 12 and calibration["covered"].notna().all()
    table = table_of_estimates(weighings, horizons, [0.9, 0.9], SETTINGS, seed=0)
    assert len(table) == 2 * 5 * 2 and table["n_prompts"].eq(3).all()
    assert table["value"].notna().equals(table["trusted"]) and table["trusted"].any()
    # Together the heuristics that answered are the mixture.
    own = table[table["horizon"].isna()].groupby("split")["own_gain"]
    assert (own.count() == len(heuristics)).all() and own.sum().abs().max() < 1e-9
    untrusted = table_of_estimates(weighings, horizons, [None, None], SETTINGS, seed=0)
    assert not untrusted["trusted"].any() and untrusted["value"].isna().all()
    assert untrusted["effective"].equals(table["effective"])
    # Whole prompts of one shard or of several: the same.
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    marked = with_trust(calibration, horizons, [None, 1.5], SETTINGS.trust)
    whole_answers = marked["horizon"].isna()
    assert not marked["trusted"][~whole_answers].any()
    assert marked["trusted"][whole_answers].equals(marked["effective"][whole_answers] >= 1.5)
    for figure in (figures.surface(pd.read_csv(path)), figures.calibration(marked)):
        figure.savefig(tmp_path / "figure.png")
    whole = weigh_answers(
        scores,
        QUALITY,
        heuristics,
        targets,
        source / "candidates.parquet",
        recorded(run, tiny_model, tmp_path),
        horizons,
    )
    expected = table_of_estimates(whole, horizons, [0.9, 0.9], SETTINGS, seed=0)
    for column in ("effective", "mean_weight", "largest", "own_gain"):
        np.testing.assert_allclose(table[column], expected[column], rtol=1e-3)


def test_what_a_string_ended_has_no_end_that_was_drawn():
    answers = pd.DataFrame({"token_ids": [[1, 2], [3], [2]], "finish_reason": ["stop", "stop", "length"]})

    def decode(tokens):
        return "".join("ab.c"[token] for token in tokens)

    found = without_ends_by_strings(answers, decode, ["."])
    assert found["finish_reason"].tolist() == ["length", "stop", "length"]
    assert without_ends_by_strings(answers, decode, []) is answers


def test_calibration_leaves_out_the_heuristic_and_its_seeds(run, tiny_model, tmp_path):
    """Its own answers are of the other half of the seeds than those of others that estimate it; each half in turn."""
    source, _, heuristics, scores, _ = run
    heuristics = heuristics[heuristics["family"] != "verbalized"]
    scores = scores[(scores["split"] == "train") & scores["heuristic_id"].isin(heuristics["heuristic_id"])]
    # Every other seed's rewards are 1, the rest 0: what one half estimates differs by 1 from own answers of the other.
    scores = scores.assign(z_quality=scores["seed"] % 2)
    targets = targets_of(SETTINGS, heuristics, [])
    paths = recorded(run, tiny_model, tmp_path)
    weighings = weigh_answers(scores, QUALITY, heuristics, targets, source / "candidates.parquet", paths, [None])
    found = calibrate(weighings, [None], 200, 0.9, seed=0)
    assert (found["gain"] == 0).all() and not found["covered"].any()
    assert found["own_gain"].equals(found["half"].map({1: 1.0, 2: -1.0})) and set(found["half"]) == {1, 2}
    one_seed = weigh_answers(
        scores[scores["seed"] == 0], QUALITY, heuristics, targets, source / "candidates.parquet", paths, [None]
    )
    assert calibrate(one_seed, [None], 200, 0.9, seed=0)["covered"].isna().all()


def test_calibration_knows_that_own_answers_are_uncertain_too():
    """With two own answers to a prompt, intervals of the estimate alone would miss far too often."""
    covered, alone = [], []
    for number in range(25):
        logged = World.drawn(60, 3, seed=number).logged(BEHAVIORS, seeds=4, seed=100 + number)
        log_probs = log_probs_of_beginnings(logged.pipelines, logged.draws, [None], logged.same).numpy()
        names = list(BEHAVIORS)
        weighings = Weighings(
            np.array(["train"] * 60), names, names, [], leave_each_out(logged.answers, log_probs), names, np.empty(0)
        )
        found = calibrate(weighings, [None], 500, 0.9, seed=number)
        found = found[near_one(found["mean_weight"], 1.33)]
        covered += found["covered"].tolist()
        alone += ((found["gain_low"] <= found["own_gain"]) & (found["own_gain"] <= found["gain_high"])).tolist()
    assert len(covered) > 40 and 0.82 <= np.mean(covered) <= 0.97
    assert np.mean(alone) < np.mean(covered) - 0.1


def test_the_threshold_is_the_smallest_that_covers_often_enough_at_its_horizon():
    effective = np.array([9.0, 8, 7, 6, 5, 4, 3, 2])
    rows = pd.DataFrame(
        {
            "name": list("abcdefgh"),
            "horizon": pd.array([None] * 8, dtype="Int64"),
            "effective": effective,
            "mean_weight": 1.0,
            "covered": pd.array([True, True, True, True, False, True, False, False], dtype="boolean"),
        }
    )
    assert least_effective(rows, [None], Trust(coverage=0.8)) == [4]
    assert least_effective(rows, [None], Trust(coverage=0.7)) == [3]
    assert least_effective(rows, [None], Trust(coverage=0.99)) == [None]  # fewer than five heuristics say nothing
    assert least_effective(rows.assign(name="a"), [None], Trust(coverage=0.1)) == [None]
    assert least_effective(rows.assign(mean_weight=3.0), [None], Trust(coverage=0.1)) == [None]
    assert least_effective(rows, [8, None], Trust(effective=2.5)) == [2.5, 2.5]
    # Many answers at a short horizon, of which the estimates are wrong, do not spoil those of whole answers.
    wrong = rows.assign(horizon=pd.array([8] * 8, dtype="Int64"), effective=effective + 10, covered=False)
    both = pd.concat([rows, wrong.astype({"covered": "boolean"})])
    assert least_effective(both, [8, None], Trust(coverage=0.8)) == [None, 4]


def test_names_of_cells():
    assert figures._cell("temperature_0.6+min_p_0.1") == (0.6, 0.1)
    assert figures._cell("temperature_0.6") == (0.6, 0.0) and figures._cell("min_p_0.05") == (1.0, 0.05)
    assert figures._cell("top_k_5") is None and figures._cell("temperature_0.6+top_k_5") is None
    assert json.dumps(figures._cell("")) == "null"
