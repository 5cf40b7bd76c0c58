"""The shipped presets: complete, alike where they should be, and of a size that a cluster can take."""

import copy
import json
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from adaptive_samplers.config.layers import read_layers
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.model.heuristics import Heuristics
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.errors import UserError
from adaptive_samplers.heuristics import expand_heuristics, pipeline_name
from adaptive_samplers.heuristics.pipelines import parse_processors
from adaptive_samplers.plan import Assumptions, Prompts, estimate
from support import REPOSITORY, changed, read_config

# What each model's generation_config.json says.
OFFICIAL = {
    "llama-3.2-3b": "temperature_0.6+top_p_0.9",
    "qwen2.5-3b": "temperature_0.7+top_k_20+top_p_0.8",
    "gemma-3-4b": "top_k_64+top_p_0.95",
}
MODELS = list(OFFICIAL)
GRIDS = ["grid-full", "grid-filtered"]
JUDGES = ["judge-skywork", "judge-gram"]
ENGINES = ["vllm"]
PRESETS = sorted(path.stem for path in (REPOSITORY / "config" / "presets").glob("*.yaml"))
COMBINATIONS = [
    *([model] for model in MODELS),
    *([model, layer] for model in MODELS for layer in [*GRIDS, *JUDGES, *ENGINES]),
    *(list(layers) for layers in product(MODELS, GRIDS, JUDGES)),
]
FIELD_PROMPTS = Prompts(1000, 400, 600, {"creative": 0.25, "verifiable": 0.25, "factual": 0.25, "chat": 0.25})


def path_of(preset: str) -> str:
    return "config/config.yaml" if preset == "demo" else f"config/presets/{preset}.yaml"


def raw(preset: str) -> dict[str, Any]:
    return read_config(f"presets/{preset}.yaml")


def layered(*presets: str) -> dict[str, Any]:
    """The config that `snakemake --configfile` makes of some presets."""
    return load_config(read_layers(str(REPOSITORY / path_of(preset)) for preset in presets), REPOSITORY)


def heuristics_of(config: dict[str, Any]) -> list[dict[str, str]]:
    heuristics = config["heuristics"]
    return expand_heuristics(
        Heuristics(grid=heuristics["grid"], pipelines=heuristics["pipelines"], official=heuristics["official"])
    )


def test_every_preset_is_known_here():
    assert sorted([*MODELS, *GRIDS, *JUDGES, *ENGINES, "evidence", "smoke"]) == PRESETS


@pytest.mark.parametrize("layers", COMBINATIONS, ids=" ".join)
def test_every_combination_is_of_the_fields_scale(layers):
    config = layered(*layers)
    found = estimate(typed_config(config), FIELD_PROMPTS, Assumptions())
    assert 0.3 <= found.work["generate_candidates"].hours <= 2
    assert 0.3 <= found.work["replay_distributions"].hours <= 2
    assert found.work["label_quality"].hours <= 2
    assert len(config["seeds"]) == 8
    assert config["prompts"]["sources"][0]["limit"] == 2000 and not any(config["prompts"]["per_kind"].values())
    names = [row["name"] for row in heuristics_of(config)]
    assert len(set(names)) == len(names) == (24 if "grid-filtered" in layers else 143)
    kind, size = ("pairwise", "3B") if "judge-gram" in layers else ("scalar", "8B")
    judge = config["labels"]["quality"]["judge"]
    assert judge["kind"] == kind and size in judge["source"]["repo"]
    engine = "vllm" if "vllm" in layers else "sglang"
    assert config["generation"]["engine"] == judge["engine"] == engine and judge[engine]["data_parallel"] == 4


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("grid", GRIDS)
def test_the_official_sampling_is_a_family(model, grid):
    rows = [row for row in heuristics_of(layered(model, grid)) if row["family"] == "official"]
    assert OFFICIAL[model] in {row["name"] for row in rows}
    assert len(rows) == (9 if grid == "grid-full" else 3)


def test_every_family_of_published_sweeps_is_in_both_grids():
    families = {"temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta"}
    for grid in GRIDS:
        assert {block["family"] for block in raw(grid)["heuristics"]["grid"]} == families


@pytest.mark.parametrize("model", MODELS)
def test_models_differ_in_the_model_alone(model):
    config, other = raw(model), raw(MODELS[0])
    assert config["run"]["name"] == model
    for preset in (config, other):
        del preset["run"], preset["model"]["name"], preset["model"]["source"], preset["model"]["license"]
        # Gemma is larger, so that it takes more jobs.
        del preset["heuristics"]["official"]["steps"], preset["generation"]["shards"]
    assert config == other


@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_the_full_grid_and_the_judge_of_their_presets(model):
    assert layered(model, "grid-full", "judge-skywork") == layered(model)


