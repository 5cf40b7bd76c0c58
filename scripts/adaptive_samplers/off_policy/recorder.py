"""Recorded draws of answers, kept while these are generated: what the language model would be asked again by replay."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import torch

from adaptive_samplers.engines.base import Completion, Recording, Request
from adaptive_samplers.off_policy.draws import RecordedDraws
from adaptive_samplers.off_policy.reading import RECORDED_SPLITS, answers_to_record, without_ends_by_strings
from adaptive_samplers.off_policy.shards import SketchShard, sketches_fingerprint
from adaptive_samplers.selection import answer_id

if TYPE_CHECKING:
    from adaptive_samplers.engines.transformers_engine import TransformersEngine

PART_BYTES = 2**24  # of sketches in memory; more are saved


class DrawRecorder:
    """The draws of answers to prompts of the training and validation splits, on their way into the shard at `path`.

    What it lacks is replayed by the rules that need it: answers that were made before draws were recorded, or whose
    draws were in memory when a job was killed. So it is a saving, and no answer depends on it.

    Parameters
    ----------
    path : Path
        The shard. If it exists, draws of answers that remain are taken over; so are those in `{path}.part.*`, where a
        killed job leaves its progress.
    recording : Recording
        What is kept of each answer.
    fingerprint : str
        As `sketches_fingerprint` gives it; draws with another are not taken over.
    others : sequence of Path
        Shards, made elsewhere, with draws of answers that are reused.
    """

    def __init__(self, path: Path, recording: Recording, fingerprint: str, others: Sequence[Path] = ()) -> None:
        self.path = path
        self.others = others
        self.recording = recording
        self.fingerprint = fingerprint
        self._unsaved: dict[str, tuple[torch.Tensor, RecordedDraws]] = {}
        self._bytes = 0
        self._parts = sorted(path.parent.glob(f"{path.name}.part.*"))

    @classmethod
    def of(
        cls,
        path: Path,
        engine: "TransformersEngine",
        model_hash: str,
        recording: Recording,
        others: Sequence[Path] = (),
    ) -> Self:
        """One for the answers of an engine with the model of this hash."""
        dtype = engine.model.model.dtype
        return cls(path, recording, sketches_fingerprint(model_hash, dtype, recording.top, recording.tail), others)

    def recording_for(self, split: str) -> Recording | None:
        """What is to be kept of answers to prompts of a split."""
        return self.recording if split in RECORDED_SPLITS else None

    def add(self, request: Request, completion: Completion) -> None:
        """Keep the draws of an answer, if it has any."""
        draws = completion.draws
        if draws is None:
            return
        name = answer_id(request.prompt_token_ids, completion.token_ids, completion.finish_reason)
        if name in self._unsaved:
            return
        # Beyond the answer's tokens is the choice to end.
        chosen = torch.full((len(draws.ranks),), -1, dtype=torch.int32)
        tokens = torch.tensor(completion.token_ids[: len(chosen)], dtype=torch.int32)
        chosen[: len(tokens)] = tokens
        self._unsaved[name] = chosen, draws
        self._bytes += sum(tensor.nbytes for tensor in draws.to_tensors().values())
        if self._bytes >= PART_BYTES:
            self._save_part()

    def write(
        self,
        candidates: Path,
        prompts: pd.DataFrame,
        heuristics: pd.DataFrame,
        decode: Callable[[Sequence[int]], str],
        stop: Sequence[str],
    ) -> None:
        """Write the shard: of the answers in the table `candidates`, those whose draws are known. Delete the parts.

        `decode` gives the text of tokens, and `stop` are the strings that end answers.
        """
        self._save_part()
        wanted = answers_to_record(candidates, prompts, heuristics, RECORDED_SPLITS, self.recording.steps, 0, 1)
        wanted = without_ends_by_strings(wanted, decode, stop)
        shard = SketchShard.room(wanted, self.recording.top + self.recording.tail)
        known = shard.take_over_files([self.path, *self.others, *self._parts], self.fingerprint)
        if not known.all():
            shard = shard.only(np.flatnonzero(known))
        shard.save(self.path, self.fingerprint)
        for part in self._parts:
            part.unlink(missing_ok=True)

    def _save_part(self) -> None:
        if not self._unsaved:
            return
        chosen, draws = zip(*self._unsaved.values(), strict=True)
        # Unlike any that a killed job has left.
        last = max((int(part.suffix.removeprefix(".")) for part in self._parts), default=-1)
        self._parts.append(Path(f"{self.path}.part.{last + 1:05d}"))
        shard = SketchShard(list(self._unsaved), torch.cat(chosen), RecordedDraws.joined(draws))
        shard.save(self._parts[-1], self.fingerprint)
        self._unsaved, self._bytes = {}, 0
