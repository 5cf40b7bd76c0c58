"""Pipelines at work: on supports and logits, from token to token, and the draw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from adaptive_samplers.heuristics.pipelines import Pipeline, Processor
from adaptive_samplers.heuristics.registry import HEURISTICS, LEARNED
from adaptive_samplers.heuristics.support import Support
from adaptive_samplers.heuristics.windowed_support import WindowedSupport, WindowTooSmall
from adaptive_samplers.heuristics.windows import Rest, Windows, window_sizes
from adaptive_samplers.logits import check_rows
from adaptive_samplers.sorting import sort_logits

# The state of each step of an answer's pipeline, in the order of steps; most are stateless.
State = tuple[tuple[float, ...], ...]

# What a pipeline without a temperature begins with.
UNHEATED = Processor("temperature", (1.0,))

# Token-steps of recorded answers are computed in blocks of this size.
ROWS_AT_ONCE = 4096


@cache
def initial_state(pipeline: Pipeline) -> State:
    """A pipeline's state before the first token."""
    return tuple(
        () if step.name == LEARNED else tuple(start(*step.values) for start in HEURISTICS[step.name].start.values())
        for step in pipeline
    )


def is_stateful(pipeline: Pipeline) -> bool:
    """Whether what a pipeline does at a token depends on earlier tokens."""
    return any(initial_state(pipeline))


def has_learned_step(pipeline: Pipeline) -> bool:
    """Whether a pipeline has a learned sampler, which reads all tokens."""
    return any(step.name == LEARNED for step in pipeline)


def next_states(pipelines: Sequence[Pipeline], states: Sequence[State], log_probs: Tensor) -> list[State]:
    """The states of pipelines after a draw.

    Parameters
    ----------
    pipelines, states : sequences of R
    log_probs : Tensor [R]
        The log-probability of each drawn token under the distribution that it was drawn from, in nats.
    """
    changed = [list(state) for state in states]
    for step, name, rows in _alike(pipelines):
        if name != LEARNED and HEURISTICS[name].start:
            heuristic = HEURISTICS[name]
            parameters = _columns([pipelines[row][step].values for row in rows], log_probs)
            state = _columns([states[row][step] for row in rows], log_probs)
            named = dict(zip(heuristic.start, state, strict=True))
            updated = heuristic.update(log_probs[rows, None], *parameters, **named)
            values = torch.cat([updated[key] for key in heuristic.start], dim=-1).tolist()
            for row, value in zip(rows, values, strict=True):
                changed[row][step] = tuple(value)
    return [tuple(state) for state in changed]


def apply_on_support(
    t: Tensor, n: Tensor | None, pipelines: Sequence[Pipeline], states: Sequence[State] | None = None
) -> Support:
    """Apply one pipeline per row to sorted supports.

    Rows with the same heuristic at the same step are computed together, whatever their parameters. Everything is
    computed in float64, so that what is kept does not depend on rounding.

    Parameters
    ----------
    t : Tensor [R, S]
        Logits, descending.
    n : Tensor [R, S], or None
        Counts; None means a full vocabulary, one token per point.
    pipelines : sequence of R pipelines
    states : sequence of R, or None
        The pipelines' states; None means the first token of an answer.

    Returns
    -------
    Support
        `t` are the new logits on the same points, -inf where nothing is left, and `n` how many tokens are left.
    """
    support = Support.of(t, n).to(torch.float64)
    states = [initial_state(pipeline) for pipeline in pipelines] if states is None else states
    for step, name, rows in _alike(pipelines):
        # Indexing copies: if all rows take part, the support itself is used.
        everything = len(rows) == len(t)
        part = support if everything else support.rows(rows)
        if name == LEARNED:
            changed = _apply_learned(pipelines[rows[0]][step], part)
        else:
            parameters = _columns([pipelines[row][step].values for row in rows], support.t)
            state = _columns([states[row][step] for row in rows], support.t)
            after_learned = any(before.name == LEARNED for row in rows for before in pipelines[row][:step])
            changed = _apply_heuristic(name, part, parameters, state, after_learned)
        support = changed if everything else _with_rows(support, rows, changed)
    return support.to(t.dtype)


