"""Keeps everybody out of a server who does not have its key, whatever the path.

An ASGI middleware, as web servers in Python take it, for servers whose own check of keys leaves some paths open.
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar

Message = MutableMapping[str, Any]


class Gate:
    """Answers 401 to requests without the key, and closes websockets.

    Attributes
    ----------
    key : of this process's server; nobody is let in before it is set.
    """

    key: ClassVar[str | None] = None

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan" or self._is_let_in(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error": "Unauthorized"}'})

    def _is_let_in(self, scope: Message) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if self.key is None or len(given) != 1:
            return False
        return secrets.compare_digest(given[0], f"Bearer {self.key}".encode())
