"""The tables that stages exchange: one schema each, checked on write and on read.

Every table is a Parquet file. A candidate's key is `(prompt_id, heuristic_id, seed)`; labels carry the key and their
own columns only and are joined once, when scores are made. A failure is a row with its error, never a neutral value.
"""

import os
import re
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output
from adaptive_samplers.measures import measures_of

KEY = ["prompt_id", "heuristic_id", "seed"]
ROWS_IN_MEMORY = 200_000  # answers with their texts, where all answers to a prompt must be in memory together
ROWS_AT_A_TIME = 10_000  # of tables that are read in parts: about 30 MB of answers
BUFFER_SIZE = 2**20  # bytes of a column
FOOTER_CHECKSUM = "footer_checksum"  # its key in the footer; the CRC-32 is computed with zeros in its own place
_NO_CHECKSUM = b"0" * 8
# In Thrift's compact protocol, the value's field and its length are between key and value.
_FOOTER_CHECKSUM = re.compile(re.escape(FOOTER_CHECKSUM.encode()) + b"\x18\x08([0-9a-f]{8})")
_KEY_FIELDS = [
    pa.field("prompt_id", pa.string(), nullable=False),
    pa.field("heuristic_id", pa.string(), nullable=False),
    pa.field("seed", pa.int64(), nullable=False),
]
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _measured(table: str) -> list[pa.Field]:
    """The columns of the measures of a label table, which `measures` defines. Null: there is no value."""
    return [pa.field(measure.column, pa.type_for_alias(measure.type)) for measure in measures_of(table)]


