"""A server on this machine that takes chat completions as OpenAI's API is documented to, and fails as it is told."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from json_server import Reply, json_server

MODEL = "test-model"


def completion(text: str | None, top: dict[str, float] | None = None) -> dict[str, Any]:
    """A reply with this text; `top` are log-probabilities of its first token, the most probable first."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if top is not None:
        listed = [{"token": token, "logprob": value, "bytes": None} for token, value in top.items()]
        choice["logprobs"] = {"content": [{**listed[0], "top_logprobs": listed}], "refusal": None}
    return {"id": "x", "object": "chat.completion", "model": MODEL, "choices": [choice]}


@dataclass
class ChatApi:
    """A model behind the API.

    `reply` makes a completion of the question's text; or a status, headers and a body. `faults` are used up first, one
    a request: status (None closes the connection), headers and body; seconds to wait come as a number in their place.
    """

    reply: Callable[[str], Any]
    key: str | None = None
    faults: list[Any] = field(default_factory=list)
    received: list[dict] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, payload: dict, headers: Any) -> Reply:
        """Status, headers and body of the reply to a payload."""
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            self.times.append(time.monotonic())
            self.received.append(payload)
            fault = self.faults.pop(0) if self.faults else None
        try:
            if isinstance(fault, int | float):
                time.sleep(fault)
            elif fault is not None:
                return fault
            if self.key and headers["Authorization"] != f"Bearer {self.key}":
                return 401, {}, {"error": {"message": f"Incorrect API key provided: {headers['Authorization']}"}}
            if payload["model"] != MODEL:
                return 404, {}, {"error": {"message": f"The model {payload['model']} does not exist"}}
            found = self.reply(payload["messages"][0]["content"])
            return found if isinstance(found, tuple) else (200, {}, found)
        finally:
            with self._lock:
                self._under_way -= 1


@contextmanager
def chatting(api: ChatApi) -> Iterator[ChatApi]:
    """The API at a free port of this machine."""

    def answer(path: str, payload: dict | None, headers: Mapping[str, str]) -> Reply:
        if payload is None:
            return 200, {}, {"object": "list", "data": [{"id": MODEL}]}
        if path != "/v1/chat/completions":
            return 404, {}, {"error": {"message": "no such path"}}
        return api.answer(payload, headers)

    with json_server(answer) as url:
        api.url = f"{url}/v1"
        yield api
