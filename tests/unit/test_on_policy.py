"""On-policy training: the loss against plain loops, and a sampler that learns from its own answers in a known world."""

import itertools
import json
import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from outcome_world import World

from adaptive_samplers.config.model.on_policy import OnPolicy
from adaptive_samplers.config.model.training import SketchSize
from adaptive_samplers.engines.base import Completion, kept_open
from adaptive_samplers.engines.sglang_engine import SGLangEngine
from adaptive_samplers.engines.transformers_engine import TransformersEngine
from adaptive_samplers.errors import UserError
from adaptive_samplers.generation import GenerationSettings
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.off_policy import log_prob_of_draws
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.tables import KEY, read_table
from adaptive_samplers.training import on_policy
from adaptive_samplers.training.on_policy import Answering, Answers, improve, prompts_to_learn_from
from adaptive_samplers.training.policy_gradient import PolicyBatch, group_advantages, policy_loss

SIMPLE = ("SimpleDistributionAwareTransform", {"hidden_dims": 16, "use_dynamic_truncation": True})
CPU = torch.device("cpu")


def answers_of(sampler, world, folder, seed, seeds=6, **sketch):
    """What a sampler answers in a world, as it is now."""
    sampler.save_pretrained(folder)
    return world.logged({"own": configured_pipeline([{"learned": str(folder)}])}, seeds, seed, **sketch)


@pytest.fixture
def world():
    return World.drawn(5, 4, seed=1, vocabulary=60)


@pytest.fixture
def drawn(world, tmp_path):
    """A sampler, one to compare it with, and its answers, with sketches that lose nothing."""
    sampler, other = build_sampler(*SIMPLE, seed=3), build_sampler(*SIMPLE, seed=4)
    return sampler, other, answers_of(sampler, world, tmp_path / "step=0", 2, top=58, tail=2)


def gradient(loss, sampler):
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(sampler.parameters()))])


def test_advantages_are_differences_from_the_mean_of_a_group():
    reward, prompt = torch.tensor([1.0, 0.0, 0.0, 0.1, 0.1, 0.1, 5.0]), torch.tensor([0, 0, 0, 1, 1, 1, 2])
    found = group_advantages(reward, prompt)
    torch.testing.assert_close(found[:3], torch.tensor([2.0, -1.0, -1.0]) / 3)
    # Exactly nothing to learn, whatever the rounding of the mean, and from an answer alone too.
    assert not found[3:].any()
    assert not group_advantages(torch.full((7,), 0.1), torch.zeros(7, dtype=torch.long)).any()


def test_the_gradient_before_updates_is_that_of_reinforce(world, drawn):
    """By loops over answers and whole vocabularies, in float64."""
    sampler, other, logged = drawn
    terms = policy_loss(sampler, PolicyBatch.of(logged, sampler, other, CPU), 0.2, 0.0)
    assert terms.gain.item() == 0 and terms.clipped.item() == 0
    found = gradient(terms.loss, sampler)

    exact = build_sampler(*SIMPLE, seed=3).double()
    rewards, expected = torch.from_numpy(logged.answers.rewards), 0.0
    for answer, prompt in enumerate(logged.answers.prompts.tolist()):
        of_prompt = rewards[torch.from_numpy(logged.answers.prompts) == prompt]
        log_q = exact.logits(world.logits[prompt].double(), exact=True).log_softmax(-1)
        order = world.logits[prompt].argsort(dim=-1, descending=True, stable=True)
        ranks = logged.draws.ranks[logged.draws.span(answer)].long()
        tokens = order.gather(1, ranks[:, None])
        expected = expected - (rewards[answer] - of_prompt.mean()) * log_q.gather(1, tokens).sum() / len(rewards)
    expected = gradient(expected, exact)
    assert expected.norm() > 0.01
    assert (found - expected).norm() < 2e-3 * expected.norm()


