"""What a vLLM server runs at every token: one logits processor for all heuristics and learned samplers.

    --logits-processors adaptive_samplers.serving.vllm_processor:PipelineProcessor

Where this library is installed, vLLM finds it by its entry point without that flag. A request says in `vllm_xargs`
what it asks (`vllm_request`); rows of others are left as they are. The processor draws the token itself and leaves it
as the only one with a finite logit, so that vLLM's own sampling has nothing to decide.

vLLM has two model runners with an interface each, and `PipelineProcessor` implements both. What it does is in
`Answers`, which knows nothing of vLLM: a token follows from its request, its place in the answer, and the state after
the tokens before it. So it does not matter in which row a request is, how often a step is made, or whether the steps of
several tokens are made at once, as in speculative decoding.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adaptive_samplers.engines.drawing import Draws
from adaptive_samplers.heuristics import State, initial_state, is_stateful
from adaptive_samplers.serving.next_tokens import check_samplers, is_complete, next_tokens, parsed
from adaptive_samplers.serving.request import FIELD, Refused, check_loads
from adaptive_samplers.serving.vllm_request import last_token, read_request

if TYPE_CHECKING:
    from vllm.config import VllmConfig

# vLLM shows what is logged below its own name.
LOG = logging.getLogger(f"vllm.{FIELD}")
# Answers that are in no row, of which the state is kept: a preempted one comes back, and does not say from where.
PARKED = 1024
# For how many of its last tokens an answer's state is kept: steps are made again for fewer than these.
KEPT = 64


@dataclass(eq=False)
class Answer:
    """An answer under way.

    Attributes
    ----------
    parameters : mapping
        What `read_request` has read.
    draws : Draws, or None
        None where nothing is to be drawn.
    prompt : tuple of int, or None
        The prompt, where it must be known: it tells stateful answers to the same parameters apart.
    token_ids : list of int
        The tokens so far; -1 where one is not known.
    states : dict of int to State
        Of a stateful pipeline, its state before the token at each place, for the last places.
    failure : str
        Why nothing more can be drawn, or nothing. Nobody can be told, so the answer ends with `failure_token_id`, which
        its sender may choose to know it by, or else as answers end.
    """

    parameters: Mapping[str, Any]
    draws: Draws | None = None
    prompt: tuple[int, ...] | None = None
    token_ids: list[int] = field(default_factory=list)
    states: dict[int, State] = field(default_factory=dict)
    failure: str = ""

    @property
    def stateful(self) -> bool:
        return self.draws is not None and is_stateful(self.draws.pipeline)

    @property
    def last_token(self) -> int:
        """The token with which it ends where it fails."""
        return self.parameters.get("failure_token_id", next(iter(self.parameters["end_token_ids"]), 0))

    def at(self, place: int) -> Draws:
        """The draws, in the state before the token at a place."""
        assert self.draws is not None
        if self.stateful:
            if place not in self.states:
                raise ValueError(f"the state of its pipeline before token {place} is not known")
            self.draws.state = self.states[place]
        return self.draws

    def append(self, place: int, token: int) -> None:
        """The token at a place has been drawn; what was drawn there and after it before does not count."""
        if self.failure:
            return
        self.token_ids[place:] = [-1] * (place - len(self.token_ids)) + [token]
        if self.stateful:
            assert self.draws is not None
            self.states[place + 1] = self.draws.state
            self.states.pop(place + 1 - KEPT, None)


class Answers:
    """All answers of a server: starts them, draws their tokens, and remembers those that were interrupted.

    Parameters
    ----------
    decode : function
        The text of a list of token ids, for stop strings.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self.decode = decode
        self.parked: deque[Answer] = deque(maxlen=PARKED)

    def start(self, params: Any) -> Answer | None:
        """The answer that a request asks of us, before its first token; None if it asks nothing."""
        try:
            read = read_request(params)
            if read is None:
                return None
            check_samplers(read["sampler_hashes"])
            if "given" in read:
                return Answer(read)
            draws = Draws.start(parsed(read["processors"]), read["sample_seed"], read["max_new_tokens"])
        except Exception as error:  # it was well when it was admitted; its row must not end the server
            LOG.exception("a request cannot be served any more")
            return Answer({"end_token_ids": [last_token(params)]}, failure=f"{type(error).__name__}: {error}")
        return Answer(read, draws, states={0: initial_state(draws.pipeline)} if is_stateful(draws.pipeline) else {})

    def resume(self, answer: Answer, prompt: Sequence[int], token_ids: Sequence[int], others: Iterable[Answer]) -> None:
        """Let a new answer go on after tokens that it has already.

        What the state of a stateful pipeline is then follows from the logits that the tokens were drawn from, which
        nobody has any more. So it is taken from the answer that drew them: one that is parked, or among the others.
        """
        answer.token_ids = list(token_ids)
        if not answer.stateful:
            return
        answer.prompt, place = tuple(prompt), len(token_ids)
        if not place:
            return
        for other in (*others, *self.parked):
            if (
                other is not answer
                and place in other.states
                and other.parameters == answer.parameters
                and other.prompt == answer.prompt
                and other.token_ids[:place] == answer.token_ids
            ):
                answer.states = dict(other.states)
                return
        answer.states = {}

    def park(self, answer: Answer | None) -> None:
        """An answer has lost its row, because it is done or for a while."""
        if answer is not None and answer.stateful:
            self.parked.append(answer)

    def draw(self, logits: Tensor, wanted: Sequence[tuple[int, Answer, int]]) -> None:
        """Draw tokens, and leave each as the only one with a finite logit in its row.

        Parameters
        ----------
        logits : Tensor [R, V], changed in place
        wanted : sequence of (row, answer, place)
            The rows of tokens that are drawn, each with the answer and the token's place in it. An answer may have
            several, one for each of successive places.
        """
        left = sorted(wanted, key=lambda one: one[2])
        while left:
            # What is drawn at a place depends on the token before it.
            seen: set[int] = set()
            now, later = [], []
            for one in left:
                (later if id(one[1]) in seen else now).append(one)
                seen.add(id(one[1]))
            self._draw_once(logits, now)
            left = later

    def _draw_once(self, logits: Tensor, wanted: Sequence[tuple[int, Answer, int]]) -> None:
        rows = torch.tensor([row for row, _, _ in wanted], device=logits.device)
        tokens = [0] * len(wanted)
        well = [i for i, (_, answer, _) in enumerate(wanted) if not answer.failure]
        if well:
            log_probs = torch.log_softmax(logits[rows[well]].float(), dim=-1)
            try:
                drawn = self._tokens(log_probs, [wanted[i] for i in well])
            except Exception:
                # One at a time, so that an error in one answer does not affect the others.
                drawn = [self._alone(log_probs[place : place + 1], wanted[i]) for place, i in enumerate(well)]
            for i, token in zip(well, drawn, strict=True):
                tokens[i] = token
        for i, (_, answer, _) in enumerate(wanted):
            if answer.failure:
                tokens[i] = answer.last_token if answer.last_token < logits.shape[1] else 0
        logits[rows] = -torch.inf
        logits[rows, torch.tensor(tokens, device=logits.device)] = 0.0
        for (_, answer, place), token in zip(wanted, tokens, strict=True):
            answer.append(place, token)

    def _tokens(self, log_probs: Tensor, wanted: Sequence[tuple[int, Answer, int]]) -> list[int]:
        """The next tokens [R] by log-probabilities `[R, V]`."""
        answers, places = [one[1] for one in wanted], [one[2] for one in wanted]
        if not bool(torch.isfinite(log_probs.amax(-1)).all()):
            raise ValueError("the model's logits are not numbers, or leave no token")
        complete = [
            is_complete(
                answer.parameters, place, lambda answer=answer, place=place: answer.token_ids[:place], self.decode
            )
            for answer, place in zip(answers, places, strict=True)
        ]
        parameters = [answer.parameters for answer in answers]
        tokens, _ = next_tokens(log_probs, parameters, places, complete, lambda row: answers[row].at(places[row]))
        vocabulary = log_probs.shape[1]
        if beyond := [token for token in tokens if not 0 <= token < vocabulary]:
            raise ValueError(f"the token {beyond[0]} is not among the model's {vocabulary}")
        return tokens

    def _alone(self, log_probs: Tensor, one: tuple[int, Answer, int]) -> int:
        try:
            return self._tokens(log_probs, [one])[0]
        except Exception as error:
            _, answer, place = one
            answer.failure = f"{type(error).__name__}: {error}"
            LOG.exception("token %d of an answer cannot be drawn; it ends there", place)
            return 0


