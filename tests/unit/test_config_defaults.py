"""One set of defaults: what config/README.md prints for a key that a config leaves out, and nothing of the demo's."""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from adaptive_samplers.config.keys import known_keys
from adaptive_samplers.config.layers import read_layers
from adaptive_samplers.config.load import load_config
from adaptive_samplers.config.model.prompts import PromptSource
from adaptive_samplers.config.typed import typed_config
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.embeddings import embed_texts
from adaptive_samplers.labels.tournament import run_tournaments
from adaptive_samplers.labels.tournament.play import ADAPTIVE
from adaptive_samplers.labels.verifiers import Verification
from adaptive_samplers.labels.verifiers.sandbox import Limits
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.preferences import PreferenceSettings
from adaptive_samplers.preferences.feedback import binary_labels
from adaptive_samplers.preferences.pair_selection import pair_answers
from adaptive_samplers.prompts import collect_prompts
from adaptive_samplers.repeated_sampling.stopping import adaptive_consistency, confidence_in_majority
from adaptive_samplers.samplers import ARCHITECTURES
from adaptive_samplers.selection.scores import score_candidates
from adaptive_samplers.training.objectives import OBJECTIVES
from how_to import fenced_blocks
from support import HUB, REMOVED, REPOSITORY, changed, of_workflow, read_config, working_directory

# The least that a config may say.
MINIMAL: dict[str, Any] = {
    "run": {"name": "mine"},
    "model": {"name": "base", "source": HUB},
    "prompts": {"sources": [{"path": "resources/prompts.jsonl"}]},
    "heuristics": {"grid": [{"family": "temperature", "temperatures": [0.7, 1.0]}]},
}
JUDGES: list[dict[str, Any]] = [
    {"kind": "feature_reward"},
    {"kind": "scalar", "name": "judge", "source": HUB},
    {"kind": "pairwise", "name": "judge", "source": HUB},
    {"kind": "likelihood", "name": "judge", "source": HUB},
    {"kind": "endpoint", "name": "judge", "base_url": "https://api.example.org/v1", "model": "m"},
]
# Items of lists that are empty by default, and maps that a whole default stands for; each says the least it may.
WITH_ITEMS = MINIMAL | {
    "heuristics": {"grid": [{"family": "temperature"}, {"family": "top_k", "values": [5]}], "verbalized": [{}]},
    "generation": {"adaptive": {"weights": [{"quality": 1.0}, {"diversity": 1.0}]}},
    "labels": {"embedder": {"name": "embedder", "source": HUB}},
    "scoring": {"weights": [{"quality": 1.0}, {"diversity": 1.0}]},
    "policy_samples": {"policies": [{"name": "policy"}, {"name": "other", "source": HUB}]},
}
WITHOUT_GRID = MINIMAL | {"heuristics": {"pipelines": [[{"top_k": 5}], [{"top_p": 0.9}]]}}
CONFIGS = [
    MINIMAL,
    WITH_ITEMS,
    WITHOUT_GRID,
    MINIMAL | {"samplers": {"SamplingNetwork": {}}},
    MINIMAL | {"samplers": {"ConditionedSamplingNetwork": {}}},
    MINIMAL | {"training": {"objectives": [{"kind": kind} for kind in OBJECTIVES]}},
    MINIMAL | {"samplers": {"LocalProbabilityTransform": {}}},
    *(MINIMAL | {"labels": {"quality": {"judge": judge}}} for judge in JUDGES),
]


def table_of_keys() -> list[list[str]]:
    """The rows of the table in config/README.md: key, allowed, default, meaning, what runs again."""
    text = (REPOSITORY / "config" / "README.md").read_text()
    rows = [
        line.removeprefix("| ").removesuffix(" |").split(" | ") for line in text.splitlines() if line.startswith("| `")
    ]
    return [row for row in rows if len(row) == 5]


def defaults() -> dict[tuple[str, tuple[str, ...]], Any]:
    """The printed defaults by key and the kinds of its map that have it; no kinds where the map has none."""
    found = {}
    for key, _, default, meaning, _ in table_of_keys():
        kinds = re.match(r"With the kind (.*?): ", meaning)
        if default not in ("", "required"):
            found[key.strip("`"), tuple(re.findall(r"`(\w+)`", kinds[1])) if kinds else ()] = json.loads(default[1:-1])
    return found


DEFAULTS = defaults()


