"""The passes over the vocabulary in plain PyTorch: for any device, and the definition that the others agree with."""

import torch
from torch import Tensor

from adaptive_samplers.samplers.passes.grid import Condensed, Grid
from adaptive_samplers.samplers.truncation import truncate
from adaptive_samplers.sketch import MASKED_BELOW, mask_and_check


def condense(logits: Tensor, intervals: int) -> Condensed:
    """Log-sum-exp, range and histogram of logits `[B, V]`, with so many intervals between knots.

    Raises:
        ValueError: a row holds NaN or plus infinity, or no token that is not masked.
    """
    kept, masked, log_normalizer = mask_and_check(logits.float())
    grid = Grid.between(intervals, kept.amax(-1), kept.masked_fill(masked, torch.inf).amin(-1))
    position = grid.position(kept)
    interval = position.long()
    tokens = torch.zeros(len(logits), intervals + 1, dtype=torch.float64, device=logits.device)
    moved = torch.zeros_like(tokens)
    # Fractions are summed in float64: in float32, a hundred thousand equal ones would all be rounded the same way.
    tokens.scatter_add_(1, interval, (~masked).double())
    moved.scatter_add_(1, interval, (position - interval).double().masked_fill(masked, 0.0))
    return Condensed.from_sums(grid, tokens, moved, log_normalizer.squeeze(-1).double())


def spread(logits: Tensor, grid: Grid, smooth: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """The output logits of all tokens, `[B, V]`: the smooth part is interpolated between knots, then truncated.

    Truncation can be as sharp as a step, so it is not interpolated but applied to every token.

    Args:
        logits: what was condensed, `[B, V]`.
        grid: where its knots are.
        smooth: the smooth part of the output at the knots, `[B, intervals + 1]`.
        scale: of the truncation, `[B, 1]`.
        threshold: of the truncation, `[B, 1]`.
    """
    logits = logits.float()
    position = grid.position(logits)
    interval = position.long().clamp(max=grid.intervals - 1)
    between = torch.lerp(smooth.gather(1, interval), smooth.gather(1, interval + 1), position - interval)
    return truncate(between, scale, threshold).masked_fill(logits <= MASKED_BELOW, -torch.inf)


def draw(logits: Tensor, grid: Grid, smooth: Tensor, scale: Tensor, threshold: Tensor, uniforms: Tensor) -> Tensor:
    """Token ids `[B]` by the inverse of the cumulative distribution along the ids, one uniform number `[B]` a row."""
    output = spread(logits, grid, smooth, scale, threshold)
    cumulative = (output - output.amax(-1, keepdim=True)).double().exp().cumsum(-1)
    total = cumulative[:, -1:]
    # Strictly below the total even after rounding, so that the token found has a probability above 0.
    target = (uniforms[:, None] * total).minimum(total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)
