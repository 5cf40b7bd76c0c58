"""The pool of endpoints, against small HTTP servers that fail in every way: nothing is lost, and nothing twice."""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adaptive_samplers.errors import UserError
from adaptive_samplers.serving import pool as pool_module
from adaptive_samplers.serving.pool import EndpointPool


class FaultyServer:
    """An endpoint whose `behave(payload, times this payload was seen)` gives (status, body), or None to break off.

    With a third item, the reply is its last.
    """

    def __init__(self, behave, lives=1):
        self.behave, self.lives = behave, lives
        self.headers, self.revived, self.answered = {"Authorization": "Bearer key"}, 0, 0
        self.seen, self.most_at_once, self._at_once = Counter(), 0, 0
        self.lock = threading.Lock()
        self._open()

    def _open(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen[body["row"]] += 1
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                try:
                    assert self.headers["Authorization"] == "Bearer key" and self.path == "/work"
                    answer = outer.behave(body["row"], outer.seen[body["row"]])
                finally:
                    with outer.lock:
                        outer._at_once -= 1
                if answer is None:
                    outer.dead = True
                    self.close_connection = True
                    return
                if outer.dead:
                    self.close_connection = True
                    return
                status, content, *last = answer
                outer.dead = bool(last)
                data = content.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.dead = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def is_alive(self):
        return not self.dead

    def revive(self):
        if not self.dead:
            return True
        if self.revived + 1 >= self.lives:
            return False
        self.revived += 1
        self.close()
        self._open()
        return True

    def succeeded(self):
        self.answered += 1


@pytest.fixture
def serving(monkeypatch):
    monkeypatch.setattr(pool_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pool_module, "SECONDS_BETWEEN_CHECKS", 0.02)
    servers = []

    def start(*behaviors, lives=1, **options):
        servers.extend(FaultyServer(behave, lives) for behave in behaviors)
        options = {"concurrency": 8, "timeout": 5.0, "patience": 0.5, **options}
        return servers, EndpointPool(servers, **options)

    yield start
    for server in servers:
        server.close()


def run(pool, rows):
    replies = list(pool.run("/work", [{"row": row} for row in range(rows)]))
    assert sorted(index for index, _ in replies) == list(range(rows))
    return dict(replies)


def well(row, times):
    return 200, json.dumps({"row": row})


def test_every_row_has_its_reply_and_the_limit_holds(serving):
    together = threading.Barrier(5)

    def five_at_first(row, times):
        if row < 5:
            together.wait(timeout=10)
        return well(row, times)

    (server,), pool = serving(five_at_first, concurrency=5)
    replies = run(pool, 60)
    assert all(replies[row].json == {"row": row} for row in replies)
    assert set(server.seen.values()) == {1} and server.answered == 60
    assert server.most_at_once == 5


def test_what_may_pass_is_tried_again_and_what_cannot_is_not(serving):
    def behave(row, times):
        if row == 1 and times < 3:
            return 503, "busy"
        if row == 2:
            return 400, "no such thing"
        if row == 3:
            return 500, "always broken"
        if row == 4 and times == 1:
            return 200, "half of the"
        return well(row, times)

    (server,), pool = serving(behave)
    replies = run(pool, 6)
    assert server.seen == {0: 1, 1: 3, 2: 1, 3: pool_module.ATTEMPTS, 4: 2, 5: 1}
    assert "refused the request: HTTP 400: no such thing" in replies[2].error
    assert "4 attempts: HTTP 500: always broken" in replies[3].error
    assert all(replies[row].json == {"row": row} for row in (0, 1, 4, 5))


def test_a_request_that_takes_too_long_is_sent_again(serving):
    def behave(row, times):
        if row == 1 and times == 1:
            time.sleep(1)
        return well(row, times)

    (server,), pool = serving(behave, timeout=0.2)
    replies = run(pool, 3)
    assert server.seen[1] == 2 and all(reply.error is None for reply in replies.values())


def test_after_a_death_unfinished_rows_go_again(serving):
    def behave(row, times):
        return None if row == 10 and times == 1 else well(row, times)

    (server,), pool = serving(behave, lives=2)
    replies = run(pool, 40)
    assert all(replies[row].json == {"row": row} for row in range(40))
    assert server.revived == 1 and server.seen[10] == 2
    assert sum(server.seen.values()) <= 40 + 8  # nothing again but what was under way


@pytest.mark.parametrize("end", [None, (500, "the engine is gone", "last")], ids=["silent", "said"])
def test_a_row_that_kills_servers_is_given_up_alone(serving, end):
    def behave(row, times):
        if row != 5:
            time.sleep(0.01)
        return end if row == 5 else well(row, times)

    (server,), pool = serving(behave, lives=9)
    replies = run(pool, 30)
    assert "died 3 times" in replies[5].error
    assert all(replies[row].json == {"row": row} for row in range(30) if row != 5)
    # On a busy machine others are in flight at its first two deaths, and may be sent after its last one.
    assert server.revived in (2, 3)


def test_one_of_two_endpoints_goes_down(serving):
    def dies(row, times):
        return None if dying.answered >= 5 else well(row, times)

    servers, pool = serving(dies, lambda row, times: (time.sleep(0.005), well(row, times))[1])
    dying, other = servers
    replies = run(pool, 60)
    assert all(replies[row].json == {"row": row} for row in range(60))
    assert dying.answered >= 5 and dying.answered + other.answered == 60


def test_the_load_is_balanced(serving):
    def slowly(row, times):
        time.sleep(0.01)
        return well(row, times)

    servers, pool = serving(slowly, slowly)
    run(pool, 80)
    assert min(server.answered for server in servers) >= 30
    assert all(server.most_at_once <= 5 for server in servers)


def test_no_endpoint_left_ends_the_run_without_calling_it_a_failure_of_rows(serving):
    _, pool = serving(lambda row, times: None if row >= 20 else well(row, times), concurrency=1)
    finished = []
    with pytest.raises(UserError, match=r"no server answers at http://127.*0\.5 seconds.*finished rows are kept"):
        for index, reply in pool.run("/work", [{"row": row} for row in range(30)]):
            finished.append((index, reply.error))
    assert finished == [(row, None) for row in range(20)]


def test_nothing_to_send(serving):
    _, pool = serving(well)
    assert run(pool, 0) == {}
