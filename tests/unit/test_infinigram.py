"""The client of infini-gram's API against a server on this machine that answers as the API's documentation says."""

import threading
import time

import pytest
import requests
from test_overlap import candidates_of

from adaptive_samplers.config.model.labels import OverlapSettings
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.overlap import (
    InfinigramClient,
    InfinigramTracer,
    LocalTracer,
    LookupFailed,
    ReplyCache,
    build_index,
    label_overlap,
    open_tracer,
)
from adaptive_samplers.labels.overlap.infinigram import ATTEMPTS, GIVE_UP_AFTER
from adaptive_samplers.labels.overlap.tracers import SAMPLE
from adaptive_samplers.tables import to_arrow
from infinigram_server import INDEX, Api, serving
from support import in_whole

CORPUS = [5, 6, 7, 8, 9, 5, 6, 1, 2, 3, 4, 9, 9]
ANSWERS = [[5, 6, 7, 1, 2, 3, 4], [], [9, 9, 9, 20], [8, 9, 5, 6, 1], [20, 21]]


@pytest.fixture
def api():
    with serving(Api(CORPUS)) as api:
        yield api


@pytest.fixture
def cache(tmp_path):
    with ReplyCache(tmp_path / "deep" / "replies.sqlite") as cache:
        yield cache


def client_of(api, cache, rate=2000.0, first_wait=0.001, index=INDEX, timeout=5.0):
    return InfinigramClient(api.url, index, rate, timeout, cache, first_wait)


def rows_of(table):
    names = ("coverage", "breaks", "longest_match", "error")
    return [tuple(row[name] for name in names) for row in to_arrow("overlap", table).to_pylist()]


@pytest.mark.usefixtures("tokengrams")
@pytest.mark.parametrize("threads", [1, 4])
def test_the_table_is_that_of_a_local_index(api, cache, tmp_path, threads):
    build_index([CORPUS], tmp_path / "index", vocab_size=30)
    candidates = candidates_of(ANSWERS)
    expected, _ = in_whole(label_overlap, [candidates], LocalTracer(tmp_path / "index"), 3, 0.0)
    tracer = InfinigramTracer(client_of(api, cache), threads=threads)
    found, report = in_whole(label_overlap, [candidates[:2], candidates[2:]], tracer, 3, 0.0)
    assert rows_of(found) == rows_of(expected)
    assert report["requests"] == len(api.received) and report["index"] == INDEX
    assert (report["answers"], report["empty_answers"], report["untraced_answers"]) == (5, 1, 0)


def test_no_question_is_asked_twice_nor_by_the_next_run(api, cache, tmp_path):
    candidates = candidates_of(ANSWERS * 2)
    first, _ = in_whole(label_overlap, [candidates], InfinigramTracer(client_of(api, cache)), 3, 0.0)
    assert len(set(api.asked())) == len(api.asked())
    before = len(api.received)
    with ReplyCache(tmp_path / "deep" / "replies.sqlite") as other:
        again, report = in_whole(label_overlap, [candidates], InfinigramTracer(client_of(api, other)), 3, 0.0)
        assert rows_of(again) == rows_of(first)
        assert len(api.received) == before and report["requests"] == 0 and report["found_in_cache"] > before
        # Another index, or server, is another corpus.
        with pytest.raises(LookupFailed, match="Invalid index: other"):
            client_of(api, other, index="other").count([5])


PASSING = {
    "busy": (429, {"Retry-After": "0"}, b"slow down"),
    "overloaded": (503, {}, {"type": "server-overloaded", "status": 503}),
    "its own error": (200, {}, {"error": "Internal server error"}),
    "no JSON": (200, {}, b"<html>Bad gateway</html>"),
    "no object": (200, {}, [1]),
    "no count": (200, {}, {"latency": 1.0}),
    "a count that is none": (200, {}, {"count": -1}),
    "null": (200, {}, {"count": None}),
    "a lost connection": (None, {}, b""),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_asked_again(api, cache, fault):
    api.faults = [PASSING[fault]] * (ATTEMPTS - 1)
    assert client_of(api, cache).count([5, 6]) == 2
    assert len(api.received) == ATTEMPTS


@pytest.mark.parametrize("fault", PASSING)
def test_what_does_not_pass_is_no_count(api, cache, fault):
    api.faults = [PASSING[fault]] * ATTEMPTS
    client = client_of(api, cache)
    with pytest.raises(LookupFailed, match=rf"asked {ATTEMPTS} times"):
        client.count([5, 6])
    assert len(api.received) == ATTEMPTS
    assert client.count([5, 6]) == 2  # the failure was not kept


def test_what_the_server_refuses_is_not_asked_again(api, cache):
    api.faults = [(400, {}, b"query too long")]
    with pytest.raises(LookupFailed, match="HTTP 400: query too long"):
        client_of(api, cache).count([5])
    assert len(api.received) == 1


def test_waits_double_and_heed_the_server(api, cache, monkeypatch):
    waits = []
    real = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (waits.append(seconds), real(0))[1])
    late = {"Retry-After": "7"}
    api.faults = [(503, {}, b""), (503, late, b""), (503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, b"")]
    api.faults += [(503, {"Retry-After": "9999"}, b"")]
    assert client_of(api, cache, rate=1e9, first_wait=1.0).count([5]) == 2
    assert [wait for wait in waits if wait > 0.5] == [1.0, 7.0, 4.0, 60.0]


