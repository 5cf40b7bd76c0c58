"""The config: defaults, and one clear line for each mistake a user can make."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from snakemake.utils import update_config

from adaptive_samplers.config import (
    SCHEMA_PATH,
    config_slice,
    load_config,
    parse_weight_name,
    weight_name,
    weight_names,
    with_key_table,
)
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import HEURISTICS, expand_heuristics

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = yaml.safe_load(SCHEMA_PATH.read_text())
REMOVED = object()
HUB = {"kind": "hub", "repo": "owner/name"}


def read_yaml(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "config" / name).read_text())


@pytest.fixture
def good() -> dict[str, Any]:
    return read_yaml("config.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base folder in which every file exists that the configs name."""
    for name in ("resources/prompts.jsonl", "resources/judge_pairs.jsonl", "data/corpus.txt", "sampler/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def changed(config: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    """A copy of a config with other values under dotted keys; numbers stand for list items."""
    config = copy.deepcopy(config)
    for path, value in changes:
        *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        place: Any = config
        for key in parents:
            place = place[key]
        if value is REMOVED:
            del place[last]
        else:
            place[last] = value
    return config


def problems_of(config: Any, folder: Path) -> dict[str, str]:
    """The reported problems: message by dotted key."""
    with pytest.raises(UserError) as raised:
        load_config(config, folder)
    header, *lines = str(raised.value).splitlines()
    assert header == f"The config has {'a problem' if len(lines) == 1 else f'{len(lines)} problems'}:"
    return dict(line.removeprefix("  ").split(": ", 1) for line in lines)


BAD_CONFIGS = [
    # What is changed, the new value, the key that is reported, and what the message says.
    ("trainin", {}, "trainin", ["unknown key", "Did you mean 'training'?"]),
    ("model", REMOVED, "model", ["is missing", "name, source"]),
    ("training", None, "training", ["is empty (null)", "a map", "learning_rate"]),
    ("run.nmae", "x", "run.nmae", ["unknown key", "Did you mean 'name'?"]),
    ("run.learning_rate", 0.1, "run.learning_rate", ["unknown key", "Did you mean 'training.learning_rate'?"]),
    ("run.name", "a/b", "run.name", ["'a/b'", "letters, digits"]),
    ("run.name", "..", "run.name", ["'..'", "beginning with a letter or digit"]),
    ("run.name", "demo\n", "run.name", ["letters, digits"]),
    ("run.name", 2024, "run.name", ["2024 is a whole number", "put it in quotes"]),
    ("run.seed", -1, "run.seed", ["-1", "at least 0"]),
    ("model.source.kind", "hubb", "model.source.kind", ["'hubb'", "package, hub or folder", "Did you mean 'hub'?"]),
    ("model.source.kind", REMOVED, "model.source.kind", ["is missing", "package, hub or folder"]),
    ("model.source", "gpt2", "model.source", ["'gpt2' is text", "package, hub or folder"]),
    ("model.source.sha256", "abc", "model.source.sha256", ["'abc'", "64 hexadecimal digits"]),
    ("model.source.version", 0.1, "model.source.version", ["0.1 is a number", "put it in quotes"]),
    ("model.source.path", "../weights.gguf", "model.source.path", ["leaves the package"]),
    ("model.source.revison", "main", "model.source.revison", ["unknown key"]),
    ("model.source", {"kind": "hub"}, "model.source.repo", ["is missing", "owner/name"]),
    ("model.source", {**HUB, "revison": "x"}, "model.source.revison", ["Did you mean 'revision'?"]),
    ("model.source", {"kind": "hub", "repo": "a/b/c"}, "model.source.repo", ["'a/b/c'", "owner/name"]),
    ("model.source", {"kind": "folder", "path": "resource"}, "model.source.path", ["Did you mean 'resources'?"]),
    ("model.dtype", "float23", "model.dtype", ["float32, bfloat16 or float16", "Did you mean 'float32'?"]),
    ("model.device", "gpu", "model.device", ["'gpu'", "auto, cpu, mps, cuda"]),
    ("model.trust_remote_code", "no", "model.trust_remote_code", ["'no' is text", "true or false"]),
    ("labels.embedder.name", "smollm2-135m-instruct", "labels.embedder.name", ["another model"]),
    ("prompts.sources", [], "prompts.sources", ["is empty", "at least one"]),
    ("prompts.sources.0.path", "resources/prompt.jsonl", "prompts.sources[0].path", ["Did you mean 'prompts.jsonl'?"]),
    ("prompts.sources.0.path", "resources", "prompts.sources[0].path", ["is not a file"]),
    ("prompts.sources.0.prompt", "text", "prompts.sources[0].prompt", ["Did you mean 'prompt_key'?"]),
    ("prompts.sources.0.kind", "creativ", "prompts.sources[0].kind", ["Did you mean 'creative'?"]),
    ("prompts.sources.0.verifier", "numerical", "prompts.sources[0].verifier", ["Did you mean 'numeric'?"]),
    ("prompts.sources.0.limit", 0, "prompts.sources[0].limit", ["0 is out of range", "at least 1 or null"]),
    ("prompts.split.test", 0.4, "prompts.split", ["sum to 1.1", "sum to 1"]),
    ("prompts.split.test", 0, "prompts.split.test", ["0 is out of range", "above 0"]),
    ("prompts.split.dev", 0.1, "prompts.split.dev", ["unknown split", "train, validation and test"]),
    ("prompts.per_kind.test", 0, "prompts.per_kind.test", ["0 is out of range", "at least 1 or null"]),
    ("heuristics.grid.1.family", "topk", "heuristics.grid[1].family", ["'topk'", "Did you mean 'top_k'?"]),
    ("heuristics.grid.1.family", "top-p", "heuristics.grid[1].family", ["Did you mean 'top_p'?"]),
    ("heuristics.grid.1.values", REMOVED, "heuristics.grid[1].values", ["is missing", "'top_k'", "whole number"]),
    ("heuristics.grid.0.values", [0.5], "heuristics.grid[0].values", ["takes no values", "temperatures"]),
    ("heuristics.grid.1.values", [], "heuristics.grid[1].values", ["is empty", "at least one"]),
    ("heuristics.grid.0.temperatures", [1, 0], "heuristics.grid[0].temperatures[1]", ["0 is out of range", "above 0"]),
    ("heuristics.grid.1.values", [5, 0], "heuristics.grid[1].values[1]", ["whole number of at least 1"]),
    ("heuristics.grid.1.values", [2.5], "heuristics.grid[1].values[0]", ["2.5", "whole number of at least 1"]),
    ("heuristics.grid.2.values", [1.5], "heuristics.grid[2].values[0]", ["1.5 is out of range for top_p", "most 1"]),
    ("heuristics.grid.3.values", [-0.1], "heuristics.grid[3].values[0]", ["min_p", "at least 0 and at most 1"]),
    ("heuristics.grid.4.values", [1], "heuristics.grid[4].values[0]", ["typical", "above 0 and below 1"]),
    ("heuristics.grid.5.values", [0], "heuristics.grid[5].values[0]", ["epsilon", "above 0 and below 1"]),
    ("heuristics.grid.6.values", ["1e-2"], "heuristics.grid[6].values[0]", ["'1e-2' is text", "write 0.01"]),
    ("heuristics.grid.2.values", [float("nan")], "heuristics.grid[2].values[0]", ["not a finite number"]),
    ("heuristics.grid.2.values", [0.9, 0.9], "heuristics.grid[2]", ["top_p_0.9", "already listed in the same entry"]),
    ("heuristics.grid.2.value", [0.5], "heuristics.grid[2].value", ["Did you mean 'values'?"]),
    ("heuristics.pipelines", [[{"top_p": 0.9}]], "heuristics.pipelines[0]", ["already listed in heuristics.grid[2]"]),
    (
        "heuristics.pipelines.0.1",
        {"topp": 1},
        "heuristics.pipelines[0][1].topp",
        ["unknown processor", "Did you mean 'top_p'?"],
    ),
    ("heuristics.pipelines.0.0", {"top_k": 2.5}, "heuristics.pipelines[0][0].top_k", ["top_k's k", "a whole number"]),
    ("heuristics.pipelines.0.0", {"top_k": None}, "heuristics.pipelines[0][0].top_k", ["is empty", "a whole number"]),
    ("heuristics.pipelines.0.0", {3: 1}, "heuristics.pipelines[0][0].3", ["unknown processor"]),
    ("heuristics.pipelines.0.0", {3: 1, 4: 2}, "heuristics.pipelines[0][0]", ["has 2 keys (3 and 4)"]),
    (
        "heuristics.pipelines.0.0",
        {"learned": 5},
        "heuristics.pipelines[0][0].learned",
        ["5 is a whole number", "folder"],
    ),
    ("heuristics.pipelines.0.0", {"p_less": 1}, "heuristics.pipelines[0][0].p_less", ["takes no parameters", "null"]),
    ("heuristics.pipelines.0.0", {"mirostat": 3}, "heuristics.pipelines[0][0].mirostat", ["several", "tau", "eta"]),
    (
        "heuristics.pipelines.0.0",
        {"mirostat": {"tau": 3}},
        "heuristics.pipelines[0][0].mirostat.eta",
        ["is missing", "mirostat needs it", "a number above 0"],
    ),
    (
        "heuristics.pipelines.0.0",
        {"mirostat": {"tau": 3, "eta": 0.1, "mue": 1}},
        "heuristics.pipelines[0][0].mirostat.mue",
        ["unknown parameter of mirostat", "tau and eta"],
    ),
    (
        "heuristics.grid.1",
        {"family": "quadratic", "values": [{"smoothing_factor": 0.2, "curve": 5}]},
        "heuristics.grid[1].values[0].curve",
        ["5 is out of range for quadratic's curve", "at least 1 and at most 3"],
    ),
    (
        "heuristics.grid.1",
        {"family": "quadratic"},
        "heuristics.grid[1].values",
        ["'quadratic' needs", "smoothing_factor: a number above 0", "curve"],
    ),
    (
        "heuristics.grid.1",
        {"family": "p_less", "values": [1]},
        "heuristics.grid[1].values",
        ["'p_less' takes no values"],
    ),
    ("heuristics.grid.1.family", None, "heuristics.grid[1].family", ["is empty", "text"]),
    ("heuristics.grid.1.temperatures", ["x"], "heuristics.grid[1].temperatures[0]", ["'x' is text", "temperature"]),
    ("heuristics.pipelines.0.0", {"min_p": 2}, "heuristics.pipelines[0][0].min_p", ["2 is out of range for min_p"]),
    ("heuristics.pipelines.0.0", {"top_k": 5, "top_p": 1}, "heuristics.pipelines[0][0]", ["2 keys", "one processor"]),
    ("heuristics.pipelines.0.0", {"learned": "samplr"}, "heuristics.pipelines[0][0].learned", ["mean 'sampler'?"]),
    ("heuristics", {"grid": [{"family": "temperature"}]}, "heuristics", ["holds 1 in all", "at least 2"]),
    ("seeds", [0, 1, 0], "seeds[2]", ["0 is listed twice"]),
    ("seeds", [-1, 0], "seeds[0]", ["-1 is out of range", "at least 0"]),
    ("seeds", [0.5, 1], "seeds[0]", ["0.5 is not a whole number", "at least 0"]),
    ("seeds", 3, "seeds", ["3 is a whole number", "a list"]),
    ("seeds", [], "seeds", ["is empty", "at least one"]),
    ("seeds", [0], "scoring.weights[1].diversity", ["one seed", "at least two seeds"]),
    ("generation.engine", "transformer", "generation.engine", ["Did you mean 'transformers'?"]),
    ("generation.max_new_tokens", 0, "generation.max_new_tokens", ["0 is out of range", "at least 1"]),
    ("generation.max_new_tokens", "many", "generation.max_new_tokens", ["'many' is text", "or a map"]),
    ("generation.max_new_tokens", {"chat": 5}, "generation.max_new_tokens.factual", ["is missing", "at least 1"]),
    ("generation.stop", ["", "x"], "generation.stop[0]", ["is empty"]),
    ("generation.tolerance", 5, "generation.tolerance", ["5 is out of range", "at least 0 and at most 1"]),
    ("generation.batchsize", 5, "generation.batchsize", ["Did you mean 'batch_size'?"]),
    ("labels.quality.judge.kind", "reward", "labels.quality.judge.kind", ["Did you mean 'feature_reward'?"]),
    (
        "labels.quality.judge.pairs",
        "resources/judge_pair.jsonl",
        "labels.quality.judge.pairs",
        ["'judge_pairs.jsonl'?"],
    ),
    ("labels.quality.judge.regularization", 0, "labels.quality.judge.regularization", ["above 0"]),
    ("labels.quality.tournament.schedule", "round-robin", "labels.quality.tournament.schedule", ["'round_robin'?"]),
    ("labels.overlap.enabled", True, "labels.overlap.corpus", ["is empty", "enabled: false"]),
    ("labels.overlap.corpus", ["data/corpora.txt"], "labels.overlap.corpus[0]", ["Did you mean 'corpus.txt'?"]),
    ("scoring.weights.1", {"diversity": 0}, "scoring.weights[1]", ["all weights are 0"]),
    ("scoring.weights.1", {"quality": 1}, "scoring.weights[1]", ["a0_b1_c0 is already listed in scoring.weights[0]"]),
    ("scoring.weights.0.qualty", 1, "scoring.weights[0].qualty", ["unknown weight", "Did you mean 'quality'?"]),
    ("scoring.weights.0.quality", -1, "scoring.weights[0].quality", ["-1 is out of range", "at least 0"]),
    ("scoring.diversity_measure", "self-bleu", "scoring.diversity_measure", ["Did you mean 'self_bleu'?"]),
    ("scoring.top_k", [0], "scoring.top_k[0]", ["0 is out of range", "at least 1"]),
    ("scoring.top_k", [99], "scoring.top_k[0]", ["99 is more than", "at most 17"]),
    ("samplers", {}, "samplers", ["no architecture", "SamplingNetwork"]),
    ("samplers.SamplerNetwork", {}, "samplers.SamplerNetwork", ["architecture", "Did you mean 'SamplingNetwork'?"]),
    ("samplers.SamplingNetwork.n_heads", 5, "samplers.SamplingNetwork.d_model", ["32", "divisible", "n_heads, 5"]),
    ("training.learning_rate", "3e-3", "training.learning_rate", ["'3e-3' is text", "write 0.003"]),
    ("training.learning_rate", float("inf"), "training.learning_rate", ["not a finite number"]),
    ("training.warmup_steps", 401, "training.warmup_steps", ["401 is more than training.steps, 400"]),
    ("training.evaluate_every", 500, "training.evaluate_every", ["500 is more than training.steps, 400"]),
    ("training.sketch", 256, "training.sketch", ["256 is a whole number", "a map with the keys top and tail"]),
    ("training.batch_size", True, "training.batch_size", ["true is a truth value", "a whole number"]),
    ("evaluation.objectives", ["qualty"], "evaluation.objectives[0]", ["Did you mean 'quality'?"]),
    ("evaluation.confidence", 95, "evaluation.confidence", ["95 is out of range", "above 0 and below 1"]),
    ("evaluation.objectives", ["self_bleu", "embedding_entropy"], "evaluation.objectives", ["'quality'"]),
    ("evaluation.objectives", ["quality", "self_bleu"], "evaluation.objectives", ["'embedding_entropy'"]),
]


@pytest.mark.parametrize(("path", "value", "reported", "words"), BAD_CONFIGS)
def test_bad_config_is_one_clear_line(good, folder, path, value, reported, words):
    problems = problems_of(changed(good, (path, value)), folder)
    assert reported in problems
    for word in words:
        assert word in problems[reported]
    # What else is reported can only follow from the same mistake: the keys that a short map lacks.
    assert all("is missing" in message for key, message in problems.items() if key != reported)


@pytest.mark.parametrize("raw", [None, [], "demo", 3])
def test_config_that_is_no_map(raw, folder):
    with pytest.raises(UserError, match="must be a map with the keys run, model"):
        load_config(raw, folder)


def test_all_problems_are_reported_together(good, folder):
    bad = changed(
        good,
        ("run.name", "a b"),
        ("training.stpes", 3),
        ("heuristics.grid.2.values", [1.5, 2]),
        ("heuristics.grid.3.family", "minp"),
        ("prompts.split.train", 0.9),
        ("labels.quality.judge.pairs", "nowhere.jsonl"),
        ("samplers.SamplingNetwork.n_heads", 7),
    )
    assert list(problems_of(bad, folder)) == [
        "heuristics.grid[2].values[0]",
        "heuristics.grid[2].values[1]",
        "heuristics.grid[3].family",
        "labels.quality.judge.pairs",
        "prompts.split",
        "run.name",
        "samplers.SamplingNetwork.d_model",
        "training.stpes",
    ]


@pytest.mark.parametrize("junk", [None, True, 3, 0.5, float("nan"), "text", [], [None], [[]], {}, {"x": 1}, {1: 2}])
def test_junk_in_any_place_is_a_user_error_or_valid(good, folder, junk):
    """Whatever stands in the place of a value, no other exception than UserError comes out."""

    def places(value: Any, path: str = "") -> list[str]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
        return [place for key, item in items for place in (f"{path}.{key}", *places(item, f"{path}.{key}"))]

    for place in places(good):
        try:
            load_config(changed(good, (place.removeprefix("."), junk)), folder)
        except UserError as error:
            assert "additionalProperties" not in str(error) and "is not valid under" not in str(error)


@pytest.mark.parametrize("name", ["config.yaml", "presets/smoke.yaml"])
def test_shipped_configs_load_and_are_complete(name):
    raw = read_yaml(name)
    config = load_config(raw, REPOSITORY)
    config["prompts"]["sources"] = [{"path": source["path"]} for source in config["prompts"]["sources"]]
    assert config == raw  # so nothing but the options of a prompt source is left to a default


def test_smoke_preset_layered_over_the_default_is_the_preset(good, folder):
    smoke = read_yaml("presets/smoke.yaml")
    assert load_config(layered(good, smoke), folder) == load_config(smoke, folder)


def layered(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """As `snakemake --configfile` layers one config over another."""
    config = copy.deepcopy(below)
    update_config(config, above)
    return config


def test_layering_another_source_over_the_default_drops_the_default_source(good, folder):
    config = load_config(layered(good, {"model": {"name": "other", "source": HUB}}), folder)
    assert config["model"]["source"] == {**HUB, "revision": "main"}


def test_null_leaves_out_an_architecture(good, folder):
    config = load_config(layered(good, {"samplers": {"SamplingNetwork": None}}), folder)
    assert list(config["samplers"]) == ["LocalProbabilityTransform", "SimpleDistributionAwareTransform"]


MINIMAL = {
    "run": {"name": "minimal"},
    "model": {"name": "base", "source": HUB},
    "prompts": {"sources": [{"path": "resources/prompts.jsonl"}]},
    "heuristics": {"grid": [{"family": "temperature"}, {"family": "top_k", "values": [5.0]}]},
    "labels": {"embedder": {"name": "embedder", "source": HUB}},
    "samplers": {"SamplingNetwork": {}},
}


def test_defaults_are_filled_in_everywhere(folder):
    config = load_config(MINIMAL, folder)
    assert config["seeds"] == [0, 1, 2]
    assert config["model"]["source"]["revision"] == "main"
    assert config["prompts"]["sources"][0]["ground_truth_key"] == "ground_truth"
    assert "verifier_key" not in config["prompts"]["sources"][0]
    assert config["heuristics"]["grid"][1]["temperatures"] == [1.0]
    assert config["heuristics"]["pipelines"] == []
    assert config["labels"]["quality"]["tournament"]["rounds"] is None
    assert config["samplers"] == {
        "SamplingNetwork": {"d_model": 32, "d_ff": 64, "n_blocks": 2, "n_heads": 4, "scale": True}
    }
    assert config["scoring"]["weights"][1] == {"diversity": 0.7, "quality": 0.3, "correctness": 0.0}
    assert config["training"]["sketch"] == {"top": 128, "tail": 128}
    assert load_config(config, folder) == config


def test_defaults_are_not_shared_between_configs(folder):
    first = load_config(MINIMAL, folder)
    first["scoring"]["weights"][0]["quality"] = 5.0
    first["seeds"].append(9)
    assert load_config(MINIMAL, folder)["scoring"]["weights"][0]["quality"] == 1.0
    assert load_config(MINIMAL, folder)["seeds"] == [0, 1, 2]


def test_numbers_are_typed_by_meaning(good, folder):
    bad_types = changed(
        good,
        ("generation.max_new_tokens", 40.0),
        ("scoring.weights.0.quality", 1),
        ("heuristics.grid.0.temperatures", [1, 2]),
        ("heuristics.pipelines.0.0", {"top_k": 50.0}),
        ("heuristics.grid.1.values", [10.0]),
    )
    config = load_config(bad_types, folder)
    assert repr(config["generation"]["max_new_tokens"]) == "40"
    assert repr(config["scoring"]["weights"][0]["quality"]) == "1.0"
    assert repr(config["heuristics"]["grid"][0]["temperatures"]) == "[1.0, 2.0]"
    assert repr(config["heuristics"]["pipelines"][0][0]["top_k"]) == "50"
    assert repr(config["heuristics"]["grid"][1]["values"]) == "[10]"


def test_limits_of_ranges_are_allowed(good, folder):
    config = changed(
        good,
        ("heuristics.grid.1.values", [1]),
        ("heuristics.grid.2.values", [1]),
        ("heuristics.grid.3.values", [0, 1]),
        ("heuristics.pipelines", [[{"learned": "sampler"}], [{"top_p": 0.9}, {"learned": "sampler"}]]),
        ("generation.max_new_tokens", {"creative": 1, "verifiable": 2, "factual": 3, "chat": 4}),
        ("labels.overlap", {"enabled": True, "corpus": ["data/corpus.txt"]}),
        ("training.warmup_steps", 400),
        ("training.evaluate_every", 400),
        ("scoring.top_k", [1, 20]),
    )
    load_config(config, folder)


def test_input_is_not_changed(good, folder):
    raw = changed(good, ("heuristics.grid.1.values", [10.0]), ("samplers.SamplingNetwork", None))
    before = copy.deepcopy(raw)
    load_config(raw, folder)
    assert raw == before and repr(raw) == repr(before)
    bad = changed(raw, ("training.steps", 1), ("seeds", [0, 0]))
    before = copy.deepcopy(bad)
    with pytest.raises(UserError):
        load_config(bad, folder)
    assert bad == before


def test_absolute_paths_are_taken_as_they_are(good, folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "prompts.jsonl"
    elsewhere.touch()
    config = load_config(changed(good, ("prompts.sources.0.path", str(elsewhere))), folder)
    assert config["prompts"]["sources"][0]["path"] == str(elsewhere)


def test_config_slice_is_nested_sorted_and_stable(good, folder):
    config = load_config(good, folder)
    keys = ("training.sketch", "generation.max_new_tokens", "run.seed", "scoring.weights")
    sliced = config_slice(config, *keys)
    assert json.dumps(sliced) == json.dumps(
        {
            "generation": {"max_new_tokens": 40},
            "run": {"seed": 20260101},
            "scoring": {
                "weights": [
                    {"correctness": 0.0, "diversity": 0.0, "quality": 1.0},
                    {"correctness": 0.0, "diversity": 0.5, "quality": 0.5},
                ]
            },
            "training": {"sketch": {"tail": 64, "top": 96}},
        }
    )

    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return [reversed_keys(item) for item in value] if isinstance(value, list) else value

    again = config_slice(load_config(reversed_keys(good), folder), *reversed(keys))
    assert json.dumps(again) == json.dumps(sliced)
    assert json.dumps(config_slice(config)) == "{}"


def test_config_slice_shares_nothing_with_the_config(good, folder):
    config = load_config(good, folder)
    before = copy.deepcopy(config)
    sliced = config_slice(config, "training", "training.steps", "seeds")
    sliced["training"]["steps"] = 1
    sliced["seeds"].append(9)
    assert config == before


def test_config_slice_of_an_unknown_key(good, folder):
    with pytest.raises(KeyError, match=re.escape("training.stpes")):
        config_slice(load_config(good, folder), "training.stpes")


def test_weight_names(good, folder):
    assert weight_names(load_config(good, folder)) == ["a0_b1_c0", "a0.5_b0.5_c0"]
    for weights in (
        {"diversity": 0.25, "quality": 1e-5, "correctness": 1e6},
        {"diversity": 0.0, "quality": 1.0, "correctness": 2.5},
    ):
        assert parse_weight_name(weight_name(weights)) == weights


@pytest.mark.parametrize("name", ["", "a1_b1", "a1_b1_c", "a-1_b1_c0", "a1_b1_c1_top2", "b1_a1_c1"])
def test_parse_weight_name_of_something_else(name):
    with pytest.raises(UserError, match=re.escape(f"'{name}'")):
        parse_weight_name(name)


def test_schema_is_valid_closed_and_documented():
    Draft202012Validator.check_schema(SCHEMA)

    def check(schema: dict[str, Any], path: str) -> None:
        if "properties" in schema:
            assert schema.get("additionalProperties") is False, path
            assert set(schema.get("required", [])) <= set(schema["properties"]), path
        for key, part in schema.get("properties", {}).items():
            assert "$ref" in part or "const" in part or part.get("description"), f"{path}.{key}"
            assert "default" not in part or key not in schema.get("required", []), f"{path}.{key}"
            check(part, f"{path}.{key}")
        for part in [*schema.get("oneOf", []), *schema.get("$defs", {}).values(), schema.get("items", {})]:
            if part:
                check(part, path)

    check(SCHEMA, "")


def test_schema_knows_the_verifiers_of_the_code():
    from adaptive_samplers.labels.correctness import VERIFIERS

    source = SCHEMA["properties"]["prompts"]["properties"]["sources"]["items"]["properties"]
    assert set(source["verifier"]["enum"]) == {*VERIFIERS, None}


def test_every_family_can_stand_in_a_grid_and_in_a_pipeline(good, folder):
    """With settings on the limit of their ranges or a little inside, and no other way to write a number's type."""
    settings = {}
    for name, heuristic in HEURISTICS.items():
        values = {
            key: next(value for value in (1, 0.5, 2) if value in numbers)
            for key, numbers in heuristic.parameters.items()
        }
        settings[name] = None if not values else values if len(values) > 1 else next(iter(values.values()))
    grid = [
        {"family": name, "temperatures": [0.7]} | ({} if setting is None else {"values": [setting]})
        for name, setting in settings.items()
        if name != "temperature"
    ]
    pipelines = [[{name: setting}] for name, setting in settings.items()]
    config = load_config(changed(good, ("heuristics", {"grid": grid, "pipelines": pipelines})), folder)
    rows = expand_heuristics(config["heuristics"]["grid"], config["heuristics"]["pipelines"])
    assert len({row["heuristic_id"] for row in rows}) == len(rows) == 2 * len(HEURISTICS) - 1
    as_whole = json.loads(
        json.dumps(config), parse_float=lambda text: int(text[:-2]) if text.endswith(".0") else float(text)
    )
    assert json.dumps(load_config(as_whole, folder)) == json.dumps(config)


def test_a_config_is_checked_without_torch():
    """Snakemake reads the config in every job: torch would add seconds to each."""
    code = "import sys, adaptive_samplers.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / "scripts", check=False).returncode == 0


def test_readme_has_every_key():
    readme = (REPOSITORY / "config" / "README.md").read_text()
    assert readme == with_key_table(readme), "run: python scripts/document_config.py"

    def keys(value: Any, path: str) -> list[str]:
        if isinstance(value, list):
            return [key for item in value for key in keys(item, f"{path}[]")]
        inside = (
            [key for name, item in value.items() for key in keys(item, f"{path}.{name}")]
            if isinstance(value, dict)
            else []
        )
        return [path.removeprefix("."), *inside]

    for key in keys(read_yaml("config.yaml"), "")[1:]:
        # The embedder's source has the same keys as the model's, which are listed there.
        listed = key.replace("labels.embedder.source.", "model.source.")
        # A step of a pipeline has its family as key; these have a table of their own.
        listed = re.sub(r"^(heuristics\.pipelines|evaluation\.learnability\.heuristics)\[\]\[\]\.", "", listed)
        assert listed.endswith("]") or f"| `{listed}` |" in readme, key


def test_readme_without_markers():
    with pytest.raises(UserError, match="lacks the lines"):
        with_key_table("# Configuration\n")
