"""Importing checkpoints of the reference implementation, against plain implementations of its three architectures.

The modules below are written from the definitions alone, evaluate the whole vocabulary in one precision, and carry the
reference's parameter names; nothing in them comes from the project's samplers.
"""

import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from adaptive_samplers import AdaptiveSampler
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.import_reference import import_checkpoint, main
from support import REPOSITORY

SOFTPLUS_OF_ONE = 1.3132616875182228


class GatedLayer(nn.Module):
    def __init__(self, inputs, hidden, outputs):
        super().__init__()
        self.gate_proj = nn.Linear(inputs, int(2 * hidden / 3))
        self.up_proj = nn.Linear(inputs, int(2 * hidden / 3))
        self.down_proj = nn.Linear(int(2 * hidden / 3), outputs)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def softly_truncated(y, scale, threshold):
    return y + F.logsigmoid(y * scale + threshold)


class LocalReference(nn.Module):
    def __init__(self, hidden_dims):
        super().__init__()
        self.mlp = GatedLayer(1, hidden_dims, 1)
        self.truncation_scale = nn.Parameter(torch.tensor(1.0))
        self.truncation_threshold = nn.Parameter(torch.tensor(10.0))

    def forward(self, logits):
        logp = logits.log_softmax(-1)
        y = logp + self.mlp(logp[..., None])[..., 0]
        return softly_truncated(y, self.truncation_scale, self.truncation_threshold)


class SimpleReference(nn.Module):
    def __init__(self, hidden_dims, use_dynamic_truncation):
        super().__init__()
        self.local_mlp = nn.Sequential(nn.Linear(1, hidden_dims), nn.SiLU())
        self.global_mlp = GatedLayer(hidden_dims + 2, hidden_dims, 1)
        self.dynamic = use_dynamic_truncation
        if self.dynamic:
            self.truncation_head = nn.Linear(2, 2)
        else:
            self.truncation_params = nn.Parameter(torch.tensor([0.5413, 10.0]))

    def forward(self, logits):
        logp = logits.log_softmax(-1)
        entropy = -(logp.exp() * logp).sum(-1)
        statistics = torch.stack([logp.max(-1).values, entropy], dim=-1)
        repeated = statistics[:, None, :].repeat(1, logits.shape[1], 1)
        y = logp + self.global_mlp(torch.cat([self.local_mlp(logp[..., None]), repeated], dim=-1))[..., 0]
        truncation = self.truncation_head(statistics) if self.dynamic else self.truncation_params[None]
        return softly_truncated(y, F.softplus(truncation[:, :1]), F.softplus(truncation[:, 1:]))


