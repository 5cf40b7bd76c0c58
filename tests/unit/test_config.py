"""The config: its defaults, and the parts of it that rules and paths are made of."""

import copy
import itertools
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake.utils import update_config

from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.model import Config
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.model.scoring import Scoring, Weights
from adaptive_samplers.config.packages import require_packages
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.config.weights import parse_weight_name, sampler_names, weight_name, weight_names, weightings
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import HEURISTICS, expand_heuristics
from support import HUB, REPOSITORY, changed, read_config


@pytest.mark.parametrize("name", ["config.yaml", "presets/smoke.yaml"])
def test_shipped_configs_load_and_are_complete(name):
    raw = read_config(name)
    config = load_config(raw, REPOSITORY)
    config["prompts"]["sources"] = [{"path": source["path"]} for source in config["prompts"]["sources"]]
    for block in [*config["heuristics"]["grid"], *config["off_policy"]["grid"]]:
        if block["values"] is None:
            del block["values"]
    # So nothing but the options of a prompt source, and families without values, is left to a default.
    assert config == raw


def test_smoke_preset_layered_over_the_demo_is_the_preset(good_config, config_folder):
    smoke = read_config("presets/smoke.yaml")
    assert load_config(layered(good_config, smoke), config_folder) == load_config(smoke, config_folder)