def apply_to_all(pipeline: Pipeline, support: Support) -> Support:
    """What `apply_on_support` makes of all rows by one pipeline, at the first token of an answer.

    A support in float64 that many pipelines are applied to is prepared once.
    """
    for step, processor in enumerate(pipeline):
        if processor.name == LEARNED:
            support = _apply_learned(processor, support)
        else:
            numbers = (processor.values, initial_state(pipeline)[step])
            parameters, state = ([support.t.new_full((len(support.t), 1), value) for value in of] for of in numbers)
            after_learned = has_learned_step(pipeline[:step])
            support = _apply_heuristic(processor.name, support, parameters, state, after_learned)
    return support


def _apply_heuristic(
    name: str, support: Support, parameters: Sequence[Tensor], state: Sequence[Tensor], after_learned: bool
) -> Support:
    """A heuristic with each row's parameters and state, `[R, 1]` each, perhaps on what a learned sampler has left."""
    heuristic = HEURISTICS[name]
    named = dict(zip(heuristic.start, state, strict=True))
    if not after_learned:
        return heuristic(support, *parameters, **named)
    # A network's output for descending logits need not descend.
    order = support.t.argsort(dim=-1, descending=True, stable=True)
    return heuristic(support.take(order), *parameters, **named).take(order.argsort(-1))


@dataclass(frozen=True)
class Kept:
    """What pipelines leave of windows.

    Attributes
    ----------
    t : Tensor [R, W]
        The new logits of the windows' tokens, float32, minus infinity where removed.
    unsure : list of int
        The rows of which the windows do not tell what is left.
    rests : list of (rows, Rest)
        The tokens that are left outside of the windows, of the rows that have some.
    """

    t: Tensor
    unsure: list[int]
    rests: list[tuple[list[int], Rest]]


def apply_on_windows(windows: Windows, places: Tensor, pipelines: Sequence[Pipeline], states: Sequence[State]) -> Kept:
    """Apply pipelines where the most probable tokens suffice: what is left is what `apply_on_support` leaves of all.

    Parameters
    ----------
    windows : Windows
    places : Tensor [R]
        Which of the windows each pipeline is applied to.
    pipelines, states : sequences of R
    """
    # Division by 1 changes no number, and pipelines with and without a temperature are computed together.
    plain = [not pipeline or pipeline[0].name != UNHEATED.name for pipeline in pipelines]
    pipelines = [(UNHEATED, *steps) if bare else steps for bare, steps in zip(plain, pipelines, strict=True)]
    states = [((), *state) if bare else state for bare, state in zip(plain, states, strict=True)]
    t = windows.t.new_full((len(places), windows.t.shape[1]), -torch.inf)
    unsure, rests = [], []
    for group in _of_one_shape(pipelines):
        try:
            support = windows.support(places[group])
            support = _apply_steps(support, [pipelines[row] for row in group], [states[row] for row in group])
        except WindowTooSmall:
            unsure += group
            continue
        t[group] = support.window.t.float()
        unsure += [row for row, flag in zip(group, support.unsure.flatten().tolist(), strict=True) if flag]
        if not support.rest.is_empty:
            rests.append((group, support.rest))
    return Kept(t, unsure, rests)


