"""What the checks share: places in a config, and files that should exist."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from adaptive_samplers.config.problems import KeyPath, Problems
from adaptive_samplers.config.words import suggest
from adaptive_samplers.labels.judges.registry import JUDGES

QUALITY: KeyPath = ("labels", "quality")
JUDGE: KeyPath = (*QUALITY, "judge")
(TRAINED_KIND,) = (name for name, kind in JUDGES.items() if kind.is_trained)  # the name of the first such judge too
_WILDCARD = re.compile(r"[{}]")
# Judges that are asked a question about two answers, and give no rewards.
COMPARING_KINDS = [name for name, kind in JUDGES.items() if kind.compares]


def at(config: Any, path: Iterable[str | int]) -> Any:
    """What a config has at a place."""
    for key in path:
        config = config[key]
    return config


def judges(config: dict, problems: Problems) -> list[KeyPath]:
    """The places of the judges without known problems."""
    others = at(config, (*QUALITY, "others")) if problems.clean(*QUALITY, "others") else []
    places: list[KeyPath] = [JUDGE, *((*QUALITY, "others", i) for i in range(len(others)))]
    return [place for place in places if problems.clean(*place)]


def check_exists(
    path: KeyPath, name: str, base_folder: Path, exists: Callable[[Path], bool], kind: str, problems: Problems
) -> None:
    """Report a file or folder that does not exist, with one of nearly its name, or that Snakemake cannot name."""
    place = base_folder / name
    if kind == "file" and _WILDCARD.search(name):
        problems.add(path, f"'{name}' has braces, which mean wildcards to Snakemake; allowed: a {kind} without them")
        return
    if exists(place):
        return
    if place.exists():
        problems.add(path, f"'{name}' is not a {kind}; allowed: a {kind}")
        return
    near = ""
    if place.parent.is_dir():
        near = suggest(place.name, sorted(entry.name for entry in place.parent.iterdir() if exists(entry)))
    problems.add(path, f"'{name}' does not exist; allowed: a {kind}, relative to {base_folder}{near}")
