"""A server on this machine that answers as infini-gram's API is documented to, and fails as it is told."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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

    def answer(self, payload: dict) -> tuple[int | None, dict, Any]:
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

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def do_POST(self) -> None:
            """Reply to a question."""
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                status, headers, body = api.answer(payload)
            if status is None:
                self.close_connection = True
                return
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
