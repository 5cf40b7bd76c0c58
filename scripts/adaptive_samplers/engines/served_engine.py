"""What all engines behind servers share: one that the job owns, or external endpoints."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Self

from adaptive_samplers.engines.base import Completion, Request, cut_before, sampler_hashes
from adaptive_samplers.heuristics import Pipeline
from adaptive_samplers.heuristics.pipelines import Processor
from adaptive_samplers.heuristics.registry import LEARNED
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.serving.kinds import SERVERS
from adaptive_samplers.serving.pool import EndpointPool, Reply
from adaptive_samplers.serving.processor import request_parameters
from adaptive_samplers.serving.service import serve


class ServedEngine:
    """Samples answers through a server, in which our own processor makes all draws.

    Attributes
    ----------
    name : of the engine, and of its kind of server.
    path : where its requests go.

    Parameters
    ----------
    tokenizer : ChatTokenizer
    serve : callable
        Provides the service while answers are needed: a context manager that yields an `EndpointPool`.
    """

    name: ClassVar[str]
    path: ClassVar[str]

    def __init__(self, tokenizer: ChatTokenizer, serve: Callable[[], AbstractContextManager[EndpointPool]]) -> None:
        self.tokenizer = tokenizer
        self.serve = serve

    @classmethod
    def from_config(cls, config: Any, model_folder: Path, log: Path) -> Self:
        """The engine with the base model in `model_folder`; a server's output goes into a file next to `log`."""
        model, settings = config.model, getattr(config.generation, cls.name)
        tokenizer = ChatTokenizer(model_folder, model.trust_remote_code)
        log = log.with_suffix(".server.log")
        return cls(tokenizer, partial(serve, SERVERS[cls.name], settings, model, model_folder, log))

    @contextmanager
    def kept_open(self) -> Iterator[Self]:
        """An engine that has the service as long as the context lasts, rather than for each call of `generate`."""
        with self.serve() as pool:
            yield type(self)(self.tokenizer, lambda: nullcontext(pool))

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        """The token ids of a conversation, up to where the assistant's answer begins."""
        return self.tokenizer.encode_chat(messages)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text as an answer, without an end-of-turn token."""
        return self.tokenizer.encode_answer(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of an answer."""
        return self.tokenizer.decode(token_ids)

    def generate(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yield completions as answers finish, in any order, one for each request."""
        refused = {}
        for index, request in enumerate(requests):
            if reason := self.tokenizer.refuse(len(request.prompt_token_ids), request.max_new_tokens):
                refused[index] = reason
        yield from (Completion(index, error=reason) for index, reason in refused.items())
        places = [index for index in range(len(requests)) if index not in refused]
        if not places:
            return
        payloads = self.payloads([requests[place] for place in places])
        with self.serve() as pool:
            for number, reply in pool.run(self.path, payloads):
                yield self.completion(places[number], requests[places[number]], reply)

    @abstractmethod
    def payloads(self, requests: Sequence[Request]) -> "Payloads":
        """The bodies of requests."""

    @abstractmethod
    def completion(self, index: int, request: Request, reply: Reply) -> Completion:
        """What a server's reply to a request says."""

    def completed(
        self,
        index: int,
        request: Request,
        token_ids: list[int],
        token_logprobs: list[float],
        end_logprobs: list[float],
    ) -> Completion:
        """The completion with these tokens, which leave out the end-of-turn token, drawn or appended."""
        text = self.tokenizer.decode(token_ids)
        cut = cut_before(text, request.stop)
        return Completion(
            index,
            token_ids=token_ids,
            text=text if cut is None else cut,
            finish_reason="length" if len(token_ids) == request.max_new_tokens and cut is None else "stop",
            token_logprobs=token_logprobs,
            end_logprobs=end_logprobs,
        )


class Payloads(Sequence):
    """The bodies of requests to a server, each made when it is sent."""

    def __init__(self, requests: Sequence[Request], end_token_ids: list[int]) -> None:
        self.requests = requests
        self.end_token_ids = end_token_ids
        self.hashes = sampler_hashes({_located(request.pipeline) for request in requests})

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> dict[str, Any]:
        request = self.requests[index]
        pipeline = _located(request.pipeline)
        used = {step.folder for step in pipeline if step.name == LEARNED}
        parameters = request_parameters(
            pipeline,
            request.sample_seed,
            request.max_new_tokens,
            request.stop,
            self.end_token_ids,
            {path: self.hashes[path] for path in used},
            request.given,
        )
        return self.payload(request, parameters)

    @abstractmethod
    def payload(self, request: Request, parameters: dict[str, Any]) -> dict[str, Any]:
        """The body of a request, for whose token draws the processor gets `parameters`."""


@cache
def _located(pipeline: Pipeline) -> Pipeline:
    """The pipeline with absolute paths: a server has a working directory of its own."""
    return tuple(
        Processor(LEARNED, (str(Path(step.folder).resolve()), *step.values[1:])) if step.name == LEARNED else step
        for step in pipeline
    )
