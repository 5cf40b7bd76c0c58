"""Tables as the text's macros read them: rows of plain values."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import CHECKSUM

KEY, VALUE, FOLDER = "key", "value", "folder"

Rows = list[dict[str, Any]]


def read_rows(files: Sequence[Path], inside: str = "", columns: Sequence[str] = ()) -> Rows:
    """The rows of a table.

    Parameters
    ----------
    files : one CSV, Parquet or JSON file. A JSON file becomes rows of `key`, the names of its levels joined by dots,
        and `value`; of a list, `key.count` says how long it is. Or folders, if `inside` names a JSON file in each:
        a row per folder, whose `folder` are the last two parts of its path.
    columns : of Parquet, those to read; all, if empty.

    Raises
    ------
    UserError
        If a file is missing or cannot be read.
    """
    if inside:
        found = [(folder, dict(_flat(_read_json(folder / inside)))) for folder in files]
        # What one folder's file lacks is missing in its row.
        columns = list(dict.fromkeys(name for _, row in found for name in row))
        return [
            {FOLDER: "/".join(folder.parts[-2:]), **{name: row.get(name) for name in columns}} for folder, row in found
        ]
    (path,) = files
    if path.suffix == ".json":
        return [{KEY: key, VALUE: value} for key, value in _flat(_read_json(path))]
    try:
        is_parquet = path.suffix == ".parquet"
        table = pd.read_parquet(path, columns=list(columns) or None) if is_parquet else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and run again") from error
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and run again") from error


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if prefix or name != CHECKSUM:
                yield from _flat(inner, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list):
        yield f"{prefix}.count", len(value)
        for position, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}.{position}")
    else:
        yield prefix, _plain(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it; None for what is missing, and for numbers that are none."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and not abs(value) < float("inf")):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)
