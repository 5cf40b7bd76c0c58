"""Recorded draws: at each step of an answer, the sketch of the distribution and the token that was drawn from it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptive_samplers.heuristics import Support
from adaptive_samplers.logits import masked_log_softmax
from adaptive_samplers.sketch import DistributionSketch


@dataclass(frozen=True)
class RecordedDraws:
    """The draws of some answers, one answer after another, the choice to end among them.

    Attributes
    ----------
    sketch : DistributionSketch [N, S]
        The language model's distribution at each step.
    ranks : Tensor [N] of integers
        How many tokens come before the drawn one, most probable first, and equally probable ones in the order of their
        ids. Of tokens with equal log-probability a cut may keep some, which the log-probability alone cannot tell.
    log_probs : Tensor [N] of float32
        The drawn token's log-probability under the language model, nats.
    starts : Tensor [A + 1] of int64
        Answer i has the steps `starts[i]` to `starts[i + 1]`.
    """

    sketch: DistributionSketch
    ranks: Tensor
    log_probs: Tensor
    starts: Tensor

    def __post_init__(self) -> None:
        steps = len(self.sketch.t)
        if self.sketch.t.dim() != 2 or self.ranks.shape != (steps,) or self.log_probs.shape != (steps,):
            raise ValueError(
                f"a sketch of {tuple(self.sketch.t.shape)} points with {tuple(self.ranks.shape)} ranks and "
                f"{tuple(self.log_probs.shape)} log-probabilities: expected [N, S], [N] and [N]"
            )
        if int(self.starts[0]) or int(self.starts[-1]) != steps or (self.starts.diff() < 0).any():
            raise ValueError(f"answers must begin at step 0, end at step {steps} and follow one another")

    @classmethod
    def from_logits(
        cls, logits: Tensor, token_ids: Tensor, top: int, tail: int, starts: Sequence[int] | None = None
    ) -> "RecordedDraws":
        """Record the draws of `token_ids` [N] from `softmax(logits)`, `[N, V]`; all are one answer without `starts`.

        Raises
        ------
        ValueError
            A row holds NaN or plus infinity, or no token that is not masked; or what `DistributionSketch.from_logits`
            says of `top` and `tail`.
        """
        sketch = DistributionSketch.from_logits(logits, top, tail)
        ends = torch.tensor([0, len(logits)] if starts is None else list(starts))
        return cls(sketch, *ranks_and_log_probs(logits, token_ids), ends)

    @classmethod
    def room(cls, lengths: Sequence[int], points: int) -> "RecordedDraws":
        """Zeros for answers of so many steps each."""
        starts = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int64)
        steps = int(starts[-1])
        sketch = DistributionSketch(torch.zeros(steps, points), torch.zeros(steps, points))
        return cls(sketch, torch.zeros(steps, dtype=torch.int32), torch.zeros(steps), starts)

    def __len__(self) -> int:
        """How many answers there are."""
        return len(self.starts) - 1

    def span(self, answer: int) -> slice:
        """The steps of an answer."""
        return slice(int(self.starts[answer]), int(self.starts[answer + 1]))

    def steps(self, places: slice | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-probabilities and counts of the sketches, ranks and log-probabilities of the draws, of some steps."""
        return tuple(tensor[places] for tensor in (self.sketch.t, self.sketch.n, self.ranks, self.log_probs))

    def answers(self, first: int, last: int) -> "RecordedDraws":
        """Answers `first` up to but without `last`."""
        begin, end = int(self.starts[first]), int(self.starts[last])
        return self.taken(slice(begin, end), self.starts[first : last + 1] - begin)

    def select(self, answers: Tensor, most_steps: int | None = None) -> "RecordedDraws":
        """A copy of some answers, by index and in that order; of each, at most its first `most_steps` steps."""
        lengths = self.starts.diff()[answers]
        if most_steps is not None:
            lengths = lengths.clamp(max=most_steps)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        places = torch.arange(int(starts[-1])) + (self.starts[:-1][answers] - starts[:-1]).repeat_interleave(lengths)
        return self.taken(places, starts)

    def taken(self, places: slice | Tensor, starts: Tensor) -> "RecordedDraws":
        """Some of the steps, as answers that start at `starts`."""
        t, n, ranks, log_probs = self.steps(places)
        return RecordedDraws(DistributionSketch(t, n), ranks, log_probs, starts)

    @classmethod
    def joined(cls, parts: Sequence["RecordedDraws"]) -> "RecordedDraws":
        """The answers of several, one after another. Raises ValueError if there is none."""
        if not parts:
            raise ValueError("no recorded draws to join")
        t, n, ranks, log_probs = (
            torch.cat(tensors) for tensors in zip(*(part.steps(slice(None)) for part in parts), strict=True)
        )
        lengths = torch.cat([part.starts.diff() for part in parts])
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        return cls(DistributionSketch(t, n), ranks, log_probs, starts)

    def to_tensors(self) -> dict[str, Tensor]:
        """The tensors to store, by name."""
        return {
            "starts": self.starts,
            "ranks": self.ranks,
            "log_probs": self.log_probs,
            **self.sketch.to_tensors(),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "RecordedDraws":
        """The inverse of `to_tensors`."""
        sketch = DistributionSketch.from_tensors(tensors)
        return cls(sketch, *(tensors[name] for name in ("ranks", "log_probs", "starts")))

    def with_own_points(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sketches in which each drawn token has a point of its own.

        A group that holds the drawn token is parted in three: the tokens before it, the token, and those after it. The
        number of tokens and their probability stay the same. How the probability divides between the tokens before and
        after is not known; those before are taken as evenly spread over the logits from the token up to where the group
        above begins.

        Returns
        -------
        t, n : Tensor [N, S + 2] of float64
            Log-probabilities in nats, descending, and counts.
        places : Tensor [N] of int64
            The points of the drawn tokens.
        """
        t, n = self.sketch.t.double(), self.sketch.n.double()
        upto = n.cumsum(-1)
        ranks = self.ranks[:, None].to(upto)
        group = (upto <= ranks).sum(-1, keepdim=True).clamp(max=t.shape[-1] - 1)
        size, before = n.gather(1, group), ranks - (upto.gather(1, group) - n.gather(1, group))
        after = size - 1 - before
        mean = t.gather(1, group)

        # All weights are relative to the group's mean weight, so that they sum to its size. Those of the tokens before
        # and after lie between the token's and those of the neighboring groups.
        token = (self.log_probs.double()[:, None] - mean).exp()
        place = torch.arange(t.shape[-1], device=t.device)
        above = t.masked_fill((n <= 0) | (place >= group), torch.inf).amin(-1, keepdim=True).sub(mean).exp()
        below = t.masked_fill((n <= 0) | (place <= group), -torch.inf).amax(-1, keepdim=True).sub(mean).exp()
        reach = (Support.of(t, n).span[0].gather(1, group) - mean - token.log()).clamp(min=1e-9)
        rest = (size - token).clamp(min=0)
        upper = (token * reach.expm1() / reach).minimum(above)
        lower = ((rest - before * upper) / after.clamp(min=1)).minimum(token).maximum(below)
        # What the tokens after it cannot have, those before it have.
        upper = ((rest - after * lower) / before.clamp(min=1)).maximum(token).minimum(above)

        # Without a group to part, two points that stand for nothing come last.
        split = size > 1
        points = torch.arange(t.shape[-1] + 2, device=t.device)
        source = torch.where(split, points - (points - group).clamp(0, 2), points).clamp(max=t.shape[-1] - 1)
        spread_t, spread_n = t.gather(1, source), n.gather(1, source)
        spread_n = spread_n.masked_fill((points >= t.shape[-1]) & ~split, 0)
        tiny = torch.finfo(t.dtype).tiny
        parts = (
            (mean + upper.log(), before),
            (self.log_probs.double()[:, None], torch.ones_like(before)),
            (mean + lower.clamp(min=tiny).log(), after),
        )
        for offset, (value, count) in enumerate(parts):
            here = split & (points == group + offset)
            spread_t, spread_n = torch.where(here, value, spread_t), torch.where(here, count, spread_n)
        return spread_t, spread_n, (group + split.long()).squeeze(1)


def steps_of_answers(starts: Tensor) -> tuple[Tensor, Tensor]:
    """Of each step, whose it is and which of that answer's, from 0, given `starts` as in `RecordedDraws`: two `[N]`."""
    lengths = starts.diff()
    answer = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return answer, torch.arange(len(answer)) - starts[answer]


def likeliest(logits: Tensor, token_ids: Sequence[int]) -> Tensor:
    """The most probable of some tokens, by logits `[V]`: a tensor [1]."""
    ids = torch.tensor(token_ids, device=logits.device)
    return ids[logits[ids].argmax(keepdim=True)]


def ranks_and_log_probs(logits: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Of one token of each row: its rank, int32 as in `RecordedDraws`, and its log-probability in nats.

    Parameters
    ----------
    logits : Tensor [N, V]
    token_ids : Tensor [N]

    Raises
    ------
    ValueError
        A row holds NaN or plus infinity, or no token that is not masked.
    """
    log_probs, _ = masked_log_softmax(logits)
    column = token_ids[:, None]
    drawn = logits.gather(1, column)
    earlier = torch.arange(logits.shape[1], device=logits.device) < column
    ranks = ((logits > drawn) | ((logits == drawn) & earlier)).sum(-1, dtype=torch.int32)
    return ranks, log_probs.gather(1, column).squeeze(1)
