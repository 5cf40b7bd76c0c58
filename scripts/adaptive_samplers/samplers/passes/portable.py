"""The passes over the vocabulary in plain PyTorch: for any device, and the definition that the others agree with."""

import math

import torch
from torch import Tensor

from adaptive_samplers.logits import BANNED_DEPTH, MASKED_BELOW, check_rows
from adaptive_samplers.samplers.passes.knots import Condensed, KnotGrid, is_sound
from adaptive_samplers.samplers.truncation import truncate


def condense(logits: Tensor, intervals: int, lowest: float = -math.inf) -> Condensed:
    """Log-sum-exp, range and histogram of logits `[B, V]`, with a number of intervals between knots.

    Parameters
    ----------
    logits : `[B, V]`, any floating type, read as float32.
    intervals : how many.
    lowest : the smallest log-probability that the sampler was trained on, nats.

    Raises
    ------
    ValueError
        A row holds NaN or plus infinity, or no token that is not masked.
    """
    logits = logits.float()
    masked = logits <= MASKED_BELOW
    kept = logits.masked_fill(masked, -torch.inf)
    largest = kept.amax(-1)
    check_rows(largest)
    grid = KnotGrid.between(intervals, largest, kept.masked_fill(masked, torch.inf).amin(-1), lowest)
    counted = kept > (largest - BANNED_DEPTH)[:, None]
    position = grid.position(kept)
    interval = position.long()
    tokens = torch.zeros(len(logits), intervals + 1, dtype=torch.float64, device=logits.device)
    moved = torch.zeros_like(tokens)
    # Fractions are summed in float64: in float32, a hundred thousand equal ones would all be rounded the same way.
    tokens.scatter_add_(1, interval, counted.double())
    moved.scatter_add_(1, interval, (position - interval).double().where(counted, 0.0))
    log_total = (kept - largest[:, None]).logsumexp(-1).double()
    return Condensed.from_sums(grid, tokens, moved, log_total, lowest)


def bounds(condensed: Condensed, smooth: Tensor, scale: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """How far below the largest logit a row follows the sampler, and what follows below, both `[B]`, nats.

    A token deeper than the first has the output `second - depth`: its raw logit, raised by as much as the sampler
    raises the one that it raises least. So below the range no token rises above its raw share, nor above any token in
    the range, and the order stays. Between knots a token is raised by no less than on one of the two, for truncation is
    concave. A row whose function has overflowed keeps its raw logits.
    """
    sound = is_sound(smooth, scale, threshold).squeeze(1)
    raised = truncate(smooth, scale, threshold) + condensed.grid.knots().float().minimum(condensed.floor[:, None])
    return condensed.floor.where(sound, -torch.inf), raised.amin(-1).where(sound, 0.0)


def spread(logits: Tensor, condensed: Condensed, smooth: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """The output logits of all tokens, `[B, V]`: the smooth part is interpolated between knots, then truncated.

    Truncation can be as sharp as a step, so it is not interpolated but applied to every token. Below the range that
    the sampler was trained on, `bounds` hold instead.

    Parameters
    ----------
    logits : what was condensed, `[B, V]`.
    condensed : what it was condensed to.
    smooth : the smooth part of the output at the knots, `[B, intervals + 1]`.
    scale : of the truncation, `[B, 1]`.
    threshold : of the truncation, `[B, 1]`.
    """
    logits, grid = logits.float(), condensed.grid
    position = grid.position(logits)
    interval = position.long().clamp(max=grid.intervals - 1)
    between = torch.lerp(smooth.gather(1, interval), smooth.gather(1, interval + 1), position - interval)
    depth, (floor, offset) = grid.depth(logits), bounds(condensed, smooth, scale, threshold)
    output = truncate(between, scale, threshold).where(depth <= floor[:, None], offset[:, None] - depth)
    return output.masked_fill(logits <= MASKED_BELOW, -torch.inf)


def draw(
    logits: Tensor, condensed: Condensed, smooth: Tensor, scale: Tensor, threshold: Tensor, uniforms: Tensor
) -> Tensor:
    """Token ids `[B]` by the inverse of the cumulative distribution along the ids, one uniform number `[B]` per row."""
    output = spread(logits, condensed, smooth, scale, threshold)
    cumulative = (output - output.amax(-1, keepdim=True)).double().exp().cumsum(-1)
    total = cumulative[:, -1:]
    # Strictly below the total even after rounding, so that the token found has a probability above 0.
    target = (uniforms[:, None] * total).minimum(total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)
