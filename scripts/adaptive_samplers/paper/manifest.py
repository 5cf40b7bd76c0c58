"""What a paper was made of: hashes of its text, tables and figures, and where each number comes from."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json
from adaptive_samplers.hashing import content_id, file_sha256
from adaptive_samplers.paper.declaration import TEXT

MANIFEST = "MANIFEST.json"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file; of a folder, the content hash of its files' hashes.

    Raises
    ------
    UserError
        If there is nothing.
    """
    if path.is_dir():
        files = sorted(inner for inner in path.rglob("*") if inner.is_file() and not inner.name.startswith("."))
        return content_id({str(inner.relative_to(path)): file_sha256(inner) for inner in files}, length=64)
    try:
        return file_sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); run again") from error


def hashes(paths: Iterable[Path | str], run: Path) -> dict[str, str]:
    """The hashes of files and folders, by their paths relative to the run's folder."""
    return {os.path.relpath(path, run): sha256_of(Path(path)) for path in paths}


def numbers_of(recorded: Sequence[Mapping[str, Any]], tables: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """What the text's macros recorded, each number once with all of its pages and the hashes of its table."""
    found: dict[str, dict[str, Any]] = {}
    for record in recorded:
        what = {name: value for name, value in record.items() if name != "page"}
        entry = found.setdefault(content_id(what), {**what, "pages": [], "made_of": tables[record["table"]]})
        if record["page"] not in entry["pages"]:
            entry["pages"].append(record["page"])
    return list(found.values())


def what_has_changed(manifest_path: Path, text: Path = TEXT) -> list[str]:
    """What of a paper is older than what it should be made of, a sentence each; empty if it is up to date.

    Raises
    ------
    UserError
        If the manifest is missing or damaged.
    """
    manifest = read_json(manifest_path)
    run = manifest_path.parent.parent
    changed = [name for name, sha256 in manifest["files"].items() if _differs(run / name, sha256)]
    edited = [name for name, sha256 in manifest["text"].items() if _differs(text / name, sha256)]
    sentences = [f"{run / name} is not what it was when the paper was made" for name in changed]
    sentences += [f"report/paper/{name} is not what it was when the paper was made" for name in edited]
    for number in manifest["numbers"]:
        if set(number["made_of"]) & set(changed):
            pages = ", ".join(map(str, number["pages"]))
            sentences.append(
                f"the number {number['shown']} on page {pages} is older than its table '{number['table']}' "
                f"(row {number['row']}, column {number['column']})"
            )
    return sentences


def _differs(path: Path, sha256: str) -> bool:
    return not path.exists() or sha256_of(path) != sha256