def in_effect(key: str, kinds: tuple[str, ...], raw: Any, complete: Any) -> Iterator[Any]:
    """What a key holds in a complete config wherever the raw one leaves it out."""

    def walk(names: list[str], raw: Any, complete: Any, path: str, kind: str | None) -> Iterator[Any]:
        name, *rest = names
        if not isinstance(complete, Mapping) or name.removesuffix("[]") not in complete:
            return
        path, kind = f"{path}.{name}".removeprefix("."), complete.get("kind", kind)
        if not rest:
            if name not in raw and (not kinds or kind in kinds):
                yield complete[name]
            return
        name = name.removesuffix("[]")
        # A whole that is left out is what is printed for it, and its parts are left out where that leaves them out.
        below = raw.get(name, DEFAULTS.get((path.removesuffix("[]"), ()), {}))
        if path.endswith("[]"):
            for item, complete_item in zip(below, complete[name], strict=True):
                yield from walk(rest, item, complete_item, path, kind)
        elif isinstance(below, Mapping):
            yield from walk(rest, below, complete[name], path, kind)

    yield from walk(key.split("."), raw, complete, "", None)


def holds(value: Any, printed: Any) -> bool:
    """Whether a value is what is printed; of a map, what is printed of it."""
    if isinstance(printed, Mapping):
        return isinstance(value, Mapping) and all(key in value and holds(value[key], printed[key]) for key in printed)
    if isinstance(printed, list):
        return len(value) == len(printed) and all(map(holds, value, printed))
    return json.dumps(value) == json.dumps(printed)


@pytest.fixture(scope="module")
def complete_configs() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(raw, load_config(raw, REPOSITORY)) for raw in CONFIGS]


def test_the_table_is_read_whole():
    assert len(table_of_keys()) == len(known_keys())
    assert len(DEFAULTS) == sum(key.default.startswith("`") for key in known_keys()) > 150


@pytest.mark.parametrize(("key", "kinds"), DEFAULTS, ids=lambda part: part if isinstance(part, str) else "_".join(part))
def test_every_printed_default_is_in_effect(key, kinds, complete_configs):
    found = [value for raw, complete in complete_configs for value in in_effect(key, kinds, raw, complete)]
    assert found, "no config of this test leaves the key out"
    assert all(holds(value, DEFAULTS[key, kinds]) for value in found), found


def config_of_rules(folder: Path, *files: str, change: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], str]:
    """The config that rules see with some `--configfile` and `--config`, and which files their jobs are given."""
    told = "[workflow.globals['config'], workflow.spawned_job_args_factory.get_configfiles_arg()]"
    config, arguments_of_jobs = of_workflow(told, folder, *files, change=change)
    return config, arguments_of_jobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the demo's config and one of one's own that says the least, and nothing of sizes."""
    place = working_directory(tmp_path / "work").folder
    (place / "my.yaml").write_text(yaml.safe_dump(MINIMAL))
    return place


def test_a_config_of_ones_own_is_layered_over_the_defaults_alone(folder):
    """By Snakemake itself, in the folder that holds the demo's config."""
    config, files_of_jobs = config_of_rules(folder, "my.yaml")
    assert json.dumps(config, sort_keys=True) == json.dumps(load_config(MINIMAL, folder), sort_keys=True)
    assert config["generation"]["max_new_tokens"] == 512 and config["training"]["steps"] == 4000
    assert files_of_jobs.split() == ["--configfiles", str(folder / "my.yaml")], "jobs would see another config"


def test_without_a_file_it_is_the_demo(folder):
    demo = load_config(read_config("config.yaml"), folder)
    assert config_of_rules(folder) == (demo, "")
    config, files_of_jobs = config_of_rules(folder, change={"generation": {"max_new_tokens": 41}})
    demo["generation"]["max_new_tokens"] = 41
    assert (config, files_of_jobs) == (demo, "")


def test_the_demo_is_there_for_whoever_asks_for_it(folder):
    (folder / "longer.yaml").write_text("generation: {max_new_tokens: 80}")
    layers = ["config/config.yaml", "longer.yaml"]
    config, files_of_jobs = config_of_rules(folder, *layers)
    longer = changed(read_config("config.yaml"), ("generation.max_new_tokens", 80))
    assert config == load_config(longer, folder)
    assert files_of_jobs.split() == ["--configfiles", *(str(folder / layer) for layer in layers)]


def test_scripts_layer_files_as_snakemake_does(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "more.yaml").write_text("heuristics: {pipelines: [[top_k: 5]]}\nseeds: [3, 4]\nmodel: {dtype: bfloat16}")
    for layers in (["my.yaml"], ["my.yaml", "more.yaml"], ["config/config.yaml", "my.yaml", "more.yaml"]):
        assert load_config(read_layers(layers), folder) == config_of_rules(folder, *layers)[0]


def test_the_examples_of_the_page_are_configs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    files = {block.path: block for block in fenced_blocks((REPOSITORY / "config" / "README.md").read_text())}
    for name in ("my.yaml", "longer.yaml"):
        (folder / name).write_text(files[name].text)
    own = load_config(read_layers(["my.yaml"]), folder)
    assert own["run"]["name"] == "my_run" and own["generation"]["max_new_tokens"] == 512
    longer = load_config(read_layers(["config/config.yaml", "longer.yaml"]), folder)
    assert longer["generation"]["max_new_tokens"] == 80 and longer["training"]["steps"] == 400
    assert longer["samplers"]["SamplingNetwork"] is None


