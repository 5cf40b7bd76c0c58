"""Training: the loss against the whole vocabulary, learning, determinism, and resuming without a trace."""

import math

import pytest
import torch
from test_sketch import zipf_logits

from adaptive_samplers.config.model.training import Training
from adaptive_samplers.errors import UserError
from adaptive_samplers.logits import masked_log_softmax
from adaptive_samplers.samplers import build_sampler
from adaptive_samplers.sketch import DistributionSketch
from adaptive_samplers.tensors import load_tensors
from adaptive_samplers.training import (
    LossTerms,
    TokenSteps,
    TrainingSettings,
    evaluate,
    evaluate_identity,
    train,
    truncated_logits_loss,
)
from adaptive_samplers.training.objectives import OBJECTIVES
from adaptive_samplers.training.trainer import BatchOrder, learning_rate_at

LOSS = OBJECTIVES["imitation"](gamma=1.0)
LOCAL = ("LocalProbabilityTransform", {"hidden_dims": 24})
NETWORK = ("SamplingNetwork", {"d_model": 8, "d_ff": 12, "n_blocks": 1, "n_heads": 2, "scale": True})


def token_steps(rows: int, seed: int, temperature: float = 0.7, cut: float = -torch.inf) -> TokenSteps:
    sketch = DistributionSketch.from_logits(zipf_logits(rows, 2000, seed), 32, 32)
    target = (sketch.t / temperature).masked_fill(sketch.t < sketch.max()[:, None] + cut, -torch.inf)
    return TokenSteps(sketch.t, sketch.n, target, sketch.n * target.isfinite())


def settings(**changes) -> TrainingSettings:
    training = {"learning_rate": 0.01, "batch_size": 16, "steps": 60, "warmup_steps": 6, "evaluate_every": 10}
    return TrainingSettings.from_config(Training(**training, patience=None), **{"seed": 3, **changes})


def naive_loss(predicted, target, gamma):
    """Token by token over a whole vocabulary, in float64."""
    kls, masses = [], []
    for q_logits, p_logits in zip(predicted.double().tolist(), target.double().tolist(), strict=True):
        q_total = sum(math.exp(x) for x in q_logits)
        p_total = sum(math.exp(x) for x in p_logits)
        kl = mass = 0.0
        for q_logit, p_logit in zip(q_logits, p_logits, strict=True):
            q, p = math.exp(q_logit) / q_total, math.exp(p_logit) / p_total
            if p_logit == -math.inf:
                mass += q
            else:
                kl += p * math.log(p / q)
        kls.append(kl)
        masses.append(mass)
    kl, mass = sum(kls) / len(kls), sum(masses) / len(masses)
    return kl + gamma * mass, kl, mass


def test_loss_over_a_whole_vocabulary():
    predicted = zipf_logits(4, 80, seed=1)
    target = zipf_logits(4, 80, seed=2)
    target[target < -4] = -torch.inf
    terms = truncated_logits_loss(predicted, target, torch.ones(4, 80), target.isfinite().float(), gamma=0.7)
    assert [float(term) for term in terms] == pytest.approx(naive_loss(predicted, target, 0.7), rel=1e-5)


def test_loss_on_counts_is_the_loss_over_as_many_equal_tokens():
    counts = torch.tensor([1, 1, 3, 2, 0, 5])
    predicted = torch.tensor([[2.0, 1.0, 0.5, -1.0, -1.0, -2.0]], requires_grad=True)
    target = torch.tensor([[3.0, 1.0, 0.0, -torch.inf, -1.0, -torch.inf]])
    n = counts[None].float()
    terms = truncated_logits_loss(predicted, target, n, n * target.isfinite(), gamma=2.0)
    repeated = [x.detach().repeat_interleave(counts, dim=1) for x in (predicted, target)]
    assert [term.item() for term in terms] == pytest.approx(naive_loss(*repeated, 2.0), rel=1e-5)
    terms.loss.backward()
    assert predicted.grad.isfinite().all() and predicted.grad[0, 4] == 0


