"""The knots on which a sampler is evaluated for one decoding step, and a distribution's sketch on them."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.sketch import DistributionSketch

# Intervals between neighboring knots: enough that a trained network's output is almost linear in between.
INTERVALS = 2048

# Where logits reach further below the largest than this, in nats, three quarters of the intervals cover the first
# `REACH` nats and the others all that lies below: a few stray logits must not cost the rest its resolution.
REACH = 40.0
NEAR_SHARE = 0.75

# Logits that differ by less than this, in nats, count as equal: the intervals per nat must stay finite.
NARROWEST = 1e-20

# A function on the knots that exceeds this cannot be sampled from: weights have overflowed, and float32 would not tell
# tokens apart. The row keeps its raw logits.
LARGEST_OUTPUT = 1e6


@dataclass(frozen=True)
class KnotGrid:
    """Where the knots of each row lie, as a map from `largest - logit` to a position between 0 and `intervals`.

    The position is `min(d, split) * near + max(d - split, 0) * far` with `d = largest - logit`, so it is linear
    between neighboring knots, which are the whole numbers.

    Attributes
    ----------
    intervals : number of intervals between neighboring knots.
    largest : the largest logit, `[B]` float32.
    split : how far below it the coarse part begins, in nats, `[B]` float32.
    near : intervals per nat above the split, `[B]` float32.
    far : intervals per nat below it, `[B]` float32.
    """

    intervals: int
    largest: Tensor
    split: Tensor
    near: Tensor
    far: Tensor

    @classmethod
    def between(cls, intervals: int, largest: Tensor, smallest: Tensor, lowest: float = -math.inf) -> "KnotGrid":
        """Knots from the largest to the smallest logit that is not masked, both `[B]`, and no deeper than `-lowest`.

        Tokens less probable than `lowest`, a log-probability in nats, are on the last knot or between the last ones.
        """
        depth = (largest - smallest).double().clamp(max=-lowest)
        wide = depth > REACH
        # If all logits are equal, every token is on the first knot.
        evenly = torch.where(depth > NARROWEST, intervals / depth, 0.0)
        split = torch.where(wide, REACH, depth)
        near = torch.where(wide, NEAR_SHARE * intervals / REACH, evenly)
        far = torch.where(wide, (1 - NEAR_SHARE) * intervals / (depth - REACH), 0.0)
        return cls(intervals, largest, split.float(), near.float(), far.float())

    def position(self, logits: Tensor) -> Tensor:
        """Positions of logits `[B, V]` among the knots, `[B, V]` in `[0, intervals]`."""
        depth, split = self.depth(logits), self.split[:, None]
        position = depth.minimum(split) * self.near[:, None] + (depth - split).clamp(min=0) * self.far[:, None]
        # Not `clamp`, which keeps NaN: that would not be a position among the knots.
        return torch.where(position < self.intervals, position, self.intervals).clamp(min=0)

    def depth(self, logits: Tensor) -> Tensor:
        """How far logits `[B, V]` are below the largest, nats; finite even where a token is masked."""
        # Infinity times 0 would be NaN.
        return (self.largest[:, None] - logits).clamp(max=torch.finfo(torch.float32).max)

    def knots(self) -> Tensor:
        """The knots' distances below the largest logit, nats, `[B, intervals + 1]` float64."""
        places = torch.arange(self.intervals + 1, dtype=torch.float64, device=self.largest.device)
        split, near, far = (value.double()[:, None] for value in (self.split, self.near, self.far))
        turn = split * near
        above = torch.where(near > 0, places.minimum(turn) / near, 0.0)
        below = torch.where(far > 0, (places - turn).clamp(min=0) / far, 0.0)
        return above + below


