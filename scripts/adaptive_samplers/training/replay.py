"""Replay: selected answers read once by the base language model, every token-step kept as a sketch.

All training runs (architectures, weights, top k) read these sketches; none needs the language model again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output
from adaptive_samplers.hashing import content_id
from adaptive_samplers.heuristics import apply_along_answers, parse_processors
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.progress import progress
from adaptive_samplers.sketch import DistributionSketch, masked_log_softmax
from adaptive_samplers.stage import say
from adaptive_samplers.training.trainer import TokenSteps
from adaptive_samplers.versions import STAGE_VERSIONS

SPLITS = ("train", "validation", "test")
BATCH_SIZE = 8  # answers read at once
ANSWER_ID_BYTES = 8  # of `selection.answer_id`


@dataclass(frozen=True)
class SketchShard:
    """The sketches of some answers: answer i has the token-steps `starts[i]` to `starts[i + 1]`.

    Attributes
    ----------
    answer_ids : list of A hexadecimal ids
    starts : Tensor [A + 1] of int64
    token_ids : Tensor [N] of int32
        The token that was chosen at each step; -1 where the answer ended.
    chosen_log_probs : Tensor [N] of float32
        Its log-probability under the language model, in nats; 0 where the answer ended.
    sketch : DistributionSketch [N, S]
    """

    answer_ids: list[str]
    starts: Tensor
    token_ids: Tensor
    chosen_log_probs: Tensor
    sketch: DistributionSketch

    def save(self, path: Path, fingerprint: str) -> None:
        """Write one safetensors file, atomically."""
        ids = [list(bytes.fromhex(answer)) for answer in self.answer_ids]
        tensors = {
            "answer_ids": torch.tensor(ids, dtype=torch.uint8).reshape(len(ids), ANSWER_ID_BYTES),
            "starts": self.starts,
            "token_ids": self.token_ids,
            "chosen_log_probs": self.chosen_log_probs,
            **self.sketch.to_tensors(),
        }
        with atomic_output(path) as temporary:
            save_file(tensors, temporary, metadata={"fingerprint": fingerprint})

    @classmethod
    def load(cls, path: Path) -> "SketchShard":
        """Read a shard back."""
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        ids = [bytes(row).hex() for row in tensors["answer_ids"].numpy()]
        columns = [tensors[name] for name in ("starts", "token_ids", "chosen_log_probs")]
        return cls(ids, *columns, DistributionSketch.from_tensors(tensors))


def shard_fingerprint(path: Path) -> str | None:
    """What the sketches in a shard depend on, or None if there is no shard."""
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get("fingerprint")


def answers_of_shard(training_sets: Sequence[pd.DataFrame], shard: int, shards: int) -> pd.DataFrame:
    """The distinct answers of all training sets that belong to a shard, by the hash of the answer."""
    columns = ["answer_id", "prompt_token_ids", "token_ids", "finish_reason"]
    answers = pd.concat([table[columns] for table in training_sets]).drop_duplicates("answer_id")
    mine = answers["answer_id"].map(lambda i: int(i, 16) % shards == shard).astype(bool)
    return answers[mine].sort_values("answer_id", ignore_index=True)


def replay(answers: pd.DataFrame, model: LanguageModel, model_hash: str, top: int, tail: int, path: Path) -> None:
    """Sketch every token-step of `answers` into the shard at `path`.

    The steps of an answer are its tokens and, where it ended by itself, the choice to end. Sketches that the
    file holds already, made by the same model with the same numbers of points, are taken over.

    Raises
    ------
    UserError
        If an answer is longer than the model can read.
    """
    fingerprint = content_id([STAGE_VERSIONS["replay_distributions"], model_hash, str(model.model.dtype), top, tail])
    earlier = SketchShard.load(path) if shard_fingerprint(path) == fingerprint else None
    places = {answer: i for i, answer in enumerate(earlier.answer_ids)} if earlier else {}
    known = [places.get(answer) for answer in answers["answer_id"]]
    new = [row for row, place in enumerate(known) if place is None]
    say(f"{len(answers)} answers, {len(new)} of them not replayed before")

    lengths = [_steps(row) for row in answers.itertuples()]
    starts = torch.tensor(np.concatenate([[0], np.cumsum(lengths)]), dtype=torch.int64)
    points = top + tail
    sketch = DistributionSketch(torch.zeros(int(starts[-1]), points), torch.zeros(int(starts[-1]), points))
    chosen = torch.full((int(starts[-1]),), -1, dtype=torch.int32)
    chosen_log_probs = torch.zeros(int(starts[-1]))
    for row, (tokens, place) in enumerate(zip(answers["token_ids"], known, strict=True)):
        span = slice(int(starts[row]), int(starts[row + 1]))
        chosen[span][: len(tokens)] = torch.tensor(np.asarray(tokens), dtype=torch.int32)
        if place is not None:
            old = slice(int(earlier.starts[place]), int(earlier.starts[place + 1]))
            sketch.t[span], sketch.n[span] = earlier.sketch.t[old], earlier.sketch.n[old]
            chosen_log_probs[span] = earlier.chosen_log_probs[old]

    pairs = [(answers["prompt_token_ids"][row].tolist(), answers["token_ids"][row].tolist()) for row in new]
    for prompt, answer in pairs:
        if reason := model.refuse(len(prompt), len(answer)):
            raise UserError(f"replay: {reason}")
    bar = progress(total=len(new), description="replay", unit=" answers")
    for position, logits in model.answer_logits(pairs, BATCH_SIZE):
        row = new[position]
        made = DistributionSketch.from_logits(logits[: lengths[row]], top, tail)
        span = slice(int(starts[row]), int(starts[row + 1]))
        sketch.t[span], sketch.n[span] = made.t.cpu(), made.n.cpu()
        tokens = torch.tensor(pairs[position][1], dtype=torch.long, device=logits.device)
        log_probs, _ = masked_log_softmax(logits[: len(tokens)])
        chosen_log_probs[span][: len(tokens)] = log_probs.gather(1, tokens[:, None]).squeeze(1).cpu()
        bar.update()
    bar.close()
    SketchShard(answers["answer_id"].tolist(), starts, chosen, chosen_log_probs, sketch).save(path, fingerprint)


def _steps(row: pd.Series) -> int:
    return len(row.token_ids) + (row.finish_reason == "stop")


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
    """The token-steps of a training set with their targets: what the answer's own heuristic makes of the raw logits.

    Raises
    ------
    UserError
        If an answer is in none of the shards.
    """
    wanted: dict[str, list[str]] = {}
    for row in training_set.itertuples():
        wanted.setdefault(row.answer_id, []).append(row.processors)
    t, n, log_probs, starts, pipelines = [], [], [], [0], []
    for path in shards:
        shard = SketchShard.load(path)
        for place, answer in enumerate(shard.answer_ids):
            span = slice(int(shard.starts[place]), int(shard.starts[place + 1]))
            for processors in wanted.get(answer, []):
                t.append(shard.sketch.t[span])
                n.append(shard.sketch.n[span])
                log_probs.append(shard.chosen_log_probs[span])
                starts.append(starts[-1] + span.stop - span.start)
                pipelines.append(parse_processors(processors))
        found = set(shard.answer_ids)
        wanted = {answer: chains for answer, chains in wanted.items() if answer not in found}
    if wanted:
        raise UserError(
            f"{len(wanted)} answers of the training set are in no sketch shard, the first: {next(iter(wanted))}; "
            f"delete {[str(path) for path in shards]} and run again"
        )
    if not t:
        empty = torch.zeros(0, 1)
        return TokenSteps(empty, empty, empty, empty)
    t, n = torch.cat(t), torch.cat(n)
    target = apply_along_answers(t, n, starts, pipelines, torch.cat(log_probs))
    return TokenSteps(t, n, target.t, target.n)
