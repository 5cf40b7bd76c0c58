"""The judges of a config: the one in `labels.quality.judge`, and those in `labels.quality.others`."""

from collections.abc import Mapping
from typing import Any

from adaptive_samplers.config.model import Config
from adaptive_samplers.config.model.judges import JudgeSettings


def judge_name(judge: JudgeSettings) -> str:
    """A judge's name in paths and reports: its own, or its kind if it has none."""
    return getattr(judge, "name", judge.kind)


def name_of_values(judge: Mapping[str, Any]) -> str:
    """`judge_name` of a judge that is not a typed object yet."""
    return judge.get("name", judge["kind"])


def judges_by_name(config: Config) -> dict[str, JudgeSettings]:
    """Every judge under its name, the first one first."""
    quality = config.labels.quality
    return {judge_name(judge): judge for judge in (quality.judge, *quality.others)}


def judged_by(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The config with one of its judges as the only one."""
    quality = config["labels"]["quality"]
    judges = {name_of_values(judge): judge for judge in (quality["judge"], *quality["others"])}
    return {**config, "labels": {**config["labels"], "quality": {**quality, "judge": judges[name], "others": []}}}