def test_loss_where_a_part_of_a_group_survives():
    """As over the tokens one by one, of which the surviving ones stand first in their group."""
    n, kept = torch.tensor([1, 4, 3, 2, 0]), torch.tensor([1, 4, 1, 0, 0])
    predicted = torch.tensor([[2.0, 1.0, 0.5, -1.0, -1.0]], requires_grad=True)
    target = torch.tensor([[3.0, 1.0, 0.0, -torch.inf, 7.0]])
    terms = truncated_logits_loss(predicted, target, n[None].float(), kept[None].float(), gamma=2.0)
    place = torch.repeat_interleave(torch.arange(5), n)
    rank = torch.arange(len(place)) - (n.cumsum(0) - n)[place]
    alone = target[:, place].masked_fill(rank >= kept[place], -torch.inf)
    assert [term.item() for term in terms] == pytest.approx(
        naive_loss(predicted.detach()[:, place], alone, 2.0), rel=1e-5
    )
    terms.loss.backward()
    assert predicted.grad.isfinite().all() and predicted.grad[0, 4] == 0


def test_loss_on_the_sketch_is_the_loss_on_the_vocabulary():
    sampler = build_sampler(*NETWORK, seed=0)
    logits = zipf_logits(8, 20_000)
    sketch = DistributionSketch.from_logits(logits, 256, 256)
    log_probs, _ = masked_log_softmax(logits)
    cut = sketch.t[:, 100:101]

    def loss(t: torch.Tensor, n: torch.Tensor) -> LossTerms:
        target = (t / 0.8).masked_fill(t < cut, -torch.inf)
        with torch.no_grad():
            return truncated_logits_loss(sampler(t, n), target, n, n * target.isfinite(), 1.0)

    exact, sketched = loss(log_probs, torch.ones_like(log_probs)), loss(sketch.t, sketch.n)
    assert [float(x) for x in sketched] == pytest.approx([float(x) for x in exact], rel=1e-3)


@pytest.mark.parametrize(("model", "cut"), [(LOCAL, -torch.inf), (NETWORK, -3.0)])
def test_training_beats_the_identity(model, cut, tmp_path):
    train_set, validation_set, test_set = (
        token_steps(rows, seed, cut=cut) for seed, rows in enumerate((512, 128, 128))
    )
    sampler = build_sampler(*model, seed=0)
    before = evaluate(sampler, test_set, LOSS)
    result = train(sampler, train_set, validation_set, settings(steps=150, evaluate_every=50), tmp_path)
    after, identity = evaluate(result.sampler, test_set, LOSS), evaluate_identity(test_set, LOSS)
    assert set(after) == {"loss", "kl", "truncated_mass"}
    assert set(identity) == {"identity_loss", "identity_kl", "identity_truncated_mass"}
    assert after["loss"] < before["loss"]
    assert after["kl"] < identity["identity_kl"] / 2
    assert after["loss"] < identity["identity_loss"] / 2
    assert result.best_loss == pytest.approx(evaluate(result.sampler, validation_set, LOSS)["loss"])


def test_identity_of_a_target_without_change_is_zero():
    terms = evaluate_identity(token_steps(10, 0, temperature=1.0), LOSS)
    assert terms["identity_loss"] == pytest.approx(0, abs=1e-6)


def run(model, folder, log=None, **changes):
    sampler = build_sampler(*model, seed=7)
    train_set, validation_set = token_steps(100, 0, cut=-3.0), token_steps(40, 1, cut=-3.0)
    result = train(sampler, train_set, validation_set, settings(**changes), folder, log)
    return result, {name: tensor.clone() for name, tensor in result.sampler.state_dict().items()}


def assert_same(one, two):
    (result, weights), (other, other_weights) = one, two
    assert result.curves == other.curves
    assert (result.best_step, result.best_loss) == (other.best_step, other.best_loss)
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


@pytest.mark.parametrize("model", [LOCAL, NETWORK])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(model, tmp_path):
    rows = []
    whole = run(model, tmp_path / "whole", log=rows.append)
    assert rows == whole[0].curves

    def interrupt(row):
        if row["step"] == 37:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "cut", log=interrupt)
    resumed = []
    again = run(model, tmp_path / "cut", log=resumed.append)
    assert resumed[0]["step"] == 31, "the checkpoint at step 30 should have been taken up"
    assert_same(whole, again)

    finished = []
    assert_same(whole, run(model, tmp_path / "cut", log=finished.append))
    assert finished == []


