"""Many requests to one or more endpoints: limited concurrency, retries where they can help, and none lost.

Transient errors are told apart from permanent ones. A request that the server refuses fails at once. One that timed
out, or met a busy server, is sent again after growing pauses. Requests in flight when a server died go to the next one;
a request that was in flight at two deaths is sent alone, so that if it kills servers, only it is given up.
"""

import heapq
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import requests

from adaptive_samplers.errors import UserError
from adaptive_samplers.serving.pace import FIRST_PAUSE, pause_after, retry_after
from adaptive_samplers.stage import say

ATTEMPTS = 4  # of a request after transient errors
SECONDS_BETWEEN_CHECKS = 1.0
BUSY = {408, 425, 429, 500, 502, 503, 504}  # transient HTTP statuses
BROKEN = {500, 503}  # those of them with which a server whose model died may still answer


@dataclass(frozen=True)
class Reply:
    """What came back for one request: the decoded JSON, or why there is none."""

    json: Any = None
    error: str | None = None
    status: int | None = None  # of HTTP, if the server refused the request


class Endpoint(Protocol):
    """A server that may come and go."""

    url: str
    headers: dict[str, str]

    def is_alive(self) -> bool:
        """Whether requests can be sent to it now."""
        ...

    def revive(self) -> bool:
        """Try to restart it after a failure; whether it is up again. Raises UserError if that is hopeless."""
        ...

    def succeeded(self) -> None:
        """Called after each request that it answered."""
        ...


@dataclass
class _Row:
    """A request in flight."""

    index: int
    attempts: int = 0
    deaths: int = 0


@dataclass
class _State:
    """The state of one endpoint."""

    endpoint: Endpoint
    in_flight: int = 0
    is_down: bool = True  # until it is checked
    was_up: bool = False
    next_check: float = 0.0


class _Died(Exception):
    """The connection broke: the server is gone, or was never up."""


