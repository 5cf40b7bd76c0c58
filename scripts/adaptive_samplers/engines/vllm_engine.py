"""Generation by vLLM servers."""

import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from adaptive_samplers.engines import served_engine
from adaptive_samplers.engines.base import Completion, Request
from adaptive_samplers.engines.served_engine import ServedEngine
from adaptive_samplers.serving.pool import Reply
from adaptive_samplers.serving.request import FIELD
from adaptive_samplers.serving.vllm_replies import logprobs_of, single_choice


class VLLMEngine(ServedEngine):
    """Samples answers through vLLM, which measures the log-probabilities; the processor only draws."""

    name = "vllm"
    path = "/v1/completions"

    def payloads(self, requests: Sequence[Request]) -> "Payloads":
        """The bodies of requests."""
        return Payloads(requests, self.tokenizer.end_token_ids)

    def completion(self, index: int, request: Request, reply: Reply) -> Completion:
        """What a server's reply to a request says."""
        if reply.error is not None:
            return Completion(index, error=reply.error)
        try:
            choice = single_choice(reply.json)
            drawn = choice["token_ids"]
            measured = logprobs_of(choice)
            ends = [
                float(np.logaddexp.reduce([found[end] for end in self.tokenizer.end_token_ids])) for found in measured
            ]
            logprobs = [found[token] for found, token in zip(measured, drawn, strict=True)]
        except (KeyError, IndexError, TypeError, ValueError) as problem:
            return Completion(index, error=f"the server's reply cannot be read ({type(problem).__name__}: {problem})")
        if choice["finish_reason"] == "length":
            # Its processor ends every answer; all that it can do where it fails is to say another token forever.
            return Completion(index, error="the processor failed in the server, whose log says why")
        if choice["finish_reason"] != "stop" or drawn[-1] not in self.tokenizer.end_token_ids:
            reason = choice["finish_reason"], choice.get("stop_reason")
            return Completion(index, error=f"the server ended the answer too early: {reason}")
        return self.completed(index, request, drawn[:-1], logprobs[:-1], ends)


class Payloads(served_engine.Payloads):
    """The bodies of requests to vLLM's `/v1/completions`."""

    def __init__(self, requests: Sequence[Request], end_token_ids: list[int]) -> None:
        super().__init__(requests, end_token_ids)
        # Any that ends no answer.
        self.failure_token_id = next(token for token in count() if token not in end_token_ids)

    def payload(self, request: Request, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The body of a request, for whose token draws the processor gets `parameters`."""
        return {
            "prompt": list(request.prompt_token_ids),
            # One more token than the answer may have: there the processor ends it, and how probable that was is known.
            "max_tokens": request.max_new_tokens + 1,
            "temperature": 0.0,
            "stop_token_ids": self.end_token_ids,
            # Nothing else ends an answer.
            "ignore_eos": True,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            # Of the drawn token, and of these.
            "logprobs": 0,
            "logprob_token_ids": self.end_token_ids,
            "vllm_xargs": {FIELD: json.dumps({**parameters, "failure_token_id": self.failure_token_id})},
        }


def open_vllm(config: Any, model_folder: Path, log: Path) -> VLLMEngine:
    """The engine with the base model in `model_folder`; a server's output goes into a file next to `log`."""
    return VLLMEngine.from_config(config, model_folder, log)
