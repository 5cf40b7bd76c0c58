"""The pace of requests: a limited rate, the waits that servers ask for, and longer pauses after each failure."""

import threading
import time

import requests

FIRST_PAUSE = 1.0  # seconds before the second attempt; doubled with each further one
LONGEST_PAUSE = 60.0  # seconds, even if the server asks for more


class Pace:
    """Lets a fixed number pass per second, over all threads."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1.0 / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        time.sleep(turn - now)


def retry_after(reply: requests.Response) -> float:
    """Seconds that the server asks to wait; 0 if it gives none, or a date."""
    try:
        return max(0.0, float(reply.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def pause_after(attempts: int, asked: float, first: float) -> float:
    """Seconds to wait after failed attempts: `first`, doubled with each further one, or as the server asked."""
    return min(LONGEST_PAUSE, max(first * 2 ** (attempts - 1), asked))
