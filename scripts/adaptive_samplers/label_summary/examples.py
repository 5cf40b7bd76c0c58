"""The best and the worst answers to prompts of each kind."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from adaptive_samplers.hashing import content_number

BEST, WORST = "best", "worst"


class Extreme(NamedTuple):
    """An answer at one end of the ratings of a kind: its index in the grid, and its rank, 1 for the most extreme."""

    kind: str
    end: str
    rank: int
    place: int


def extremes(
    ratings: np.ndarray, prompt_ids: pa.Array, codes: np.ndarray, kinds: Sequence[str], count: int
) -> list[Extreme]:
    """The `count` best and worst rated answers of each kind of prompt, at most one per prompt at either end.

    Ties between prompts go to the smaller hash of the prompt.

    Parameters
    ----------
    ratings : float [prompts, answers], nan where there is none.
    codes : int [prompts], the index in `kinds` of each prompt.
    """
    if not ratings.size:
        return []
    width = ratings.shape[1]
    found = []
    for code, kind in enumerate(kinds):
        rows = np.flatnonzero((codes == code) & np.isfinite(ratings).any(axis=1))
        order = np.array([content_number(prompt_ids[int(row)].as_py()) for row in rows], dtype=np.uint64)
        for end, sign in ((BEST, 1.0), (WORST, -1.0)):
            values = sign * ratings[rows]
            column = np.where(np.isnan(values), -np.inf, values).argmax(axis=1)
            top = values[np.arange(len(rows)), column]
            for rank, place in enumerate(np.lexsort((order, -top))[:count]):
                found.append(Extreme(kind, end, rank + 1, int(rows[place] * width + column[place])))
    return found
