"""Reading of user-supplied files: prompts, corpora, pairs for judges, prompts of evaluations.

Any error in one of them becomes one sentence that names the file and, if applicable, the row.
"""

import datetime
import difflib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adaptive_samplers.errors import UserError

_BOM = b"\xef\xbb\xbf"
_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Row:
    """One row of a file, and how to name it in a message.

    Attributes
    ----------
    values : JSON values: an object's fields, or other values that a file holds, such as texts, numbers, lists.
    packed : from Parquet, where a column has one type and nested values may come as JSON text.
    """

    values: Any
    place: str
    packed: bool = False

    def complain(self, problem: str, remedy: str) -> UserError:
        return UserError(f"{self.place}: {problem}; {remedy}")


def read_rows(path: Path, key: str, others_are_text: bool = False) -> Iterator[Row]:
    """The rows of a file: of Parquet, of a JSON document (`.json`), or of JSON lines.

    A JSON document that is a list has its items as rows, any other is one row. Values of Parquet become what JSON can
    say: decimals numbers, dates text as in ISO 8601, bytes the text that they encode, and a number that is not a number
    is a missing one.

    Parameters
    ----------
    key : what in the config names the file.
    others_are_text : whether files that do not end in `.jsonl` or `.ndjson` are text, with one row per line.

    Raises
    ------
    UserError
        Naming the file, and the row, that cannot be read.
    """
    with _readable(path, key):
        if path.suffix == ".parquet":
            yield from _parquet_rows(path)
        elif path.suffix == ".json":
            yield from _document_rows(path)
        else:
            is_text = others_are_text and path.suffix not in _JSON_LINES
            for place, line in _lines(path):
                yield Row(line, place) if is_text else _json_row(line, place)


def read_objects(path: Path, key: str) -> Iterator[Row]:
    """The rows of a file, each of which must be an object."""
    for row in read_rows(path, key):
        if not isinstance(row.values, dict):
            raise row.complain("not a JSON object", "write one object a line")
        yield row


def read_text(path: Path, key: str) -> str:
    """A file of text as a whole, without its byte order mark.

    Raises
    ------
    UserError
        Naming the file, if it cannot be read or is not UTF-8.
    """
    with _readable(path, key):
        return _decoded(path.read_bytes(), str(path))


@contextmanager
def _readable(path: Path, key: str) -> Iterator[None]:
    if not path.exists():
        files = [file.name for file in path.parent.iterdir() if file.is_file()] if path.parent.is_dir() else []
        nearest = difflib.get_close_matches(path.name, files, n=1)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"correct {key}"
        raise UserError(f"{path}: there is no such file; {hint}")
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); correct {key}") from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The nonempty lines of a text file, each after its location."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}, line {number}"
            text = _decoded(line, place)
            if text.strip():
                yield place, text


def _decoded(content: bytes, place: str) -> str:
    try:
        return content.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 text (byte {error.start}); convert the file to UTF-8") from error


def _json_row(text: str, place: str) -> Row:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not readable as JSON ({error}); correct it") from error
    if "\\u" in text:
        _refuse_surrogates(values, place)
    return Row(values, place)


def _refuse_surrogates(values: Any, place: str) -> None:
    """Refuse what JSON can escape but no file can hold: a lone surrogate."""
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise UserError(
            f"{place}: holds \\u{ord(half):04x}, half of a character that takes two such codes; correct or delete it"
        ) from error


def _document_rows(path: Path) -> Iterator[Row]:
    text = _decoded(path.read_bytes(), str(path))
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise UserError(f"{path}: not readable as JSON ({error}); correct it") from error
        # JSON lines under another name.
        yield from (_json_row(line, place) for place, line in _lines(path))
        return
    except (ValueError, RecursionError):
        pass  # reported below
    document = _json_row(text, str(path))
    if isinstance(document.values, list):
        yield from (Row(values, f"{path}, row {number}") for number, values in enumerate(document.values, start=1))
    else:
        yield document


def _parquet_rows(path: Path) -> Iterator[Row]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for values in _python_rows(batch):
                    number += 1
                    place = f"{path}, row {number}"
                    if isinstance(values, Exception):
                        raise UserError(f"{place}: not readable ({values}); correct the row") from values
                    yield Row({name: _plain(value, f"{place}, {name}") for name, value in values.items()}, place, True)
    except pa.ArrowException as error:
        raise UserError(f"{path}: not readable as Parquet ({error}); write the file again") from error


def _python_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | ValueError]:
    """The rows of a batch; for one without a Python form, such as text that is not UTF-8, the reason."""
    try:
        yield from batch.to_pylist()
    except ValueError:
        for place in range(batch.num_rows):
            try:
                yield from batch.slice(place, 1).to_pylist()
            except ValueError as error:
                yield error


def _plain(value: Any, place: str) -> Any:
    """A Parquet value as JSON can represent it."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): _plain(part, place) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, place) for part in value]
    if isinstance(value, bytes):
        return _decoded(value, place)
    raise UserError(f"{place}: a {type(value).__name__} has no form in JSON; write a text or a number")


def _number(value: Decimal) -> int | float | str | None:
    """A decimal as a number, or as text if that would lose digits."""
    if value.is_nan():
        return None
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)
