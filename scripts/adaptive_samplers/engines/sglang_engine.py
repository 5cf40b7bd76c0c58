"""Generation by SGLang servers: one that the job owns, or external endpoints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

from adaptive_samplers.engines.base import Completion, Request, cut_before, sampler_hashes
from adaptive_samplers.heuristics import Pipeline
from adaptive_samplers.heuristics.pipelines import Processor
from adaptive_samplers.heuristics.registry import LEARNED
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer
from adaptive_samplers.serving.pool import EndpointPool, Reply
from adaptive_samplers.serving.processor import FIELD, request_parameters, serialized
from adaptive_samplers.serving.service import serve


class SGLangEngine:
    """Samples answers through SGLang; our own processor in the server makes all draws.

    Parameters
    ----------
    tokenizer : ChatTokenizer
    serve : callable
        Provides the service while answers are needed: a context manager that yields an `EndpointPool`.
    """

    name = "sglang"

    def __init__(self, tokenizer: ChatTokenizer, serve: Callable[[], AbstractContextManager[EndpointPool]]) -> None:
        self.tokenizer = tokenizer
        self.serve = serve

    @contextmanager
    def kept_open(self) -> Iterator["SGLangEngine"]:
        """An engine that has the service as long as the context lasts, rather than for each call of `generate`."""
        with self.serve() as pool:
            yield SGLangEngine(self.tokenizer, lambda: nullcontext(pool))

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
        payloads = Payloads([requests[place] for place in places], self.tokenizer.end_token_ids)
        with self.serve() as pool:
            for number, reply in pool.run("/generate", payloads):
                yield self.completion(places[number], requests[places[number]], reply)

    def completion(self, index: int, request: Request, reply: Reply) -> Completion:
        """What a server's reply to a request says."""
        if reply.error is not None:
            return Completion(index, error=reply.error)
        information = reply.json.get("meta_info", {})
        records = information.get(FIELD) or []
        failure = next((record["error"] for record in records if isinstance(record, Mapping)), None)
        if failure is not None:
            return Completion(index, error=f"the processor failed in the server: {failure}")
        reason = information.get("finish_reason") or {}
        if reason.get("type") != "stop" or len(records) != len(reply.json["output_ids"]):
            return Completion(index, error=f"the server ended the answer too early: {reason}")
        # The last token is an end-of-turn token, drawn or appended.
        token_ids = reply.json["output_ids"][:-1]
        text = self.tokenizer.decode(token_ids)
        cut = cut_before(text, request.stop)
        return Completion(
            index,
            token_ids=token_ids,
            text=text if cut is None else cut,
            finish_reason="length" if len(token_ids) == request.max_new_tokens and cut is None else "stop",
            token_logprobs=[record[0] for record in records[:-1]],
            end_logprobs=[record[1] for record in records],
        )


class Payloads(Sequence):
    """The bodies of requests to SGLang's `/generate`, each made when it is sent."""

    def __init__(self, requests: Sequence[Request], end_token_ids: list[int]) -> None:
        self.requests = requests
        self.end_token_ids = end_token_ids
        self.hashes = sampler_hashes({_located(request.pipeline) for request in requests})
        self.processor = serialized()

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
        return {
            "input_ids": list(request.prompt_token_ids),
            "sampling_params": {
                # One more token than the answer may have: there the processor measures the cost of ending, and ends.
                "max_new_tokens": request.max_new_tokens + 1,
                "temperature": 0.0,
                "stop_token_ids": self.end_token_ids,
                "custom_params": parameters,
            },
            "custom_logit_processor": self.processor,
        }


@cache
def _located(pipeline: Pipeline) -> Pipeline:
    """The pipeline with absolute paths: a server has a working directory of its own."""
    return tuple(
        Processor(LEARNED, (str(Path(step.folder).resolve()), *step.values[1:])) if step.name == LEARNED else step
        for step in pipeline
    )


def open_sglang(config: dict[str, Any], model_folder: Path, log: Path) -> SGLangEngine:
    """The engine with the base model in `model_folder`; a server's output goes into a file next to `log`."""
    model, settings = config.model, config.generation.sglang
    tokenizer = ChatTokenizer(model_folder, model.trust_remote_code)
    return SGLangEngine(tokenizer, partial(serve, settings, model, model_folder, log.with_suffix(".server.log")))
