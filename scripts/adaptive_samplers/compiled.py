"""What functions that numba compiles for the CPU have in common: its options, and the threads that share rows."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

# Reordered sums are what lets a loop be vectorized; nothing relies on infinities or NaN being ruled out. Compiled code
# is cached on disk next to its source.
OPTIONS = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}


@lru_cache(maxsize=1)
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="adaptive-samplers")


def for_each_row(work: Callable[[int], object], rows: int) -> list:
    """The results of all rows, on as many threads as PyTorch may use."""
    threads = min(torch.get_num_threads(), rows)
    if threads <= 1:
        return [work(row) for row in range(rows)]
    return list(_workers(threads).map(work, range(rows)))