class ReferenceAttention(nn.Module):
    def __init__(self, d_model, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.o_proj = nn.Linear(d_model, d_model)

    def forward(self, query, key, value):
        heads = []
        for q, k, v in zip(*(x.chunk(self.n_heads, dim=-1) for x in (query, key, value)), strict=True):
            q, k = F.elu(q) + 1, F.elu(k) + 1
            numerator = q @ (k.transpose(1, 2) @ v)
            denominator = (q * k.sum(1, keepdim=True)).sum(-1, keepdim=True)
            heads.append(numerator / (denominator + 1e-6))
        return self.o_proj(torch.cat(heads, dim=-1))


class ReferenceBlock(nn.Module):
    def __init__(self, d_model, d_ff, n_heads):
        super().__init__()
        self.qkv_proj = nn.Linear(d_model, 3 * d_model)
        self.attention = ReferenceAttention(d_model, n_heads)
        self.ffn = GatedLayer(d_model, d_ff, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)

    def forward(self, h):
        h = self.norm1(h + self.attention(*self.qkv_proj(h).chunk(3, dim=-1)))
        return self.norm2(h + self.ffn(h))


class NetworkReference(nn.Module):
    def __init__(self, d_model, d_ff, n_blocks, n_heads, scale):
        super().__init__()
        self.encoder = nn.ModuleDict({"mlp": GatedLayer(1, d_model, d_model)})
        self.blocks = nn.Sequential(*(ReferenceBlock(d_model, d_ff, n_heads) for _ in range(n_blocks)))
        self.transformation_head = GatedLayer(2 * d_model, d_model, 1)
        self.truncation_head = GatedLayer(d_model, d_model // 2, 2)
        self.scaling_head = GatedLayer(d_model, d_model // 2, 1) if scale else None
        # Without a scaling head the reference takes softplus of a constant 1.
        self.multiplier = F.softplus(torch.tensor(1.0))

    def forward(self, logits):
        logp = logits.log_softmax(-1)
        h = self.blocks(self.encoder["mlp"](logp[..., None]))
        c = h.mean(1)
        features = torch.cat([h, c[:, None].repeat(1, h.shape[1], 1)], dim=-1)
        multiplier = F.softplus(self.scaling_head(c)) if self.scaling_head is not None else self.multiplier
        y = multiplier * (logp + self.transformation_head(features)[..., 0])
        truncation = F.softplus(self.truncation_head(c))
        return softly_truncated(y, truncation[:, :1], truncation[:, 1:])


REFERENCES = {
    "LocalProbabilityTransform": LocalReference,
    "SimpleDistributionAwareTransform": SimpleReference,
    "SamplingNetwork": NetworkReference,
}
LOCAL = ("LocalProbabilityTransform", {"hidden_dims": 40})
SIMPLE = ("SimpleDistributionAwareTransform", {"hidden_dims": 24, "use_dynamic_truncation": True})
STATIC = ("SimpleDistributionAwareTransform", {"hidden_dims": 31, "use_dynamic_truncation": False})
NETWORK = ("SamplingNetwork", {"d_model": 16, "d_ff": 40, "n_blocks": 3, "n_heads": 2, "scale": True})
PLAIN = ("SamplingNetwork", {"d_model": 12, "d_ff": 20, "n_blocks": 1, "n_heads": 4, "scale": False})
PUBLISHED = ("SamplingNetwork", {"d_model": 32, "d_ff": 64, "n_blocks": 4, "n_heads": 4, "scale": True})
CASES = [LOCAL, SIMPLE, STATIC, NETWORK, PLAIN, PUBLISHED]
every_case = pytest.mark.parametrize(
    ("architecture", "config"), CASES, ids=["local", "simple", "static", "network", "plain", "published"]
)


def reference_model(architecture, config, seed=0):
    """A reference with weights away from their initial values, so that every part of it matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = REFERENCES[architecture](**config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn(parameter.shape)
    return model.eval()


def distributions():
    """Logits `[8, 3000]`: heavy-tailed at several temperatures, normal, nearly one-hot, two-valued, and uniform."""
    generator = torch.Generator().manual_seed(7)
    size = 3000
    ranks = torch.arange(1, size + 1).float()
    rows = [-1.2 * ranks.log()[torch.randperm(size, generator=generator)] / t for t in (0.4, 1.0, 3.0)]
    rows += [3.0 * torch.randn(size, generator=generator), 0.01 * torch.randn(size, generator=generator)]
    rows += [20.0 * (ranks == 17).float(), 2.5 * (ranks > 2900).float(), torch.full((size,), -4.0)]
    return torch.stack(rows)


def save_case(folder, architecture, config, state):
    """A checkpoint and its config; the command's arguments for them."""
    torch.save(state, folder / "sampler.bin")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return command_for(folder, architecture)


def command_for(folder, architecture, checkpoint="sampler.bin"):
    return [
        str(folder / checkpoint),
        *("--architecture", architecture),
        *("--config", str(folder / "config.yaml")),
        *("--output", str(folder / "imported")),
    ]


def assert_agrees(folder, model):
    logits = distributions()
    sampler = AdaptiveSampler.from_pretrained(folder)
    with torch.no_grad():
        # Not only up to a constant: both start from log-probabilities.
        differences = (sampler.logits(logits, exact=True) - model(logits)).abs().amax(-1).tolist()
    assert max(differences) < 1e-5


@every_case
def test_outputs_agree_with_the_reference(architecture, config, tmp_path):
    model = reference_model(architecture, config)
    assert main(save_case(tmp_path, architecture, config, model.state_dict())) == 0
    assert_agrees(tmp_path / "imported", model)


@every_case
def test_compiled_and_in_bfloat16(architecture, config, tmp_path):
    model = reference_model(architecture, config, seed=1)
    # LayerNorm stays in float32 where the rest trains in bfloat16.
    state = {
        f"_orig_mod.{name}": value if "norm" in name else value.bfloat16() for name, value in model.state_dict().items()
    }
    assert main(save_case(tmp_path, architecture, config, state)) == 0
    stored = load_file(tmp_path / "imported" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    model.load_state_dict({name: state[f"_orig_mod.{name}"].float() for name in model.state_dict()})
    assert_agrees(tmp_path / "imported", model)


def test_the_command_itself(tmp_path):
    model = reference_model(*PLAIN)
    arguments = save_case(tmp_path, *PLAIN, model.state_dict())
    command = [sys.executable, "-m", "adaptive_samplers.import_reference", *arguments]
    environment = {"PYTHONPATH": str(REPOSITORY / "scripts"), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    imported, written, load_line = done.stdout.splitlines()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert "SamplingNetwork" in imported and f"{parameters:,} parameters" in imported and "n_heads 4" in imported
    assert str(tmp_path / "imported") in written
    names = {}
    exec(load_line, names)
    assert names["sampler"].config["multiplier"] == pytest.approx(SOFTPLUS_OF_ONE, abs=1e-12)
    assert_agrees(tmp_path / "imported", model)

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 1 and again.stdout == ""
    assert len(again.stderr.splitlines()) == 1 and "exists already" in again.stderr


def test_the_folder_holds_config_weights_and_provenance(tmp_path):
    model = reference_model(*SIMPLE)
    assert main(save_case(tmp_path, *SIMPLE, model.state_dict())) == 0
    folder = tmp_path / "imported"
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors", "provenance.json"}
    stored = json.loads((folder / "config.json").read_text())
    assert stored.items() >= {"architecture": SIMPLE[0], **SIMPLE[1]}.items()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["checkpoint"] == {"name": "sampler.bin", "sha256": file_sha256(tmp_path / "sampler.bin")}
    assert provenance["settings"] == {"architecture": SIMPLE[0], "config": SIMPLE[1]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "imported", "sampler.bin"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"optimizer": {"lr": 0.1}, "model_state_dict": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
        lambda state: {name.replace("mlp.", "mlp._orig_mod."): value for name, value in state.items()},
        lambda state: {name: value.double() for name, value in state.items()},
        lambda state: {name: value[None] if value.ndim == 0 else value for name, value in state.items()},
    ],
    ids=["state_dict", "model_state_dict", "nested", "data_parallel", "compiled_inside", "double", "scalars_of_one"],
)
def test_shapes_a_checkpoint_may_have(wrap, tmp_path):
    model = reference_model(*LOCAL)
    assert main(save_case(tmp_path, *LOCAL, wrap(model.state_dict()))) == 0
    assert_agrees(tmp_path / "imported", model)


def test_safetensors(tmp_path):
    model = reference_model(*NETWORK)
    save_case(tmp_path, *NETWORK, {})
    state = {f"_orig_mod.{name}": value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, tmp_path / "sampler.safetensors")
    assert main(command_for(tmp_path, NETWORK[0], "sampler.safetensors")) == 0
    assert_agrees(tmp_path / "imported", model)


@pytest.mark.parametrize(
    ("case", "omitted"),
    [(NETWORK, ["scale"]), (PLAIN, ["scale", "d_model", "n_blocks"]), (STATIC, ["use_dynamic_truncation"])],
    ids=["scaling_head", "no_scaling_head", "static"],
)
def test_what_the_config_leaves_out_is_read_off_the_tensors(case, omitted, tmp_path):
    architecture, config = case
    model = reference_model(*case)
    rest = {key: value for key, value in config.items() if key not in omitted}
    assert main(save_case(tmp_path, architecture, rest, model.state_dict())) == 0
    assert_agrees(tmp_path / "imported", model)


@pytest.mark.parametrize(("given", "stored"), [({}, -50.0), ({"lowest_log_prob": -38}, -38.0)])
def test_the_range_is_a_usual_one_unless_the_config_says_it(given, stored, tmp_path):
    architecture, config = PLAIN
    state = reference_model(*PLAIN).state_dict()
    assert main(save_case(tmp_path, architecture, {**config, **given}, state)) == 0
    assert json.loads((tmp_path / "imported" / "config.json").read_text())["lowest_log_prob"] == stored


def test_a_range_that_is_none_is_refused(tmp_path, capsys):
    architecture, config = PLAIN
    arguments = save_case(
        tmp_path, architecture, {**config, "lowest_log_prob": 3}, reference_model(*PLAIN).state_dict()
    )
    assert main(arguments) == 1
    assert "lowest_log_prob: expected a number between -1000 and 0, found 3" in capsys.readouterr().err


def test_the_config_may_give_another_constant_multiplier(tmp_path):
    model = reference_model(*PLAIN)
    assert main(save_case(tmp_path, PLAIN[0], {**PLAIN[1], "multiplier": 1.0}, model.state_dict())) == 0
    model.multiplier = torch.tensor(1.0)
    assert_agrees(tmp_path / "imported", model)


def without(state, *parts):
    return {name: value for name, value in state.items() if not any(part in name for part in parts)}


def with_value(state, name, number):
    changed = {key: value.clone() for key, value in state.items()}
    changed[name].view(-1)[0] = number
    return changed


@pytest.mark.parametrize(
    ("case", "change_config", "change_state", "words"),
    [
        (NETWORK, {"d_model": 32}, None, ["config.yaml: d_model: expected 16", "found 32"]),
        (NETWORK, {"n_blocks": 2}, None, ["config.yaml: n_blocks: expected 3", "found 2"]),
        (NETWORK, {"scale": False}, None, ["config.yaml: scale: expected True", "found False"]),
        (PLAIN, {"scale": True}, None, ["config.yaml: scale: expected False", "found True"]),
        (SIMPLE, {"use_dynamic_truncation": False}, None, ["use_dynamic_truncation: expected True", "found False"]),
        (SIMPLE, {"hidden_dims": 25}, None, ["hidden_dims: expected 24", "found 25"]),
        (
            NETWORK,
            {"d_ff": 64},
            None,
            ["blocks.0.ffn.gate_proj.weight", "expected shape [42, 16]", "config.yaml", "found [26, 16]", "14 more"],
        ),
        (LOCAL, {"hidden_dims": 64}, None, ["mlp.gate_proj.weight", "expected shape [42, 1]", "found [26, 1]"]),
        (NETWORK, {"n_heads": 3}, None, ["config.yaml", "d_model: 16 is not divisible by n_heads, 3"]),
        (NETWORK, {"num_blocks": 3}, None, ["takes no 'num_blocks'", "n_blocks"]),
        (NETWORK, {"n_heads": "4"}, None, ["n_heads: expected a whole number of at least 1", "'4'"]),
        (NETWORK, {"n_heads": 0}, None, ["n_heads: expected a whole number of at least 1", "found 0"]),
        (NETWORK, {"n_heads": True}, None, ["n_heads: expected a whole number of at least 1", "found True"]),
        (NETWORK, {"scale": 1}, None, ["scale: expected true or false", "found 1"]),
        (PLAIN, {"multiplier": float("nan")}, None, ["multiplier: expected a number above 0"]),
        (LOCAL, {}, lambda state: without(state, "truncation_scale"), ["lacks truncation_scale"]),
        (NETWORK, {}, lambda state: without(state, "o_proj"), ["lacks blocks.0.attention.o_proj.weight", "2 more"]),
        (LOCAL, {}, lambda state: {**state, "extra.weight": torch.ones(2)}, ["has also extra.weight"]),
        (
            LOCAL,
            {},
            lambda state: reference_model(*NETWORK).state_dict(),
            ["lacks truncation_scale", "has also encoder.mlp", "--architecture"],
        ),
        (
            LOCAL,
            {},
            lambda state: {**state, "_orig_mod.mlp.up_proj.bias": torch.ones(26)},
            ["mlp.up_proj.bias", "twice"],
        ),
        (LOCAL, {}, lambda state: with_value(state, "mlp.up_proj.bias", math.nan), ["mlp.up_proj.bias", "NaN"]),
        (LOCAL, {}, lambda state: with_value(state, "truncation_threshold", math.inf), ["truncation_threshold", "NaN"]),
        (
            LOCAL,
            {},
            lambda state: {**state, "mlp.up_proj.bias": torch.ones(26, dtype=torch.int8)},
            ["mlp.up_proj.bias"],
        ),
        (LOCAL, {}, lambda state: {**state, "epoch": 3}, ["epoch", "not a tensor"]),
        (LOCAL, {}, lambda state: {"weights": state}, ["weights", "state_dict may lie"]),
        (LOCAL, {}, lambda state: list(state.values()), ["no tensors by name"]),
        (LOCAL, {}, lambda state: {}, ["no tensors by name"]),
    ],
)
def test_contradictions_are_named(case, change_config, change_state, words, tmp_path, capsys):
    architecture, config = case
    state = reference_model(*case).state_dict()
    state = change_state(state) if change_state else state
    arguments = save_case(tmp_path, architecture, {**config, **change_config}, state)
    assert_refused(arguments, words, tmp_path, capsys)


def assert_refused(arguments, words, folder, capsys):
    """Status 1, one line on stderr with all words, nothing on stdout, nothing written."""
    before = sorted(folder.rglob("*"))
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    for word in words:
        assert word in printed.err
    assert sorted(folder.rglob("*")) == before


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was executed')",)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, ["no such file"]),
        (lambda path: path.mkdir(), ["no such file"]),
        (lambda path: path.write_bytes(b""), ["damaged"]),
        (lambda path: path.write_bytes(b"not a checkpoint"), ["refused"]),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut off"), ["damaged"]),
        (lambda path: path.write_bytes(pickle.dumps(Harmful())), ["refused", "state_dict()"]),
        (lambda path: torch.save({"model": Harmful()}, path), ["refused", "state_dict()"]),
        (lambda path: torch.save(reference_model(*LOCAL), path), ["refused", "state_dict()"]),
    ],
    ids=["missing", "folder", "empty", "text", "cut_off", "pickle", "harmful", "whole_model"],
)
def test_unreadable_checkpoints(write, words, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(LOCAL[1]))
    write(tmp_path / "sampler.bin")
    assert_refused(command_for(tmp_path, LOCAL[0]), ["sampler.bin", *words], tmp_path, capsys)


def test_a_torch_file_under_the_name_of_safetensors(tmp_path, capsys):
    save_case(tmp_path, *LOCAL, {})
    torch.save(reference_model(*LOCAL).state_dict(), tmp_path / "sampler.safetensors")
    assert_refused(command_for(tmp_path, LOCAL[0], "sampler.safetensors"), ["damaged"], tmp_path, capsys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["No such file"]),
        (b"hidden_dims: [", ["not YAML"]),
        (b"\xff\xfe\x00", ["not YAML"]),
        (b"- hidden_dims", ["must be a mapping"]),
        (b"3: 4", ["takes no 3"]),
        (b"hidden_dims: -1", ["hidden_dims: expected a whole number of at least 1"]),
    ],
    ids=["missing", "broken", "binary", "list", "number", "negative"],
)
def test_unusable_configs(content, words, tmp_path, capsys):
    arguments = save_case(tmp_path, *LOCAL, reference_model(*LOCAL).state_dict())
    (tmp_path / "config.yaml").unlink()
    if content is not None:
        (tmp_path / "config.yaml").write_bytes(content)
    assert_refused(arguments, ["config.yaml", *words], tmp_path, capsys)


