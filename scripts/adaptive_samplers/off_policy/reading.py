"""Answers with their recorded draws and rewards, from the tables and shards of a run."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from adaptive_samplers.engines.base import cut_before
from adaptive_samplers.errors import UserError
from adaptive_samplers.grid import Grid
from adaptive_samplers.heuristics import Pipeline, parse_processors, prompted_heuristics
from adaptive_samplers.labels.vectors import read_embeddings, vectors_for
from adaptive_samplers.off_policy.draws import RecordedDraws
from adaptive_samplers.off_policy.estimates import LoggedAnswers
from adaptive_samplers.off_policy.log_probs import equal_steps
from adaptive_samplers.off_policy.shards import SketchShard, read_index
from adaptive_samplers.selection import answer_id
from adaptive_samplers.selection.scores import weighted_score
from adaptive_samplers.tables import KEY, read_batches

# Answers to prompts of the test split are never learned from.
RECORDED_SPLITS = ("train", "validation")
ANSWER = ["prompt_token_ids", "token_ids", "finish_reason"]


def answers_to_record(
    candidates: Path,
    prompts: pd.DataFrame,
    heuristics: pd.DataFrame,
    splits: Collection[str],
    most_steps: int | None,
    shard: int,
    shards: int,
) -> pd.DataFrame:
    """The distinct answers of a shard to prompts of some splits, as `replay` reads them.

    Answers to one prompt are in the same shard. Left out are failed answers, and those of heuristics that ask for
    several answers, which were drawn from no distribution over next tokens.

    Parameters
    ----------
    most_steps : int or None
        Of longer answers, the beginning; None takes all.

    Returns
    -------
    DataFrame
        `answer_id`, which names the whole answer, and the columns `prompt_token_ids`, `token_ids`, `finish_reason`.
    """
    wanted = prompts["prompt_id"][prompts["split"].isin(splits)]
    wanted = {name for name in wanted if int(name, 16) % shards == shard}
    drawn = _drawn_by_token(heuristics)
    rows: dict[str, tuple[np.ndarray, np.ndarray, str]] = {}
    for batch in read_batches("candidates", candidates, [*KEY, *ANSWER], only=("prompt_id", wanted)) if wanted else ():
        for row in batch.to_pylist():
            if row["finish_reason"] == "error" or row["heuristic_id"] not in drawn:
                continue
            tokens, reason = row["token_ids"], row["finish_reason"]
            name = answer_id(row["prompt_token_ids"], tokens, reason)
            if most_steps is not None and len(tokens) >= most_steps:
                tokens, reason = tokens[:most_steps], "length"
            arrays = (np.array(ids, dtype=np.int32) for ids in (row["prompt_token_ids"], tokens))
            rows.setdefault(name, (*arrays, reason))
    ids = sorted(rows)
    columns = zip(*(rows[name] for name in ids), strict=True) if ids else ([], [], [])
    return pd.DataFrame({"answer_id": ids} | dict(zip(ANSWER, map(list, columns), strict=True)))


def without_ends_by_strings(
    answers: pd.DataFrame, decode: Callable[[Sequence[int]], str], stop: Sequence[str]
) -> pd.DataFrame:
    """Answers to record, of which those that one of the strings `stop` ended have no end that was drawn."""
    if not stop:
        return answers
    was_cut = [cut_before(decode(tokens), stop) is not None for tokens in answers["token_ids"]]
    return answers.assign(finish_reason=answers["finish_reason"].mask(np.array(was_cut, dtype=bool), "length"))


def _drawn_by_token(heuristics: pd.DataFrame) -> set[str]:
    """The heuristics that change the distribution over next tokens, and no more."""
    processors = dict(zip(heuristics["heuristic_id"], heuristics["processors"], strict=True))
    return set(processors) - prompted_heuristics(processors)


@dataclass(frozen=True)
class Logged:
    """The answers to some prompts with their rewards and recorded draws.

    Attributes
    ----------
    answers : LoggedAnswers
    prompt_ids : list of str, by number
    behaviors : dict from heuristic_id to Pipeline
        Those that answered, by number.
    draws : RecordedDraws
        Of the distinct answers, those to one prompt after another.
    same : Tensor [N]
        As `equal_steps` finds them.
    vectors : Tensor [D, E] of float32, or None
        Embeddings of the distinct answers, of unit length, where they were asked for.
    """

    answers: LoggedAnswers
    prompt_ids: list[str]
    behaviors: dict[str, Pipeline]
    draws: RecordedDraws
    same: Tensor
    vectors: Tensor | None

    @property
    def pipelines(self) -> list[Pipeline]:
        """The behaviors' pipelines, by number."""
        return list(self.behaviors.values())


