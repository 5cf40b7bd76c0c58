"""Replay: the base language model reads the selected answers once, and every token-step is kept as a sketch.

All training runs (architectures, weights, top k) read these sketches; none needs the language model again.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adaptive_samplers.config.model.types import Split
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import full_disk_explained
from adaptive_samplers.heuristics import apply_along_answers, parse_processors
from adaptive_samplers.off_policy.draws import likeliest, ranks_and_log_probs
from adaptive_samplers.off_policy.shards import SketchShard, read_index, sketches_fingerprint
from adaptive_samplers.progress import progress
from adaptive_samplers.sketch import DistributionSketch
from adaptive_samplers.stage import say
from adaptive_samplers.training.trainer import TokenSteps

if TYPE_CHECKING:
    from adaptive_samplers.models.language_model import LanguageModel

SPLITS = get_args(Split)
BATCH_SIZE = 8  # answers per batch
PARTS = 10  # how often a job saves its progress
IN_MEMORY = 2**30  # bytes of token-steps; more go into a memory-mapped temporary file


def answers_of_shard(training_sets: Sequence[pd.DataFrame], shard: int, shards: int) -> pd.DataFrame:
    """The distinct answers of all training sets that belong to a shard, by the hash of the answer."""
    columns = ["answer_id", "prompt_token_ids", "token_ids", "finish_reason"]
    answers = pd.concat([table[columns] for table in training_sets]).drop_duplicates("answer_id")
    mine = answers["answer_id"].map(lambda i: int(i, 16) % shards == shard).astype(bool)
    return answers[mine].sort_values("answer_id", ignore_index=True)


def replay(
    answers: pd.DataFrame,
    model: "LanguageModel",
    model_hash: str,
    top: int,
    tail: int,
    path: Path,
    others: Sequence[Path] = (),
) -> None:
    """Sketch every token-step of `answers` into the shard at `path`.

    The steps of an answer are its tokens and, if it ended by itself, the choice to end. Sketches already in the file or
    in `others`, made by the same model with the same numbers of points, are reused; so are those in `{path}.part.*`,
    where a killed job leaves its progress.

    Raises
    ------
    UserError
        If an answer is longer than the model can read.
    """
    fingerprint = sketches_fingerprint(model_hash, model.model.dtype, top, tail)
    parts = sorted(path.parent.glob(f"{path.name}.part.*"))
    shard = SketchShard.room(answers, top + tail)
    # Batches are made of all answers that the file lacks, so that they are the same after a kill.
    new = np.flatnonzero(~shard.take_over_files([path, *others], fingerprint))
    done = set(np.flatnonzero(shard.take_over_files(parts, fingerprint)[new]).tolist())
    left = len(new) - len(done)
    say(f"{len(answers)} answers, {left} of them not replayed before")

    pairs = [(answers["prompt_token_ids"][row].tolist(), answers["token_ids"][row].tolist()) for row in new]
    for prompt, answer in pairs:
        if reason := model.refuse(len(prompt), len(answer)):
            raise UserError(f"replay: {reason}")
    bar = progress(total=left, description="replay", unit=" answers")
    unsaved: list[int] = []
    for read, (position, logits) in enumerate(model.answer_logits(pairs, BATCH_SIZE, done), start=1):
        span = shard.draws.span(new[position])
        logits = logits[: span.stop - span.start]
        tokens = torch.tensor(pairs[position][1], dtype=torch.long, device=logits.device)
        if len(logits) > len(tokens):
            tokens = torch.cat([tokens, likeliest(logits[-1], model.end_token_ids)])
        made = DistributionSketch.from_logits(logits, top, tail)
        shard.fill(new[position], (made.t, made.n, *ranks_and_log_probs(logits, tokens)))
        unsaved.append(new[position])
        if len(unsaved) * PARTS >= left and read < left:
            # Only the new ones, because they are copied on their way to disk.
            parts.append(Path(f"{path}.part.{shard.answer_ids[unsaved[0]]}"))
            shard.only(np.array(unsaved)).save(parts[-1], fingerprint)
            unsaved = []
        bar.update()
    bar.close()
    shard.save(path, fingerprint)
    for part in parts:
        part.unlink(missing_ok=True)


def steps_of_splits(answers: pd.DataFrame, shards: Sequence[Path]) -> dict[str, TokenSteps]:
    """The token-steps of the answers to train on, to validate on and to test on, by the split of the prompt.

    Raises
    ------
    UserError
        If there is no answer in one of the splits, or an answer is in none of the shards.
    """
    steps = {}
    for split in SPLITS:
        steps[split] = token_steps(answers[answers["split"] == split], shards)
        say(f"{len(steps[split])} token-steps in the {split} split")
        if not len(steps[split]):
            raise UserError(
                f"no answer to a prompt of the {split} split was selected; select more answers (scoring.top_k) or "
                "prompts of this split (prompts.per_kind)"
            )
    return steps


def token_steps(training_set: pd.DataFrame, shards: Sequence[Path]) -> TokenSteps:
    """The token-steps of a training set with their targets: the raw logits as transformed by the answer's own
    heuristic.

    Raises
    ------
    UserError
        If an answer is in none of the shards.
    """
    wanted: dict[str, list[str]] = {}
    for row in training_set.itertuples():
        wanted.setdefault(row.answer_id, []).append(row.processors)
    missing, count, points = set(wanted), 0, 1
    for path in shards:
        ids, lengths, points = read_index(path)
        count += sum(length * len(wanted.get(answer, [])) for answer, length in zip(ids, lengths, strict=True))
        missing -= set(ids)
    if missing:
        raise UserError(
            f"{len(missing)} answers of the training set are in no sketch shard, the first: {min(missing)}; "
            f"delete {[str(path) for path in shards]} and run again"
        )
    steps, end = TokenSteps(*_room(4, count, points)), 0
    for path in shards:
        found = _steps_of_shard(SketchShard.load(path), wanted)
        if found is not None:
            start, end = end, end + len(found)
            steps.t[start:end], steps.n[start:end] = found.t, found.n
            steps.target[start:end], steps.kept[start:end] = found.target, found.kept
    return steps


def _steps_of_shard(shard: SketchShard, wanted: Mapping[str, list[str]]) -> TokenSteps | None:
    """The token-steps of the answers that are wanted, once for each of the processors that they are wanted for."""
    places, pipelines = [], []
    for place, answer in enumerate(shard.answer_ids):
        for processors in wanted.get(answer, []):
            places.append(place)
            pipelines.append(parse_processors(processors))
    if not places:
        return None
    draws = shard.draws.select(torch.tensor(places))
    t, n = draws.sketch.t, draws.sketch.n
    target = apply_along_answers(t, n, draws.starts.tolist(), pipelines, draws.log_probs)
    return TokenSteps(t, n, target.t, target.n)


def _room(tensors: int, *shape: int) -> list[Tensor]:
    """Space for a number of float32 tensors of a shape: in memory, or memory-mapped if large.

    Mapped files are in the temporary folder and already unlinked, so they disappear with the process, however it ends.
    """
    size = math.prod(shape)
    if 4 * size * tensors <= IN_MEMORY:
        return [torch.empty(shape) for _ in range(tensors)]
    mapped = []
    for _ in range(tensors):
        with NamedTemporaryFile(prefix="token_steps.") as file, full_disk_explained(Path(file.name)):
            # Writing to a mapped file on a full disk kills the process, so all of the space is allocated here.
            os.posix_fallocate(file.fileno(), 0, 4 * size)
            mapped.append(torch.from_file(file.name, shared=True, size=size).reshape(shape))
    return mapped
