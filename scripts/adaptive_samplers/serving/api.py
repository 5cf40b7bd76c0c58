"""A model that somebody serves to many behind an OpenAI-compatible API, here or anywhere in the world.

Beside what every pool of endpoints does: requests keep to a rate, a server that asks to wait is waited for, and what
would go wrong with every request alike ends the run at once. The key comes from the environment and goes nowhere else.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests

from adaptive_samplers.errors import UserError
from adaptive_samplers.serving.pace import Pace
from adaptive_samplers.serving.pool import Endpoint, EndpointPool, Reply

ATTEMPTS = 6  # of a request that met a passing trouble: rate limits pass within half a minute or so
GIVE_UP_AFTER = 20  # requests in a row given up: no later one will fare better
# Refusals that every other request would meet as well, and what to do about them.
REFUSED = {
    401: "the key is refused: see {key}",
    402: "the account has no money left",
    403: "the key may not be used for this: see {key}",
    404: "there is no such address or model: see base_url and model",
    405: "nothing there takes chat completions: see base_url",
}


@dataclass
class Api:
    """The server, as a pool sees it: there as long as it says anything at all.

    Attributes
    ----------
    url : its address, up to what the paths of requests are added to.
    headers : what goes with every request.
    session : requests.Session
    """

    url: str
    headers: dict[str, str] = field(repr=False)
    session: requests.Session = field(repr=False)

    def is_alive(self) -> bool:
        """Whether it replies, with whatever."""
        try:
            self.session.get(f"{self.url}/models", headers=self.headers, timeout=10)
        except requests.RequestException:
            return False
        return True

    def revive(self) -> bool:
        """Whether it is there: nothing here can bring it back."""
        return self.is_alive()

    def succeeded(self) -> None:
        """Nothing to remember."""


class ApiPool(EndpointPool):
    """Sends requests to one API.

    Parameters
    ----------
    url : str
        Its address, such as https://api.openai.com/v1.
    key_variable : str or None
        The environment variable that holds the key; None sends none.
    concurrency : int
        Requests under way at once.
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
        # The way out of a cluster is often a proxy; but a key of another's, from ~/.netrc, is none of ours.
        self._session.trust_env = True
        self._session.auth = lambda request: request
        self.endpoints.append(Api(url.rstrip("/"), headers, self._session))
        self._pace = Pace(requests_per_second) if requests_per_second else None
        self._given_up = 0

    def run(self, path: str, payloads: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Reply]]:
        """Send every payload to `path` and yield its place with the reply, as replies come.

        Raises
        ------
        UserError
            As `EndpointPool.run`; also if the server refuses the key, the address or the model, or if `GIVE_UP_AFTER`
            requests in a row had to be given up. What was answered was yielded before.
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
        # Some servers repeat it in what they say is wrong with it.
        return text.replace(self._key, "[key]") if text and self._key else text
