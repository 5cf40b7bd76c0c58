"""Files that were damaged on disk, by a flipped bit or a lost end: each is noticed, and named with what to do."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import read_json, write_json
from adaptive_samplers.tables import SCHEMAS, read_batches, read_table, write_table
from adaptive_samplers.tensors import load_tensors, save_tensors

FLIPS = 150  # of each table


def some_value(kind: pa.DataType, generator: random.Random) -> Any:
    """A value of an Arrow type."""
    if pa.types.is_list(kind):
        return [some_value(kind.value_type, generator) for _ in range(generator.randrange(5))]
    if pa.types.is_struct(kind):
        return {field.name: some_value(field.type, generator) for field in kind}
    if pa.types.is_string(kind):
        return " ".join(generator.choice(["one", "two", "“three”"]) for _ in range(generator.randrange(6)))
    if pa.types.is_boolean(kind):
        return generator.random() < 0.5
    if pa.types.is_floating(kind):
        return float(np.float32(generator.gauss(0, 10)))
    return generator.randrange(100)


def some_table(name: str, rows: int = 40) -> pa.Table:
    generator = random.Random(name)
    columns = {
        field.name: [
            None if field.nullable and generator.random() < 0.2 else some_value(field.type, generator)
            for _ in range(rows)
        ]
        for field in SCHEMAS[name]
    }
    return pa.table(columns, schema=SCHEMAS[name])


def damaged(whole: bytes, generator: random.Random, flips: int) -> Iterator[bytes]:
    """The content with one bit turned over, at random places, and cut short."""
    for _ in range(flips):
        place = generator.randrange(len(whole))
        yield whole[:place] + bytes([whole[place] ^ 1 << generator.randrange(8)]) + whole[place + 1 :]
    for share in (0.0, 0.01, 0.3, 0.9):
        yield whole[: int(share * len(whole))]
    yield whole[:-1]


def unnoticed(path: Path, contents: Iterator[bytes], read: Callable[[], Any], same: Callable[[Any], bool]) -> int:
    """How often other content was read from a damaged file; what is noticed must be said with the file's name."""
    count = 0
    for content in contents:
        path.write_bytes(content)
        try:
            count += not same(read())
        except UserError as error:
            assert str(path) in str(error) and "delete it and run again" in str(error)
            assert "\n" not in str(error).strip() or "cannot be read" in str(error)
    return count


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_damaged_table_is_believed(name, tmp_path):
    path, table = tmp_path / "a.parquet", some_table(name)
    write_table(name, table, path)
    whole, generator = path.read_bytes(), random.Random(name)

    wanted = set(table["prompt_id"].to_pylist()) - {None} if "prompt_id" in table.column_names else None

    def read_in_parts() -> pa.Table:
        return pa.Table.from_batches(list(read_batches(name, path, rows=7)), SCHEMAS[name])

    def read_whole() -> dict[str, str]:
        found = read_table(name, path, prompt_ids=wanted)
        return {column: str(found[column].tolist()) for column in found}

    same = read_whole()
    assert len(same) == len(SCHEMAS[name])
    assert unnoticed(path, damaged(whole, generator, FLIPS), read_in_parts, table.equals) == 0
    assert unnoticed(path, damaged(whole, generator, 30), read_whole, same.__eq__) == 0


def test_every_byte_of_a_footer_counts(tmp_path):
    """No page's checksum covers it: it says where pages lie, how many rows there are, and what they mean."""
    path, table = tmp_path / "a.parquet", some_table("quality", 5)
    write_table("quality", table, path)
    whole = path.read_bytes()
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    flipped = (
        whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        for place in range(start, len(whole))
    )
    assert unnoticed(path, flipped, lambda: pa.Table.from_batches(read_batches("quality", path)), table.equals) == 0


def test_the_same_tensors_and_metadata_make_the_same_bytes(tmp_path):
    metadata = {"progress": '{"step": 1}', "words": 'é\u2028 \x00\x1f\x7f\b\f\n\r\t"\\/ 🎲', "b": "", "a": "1"}
    for number in range(20):
        save_tensors({"w": torch.ones(3), "é": torch.zeros(1)}, tmp_path / f"{number}.safetensors", metadata)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert load_tensors(tmp_path / "0.safetensors")[1] == metadata


def test_no_damaged_tensors_are_believed(tmp_path):
    tensors = {
        "t": torch.linspace(-9, 0, 40).reshape(8, 5),
        "ids": torch.arange(9, dtype=torch.uint8),
        "half": torch.full((3,), 1.5, dtype=torch.bfloat16),
        "none": torch.zeros(0, 4),
        "step": torch.tensor(7.0),
    }
    path = tmp_path / "a.safetensors"
    save_tensors(tensors, path, {"fingerprint": "abc"})
    whole = path.read_bytes()
    found, metadata = load_tensors(path)
    assert metadata == {"fingerprint": "abc"} and found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)

    def same(loaded: tuple[dict[str, torch.Tensor], dict[str, str]]) -> bool:
        return loaded[1] == metadata and all(torch.equal(loaded[0][name], tensors[name]) for name in tensors)

    assert unnoticed(path, damaged(whole, random.Random(0), 2_000), lambda: load_tensors(path), same) == 0


def test_no_damaged_json_is_believed(tmp_path):
    value = {"dropped_prompts": ["a", "“b”"], "share": 0.1, "counts": {"1": 2}, "none": None, "nan": float("inf")}
    path = tmp_path / "a.json"
    write_json(value, path)
    assert read_json(path) == value
    whole = path.read_bytes()
    flipped = (
        whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
        for place in range(len(whole))
        for bit in range(8)
    )
    assert unnoticed(path, flipped, lambda: read_json(path), value.__eq__) == 0
    assert unnoticed(path, damaged(whole, random.Random(0), 0), lambda: read_json(path), value.__eq__) == 0
