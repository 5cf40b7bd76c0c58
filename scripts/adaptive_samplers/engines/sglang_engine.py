"""Generation by SGLang servers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptive_samplers.engines import served_engine
from adaptive_samplers.engines.base import Completion, Request
from adaptive_samplers.engines.served_engine import ServedEngine
from adaptive_samplers.serving.pool import Reply
from adaptive_samplers.serving.processor import serialized
from adaptive_samplers.serving.request import FIELD


class SGLangEngine(ServedEngine):
    """Samples answers through SGLang."""

    name = "sglang"
    path = "/generate"

    def payloads(self, requests: Sequence[Request]) -> "Payloads":
        """The bodies of requests."""
        return Payloads(requests, self.tokenizer.end_token_ids)

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
        token_ids = reply.json["output_ids"][:-1]
        logprobs, ends = [record[0] for record in records[:-1]], [record[1] for record in records]
        return self.completed(index, request, token_ids, logprobs, ends)


class Payloads(served_engine.Payloads):
    """The bodies of requests to SGLang's `/generate`."""

    def __init__(self, requests: Sequence[Request], end_token_ids: list[int]) -> None:
        super().__init__(requests, end_token_ids)
        self.processor = serialized()

    def payload(self, request: Request, parameters: dict[str, Any]) -> dict[str, Any]:
        """The body of a request, for whose token draws the processor gets `parameters`."""
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


def open_sglang(config: Any, model_folder: Path, log: Path) -> SGLangEngine:
    """The engine with the base model in `model_folder`; a server's output goes into a file next to `log`."""
    return SGLangEngine.from_config(config, model_folder, log)