class OldRunner:
    """The rows of vLLM's first model runner, which tells of every row that is added, removed, moved or swapped.

    Parameters
    ----------
    answers : Answers
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        # By row: the answer, and vLLM's own list of its tokens, which grows, and holds -1 for one that is under way.
        self.rows: dict[int, tuple[Answer, list[int]]] = {}

    def update(self, batch_update: Any) -> None:
        """Take over vLLM's `BatchUpdate`: removed, added, moved, in this order."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._put(row, None)
        for row, params, prompt, token_ids in batch_update.added:
            answer = self.answers.start(params)
            if answer is not None:
                others = [other for other, _ in self.rows.values()]
                self.answers.resume(answer, prompt or (), token_ids, others)
            self._put(row, None if answer is None else (answer, token_ids))
        for one, other, direction in batch_update.moved:
            moved, replaced = self.rows.pop(one, None), self.rows.pop(other, None)
            if direction.name == "SWAP":
                self._put(one, replaced)
            elif replaced is not None:
                self.answers.park(replaced[0])
            self._put(other, moved)

    def _put(self, row: int, entry: tuple[Answer, list[int]] | None) -> None:
        old = self.rows.pop(row, None)
        if old is not None:
            self.answers.park(old[0])
        if entry is not None:
            self.rows[row] = entry

    def apply(self, logits: Tensor) -> Tensor:
        """Draw for our rows of `logits` `[R, V]`, in place."""
        wanted = []
        for row, (answer, token_ids) in self.rows.items():
            place = len(token_ids)
            if answer.parameters.get("stop"):
                # vLLM may have let through another token than was drawn.
                known = zip(token_ids, [*answer.token_ids, *[-1] * place], strict=False)
                answer.token_ids = [ours if theirs < 0 else theirs for theirs, ours in known]
            wanted.append((row, answer, place))
        if wanted:
            self.answers.draw(logits, wanted)
        return logits


