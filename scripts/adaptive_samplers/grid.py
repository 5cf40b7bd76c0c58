"""Keys of answers as integers: their indices in the grid of all prompts, heuristics and seeds.

Millions of keys fit in memory as numbers, and an array with one entry per index replaces a join.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from adaptive_samplers.tables import KEY


class Grid:
    """Every possible key, in the order of prompt, heuristic and seed.

    Attributes
    ----------
    prompt_ids, heuristic_ids, seeds : Array
        Sorted, each once.
    shape : tuple of their lengths
    """

    def __init__(self, prompt_ids: Iterable[str], heuristic_ids: Iterable[str], seeds: Iterable[int]) -> None:
        self.prompt_ids = pa.array(sorted(set(prompt_ids)), pa.string())
        self.heuristic_ids = pa.array(sorted(set(heuristic_ids)), pa.string())
        self.seeds = pa.array(sorted({int(seed) for seed in seeds}), pa.int64())
        self.shape = (len(self.prompt_ids), len(self.heuristic_ids), len(self.seeds))

    @classmethod
    def around(cls, *tables: pd.DataFrame) -> "Grid":
        """The grid of the prompts, heuristics and seeds that occur in any of the tables."""
        return cls(*({value for table in tables for value in table[column].unique()} for column in KEY))

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def places(self, keys: pa.RecordBatch | pa.Table | pd.DataFrame) -> np.ndarray:
        """The index of each key, int64 [N]; -1 for one that is not in the grid."""
        place = np.zeros(len(keys), dtype=np.int64)
        outside = np.zeros(len(keys), dtype=bool)
        for column, values, size in zip(
            KEY, (self.prompt_ids, self.heuristic_ids, self.seeds), self.shape, strict=True
        ):
            found = keys[column]
            if isinstance(found, pd.Series):
                found = pa.array(found, values.type)
            index = pc.fill_null(pc.index_in(found, value_set=values), -1).to_numpy(zero_copy_only=False)
            outside |= index < 0
            place = place * size + index
        place[outside] = -1
        return place

    def keys(self, places: np.ndarray) -> pd.DataFrame:
        """The keys at some indices, as a table of three columns."""
        indices = np.unravel_index(places, self.shape)
        values = (self.prompt_ids, self.heuristic_ids, self.seeds)
        taken = [some.take(pa.array(index)) for some, index in zip(values, indices, strict=True)]
        return pa.table(taken, names=KEY).to_pandas()


def first_of_their_place(places: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Which of some indices occur for the first time, bool [N].

    Parameters
    ----------
    places : int64 [N], none of them -1, in the order of their rows.
    seen : bool, one entry for every index of the grid: those that occurred before. Updated in place.
    """
    first = np.zeros(len(places), dtype=bool)
    first[np.unique(places, return_index=True)[1]] = True
    first &= ~seen[places]
    seen[places] = True
    return first
