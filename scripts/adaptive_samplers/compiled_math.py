"""Functions for compiled passes that numba inlines into their loops, so that these are vectorized."""

import numpy as np

from adaptive_samplers.compiled import OPTIONS
from adaptive_samplers.numba_cache import njit

# Below this the float64 exponential function underflows.
LOWEST_EXPONENT = -708.0

MINUS_ZERO = np.int32(-(2**31))  # its bits


@njit(inline="always", **OPTIONS)
def exp(x):
    """exp(x) for x <= 0, float64, to 1e-15 of its value: a Taylor series, which vectorizes as no call does."""
    power = np.floor(x * 1.4426950408889634 + 0.5)
    rest = x - power * 6.93147180369123816490e-01 - power * 1.90821492927058770002e-10
    series = 1 / 6227020800
    series = series * rest + 1 / 479001600
    series = series * rest + 1 / 39916800
    series = series * rest + 1 / 3628800
    series = series * rest + 1 / 362880
    series = series * rest + 1 / 40320
    series = series * rest + 1 / 5040
    series = series * rest + 1 / 720
    series = series * rest + 1 / 120
    series = series * rest + 1 / 24
    series = series * rest + 1 / 6
    series = series * rest + 1 / 2
    series = series * rest + 1
    series = series * rest + 1
    return series * np.int64((np.int64(np.int32(power)) + 1023) << 52).view(np.float64)


@njit(inline="always", **OPTIONS)
def key_of(bits):
    """The bits of a float32 as an integer of the same order; the two zeros are equal."""
    return np.int32(0) if bits == MINUS_ZERO else np.int32(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))