def layered(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """As `snakemake --configfile` layers one config over another."""
    config = copy.deepcopy(below)
    update_config(config, above)
    return config


def test_layering_another_source_over_the_default_drops_the_default_source(good_config, config_folder):
    config = load_config(layered(good_config, {"model": {"name": "other", "source": HUB}}), config_folder)
    assert config["model"]["source"] == {**HUB, "revision": "main"}


@pytest.mark.parametrize("kind", ["scalar", "pairwise"])
def test_another_judge_drops_the_default_judges_keys(kind, good_config, config_folder):
    judge = {"kind": kind, "name": "judge", "source": HUB, "sglang": {"data_parallel": 2}}
    found = load_config(layered(good_config, {"labels": {"quality": {"judge": judge}}}), config_folder)
    found = found["labels"]["quality"]["judge"]
    assert not {"pairs", "regularization"} & set(found) and ("template" in found) == (kind == "pairwise")
    assert found["source"] == {**HUB, "revision": "main"} and found["engine"] == "transformers"
    assert (found["sglang"]["data_parallel"], found["sglang"]["tensor_parallel"]) == (2, 1)


def test_the_default_template_of_a_pairwise_judge(config_folder):
    judge = {"kind": "pairwise", "name": "judge", "source": HUB}
    config = load_config({**MINIMAL, "labels": {"quality": {"judge": judge}}}, config_folder)
    template = config["labels"]["quality"]["judge"]["template"]
    assert [template.count(f"{{{name}}}") for name in ("prompt", "first_answer", "second_answer")] == [1, 1, 1]
    assert template.endswith("\n\n#Preferred:") and "  " not in template


def test_null_leaves_out_an_architecture(good_config, config_folder):
    config = load_config(layered(good_config, {"samplers": {"SamplingNetwork": None}}), config_folder)
    config = typed_config(config)
    assert config.samplers.SamplingNetwork is None
    assert sampler_names(config) == [
        "LocalProbabilityTransform/a0_b1_c0_top2",
        "LocalProbabilityTransform/a0.5_b0.5_c0_top2",
        "SimpleDistributionAwareTransform/a0_b1_c0_top2",
        "SimpleDistributionAwareTransform/a0.5_b0.5_c0_top2",
    ]


MINIMAL = {
    "run": {"name": "minimal"},
    "model": {"name": "base", "source": HUB},
    "prompts": {"sources": [{"path": "resources/prompts.jsonl"}]},
    "heuristics": {"grid": [{"family": "temperature"}, {"family": "top_k", "values": [5.0]}]},
}


def test_defaults_are_not_shared_between_configs(config_folder):
    first = load_config(MINIMAL, config_folder)
    first["scoring"]["weights"][0]["quality"] = 5.0
    first["seeds"].append(9)
    assert load_config(MINIMAL, config_folder)["scoring"]["weights"][0]["quality"] == 1.0
    assert load_config(MINIMAL, config_folder)["seeds"] == [0, 1, 2, 3, 4, 5, 6, 7]


def test_numbers_are_typed_by_meaning(good_config, config_folder):
    bad_types = changed(
        good_config,
        ("generation.max_new_tokens", 40.0),
        ("scoring.weights.0.quality", 1),
        ("heuristics.grid.0.temperatures", [1, 2]),
        ("heuristics.pipelines.0.0", {"top_k": 50.0}),
        ("heuristics.grid.1.values", [10.0]),
    )
    config = load_config(bad_types, config_folder)
    assert repr(config["generation"]["max_new_tokens"]) == "40"
    assert repr(config["scoring"]["weights"][0]["quality"]) == "1.0"
    assert repr(config["heuristics"]["grid"][0]["temperatures"]) == "[1.0, 2.0]"
    assert repr(config["heuristics"]["pipelines"][0][0]["top_k"]) == "50"
    assert repr(config["heuristics"]["grid"][1]["values"]) == "[10]"


def test_limits_of_ranges_are_allowed(good_config, config_folder):
    config = changed(
        good_config,
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
    load_config(config, config_folder)


def test_input_is_not_changed(good_config, config_folder):
    raw = changed(good_config, ("heuristics.grid.1.values", [10.0]), ("samplers.SamplingNetwork", None))
    before = copy.deepcopy(raw)
    load_config(raw, config_folder)
    assert raw == before and repr(raw) == repr(before)
    bad = changed(raw, ("training.steps", 1), ("seeds", [0, 0]))
    before = copy.deepcopy(bad)
    with pytest.raises(UserError):
        load_config(bad, config_folder)
    assert bad == before


def test_absolute_paths_are_taken_as_they_are(good_config, config_folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "prompts.jsonl"
    elsewhere.touch()
    config = load_config(changed(good_config, ("prompts.sources.0.path", str(elsewhere))), config_folder)
    assert config["prompts"]["sources"][0]["path"] == str(elsewhere)


def test_a_tilde_in_a_path_is_the_home_folder(good_config, config_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(config_folder))
    (config_folder / "own.py").write_text("def verify(text, ground_truth): return 1")
    (config_folder / "some.txt").write_text("A text.")
    good_config["prompts"]["sources"] = [{"path": f"~/{good_config['prompts']['sources'][0]['path']}"}]
    good_config["labels"]["overlap"] = {"corpus": ["~/some.txt"]}
    good_config["labels"]["correctness"] = {"verifiers": [{"name": "own", "path": "~/own.py"}]}
    good_config["preferences"] = {"decontamination": {"files": ["~/some.txt"]}}
    loaded = load_config(good_config, config_folder)
    home = f"{config_folder}/"
    assert loaded["prompts"]["sources"][0]["path"].startswith(home)
    assert loaded["labels"]["overlap"]["corpus"] == [f"{home}some.txt"]
    assert loaded["labels"]["correctness"]["verifiers"][0]["path"] == f"{home}own.py"
    assert loaded["preferences"]["decontamination"]["files"] == [f"{home}some.txt"]


def test_weight_names(good_config, config_folder):
    config = typed_config(load_config(good_config, config_folder))
    assert weight_names(config.scoring) == ["a0_b1_c0", "a0.5_b0.5_c0"]
    for weights in (
        {"diversity": 0.25, "quality": 1e-5, "correctness": 1e6},
        {"diversity": 0.0, "quality": 1.0, "correctness": 2.5},
    ):
        assert parse_weight_name(weight_name(Weights(**weights))) == weights


LABELS = ("diversity", "quality", "correctness")


def weights_of(**scoring):
    return weight_names(Scoring(**{"weights": [], **scoring}))


def test_a_grid_of_weights():
    listed = [
        {"diversity": 0.0, "quality": 1.0, "correctness": 0.0},
        {"diversity": 1.0, "quality": 1.0, "correctness": 0.0},
    ]
    half = [0.0, 0.5, 1.0]
    assert weights_of() == [] and weights_of(weights=listed, pareto=True) == ["a0_b1_c0", "a1_b1_c0", "pareto"]
    # 0.5 and 0.5 select what 1 and 1 do, which is listed; and 0 and 0.5 what 0 and 1 do.
    assert weights_of(weights=listed, grid={"diversity": half, "quality": half}) == [
        "a0_b1_c0", "a1_b1_c0", "a0.5_b0_c0", "a0.5_b1_c0", "a1_b0.5_c0"
    ]  # fmt: skip
    assert weights_of(grid={"correctness": [0.0, 2.0, 2.0, 3.0]}) == ["a0_b0_c2"]
    assert weights_of(grid={"diversity": [0.1, 0.3], "quality": [0.2, 0.6]}) == [
        "a0.1_b0.2_c0",
        "a0.1_b0.6_c0",
        "a0.3_b0.2_c0",
    ]
    assert weights_of(grid={"quality": [0.0]}, pareto=True) == ["pareto"]


@given(
    st.lists(st.fixed_dictionaries(dict.fromkeys(LABELS, st.integers(0, 4).map(float))), max_size=3).filter(
        lambda listed: all(any(weights.values()) for weights in listed)
    ),
    st.fixed_dictionaries(dict.fromkeys(LABELS, st.lists(st.integers(0, 4).map(float), max_size=4))),
)
def test_a_grid_has_every_direction_once(listed, grid):
    found = [weights.model_dump() for weights in weightings(Scoring(weights=listed, grid=grid))]
    assert found[: len(listed)] == listed

    def parallel(one, other):
        return all(one[a] * other[b] == one[b] * other[a] for a in LABELS for b in LABELS)

    for i, weights in enumerate(found[len(listed) :], start=len(listed)):
        assert any(weights.values()) and not any(parallel(weights, before) for before in found[:i])
        assert all(weights[label] in (grid[label] or [0.0]) for label in LABELS)
    for values in itertools.product(*(grid[label] or [0.0] for label in LABELS)):
        if any(values):
            assert any(parallel(dict(zip(LABELS, values, strict=True)), weights) for weights in found)


@pytest.mark.parametrize("name", ["", "a1_b1", "a1_b1_c", "a-1_b1_c0", "a1_b1_c1_top2", "b1_a1_c1"])
def test_parse_weight_name_of_something_else(name):
    with pytest.raises(UserError, match=re.escape(f"'{name}'")):
        parse_weight_name(name)


def test_every_family_can_stand_in_a_grid_and_in_a_pipeline(good_config, config_folder):
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
    config = load_config(changed(good_config, ("heuristics", {"grid": grid, "pipelines": pipelines})), config_folder)
    rows = expand_heuristics(Heuristics(grid=config["heuristics"]["grid"], pipelines=config["heuristics"]["pipelines"]))
    assert len({row["heuristic_id"] for row in rows}) == len(rows) == 2 * len(HEURISTICS) - 1
    as_whole = json.loads(
        json.dumps(config), parse_float=lambda text: int(text[:-2]) if text.endswith(".0") else float(text)
    )
    assert json.dumps(load_config(as_whole, config_folder)) == json.dumps(config)


def test_a_config_is_checked_without_torch():
    """Snakemake reads the config in every job: torch would add seconds to each."""
    code = "import sys, adaptive_samplers.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / "scripts", check=False).returncode == 0


def overlap_of(enabled: bool, kind: str) -> Config:
    """What a complete config says of overlap."""
    return typed_config({"labels": {"overlap": {"enabled": enabled, "kind": kind}}})


def test_a_config_that_needs_tokengrams_is_refused_without_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokengrams", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"labels\.overlap: kind local needs the package tokengrams") as raised:
        require_packages(overlap_of(True, "local"))
    assert f"\n  {sys.executable} -m pip install tokengrams\n" in str(raised.value)
    require_packages(overlap_of(True, "infinigram"))
    require_packages(overlap_of(False, "local"))


def test_a_config_that_needs_tokengrams_is_taken_with_it(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "tokengrams", raising=False)
    (tmp_path / "tokengrams.py").write_text("raise ImportError('only looked for')")
    monkeypatch.syspath_prepend(tmp_path)
    require_packages(overlap_of(True, "local"))
