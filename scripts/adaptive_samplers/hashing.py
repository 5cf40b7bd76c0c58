"""Content hashes: the same content has the same id in every run and on every machine."""

import hashlib
import json
from pathlib import Path
from typing import Any


def content_id(value: Any, length: int = 16) -> str:
    """The BLAKE2b hash of `value` as canonical JSON (sorted keys, no spaces), `length` hexadecimal digits."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=32).hexdigest()[:length]


def content_number(value: Any) -> int:
    """The same hash as an unsigned 64-bit integer: for seeds, splits and shards."""
    return int(content_id(value, length=16), 16)


def file_sha256(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
