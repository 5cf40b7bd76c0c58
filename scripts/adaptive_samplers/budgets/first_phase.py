"""The labels of the first phase's training answers, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from adaptive_samplers.config.model.scoring import Weights
from adaptive_samplers.errors import UserError
from adaptive_samplers.grid import Grid
from adaptive_samplers.heuristics import prompted_heuristics
from adaptive_samplers.selection import weighted_score
from adaptive_samplers.tables import KEY, read_batches

_SCORED = [*KEY, "quality", "z_quality", "z_diversity", "z_correctness", "correct"]
_RATED = [*KEY, "rating", "rating_stderr"]


@dataclass(frozen=True)
class FirstPhase:
    """Labels of P prompts, H heuristics and S seeds; nan where there is none.

    Attributes
    ----------
    grid : Grid of the keys; every array is in its order. Heuristics without selectable answers are not in it.
    kinds : array of str [P], of the prompts.
    scores : float [W, P, H, S], under each weighting. Minus infinity where a verifier refused the answer or came to no
        verdict; such answers are not selected. nan where it was not rated.
    correct : float [P, H, S], 1 or 0; nan where there is nothing to verify.
    rating, rating_stderr : float [P, H, S], nats.
    """

    grid: Grid
    kinds: np.ndarray
    scores: np.ndarray
    correct: np.ndarray
    rating: np.ndarray
    rating_stderr: np.ndarray


def read_first_phase(
    scores: Path,
    quality: Path,
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    seeds: Sequence[int],
    weights: Sequence[Weights],
    correct_only: bool,
) -> FirstPhase:
    """Read the labels of the training prompts; those of other splits must not influence any decision.

    The tables are read some rows at a time. A prompt without any rating, such as one dropped for a failed answer, is
    left out. So are heuristics whose answers are drawn from a reply with several, because none of these is selected.

    Parameters
    ----------
    scores, quality : files of the tables of these names.
    weights : as in `scoring.weights`, W of them.
    correct_only : whether only correct answers are ever selected.

    Raises
    ------
    UserError
        If a table cannot be read, or no heuristic has selectable answers.
    """
    training = prompts[prompts["split"] == "train"]
    prompted = prompted_heuristics(dict(zip(heuristics["heuristic_id"], heuristics["processors"], strict=True)))
    grid = Grid(training["prompt_id"], set(heuristics["heuristic_id"]) - prompted, seeds)
    if not len(grid.heuristic_ids):
        raise UserError(
            "heuristics: all are verbalized, and so train nothing; add one of another kind, or set "
            "generation.adaptive.enabled to false"
        )
    found = np.full((len(weights), len(grid)), np.nan)
    correct, rating, stderr = np.full((3, len(grid)), np.nan)
    for batch in read_batches("scores", scores, _SCORED):
        places = grid.places(batch)
        batch, places = batch.filter(pa.array(places >= 0)), places[places >= 0]
        verdict = batch["correct"].cast(pa.int8()).to_numpy(zero_copy_only=False).astype(float)
        correct[places] = verdict
        table = batch.to_pandas()
        for number, weighting in enumerate(weights):
            score = weighted_score(table, weighting.model_dump()).where(table["quality"].notna())
            found[number, places] = score.mask(correct_only & (verdict == 0) & score.notna(), -np.inf)
    for batch in read_batches("quality", quality, _RATED):
        places = grid.places(batch)
        rating[places[places >= 0]] = batch["rating"].to_numpy(zero_copy_only=False)[places >= 0]
        stderr[places[places >= 0]] = batch["rating_stderr"].to_numpy(zero_copy_only=False)[places >= 0]
    return _with_ratings(grid, training, found, correct, rating, stderr)


def _with_ratings(grid: Grid, training: pd.DataFrame, scores: np.ndarray, *others: np.ndarray) -> FirstPhase:
    correct, rating, stderr = (values.reshape(grid.shape) for values in others)
    rated = ~np.isnan(rating).all(axis=(1, 2))
    prompt_ids = np.array(grid.prompt_ids.to_pylist(), dtype=object)[rated]
    kinds = training.set_index("prompt_id")["kind"].reindex(prompt_ids).to_numpy()
    smaller = Grid(prompt_ids, grid.heuristic_ids.to_pylist(), grid.seeds.to_pylist())
    scores = scores.reshape(-1, *grid.shape)[:, rated]
    return FirstPhase(smaller, kinds, scores, correct[rated], rating[rated], stderr[rated])