def read_logged(
    scores: pd.DataFrame,
    weights: Mapping[str, float],
    heuristics: pd.DataFrame,
    candidates: Path,
    shards: Sequence[Path],
    most_steps: int | None = None,
    embeddings: Path | None = None,
) -> Logged:
    """Join what is known of the answers in `scores`.

    Parameters
    ----------
    scores : DataFrame
        A `scores` table, or some of its rows. The reward is the sum of normalized labels under `weights`.
    shards : sequence of Path
        Recorded draws, as the rule `record_draws` makes them.
    most_steps : int or None
        Draws after these are left out.
    embeddings : Path, or None
        The embeddings table, for vectors.

    Raises
    ------
    UserError
        If there is no answer, or the draws of one are in none of the shards.
    """
    drawn = _drawn_by_token(heuristics)
    scores = scores[scores["heuristic_id"].isin(drawn)].sort_values(KEY, ignore_index=True)
    if scores.empty:
        raise UserError("no answer to learn from: the scores have none to prompts of these splits")
    grid = Grid.around(scores)
    ids, texts = _ids_of(candidates, grid, grid.places(scores), set(scores["prompt_id"]), embeddings is not None)
    prompt_ids, prompts = np.unique(scores["prompt_id"], return_inverse=True)
    behavior_ids, behaviors = np.unique(scores["heuristic_id"], return_inverse=True)
    # In the order of prompts: those of one are neighbors.
    distinct = dict.fromkeys(ids)
    place = {name: number for number, name in enumerate(distinct)}
    prompt_of = dict(zip(ids, prompts.tolist(), strict=True))
    draws, token_ids = _draws_of(shards, place, most_steps)
    processors = dict(zip(heuristics["heuristic_id"], heuristics["processors"], strict=True))
    vectors = None
    if embeddings is not None:
        found = read_embeddings(embeddings, set(texts.values()))
        vectors = torch.from_numpy(vectors_for([texts[name] for name in distinct], found))
    return Logged(
        LoggedAnswers(
            prompts,
            behaviors,
            scores["seed"].to_numpy(),
            weighted_score(scores, dict(weights)).to_numpy(dtype=float),
            np.array([place[name] for name in ids]),
        ),
        prompt_ids.tolist(),
        {name: parse_processors(processors[name]) for name in behavior_ids.tolist()},
        draws,
        equal_steps([prompt_of[name] for name in distinct], draws.starts, token_ids),
        vectors,
    )


def _ids_of(
    candidates: Path, grid: Grid, places: np.ndarray, prompts: Collection[str], with_texts: bool
) -> tuple[list[str], dict[str, str]]:
    """The answer at each place of a grid, by its id, and texts by id. Raises UserError if one has no row."""
    found: dict[int, str] = {}
    texts: dict[str, str] = {}
    wanted = np.zeros(len(grid), dtype=bool)
    wanted[places] = True
    columns = [*KEY, *ANSWER, *["text"] * with_texts]
    for batch in read_batches("candidates", candidates, columns, only=("prompt_id", prompts)):
        of_batch = grid.places(batch)
        rows = np.flatnonzero((of_batch >= 0) & wanted[of_batch])
        for at, row in zip(of_batch[rows].tolist(), batch.take(pa.array(rows)).to_pylist(), strict=True):
            found[at] = answer_id(*(row[name] for name in ANSWER))
            if with_texts:
                texts[found[at]] = row["text"]
    if missing := set(places.tolist()) - found.keys():
        key = grid.keys(np.array([min(missing)])).to_dict("records")[0]
        raise UserError(f"{candidates}: {len(missing)} answers that were scored have no row, the first: {key}")
    return [found[at] for at in places.tolist()], texts


def _draws_of(shards: Sequence[Path], place: Mapping[str, int], most_steps: int | None) -> tuple[RecordedDraws, Tensor]:
    """The draws of some answers in their order, and the token of each step."""
    parts, tokens, order = [], [], []
    for path in shards:
        rows = [row for row, name in enumerate(read_index(path).answer_ids) if name in place]
        if rows:
            shard = SketchShard.load(path)
            order += [place[shard.answer_ids[row]] for row in rows]
            parts.append(shard.draws.select(torch.tensor(rows), most_steps))
            for row in rows:
                tokens.append(shard.token_ids[shard.draws.span(row)][:most_steps])
    if len(order) < len(place):
        missing = sorted(set(place.values()) - set(order))
        first = next(name for name, at in place.items() if at == missing[0])
        raise UserError(
            f"the draws of {len(missing)} answers are recorded in none of {[str(path) for path in shards]}, the "
            f"first: {first}; delete these files and run again"
        )
    position = np.argsort(order)
    return RecordedDraws.joined(parts).select(torch.from_numpy(position)), torch.cat([tokens[at] for at in position])
