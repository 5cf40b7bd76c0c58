"""The probability that a sampler, or a chain of heuristics, gives to recorded answers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adaptive_samplers.heuristics import Pipeline, apply_along_answers
from adaptive_samplers.off_policy.draws import RecordedDraws
from adaptive_samplers.samplers.base import AdaptiveSampler

# Steps are read in blocks of about this many, which bounds the memory of the intermediate results.
STEPS_AT_ONCE = 8192


def log_prob_of_draws(sampler: AdaptiveSampler | Pipeline | Sequence[Pipeline], draws: RecordedDraws) -> Tensor:
    """The log-probability of each recorded draw, had this sampler made it.

    With `f` the logits to sample from, it is `f(drawn) - log sum_k n_k exp f(t_k)` over the points of the sketch.
    Stateful heuristics are followed along each answer.

    Parameters
    ----------
    sampler
        A learned sampler; a pipeline, which may hold one; or a pipeline for each of the A answers.
    draws : RecordedDraws of N steps

    Returns
    -------
    Tensor [N] of float64
        Nats; minus infinity where the sampler cannot draw the token.

    Raises
    ------
    ValueError
        If there is not one pipeline for each answer.
    """
    if isinstance(sampler, AdaptiveSampler):
        pipelines = None
    else:
        alone = not sampler or not isinstance(sampler[0], Sequence)
        pipelines = [sampler] * len(draws) if alone else list(sampler)
        if len(pipelines) != len(draws):
            raise ValueError(
                f"{len(pipelines)} pipelines for {len(draws)} answers: expected one for each, or one for all"
            )
    found, first = [], 0
    while first < len(draws):
        last = int(torch.searchsorted(draws.starts, draws.starts[first] + STEPS_AT_ONCE, right=True)) - 1
        last = min(max(last, first + 1), len(draws))
        block = draws.answers(first, last)
        t, n, places = block.with_own_points()
        if pipelines is None:
            with torch.no_grad():
                logits = sampler(t.float(), n.float()).double()
        else:
            changed = apply_along_answers(t, n, block.starts.tolist(), pipelines[first:last], block.log_probs.double())
            logits, n = changed.t, changed.n
        found.append(_log_prob_at(logits, n, places))
        first = last
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def log_prob_of_answers(sampler: AdaptiveSampler | Pipeline | Sequence[Pipeline], draws: RecordedDraws) -> Tensor:
    """The log-probability of each recorded answer under a sampler, `[A]` float64 nats; see `log_prob_of_draws`."""
    steps = log_prob_of_draws(sampler, draws)
    answer = torch.repeat_interleave(torch.arange(len(draws)), draws.starts.diff())
    return torch.zeros(len(draws), dtype=torch.float64).index_add_(0, answer, steps)


def _log_prob_at(logits: Tensor, n: Tensor, places: Tensor) -> Tensor:
    """The log-probability of one token at a point of each row, minus infinity where none is left there."""
    left = n > 0
    normalizer = (logits.masked_fill(~left, -torch.inf) + n.where(left, 1).log()).logsumexp(-1)
    index = places[:, None]
    value = logits.gather(1, index).squeeze(1) - normalizer
    return value.masked_fill(~left.gather(1, index).squeeze(1), -torch.inf)
