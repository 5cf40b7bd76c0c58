"""A model behind a shared OpenAI-compatible API, local or remote.

In addition to what every pool of endpoints does, requests are rate-limited, a server's request to wait is honored, and
an error that every request would meet ends the run at once. The key comes from the environment and is not stored.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from adaptive_samplers.errors import UserError
from adaptive_samplers.serving.pace import Pace
from adaptive_samplers.serving.pool import Endpoint, EndpointPool, Reply

ATTEMPTS = 6  # of a request after transient errors: rate limits pass within about half a minute
GIVE_UP_AFTER = 20  # consecutive requests given up: later ones would fail too
# Refusals that every other request would meet too, and what to do about them.
REFUSED = {
    401: "the key is refused: see {key}",
    402: "the account has no money left",
    403: "the key may not be used for this: see {key}",
    404: "there is no such address or model: see base_url and model",
    405: "nothing there takes chat completions: see base_url",
}


@dataclass
class Api:
    """The server, as a pool sees it: alive as long as it replies at all.

    Attributes
    ----------
    url : its address, to which the paths of requests are appended.
    headers : sent with every request.
    session : requests.Session
    """

    url: str
    headers: dict[str, str] = field(repr=False)
    session: requests.Session = field(repr=False)

    def is_alive(self) -> bool:
        """Whether it replies at all."""
        try:
            self.session.get(f"{self.url}/models", headers=self.headers, timeout=10)
        except requests.RequestException:
            return False
        return True

    def revive(self) -> bool:
        """Whether it is up: nothing here can restart it."""
        return self.is_alive()

    def succeeded(self) -> None:
        """Does nothing."""


class ApiPool(EndpointPool):
    """Sends requests to one API.

    Parameters
    ----------
    url : str
        Its address, such as https://api.openai.com/v1.
    key_variable : str or None
        The environment variable that holds the key; None sends none.
    concurrency : int
        Concurrent requests.
    timeout : float
        Seconds that a request may take.
    requests_per_second : float or None

    Raises
    ------
    UserError
        If the variable is not set.
    """

    def __init__(
        self, url: str, key_variable: str | None, concurrency: int, timeout: float, requests_per_second: float | None
    ) -> None:
        self._key = os.environ.get(key_variable, "") if key_variable else ""
        self._key_name = f"the environment variable {key_variable}" if key_variable else "api_key_variable"
        if key_variable and not self._key:
            raise UserError(
                f"the environment variable {key_variable}, which api_key_variable names, is not set; put the key of "
                f"{url} into it, or set api_key_variable to null if the server wants none"
            )
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        super().__init__([], concurrency, timeout, attempts=ATTEMPTS)
        # A cluster often needs a proxy to the outside, but credentials from ~/.netrc must not be used.
        self._session.trust_env = True
        self._session.auth = lambda request: request
        self.endpoints.append(Api(url.rstrip("/"), headers, self._session))
        self._pace = Pace(requests_per_second) if requests_per_second else None
        self._given_up = 0

    def run(self, path: str, payloads: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Reply]]:
        """Send every payload to `path` and yield its index with the reply, as replies arrive.

        Raises
        ------
        UserError
            As `EndpointPool.run`; also if the server refuses the key, the address or the model, or if `GIVE_UP_AFTER`
            consecutive requests had to be given up. Earlier replies were yielded before.
        """
        for index, reply in super().run(path, payloads):
            self._given_up = self._given_up + 1 if reply.error is not None and reply.status is None else 0
            if self._given_up == GIVE_UP_AFTER:
                raise UserError(
                    f"{self.endpoints[0].url}: {GIVE_UP_AFTER} requests in a row got no answer; the last one: "
                    f"{reply.error}. Run again when the server is well: finished calls are kept"
                )
            yield index, reply

    def _send(self, endpoint: Endpoint, path: str, payload: dict[str, Any]) -> Reply:
        if self._pace:
            self._pace.wait()
        reply = super()._send(endpoint, path, payload)
        if reply.status in REFUSED:
            advice = REFUSED[reply.status].format(key=self._key_name)
            raise UserError(f"{endpoint.url}{path}: {advice}. {self._without_key(reply.error)}")
        return Reply(reply.json, self._without_key(reply.error), reply.status)

    def _without_key(self, text: str | None) -> str | None:
        # Some servers repeat the key in their error message.
        return text.replace(self._key, "[key]") if text and self._key else text
