"""In-process generation with a Hugging Face causal language model.

One batch mixes prompts, heuristics and seeds. Two things make it cheap. A prompt is prefilled once, however many
answers it has. And answers share the language model's work while their tokens agree: heuristics see the same uniform
numbers, so many of them choose the same token, and a row of the batch is a distinct prefix rather than an answer.
Rows split when their tokens differ. Prompts are admitted as others finish, so that the batch stays full.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from adaptive_samplers.engines.base import Completion, Recording, Request, cut_before
from adaptive_samplers.engines.drawing import Draws, draw_tokens
from adaptive_samplers.models.language_model import LanguageModel
from adaptive_samplers.off_policy.draws import RecordedDraws, likeliest, ranks_and_log_probs
from adaptive_samplers.sketch import DistributionSketch

READ_AT_ONCE = 8  # given answers; the logits of all their tokens are in memory


# Of a step that is recorded: points and counts of the sketch, rank and log-probability of what was drawn.
_Step = tuple[Tensor, Tensor, int, float]


@dataclass
class _Answer:
    """An answer in flight: its request, what it has so far, and the row of the batch that holds its prefix.

    Answers may share a row, but a pipeline's state belongs to one answer only.
    """

    request: Request
    completion: Completion
    draws: Draws
    row: int
    cut: bool = False  # its tokens are complete without an end-of-turn token
    finished: bool = False
    recorded: list[_Step] = field(default_factory=list)

    @property
    def is_recorded(self) -> bool:
        """Whether its next step is recorded."""
        recording = self.request.recording
        return recording is not None and (recording.steps is None or len(self.recorded) < recording.steps)

    def recorded_draws(self) -> RecordedDraws | None:
        """The steps that were recorded, of an answer of which any was to be."""
        if self.request.recording is None:
            return None
        t, n, ranks, log_probs = zip(*self.recorded, strict=True)
        sketch = DistributionSketch(torch.stack(t), torch.stack(n))
        starts = torch.tensor([0, len(ranks)])
        return RecordedDraws(sketch, torch.tensor(ranks, dtype=torch.int32), torch.tensor(log_probs), starts)


class _Batch:
    """Key-value caches of distinct prefixes, left-padded to one length, with the logits that follow each prefix."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.cache: DynamicCache | None = None
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=model.device)
        self.logits = torch.zeros(0, 0, device=model.device)

    def prefill(self, prompts: Sequence[tuple[int, ...]]) -> None:
        """Add a row for each prompt after the existing rows."""
        token_ids, mask = self.model.left_padded(prompts)
        cache = DynamicCache()
        logits = self.model.next_logits(token_ids, mask, cache)
        if self.cache is None:
            self.cache, self.mask, self.logits = cache, mask, logits
            return
        old, new = self.mask.shape[1], mask.shape[1]
        total = max(old, new)
        for mine, other in zip(self.cache.layers, cache.layers, strict=True):
            mine.keys = torch.cat([_pad(mine.keys, total - old, 2), _pad(other.keys, total - new, 2)])
            mine.values = torch.cat([_pad(mine.values, total - old, 2), _pad(other.values, total - new, 2)])
        self.mask = torch.cat([_pad(self.mask, total - old, 1), _pad(mask, total - new, 1)])
        self.logits = torch.cat([self.logits, logits])

    def advance(self, parents: list[int], token_ids: list[int]) -> None:
        """Replace the rows: each new row is the prefix of a parent row and one token more."""
        if not parents:
            self.cache = None
            return
        if parents != list(range(len(self.mask))):
            self._select(torch.tensor(parents, device=self.model.device))
        ones = torch.ones(len(parents), 1, dtype=torch.long, device=self.model.device)
        self.mask = torch.cat([self.mask, ones], dim=1)
        step = torch.tensor(token_ids, device=self.model.device)[:, None]
        self.logits = self.model.next_logits(step, self.mask, self.cache)

    def _select(self, rows: Tensor) -> None:
        # Columns that are padding in every remaining row are dropped.
        mask = self.mask[rows]
        start = int(mask.any(0).to(torch.uint8).argmax())
        self.mask = mask[:, start:]
        for layer in self.cache.layers:
            layer.keys = layer.keys[:, :, start:].index_select(0, rows)
            layer.values = layer.values[:, :, start:].index_select(0, rows)