class _Busy(Exception):
    """A transient error, and how many seconds the server asks to wait."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass
class EndpointPool:
    """Sends requests to the endpoint with the fewest in flight.

    Attributes
    ----------
    endpoints : list of Endpoint
    concurrency : int
        Concurrent requests over all endpoints.
    timeout : float
        Seconds that a request may take.
    patience : float
        Seconds for which all endpoints may be down before the run is given up.
    attempts : int
        How often a request that meets transient errors is sent in total.
    """

    endpoints: list[Endpoint]
    concurrency: int
    timeout: float
    patience: float = 300.0
    attempts: int = ATTEMPTS
    _session: requests.Session = field(init=False)

    def __post_init__(self) -> None:
        self._session = requests.Session()
        # Proxies are for outside addresses. One connection is kept for each possible concurrent request.
        self._session.trust_env = False
        adapter = requests.adapters.HTTPAdapter(pool_connections=64, pool_maxsize=self.concurrency)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def run(self, path: str, payloads: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Reply]]:
        """Send every payload to `path` and yield its index with the reply, as replies arrive.

        Raises
        ------
        UserError
            If no endpoint can be reached for longer than `patience`, or the job's own server dies repeatedly without
            answering. Requests without a reply are then neither answers nor failures.
        """
        waiting = [_Row(index) for index in reversed(range(len(payloads)))]
        later: list[tuple[float, int, _Row]] = []  # a heap by time; the number breaks ties
        alone: list[_Row] = []
        flying: dict[Future, tuple[_Row, _State]] = {}
        states = [_State(endpoint) for endpoint in self.endpoints]
        numbers = count()
        executor = ThreadPoolExecutor(self.concurrency, thread_name_prefix="request")
        try:
            while waiting or later or alone or flying:
                self._look_after(states)
                while later and later[0][0] <= time.monotonic():
                    waiting.append(heapq.heappop(later)[2])
                while (row := self._next(waiting, alone, flying, bool(later))) is not None:
                    state = self._least_busy(states)
                    if state is None:
                        (alone if row.deaths > 1 else waiting).append(row)
                        break
                    state.in_flight += 1
                    future = executor.submit(self._send, state.endpoint, path, payloads[row.index])
                    flying[future] = (row, state)
                done, _ = wait(flying, timeout=SECONDS_BETWEEN_CHECKS, return_when=FIRST_COMPLETED)
                if not flying:
                    time.sleep(0.1)
                for future in done:
                    row, state = flying.pop(future)
                    state.in_flight -= 1
                    try:
                        reply = future.result()
                    except _Died as death:
                        state.is_down = True
                        row.deaths += 1
                        if row.deaths > 2:
                            yield row.index, Reply(error=f"the server died {row.deaths} times at this request: {death}")
                        else:
                            (alone if row.deaths > 1 else waiting).append(row)
                        continue
                    except _Busy as trouble:
                        row.attempts += 1
                        if row.attempts == self.attempts:
                            yield row.index, Reply(error=f"given up after {self.attempts} attempts: {trouble}")
                        else:
                            pause = pause_after(row.attempts, trouble.seconds, FIRST_PAUSE)
                            heapq.heappush(later, (time.monotonic() + pause, next(numbers), row))
                        continue
                    state.endpoint.succeeded()
                    yield row.index, reply
        finally:
            # Requests in flight end by themselves, at the latest when their server does.
            executor.shutdown(wait=False, cancel_futures=True)

    def _next(self, waiting: list[_Row], alone: list[_Row], flying: dict, is_more_later: bool) -> _Row | None:
        """The row to send now. Suspects come last, one at a time."""
        if len(flying) >= self.concurrency:
            return None
        if waiting:
            return waiting.pop()
        if alone and not flying and not is_more_later:
            return alone.pop()
        return None

    @staticmethod
    def _least_busy(states: list[_State]) -> _State | None:
        there = [state for state in states if not state.is_down]
        return min(there, key=lambda state: state.in_flight) if there else None

    def _look_after(self, states: list[_State]) -> None:
        """Restart endpoints that are down; give up if all stay down for too long."""
        self._revive([state for state in states if state.is_down])
        if any(state.in_flight or not state.is_down for state in states):
            return
        deadline = time.monotonic() + self.patience
        while all(state.is_down for state in states):
            if time.monotonic() > deadline:
                urls = ", ".join(state.endpoint.url for state in states)
                raise UserError(
                    f"no server answers at {urls}, for {self.patience:g} seconds; start one and run again: finished "
                    "rows are kept"
                )
            time.sleep(SECONDS_BETWEEN_CHECKS)
            self._revive(states)

    @staticmethod
    def _revive(states: list[_State]) -> None:
        for state in states:
            # Its requests must have failed first; otherwise their failures would count against the next server.
            asked = time.monotonic()
            if state.in_flight == 0 and asked >= state.next_check:
                state.is_down = not state.endpoint.revive()
                # Nothing is sent meanwhile: a machine that does not even refuse is checked less often.
                answered = time.monotonic()
                state.next_check = answered + min(60, max(5 * SECONDS_BETWEEN_CHECKS, 20 * (answered - asked)))
                if state.was_up and not state.is_down:
                    say(f"{state.endpoint.url}: the server is back")
                state.was_up = state.was_up or not state.is_down

    def _send(self, endpoint: Endpoint, path: str, payload: dict[str, Any]) -> Reply:
        try:
            response = self._session.post(
                endpoint.url + path, json=payload, headers=endpoint.headers, timeout=(10, self.timeout)
            )
        except requests.Timeout as error:
            if not endpoint.is_alive():
                raise _Died(f"no answer within {self.timeout:g} seconds") from error
            raise _Busy(f"no answer within {self.timeout:g} seconds") from error
        except requests.RequestException as error:
            raise _Died(type(error).__name__) from error
        if response.status_code in BROKEN and not endpoint.is_alive():
            raise _Died(f"HTTP {response.status_code}: {response.text[:300]}")
        if response.status_code in BUSY:
            raise _Busy(f"HTTP {response.status_code}: {response.text[:300]}", retry_after(response))
        if not response.ok:
            refusal = f"the server refused the request: HTTP {response.status_code}: {response.text[:300]}"
            return Reply(error=refusal, status=response.status_code)
        try:
            return Reply(json=response.json())
        except ValueError as error:
            raise _Busy(f"the answer is no JSON: {response.text[:100]}") from error
