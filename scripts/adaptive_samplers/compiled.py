"""What compiled passes have in common: how they are imported, numba's options, and the threads that share rows."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# Reordered sums are what lets a loop be vectorized; nothing relies on infinities or NaN being ruled out. Compiled code
# is cached on disk next to its source.
OPTIONS = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}
# Division must not become multiplication by a reciprocal where its results are given away.
EXACT = {**OPTIONS, "fastmath": False}


def fastest_passes(portable: ModuleType, fast: Mapping[str, tuple[str, str]], users: str, kind: str) -> ModuleType:
    """The module whose passes serve one kind of device best; compiled ones are imported on first use.

    Where one cannot be imported, a warning says so, and the portable passes serve.

    Parameters
    ----------
    portable : the same passes in plain PyTorch, for any device.
    fast : by kind of device, the full name of a faster module, and the package that it needs. Both are slow to import
        and may be missing.
    users, kind : who runs slower without it, and on which kind of device, for the warning.
    """
    if kind not in fast:
        return portable
    module, package = fast[kind]
    try:
        return import_module(module)
    except ImportError as error:
        logger.warning(
            "%s run on %s in plain PyTorch, which is slower, as it goes over the vocabulary many times: the package %s "
            "cannot be imported (%s). Install it with `pip install %s`.",
            users,
            kind,
            package,
            error,
            package,
        )
        return portable


def with_adjacent_tokens(logits: Tensor) -> Tensor:
    """The same logits `[B, V]`, those of a row side by side, as kernels read them."""
    return logits if logits.stride(1) == 1 else logits.contiguous()


def programs_of_a_row(rows: int, blocks: int, most: int) -> int:
    """How many programs of a GPU share a row's blocks, of `most` for all rows; there may be no rows.

    Powers of two, because each number is compiled separately.
    """
    return 1 << (min(blocks, -(-most // max(1, rows))) - 1).bit_length()


@lru_cache(maxsize=1)
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="adaptive-samplers")


def for_each_row(work: Callable[[int], object], rows: int) -> list:
    """The results of all rows, on as many threads as PyTorch may use."""
    threads = min(torch.get_num_threads(), rows)
    if threads <= 1:
        return [work(row) for row in range(rows)]
    return list(_workers(threads).map(work, range(rows)))