def test_requests_keep_the_pace_whatever_the_threads(api, cache):
    tracer = InfinigramTracer(client_of(api, cache, rate=100.0), threads=8)
    in_whole(label_overlap, [candidates_of([[token, token + 1] for token in range(8)])], tracer, 3, 0.0)
    gaps = [b - a for a, b in zip(api.times, api.times[1:], strict=False)]
    assert len(api.times) >= 15
    # The first may arrive late by some paces on a busy machine, but all together come no sooner than the pace allows.
    assert sum(gaps) >= 0.01 * (len(gaps) - 5)


def test_untraced_answers_are_rows_with_their_error(api, cache):
    api.broken = lambda payload: 20 in payload.get("query_ids", [])
    tracer = InfinigramTracer(client_of(api, cache), threads=2)
    table, report = in_whole(label_overlap, [candidates_of(ANSWERS)], tracer, 3, tolerance=0.4)
    rows = rows_of(table)
    assert [row[:3] for row in rows] == [(1.0, 2, 4), (None, 0, 0), (None, None, None), (1.0, 1, 5), (None, None, None)]
    assert all("the server says: Internal server error" in rows[place][3] for place in (2, 4))
    assert report["untraced_answers"] == 2 and sum(report["failure_reasons"].values()) == 2
    with pytest.raises(UserError, match=r"2 of 5 answers could not be traced .*\(40\.0%\).*allows 39\.0%") as problem:
        in_whole(label_overlap, [candidates_of(ANSWERS)], tracer, 3, tolerance=0.39)
    assert "Internal server error" in str(problem.value)


def test_a_server_that_is_gone_is_not_asked_for_ever(api, cache):
    api.broken = lambda payload: True
    answers = [[token] for token in range(3 * GIVE_UP_AFTER)]
    table, report = in_whole(
        label_overlap, [candidates_of(answers)], InfinigramTracer(client_of(api, cache)), 1, tolerance=1.0
    )
    assert report["untraced_answers"] == len(answers)
    assert len(api.received) == ATTEMPTS * GIVE_UP_AFTER
    assert table["error"].str.contains("in a row").sum() == len(answers) - GIVE_UP_AFTER


def test_nobody_listens(api, cache):
    url = api.url.replace("http://127.0.0.1", "http://127.0.0.2")
    client = InfinigramClient(url, INDEX, 1000, 1.0, cache, first_wait=0.001)
    with pytest.raises(LookupFailed, match="ConnectionError"):
        client.count([1])


def test_a_cache_that_is_no_cache_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("these are notes, and no database at all\n" * 50)
    with pytest.raises(UserError, match=r"infinigram\.cache: .*notes\.txt cannot be used"):
        ReplyCache(tmp_path / "notes.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"infinigram\.cache"):
        ReplyCache(tmp_path / "file" / "below.sqlite")


def test_jobs_may_share_the_cache(tmp_path):
    def write(start):
        with ReplyCache(tmp_path / "shared.sqlite") as cache:
            for number in range(start, start + 40):
                cache.put("u", "i", str(number), number)

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ReplyCache(tmp_path / "shared.sqlite") as cache:
        assert [cache.get("u", "i", str(number)) for number in range(80)] == list(range(80))
        assert cache.get("u", "j", "0") is None and cache.get("v", "i", "0") is None


@pytest.fixture
def encode(tiny_model_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]


def overlap_config(api, tmp_path, tokenizer=None):
    server = {"url": api.url, "index": INDEX, "tokenizer": tokenizer, "requests_per_second": 500.0, "timeout": 5.0}
    return {"kind": "infinigram", "infinigram": server | {"cache": str(tmp_path / "c.sqlite")}}


@pytest.mark.parametrize("leading", ["", " "])
def test_the_tokenizer_may_be_the_models_or_another(api, tmp_path, tiny_model_folder, encode, leading):
    # As the API does for some tokenizers, it puts a space before what it is asked.
    api.encode = lambda text: encode(leading + text)
    text = "the quiet valley and the old mill"
    api.corpus = encode("Into the quiet valley.")
    candidates = candidates_of([encode(text)]).assign(text=text)
    tables = []
    for tokenizer in (None, str(tiny_model_folder)):
        config = overlap_config(api, tmp_path, tokenizer)
        with open_tracer(OverlapSettings(**config), {"tokenizer": tiny_model_folder}) as tracer:
            assert tracer.columns == (("text",) if tokenizer else ("token_ids",))
            part = candidates.drop(columns="token_ids" if tokenizer else "text")
            tables.append(in_whole(label_overlap, [part], tracer, 2, 0.0)[0])
    assert rows_of(tables[0]) == rows_of(tables[1])
    assert tables[0]["longest_match"][0] >= len(encode(" quiet valley"))


def test_another_tokenizer_is_refused(api, tmp_path, tiny_model_folder, encode):
    api.encode = lambda text: [ord(letter) for letter in text]
    config = overlap_config(api, tmp_path)
    message = rf"tokenizer in .* is not that of the index '{INDEX}'.*{SAMPLE[:10]}"
    with (
        pytest.raises(UserError, match=message),
        open_tracer(OverlapSettings(**config), {"tokenizer": tiny_model_folder}),
    ):
        pass


def test_a_server_that_cannot_be_asked_is_told_at_once(api, tmp_path, tiny_model_folder, monkeypatch):
    monkeypatch.setattr(requests.Session, "post", lambda *_, **__: (_ for _ in ()).throw(requests.Timeout("late")))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    config = overlap_config(api, tmp_path)
    with pytest.raises(UserError, match=r"cannot be asked: Timeout: late"):  # noqa: SIM117
        with open_tracer(OverlapSettings(**config), {"tokenizer": tiny_model_folder}):
            pass