def test_the_divergence_is_that_of_the_whole_vocabulary(world, drawn):
    sampler, other, logged = drawn
    terms = policy_loss(sampler, PolicyBatch.of(logged, sampler, other, CPU), 0.2, 0.5)
    logits = world.logits[torch.from_numpy(logged.answers.prompts)].flatten(0, 1).double()
    mine, begun = (
        build_sampler(*SIMPLE, seed=seed).double().logits(logits, exact=True).log_softmax(-1) for seed in (3, 4)
    )
    by_step = (mine.exp() * (mine - begun)).sum(-1)
    assert terms.kl.item() == pytest.approx(by_step.mean().item(), rel=1e-3) and by_step.mean() > 0.001
    # Its cost is that of a whole answer, of four steps.
    assert terms.loss.item() == pytest.approx(0.5 * 4 * by_step.mean().item(), rel=1e-3)
    assert policy_loss(sampler, PolicyBatch.of(logged, sampler, sampler, CPU), 0.2, 0.5).kl.item() == pytest.approx(0)


def test_the_loss_of_another_sampler_in_plain_loops(drawn):
    """Steps beyond the clip have no gradient, and those with an advantage in the other direction keep theirs."""
    sampler, other, logged = drawn
    batch, clip = PolicyBatch.of(logged, sampler, sampler, CPU), 0.05
    terms = policy_loss(other, batch, clip, 0.0)
    before, now = (log_prob_of_draws(one, logged.draws) for one in (sampler, other))
    rewards, gain, held, steps = logged.answers.rewards, 0.0, 0, 0
    for answer, prompt in enumerate(logged.answers.prompts):
        advantage = rewards[answer] - rewards[logged.answers.prompts == prompt].mean()
        for step in range(logged.draws.span(answer).start, logged.draws.span(answer).stop):
            ratio = math.exp(now[step] - before[step])
            clipped = min(max(ratio, 1 - clip), 1 + clip)
            gain += (min(ratio * advantage, clipped * advantage) - advantage) / len(rewards)
            held += abs(advantage) > 1e-9 and clipped * advantage < ratio * advantage
            steps += abs(advantage) > 1e-9
    assert terms.gain.item() == pytest.approx(gain, rel=1e-3) and 0 < held < steps
    assert terms.clipped.item() == pytest.approx(held / steps)


def test_where_all_is_clipped_nothing_moves(drawn):
    _, _, logged = drawn
    scale = torch.tensor(1.0, requires_grad=True)
    batch = PolicyBatch.of(logged, lambda t, n: t, lambda t, n: t, CPU)
    advantages = batch.advantages
    # As if every step had become more probable by far, and every answer been better than the others.
    moved = batch.__class__(**vars(batch) | {"advantages": advantages.abs() + 0.1, "log_probs": batch.log_probs - 1})
    terms = policy_loss(lambda t, n: t * scale, moved, 0.2, 0.0)
    terms.loss.backward()
    assert terms.clipped.item() == 1 and scale.grad.item() == 0


@pytest.mark.parametrize("factor", [1e4, -1e4])
def test_ratios_beyond_all_numbers_give_finite_gradients(drawn, factor):
    _, _, logged = drawn
    scale = torch.tensor(factor, requires_grad=True)
    terms = policy_loss(lambda t, n: t * scale, PolicyBatch.of(logged, lambda t, n: t, lambda t, n: t, CPU), 0.2, 0.001)
    terms.loss.backward()
    assert all(term.isfinite() for term in terms) and scale.grad.isfinite()


class Lesson:
    """A sampler's training in a world; what is asked of it is a function of the weights and the step."""

    def __init__(self, folder, world=None, **options):
        self.world = world or World.drawn(8, 3, seed=21, vocabulary=60)
        self.folder, self.steps = folder, []
        self.options = OnPolicy(
            **{"steps": 5, "updates": 3, "evaluate_every": 2, "learning_rate": 0.01, "kl": 0.0} | options
        )

    def collect(self, sampler, step):
        self.steps.append(step)
        return Answers(answers_of(sampler, self.world, self.folder / f"step={step}", 100 + step, seeds=8), 1)

    def measure(self, sampler, step):
        return float(self.world.value(sampler).mean())

    def learn(self, sampler=None, fingerprint="f"):
        sampler = sampler or build_sampler(*SIMPLE, seed=5)
        place = self.folder / "checkpoint.safetensors"
        return sampler, improve(sampler, self.collect, self.measure, self.options, 1.0, fingerprint, place)


