"""Where an output came from: configuration, versions, commit."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from adaptive_samplers import __version__


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of `packages`, of Python and of this project."""
    found = {"adaptive_samplers": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit() -> str | None:
    """The workflow's commit, followed by `-dirty` if tracked files were changed; None outside git."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def provenance(settings: Any, *packages: str, **more: Any) -> dict[str, Any]:
    """What an output folder's `provenance.json` holds: the configuration it was made with, versions and commit."""
    return {"settings": settings, "versions": versions(*packages), "commit": commit(), **more}