SCHEMAS: dict[str, pa.Schema] = {
    "prompts": pa.schema(
        [
            _required("prompt_id", pa.string()),  # hash of `messages`
            _required("dataset", pa.string()),
            _required("kind", pa.string()),  # creative, verifiable, factual or chat
            _required("messages", pa.string()),  # JSON list of {role, content}
            pa.field("verifier", pa.string()),
            pa.field("ground_truth", pa.string()),  # JSON
            _required("split", pa.string()),  # train, validation or test
        ]
    ),
    "heuristics": pa.schema(
        [
            _required("heuristic_id", pa.string()),  # hash of `processors`
            _required("name", pa.string()),  # temperature_0.7+min_p_0.1
            _required("family", pa.string()),
            _required("processors", pa.string()),  # JSON list of {name, params}
        ]
    ),
    "candidates": pa.schema(
        [
            *_KEY_FIELDS,
            _required("prompt_token_ids", pa.list_(pa.int32())),
            _required("token_ids", pa.list_(pa.int32())),  # without the end-of-turn token
            _required("text", pa.string()),
            _required("finish_reason", pa.string()),  # stop, length or error
            _required("sample_seed", pa.uint64()),
            _required("engine", pa.string()),
            pa.field("error", pa.string()),
            pa.field("token_logprobs", pa.list_(pa.float32())),  # nats, raw base LM, one per token
            # Nats, of an end-of-turn token before the first token and after each: one entry more than tokens.
            pa.field("end_logprobs", pa.list_(pa.float32())),
        ]
    ),
    "allocation": pa.schema(
        # An answer of the second round: `unsettled` or `undecided`, or the split of a prompt that is not trained on.
        [*_KEY_FIELDS, _required("reason", pa.string())]
    ),
    "embeddings": pa.schema(
        [_required("text_id", pa.string()), _required("vector", pa.list_(pa.float32()))]  # unit length
    ),
    "quality": pa.schema(
        [
            *_KEY_FIELDS,
            *_measured("quality")[:2],  # rating and its error, which come before what they were computed from
            _required("comparisons", pa.int32()),
            *_measured("quality")[2:],
        ]
    ),
    "diversity": pa.schema([*_KEY_FIELDS, *_measured("diversity"), _required("group_size", pa.int32())]),
    "correctness": pa.schema(
        [
            *_KEY_FIELDS,
            pa.field("verifier", pa.string()),
            *_measured("correctness"),
            pa.field("detail", pa.string()),
            pa.field("error", pa.string()),
        ]
    ),
    "overlap": pa.schema(
        [*_KEY_FIELDS, *_measured("overlap"), pa.field("error", pa.string())]  # why there are no values
    ),
    "scores": pa.schema(
        [
            *_KEY_FIELDS,
            _required("kind", pa.string()),
            _required("split", pa.string()),
            pa.field("quality", pa.float64()),
            pa.field("diversity", pa.float64()),  # more is more diverse, whatever the measure
            pa.field("correctness", pa.float64()),
            _required("z_quality", pa.float64()),  # 0 where the label is null
            _required("z_diversity", pa.float64()),
            _required("z_correctness", pa.float64()),
            pa.field("correct", pa.bool_()),  # null where there is nothing to verify
        ]
    ),
    "training_sets": pa.schema(
        [
            *_KEY_FIELDS,
            _required("weights", pa.string()),  # a0.7_b0.3_c0
            _required("top_k", pa.int32()),
            _required("rank", pa.int32()),  # 1 is the best of its prompt and seed
            _required("score", pa.float64()),
            _required("split", pa.string()),
            _required("processors", pa.string()),
            _required("answer_id", pa.string()),  # hash of prompt and answer tokens, and of how it ended
            _required("prompt_token_ids", pa.list_(pa.int32())),
            _required("token_ids", pa.list_(pa.int32())),
            _required("finish_reason", pa.string()),
        ]
    ),
    "filtered": pa.schema(
        [*_KEY_FIELDS, _required("reason", pa.string())]  # why the answer could not be selected
    ),
    "preference_answers": pa.schema(
        [
            *_KEY_FIELDS,
            _required("split", pa.string()),
            _required("prompt", _MESSAGES),
            _required("text", pa.string()),
            _required("finish_reason", pa.string()),
            _required("length", pa.int32()),  # characters
            pa.field("score", pa.float64()),  # reward or rating, comparable in its group; null where unrated
            pa.field("correctness", pa.float64()),
            pa.field("label", pa.bool_()),  # desirable; null for answers that are not labelled
            pa.field("reason", pa.string()),  # why the answer cannot be used; null where it can
        ]
    ),
    "preference_pairs": pa.schema(
        [
            _required("prompt_id", pa.string()),
            pa.field("seed", pa.int64()),  # under which the answers met; null where those of all seeds did
            _required("number", pa.int32()),  # index among the prompt's pairs
            _required("dataset", pa.string()),
            _required("kind", pa.string()),
            _required("split", pa.string()),
            _required("prompt", _MESSAGES),
            _required("chosen", pa.string()),
            _required("rejected", pa.string()),
            _required("score_chosen", pa.float64()),
            _required("score_rejected", pa.float64()),
            _required("margin", pa.float64()),
            *(
                field
                for side in ("chosen", "rejected")
                for field in (
                    pa.field(f"correctness_{side}", pa.float64()),  # null where there is nothing to verify
                    _required(f"heuristic_{side}", pa.string()),  # its name
                    _required(f"heuristic_id_{side}", pa.string()),
                    _required(f"seed_{side}", pa.int64()),
                )
            ),
        ]
    ),
    "marginals": pa.schema(
        [
            _required("weights", pa.string()),
            _required("top_k", pa.int32()),
            _required("heuristic_id", pa.string()),
            _required("name", pa.string()),
            _required("kind", pa.string()),  # of prompts; `all` for all of them
            _required("answers", pa.int64()),  # that could be selected; the means are over these
            _required("selected", pa.int64()),
            pa.field("share", pa.float64()),  # of the training set's answers of the kind, 0 to 1
            pa.field("score", pa.float64()),  # mean; of Pareto selection z_quality + z_diversity
            pa.field("quality", pa.float64()),  # means of the labels, null where no answer has one
            pa.field("diversity", pa.float64()),
            pa.field("correctness", pa.float64()),
        ]
    ),
    "policy_samples": pa.schema(
        [
            _required("prompt_id", pa.string()),
            _required("sample_id", pa.int64()),  # 0 to n - 1; with the prompt it names one row
            _required("policy", pa.string()),
            _required("dataset", pa.string()),
            _required("messages", pa.string()),  # JSON list of {role, content}
            _required("text", pa.string()),
            _required("finish_reason", pa.string()),  # stop or length
            _required("token_ids", pa.list_(pa.int32())),
            pa.field("token_logprobs", pa.list_(pa.float32())),  # nats, of the raw policy, one per token
            _required("sample_seed", pa.uint64()),
            _required("engine", pa.string()),
        ]
    ),
    "comparison": pa.schema(
        [
            _required("family", pa.string()),
            _required("name", pa.string()),
            _required("kind", pa.string()),  # heuristic or learned
            _required("objective", pa.string()),
            pa.field("mean", pa.float64()),
            pa.field("low", pa.float64()),
            pa.field("high", pa.float64()),
            _required("n_prompts", pa.int64()),
        ]
    ),
    "final_answers": pa.schema(
        [
            *_KEY_FIELDS,
            pa.field("final_answer", pa.string()),  # equal for equivalent answers; null for a text without one
            pa.field("error", pa.string()),  # why the text's final answer is not known
        ]
    ),
    "repeated_sampling": pa.schema(
        [
            _required("family", pa.string()),
            _required("name", pa.string()),
            _required("kind", pa.string()),  # heuristic or learned
            _required("method", pa.string()),  # how one of n samples is chosen; pass_at_k: whether any is right
            _required("objective", pa.string()),  # correctness (0 to 1) or reward
            _required("prompts", pa.string()),  # all, verifiable, or final_answer: those whose verifier knows one
            pa.field("judged_by", pa.string()),  # reward or rating; null for methods without a judge
            _required("n", pa.int64()),  # samples of a prompt; for adaptive_consistency the maximum
            pa.field("samples", pa.float64()),  # drawn, mean over prompts
            pa.field("mean", pa.float64()),
            pa.field("low", pa.float64()),
            pa.field("high", pa.float64()),
            _required("n_prompts", pa.int64()),
        ]
    ),
    "power_laws": pa.schema(
        [
            _required("family", pa.string()),
            _required("name", pa.string()),
            _required("kind", pa.string()),
            pa.field("a", pa.float64()),  # pass@k = exp(a k^b)
            pa.field("b", pa.float64()),
            pa.field("a_stderr", pa.float64()),  # over prompts
            pa.field("b_stderr", pa.float64()),
            pa.field("r_squared", pa.float64()),
            pa.field("largest_residual", pa.float64()),
            _required("points", pa.int64()),  # values of k
            _required("n_prompts", pa.int64()),
            pa.field("note", pa.string()),  # why there is no fit
        ]
    ),
}