def test_the_mean_reward_rises_toward_the_best_there_is(tmp_path):
    """On prompts that the sampler never answered, beyond what it began with and every temperature."""
    test = World.drawn(100, 5, seed=23)
    lesson = Lesson(tmp_path, World.drawn(40, 5, seed=21), steps=20, updates=6, evaluate_every=5)
    begun = test.value(build_sampler(*SIMPLE, seed=5)).mean()
    sampler, curves = lesson.learn()
    temperatures = [configured_pipeline([{"temperature": degrees}]) for degrees in np.arange(0.3, 1.5, 0.2).tolist()]
    best = max(test.value(pipeline).mean() for pipeline in temperatures)
    assert test.value(sampler).mean() > best + 0.03 and best > begun
    table = pd.DataFrame(curves)
    validation = table[table["split"] == "validation"]["reward"].tolist()
    assert len(validation) == 5 and validation[-1] > validation[0] + 0.1
    rows = table[table["split"] == "train"]
    assert rows["step"].tolist() == list(range(20)) and rows["reward"].iloc[-1] > rows["reward"].iloc[0]
    assert (rows["failed"] == 1).all() and (rows["answers"] == 320).all() and (rows["groups"] == 40).all()
    assert rows["kl"].iloc[0] == pytest.approx(0, abs=1e-6) and rows["kl"].iloc[-1] > 0.01


def test_divergence_that_costs_holds_the_sampler_back(tmp_path):
    for name in ("free", "dear"):
        (tmp_path / name).mkdir()
    _, free = Lesson(tmp_path / "free", steps=8).learn()
    _, dear = Lesson(tmp_path / "dear", steps=8, kl=3.0).learn()
    assert [row for row in dear if row["split"] == "train"][-1]["kl"] < 0.2 * free[-2]["kl"]