def test_a_checkpoint_of_another_run_is_not_taken_up(tmp_path):
    run(LOCAL, tmp_path / "shared", steps=20)
    rows = []
    run(LOCAL, tmp_path / "shared", log=rows.append, learning_rate=0.02, steps=20)
    assert rows[0]["step"] == 0


def test_the_same_seed_gives_the_same_run_and_another_another(tmp_path):
    one, two = (run(NETWORK, tmp_path / name, steps=20) for name in ("one", "two"))
    assert_same(one, two)
    other = run(NETWORK, tmp_path / "other", steps=20, seed=4)
    assert one[0].curves != other[0].curves


def test_what_training_leaves_behind(tmp_path):
    result, _ = run(LOCAL, tmp_path)
    columns = {"step", "split", "loss", "kl", "truncated_mass", "learning_rate"}
    assert all(set(row) == columns for row in result.curves)
    assert [row["step"] for row in result.curves if row["split"] == "train"] == list(range(1, 61))
    assert [row["step"] for row in result.curves if row["split"] == "validation"] == list(range(0, 61, 10))
    validation = {row["step"]: row["loss"] for row in result.curves if row["split"] == "validation"}
    assert result.best_loss == min(validation.values()) == validation[result.best_step]
    assert "progress" in load_tensors(tmp_path / "checkpoint/checkpoint.safetensors")[1]
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_early_stopping_keeps_the_best_weights(tmp_path):
    train_set, validation_set = token_steps(100, 0), token_steps(40, 1, temperature=1.0)
    sampler = build_sampler(*LOCAL, seed=7)
    # What is learned (a lower temperature) makes the validation loss worse from the start.
    with torch.no_grad():
        sampler.mlp.down_proj.weight.zero_()
        sampler.mlp.down_proj.bias.zero_()
        before = {name: tensor.clone() for name, tensor in sampler.state_dict().items()}
    result = train(sampler, train_set, validation_set, settings(patience=2), tmp_path)
    assert (result.best_step, result.last_step) == (0, 20)
    assert all(torch.equal(tensor, before[name]) for name, tensor in result.sampler.state_dict().items())


def test_every_epoch_takes_every_token_step_once():
    order = BatchOrder(10, 4, seed=0)
    drawn = torch.cat([order.at(step) for step in range(5)]).tolist()
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    assert BatchOrder(10, 4, seed=0).at(3).tolist() == drawn[12:16]
    assert len(BatchOrder(3, 8, seed=0).at(1)) == 8


def test_the_learning_rate_rises_and_falls():
    plan = settings(steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate_at(step, plan) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5) and rates[100] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_what_cannot_be_trained_on_is_said(tmp_path):
    steps, nothing = token_steps(20, 0), token_steps(20, 0).select(slice(0, 0))
    for train_set, validation_set, name in ((nothing, steps, "training"), (steps, nothing, "validation")):
        with pytest.raises(UserError, match=f"no {name} token-steps"):
            train(build_sampler(*LOCAL, seed=0), train_set, validation_set, settings(), tmp_path)
    broken = TokenSteps(steps.t, steps.n, torch.full_like(steps.t, torch.nan), steps.kept)
    with pytest.raises(UserError, match="learning_rate"):
        train(build_sampler(*LOCAL, seed=0), broken, steps, settings(), tmp_path)
    with pytest.raises(ValueError, match="support points"):
        TokenSteps(steps.t, steps.n, steps.target, steps.kept[:3])


def test_low_precision_learns_too_and_keeps_full_weights(tmp_path):
    results = {}
    for precision in ("float32", "bfloat16"):
        sampler = build_sampler(*NETWORK, seed=1)
        losses = [evaluate(sampler, token_steps(24, 2), LOSS)["loss"]]
        trained = train(
            sampler, token_steps(64, 1), token_steps(24, 2), settings(precision=precision), tmp_path / precision
        )
        losses.append(evaluate(trained.sampler, token_steps(24, 2), LOSS)["loss"])
        assert losses[1] < losses[0] / 2
        assert {parameter.dtype for parameter in trained.sampler.parameters()} == {torch.float32}
        results[precision] = losses[1]
    assert results["float32"] != results["bfloat16"]
