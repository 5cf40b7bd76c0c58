"""Infini-gram's HTTP API: how often a span occurs in a corpus of up to trillions of tokens.

Each distinct question is asked once: replies are kept in a file that all runs share. Questions are rate-limited as the
server's operators ask, and sent again after growing pauses if an error is transient. An unanswered question raises; it
is never a count of 0.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import requests

from adaptive_samplers.errors import UserError
from adaptive_samplers.serving.pace import FIRST_PAUSE, Pace, pause_after, retry_after
from adaptive_samplers.serving.pool import BUSY

ATTEMPTS = 5
GIVE_UP_AFTER = 20  # consecutive questions without an answer: the server is gone


class LookupFailed(Exception):
    """The server did not answer a question, for the reason in the message."""


class ReplyCache:
    """Replies by server, index and question, in an SQLite file that threads and jobs may share. A context manager.

    Raises
    ------
    UserError
        If the file cannot be opened, read or written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Another job may be writing; it takes milliseconds.
            self._connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
            self._run(
                "CREATE TABLE IF NOT EXISTS replies (url TEXT, corpus TEXT, question TEXT, reply TEXT, "
                "PRIMARY KEY (url, corpus, question)) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: Any) -> None:
        self._connection.close()

    def get(self, url: str, index: str, question: str) -> Any:
        """The stored reply, or None."""
        found = self._run(
            "SELECT reply FROM replies WHERE url = ? AND corpus = ? AND question = ?", url, index, question
        )
        return json.loads(found[0][0]) if found else None

    def put(self, url: str, index: str, question: str, reply: Any) -> None:
        """Store a reply, which must be JSON-serializable and not None."""
        self._run("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", url, index, question, json.dumps(reply))

    def _run(self, statement: str, *values: str) -> list[tuple]:
        try:
            with self._lock, closing(self._connection.execute(statement, values)) as cursor:
                return cursor.fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> UserError:
        return UserError(
            f"labels.overlap.infinigram.cache: {self.path} cannot be used ({error}); delete it, or name another file"
        )


class InfinigramClient:
    """Asks one index of a server. Threads may share it.

    Parameters
    ----------
    url : str
        Address of the API.
    index : str
        Name of the index.
    requests_per_second : float
    timeout : float
        Seconds that a request may take.
    cache : ReplyCache
        Open.
    first_wait : float
        Seconds before a failed request is retried; doubled each time.

    References
    ----------
    Liu et al. (2024), Infini-gram: Scaling Unbounded n-gram Language Models to a Trillion Tokens.
    """

    def __init__(
        self,
        url: str,
        index: str,
        requests_per_second: float,
        timeout: float,
        cache: ReplyCache,
        first_wait: float = FIRST_PAUSE,
    ) -> None:
        self.url = url
        self.index = index
        self.timeout = timeout
        self.first_wait = first_wait
        self.requests_sent = 0
        self.found_in_cache = 0
        self._cache = cache
        self._pace = Pace(requests_per_second)
        self._session = requests.Session()
        self._failures_in_a_row = 0

    def count(self, token_ids: Sequence[int]) -> int:
        """How often a span of token ids occurs.

        Raises
        ------
        LookupFailed
        """
        return self._ask({"query_ids": [int(token_id) for token_id in token_ids]}, "count")

    def token_ids(self, text: str) -> list[int]:
        """The token ids that the index has for a text.

        Raises
        ------
        LookupFailed
        """
        return self._ask({"query": text}, "token_ids")

    def _ask(self, question: dict[str, Any], wanted: str) -> Any:
        name = json.dumps(question, separators=(",", ":"))
        kept = self._cache.get(self.url, self.index, name)
        if kept is not None:
            self.found_in_cache += 1
            return kept
        if self._failures_in_a_row >= GIVE_UP_AFTER:
            raise LookupFailed(f"not asked: the server had left {GIVE_UP_AFTER} questions in a row without an answer")
        try:
            value = self._request({"index": self.index, "query_type": "count", **question}, wanted)
        except LookupFailed:
            self._failures_in_a_row += 1
            raise
        self._failures_in_a_row = 0
        self._cache.put(self.url, self.index, name, value)
        return value

    def _request(self, payload: dict[str, Any], wanted: str) -> Any:
        """The value `wanted` of the reply to `payload`, from the first attempt that gets one."""
        problem, asked_to_wait = "", 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(pause_after(attempt, asked_to_wait, self.first_wait))
            self._pace.wait()
            self.requests_sent += 1
            try:
                reply = self._session.post(self.url, json=payload, timeout=self.timeout)
            except requests.RequestException as error:
                problem, asked_to_wait = f"{type(error).__name__}: {error}", 0.0
                continue
            if reply.status_code >= 400 and reply.status_code not in BUSY:
                raise LookupFailed(f"HTTP {reply.status_code}: {reply.text[:200]}")
            asked_to_wait = retry_after(reply)
            if reply.status_code in BUSY:
                problem = f"HTTP {reply.status_code}"
                continue
            value, problem = _read(reply, wanted)
            if not problem:
                return value
        raise LookupFailed(f"{problem} (asked {ATTEMPTS} times)")


def _read(reply: requests.Response, wanted: str) -> tuple[Any, str]:
    """The value `wanted` of a reply, and what is wrong with it; a server's internal error may be transient too."""
    try:
        content = reply.json()
    except requests.JSONDecodeError:
        return None, "the reply is not JSON"
    if not isinstance(content, dict):
        return None, "the reply is not a JSON object"
    if "error" in content:
        return None, f"the server says: {content['error']}"
    value = content.get(wanted)
    right = all(map(_is_whole, value)) if isinstance(value, list) else _is_whole(value)
    return (value, "") if right else (None, f"the reply holds no usable `{wanted}`: {str(content)[:200]}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
