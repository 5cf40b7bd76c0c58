"""How requests follow each other: so many a second, not before a server is ready, and later after each failure."""

import threading
import time

import requests

FIRST_PAUSE = 1.0  # seconds before the second attempt; doubled with each one more
LONGEST_PAUSE = 60.0  # seconds, also where the server asks for more


class Pace:
    """Lets so many pass a second, whichever thread they come from."""

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
    """Seconds that the server asks to wait; 0 where it says nothing, or a date."""
    try:
        return max(0.0, float(reply.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def pause_after(attempts: int, asked: float, first: float) -> float:
    """Seconds to wait after so many failed attempts: `first`, doubled with each one more, or as the server asked."""
    return min(LONGEST_PAUSE, max(first * 2 ** (attempts - 1), asked))
