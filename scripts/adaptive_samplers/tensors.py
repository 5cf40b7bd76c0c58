"""Named tensors in safetensors files, with a checksum: a file that was damaged on disk is noticed when it is read."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output

CHECKSUM = "checksum"  # its key in the file's metadata


def save_tensors(tensors: Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, str]) -> None:
    """Write tensors and `metadata` to one safetensors file, atomically, with a checksum of both.

    The same content makes the same bytes.
    """
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with atomic_output(path) as temporary:
        save_file(contiguous, temporary, metadata={**metadata, CHECKSUM: _checksum(contiguous, metadata)})
        _order_metadata(temporary)


def _order_metadata(path: Path) -> None:
    """Bring the metadata's entries, which safetensors writes in any order, into the order of their names."""
    with open(path, "rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(ordered) > size:
            raise ValueError(f"{path}: the header has another length when its metadata is in order")
        file.seek(8)
        # Behind the header, spaces fill up to a multiple of eight bytes.
        file.write(ordered.ljust(size))


def load_tensors(
    path: Path | str, device: str | torch.device = "cpu", ours: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file, and its metadata.

    Parameters
    ----------
    ours : whether the file was written by `save_tensors`; one of somebody else's may be without a checksum.

    Raises
    ------
    UserError
        If the file is damaged: it is no safetensors file any more, or does not hold what was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    written = metadata.pop(CHECKSUM, None)
    if (ours or written is not None) and written != _checksum(tensors, metadata):
        raise _damaged(path, "its checksum is not that of its content")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def load_some(path: Path | str, names: list[str]) -> tuple[dict[str, Tensor], dict[str, list[int]], dict[str, str]]:
    """A few tensors of a file, the shapes of all, and its metadata, read without the rest and so without its checksum.

    Raises
    ------
    UserError
        If the file is no safetensors file, or one of these tensors is not there.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}, shapes, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


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


def _damaged(path: Path | str, reason: str) -> UserError:
    return UserError(f"{path} is damaged ({reason}); delete it and run again")
