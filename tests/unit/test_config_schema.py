"""The schema of configs, and the tables in config/README.md that are made from it."""

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from adaptive_samplers.config.checks import inputs
from adaptive_samplers.config.document import json_schema, with_key_table, with_stage_table
from adaptive_samplers.config.model import Config
from adaptive_samplers.config.schema import config_schema
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.judges.registry import JUDGES
from adaptive_samplers.labels.verifiers import VERIFIERS
from adaptive_samplers.preferences import FORMATS, PAIRINGS
from adaptive_samplers.preferences.feedback import THRESHOLDS
from support import REPOSITORY, read_config

SCHEMA = config_schema()


def test_schema_is_valid_closed_and_documented():
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator.check_schema(Config.model_json_schema())

    def check(schema: dict[str, Any], path: str) -> None:
        if "properties" in schema:
            assert schema.get("additionalProperties") is False, path
            assert set(schema.get("required", [])) <= set(schema["properties"]), path
        for key, part in schema.get("properties", {}).items():
            assert part.get("description"), f"{path}.{key}"
            assert "default" not in part or key not in schema.get("required", []), f"{path}.{key}"
            check(part, f"{path}.{key}")
        for part in [*schema.get("oneOf", []), schema.get("items", {})]:
            if part:
                check(part, path)

    check(SCHEMA, "")


def test_the_config_knows_the_verifiers_of_the_code():
    assert set(inputs.VERIFIERS) == set(VERIFIERS)


def test_the_config_knows_the_judges_of_the_code():
    judge = SCHEMA["properties"]["labels"]["properties"]["quality"]["properties"]["judge"]
    options = {branch["properties"]["kind"]["const"]: branch["properties"] for branch in judge["oneOf"]}
    assert set(options) == set(JUDGES)
    for name, kind in JUDGES.items():
        assert kind.has_model == ("source" in options[name]) == ("engine" in options[name])


def test_the_config_knows_the_pairings_and_formats_of_the_code():
    keys = SCHEMA["properties"]["preferences"]["properties"]
    assert set(keys["pairing"]["enum"]) == set(PAIRINGS)
    assert set(keys["formats"]["items"]["enum"]) == set(keys["formats"]["default"]) == set(FORMATS)
    assert set(keys["binary"]["properties"]["threshold"]["enum"]) == set(THRESHOLDS)


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

    for key in keys(read_config("config.yaml"), "")[1:]:
        # Sections that are used twice are listed where they are used first.
        listed = key.replace("labels.embedder.source.", "model.source.")
        listed = listed.replace("scoring.weights[].", "generation.adaptive.weights[].")
        listed = listed.replace("off_policy.grid[].", "heuristics.grid[].")
        # A step of a pipeline has its family as key; these have a table of their own.
        listed = re.sub(
            r"^((heuristics\.pipelines|evaluation\.learnability\.heuristics|explain\.chains)\[\]|policy_samples\.sampling)\[\]\.",
            "",
            listed,
        )
        assert listed.endswith("]") or f"| `{listed}` |" in readme, key


def test_other_files_made_from_the_model_are_up_to_date():
    what_reruns = (REPOSITORY / "docs" / "what_reruns.md").read_text()
    assert what_reruns == with_stage_table(what_reruns), "run: python scripts/document_config.py"
    schema = (REPOSITORY / "config" / "schemas" / "config.schema.json").read_text()
    assert schema == json_schema(), "run: python scripts/document_config.py"


@pytest.mark.parametrize("name", ["config.yaml", "presets/smoke.yaml", "presets/llama-3.2-3b.yaml"])
def test_editors_schema_takes_what_the_project_takes(name):
    """Not the other way round: what no schema can say is checked when a config is loaded."""
    Draft202012Validator(Config.model_json_schema()).validate(read_config(name))


def test_readme_without_markers():
    with pytest.raises(UserError, match="lacks the lines"):
        with_key_table("# Configuration\n")