class NewRunner:
    """The slots of vLLM's Model Runner V2, which tells only of requests that are added.

    Parameters
    ----------
    answers : Answers
    states : vLLM's LogitsProcRequestState
        The tokens in each slot.
    """

    def __init__(self, answers: Answers, states: Any) -> None:
        self.answers = answers
        self.states = states
        self.slots: dict[int, Answer] = {}
        self.fresh: list[int] = []

    def add(self, slot: int, params: Any) -> bool:
        """A request enters a slot, perhaps one that another has left; whether it is ours."""
        self.answers.park(self.slots.pop(slot, None))
        answer = self.answers.start(params)
        if answer is None:
            return False
        self.slots[slot] = answer
        # Its tokens are in the slot only later; few need to be read, which takes a copy from the device.
        if answer.stateful or self.states.prefill_len.np[slot] > self.states.prompt_len.np[slot]:
            self.fresh.append(slot)
        return True

    def settle(self) -> None:
        """The tokens of the requests that were added are in their slots."""
        for slot in dict.fromkeys(self.fresh):
            if answer := self.slots.get(slot):
                prompt, length = int(self.states.prompt_len.np[slot]), int(self.states.prefill_len.np[slot])
                token_ids = self.states.all_token_ids.gpu[slot, :length].tolist()
                self.answers.resume(answer, token_ids[:prompt], token_ids[prompt:], self.slots.values())
        self.fresh.clear()

    def apply(self, logits: Tensor, context: Any) -> Tensor:
        """Draw for our rows of `logits` `[R, V]`, in place; `context` is vLLM's LogitsContext."""
        if not any(int(slot) in self.slots for slot in context.idx_mapping_np):
            return logits
        wanted = []
        slots, positions = context.expanded_idx_mapping.tolist(), context.pos.tolist()
        for row, (slot, position) in enumerate(zip(slots[: len(logits)], positions, strict=False)):
            # In the midst of a prompt, vLLM draws a token that it throws away.
            if slot in self.slots and position + 1 >= self.states.prefill_len.np[slot]:
                wanted.append((row, self.slots[slot], position + 1 - int(self.states.prompt_len.np[slot])))
        if wanted:
            self.answers.draw(logits, wanted)
        return logits