# Shards of a run with verbalized heuristics: the candidates, and the replies that answers were drawn from.
SCHEMAS["candidates_with_replies"] = pa.schema(
    [
        *SCHEMAS["candidates"],
        pa.field(
            "reply",  # null where the model was asked for one answer
            pa.struct(
                [
                    pa.field("text", pa.string()),
                    pa.field("finish_reason", pa.string()),  # stop or length
                    pa.field("answers", pa.list_(pa.string())),
                    pa.field("probabilities", pa.list_(pa.float64())),  # sum to 1
                    pa.field("drawn", pa.int32()),  # index of the answer that was drawn
                ]
            ),
        ),
    ]
)
# Tables that are read as another one, without their extra columns.
READ_AS = {"candidates": "candidates_with_replies"}


def to_arrow(name: str, data: pd.DataFrame | pa.Table | Iterable[dict[str, Any]]) -> pa.Table:
    """Bring `data` into the schema `name`.

    Raises
    ------
    ValueError
        If a column is missing or unknown, has the wrong type, or is null where the schema forbids it.
    """
    schema = SCHEMAS[name]
    try:
        if isinstance(data, pa.Table):
            _check_columns(name, data.schema.names)
            table = data.select(schema.names)
        elif isinstance(data, pd.DataFrame):
            _check_columns(name, data.columns)
            table = pa.Table.from_pandas(data, schema=schema, preserve_index=False)
        else:
            rows = list(data)
            for columns in {frozenset(row) for row in rows}:
                _check_columns(name, columns)
            table = pa.Table.from_pylist(rows, schema=schema)
        table = table.cast(schema).replace_schema_metadata(None)
    except pa.ArrowTypeError as error:
        raise ValueError(f"table '{name}': {error}") from error
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise ValueError(f"table '{name}': column '{field.name}' has {table[field.name].null_count} null values")
    return table


def _check_columns(name: str, columns: Iterable[str]) -> None:
    unknown = set(columns) - set(SCHEMAS[name].names)
    missing = set(SCHEMAS[name].names) - set(columns)
    if unknown or missing:
        raise ValueError(f"table '{name}': missing columns {sorted(missing)}, unknown columns {sorted(unknown)}")