def _of_one_shape(pipelines: Sequence[Pipeline]) -> list[list[int]]:
    """The rows of pipelines that have the same heuristics in the same order."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, pipeline in enumerate(pipelines):
        groups.setdefault(tuple(step.name for step in pipeline), []).append(row)
    return list(groups.values())


def _apply_steps(support: WindowedSupport, pipelines: Sequence[Pipeline], states: Sequence[State]) -> WindowedSupport:
    """Apply pipelines with the same heuristics in the same order."""
    if has_learned_step(pipelines[0]):
        raise WindowTooSmall
    for step, processor in enumerate(pipelines[0]):
        heuristic = HEURISTICS[processor.name]
        like = support.largest
        parameters = _columns([pipeline[step].values for pipeline in pipelines], like)
        state = dict(zip(heuristic.start, _columns([one[step] for one in states], like), strict=True))
        changed = heuristic(support, *parameters, **state)
        support = changed if isinstance(changed, WindowedSupport) else support.replaced_by(changed)
    return support


def _alike(pipelines: Sequence[Pipeline]) -> Iterator[tuple[int, str, list[int]]]:
    """Step by step, the rows that take the same heuristic, or the same learned sampler: (step, its name, rows)."""
    for step in range(max(map(len, pipelines), default=0)):
        groups: dict[tuple, list[int]] = {}
        for row, pipeline in enumerate(pipelines):
            if step < len(pipeline):
                processor = pipeline[step]
                key = (LEARNED, *processor.values) if processor.name == LEARNED else (processor.name,)
                groups.setdefault(key, []).append(row)
        for key, rows in groups.items():
            yield step, key[0], rows


def _columns(values: Sequence[Sequence[float]], like: Tensor) -> list[Tensor]:
    """A tensor `[R, 1]` for each of the values that every row has."""
    return [like.new_tensor(column)[:, None] for column in zip(*values, strict=True)]


def _with_rows(support: Support, rows: list[int], part: Support) -> Support:
    """The support with some rows replaced, in place: `apply_on_support` owns its tensors."""
    pairs = [(support.t, part.t), (support.n, part.n), *zip(support.span or (), part.span or (), strict=True)]
    for tensor, values in pairs:
        tensor[rows] = values
    return Support(support.t, support.n, support.span)


def _apply_learned(step: Processor, support: Support) -> Support:
    """A learned sampler on a full vocabulary, or on a sketch."""
    # Samplers are loaded only if a pipeline has one.
    from adaptive_samplers.samplers.base import load_sampler

    sampler = load_sampler(step.folder, str(support.t.device), step.preference)
    left = support.n > 0
    with torch.no_grad():
        if support.span is None:
            return Support(sampler.logits(support.t).to(support.t), support.n, None)
        # A network cannot read minus infinity: removed points repeat the smallest one that is left, with no count.
        smallest = support.log_probs.masked_fill(~left, torch.inf).amin(-1, keepdim=True)
        logits = sampler(support.log_probs.where(left, smallest).float(), support.n.float()).to(support.t)
    order = logits.masked_fill(~left, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    return Support.of(logits.gather(-1, order), support.n.gather(-1, order)).take(order.argsort(-1))


def apply_along_answers(
    t: Tensor,
    n: Tensor | None,
    starts: Sequence[int],
    pipelines: Sequence[Pipeline],
    chosen_log_probs: Tensor,
) -> Support:
    """Apply the pipelines of recorded answers at each of their token-steps.

    Stateful pipelines are followed step after step, all answers at once.

    Parameters
    ----------
    t, n : Tensor [N, S]
        The token-steps of one answer after another; `n` is None for a full vocabulary.
    starts : sequence of A + 1
        Answer i has the token-steps `starts[i]` to `starts[i + 1]`.
    pipelines : sequence of A
    chosen_log_probs : Tensor [N]
        The log-probability, by the normalized `t`, of the token that was chosen at each step. Of a stateful pipeline
        only; the token is taken to be the nearest of those that were left.

    Returns
    -------
    Support [N, S]
    """
    lengths = [end - start for start, end in pairwise(starts)]
    logits, counts = torch.empty_like(t), torch.empty_like(t)

    def fill(rows: list[int], answers: list[int], states: list[State]) -> Support:
        support = apply_on_support(t[rows], None if n is None else n[rows], [pipelines[i] for i in answers], states)
        logits[rows], counts[rows] = support.t, support.n
        return support

    plain = [i for i, pipeline in enumerate(pipelines) if not is_stateful(pipeline)]
    places = [(starts[i] + step, i) for i in plain for step in range(lengths[i])]
    for first in range(0, len(places), ROWS_AT_ONCE):
        rows, answers = zip(*places[first : first + ROWS_AT_ONCE], strict=True)
        fill(list(rows), list(answers), [initial_state(pipelines[i]) for i in answers])

    followed = [i for i, pipeline in enumerate(pipelines) if is_stateful(pipeline)]
    for first in range(0, len(followed), ROWS_AT_ONCE):
        states = {i: initial_state(pipelines[i]) for i in followed[first : first + ROWS_AT_ONCE]}
        for step in range(max(lengths[i] for i in states)):
            answers = [i for i in states if step < lengths[i]]
            rows = [starts[i] + step for i in answers]
            support = fill(rows, answers, [states[i] for i in answers])
            distance = (t[rows].log_softmax(-1) if n is None else t[rows]) - chosen_log_probs[rows, None]
            nearest = distance.abs().masked_fill(support.n <= 0, torch.inf).argmin(-1, keepdim=True)
            drawn = support.log_probs.gather(-1, nearest).squeeze(-1)
            following = next_states([pipelines[i] for i in answers], [states[i] for i in answers], drawn)
            states.update(zip(answers, following, strict=True))
    return Support(logits, counts, None)


def apply_to_logits(logits: Tensor, pipelines: Sequence[Pipeline], states: Sequence[State] | None = None) -> Tensor:
    """Apply one pipeline per row to logits over the vocabulary, `[R, V] -> [R, V]` float32.

    Parameters
    ----------
    states : sequence of R, or None
        The pipelines' states; None means the first token of an answer.

    Raises
    ------
    ValueError
        If a row holds NaN or plus infinity, or no token that is not masked; it says which.
    """
    logits = logits.float()
    check_rows(logits.amax(-1, keepdim=True))
    output = torch.full_like(logits, -torch.inf)
    states = [initial_state(pipeline) for pipeline in pipelines] if states is None else states
    learned = [row for row, pipeline in enumerate(pipelines) if has_learned_step(pipeline)]
    left = sorted(set(range(len(logits))) - set(learned))
    for size in window_sizes(logits.shape[1]):
        if left:
            windows = Windows.of(logits, left, size)
            places = torch.arange(len(left))
            kept = apply_on_windows(windows, places, [pipelines[row] for row in left], [states[row] for row in left])
            _write(kept, windows, output)
            left = [left[place] for place in kept.unsure]
    left = sorted(left + learned)
    if left:
        t, token_ids = sort_logits(logits[left])
        t = apply_on_support(t, None, [pipelines[row] for row in left], [states[row] for row in left]).t
        output[left] = torch.empty_like(t).scatter_(-1, token_ids, t)
    return output


def _write(kept: Kept, windows: Windows, output: Tensor) -> None:
    """Write the new logits into the windows' rows of the output, but nothing of the unsure."""
    for group, rest in kept.rests:
        rest.write(output, windows.rows[group])
    t = kept.t.index_fill(0, torch.tensor(kept.unsure, dtype=torch.int64), -torch.inf)
    place, rank = (t > -torch.inf).nonzero(as_tuple=True)
    rows, token_ids = windows.rows[place].to(output.device), windows.token_ids[place, rank].to(output.device)
    output[rows, token_ids] = t[place, rank].to(output.device)


def draw(t: Tensor, uniforms: Tensor, outside: Tensor | None = None) -> Tensor:
    """Positions drawn by inverse CDF along sorted supports, one uniform number per row.

    Along the sorted order the same uniform number gives similar tokens under similar heuristics: common random numbers,
    which make paired comparisons sharper.

    Parameters
    ----------
    t : Tensor [R, V]
        Logits, -inf where removed.
    uniforms : Tensor [R]
        Numbers in [0, 1), float64.
    outside : Tensor [R], or None
        The weight, float64, of tokens that come after all of these; None where there are none. The largest logit of
        `t` has a weight of 1.

    Returns
    -------
    Tensor [R]
        Positions, int64; V if the token is one of those outside.
    """
    cumulative = torch.exp(t - t.amax(-1, keepdim=True)).cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:] if outside is None else cumulative[:, -1:] + outside[:, None]
    target = uniforms[:, None].to(cumulative) * total
    # `right` skips points without mass, so that a removed token can never be drawn.
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)