def test_presets_name_the_hub_and_trust_no_code():
    for model, judge in product(MODELS, JUDGES):
        config = layered(model, judge)
        for found in (config["model"], config["labels"]["quality"]["judge"]):
            assert found["source"]["kind"] == "hub" and re.fullmatch(r"[\w.-]+/[\w.-]+", found["source"]["repo"])
            assert found["trust_remote_code"] is False
            assert found["license"] != "unknown"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The workflow without results, as in a fresh clone."""
    for name in ("Snakefile", "config", "envs", "profiles", "report", "resources", "rules", "scripts"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    return tmp_path


def plan(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/plan_run.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


DRY_RUNS = ["evidence", "smoke", *MODELS, "llama-3.2-3b grid-filtered judge-gram", "demo grid-full judge-skywork vllm"]


def test_every_preset_is_dry_run():
    assert {preset for layers in DRY_RUNS for preset in layers.split()} == {*PRESETS, "demo"}


@pytest.mark.parametrize("preset", DRY_RUNS)
def test_a_dry_run(clone, preset):
    done = plan(clone, *map(path_of, preset.split()))
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {name: int(count) for name, count in re.findall(r"^  (\w+) +(\d+)(?: |$)", done.stdout, re.MULTILINE)}
    assert 20 < jobs["total"] < 1000
    assert jobs["generate_candidates"] >= 2 and jobs["write_report"] == 1
    if preset.split()[0] in MODELS:
        assert jobs["fetch_model"] == 3  # base model, embedder, judge
        assert jobs["generate_candidates"] == (8 if "filtered" in preset else {"gemma-3-4b": 40}.get(preset, 32))
        assert re.search(r"^  prompts +2,000$", done.stdout, re.MULTILINE)
        assert "The plan is for 2,000 prompts; prompts.sources hold 160" in done.stdout


def test_assumptions_and_prompts_are_options(clone):
    presets = [path_of("qwen2.5-3b"), path_of("grid-filtered")]
    done = plan(clone, *presets, "--prompts", "1000", "--tokens-per-second", "3000", "--start-minutes", "0.6")
    # 1000 prompts x 24 heuristics x 8 seeds x 307.2 tokens / 3000 a second
    assert re.search(r"^  generate_candidates +8 +1 +0\.69 +5\.5$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^  --tokens-per-second +3000 ", done.stdout, re.MULTILINE)


def test_what_a_user_gets_wrong_is_told_without_a_traceback(clone):
    done = plan(clone, path_of("lama"))
    assert done.returncode and "Traceback" not in done.stderr
    assert "lama.yaml" in done.stderr and "llama-3.2-3b" in done.stderr
    done = plan(clone, path_of("grid-full"))
    assert done.returncode and "run: is missing" in done.stderr and "Traceback" not in done.stderr
    done = plan(clone, path_of("smoke"), "--answer-share", "0")
    assert done.returncode and "--answer-share: 0 is out of range" in done.stderr and "Traceback" not in done.stderr


TEMPERATURES = [0.5, 1.0]


def with_official(config: dict[str, Any], steps: list, temperatures: list = TEMPERATURES) -> dict[str, Any]:
    return changed(config, ("heuristics.official", {"steps": steps, "temperatures": temperatures}))


def test_official_steps_are_swept_over_temperatures(good_config, config_folder):
    config = load_config(with_official(good_config, [{"top_k": 20.0}, {"top_p": 0.8}]), config_folder)
    rows = heuristics_of(config)
    official = [row["name"] for row in rows if row["family"] == "official"]
    assert official == ["temperature_0.5+top_k_20+top_p_0.8", "top_k_20+top_p_0.8"]
    assert len(rows) == len(heuristics_of(load_config(good_config, config_folder))) + 2
    assert pipeline_name(parse_processors(rows[0]["processors"])) == official[0]


def test_what_is_official_and_in_the_grid_is_taken_once(good_config, config_folder):
    config = load_config(with_official(good_config, [{"top_p": 0.9}], [0.7, 0.8]), config_folder)
    rows, before = heuristics_of(config), heuristics_of(load_config(good_config, config_folder))
    assert len(rows) == len(before) + 1
    assert len({row["heuristic_id"] for row in rows}) == len(rows)
    families = {row["name"]: row["family"] for row in rows}
    assert families["temperature_0.7+top_p_0.9"] == "official" and families["top_p_0.9"] == "top_p"


def test_no_official_steps_are_no_family(good_config, config_folder):
    rows = heuristics_of(load_config(with_official(good_config, []), config_folder))
    assert rows == heuristics_of(load_config(good_config, config_folder))
    assert "official" not in {row["family"] for row in rows}


def test_official_heuristics_count(good_config, config_folder):
    alone = changed(with_official(good_config, [{"top_p": 0.9}]), ("heuristics.grid", []), ("heuristics.pipelines", []))
    config = load_config(changed(alone, ("scoring.top_k", [2])), config_folder)
    assert len(heuristics_of(config)) == 2
    with pytest.raises(UserError, match="at most 2, the number of heuristics"):
        load_config(changed(alone, ("scoring.top_k", [3])), config_folder)


@pytest.mark.parametrize(
    ("steps", "temperatures", "message"),
    [
        ([{"topp": 0.9}], [1], r"heuristics\.official\.steps\[0\]\.topp: unknown processor.*'top_p'"),
        ([{"top_p": 2}], [1], r"heuristics\.official\.steps\[0\]\.top_p: 2 is out of range"),
        ([{"top_p": 0.9}], [0], r"heuristics\.official\.temperatures\[0\]: 0 is out of range"),
        ([{"top_p": 0.9}], [1, 1.0], r"heuristics\.official: top_p_0\.9 is already listed in the same entry"),
        ([{"top_p": 0.9, "top_k": 3}], [1], r"heuristics\.official\.steps\[0\]: has 2 keys"),
    ],
)
def test_what_is_wrong_with_the_official_sampling(good_config, config_folder, steps, temperatures, message):
    config = with_official(good_config, steps, temperatures)
    before = copy.deepcopy(config)
    with pytest.raises(UserError, match=message):
        load_config(config, config_folder)
    assert json.dumps(config) == json.dumps(before)
