"""A server on this machine that answers as infini-gram's API is documented to, and fails as it is told."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from json_server import Reply, json_server

INDEX = "v4_test_llama"


@dataclass
class Api:
    """A corpus behind the API.

    `faults` are used up first, one a request: status (None closes the connection), headers and body. `broken` tells
    which payloads never get a count.
    """

    corpus: list[int]
    encode: Callable[[str], list[int]] | None = None
    faults: list[tuple[int | None, dict, Any]] = field(default_factory=list)
    broken: Callable[[dict], bool] | None = None
    received: list[dict] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    url: str = ""

    def answer(self, payload: dict) -> Reply:
        """Status, headers and body of the reply to a payload."""
        self.times.append(time.monotonic())
        self.received.append(payload)
        if self.faults:
            return self.faults.pop(0)
        if payload["index"] != INDEX:
            return 200, {}, {"error": f"Invalid index: {payload['index']}"}
        if self.broken is not None and self.broken(payload):
            return 200, {}, {"error": "Internal server error"}
        assert payload["query_type"] == "count"
        span = payload["query_ids"] if "query_ids" in payload else self.encode(payload["query"])
        places = range(len(self.corpus) - len(span) + 1)
        count = sum(self.corpus[place : place + len(span)] == span for place in places)
        tokens = [str(token) for token in span]
        return 200, {}, {"count": count, "approx": False, "latency": 0.7, "token_ids": span, "tokens": tokens}

    def asked(self) -> list[tuple[int, ...]]:
        """The spans that were asked for, in order."""
        return [tuple(payload["query_ids"]) for payload in self.received if "query_ids" in payload]


@contextmanager
def serving(api: Api) -> Iterator[Api]:
    """The API at a free port of this machine."""
    lock = threading.Lock()

    def answer(_path: str, payload: dict, _headers: Mapping[str, str]) -> Reply:
        with lock:
            return api.answer(payload)

    with json_server(answer) as url:
        api.url = f"{url}/"
        yield api
