"""Numba's `njit`, with a cache for each version of Numba."""

from collections.abc import Callable
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable], Callable]:
    """As Numba's, but what it caches has the name of its version.

    The pipeline and its servers share a checkout, and each has a Numba of its own. Numba names the files of its cache
    after the function, and takes those of another version for none: each environment would compile everything anew
    after the other, and could, while both are at work, load what the other one has just compiled.
    """

    def decorate(function: Callable) -> Callable:
        function.__qualname__ += f"_numba{numba.__version__}"
        return numba.njit(**options)(function)

    return decorate
