"""The prompts that a policy answers: a slice of the run's, so that iterations do not overlap."""

from collections.abc import Sequence

import pandas as pd

from adaptive_samplers.errors import UserError


def slice_prompts(prompts: pd.DataFrame, splits: Sequence[str], skip: int, limit: int | None) -> pd.DataFrame:
    """The prompts of some splits after the first `skip`, at most `limit` (None: all), in the order of their ids.

    Ids are hashes, so every slice is a random part of the prompts; consecutive slices are disjoint.

    Raises
    ------
    UserError
        If no prompt is left.
    """
    ordered = prompts[prompts["split"].isin(splits)].sort_values("prompt_id")
    chosen = ordered.iloc[skip:] if limit is None else ordered.iloc[skip : skip + limit]
    if chosen.empty:
        raise UserError(
            f"no prompts are left: of {len(prompts)} prompts {len(ordered)} are in the splits {', '.join(splits)}, and "
            f"{skip} of these are to be skipped; skip fewer, or add prompts"
        )
    return chosen.reset_index(drop=True)