@dataclass(frozen=True)
class Condensed:
    """Logits `[B, V]` condensed to a sketch on the knots of a grid.

    Attributes
    ----------
    grid : where the knots are.
    floor : how far below the largest logit the range ends that a sampler was trained on, nats, `[B]` float32. It is
        negative where not even the most probable token lies in it.
    sketch : log-probabilities and counts of the knots, `[B, intervals + 1]`; those below the range have the lowest
        log-probability in it. A token shares its unit count between its two neighboring knots in proportion to
        closeness, so that sums of a function g over the tokens are met up to `max|g''| * spacing**2 / 8` a token.
        Banned tokens are left out.
    """

    grid: KnotGrid
    floor: Tensor
    sketch: DistributionSketch

    @classmethod
    def from_sums(
        cls, grid: KnotGrid, tokens: Tensor, moved: Tensor, log_total: Tensor, lowest: float = -math.inf
    ) -> "Condensed":
        """Combine the sums of a pass over the vocabulary.

        Parameters
        ----------
        grid : where the knots are.
        tokens : tokens in each interval, `[B, intervals + 1]` float64; the last column has those on the last knot.
        moved : sum of how far they lie from the knot above them, in intervals, of the same shape.
        log_total : log-sum-exp of the logits minus the largest of them, `[B]` float64.
        lowest : the smallest log-probability that the sampler was trained on, nats.
        """
        counts = tokens - moved + moved.roll(1, dims=1)
        t = (-log_total[:, None] - grid.knots()).clamp(min=lowest)
        return cls(grid, (-log_total - lowest).float(), DistributionSketch(t.float(), counts.float()))


def is_sound(smooth: Tensor, scale: Tensor, threshold: Tensor) -> Tensor:
    """Whether a row's smooth part `[B, S]` and truncation (`[B, 1]` each) are something to sample from, `[B, 1]`."""
    return (torch.cat([smooth, scale, threshold], dim=1).abs() <= LARGEST_OUTPUT).all(-1, keepdim=True)


def on_every(stride: int, sketch: DistributionSketch) -> DistributionSketch:
    """The sketch of a grid on every `stride`-th of its knots, `[B, intervals / stride + 1]`.

    What a count stands for does not change: sums over it approximate sums over the tokens. They are exact for cubics,
    as far as the tokens of an interval are spread evenly. Some counts may be slightly negative.
    """
    place, weight = _interpolation(sketch.n.shape[1] - 1, stride, sketch.n.device)[1]
    return DistributionSketch(sketch.t[:, ::stride], (sketch.n[:, place] * weight).sum(-1))


def between(stride: int, values: Tensor) -> Tensor:
    """Values on every `stride`-th knot interpolated to all knots, such that lines between these follow the cubics."""
    place, weight = _interpolation((values.shape[1] - 1) * stride, stride, values.device)[0]
    return (values.float()[:, place] * weight).sum(-1)


@cache
@torch.inference_mode(False)  # cached tensors must be usable in training too
def _interpolation(intervals: int, stride: int, device: torch.device) -> tuple[tuple[Tensor, Tensor], ...]:
    """From every `stride`-th knot to all, and its transpose."""
    knots, turn = np.arange(intervals + 1.0), round(NEAR_SHARE * intervals)
    matrix = torch.from_numpy(cubic_lines(lagrange(knots[::stride], turn // stride, knots), turn))
    return _sparse_rows(matrix, device), _sparse_rows(matrix.T, device)


def _sparse_rows(matrix: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The columns and values of the nonzero elements in each row of a matrix, padded with zeros.

    The dense matrix would have to be read from memory at every token: it does not fit into a processor's caches next to
    the language model's data.
    """
    order = (matrix == 0).to(torch.uint8).argsort(dim=1, stable=True)[:, : int((matrix != 0).sum(1).max())]
    return order.to(device), matrix.gather(1, order).float().to(device)


def lagrange(nodes: np.ndarray, turn: int, places: np.ndarray) -> np.ndarray:
    """The matrix `[places, nodes]` of cubic Lagrange interpolation from nodes to places, both ascending, in float64.

    At the node `turn` the knots' spacing may change: no four nodes are taken from both sides of it.
    """
    matrix = np.zeros((len(places), len(nodes)))
    for row, place in enumerate(places):
        low, high = (0, turn) if place <= nodes[turn] else (turn, len(nodes) - 1)
        below = int(np.searchsorted(nodes, place, side="right")) - 1
        first = min(max(below - 1, low), high - 3)
        for node in range(first, first + 4):
            others = np.delete(nodes[first : first + 4], node - first)
            matrix[row, node] = np.prod((place - others) / (nodes[node] - others))
    return matrix


def cubic_lines(cubic: np.ndarray, turn: int) -> np.ndarray:
    """Interpolation to all knots, such that lines between these follow the cubics, from that of the cubics themselves.

    On the mean over an interval, a line is above a convex function by a twelfth of the second difference. That is
    subtracted, but for the ends and the knot `turn`, where the spacing may change.
    """
    excess = np.zeros_like(cubic)
    excess[1:-1] = (cubic[2:] - 2 * cubic[1:-1] + cubic[:-2]) / 12
    excess[turn] = 0
    return cubic - excess