@pytest.mark.parametrize(
    ("text", "message"), [(None, "does not exist; the presets"), ("- a", "'my.yaml': .*keys at top level")]
)
def test_a_file_that_is_no_config(folder, monkeypatch, text, message):
    monkeypatch.chdir(folder)
    (folder / "my.yaml").write_text(text) if text else (folder / "my.yaml").unlink()
    with pytest.raises(UserError, match=message):
        read_layers(["config/config.yaml", "my.yaml"])


@pytest.mark.parametrize(
    "key", ["run", "run.name", "model", "model.name", "model.source", "prompts", "prompts.sources", "heuristics"]
)
def test_what_is_required_is_named_with_what_to_write(key):
    without = changed(MINIMAL, (key, REMOVED))
    with pytest.raises(UserError) as caught:
        load_config(without, REPOSITORY)
    [line] = str(caught.value).splitlines()[1:]
    reported, example = re.fullmatch(r" *(\S+): is missing; allowed: .*; for example `(.*)`", line).groups()
    assert reported == key
    place = without
    for name in key.split(".")[:-1]:
        place = place[name]
    place |= yaml.safe_load(example)
    assert load_config(without, REPOSITORY), "what the message says to write is enough"


def test_an_empty_config_is_told_of_all_that_is_required():
    with pytest.raises(UserError) as caught:
        load_config({}, REPOSITORY)
    found = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert found == ["heuristics", "model", "prompts", "run"]


@pytest.mark.parametrize("raw", CONFIGS, ids=range(len(CONFIGS)))
def test_a_complete_config_stays_as_it_is(raw):
    """As it goes to the Snakemake that writes the report."""
    once = load_config(raw, REPOSITORY)
    assert json.dumps(load_config(once, REPOSITORY)) == json.dumps(once)


def test_architectures_are_those_that_are_named_or_all_but_those_that_must_be_named():
    chosen = load_config(MINIMAL, REPOSITORY)["samplers"]
    assert {name for name in ARCHITECTURES if chosen.get(name) is None} == {"ConditionedSamplingNetwork"}
    named = load_config(MINIMAL | {"samplers": {"SamplingNetwork": {"n_blocks": 2}}}, REPOSITORY)["samplers"]
    network = {"d_model": 32, "d_ff": 64, "n_blocks": 2, "n_heads": 4, "scale": True}
    assert named == {**dict.fromkeys(ARCHITECTURES), "SamplingNetwork": network}


# What the library repeats for those who call it without a config, and where the config has it.
REPEATED: list[tuple[Callable[..., Any], str]] = [
    (LanguageModel, "model"),
    (embed_texts, "labels.embedder"),
    (run_tournaments, "labels.quality.tournament"),
    (Verification, "labels.correctness"),
    (Limits, "labels.correctness.code"),
    (score_candidates, "scoring.normalization"),
    (confidence_in_majority, "evaluation.repeated_sampling"),
    (adaptive_consistency, "evaluation.repeated_sampling"),
    (pair_answers, "preferences"),
    (binary_labels, "preferences.binary"),
]


def own_defaults(called: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a function's or class's parameters, but for those that are made anew for each call."""
    if is_dataclass(called):
        return {field.name: field.default for field in fields(called) if field.default is not MISSING}
    parameters = inspect.signature(called).parameters.values()
    return {item.name: item.default for item in parameters if item.default is not inspect.Parameter.empty}


@pytest.mark.parametrize(("called", "place"), REPEATED, ids=[called.__name__ for called, _ in REPEATED])
def test_what_the_library_repeats_is_the_same(called, place):
    part: Any = load_config(MINIMAL, REPOSITORY)
    for name in place.split("."):
        part = part[name]
    # Functions take None in place of the whole map of the adaptive schedule.
    repeated = {name: value for name, value in own_defaults(called).items() if name in part and name != "adaptive"}
    assert repeated == {name: part[name] for name in repeated}


def test_other_settings_that_the_library_repeats():
    config = typed_config(load_config(MINIMAL, REPOSITORY))
    assert config.labels.quality.tournament.adaptive.model_dump() == ADAPTIVE
    assert PreferenceSettings.from_config(config.preferences, config.preferences.splits) == PreferenceSettings()
    assert Verification().code == Limits()


def test_a_source_of_prompts_that_says_nothing_more_is_read_by_the_defaults():
    sources = load_config(MINIMAL, REPOSITORY)["prompts"]["sources"]
    assert len(sources[0]) > len(MINIMAL["prompts"]["sources"][0])
    split = {"train": 0.5, "validation": 0.2, "test": 0.3}
    complete, partial = (
        collect_prompts([PromptSource(**source) for source in given], split, None, REPOSITORY)
        for given in (sources, MINIMAL["prompts"]["sources"])
    )
    pd.testing.assert_frame_equal(complete, partial)
