"""vLLM's two model runners at play: rows and slots come, go, move and are reused, against what each answer should be.

Without vLLM, hypothesis plays with stand-ins of its classes; in vLLM's own environment, a script plays with the real
ones. So nothing here needs pytest, hypothesis or vLLM.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaptive_samplers.engines.drawing import Draws, draw_tokens
from adaptive_samplers.hashing import content_number
from adaptive_samplers.heuristics import configured_pipeline
from adaptive_samplers.serving.request import FIELD

VOCABULARY, ENDS, LONGEST = 120, [7, 9], 12


class MoveDirectionality(Enum):
    """As vLLM's."""

    UNIDIRECTIONAL = auto()
    SWAP = auto()


@dataclass(frozen=True)
class BatchUpdate:
    """As vLLM's."""

    batch_size: int
    removed: Sequence[int]
    added: Sequence[tuple]
    moved: Sequence[tuple]


def sampling_params(**changes: Any) -> SimpleNamespace:
    """What the processor sees of vLLM's SamplingParams."""
    own = {"n": 1, "max_tokens": LONGEST, "seed": None, "stop_token_ids": [], "_all_stop_token_ids": {*ENDS}}
    return SimpleNamespace(**{**own, "extra_args": None, "ignore_eos": False, **changes})


def decode(token_ids: list[int]) -> str:
    """The text of tokens: each is a letter."""
    return "".join(chr(ord("a") + token % 26) for token in token_ids)


def logits_after(prompt: Sequence[int], token_ids: Sequence[int]) -> Tensor:
    """The logits `[V]` of a made-up model after a prompt and an answer's tokens."""
    generator = torch.Generator().manual_seed(content_number([*prompt, -1, *token_ids]) % 2**63)
    logits = 3 * torch.randn(VOCABULARY, generator=generator)
    logits[ENDS] = -30.0
    return logits


@dataclass(eq=False)
class Asked:
    """A request, and the answer that it should get.

    Attributes
    ----------
    prompt : list of int
    own : mapping, or None
        What it asks of the processor; None if it is another's.
    answer : list of int
        Its first tokens, drawn one by one and alone.
    output : list of int
        Those that it got so far, as vLLM keeps them.
    """

    prompt: list[int]
    own: dict[str, Any] | None
    answer: list[int] = field(default_factory=list)
    output: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        own = self.own
        if own is None:
            generator = random.Random(content_number(self.prompt))
            self.answer = [generator.randrange(VOCABULARY) for _ in range(LONGEST)]
            return
        draws = Draws.start(configured_pipeline(own["processors"]), own.get("sample_seed", 0), LONGEST)
        longest = min(own.get("max_new_tokens", LONGEST), len(own.get("given", range(LONGEST))))
        while len(self.answer) < LONGEST:
            place = len(self.answer)
            if place >= longest or any(one in decode(self.answer) for one in own.get("stop", [])):
                token = own.get("end_token_ids", ENDS)[0]
            elif "given" in own:
                token = own["given"][place]
            else:
                log_probs = logits_after(self.prompt, self.answer).log_softmax(-1)[None]
                [token] = draw_tokens(log_probs, [0], [draws], [place]).token_ids
            self.answer.append(token)

    @property
    def extra_args(self) -> dict[str, str] | None:
        return None if self.own is None else {FIELD: json.dumps(self.own)}

    def check(self, logits: Tensor, place: int, raw: Tensor) -> None:
        """The processor's row at a place of the answer is right, if all tokens before were."""
        if self.own is None:
            assert logits.equal(raw), "a row of others was changed"
            return
        assert logits.isfinite().nonzero().flatten().tolist() == [self.answer[place]], (place, self.own)
        assert logits[self.answer[place]] == 0


def asked_at_random(chance: random.Random, sampler: str) -> Asked:
    """Few different requests, so that answers with the same state and parameters meet."""
    mirostat = [{"mirostat": {"tau": chance.choice([2.0, 3.0]), "eta": 0.9}}]
    chains = [mirostat, mirostat, [{"temperature": 0.7}, {"top_p": 0.9}], [{"min_p": 0.1}], [{"learned": sampler}]]
    own: dict[str, Any] | None = {"processors": chance.choice(chains), "sample_seed": chance.randrange(2)}
    kind = chance.randrange(8)
    if kind == 0:
        own = None
    elif kind == 1:
        own |= {"stop": ["e", "q"], "end_token_ids": [11]}
    elif kind == 2:
        own |= {"max_new_tokens": 3}
    elif kind == 3:
        own = {"processors": [], "given": [5, 17, 4], "end_token_ids": ENDS}
    return Asked([chance.randrange(3) for _ in range(chance.randrange(1, 3))], own)


