"""Shards: files with the sketches of all token-steps of some answers, and what was drawn from them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.off_policy.draws import RecordedDraws
from adaptive_samplers.stage import say
from adaptive_samplers.tensors import load_some, load_tensors, save_tensors
from adaptive_samplers.versions import STAGE_VERSIONS

ANSWER_ID_BYTES = 8  # of `selection.answer_id`


@dataclass(frozen=True)
class SketchShard:
    """The sketches of some answers.

    Attributes
    ----------
    answer_ids : list of A hexadecimal ids
    token_ids : Tensor [N] of int32
        The token that was chosen at each step; -1 where the answer ended.
    draws : RecordedDraws of N steps
        Where an answer ended, the draw is that of the most probable of the tokens that end one.
    """

    answer_ids: list[str]
    token_ids: Tensor
    draws: RecordedDraws

    @classmethod
    def room(cls, answers: pd.DataFrame, points: int) -> "SketchShard":
        """A shard with zeros for the sketches of answers, given by `answer_id`, `token_ids` and `finish_reason`."""
        draws = RecordedDraws.room(steps_of(answers), points)
        chosen = torch.full((int(draws.starts[-1]),), -1, dtype=torch.int32)
        for row, tokens in enumerate(answers["token_ids"]):
            chosen[draws.span(row)][: len(tokens)] = torch.tensor(np.asarray(tokens), dtype=torch.int32)
        return cls(answers["answer_id"].tolist(), chosen, draws)

    def take_over_files(self, paths: Iterable[Path], fingerprint: str) -> np.ndarray:
        """`take_over` from each of the files that exist and have this fingerprint; what is in any, `[A]`.

        A damaged file is named and passed over.
        """
        known, wanted = np.zeros(len(self.answer_ids), dtype=bool), set(self.answer_ids)
        for path in paths:
            try:
                if shard_fingerprint(path) == fingerprint and wanted.intersection(read_index(path).answer_ids):
                    known |= self.take_over(SketchShard.load(path))
            except UserError as error:
                say(f"{error}; until then, what it holds is made again where it is needed")
        return known

    def take_over(self, earlier: "SketchShard") -> np.ndarray:
        """Copy the sketches of answers that an earlier shard has, in full or more; which these are, `[A]`."""
        places = {answer: place for place, answer in enumerate(earlier.answer_ids)}
        wanted, there = (shard.draws.starts.diff().tolist() for shard in (self, earlier))
        found = np.zeros(len(self.answer_ids), dtype=bool)
        for row, answer in enumerate(self.answer_ids):
            place = places.get(answer)
            if place is not None and there[place] >= wanted[row]:
                begin = earlier.draws.span(place).start
                self.fill(row, earlier.draws.steps(slice(begin, begin + wanted[row])))
                found[row] = True
        return found

    def fill(self, answer: int, steps: Sequence[Tensor]) -> None:
        """Set the steps of an answer, as `RecordedDraws.steps` gives them."""
        for mine, made in zip(self.draws.steps(self.draws.span(answer)), steps, strict=True):
            mine.copy_(made)

    def only(self, answers: np.ndarray) -> "SketchShard":
        """A copy with some of the answers, by index."""
        token_ids = [self.token_ids[self.draws.span(answer)] for answer in answers]
        ids = [self.answer_ids[answer] for answer in answers]
        return SketchShard(
            ids, torch.cat([self.token_ids[:0], *token_ids]), self.draws.select(torch.from_numpy(answers))
        )

    def save(self, path: Path, fingerprint: str) -> None:
        """Write one safetensors file, atomically."""
        ids = [list(bytes.fromhex(answer)) for answer in self.answer_ids]
        tensors = {
            "answer_ids": torch.tensor(ids, dtype=torch.uint8).reshape(len(ids), ANSWER_ID_BYTES),
            "token_ids": self.token_ids,
            **self.draws.to_tensors(),
        }
        save_tensors(tensors, path, {"fingerprint": fingerprint})

    @classmethod
    def load(cls, path: Path) -> "SketchShard":
        """Read a shard back. Raises UserError if the file is damaged."""
        tensors, _ = load_tensors(path)
        return cls(_as_hexadecimal(tensors["answer_ids"]), tensors["token_ids"], RecordedDraws.from_tensors(tensors))


class ShardIndex(NamedTuple):
    """What a shard has: the answers' ids, their numbers of steps, and the points of each step's sketch."""

    answer_ids: list[str]
    lengths: list[int]
    points: int


def read_index(path: Path) -> ShardIndex:
    """What a shard has, without reading its sketches. Raises UserError if it is damaged."""
    index, shapes, _ = load_some(path, ["answer_ids", "starts"])
    return ShardIndex(_as_hexadecimal(index["answer_ids"]), index["starts"].diff().tolist(), shapes["t"][1])


def steps_of(answers: pd.DataFrame) -> list[int]:
    """How many steps answers have: their tokens and, if they ended by themselves, the choice to end."""
    return [len(row.token_ids) + (row.finish_reason == "stop") for row in answers.itertuples()]


def sketches_fingerprint(model_hash: str, dtype: torch.dtype, top: int, tail: int) -> str:
    """What sketches of a model's distributions depend on; `dtype` is that of the model."""
    return content_id([STAGE_VERSIONS["replay_distributions"], model_hash, str(dtype), top, tail])


def _as_hexadecimal(ids: Tensor) -> list[str]:
    return [bytes(row).hex() for row in ids.numpy()]


def shard_fingerprint(path: Path) -> str | None:
    """What the sketches in a shard depend on, or None if there is no shard. Raises UserError if it is damaged."""
    return load_some(path, [])[2].get("fingerprint") if path.exists() else None
