"""The passes over the vocabulary for windows in plain PyTorch, for any device; the compiled ones agree with them."""

from collections.abc import Callable

import torch
from torch import Tensor

# Rows are read in blocks of about this many logits, which bounds the memory of the float64 copies.
BLOCK_ELEMENTS = 2**24


def largest(logits: Tensor, rows: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens above the edge of a window: the largest logit that has fewer than `size` others above it.

    Tokens that tie with the edge are all outside of the window, which may so hold fewer than `size`.

    Parameters
    ----------
    logits : Tensor [L, V], float32
    rows : Tensor [U]
        Which of them.
    size : int
        Below V.

    Returns
    -------
    logits in descending order [U, size], equal ones in the order of their ids, and minus infinity after the last; their
    token ids [U, size], 0 after the last; and the edges [U].
    """
    values, token_ids = logits[rows].topk(size + 1)
    token_ids, by_id = token_ids.sort(-1)
    values, order = values.gather(-1, by_id).sort(dim=-1, descending=True, stable=True)
    token_ids, edges = token_ids.gather(-1, order)[:, :size], values[:, size]
    values = values[:, :size]
    inside = values > edges[:, None]
    return values.masked_fill(~inside, -torch.inf), token_ids.masked_fill(~inside, 0), edges


def sums(logits: Tensor, rows: Tensor, edges: Tensor, largest: Tensor, temperatures: Tensor) -> Tensor:
    """Of the tokens at or below an edge: the sums of `w`, `w d` and `w^2`, with `w = exp(d)`.

    Parameters
    ----------
    logits : Tensor [L, V], float32
    rows : Tensor [R]
        Which of them.
    edges : Tensor [R], float32
        Minus infinity where nothing is wanted.
    largest, temperatures : Tensor [R], float64
        `d` is what a logit is below the largest, divided by the temperature.

    Returns
    -------
    Tensor [R, 3], float64
    """

    def of(values: Tensor, inside: Tensor, largest: Tensor, temperatures: Tensor) -> Tensor:
        depth = ((values - largest) / temperatures).where(inside, -torch.inf)
        weight = depth.exp()
        return torch.stack([weight.sum(-1), (weight * depth).where(weight > 0, 0.0).sum(-1), (weight**2).sum(-1)], -1)

    return _in_blocks(of, logits, rows, edges, largest[:, None], temperatures[:, None])


def moments(logits: Tensor, rows: Tensor, edges: Tensor) -> Tensor:
    """Of the finite logits at or below an edge: how many, the smallest, the mean, and the sum of squares about it.

    Parameters are those of `sums`; the result is `[R, 4]` float64, 0 where nothing is at or below the edge.
    """

    def of(values: Tensor, inside: Tensor) -> Tensor:
        count = inside.sum(-1)
        smallest = values.masked_fill(~inside, torch.inf).amin(-1)
        mean = values.where(inside, 0.0).sum(-1) / count.clamp(min=1)
        squares = ((values - mean[:, None]) ** 2).where(inside, 0.0).sum(-1)
        return torch.stack([count, smallest.where(count > 0, 0.0), mean, squares], -1)

    return _in_blocks(of, logits, rows, edges)


def drawing_masses(logits: Tensor, rows: Tensor, edges: Tensor, largest: Tensor, temperatures: Tensor) -> Tensor:
    """Of the tokens at or below an edge, the sum of what `apply.draw` weighs them by, `[R]` float64, to 1e-30.

    Parameters
    ----------
    logits, rows, edges
        As of `sums`.
    largest : Tensor [R], float32
        The largest logit after all divisions.
    temperatures : Tensor [R, D], float64
        What the logits are divided by in turn.
    """

    def of(values: Tensor, inside: Tensor, largest: Tensor, temperatures: Tensor) -> Tensor:
        for temperature in temperatures.unbind(-1):
            values = values / temperature[:, None]
        depth = (values.float() - largest).where(inside, -torch.inf)
        return depth.exp().sum(-1, keepdim=True, dtype=torch.float64)

    return _in_blocks(of, logits, rows, edges, largest[:, None], temperatures).squeeze(1)


def divide(logits: Tensor, rows: Tensor, edges: Tensor, temperatures: Tensor, output: Tensor, places: Tensor) -> None:
    """Write logits up to an edge, divided by temperatures in turn, into rows of an output; minus infinity above it.

    Parameters
    ----------
    logits, rows, edges, temperatures
        As of `drawing_masses`.
    output : Tensor [O, V], float32
    places : Tensor [R]
        Which of its rows.
    """

    def of(values: Tensor, inside: Tensor, temperatures: Tensor, places: Tensor) -> Tensor:
        for temperature in temperatures.unbind(-1):
            values = values / temperature[:, None]
        output[places] = values.where(inside, -torch.inf).float()
        return places

    _in_blocks(of, logits, rows, edges, temperatures, places)


def _in_blocks(work: Callable[..., Tensor], logits: Tensor, rows: Tensor, edges: Tensor, *arguments: Tensor) -> Tensor:
    """`work` of the float64 logits of each row, which of them are finite and at or below its edge, and arguments."""
    block = max(1, BLOCK_ELEMENTS // logits.shape[1])
    parts = []
    for start in range(0, len(rows), block):
        chosen = slice(start, start + block)
        values = logits[rows[chosen]]
        inside = (values <= edges[chosen, None]) & values.isfinite()
        parts.append(work(values.double(), inside, *(argument[chosen] for argument in arguments)))
    return torch.cat(parts)
