"""Passes over the vocabulary for windows of the most probable tokens, compiled for the CPU by numba.

They agree with `window_passes_portable` up to the rounding of float64. Tokens are read where they lie; of the
vocabulary's size, only `drawing_masses` stores anything.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.compiled import EXACT, OPTIONS, for_each_row
from adaptive_samplers.compiled_math import LOWEST_EXPONENT, exp, key_of
from adaptive_samplers.numba_cache import njit

# A window is searched among the largest of so many groups for each of its tokens: of more groups, fewer tokens are
# candidates, but the groups themselves must be searched.
GROUPS_PER_TOKEN = 4

# Tokens that stay in the first-level cache.
BLOCK = 1024

MINUS_INFINITY = np.float32(-np.inf)
# Keys of plus and minus infinity, see `key_of`.
HIGHEST_KEY, LOWEST_KEY = np.int32(0x7F800000), np.int32(-0x7F800001)
NO_KEY = np.int32(2**31 - 1)
# What is so far below the largest logit adds nothing to a sum of float64 numbers, and smaller exponentials are slow.
NEGLIGIBLE = np.float32(-87)


@njit(**OPTIONS)
def _largest_of_groups(bits, largest):
    """The largest key of each group: every `largest.size`-th token, from one of the first on."""
    groups = largest.size
    for group in range(groups):
        largest[group] = key_of(bits[group])
    for start in range(groups, bits.size, groups):
        part = bits[start : start + groups]
        for group in range(part.size):
            largest[group] = max(largest[group], key_of(part[group]))


@njit(**OPTIONS)
def _candidates(bits, largest, bound, packed):
    """Pack keys from a bound on with their ids, so that integers ascend where logits descend; how many there are."""
    groups, found = largest.size, 0
    for group in range(groups):
        if largest[group] >= bound:
            for token in range(group, bits.size, groups):
                key = key_of(bits[token])
                if key >= bound:
                    packed[found] = (np.int64(~key) << 32) | token
                    found += 1
    return found


@njit(**OPTIONS)
def _sums(row, edge, largest, share):
    mass, first, second = 0.0, 0.0, 0.0
    for i in range(row.size):
        depth = max((np.float64(row[i]) - largest) * share, LOWEST_EXPONENT)
        weight = exp(depth)
        weight = weight if row[i] <= edge else 0.0
        mass += weight
        first += weight * depth
        second += weight * weight
    return mass, first, second


@njit(**OPTIONS)
def _range(bits, edge):
    """How many keys of finite logits are at most `edge`, and the smallest of them."""
    count, smallest = np.int32(0), NO_KEY
    for i in range(bits.size):
        key = key_of(bits[i])
        inside = (key <= edge) & (key > LOWEST_KEY) & (key < HIGHEST_KEY)
        count += np.int32(1) if inside else np.int32(0)
        smallest = min(smallest, key if inside else NO_KEY)
    return count, np.int32(smallest ^ ((smallest >> 31) & np.int32(0x7FFFFFFF)))


@njit(**OPTIONS)
def _total(row, edge):
    total = 0.0
    for i in range(row.size):
        total += np.float64(row[i]) if (row[i] <= edge) & (row[i] > MINUS_INFINITY) else 0.0
    return total


@njit(**OPTIONS)
def _squares(row, edge, mean):
    total = 0.0
    for i in range(row.size):
        distance = np.float64(row[i]) - mean
        total += distance * distance if (row[i] <= edge) & (row[i] > MINUS_INFINITY) else 0.0
    return total


@njit(**EXACT)
def _divide(row, edge, temperatures, output):
    """Logits up to an edge divided by temperatures in turn, then rounded to float32; minus infinity above it."""
    values = np.empty(BLOCK)
    for start in range(0, row.size, BLOCK):
        block, divided = row[start : start + BLOCK], output[start : start + BLOCK]
        for i in range(block.size):
            values[i] = block[i] if block[i] <= edge else MINUS_INFINITY
        for temperature in temperatures:
            for i in range(block.size):
                values[i] = values[i] / temperature
        for i in range(block.size):
            divided[i] = np.float32(values[i])


@njit(**OPTIONS)
def _depths(values, largest):
    """What logits are below the largest, in place."""
    for i in range(values.size):
        values[i] = max(values[i] - largest, NEGLIGIBLE)


def largest(logits: Tensor, rows: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """See `window_passes_portable.largest`."""
    values, places = logits.contiguous().numpy(), rows.tolist()
    vocabulary = values.shape[1]
    groups = min(GROUPS_PER_TOKEN * (size + 1), vocabulary)
    t = np.full((len(places), size), -np.inf, dtype=np.float32)
    token_ids, edges = np.zeros((len(places), size), dtype=np.int64), np.empty(len(places), dtype=np.float32)

    def fill(number: int) -> None:
        row, keys = values[places[number]], np.empty(groups, np.int32)
        bits = row.view(np.int32)
        _largest_of_groups(bits, keys)
        # At least size + 1 tokens reach the largest of size + 1 groups.
        bound = np.partition(keys, groups - size - 1)[groups - size - 1]
        packed = np.empty(vocabulary, np.int64)
        packed = packed[: _candidates(bits, keys, bound, packed)]
        packed.sort()
        first = packed[: size + 1] & 0xFFFFFFFF
        ordered = row[first]
        edges[number] = ordered[size]
        inside = int(np.count_nonzero(ordered > ordered[size]))
        t[number, :inside], token_ids[number, :inside] = ordered[:inside], first[:inside]

    for_each_row(fill, len(places))
    return torch.from_numpy(t), torch.from_numpy(token_ids), torch.from_numpy(edges)


def sums(logits: Tensor, rows: Tensor, edges: Tensor, largest: Tensor, temperatures: Tensor) -> Tensor:
    """See `window_passes_portable.sums`."""
    highest, shares = largest.tolist(), (1 / temperatures).tolist()
    return _of_rows(lambda row, edge, i: _sums(row, edge, highest[i], shares[i]), logits, rows, edges, 3)


def moments(logits: Tensor, rows: Tensor, edges: Tensor) -> Tensor:
    """See `window_passes_portable.moments`."""

    def of_row(row: np.ndarray, edge: np.float32, _: int) -> tuple[float, float, float, float]:
        count, smallest = _range(row.view(np.int32), key_of(edge.view(np.int32)))
        mean = _total(row, edge) / max(count, 1)
        return count, np.int32(smallest).view(np.float32), mean, _squares(row, edge, mean)

    return _of_rows(of_row, logits, rows, edges, 4)


def drawing_masses(logits: Tensor, rows: Tensor, edges: Tensor, largest: Tensor, temperatures: Tensor) -> Tensor:
    """See `window_passes_portable.drawing_masses`."""
    highest, divisors = largest.numpy(), temperatures.numpy()

    def of_row(row: np.ndarray, edge: np.float32, i: int) -> tuple[float]:
        depths = np.empty_like(row)
        _divide(row, edge, divisors[i], depths)
        _depths(depths, highest[i])
        # PyTorch's exponentials, so that a draw from a window is the draw from all tokens.
        return (float(torch.from_numpy(depths).exp_().sum(dtype=torch.float64)),)

    return _of_rows(of_row, logits, rows, edges, 1).squeeze(1)


def divide(logits: Tensor, rows: Tensor, edges: Tensor, temperatures: Tensor, output: Tensor, places: Tensor) -> None:
    """See `window_passes_portable.divide`."""
    values, borders, divisors, written = (
        logits.contiguous().numpy(),
        edges.numpy(),
        temperatures.numpy(),
        output.numpy(),
    )
    sources, targets = rows.tolist(), places.tolist()
    for_each_row(lambda i: _divide(values[sources[i]], borders[i], divisors[i], written[targets[i]]), len(sources))


def _of_rows(
    work: Callable[[np.ndarray, np.float32, int], Sequence[float]],
    logits: Tensor,
    rows: Tensor,
    edges: Tensor,
    results: int,
) -> Tensor:
    """What a function says of every row with something below the edge, `[R, results]` float64; of others 0."""
    values, borders, places = logits.contiguous().numpy(), edges.numpy(), rows.tolist()
    output = np.zeros((len(places), results))

    def fill(i: int) -> None:
        if borders[i] > MINUS_INFINITY:
            output[i] = work(values[places[i]], borders[i], i)

    for_each_row(fill, len(places))
    return torch.from_numpy(output)
