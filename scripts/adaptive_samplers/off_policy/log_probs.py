"""The probability that a sampler, or a chain of heuristics, gives to recorded answers."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adaptive_samplers.heuristics import Pipeline, Processor, Support, apply_along_answers, apply_to_all, is_stateful
from adaptive_samplers.heuristics.apply import has_learned_step
from adaptive_samplers.off_policy.draws import RecordedDraws, steps_of_answers
from adaptive_samplers.samplers.base import AdaptiveSampler

# Steps are read in blocks of about this many, which bounds the memory of the intermediate results.
STEPS_AT_ONCE = 8192
# Of these, as many are computed together.
ROWS_AT_ONCE = 1024

Sampler = AdaptiveSampler | Pipeline
OwnPoints = tuple[Tensor, Tensor, Tensor]  # of `RecordedDraws.with_own_points`


class Prepared(NamedTuple):
    """Steps with a point for each draw: log-probabilities [N, S], what heuristics see of them, and the points [N]."""

    t: Tensor
    support: Support
    places: Tensor


def log_prob_of_draws(sampler: Sampler | Sequence[Pipeline], draws: RecordedDraws) -> Tensor:
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
    alone = isinstance(sampler, AdaptiveSampler) or not sampler or not isinstance(sampler[0], Sequence)
    if not alone and len(sampler) != len(draws):
        raise ValueError(f"{len(sampler)} pipelines for {len(draws)} answers: expected one for each, or one for all")
    found = []
    for first, last in _blocks(draws):
        block = draws.answers(first, last)
        own = block.with_own_points()
        found.append(_log_prob(sampler, block, own) if alone else _log_prob_along(sampler[first:last], block, own))
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def log_prob_of_answers(sampler: Sampler | Sequence[Pipeline], draws: RecordedDraws) -> Tensor:
    """The log-probability of each recorded answer under a sampler, `[A]` float64 nats; see `log_prob_of_draws`."""
    return _sums_of_answers(log_prob_of_draws(sampler, draws), draws.starts, [None])[:, 0]


def log_probs_of_beginnings(
    samplers: Sequence[Sampler],
    draws: RecordedDraws,
    horizons: Sequence[int | None],
    same: Tensor | None = None,
    counted: Tensor | None = None,
) -> Tensor:
    """The log-probability of the beginnings of recorded answers under many samplers.

    Parameters
    ----------
    samplers : sequence of T
    draws : RecordedDraws of A answers, N steps
    horizons : sequence of L
        How many of the first steps of an answer count; None: all.
    same : Tensor [N], or None
        For each step, the first one with the same distribution and draw, as `equal_steps` finds them: those are
        computed once, except for stateful heuristics.
    counted : Tensor [N] of bool, or None
        Which steps count; None: all.

    Returns
    -------
    Tensor [T, A, L] of float64
        Nats.
    """
    found = torch.empty(len(samplers), len(draws), len(horizons), dtype=torch.float64)
    wanted = torch.ones(int(draws.starts[-1]), dtype=torch.bool) if counted is None else counted.clone()
    if None not in horizons:
        wanted &= steps_of_answers(draws.starts)[1] < max(horizons)
    for first, last in _blocks(draws):
        block = draws.answers(first, last)
        own = block.with_own_points()
        begin, end = int(draws.starts[first]), int(draws.starts[last])
        itself = torch.arange(begin, end)
        # What is equal to a step of an earlier block is computed again.
        earlier = itself if same is None else torch.where(same[begin:end] < begin, itself, same[begin:end])
        # Nor is what counts for no horizon computed.
        asked = wanted[begin:end]
        distinct, places = torch.unique((earlier - begin)[asked], return_inverse=True)
        once = _prepared(*(part[distinct] for part in own))
        for number, sampler, prepared in _begun_together(samplers, once):
            if _has_state(sampler):
                steps = _log_prob(sampler, block, own).where(asked, 0)
            else:
                steps = torch.zeros(end - begin, dtype=torch.float64)
                steps[asked] = _log_prob_alike(sampler, prepared)[places]
            found[number, first:last] = _sums_of_answers(steps, block.starts, horizons)
    return found


def equal_steps(prompts: Sequence[int], starts: Tensor, token_ids: Tensor) -> Tensor:
    """For each step of answers, the first step with the same prompt and the same tokens up to and with its own, `[N]`.

    Parameters
    ----------
    prompts : sequence of A
        The number of the prompt of each answer.
    starts : Tensor [A + 1]
        Answer i has the steps `starts[i]` to `starts[i + 1]`.
    token_ids : Tensor [N]
        The token at each step; any other number where the answer ended.
    """
    first: dict[tuple[int, int], int] = {}
    same, tokens = [], token_ids.tolist()
    for prompt, begin, end in zip(prompts, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        # A step is known by the one before it, so that a key is two numbers however long the answer is.
        before = -1 - prompt
        for step in range(begin, end):
            before = first.setdefault((before, tokens[step]), step)
            same.append(before)
    return torch.tensor(same, dtype=torch.int64)


def _blocks(draws: RecordedDraws) -> Iterator[tuple[int, int]]:
    """Answers in blocks of about `STEPS_AT_ONCE` steps: the first, and the one after the last."""
    first = 0
    while first < len(draws):
        last = int(torch.searchsorted(draws.starts, draws.starts[first] + STEPS_AT_ONCE, right=True)) - 1
        last = min(max(last, first + 1), len(draws))
        yield first, last
        first = last


def _log_prob(sampler: Sampler, draws: RecordedDraws, own: OwnPoints) -> Tensor:
    """The log-probability of each draw under one sampler."""
    if _has_state(sampler):
        return _log_prob_along([sampler] * len(draws), draws, own)
    return _log_prob_alike(sampler, _prepared(*own))


def _has_state(sampler: Sampler) -> bool:
    """Whether what a sampler does at a step depends on those before it."""
    return not isinstance(sampler, AdaptiveSampler) and is_stateful(sampler)


def _log_prob_along(pipelines: Sequence[Pipeline], draws: RecordedDraws, own: OwnPoints) -> Tensor:
    """The log-probability of each draw, where each answer has a pipeline, which may have a state."""
    t, n, places = own
    changed = apply_along_answers(t, n, draws.starts.tolist(), pipelines, draws.log_probs.double())
    return _log_prob_at(changed.t, changed.n, places)


def _prepared(t: Tensor, n: Tensor, places: Tensor) -> list[Prepared]:
    """Steps for many samplers, in parts that fit into a core's cache."""
    parts = zip(*(tensor.split(ROWS_AT_ONCE) for tensor in (t, n, places)), strict=True)
    return [Prepared(t, Support.of(t, n), places) for t, n, places in parts]


