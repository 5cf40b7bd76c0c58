"""Named tensors in safetensors files, with a checksum: damage on disk is detected on reading."""

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output

CHECKSUM = "checksum"
# The only key of a file's metadata: safetensors writes several in any order, and equal files must have equal bytes.
METADATA = "adaptive_samplers"


def save_tensors(tensors: Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, str]) -> None:
    """Write tensors and `metadata` to one safetensors file, atomically, with a checksum of both."""
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({**metadata, CHECKSUM: _checksum(contiguous, metadata)}, sort_keys=True)
    with atomic_output(path) as temporary:
        save_file(contiguous, temporary, metadata={METADATA: text})


def load_tensors(
    path: Path | str, device: str | torch.device = "cpu", ours: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file, and its metadata.

    Parameters
    ----------
    ours : whether the file was written by `save_tensors`; others may have no checksum.

    Raises
    ------
    UserError
        If the file is damaged: it is no longer a safetensors file, or does not hold what was written.
    """
    with _damage_named(path), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        metadata = _metadata(file)
    written = metadata.pop(CHECKSUM, None)
    if (ours or written is not None) and written != _checksum(tensors, metadata):
        raise _damaged(path, "its checksum is not that of its content")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def load_some(path: Path | str, names: list[str]) -> tuple[dict[str, Tensor], dict[str, list[int]], dict[str, str]]:
    """A few tensors of a file, the shapes of all, and its metadata, read without the rest and so without its checksum.

    Raises
    ------
    UserError
        If the file is not a safetensors file, or lacks one of these tensors.
    """
    with _damage_named(path), safe_open(path, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}, shapes, _metadata(file)


def _metadata(file: safe_open) -> dict[str, str]:
    return json.loads((file.metadata() or {}).get(METADATA, "{}"))


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """CRC-32 of names, types, shapes and bytes, and of the metadata, each in the order of names."""
    value = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        value = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy(), value)
    for name in sorted(metadata):
        value = zlib.crc32(f"{name} {metadata[name]}".encode(), value)
    return f"{value:08x}"


@contextmanager
def _damage_named(path: Path | str) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path | str, reason: str) -> UserError:
    return UserError(f"{path} is damaged ({reason}); delete it and run again")
