"""How tokens are grouped into a sketch in plain PyTorch, for any device; the compiled pass agrees with it."""

import torch
from torch import Tensor

from adaptive_samplers.logits import sorted_log_probs


def sketch_logits(logits: Tensor, top: int, tail: int) -> tuple[Tensor, Tensor]:
    """Support points and counts of logits `[B, V]`, as of `sketch_sorted`.

    Raises
    ------
    ValueError
        A row holds NaN or plus infinity, or no token that is not masked; it says which one.
    """
    return sketch_sorted(sorted_log_probs(logits), top, tail)


def sketch_sorted(s: Tensor, top: int, tail: int) -> tuple[Tensor, Tensor]:
    """Support points and counts of sorted log-probabilities.

    Parameters
    ----------
    s : Tensor [B, V], float32
        Nats, in descending order; masked tokens last, at minus infinity.
    top, tail : int
        As in `DistributionSketch.from_logits`.

    Returns
    -------
    Log-probabilities in nats and numbers of tokens, two tensors [B, top + tail] of float32.
    """
    n = s.isfinite().double()
    return merge(s, n, group_numbers(s, n, top, tail), top + tail)


def group_numbers(t: Tensor, n: Tensor, top: int, tail: int) -> Tensor:
    """The group of each point: its own index for the first `top`, then indices shared evenly among the rest.

    What is shared is half probability, half range of log-probabilities: where a distribution is flat, the groups must
    be narrow in probability, and where it is peaked, they must still resolve the range.
    """
    first = torch.arange(min(top, t.shape[-1]), device=t.device).expand(len(t), -1)
    if t.shape[-1] <= top:
        return first
    t, n = t[:, top:].double(), n[:, top:]
    lowest = t.masked_fill(n == 0, torch.inf).amin(-1, keepdim=True).minimum(t[:, :1])
    depth = t[:, :1] - t
    span = (t[:, :1] - lowest).clamp(min=torch.finfo(torch.float64).tiny)
    mass = n * (-depth).exp()
    before = mass.cumsum(-1) - mass
    share = before / mass.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    rest = ((share + depth / span) / 2 * tail).nan_to_num(posinf=tail).clamp(0, tail - 1).long()
    return torch.cat([first, top + rest], dim=-1)


def merge(t: Tensor, n: Tensor, number: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Merge points `[B, S]` with the same group number: count and probability are summed."""
    t = t.double().masked_fill(n == 0, -torch.inf)
    counts = torch.zeros(len(t), groups, dtype=torch.float64, device=t.device).scatter_add_(1, number, n)
    # Relative to the largest of a group, because the probabilities themselves may be too small even for float64.
    largest = torch.full_like(counts, -torch.inf).scatter_reduce_(1, number, t, "amax")
    weights = torch.where(n > 0, n * (t - largest.gather(1, number)).exp(), 0.0)
    means = torch.zeros_like(counts).scatter_add_(1, number, weights) / counts
    # An empty group repeats the point before it; the first is never empty.
    points = torch.where(counts > 0, largest + means.log(), torch.inf).cummin(-1).values
    return points.float(), counts.float()