def _begun_together(
    samplers: Sequence[Sampler], prepared: list[Prepared]
) -> Iterator[tuple[int, Sampler, list[Prepared]]]:
    """Each sampler by its number, what it still has to do, and the steps that it does it to.

    Pipelines that begin with the same heuristic, such as all of a grid at one temperature, share what it makes of them.
    """
    groups: dict[Processor | None, list[int]] = {}
    for number, sampler in enumerate(samplers):
        alone = isinstance(sampler, AdaptiveSampler) or not sampler or has_learned_step(sampler) or is_stateful(sampler)
        groups.setdefault(None if alone else sampler[0], []).append(number)
    for first, numbers in groups.items():
        begun = prepared
        if first is not None:
            begun = [part._replace(support=apply_to_all((first,), part.support)) for part in prepared]
        for number in numbers:
            yield number, samplers[number] if first is None else samplers[number][1:], begun


def _log_prob_alike(sampler: Sampler, prepared: list[Prepared]) -> Tensor:
    """The log-probability of draws, of steps that need not belong together."""
    found = []
    for t, support, places in prepared:
        if isinstance(sampler, AdaptiveSampler):
            with torch.no_grad():
                logits = sampler(t.float(), support.n.float()).double()
            found.append(_log_prob_at(logits, support.n, places))
        else:
            found.append(apply_to_all(sampler, support).log_probs.gather(1, places[:, None]).squeeze(1))
    return torch.cat(found)


def _sums_of_answers(steps: Tensor, starts: Tensor, horizons: Sequence[int | None]) -> Tensor:
    """The sum over the first steps of each answer, `[A, L]`; minus infinity where one of them is."""
    answer, position = steps_of_answers(starts)
    sums = []
    for horizon in horizons:
        counted = steps if horizon is None else steps.where(position < horizon, 0)
        sums.append(torch.zeros(len(starts) - 1, dtype=torch.float64).index_add_(0, answer, counted))
    return torch.stack(sums, dim=1)


def _log_prob_at(logits: Tensor, n: Tensor, places: Tensor) -> Tensor:
    """The log-probability of one token at a point of each row, minus infinity where none is left there."""
    left = n > 0
    normalizer = (logits.masked_fill(~left, -torch.inf) + n.where(left, 1).log()).logsumexp(-1)
    index = places[:, None]
    value = logits.gather(1, index).squeeze(1) - normalizer
    return value.masked_fill(~left.gather(1, index).squeeze(1), -torch.inf)
