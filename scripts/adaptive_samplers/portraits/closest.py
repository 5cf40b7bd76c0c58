"""Which heuristics come closest to a learned sampler, and how close."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from adaptive_samplers.heuristics import HEURISTICS, Pipeline, Processor, Support, apply_to_all
from adaptive_samplers.portraits.families import SEARCHED, Chain, axes, pipeline_at
from adaptive_samplers.portraits.states import Distributions, States, kl_divergence

Places = tuple[float, ...]

# How often a search looks, after the grid, and how near in the end, as a share of an axis.
EVALUATIONS = 60
TOLERANCE = 1e-4
# A simplex may collapse at an end of an axis, so that a search begins again where it ended, for as long as that gains
# so many nats.
SEARCHES = 4
ENOUGH = 1e-6
WHOLE_STEPS = 4


class Applied:
    """What pipelines make of some states; those that begin alike, one after another, share their beginning."""

    def __init__(self, states: States) -> None:
        self._raw = states.support
        self._begun: tuple[Pipeline, Support] = ((), states.support)

    def __call__(self, pipeline: Pipeline) -> Distributions:
        before, last = pipeline[:-1], pipeline[-1:]
        if self._begun[0] != before:
            self._begun = before, apply_to_all(before, self._raw)
        return Distributions.of_support(apply_to_all(last, self._begun[1]))


def fit_chain(chain: Chain, states: States, learned: Distributions) -> Pipeline:
    """The chain of these heuristics with the least mean `KL(heuristic || learned)` over states.

    In this direction the divergence is finite, because a learned sampler gives every token some probability and a
    heuristic need not; it is that of imitation, `training.objectives.imitation`. A grid over all parameters comes
    first, and a search around its best point next: Brent's for one parameter, Nelder and Mead's for several, which
    follows narrow valleys without derivatives. Whole numbers are tried one by one in the end.

    Parameters
    ----------
    chain : tuple of str
        Names of heuristics in `families.SEARCHED`, in the order in which they are applied.
    learned : Distributions
        The sampler's, over the same states.
    """
    apply = Applied(states)
    known: dict[Pipeline, float] = {}

    def measured(pipeline: Pipeline) -> float:
        if pipeline not in known:
            known[pipeline] = float(kl_divergence(apply(pipeline), learned).mean())
        return known[pipeline]

    def divergence(places: Sequence[float]) -> float:
        return measured(pipeline_at(chain, places))

    searched = axes(chain)
    best = min(itertools.product(*(axis.grid for axis in searched)), key=divergence)
    spacing = np.array([1 / (axis.points - 1) for axis in searched])
    for _ in range(SEARCHES if len(best) > 1 else len(best)):
        found = _search(divergence, np.array(best), spacing)
        gain = divergence(best) - divergence(found)
        best = found if gain > 0 else best
        if gain < ENOUGH:
            break
    return _settled(min(known, key=measured), measured)


def _search(function: Callable[[Sequence[float]], float], start: np.ndarray, spacing: np.ndarray) -> Places:
    """A place in the unit cube, of one axis or more, around `start`: where a function is less, if that is found."""
    if len(start) == 1:
        ends = np.clip([start[0] - spacing[0], start[0] + spacing[0]], 0, 1)
        options = {"maxiter": EVALUATIONS, "xatol": TOLERANCE}
        found = minimize_scalar(lambda place: function([place]), bounds=ends, method="bounded", options=options)
        return (float(found.x),)
    # A corner in each direction; where the cube ends, in the other one.
    corners = np.diag(np.where(start + spacing / 2 > 1, -spacing / 2, spacing / 2))
    options = {
        "initial_simplex": np.vstack([start, start + corners]),
        "maxfev": EVALUATIONS,
        "xatol": TOLERANCE,
        "fatol": ENOUGH / 10,
    }
    found = minimize(function, start, method="Nelder-Mead", bounds=[(0, 1)] * len(start), options=options)
    return tuple(found.x.tolist())


def _settled(best: Pipeline, measured: Callable[[Pipeline], float]) -> Pipeline:
    """Move parameters that are whole numbers by one, a few times, for as long as that helps."""
    for step, processor in enumerate(best):
        for place, axis in enumerate(SEARCHED[processor.name]):
            if not list(HEURISTICS[processor.name].parameters.values())[place].whole:
                continue
            for by in [1] * WHOLE_STEPS + [-1] * WHOLE_STEPS:
                values = list(best[step].values)
                values[place] += by
                moved = (*best[:step], Processor(processor.name, tuple(values)), *best[step + 1 :])
                if axis.low <= values[place] <= axis.high and measured(moved) < measured(best):
                    best = moved
    return best
