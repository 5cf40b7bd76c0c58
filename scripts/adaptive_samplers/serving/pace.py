"""How fast requests may follow each other: so many a second, and not before a server is ready for more."""

import threading
import time

import requests


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