@contextmanager
def table_writer(name: str, path: Path | str) -> Iterator[pq.ParquetWriter]:
    """Write the table `name` to a Parquet file part by part, atomically: written parts are not kept in memory.

    Every page has a checksum, and so does the footer, which says where pages are and what they mean.
    """
    with atomic_output(path) as temporary:
        options = {"compression": "zstd", "write_page_checksum": True}
        with pq.ParquetWriter(temporary, SCHEMAS[name], **options) as writer:
            writer.add_key_value_metadata({FOOTER_CHECKSUM: _NO_CHECKSUM.decode()})
            yield writer
        with open(temporary, "r+b") as file:
            footer, start = _footer(file)
            place = _FOOTER_CHECKSUM.search(footer)
            file.seek(start + place.start(1))
            file.write(b"%08x" % zlib.crc32(footer))


def write_table(name: str, data: pd.DataFrame | pa.Table | Iterable[dict[str, Any]], path: Path | str) -> None:
    """Write `data` as the table `name` to a Parquet file, atomically."""
    table = to_arrow(name, data)
    with table_writer(name, path) as writer:
        writer.write_table(table)


def read_table(
    name: str, path: Path | str, columns: list[str] | None = None, prompt_ids: Collection[str] | None = None
) -> pd.DataFrame:
    """Read the table `name`, or some of its columns, or the rows of some prompts, after checking its schema.

    Raises
    ------
    UserError
        If the file is missing, damaged, not a Parquet file, or has another schema, as files of another version may.
    """
    columns = SCHEMAS[name].names if columns is None else columns
    if prompt_ids is not None:
        found = list(read_batches(name, path, columns, only=("prompt_id", prompt_ids)))
        schema = pa.schema([SCHEMAS[name].field(column) for column in columns])
        return pa.Table.from_batches(found, schema).to_pandas(self_destruct=True)
    rows = _check_file(name, path)
    with _damage_named(name, path):
        table = pq.read_table(path, columns=columns, pre_buffer=False, page_checksum_verification=True)
        _check_rows(table.num_rows, rows)
        return table.to_pandas(self_destruct=True)


