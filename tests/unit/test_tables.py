"""Tables: written and read back, and refused where they are not what the schema says."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adaptive_samplers.errors import UserError
from adaptive_samplers.tables import KEY, SCHEMAS, parts_of_prompts, read_table, to_arrow, write_parts, write_table

VALUES = {
    pa.string(): "é",
    pa.int32(): 3,
    pa.int64(): 5,
    pa.uint64(): 2**64 - 1,
    pa.float64(): 0.25,
    pa.bool_(): True,
    pa.list_(pa.int32()): [1, 2],
    pa.list_(pa.float32()): [0.5, -1.5],
    SCHEMAS["preference_pairs"].field("prompt").type: [{"role": "user", "content": "é"}],
    SCHEMAS["candidates_with_replies"].field("reply").type: {
        "text": "é",
        "finish_reason": "stop",
        "answers": ["a", "b"],
        "probabilities": [0.25, 0.75],
        "drawn": 1,
    },
}


def row_of(name: str) -> dict:
    return {field.name: VALUES[field.type] for field in SCHEMAS[name]}


def as_plain(table: pd.DataFrame) -> list[dict]:
    """Rows with lists for arrays, and None for nulls."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    return list(map(plain, table.astype(object).where(table.notna(), None).to_dict("records")))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_rows_frames_and_arrow_tables_come_back(name, tmp_path):
    rows = [row_of(name), {**row_of(name), **{field.name: None for field in SCHEMAS[name] if field.nullable}}]
    frame = pd.DataFrame(rows)
    forms = [rows, iter(rows), frame, frame[frame.columns[::-1]], frame.set_index(frame.index + 7)]
    forms.append(pa.Table.from_pylist(rows, schema=SCHEMAS[name]).select(SCHEMAS[name].names[::-1]))
    for position, data in enumerate(forms):
        path = tmp_path / str(position) / "seed=3" / "table.parquet"  # as shards lie, and no partition of a data set
        write_table(name, data, path)
        table = read_table(name, path)
        assert list(table.columns) == SCHEMAS[name].names
        assert as_plain(table) == rows
        assert pq.read_schema(path).equals(SCHEMAS[name])


def test_some_columns_of_a_table(tmp_path):
    write_table("candidates", [row_of("candidates")], tmp_path / "c.parquet")
    assert list(read_table("candidates", tmp_path / "c.parquet", [*KEY, "text"]).columns) == [*KEY, "text"]


def test_an_empty_table(tmp_path):
    write_table("candidates", [], tmp_path / "c.parquet")
    table = read_table("candidates", tmp_path / "c.parquet")
    assert len(table) == 0 and list(table.columns) == SCHEMAS["candidates"].names


@pytest.mark.parametrize("form", [list, pd.DataFrame, pa.Table.from_pylist])
def test_missing_and_unknown_columns_are_refused(form):
    row = row_of("quality")
    with pytest.raises(ValueError, match=r"table 'quality': missing columns \[\], unknown columns \['extra'\]"):
        to_arrow("quality", form([{**row, "extra": 1}]))
    # Also one that may be null: a slip of the pen must not become a column of nulls.
    for column in ("reward", "seed"):
        with pytest.raises(ValueError, match=rf"table 'quality': missing columns \['{column}'\]"):
            to_arrow("quality", form([{key: value for key, value in row.items() if key != column}]))


def test_one_row_that_lacks_a_column_is_refused():
    row = row_of("quality")
    with pytest.raises(ValueError, match=r"missing columns \['rating'\]"):
        to_arrow("quality", [row, {key: value for key, value in row.items() if key != "rating"}])


@pytest.mark.parametrize("form", [list, pd.DataFrame])
@pytest.mark.parametrize(
    ("column", "value"),
    [("seed", "zero"), ("rating", "good"), ("comparisons", 2**40), ("prompt_id", 5)],
)
def test_wrong_types_are_refused(form, column, value):
    with pytest.raises(ValueError, match=r"\S"):
        to_arrow("quality", form([{**row_of("quality"), column: value}]))


def test_numbers_are_not_truncated():
    with pytest.raises(ValueError, match=r"1\.5"):
        to_arrow("quality", pd.DataFrame([{**row_of("quality"), "seed": 1.5}]))


@pytest.mark.parametrize("form", [list, pd.DataFrame])
def test_nulls_are_refused_where_the_schema_forbids_them(form):
    with pytest.raises(ValueError, match="prompt_id"):
        to_arrow("quality", form([row_of("quality"), {**row_of("quality"), "prompt_id": None}]))
    with pytest.raises(ValueError, match="comparisons"):
        to_arrow("quality", form([{**row_of("quality"), "comparisons": None}]))


def test_a_nan_in_a_frame_is_a_null(tmp_path):
    write_table("quality", pd.DataFrame([{**row_of("quality"), "rating": np.nan}]), tmp_path / "q.parquet")
    assert pq.read_table(tmp_path / "q.parquet")["rating"].null_count == 1


def test_a_refused_table_leaves_nothing_behind(tmp_path):
    path = tmp_path / "q.parquet"
    write_table("quality", [row_of("quality")], path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="unknown"):
        write_table("quality", [{**row_of("quality"), "extra": 1}], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_files_that_are_no_such_table_are_a_clear_error(tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(UserError, match=r"t\.parquet: cannot be read as a 'quality' table"):
        read_table("quality", path)
    path.write_text(json.dumps([1]))
    with pytest.raises(UserError, match=r"t\.parquet: cannot be read as a 'quality' table"):
        read_table("quality", path)
    write_table("diversity", [row_of("diversity")], path)
    with pytest.raises(UserError, match=r"columns are not those of a 'quality' table.*self_bleu.*delete it"):
        read_table("quality", path)
    pq.write_table(
        to_arrow("quality", [row_of("quality")]).cast(
            pa.schema([field.with_type(pa.int32()) if field.name == "seed" else field for field in SCHEMAS["quality"]])
        ),
        path,
    )
    with pytest.raises(UserError, match="columns are not those"):
        read_table("quality", path)


def test_parts_hold_all_rows_of_their_prompts(tmp_path):
    rows = [
        {
            **dict(zip(KEY, (prompt, heuristic, seed), strict=True)),
            "rating": 0.5,
            "rating_stderr": 0.1,
            "reward": 1.0,
            "comparisons": 3,
        }
        for seed in range(3)
        for prompt in "abcde"
        for heuristic in "xy"
    ]
    path = tmp_path / "table.parquet"
    write_parts("quality", (pd.DataFrame(rows[i : i + 7]) for i in range(0, 30, 7)), path)
    assert read_table("quality", path)["prompt_id"].tolist() == [row["prompt_id"] for row in rows]
    parts = list(parts_of_prompts("quality", path, KEY, rows=13))
    assert [sorted(set(part["prompt_id"])) for part in parts] == [["a", "b"], ["c", "d"], ["e"]]
    together, whole = (
        table[KEY].sort_values(KEY, ignore_index=True) for table in (pd.concat(parts), pd.DataFrame(rows))
    )
    pd.testing.assert_frame_equal(together, whole, check_dtype=False)
    (whole,) = parts_of_prompts("quality", path, KEY)
    assert whole[KEY].to_numpy().tolist() == [[row[key] for key in KEY] for row in rows]
    write_parts("quality", [], path)
    assert [len(part) for part in parts_of_prompts("quality", path, KEY)] == [0]
