"""The judges of a config: the one in `labels.quality.judge`, and those in `labels.quality.others`."""

from collections.abc import Mapping
from typing import Any


def judge_name(judge: Mapping[str, Any]) -> str:
    """A judge's name in paths and reports: its own, or its kind where it is trained by the DAG."""
    return judge.get("name", judge["kind"])


def judges_by_name(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every judge of a complete config under its name, the first one first."""
    quality = config["labels"]["quality"]
    return {judge_name(judge): judge for judge in (quality["judge"], *quality["others"])}


def judged_by(config: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """The config with one of its judges as the first one, and without the others; with None, the first one itself."""
    quality = config["labels"]["quality"]
    judge = quality["judge"] if name is None else judges_by_name(config)[name]
    return {**config, "labels": {**config["labels"], "quality": {**quality, "judge": judge, "others": []}}}