class Batch:
    """The rows of the first model runner, as vLLM's InputBatch keeps them and tells processors of them."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.rows: list[Asked | None] = []
        self.removed: list[int] = []
        self.added: list[tuple] = []
        self.moved: list[tuple] = []

    def remove(self, one: Asked) -> None:
        """Take a request out; its row is empty until `condense`."""
        self.removed.append(self.rows.index(one))
        self.rows[self.removed[-1]] = None

    def add(self, one: Asked) -> None:
        """Put a request into the first empty row; of one that is filled, nobody is told that it was empty."""
        row = min(self.removed, default=len(self.rows))
        if self.removed:
            self.removed.remove(row)
        self.rows[row : row + 1] = [one]
        params = sampling_params(extra_args=one.extra_args, max_tokens=LONGEST)
        self.added.append((row, params, one.prompt, one.output))

    def condense(self) -> None:
        """Move the last rows into empty ones."""
        while None in self.rows:
            last = self.rows.pop()
            if last is not None:
                row = min(self.removed)
                self.removed.remove(row)
                self.rows[row] = last
                self.moved.append((len(self.rows), row, MoveDirectionality.UNIDIRECTIONAL))

    def swap(self, one: int, other: int) -> None:
        """Exchange two rows."""
        self.rows[one], self.rows[other] = self.rows[other], self.rows[one]
        self.moved.append((one, other, MoveDirectionality.SWAP))

    def tell(self) -> None:
        """Tell the processor what has changed."""
        changed = self.removed or self.added or self.moved
        update = BatchUpdate(len(self.rows), sorted(self.removed, reverse=True), self.added, self.moved)
        self.processor.update_state(update if changed else None)
        self.removed, self.added, self.moved = [], [], []


def play_old_runner(chance: random.Random, steps: int, sampler: str, processor: Any, batch: Any) -> int:
    """Let the first model runner make some steps; how many tokens were drawn.

    Parameters
    ----------
    chance : the source of what happens
    processor : what `batch` tells of changes; has `apply`
    batch : Batch, or what does the same
    """
    waiting: list[Asked] = []
    asynchronous, drawn = chance.random() < 0.5, 0
    for _ in range(steps):
        waiting += [asked_at_random(chance, sampler) for _ in range(chance.randrange(3))]
        for one in list(batch.rows):
            if len(one.output) >= LONGEST:
                batch.remove(one)
            elif chance.random() < 0.15:
                batch.remove(one)
                if chance.random() < 0.8:
                    waiting.append(one)  # preempted, or passed over in this step
        for _ in range(chance.randrange(3)):
            if waiting and sum(one is not None for one in batch.rows) < 6:
                one = waiting.pop(chance.randrange(len(waiting)))
                one.output = one.answer[: len(one.output)]  # a new list, of tokens that are known by now
                batch.add(one)
        batch.condense()
        for _ in range(chance.randrange(3)):
            if len(batch.rows) > 1:
                batch.swap(*chance.sample(range(len(batch.rows)), 2))
        batch.tell()
        rows = list(batch.rows)
        if not rows:
            continue
        raw = torch.stack([logits_after(one.prompt, one.answer[: len(one.output)]) for one in rows])
        logits = processor.apply(raw.clone())
        for row, one in enumerate(rows):
            place = len(one.output)
            one.check(logits[row], place, raw[row])
            if place and one.output[-1] < 0:
                one.output[-1] = one.answer[place - 1]
            if chance.random() < 0.85:  # else it was in the midst of its prompt
                one.output.append(-1 if asynchronous else one.answer[place])
                drawn += one.own is not None
    return drawn


@dataclass
class Slots:
    """As vLLM's LogitsProcRequestState, as far as the processor reads it."""

    prompt_len: Any
    prefill_len: Any
    all_token_ids: Any

    @classmethod
    def of(cls, count: int) -> "Slots":
        lengths = [SimpleNamespace(np=np.zeros(count, dtype=np.int32)) for _ in range(2)]
        return cls(*lengths, SimpleNamespace(gpu=torch.zeros(count, 64, dtype=torch.int32)))