def read_batches(
    name: str,
    path: Path | str,
    columns: list[str] | None = None,
    rows: int = ROWS_AT_A_TIME,
    only: tuple[str, Collection[str]] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read the table `name` like `read_table`, a limited number of rows at a time, if it does not fit in memory.

    With `only`, a column of strings and some values, only the rows with one of these values are returned, and no batch
    without any. Of row groups without any, no other column is read.

    Raises
    ------
    UserError
        As `read_table`; also partway through a file whose content is damaged.
    """
    left = _check_file(name, path)
    columns = SCHEMAS[name].names if columns is None else columns
    # Reading ahead, the default, would load the whole file into memory.
    options = {"pre_buffer": False, "buffer_size": BUFFER_SIZE, "page_checksum_verification": True}
    with _damage_named(name, path):
        file = pq.ParquetFile(path, **options)
    with file:
        batches = _all_rows(file, columns, rows, left) if only is None else _rows_with(file, columns, rows, *only)
        while True:
            with _damage_named(name, path):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def _all_rows(file: pq.ParquetFile, columns: list[str], rows: int, left: int) -> Iterator[pa.RecordBatch]:
    for batch in file.iter_batches(rows, columns=columns):
        left -= len(batch)
        yield batch
    _check_rows(0, left)


def _rows_with(
    file: pq.ParquetFile, columns: list[str], rows: int, column: str, values: Collection[str]
) -> Iterator[pa.RecordBatch]:
    wanted = pa.array(sorted(values), pa.string())
    for group in range(file.num_row_groups):
        count, start = file.metadata.row_group(group).num_rows, 0
        present = file.read_row_group(group, columns=[column])[column]
        _check_rows(len(present), count)
        chosen = pc.is_in(present, wanted).combine_chunks()
        if chosen.true_count:
            for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                if len(found := batch.filter(chosen.slice(start, len(batch)))):
                    yield found
                start += len(batch)
            _check_rows(start, count)


def read_metadata(name: str, path: Path | str) -> dict[bytes, bytes]:
    """The metadata written with the table `name`.

    Raises
    ------
    UserError
        As `read_table`.
    """
    _check_file(name, path)
    return pq.read_metadata(path).metadata or {}


def parts_of_prompts(
    name: str,
    path: Path | str,
    columns: list[str],
    rows: int = ROWS_IN_MEMORY,
    by_prompt: bool = False,
    prompt_ids: Collection[str] | None = None,
) -> Iterator[pd.DataFrame]:
    """Read the table `name`, or its rows for some prompts, in parts of about `rows` rows that hold all of a prompt's.

    For labels that compare the answers to one prompt, in any row order. For each part, the row groups that hold some of
    it are read. Parts come in the order of their prompts' first rows, or, if `by_prompt`, of their ids.

    Raises
    ------
    UserError
        As `read_table`.
    """
    counts: Counter[str] = Counter()
    only = None if prompt_ids is None else ("prompt_id", prompt_ids)
    for batch in read_batches(name, path, ["prompt_id"], only=only):
        counts.update({count["values"]: count["counts"] for count in pc.value_counts(batch["prompt_id"]).to_pylist()})
    part: set[str] = set()
    size = 0
    for prompt_id, count in sorted(counts.items()) if by_prompt else counts.items():
        if part and size + count > rows:
            yield read_table(name, path, columns, part)
            part, size = set(), 0
        part.add(prompt_id)
        size += count
    yield read_table(name, path, columns, part)


def write_parts(name: str, parts: Iterable[pd.DataFrame], path: Path | str) -> None:
    """Write the table `name` part by part, atomically: parts not yet written are not in memory."""
    with table_writer(name, path) as writer:
        for table in map(partial(to_arrow, name), parts):
            writer.write_table(table)
            del table  # before the next part is made


def without_prompts(batch: pa.RecordBatch, prompt_ids: pa.Array) -> pa.RecordBatch:
    """A batch without the rows of some prompts."""
    if not len(prompt_ids):
        return batch
    return batch.filter(pc.invert(pc.is_in(batch["prompt_id"], value_set=prompt_ids)))


def join_tables(name: str, parts: Sequence[Path | str], path: Path | str, without: Collection[str] = ()) -> None:
    """Concatenate several files of the table `name`, a batch at a time.

    Rows of the prompts `without` are left out. A text that several parts embedded is in the table once.

    Raises
    ------
    UserError
        If a part cannot be read.
    """
    known: set[str] = set()
    left_out = pa.array(sorted(without), pa.string())
    with table_writer(name, path) as writer:
        for part in parts:
            for batch in read_batches(name, part):
                if name == "embeddings":
                    text_ids = batch["text_id"].to_pylist()
                    batch = batch.filter(pa.array([text_id not in known for text_id in text_ids]))
                    known.update(text_ids)
                else:
                    batch = without_prompts(batch, left_out)
                writer.write_batch(batch)


def _check_file(name: str, path: Path | str) -> int:
    """Refuse a file that is damaged, not Parquet, or has a schema other than that of the table `name`; its rows."""
    schema = SCHEMAS[name]
    with _damage_named(name, path):
        with open(path, "rb") as file:
            footer, _ = _footer(file)
        if place := _FOOTER_CHECKSUM.search(footer):
            blank = footer[: place.start(1)] + _NO_CHECKSUM + footer[place.end(1) :]
            if int(place[1], 16) != zlib.crc32(blank):
                raise ValueError("the checksum of its footer is wrong")
        with pq.ParquetFile(path) as parquet:
            found, rows = parquet.schema_arrow, parquet.metadata.num_rows
    allowed = [SCHEMAS[known] for known in (name, READ_AS.get(name, name))]
    if [(f.name, f.type) for f in found] not in [[(f.name, f.type) for f in schema] for schema in allowed]:
        raise UserError(
            f"{path}: its columns are not those of a '{name}' table of this version "
            f"(found {found.names}, expected {schema.names}); delete it and run again"
        )
    return rows


def _check_rows(found: int, expected: int) -> None:
    """Refuse to continue with fewer rows: readers skip a page whose header is damaged."""
    if found != expected:
        raise ValueError(f"{abs(expected - found)} of its rows are lost")


def _footer(file: BinaryIO) -> tuple[bytes, int]:
    """The footer of a Parquet file, and where it starts: its length follows it, before the last four bytes."""
    end = file.seek(0, os.SEEK_END) - 8
    if end < 0:
        raise ValueError("it is too short for a Parquet file")
    file.seek(end)
    start = end - int.from_bytes(file.read(4), "little")
    if start < 0:
        raise ValueError("its footer is longer than the file")
    file.seek(start)
    return file.read(end - start), start


@contextmanager
def _damage_named(name: str, path: Path | str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as a '{name}' table ({error}); delete it and run again") from error
