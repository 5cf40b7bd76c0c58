"""Samplers: their definitions in plain float64, equivariance, sketch against exact, drawing, saving, generating."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_sketch import zipf_logits

from adaptive_samplers.errors import UserError
from adaptive_samplers.samplers import ARCHITECTURES, AdaptiveSampler, SamplingNetwork, build_sampler
from adaptive_samplers.sketch import DistributionSketch

WIDE = {"d_model": 16, "d_ff": 24, "n_blocks": 2, "n_heads": 4}
CONFIGS = [
    ("LocalProbabilityTransform", {"hidden_dims": 24}),
    ("SimpleDistributionAwareTransform", {"hidden_dims": 24, "use_dynamic_truncation": True}),
    ("SimpleDistributionAwareTransform", {"hidden_dims": 24, "use_dynamic_truncation": False}),
    ("SamplingNetwork", {"d_model": 16, "d_ff": 24, "n_blocks": 2, "n_heads": 4, "scale": True}),
    ("SamplingNetwork", {"d_model": 16, "d_ff": 24, "n_blocks": 2, "n_heads": 2, "scale": False}),
    ("ConditionedSamplingNetwork", {**WIDE, "scale": True, "d_preference": 6, "preference": 0.8}),
]
DEFAULTS = {"SamplingNetwork": {"multiplier": 1.0}}  # what config.json says beside
every_config = pytest.mark.parametrize(
    ("architecture", "config"), CONFIGS, ids=[f"{name}-{number}" for number, (name, _) in enumerate(CONFIGS)]
)


# The definitions once more, token by token in float64, from the stored weights alone.


def linear(weights, name, x):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def silu(x):
    return x / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def swiglu(weights, name, x):
    gated = silu(linear(weights, f"{name}.gate_proj", x)) * linear(weights, f"{name}.up_proj", x)
    return linear(weights, f"{name}.down_proj", gated)


def layer_norm(weights, name, x):
    normal = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def feature_map(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1) + 1


def local_reference(weights, config, log_probs):
    smooth = [logp + swiglu(weights, "mlp", np.array([logp]))[0] for logp in log_probs]
    return smooth, float(weights["truncation_scale"]), float(weights["truncation_threshold"])


def simple_reference(weights, config, log_probs):
    entropy = -sum(math.exp(logp) * logp for logp in log_probs)
    statistics = np.array([max(log_probs), entropy])
    smooth = []
    for logp in log_probs:
        features = silu(linear(weights, "local_mlp.0", np.array([logp])))
        smooth.append(logp + swiglu(weights, "global_mlp", np.concatenate([features, statistics]))[0])
    if config["use_dynamic_truncation"]:
        scale, threshold = softplus(linear(weights, "truncation_head", statistics))
    else:
        scale, threshold = softplus(weights["truncation_params"])
    return smooth, scale, threshold


def attention_reference(weights, block, hidden, n_heads):
    d_model = len(hidden[0])
    width = d_model // n_heads
    projected = [linear(weights, f"{block}.qkv_proj", h) for h in hidden]
    queries = [p[:d_model] for p in projected]
    keys = [p[d_model : 2 * d_model] for p in projected]
    values = [p[2 * d_model :] for p in projected]
    outputs = []
    for query in queries:
        heads = []
        for head in range(n_heads):
            part = slice(head * width, (head + 1) * width)
            similarity = [feature_map(query[part]) @ feature_map(key[part]) for key in keys]
            summed = sum(s * value[part] for s, value in zip(similarity, values, strict=True))
            heads.append(summed / (sum(similarity) + 1e-6))
        outputs.append(linear(weights, f"{block}.attention.o_proj", np.concatenate(heads)))
    return outputs


def network_reference(weights, config, log_probs):
    hidden = [swiglu(weights, "encoder.mlp", np.array([logp])) for logp in log_probs]
    for index in range(config["n_blocks"]):
        block = f"blocks.{index}"
        attended = attention_reference(weights, block, hidden, config["n_heads"])
        hidden = [layer_norm(weights, f"{block}.norm1", h + a) for h, a in zip(hidden, attended, strict=True)]
        hidden = [layer_norm(weights, f"{block}.norm2", h + swiglu(weights, f"{block}.ffn", h)) for h in hidden]
    context = np.mean(hidden, axis=0)
    multiplier = softplus(swiglu(weights, "scaling_head", context))[0] if config["scale"] else 1.0
    smooth = [
        multiplier * (logp + swiglu(weights, "transformation_head", np.concatenate([h, context]))[0])
        for logp, h in zip(log_probs, hidden, strict=True)
    ]
    scale, threshold = softplus(swiglu(weights, "truncation_head", context))
    return smooth, scale, threshold


def conditioned_reference(weights, config, log_probs):
    """The network with the biases of some layers shifted by a function of the preference."""
    layers = ["encoder.mlp.down_proj", *(f"blocks.{i}.norm{j}" for i in range(config["n_blocks"]) for j in (1, 2))]
    heads = ("transformation_head", "truncation_head", "scaling_head")
    layers += [f"{head}.{layer}_proj" for head in heads for layer in ("gate", "up", "down")]
    shifts = linear(weights, "shifts", silu(linear(weights, "hidden", np.array([2 * config["preference"] - 1]))))
    shifted = {name.removeprefix("network."): values for name, values in weights.items()}
    for layer in layers:
        size = len(shifted[f"{layer}.bias"])
        shifted[f"{layer}.bias"] = shifted[f"{layer}.bias"] + shifts[:size]
        shifts = shifts[size:]
    assert not len(shifts)
    return network_reference(shifted, config, log_probs)


REFERENCES = {
    "ConditionedSamplingNetwork": conditioned_reference,
    "LocalProbabilityTransform": local_reference,
    "SimpleDistributionAwareTransform": simple_reference,
    "SamplingNetwork": network_reference,
}


def reference_logits(sampler, config, logits):
    weights = {name: tensor.double().numpy() for name, tensor in sampler.state_dict().items()}
    log_probs = [float(x) for x in logits.double().log_softmax(-1)]
    smooth, scale, threshold = REFERENCES[type(sampler).__name__](weights, config, log_probs)
    return torch.tensor([y - math.log1p(math.exp(-(y * scale + threshold))) for y in smooth])


def perturbed(architecture, config, seed=0):
    """A sampler whose weights are larger than at the start of training, so that every part of it matters."""
    sampler = build_sampler(architecture, config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sampler.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return sampler.eval()


def test_every_architecture_has_a_second_definition():
    assert {name for name, _ in CONFIGS} == REFERENCES.keys() == ARCHITECTURES.keys()


@every_config
def test_definition_in_plain_float64(architecture, config):
    sampler = perturbed(architecture, config)
    logits = zipf_logits(2, 60, seed=3)
    with torch.no_grad():
        exact, sketched = sampler.logits(logits, exact=True), sampler.logits(logits)
    for row in range(2):
        expected = reference_logits(sampler, config, logits[row]).float()
        assert torch.allclose(exact[row], expected, atol=2e-4, rtol=1e-5)
        assert torch.allclose(sketched[row], expected, atol=2e-4, rtol=1e-5)


@every_config
@torch.no_grad()
def test_permuting_the_vocabulary_permutes_the_output(architecture, config):
    sampler = perturbed(architecture, config)
    logits = zipf_logits(3, 1000)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    for exact in (False, True):
        output = sampler.logits(logits, exact=exact)
        assert torch.allclose(sampler.logits(logits[:, order], exact=exact), output[:, order], atol=1e-4)


@every_config
@torch.no_grad()
def test_sketch_against_exact_in_total_variation(architecture, config):
    sampler = build_sampler(architecture, config, seed=4)
    logits = zipf_logits(12, 20_000) / torch.linspace(0.3, 3, 12)[:, None]
    sketched, exact = (sampler.logits(logits, exact=exact).double().softmax(-1) for exact in (False, True))
    total_variation = (sketched - exact).abs().sum(-1) / 2
    assert total_variation.median() < 1e-5
    assert total_variation.max() < 1e-4


@every_config
@torch.no_grad()
def test_counts_stand_for_equal_tokens_and_padding_for_none(architecture, config):
    sampler = perturbed(architecture, config)
    tokens = torch.tensor([[0.3, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.1]]).log()
    t = torch.tensor([[0.3, 0.2, 0.1, 0.05, 0.05, 0.05]]).log()
    n = torch.tensor([[1.0, 1.0, 4.0, 2.0, 0.0, 0.0]])
    output = sampler(t, n)
    expected = sampler(tokens, torch.ones_like(tokens))
    assert torch.allclose(output[:, :4], expected[:, [0, 1, 2, 5]], atol=1e-5)
    assert torch.allclose(sampler(t[:, :4], n[:, :4]), output[:, :4], atol=1e-5)


@every_config
@torch.no_grad()
def test_masked_tokens_stay_masked_and_change_nothing(architecture, config):
    sampler = perturbed(architecture, config)
    logits = zipf_logits(2, 100)
    padded = torch.cat([logits, torch.full((2, 30), -torch.inf)], dim=-1)
    for exact in (False, True):
        output = sampler.logits(padded, exact=exact)
        assert (output[:, 100:] == -torch.inf).all() and output[:, :100].isfinite().all()
        assert torch.allclose(output[:, :100], sampler.logits(logits, exact=exact), atol=1e-5)
    few = torch.full((1, 50), -torch.inf)
    few[0, [3, 7]] = torch.tensor([1.0, 0.0])
    assert (sampler.logits(few) > -torch.inf).nonzero()[:, 1].tolist() == [3, 7]


@torch.no_grad()
def test_shapes_and_low_precision():
    sampler = build_sampler(*CONFIGS[3], seed=0)
    logits = zipf_logits(6, 700)
    assert sampler.logits(logits.reshape(2, 3, 700)).shape == (2, 3, 700)
    assert sampler.logits(logits[0]).shape == (700,)
    assert sampler.sample(logits.reshape(2, 3, 700)).shape == (2, 3)
    assert sampler.sample(logits[0]).shape == ()
    rounded = logits.bfloat16()
    assert torch.equal(sampler.logits(rounded), sampler.logits(rounded.float()))


def test_training_reaches_every_parameter():
    for architecture, config in CONFIGS:
        sampler = build_sampler(architecture, config, seed=0)
        # Not the mean: it would be blind to what adds a constant to all logits.
        sketch = DistributionSketch.from_logits(zipf_logits(2, 300), 20, 20)
        sampler(sketch.t, sketch.n).log_softmax(-1)[:, :5].sum().backward()
        for name, parameter in sampler.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_samples_follow_the_distribution_and_the_generator():
    sampler = perturbed(*CONFIGS[0])
    logits = torch.tensor([2.0, 1.0, -torch.inf, 0.0, -1.0])
    many = logits.expand(20_000, 5)
    ids = sampler.sample(many, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ids, sampler.sample(many, generator=torch.Generator().manual_seed(0)))
    expected = sampler.logits(logits).softmax(-1)
    observed = ids.bincount(minlength=5) / len(ids)
    assert observed[2] == 0
    assert torch.allclose(observed, expected, atol=0.015)


@torch.no_grad()
def test_the_last_token_is_drawn_only_if_it_is_possible(monkeypatch):
    sampler = build_sampler(*CONFIGS[0], seed=0)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, 1.0 - 2**-53, dtype=torch.float64))
    assert sampler.sample(torch.tensor([-torch.inf, 1.0, 0.0, -torch.inf])).item() == 2
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.zeros(shape, dtype=torch.float64))
    assert sampler.sample(torch.tensor([-torch.inf, 1.0, 0.0, -torch.inf])).item() == 1


def test_building_follows_from_the_seed_and_leaves_the_global_state():
    state = torch.random.get_rng_state()
    first, again, other = (build_sampler(*CONFIGS[3], seed=seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("SamplingNetwrk", {}, "SamplingNetwork"),
        ("SamplingNetwork", {"d_modell": 32}, "d_modell"),
        ("SamplingNetwork", {"d_model": 30, "n_heads": 4}, "n_heads"),
        ("SamplingNetwork", {"d_model": -16}, "d_model: expected a whole number of at least 1 and at most 4096"),
        ("SamplingNetwork", {"n_heads": 0}, "n_heads: expected a whole number of at least 1 .* found 0"),
        ("SamplingNetwork", {"n_blocks": 10**7}, "n_blocks: .* at most 64, found 10000000"),
        ("SamplingNetwork", {"d_ff": 2.5}, "d_ff: expected a whole number"),
        ("SamplingNetwork", {"scale": 1}, "scale: expected true or false, found 1"),
        ("SamplingNetwork", {"multiplier": float("nan")}, "multiplier: expected a number above 0"),
        ("LocalProbabilityTransform", {"hidden_dims": True}, "hidden_dims: expected a whole number .* found True"),
        ("LocalProbabilityTransform", {"hidden_dims": 10**9}, "hidden_dims: .* at most 4096"),
    ],
)
def test_wrong_configurations_are_named(architecture, config, message):
    with pytest.raises(UserError, match=message):
        build_sampler(architecture, config, seed=0)


@every_config
def test_saving_and_loading(architecture, config, tmp_path):
    sampler = perturbed(architecture, config)
    sampler.save_pretrained(tmp_path / "sampler")
    files = {path.name for path in (tmp_path / "sampler").iterdir()}
    assert files >= {"config.json", "model.safetensors"}
    stored = json.loads((tmp_path / "sampler/config.json").read_text())
    expected = {"architecture": architecture, "lowest_log_prob": -50.0, **DEFAULTS.get(architecture, {}), **config}
    assert stored == expected

    logits = zipf_logits(2, 500)
    for loader in (AdaptiveSampler, ARCHITECTURES[architecture].sampler_class):
        loaded = loader.from_pretrained(tmp_path / "sampler")
        assert type(loaded) is ARCHITECTURES[architecture].sampler_class
        assert loaded.config == sampler.config
        with torch.no_grad():
            assert torch.equal(loaded.logits(logits), sampler.logits(logits))
    loaded.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again/config.json").read_text()) == stored


def test_loading_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        AdaptiveSampler.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="architecture"):
        AdaptiveSampler.from_pretrained(tmp_path / "empty")
    build_sampler(*CONFIGS[0], seed=0).save_pretrained(tmp_path / "local")
    with pytest.raises(UserError, match="not a SamplingNetwork"):
        SamplingNetwork.from_pretrained(tmp_path / "local")
    (tmp_path / "local/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        AdaptiveSampler.from_pretrained(tmp_path / "local")


SPOILED = "blocks.1.qkv_proj.weight"
CHANGES = {
    "nan": lambda tensors: tensors[SPOILED][3].fill_(math.nan),
    "infinite": lambda tensors: tensors[SPOILED][0].fill_(-math.inf),
    "misshapen": lambda tensors: tensors.update({SPOILED: tensors[SPOILED][:-1].contiguous()}),
    "missing": lambda tensors: tensors.pop(SPOILED),
    "unknown": lambda tensors: tensors.update({"blocks.7.norm1.bias": torch.zeros(3)}),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nan", r"model\.safetensors: blocks\.1\.qkv_proj\.weight holds NaN or infinity"),
        ("infinite", r"model\.safetensors: blocks\.1\.qkv_proj\.weight holds NaN or infinity"),
        ("misshapen", r"blocks\.1\.qkv_proj\.weight: expected shape \[48, 16\] by config\.json, found \[47, 16\]"),
        ("missing", r"model\.safetensors: lacks the tensor blocks\.1\.qkv_proj\.weight"),
        ("unknown", r"model\.safetensors: has a tensor blocks\.7\.norm1\.bias"),
    ],
)
def test_weights_that_are_no_sampler_are_refused(tmp_path, change, message):
    build_sampler(*CONFIGS[3], seed=0).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    CHANGES[change](tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=message):
        AdaptiveSampler.from_pretrained(tmp_path)


def test_damaged_weights_and_absurd_options_are_refused_with_the_file(tmp_path):
    build_sampler(*CONFIGS[3], seed=0).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**stored, "n_blocks": 10**7}))
    with pytest.raises(UserError, match=rf"{tmp_path}: config\.json: .*n_blocks"):
        AdaptiveSampler.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(stored))
    whole = (tmp_path / "model.safetensors").read_bytes()
    for damaged in (whole[:-100], b"", b"\xff" * 64):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
            AdaptiveSampler.from_pretrained(tmp_path)


def test_logits_processor_in_generate(tiny_model):
    sampler = perturbed(*CONFIGS[3])
    output = tiny_model.model.generate(
        torch.tensor([[1, 5, 9], [1, 7, 3]]),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=4,
        min_new_tokens=4,
        logits_processor=[sampler.as_logits_processor()],
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert output.sequences.shape == (2, 7)
    masked = output.scores[0] == -torch.inf
    with torch.no_grad():
        expected = sampler.logits(output.logits[0].masked_fill(masked, -torch.inf))
    assert torch.allclose(output.scores[0], expected, atol=1e-6)