@pytest.mark.parametrize("killed", [0, 3])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path, monkeypatch, killed):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, curves = Lesson(tmp_path / "whole").learn()
    count, update = itertools.count(), on_policy.training_step

    def dying(*arguments):
        # In the midst of a step, after the first update.
        if next(count) == 3 * killed + 1:
            raise KeyboardInterrupt
        return update(*arguments)

    lesson = Lesson(tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(on_policy, "training_step", dying)
        with pytest.raises(KeyboardInterrupt):
            lesson.learn()
    again, continued = lesson.learn()
    assert lesson.steps == [*range(killed + 1), *range(killed, 5)], "it should have gone on where it was"
    assert continued == curves
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    # What began otherwise begins anew, and what is finished is not done again.
    lesson.steps.clear()
    lesson.learn()
    assert not lesson.steps
    lesson.learn(fingerprint="other")
    assert lesson.steps == list(range(5))


@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_a_step_without_differing_rewards_updates_by_divergence_alone(tmp_path, kl):
    world = World.drawn(6, 3, seed=3)
    lesson = Lesson(tmp_path, World(world.logits, torch.full_like(world.worth, 0.1)), steps=3, kl=kl)
    sampler, curves = lesson.learn()
    rows = [row for row in curves if row["split"] == "train"]
    assert [row["learning_from"] for row in rows] == [0, 0, 0] and [row["clipped"] for row in rows] == [0, 0, 0]
    for name, tensor in build_sampler(*SIMPLE, seed=5).state_dict().items():
        assert torch.equal(sampler.state_dict()[name], tensor)


def test_without_differing_rewards_the_divergence_leads_back(tmp_path):
    sampler, same = build_sampler(*SIMPLE, seed=5), World.drawn(6, 3, seed=3, vocabulary=60)
    lesson = Lesson(tmp_path, steps=4)
    lesson.learn(sampler)
    lesson.world = World(same.logits, torch.full_like(same.worth, 0.1))
    lesson.options = lesson.options.model_copy(update={"kl": 0.1, "steps": 8})
    _, curves = lesson.learn(build_sampler(*SIMPLE, seed=5))
    kls = [row["kl"] for row in curves if row["split"] == "train"]
    assert kls[4] > 0.01 and kls[7] < 0.7 * kls[4]


def test_what_is_no_number_stops_training_before_it_is_kept(tmp_path, monkeypatch):
    lesson, update = Lesson(tmp_path), on_policy.training_step

    def broken(sampler, *arguments):
        terms = update(sampler, *arguments)
        if lesson.steps[-1] == 2:
            next(sampler.parameters()).data.fill_(math.nan)
        return terms

    with monkeypatch.context() as patch:
        patch.setattr(on_policy, "training_step", broken)
        with pytest.raises(UserError, match=r"lower on_policy\.learning_rate"):
            lesson.learn()
    sampler, _ = lesson.learn()
    assert lesson.steps == [0, 1, 2, *range(2, 5)]
    assert all(tensor.isfinite().all() for tensor in sampler.state_dict().values())


def test_prompts_without_a_verifier_teach_nothing():
    rows = [("c", "train", "numeric"), ("a", "train", "numeric"), ("b", "train", None), ("d", "test", "numeric")]
    prompts = pd.DataFrame(rows, columns=["prompt_id", "split", "verifier"])
    found = prompts_to_learn_from(prompts)
    assert found["train"]["prompt_id"].tolist() == ["a", "c"] and found["validation"].empty
    with pytest.raises(UserError, match=r"no prompt of the train split has a verifier.*prompts.sources"):
        prompts_to_learn_from(prompts[prompts["split"] == "test"])


PROMPTS = pd.DataFrame(
    [
        {
            "prompt_id": f"{number:016x}",
            "dataset": "own",
            "kind": "verifiable",
            "messages": json.dumps([{"role": "user", "content": f"Say {number}."}]),
            "verifier": "regex",
            "ground_truth": json.dumps(r"[a-m]\W*$"),
            "split": "validation" if number > 3 else "train",
        }
        for number in range(6)
    ]
)


@pytest.fixture
def answering(tiny_model, tmp_path):
    """How a sampler answers with a tiny model."""

    def made(folder="answers", engine=None, **changes):
        generation = GenerationSettings(run_seed=1, max_new_tokens=5, stop=changes.pop("stop", ()), dtype="float32")
        return Answering(
            prompts=prompts_to_learn_from(PROMPTS),
            engine=engine or TransformersEngine(tiny_model, batch_size=16),
            reader=tiny_model,
            model_hash="hash",
            generation=generation,
            options=OnPolicy(prompts=3, answers=4, evaluation_prompts=2),
            sketch=SketchSize(top=64, tail=16),
            verification=Verification(),
            most_failed=0.0,
            most_crashed=0.0,
            processes=1,
            folder=tmp_path / folder,
            **changes,
        )

    return made


def rows_and_draws(candidates, logged):
    """Each answer's row and the log-probabilities that were recorded of its draws."""
    rows = candidates.sort_values(KEY).itertuples()
    for row, number in zip(rows, logged.answers.draws.tolist(), strict=True):
        yield row, logged.draws.log_probs[logged.draws.span(number)]


def test_answers_of_a_step_are_judged_recorded_and_fresh(answering, tmp_path):
    sampler, own = build_sampler(*SIMPLE, seed=3), answering()
    found = own.collect(sampler, 0)
    candidates = read_table("candidates", tmp_path / "answers/train/step=0/candidates.parquet")
    verdicts = read_table("correctness", tmp_path / "answers/train/step=0/correctness.parquet")
    assert len(candidates) == len(found.logged.answers) == 12 and found.failed == 0
    assert candidates["prompt_id"].nunique() == 3
    assert sorted(found.logged.answers.rewards) == sorted(verdicts["score"].astype(float))
    for row, draws in rows_and_draws(candidates, found.logged):
        assert draws[: len(row.token_ids)].tolist() == pytest.approx(row.token_logprobs, abs=1e-4)
        assert len(draws) == len(row.token_ids) + (row.finish_reason == "stop")
    # New uniform numbers in each step, and the answers of the step before are gone.
    other = own.collect(sampler, 1)
    assert not (tmp_path / "answers/train/step=0").exists() and (tmp_path / "answers/train/step=1").exists()
    again = read_table("candidates", tmp_path / "answers/train/step=1/candidates.parquet")
    assert not set(again["sample_seed"]) & set(candidates["sample_seed"]) and other.logged.prompt_ids
    # What is measured is the same whenever it is.
    assert own.measure(sampler, 0) == own.measure(sampler, 7) is not None


def test_a_step_that_was_begun_is_taken_up(answering, tmp_path):
    sampler = build_sampler(*SIMPLE, seed=3)
    first = answering().collect(sampler, 2).logged

    class NoEngine(TransformersEngine):
        def generate(self, requests):
            assert not requests, "answers were there"
            return iter(())

    engine = NoEngine(answering().reader, 16)
    second = answering(engine=engine).collect(sampler, 2).logged
    assert np.array_equal(first.answers.rewards, second.answers.rewards)
    assert torch.equal(first.draws.log_probs, second.draws.log_probs)


def test_answers_that_fail_stop_training_or_are_left_out(answering, tmp_path):
    class Failing(TransformersEngine):
        def generate(self, requests):
            for completion in super().generate(requests):
                yield Completion(completion.index, error="lost") if completion.index == 0 else completion

    engine = Failing(answering().reader, 16)
    with pytest.raises(UserError, match=r"1 of 12 answers failed, more than generation\.tolerance \(0\).*lost"):
        answering(engine=engine).collect(build_sampler(*SIMPLE, seed=3), 0)
    tolerant = replace(answering("tolerant", engine), most_failed=0.2)
    found = tolerant.collect(build_sampler(*SIMPLE, seed=3), 0)
    assert found.failed == 1 and len(found.logged.answers) == 11


def test_an_end_that_a_string_made_is_no_draw(answering):
    sampler = build_sampler(*SIMPLE, seed=3)
    free = answering("free")
    free.collect(sampler, 0)
    text = read_table("candidates", free.folder / "train/step=0/candidates.parquet")["text"]
    own = answering(stop=(max(text, key=len)[2],))
    found = own.collect(sampler, 0).logged
    cut = 0
    for row, draws in rows_and_draws(read_table("candidates", own.folder / "train/step=0/candidates.parquet"), found):
        was_cut = own.generation.stop[0] in own.engine.decode(row.token_ids)
        assert len(draws) == len(row.token_ids) + (row.finish_reason == "stop" and not was_cut)
        cut += was_cut
    assert cut


def test_other_answers_have_another_fingerprint(answering):
    known = answering().fingerprint()
    assert json.dumps(known) == json.dumps(answering("elsewhere").fingerprint())
    changed = replace(answering(), options=answering().options.model_copy(update={"answers": 5}))
    assert changed.fingerprint() != known
    named = replace(answering(), options=answering().options.model_copy(update={"sampler": "a/b"}))
    assert named.fingerprint() == known


def test_a_server_stays_up_for_many_calls():
    started = []

    @contextmanager
    def serve():
        started.append("up")
        yield "pool"
        started.append("down")

    with kept_open(SGLangEngine(None, serve)) as engine:
        for _ in range(2):
            with engine.serve() as pool:
                assert pool == "pool"
        assert started == ["up"]
    assert started == ["up", "down"]
    plain = object()
    with kept_open(plain) as same:
        assert same is plain