class SlotsOfRequests:
    """The slots of Model Runner V2, and what it calls of a processor.

    Parameters
    ----------
    make : function of the slots' states
        Gives the processor, which has `add_request`, `apply_staged_writes` and `apply`.
    """

    def __init__(
        self, make: Callable[[Any], Any], count: int = 5, context: Callable[..., Any] = SimpleNamespace
    ) -> None:
        self.states = Slots.of(count)
        self.free = list(range(count))
        self.processor = make(self.states)
        self.added: list[tuple[int, list[int]]] = []

    def params(self, one: Asked) -> Any:
        """The parameters of a request."""
        return sampling_params(extra_args=one.extra_args, max_tokens=LONGEST)

    def remove(self, slot: int, one: Asked) -> None:
        """A request is done, or preempted."""
        self.free.append(slot)

    def add(self, one: Asked) -> int:
        """Put a request into a slot; its tokens get there in `flush`."""
        slot, token_ids = self.free.pop(), [*one.prompt, *one.output]
        self.states.prompt_len.np[slot], self.states.prefill_len.np[slot] = len(one.prompt), len(token_ids)
        assert self.processor.add_request(slot, self.params(one)) == (one.own is not None)
        self.added.append((slot, token_ids))
        return slot

    def flush(self) -> None:
        """Write what has been staged, before the model runs."""
        for slot, token_ids in self.added:
            self.states.all_token_ids.gpu[slot] = -5
            self.states.all_token_ids.gpu[slot, : len(token_ids)] = torch.tensor(token_ids)
        self.added = []
        self.processor.apply_staged_writes()

    def apply(self, logits: Tensor, **layout: Any) -> Tensor:
        """What the processor makes of logits `[R, V]`."""
        return self.processor.apply(logits, SimpleNamespace(**layout))


def play_new_runner(chance: random.Random, steps: int, sampler: str, slots: Any, drafts: int = 0) -> int:
    """Let Model Runner V2 make some steps, with up to so many drafted tokens each; how many tokens were drawn.

    Parameters
    ----------
    chance : the source of what happens
    slots : SlotsOfRequests, or what does the same
    """
    running: dict[int, Asked] = {}
    waiting: list[Asked] = []
    drawn = 0
    for _ in range(steps):
        waiting += [asked_at_random(chance, sampler) for _ in range(chance.randrange(3))]
        for slot, one in list(running.items()):
            if len(one.output) >= LONGEST or chance.random() < 0.15:
                slots.remove(slot, running.pop(slot))
                if len(one.output) < LONGEST and chance.random() < 0.8:
                    waiting.append(one)
        for _ in range(chance.randrange(3)):
            if waiting and slots.free:
                one = waiting.pop(chance.randrange(len(waiting)))
                running[slots.add(one)] = one
        slots.flush()
        order = [slot for slot in running if chance.random() < 0.9]
        chance.shuffle(order)
        if not order:
            continue
        rows: list[tuple[int, int, int, int, Tensor]] = []  # slot, place in the step, input's position, input, logits
        drafted = {}
        for slot in order:
            one, done = running[slot], len(running[slot].output)
            at = len(one.prompt) + done - 1
            if chance.random() < 0.1:
                # In the midst of its prompt: the row is none of an answer.
                early = int(slots.states.prefill_len.np[slot]) - 2
                rows.append((slot, 0, early, 0, logits_after([99], [early])))
                drafted[slot] = None
                continue
            count = min(chance.randrange(drafts + 1), LONGEST - done - 1)
            right = chance.randrange(count + 1)
            drafted[slot] = one.answer[done : done + right]
            drafted[slot] += [chance.randrange(VOCABULARY) for _ in range(count - right)]
            history = one.answer[:done]
            for step, token in enumerate([([*one.prompt, *history])[-1], *drafted[slot]]):
                after = [*history, *drafted[slot][:step]]
                rows.append((slot, step, at + step, token, logits_after(one.prompt, after)))
        raw = torch.stack([row[4] for row in rows])
        logits = slots.apply(
            raw.clone(),
            expanded_idx_mapping=torch.tensor([row[0] for row in rows]),
            idx_mapping=torch.tensor(order),
            idx_mapping_np=np.array(order),
            expanded_local_pos=torch.tensor([row[1] for row in rows]),
            input_ids=torch.tensor([row[3] for row in rows]),
            pos=torch.tensor([row[2] for row in rows]),
            seq_lens_upper_bound_np=np.array([64] * len(order)),
        )
        for number, (slot, step, _, token, _) in enumerate(rows):
            one = running[slot]
            if drafted[slot] is None:
                assert logits[number].equal(raw[number]), "a row in the midst of a prompt was changed"
                continue
            done = len(one.output) - step
            if step and token != one.answer[done + step - 1]:
                drafted[slot] = drafted[slot][: step - 1]  # rejected, and all rows after it
            if step > len(drafted[slot]):
                continue
            one.check(logits[number], done + step, raw[number])
            one.output.append(one.answer[done + step])
            drawn += one.own is not None
    return drawn
