"""Sorting logits, compiled for the CPU by numba: a radix sort, which knows how few bits a float32 has."""

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.compiled import OPTIONS, for_each_row
from adaptive_samplers.compiled_math import key_of
from adaptive_samplers.numba_cache import njit

# A key is a logit's bits, mapped to descend, above its token id.
ID_BITS = 31
LARGEST_ID = 2**ID_BITS - 1

# Keys are sorted by eleven bits at a time: the counts of one digit's values fit into the first-level cache.
DIGIT_BITS = 11
DIGITS = 3
LARGEST_DIGIT = 2**DIGIT_BITS - 1


@njit(**OPTIONS)
def _pack(bits, keys):
    """Bits of float32 logits, and their places, as integers that ascend where logits descend and ids ascend."""
    for token in range(bits.size):
        keys[token] = ((LARGEST_ID - np.int64(key_of(bits[token]))) << ID_BITS) | token


@njit(**OPTIONS)
def sorted_keys(bits):
    """The bits of float32 logits `[V]` as keys in ascending order, that is, logits in descending order.

    A radix sort, least significant digit first. It is stable and ids ascend to begin with, so they need no digits.
    """
    keys, spare = np.empty(bits.size, np.int64), np.empty(bits.size, np.int64)
    _pack(bits, keys)
    places = np.zeros((DIGITS, LARGEST_DIGIT + 1), np.int32)
    for i in range(keys.size):
        rest = keys[i] >> ID_BITS
        for digit in range(DIGITS):
            places[digit, rest & LARGEST_DIGIT] += 1
            rest >>= DIGIT_BITS
    for digit in range(DIGITS):
        before = 0
        for value in range(LARGEST_DIGIT + 1):
            count = places[digit, value]
            places[digit, value] = before
            before += count
    for digit in range(DIGITS):
        place, shift = places[digit], ID_BITS + DIGIT_BITS * digit
        for i in range(keys.size):
            value = (keys[i] >> shift) & LARGEST_DIGIT
            spare[place[value]] = keys[i]
            place[value] += 1
        keys, spare = spare, keys
    return keys


@njit(**OPTIONS)
def _sort(row, bits, t, token_ids):
    keys = sorted_keys(bits)
    for i in range(keys.size):
        token_ids[i] = keys[i] & LARGEST_ID
        t[i] = row[token_ids[i]]


def sort_descending(logits: Tensor) -> tuple[Tensor, Tensor]:
    """See `sort_passes_portable.sort_descending`."""
    values = logits.contiguous().numpy()
    bits = values.view(np.int32)
    t, token_ids = np.empty_like(values), np.empty(values.shape, dtype=np.int64)
    for_each_row(lambda row: _sort(values[row], bits[row], t[row], token_ids[row]), len(values))
    return torch.from_numpy(t), torch.from_numpy(token_ids)
