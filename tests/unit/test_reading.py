"""Files come in by one door: what they hold is what JSON can say, and a fault is named with its file and row."""

import ast
import datetime
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.judges.training_pairs import read_pairs
from adaptive_samplers.reading import read_objects, read_rows, read_text
from support import REPOSITORY


def values_of(path: Path, **options) -> list:
    return [row.values for row in read_rows(path, "some.key", **options)]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


ROWS = [{"a": 1}, {"a": "zwölf\u2028"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.jsonl", "\ufeff" + LINES.replace("\n", "\r\n\r\n")),
        ("a.ndjson", LINES.rstrip("\n")),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS)),
        ("a.json", "\ufeff" + json.dumps(ROWS, indent=2)),
        ("{a} b.jsonl", LINES),
    ],
)
def test_rows_are_the_same_in_every_form(tmp_path, name, content):
    assert values_of(write(tmp_path / name, content)) == ROWS
    assert values_of(tmp_path / name, others_are_text=True) == ROWS


def test_other_files_are_lines_of_text_where_that_is_meant(tmp_path):
    path = write(tmp_path / "a.txt", "\ufeffone\n\n two \nthree")
    assert values_of(path, others_are_text=True) == ["one\n", " two \n", "three"]
    assert read_text(path, "some.key") == "one\n\n two \nthree"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": "\\ud800 x"}\n', r"a\.jsonl, line 2: holds \\ud800, half of a character"),
        ("a.jsonl", '{"\\udfff": 1}', r"a\.jsonl, line 1: holds \\udfff"),
        ("a.json", '[{"a": ["\\udc00"]}]', r"a\.json: holds \\udc00"),
        ("a.jsonl", b'{"a": "\xff"}\n', r"a\.jsonl, line 1: not UTF-8 text \(byte 7\)"),
        ("a.json", b"\xff\xfe[\x00", r"a\.json: not UTF-8 text"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl, line 1: not readable as JSON"),
        ("a.json", "[" * 100_000, r"a\.json: not readable as JSON"),
        ("a.jsonl", f'{{"a": {"9" * 5000}}}', r"a\.jsonl, line 1: not readable as JSON"),
        ("a.json", '{"a": 1', r"a\.json: not readable as JSON"),
        ("a.json", "", r"a\.json: not readable as JSON"),
        ("a.jsonl", "{a: 1}", r"a\.jsonl, line 1: not readable as JSON"),
        ("a.parquet", "PAR1", r"a\.parquet: not readable as Parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        values_of(write(tmp_path / name, content))


def test_pairs_of_surrogates_are_characters(tmp_path):
    assert values_of(write(tmp_path / "a.jsonl", '{"a": "\\ud83d\\ude00"}')) == [{"a": "😀"}]


def test_a_missing_file_a_folder_and_what_is_no_object(tmp_path):
    write(tmp_path / "prompts.jsonl", "[1]\n")
    with pytest.raises(UserError, match=r"prompt\.jsonl: there is no such file; did you mean 'prompts\.jsonl'"):
        values_of(tmp_path / "prompt.jsonl")
    with pytest.raises(UserError, match=r"nowhere/x: there is no such file; correct some\.key"):
        read_text(tmp_path / "nowhere" / "x", "some.key")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\); correct some\.key"):
        read_text(tmp_path, "some.key")
    with pytest.raises(UserError, match=r"line 1: not a JSON object"):
        list(read_objects(tmp_path / "prompts.jsonl", "some.key"))


def test_what_parquet_holds_becomes_what_json_can_say(tmp_path):
    columns = {
        "whole": pa.array([Decimal("72"), Decimal("-3")], pa.decimal128(10, 0)),
        "decimal": pa.array([Decimal("18.90"), None], pa.decimal128(10, 2)),
        "long": pa.array([Decimal("0.12345678901234567890"), Decimal(1)], pa.decimal128(38, 20)),
        "date": pa.array([datetime.date(2026, 1, 31), None]),
        "moment": pa.array([datetime.datetime(2026, 1, 31, 9, 30), None]),
        "bytes": pa.array(["zwölf".encode(), None]),
        "float": pa.array([float("nan"), 0.5]),
        "nested": pa.array([[{"x": Decimal("1.50")}], None], pa.list_(pa.struct([("x", pa.decimal128(5, 2))]))),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    first, second = values_of(tmp_path / "a.parquet")
    assert first == {
        "whole": 72,
        "decimal": 18.9,
        "long": "0.12345678901234567890",
        "date": "2026-01-31",
        "moment": "2026-01-31T09:30:00",
        "bytes": "zwölf",
        "float": None,
        "nested": [{"x": 1.5}],
        "map": [["k", 1]],
    }
    assert second["whole"] == -3 and second["long"] == 1 and second["float"] == 0.5
    json.dumps([first, second], allow_nan=False)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([None, b"\xff"]), r"a\.parquet, row 2, x: not UTF-8 text"),
        (pa.array([None, datetime.timedelta(1)]), r"a\.parquet, row 2, x: a timedelta has no form in JSON"),
        (pa.array([None, b"\xff"]).cast(pa.binary()).view(pa.string()), r"a\.parquet, row 2: not readable"),
    ],
)
def test_what_json_cannot_say_is_named_with_its_row(tmp_path, column, message):
    pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=message):
        values_of(tmp_path / "a.parquet")


PAIR = {"prompt": "p", "chosen": "good", "rejected": "bad", "corruption": "other"}


def test_pairs_for_judges_come_in_by_the_door(tmp_path):
    path = write(tmp_path / "pairs.jsonl", "\ufeff" + json.dumps(PAIR | {"more": 1}) + "\n")
    assert read_pairs(path).to_dict("records") == [PAIR]
    write(path, json.dumps(PAIR) + "\n" + json.dumps(PAIR | {"chosen": None}) + "\n")
    with pytest.raises(UserError, match=r"pairs\.jsonl, line 2: lacks the key 'chosen', a text"):
        read_pairs(path)
    write(path, json.dumps(PAIR | {"rejected": "\ud800"}))
    with pytest.raises(UserError, match=r"pairs\.jsonl, line 1: holds \\ud800"):
        read_pairs(path)


def test_no_other_module_reads_files_of_users():
    """Modules that take files of the user's have no reader of their own."""
    readers = {"ParquetFile", "read_json", "read_text", "read_bytes", "read_parquet", "read_csv", "open"}
    for name in (
        "prompts.py",
        "preferences/decontamination.py",
        "labels/judges/training_pairs.py",
    ):
        tree = ast.parse((REPOSITORY / "scripts" / "adaptive_samplers" / name).read_text())
        called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in called}
        assert not names & readers, name
