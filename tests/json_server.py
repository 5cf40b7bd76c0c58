"""An HTTP server on this machine that replies to JSON with JSON, or breaks off, as a function tells it."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int | None, dict[str, str], Any]  # status (None closes the connection), headers and body


@contextmanager
def json_server(answer: Callable[[str, Any, Mapping[str, str]], Reply]) -> Iterator[str]:
    """The address of a server at a free port.

    `answer` gets the path, what was posted (None for a GET) and the headers; requests may come at the same time. A body
    of bytes is sent as it is.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def do_GET(self) -> None:
            """Reply to a question without a payload."""
            self.reply(None)

        def do_POST(self) -> None:
            """Reply to a payload."""
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, payload: Any) -> None:
            status, headers, body = answer(self.path, payload, self.headers)
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
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
