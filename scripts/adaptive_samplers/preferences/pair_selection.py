"""Which answers of a group become pairs of a better and a worse one, by their scores alone."""

from collections.abc import Callable

import numpy as np


def _best_worst(margins: np.ndarray, allowed: np.ndarray, _: np.random.Generator) -> np.ndarray:
    best = _first_with_partner(allowed)
    return np.array([[best, np.flatnonzero(allowed[best])[-1]]])


def _best_random(margins: np.ndarray, allowed: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    best = _first_with_partner(allowed)
    return np.array([[best, generator.choice(np.flatnonzero(allowed[best]))]])


def _above_margin(margins: np.ndarray, allowed: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.argwhere(allowed)


def _largest_margin(margins: np.ndarray, allowed: np.ndarray, _: np.random.Generator) -> np.ndarray:
    place = np.argmax(np.where(allowed, margins, -np.inf))
    return np.array([np.unravel_index(place, margins.shape)])


def _smallest_margin(margins: np.ndarray, allowed: np.ndarray, _: np.random.Generator) -> np.ndarray:
    place = np.argmin(np.where(allowed, margins, np.inf))
    return np.array([np.unravel_index(place, margins.shape)])


def _neighbors(margins: np.ndarray, allowed: np.ndarray, _: np.random.Generator) -> np.ndarray:
    better = np.flatnonzero(np.diagonal(allowed, offset=1))
    return np.stack([better, better + 1], axis=1)


# Each takes two [n, n] arrays of answers from best to worst: the row's score minus the column's, and whether they may
# be a pair, true at least once. It returns [pairs, 2].
PAIRINGS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "best_worst": _best_worst,
    "best_random": _best_random,
    "above_margin": _above_margin,
    "largest_margin": _largest_margin,
    "smallest_margin": _smallest_margin,
    "neighbors": _neighbors,
}


def _first_with_partner(allowed: np.ndarray) -> int:
    return int(np.flatnonzero(allowed.any(axis=1))[0])


def pair_answers(
    scores: np.ndarray,
    pairing: str,
    margin: float = 0.0,
    allowed: np.ndarray | None = None,
    generator: np.random.Generator | None = None,
    most: int | None = None,
) -> np.ndarray:
    """Pairs of a better and a worse answer of one group.

    - `best_worst`: the best answer and the worst one.
    - `best_random`: the best answer and one drawn from all that are worse.
    - `above_margin`: all pairs.
    - `largest_margin`: the pair whose scores differ most. It is that of `best_worst` unless `allowed` forbids some:
      then `best_worst` holds on to the best answer that has a partner.
    - `smallest_margin`: the pair whose scores differ least.
    - `neighbors`: each answer and the next one in the order of scores.

    All give only pairs whose scores differ by more than `margin` and that are `allowed`. Between answers with the same
    score, and pairs with the same margin, the earlier one in `scores` goes first.

    Parameters
    ----------
    scores : float [N], of different answers, none of them NaN.
    margin : 0 or more.
    allowed : bool [N, N]; whether the row's answer may win over the column's. None: it may.
    generator : needed for `best_random` and `most`.
    most : maximum number of pairs kept, drawn from all.

    Returns
    -------
    int array [pairs, 2]
        Indices of the better and of the worse answer in `scores`.
    """
    scores = np.asarray(scores, dtype=float)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    margins = ranked[:, None] - ranked[None, :]
    usable = margins > margin
    if allowed is not None:
        usable &= allowed[np.ix_(order, order)]
    if not usable.any():
        return np.empty((0, 2), dtype=np.int64)
    pairs = PAIRINGS[pairing](margins, usable, generator)
    if most is not None and len(pairs) > most:
        pairs = pairs[np.sort(generator.choice(len(pairs), most, replace=False))]
    return order[pairs]