def validate(params: Any, config: VllmConfig | None) -> None:
    """Refuse a request that asks us for what cannot be done.

    Parameters
    ----------
    params : vLLM's SamplingParams
    config : the server's, if it is known

    Raises
    ------
    Refused
        With a sentence; vLLM answers HTTP 400.
    """
    read = read_request(params)
    if read is None:
        return
    check_loads(read)
    if config is None:
        return
    speculative = config.speculative_config
    if speculative is not None and not config.use_v2_model_runner:
        raise Refused(
            f"{FIELD}: this server decodes speculatively with vLLM's first model runner, which runs no processors "
            "then; start it without --speculative-config, or with VLLM_USE_V2_MODEL_RUNNER=1"
        )
    if speculative is not None and getattr(speculative, "rejection_sample_method", None) == "synthetic":
        raise Refused(
            f"{FIELD}: this server accepts drafted tokens at random (rejection_sample_method synthetic), whatever is "
            "drawn; start it with another method"
        )
    model = config.model_config
    if read["stop"] and model.skip_tokenizer_init:
        raise Refused(f"{FIELD}.stop: this server has no tokenizer (--skip-tokenizer-init); leave it out")
    vocabulary = model.get_vocab_size()
    for key in ("end_token_ids", "given", "failure_token_id"):
        tokens = read.get(key, [])
        for token in tokens if isinstance(tokens, list) else [tokens]:
            if token >= vocabulary:
                raise Refused(f"{FIELD}.{key}: {token} is no token of this model; allowed: below {vocabulary}")


def _server_config() -> VllmConfig | None:
    """The config of the server that is admitting a request, which vLLM does not hand to processors."""
    frame = sys._getframe(1)
    for _ in range(8):
        config = getattr(frame.f_locals.get("self"), "vllm_config", None)
        if config is not None:
            return config
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def _decoder(config: VllmConfig) -> Callable[[list[int]], str]:
    """The text of an answer; the server's tokenizer is loaded when it is first needed."""

    @cache
    def tokenizer() -> Any:
        from vllm.tokenizers import cached_tokenizer_from_config

        return cached_tokenizer_from_config(config.model_config)

    return lambda token_ids: tokenizer().decode(token_ids, skip_special_tokens=True)


@cache
def _processor_class() -> type:
    """The class for vLLM, which is imported only here."""
    from vllm.v1.sample.logits_processor.interface import LogitsProcessor as OldInterface
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as NewInterface

    class PipelineProcessor(OldInterface, NewInterface):
        """Draws the tokens of requests with `adaptive_samplers` in their `vllm_xargs`, in both model runners."""

        def __init__(self, vllm_config: VllmConfig, *others: Any) -> None:
            answers = Answers(_decoder(vllm_config))
            # The first model runner gives a device and whether memory is pinned, the other its requests' states.
            self.runner = NewRunner(answers, *others) if len(others) == 1 else OldRunner(answers)

        @classmethod
        def validate_params(cls, sampling_params: Any) -> None:
            validate(sampling_params, _server_config())

        def is_argmax_invariant(self) -> bool:
            """False: it must run at temperature 0, too."""
            return False

        def update_state(self, batch_update: Any) -> None:
            self.runner.update(batch_update)

        def add_request(self, req_idx: int, sampling_params: Any) -> bool:
            return self.runner.add(req_idx, sampling_params)

        def apply_staged_writes(self) -> None:
            self.runner.settle()

        def apply(self, logits: Tensor, *context: Any) -> Tensor:
            return self.runner.apply(logits, *context)

    PipelineProcessor.__module__, PipelineProcessor.__qualname__ = __name__, "PipelineProcessor"
    return PipelineProcessor


def __getattr__(name: str) -> Any:
    # So that this module can be imported without vLLM.
    if name == "PipelineProcessor":
        return _processor_class()
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