def _pad(tensor: Tensor, amount: int, dim: int) -> Tensor:
    """Put `amount` zeros before the entries along `dim`."""
    if not amount:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = amount
    return torch.cat([tensor.new_zeros(shape), tensor], dim=dim)


class TransformersEngine:
    """Samples answers with a language model in this process.

    Parameters
    ----------
    model : LanguageModel
    batch_size : int
        How many answers may be in flight at once. It bounds memory and does not change any answer.
    """

    name = "transformers"

    def __init__(self, model: LanguageModel, batch_size: int) -> None:
        self.model = model
        self.batch_size = batch_size

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """The token ids of a conversation, up to where the assistant's answer begins."""
        return self.model.encode_chat(messages)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text as an answer, without an end-of-turn token."""
        return self.model.encode_answer(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of an answer."""
        return self.model.decode(token_ids)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield completions as answers finish. Requests for the same prompt should be adjacent."""
        yield from self._read(requests)
        waiting = deque(self._by_prompt(requests))
        answers: list[_Answer] = []
        batch = _Batch(self.model)
        while waiting or answers:
            admitted: list[tuple[int, ...]] = []
            while waiting and (not answers or len(answers) + len(waiting[0][1]) <= self.batch_size):
                prompt, asked = waiting.popleft()
                refused = {index: self.model.refuse(len(prompt), requests[index].max_new_tokens) for index in asked}
                yield from (Completion(index, error=reason) for index, reason in refused.items() if reason)
                indices = [index for index in asked if not refused[index]]
                if not indices:
                    continue
                row = len(batch.mask) + len(admitted) if batch.cache is not None else len(admitted)
                answers += [self._start(requests[index], index, row) for index in indices]
                admitted.append(prompt)
            if admitted:
                batch.prefill(admitted)
            if answers:
                yield from self._step(batch, answers)
                answers = [answer for answer in answers if not answer.finished]

    def _read(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """The log-probabilities of given answers."""
        indices = []
        for index, request in enumerate(requests):
            if request.given is None:
                continue
            if reason := self.model.refuse(len(request.prompt_token_ids), len(request.given)):
                yield Completion(index, error=reason)
            else:
                indices.append(index)
        for start in range(0, len(indices), READ_AT_ONCE):
            block = indices[start : start + READ_AT_ONCE]
            pairs = [(requests[index].prompt_token_ids, requests[index].given) for index in block]
            for index, (tokens, ends) in zip(block, self.model.score_answers(pairs, READ_AT_ONCE), strict=True):
                given = list(requests[index].given)
                yield Completion(index, given, self.model.decode(given), "stop", None, tokens, ends)

    def _by_prompt(self, requests: Sequence[Request]) -> list[tuple[tuple[int, ...], list[int]]]:
        """Requests grouped by prompt, in parts that fit the batch."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, request in enumerate(requests):
            if request.given is None:
                groups.setdefault(request.prompt_token_ids, []).append(index)
        size = self.batch_size
        return [(p, ids[i : i + size]) for p, ids in groups.items() for i in range(0, len(ids), size)]

    def _start(self, request: Request, index: int, row: int) -> _Answer:
        completion = Completion(index, token_logprobs=[], end_logprobs=[])
        draws = Draws.start(request.pipeline, request.sample_seed, request.max_new_tokens)
        return _Answer(request, completion, draws, row)

    def _step(self, batch: _Batch, answers: list[_Answer]) -> Iterator[Completion]:
        """Draw one token for every answer; yield those that end and advance the rest."""
        logprobs = torch.log_softmax(batch.logits.float(), dim=-1)
        finite = logprobs.amax(dim=-1).isfinite().tolist()
        if not all(finite):
            for answer in answers:
                if not finite[answer.row]:
                    answer.finished = True
                    yield self._overflowed(answer)
        ends = torch.logsumexp(logprobs[:, self.model.end_token_ids], dim=-1).tolist()
        answers = [answer for answer in answers if not answer.finished]
        for answer in answers:
            answer.completion.end_logprobs.append(ends[answer.row])
        drawing = [answer for answer in answers if not answer.cut]
        if drawing:
            self._draw(batch.logits, logprobs, drawing)
        for answer in answers:
            # A cut-off answer needed this step only for the log-probability of ending after its last token.
            if answer.finished or (
                answer.cut and len(answer.completion.end_logprobs) > len(answer.completion.token_ids)
            ):
                yield self._finish(answer)
        # Answers with the same prefix and the same next token continue as one row.
        children: dict[tuple[int, int], int] = {}
        for answer in answers:
            if not answer.finished:
                edge = (answer.row, answer.completion.token_ids[-1])
                answer.row = children.setdefault(edge, len(children))
        batch.advance([parent for parent, _ in children], [token for _, token in children])

    def _overflowed(self, answer: _Answer) -> Completion:
        """An answer for which the model gave no distribution."""
        dtype = str(self.model.model.dtype).removeprefix("torch.")
        place = len(answer.completion.token_ids)
        return Completion(
            answer.completion.index,
            error=f"the model's logits after {place} tokens of the answer are not finite in {dtype}, "
            "whose range they may exceed; set model.dtype to bfloat16 or float32",
        )

    def _draw(self, logits: Tensor, logprobs: Tensor, drawing: list[_Answer]) -> None:
        """Append the next token to every answer, or mark it as finished."""
        places = [len(answer.completion.token_ids) for answer in drawing]
        rows = [answer.row for answer in drawing]
        sketches = _sketches(logits, [answer for answer in drawing if answer.is_recorded])
        drawn = draw_tokens(logprobs, rows, [answer.draws for answer in drawing], places)
        for answer, token, value, rank in zip(drawing, *drawn, strict=True):
            completion, request = answer.completion, answer.request
            is_end = token in self.model.end_token_set
            if answer.is_recorded:
                draw = self._end_draw(logits[answer.row], token, rank, value) if is_end else (rank, value)
                answer.recorded.append((*sketches[request.recording, answer.row], *draw))
            if is_end:
                completion.finish_reason = "stop"
                answer.finished = True
                continue
            completion.token_ids.append(token)
            completion.token_logprobs.append(value)
            if request.stop and self._stopped(answer):
                completion.finish_reason, answer.cut = "stop", True
            elif len(completion.token_ids) == request.max_new_tokens:
                completion.finish_reason, answer.cut = "length", True

    def _end_draw(self, logits: Tensor, token: int, rank: int, value: float) -> tuple[int, float]:
        """What is recorded of an answer that `token` ended: the draw of the most probable of the tokens that end one.

        Answers that differ in that token only are the same answer.
        """
        end = likeliest(logits, self.model.end_token_ids)
        if int(end) == token:
            return rank, value
        return tuple(one.item() for one in ranks_and_log_probs(logits[None], end))

    def _stopped(self, answer: _Answer) -> bool:
        return cut_before(self.model.decode(answer.completion.token_ids), answer.request.stop) is not None

    def _finish(self, answer: _Answer) -> Completion:
        answer.finished = True
        completion = answer.completion
        text = self.model.decode(completion.token_ids)
        cut = cut_before(text, answer.request.stop)
        completion.text = text if cut is None else cut
        completion.draws = answer.recorded_draws()
        return completion


def _sketches(logits: Tensor, answers: Sequence[_Answer]) -> dict[tuple[Recording, int], tuple[Tensor, Tensor]]:
    """What the next step of answers draws from: points and counts, in the processor's memory, once for each row."""
    rows: dict[Recording, dict[int, None]] = {}
    for answer in answers:
        rows.setdefault(answer.request.recording, {})[answer.row] = None
    sketches = {}
    for recording, of_recording in rows.items():
        made = DistributionSketch.from_logits(logits[list(of_recording)], recording.top, recording.tail)
        for row, t, n in zip(of_recording, made.t.cpu(), made.n.cpu(), strict=True):
            sketches[recording, row] = t, n
    return sketches


def open_transformers(config: dict[str, Any], model_folder: Path, log: Path) -> TransformersEngine:
    """The engine with the base model in `model_folder`; nothing writes a log."""
    return TransformersEngine(LanguageModel.from_config(config, model_folder), config.generation.batch_size)