def test_unknown_architectures_name_the_known(tmp_path, capsys):
    arguments = save_case(tmp_path, "SamplingNetwrk", LOCAL[1], reference_model(*LOCAL).state_dict())
    assert_refused(arguments, ["SamplingNetwrk", *REFERENCES], tmp_path, capsys)


@pytest.mark.parametrize("kind", ["folder", "file", "broken_link"])
def test_what_exists_is_not_overwritten(kind, tmp_path, capsys):
    arguments = save_case(tmp_path, *LOCAL, reference_model(*LOCAL).state_dict())
    output = tmp_path / "imported"
    {
        "folder": output.mkdir,
        "file": lambda: output.write_text("mine"),
        "broken_link": lambda: output.symlink_to(tmp_path / "nowhere"),
    }[kind]()
    assert_refused(arguments, ["imported", "exists already"], tmp_path, capsys)


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    arguments = save_case(tmp_path, *LOCAL, reference_model(*LOCAL).state_dict())
    (tmp_path / "file").write_text("")
    arguments[-1] = str(tmp_path / "file" / "imported")
    assert_refused(arguments, ["file"], tmp_path, capsys)


def test_from_python(tmp_path):
    save_case(tmp_path, *LOCAL, reference_model(*LOCAL).state_dict())
    state = torch.random.get_rng_state()
    paths = [Path(tmp_path / name) for name in ("sampler.bin", "config.yaml", "imported")]
    sampler = import_checkpoint(paths[0], LOCAL[0], paths[1], paths[2])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not sampler.training
    logits = distributions()
    with torch.no_grad():
        assert torch.equal(sampler.logits(logits), AdaptiveSampler.from_pretrained(paths[2]).logits(logits))
