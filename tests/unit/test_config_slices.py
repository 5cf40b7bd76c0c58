"""What a stage gets of the config: the keys that its output depends on, those that no output does, and no others."""

import copy
import json
import re
from typing import Any

import pytest

from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.model import Config
from adaptive_samplers.config.slices import affected_stages, slice_of_stage, unrelated_slice
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.versions import STAGE_VERSIONS
from support import HUB, REPOSITORY, changed

# `fetch_model` has no version: its params are a source, and its output carries hashes.
WITHOUT_VERSION = {"fetch_model"}


def stages_of_rules() -> set[str]:
    """The stages whose params rules take from the config."""
    rules = "".join(path.read_text() for path in (REPOSITORY / "rules").glob("*.smk"))
    return set(re.findall(r"(?:\*\*stage\(\s*|stage=)\"(\w+)\"", rules))


def test_the_stages_that_keys_affect_are_those_of_the_rules():
    assert affected_stages() <= STAGE_VERSIONS.keys() | WITHOUT_VERSION
    assert stages_of_rules() <= STAGE_VERSIONS.keys()
    assert affected_stages() - WITHOUT_VERSION <= stages_of_rules()


def test_a_slice_holds_what_affects_the_stage_and_nothing_else(good_config, config_folder):
    config = load_config(good_config, config_folder)
    sliced = slice_of_stage(config, "generate_candidates")
    assert json.dumps(sliced) == json.dumps(
        {
            "generation": {"engine": "transformers", "max_new_tokens": 40, "shards": 2, "stop": []},
            "model": {"dtype": "float32"},
            "run": {"seed": 20260101},
        }
    )

    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return [reversed_keys(item) for item in value] if isinstance(value, list) else value

    again = slice_of_stage(load_config(reversed_keys(good_config), config_folder), "generate_candidates")
    assert json.dumps(again) == json.dumps(sliced)
    assert slice_of_stage(config, "label_diversity") == {}


def test_a_slice_of_a_judge_holds_the_keys_of_its_kind(good_config, config_folder):
    judge = {"kind": "pairwise", "name": "judge", "source": HUB, "order": "one"}
    config = load_config(changed(good_config, ("labels.quality.judge", judge)), config_folder)
    sliced = slice_of_stage(config, "label_quality")["labels"]["quality"]["judge"]
    assert set(sliced) == {"kind", "dtype", "engine", "labels", "max_length", "order", "template"}
    free = unrelated_slice(config, "label_quality")["labels"]["quality"]["judge"]
    assert set(free) == {"kind", "name", "device", "batch_size", "sglang", "vllm", "trust_remote_code"}


def test_a_slice_shares_nothing_with_the_config(good_config, config_folder):
    config = load_config(good_config, config_folder)
    before = copy.deepcopy(config)
    sliced = slice_of_stage(config, "verify_candidates")
    sliced["seeds"].append(9)
    assert config == before


def test_what_no_output_depends_on_is_in_no_slice(good_config, config_folder):
    def leaves(value: Any, path: str = "") -> set[str]:
        if isinstance(value, dict) and value:
            return {leaf for key, item in value.items() for leaf in leaves(item, f"{path}.{key}")}
        return {path}

    config = load_config(good_config, config_folder)
    free = leaves(unrelated_slice(config, "none"))
    assert {".model.device", ".generation.batch_size", ".run.title"} <= free
    for stage in affected_stages():
        # Which kind a section is of is told with whatever it holds.
        assert not {leaf for leaf in leaves(slice_of_stage(config, stage)) & free if not leaf.endswith(".kind")}
    both = leaves(unrelated_slice(config, "collect_prompts")) - free
    assert both and all(leaf.startswith(".labels.correctness") for leaf in both)


def test_a_stage_cannot_read_what_its_params_lack(good_config, config_folder):
    config = load_config(good_config, config_folder)
    settings = typed_config(slice_of_stage(config, "generate_candidates"))
    assert settings.generation.max_new_tokens == 40 and settings.model.dtype == "float32"
    for read, key in (
        (lambda: settings.seeds, "'seeds' of Config"),
        (lambda: settings.model.name, "'name' of BaseModelSettings"),
        (lambda: settings.labels.quality.tolerance, "'tolerance' of Quality"),
    ):
        with pytest.raises(AttributeError, match=key):
            read()
    with pytest.raises(AttributeError, match="modle"):
        settings.modle  # noqa: B018


def test_the_typed_config_is_the_config(good_config, config_folder):
    config = load_config(good_config, config_folder)
    typed = typed_config(config)
    assert typed.model_dump(exclude={"samplers"}) == {key: config[key] for key in config if key != "samplers"}
    # pydantic's own validation has nothing to add to what the schema and the checks let pass.
    assert Config.model_validate(config) == typed
