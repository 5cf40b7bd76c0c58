"""Verifying many answers: in processes, in order, with failures that stay failures."""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest

from adaptive_samplers.config.model.labels import Correctness
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels import correctness
from adaptive_samplers.labels.correctness import label_correctness
from adaptive_samplers.labels.verifiers import Verification, processes
from adaptive_samplers.labels.verifiers.processes import Outcome, Task, VerifierPool
from adaptive_samplers.labels.verifiers.sandbox import Limits
from adaptive_samplers.tables import KEY, SCHEMAS, read_table, write_table
from support import processes_with, wait_until

OWN = '''
"""A verifier that does what an answer tells it."""
import os, sys, time

def verify(text, ground_truth):
    print("a line of its own")
    if text == "boom":
        raise RuntimeError("out of luck")
    if text == "hang":
        while True:
            pass
    if text == "die":
        os._exit(3)
    if text == "killed":
        os.kill(os.getpid(), 9)
    if text == "leave":
        sys.exit("left")
    if text == "eat":
        return bytearray(10**10)
    if text == "process":
        return 1.0, str(os.getpid())
    if text == "child":
        import subprocess
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1000)", "child-of-a-verifier"])
    if text == "score":
        return ground_truth
    return (1.0, "fine") if ground_truth == 1 else 0
'''


@pytest.fixture
def own(tmp_path) -> Verification:
    (tmp_path / "own.py").write_text(OWN)
    return Verification(own=(("own", str(tmp_path / "own.py")),), timeout=1.0)


def prompts_table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["prompt_id", "verifier", "ground_truth"])


def label(
    folder: Path,
    rows: list[tuple],
    prompts: pd.DataFrame,
    tolerance: float = 0.0,
    verification: Verification | None = None,
    processes: int = 1,
) -> pd.DataFrame:
    """The table of labels of candidates: (prompt, heuristic, seed, text, finish reason, error)."""
    columns = [*KEY, "text", "finish_reason", "error"]
    others = {"prompt_token_ids": [], "token_ids": [], "sample_seed": 0, "engine": "test"}
    others |= {"token_logprobs": None, "end_logprobs": None}
    write_table(
        "candidates", [dict(zip(columns, row, strict=True)) | others for row in rows], folder / "candidates.parquet"
    )
    output = folder / "correctness.parquet"
    label_correctness(
        folder / "candidates.parquet", prompts, output, tolerance, verification or Verification(), processes
    )
    return read_table("correctness", output)


def outcomes(verification: Verification, tasks: list[Task], processes: int = 1) -> list[Outcome]:
    with VerifierPool(verification, processes) as verifiers:
        return list(verifiers.outcomes(tasks))


def tasks_of(*texts: str) -> list[Task]:
    return [Task("own", "1", text) for text in texts]


def test_labels_keep_order_and_leave_unverifiable_prompts_null(tmp_path):
    prompts = prompts_table(("p1", "numeric", "12"), ("p2", None, None))
    rows = [
        ("p2", "h", 0, "A poem.", "stop", None),
        ("p1", "h", 1, "12", "stop", None),
        ("p1", "h", 0, "13", "length", None),
        ("p1", "h", 2, "", "stop", None),
    ]
    table = label(tmp_path, rows, prompts)
    assert list(table.columns) == SCHEMAS["correctness"].names
    assert table["prompt_id"].tolist() == ["p2", "p1", "p1", "p1"]
    assert table["seed"].tolist() == [0, 1, 0, 2]
    assert table["score"].isna().tolist() == [True, False, False, False]
    assert table["score"].tolist()[1:] == [1.0, 0.0, 0.0]
    assert table["detail"].tolist()[3] == "empty answer"
    assert table["error"].isna().all()


def test_a_failed_generation_is_an_error_and_never_a_zero(tmp_path):
    rows = [("p1", "h", 0, "", "error", "out of memory"), ("p1", "h", 1, "", "error", None)]
    table = label(tmp_path, rows, prompts_table(("p1", "numeric", "12")))
    assert table["score"].isna().all()
    assert table["error"].tolist() == ["generation failed: out of memory", "generation failed"]


def test_a_crash_within_the_tolerance_is_null_with_its_error(tmp_path, own):
    rows = [("p1", "h", 0, "boom", "stop", None), ("p1", "h", 1, "calm", "stop", None)]
    table = label(tmp_path, rows, prompts_table(("p1", "own", "1")), 0.5, own)
    assert pd.isna(table["score"][0])
    assert table["score"][1] == 1.0
    assert table["error"][0] == "RuntimeError: out of luck"


def test_crashes_above_the_tolerance_stop_the_stage_and_name_the_rows(tmp_path, own):
    prompts = prompts_table(("p1", "own", "1"), ("p2", None, None))
    rows = [("p1", "h7", seed, "boom", "stop", None) for seed in range(8)]
    rows.append(("p2", "h7", 0, "not counted", "stop", None))
    with pytest.raises(UserError) as caught:
        label(tmp_path, rows, prompts, 0.9, own)
    message = str(caught.value)
    for part in ["8 of 8", "labels.correctness.tolerance", "p1", "h7", "seed 4", "out of luck", "and 3 more"]:
        assert part in message
    assert "seed 5" not in message
    assert not (tmp_path / "correctness.parquet").exists()


@pytest.mark.parametrize(("ground_truth", "message"), [(None, "no ground truth"), ('"x"', "not a number")])
def test_a_check_that_cannot_run_is_a_crash(tmp_path, ground_truth, message):
    rows = [("p1", "h", 0, "1", "stop", None)]
    with pytest.raises(UserError, match=message):
        label(tmp_path, rows, prompts_table(("p1", "numeric", ground_truth)))


def test_an_unknown_verifier_stops_the_stage_before_any_answer(tmp_path):
    rows = [("p1", "h", 0, "1", "stop", None)]
    with pytest.raises(UserError, match="unknown verifier 'nummeric'; did you mean 'numeric'"):
        label(tmp_path, rows, prompts_table(("p1", "nummeric", "1")), 1.0)


def test_a_candidate_without_its_prompt_is_an_error(tmp_path):
    with pytest.raises(UserError, match="p9"):
        label(tmp_path, [("p9", "h", 0, "1", "stop", None)], prompts_table())


def test_a_table_without_answers_is_written(tmp_path):
    assert label(tmp_path, [], prompts_table(("p1", "numeric", "1"))).empty


def test_hanging_dying_and_greedy_verifiers_fail_their_own_answers_only(tmp_path, own):
    texts = ["a", "hang", "b", "die", "killed", "leave", "eat", "c"]
    rows = [("p1", "h", seed, text, "stop", None) for seed, text in enumerate(texts)]
    table = label(tmp_path, rows, prompts_table(("p1", "own", "1")), 0.9, own, processes=2)
    assert table["score"].tolist()[::7] == [1.0, 1.0] and table["score"][2] == 1.0
    errors = dict(zip(texts, table["error"], strict=True))
    assert "killed after 1 s" in errors["hang"]
    assert "ended with status 3" in errors["die"]
    assert "ended by signal 9" in errors["killed"]
    assert errors["leave"] == "SystemExit: left"
    assert "MemoryError" in errors["eat"]
    assert table["score"].notna().sum() == 3


def test_patterns_and_formulas_that_never_end_are_killed_from_any_thread():
    tasks = [
        Task("regex", json.dumps(r"(a+)+$"), "a" * 60 + "!"),
        Task("numeric", "5", "5"),
        Task("math", "5", "$9^{9^{9^{9^9}}} \\cdot \\sin(9^{9^{9^9}})!!$"),
        Task("math", json.dumps("$5$"), "$5$"),
    ]
    found: list[Outcome] = []
    # Not the main thread, where signals could be of help.
    thread = threading.Thread(target=lambda: found.extend(outcomes(Verification(timeout=2.0), tasks)))
    thread.start()
    thread.join(90)
    assert not thread.is_alive()
    assert found[0].score is None and "killed after 2 s" in found[0].error
    assert found[1].score == 1.0
    assert found[2].score in (None, 0.0)
    assert found[3].score == 1.0


def test_what_a_killed_verifier_started_ends_too(own):
    [outcome] = outcomes(own, tasks_of("child"))
    assert "killed after 1 s" in outcome.error
    deadline = time.monotonic() + 10
    while processes_with("child-of-a-verifier") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes_with("child-of-a-verifier")


def test_outcomes_do_not_depend_on_processes_or_batches(own, monkeypatch):
    tasks = [
        Task("numeric", str(number % 3), f"The answer is {number % 4}") if number % 5 else Task("own", "1", "boom")
        for number in range(500)
    ]
    expected = outcomes(own, tasks)
    assert [outcome.score for outcome in expected[:5]] == [None, 1.0, 1.0, 0.0, 0.0]
    monkeypatch.setattr(processes, "_BATCH", 7)
    assert outcomes(own, tasks, processes=3) == expected


def test_processes_are_replaced_after_their_lifetime(own, monkeypatch):
    monkeypatch.setattr(processes, "_LIFETIME", 5)
    monkeypatch.setattr(processes, "_BATCH", 5)
    found = [outcome.detail for outcome in outcomes(own, tasks_of(*["process"] * 15))]
    assert len(set(found)) == 3
    assert all(len(set(found[start : start + 5])) == 1 for start in (0, 5, 10))
    for process in map(int, set(found)):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_answers_are_read_only_a_little_ahead(own, monkeypatch):
    monkeypatch.setattr(processes, "_BATCH", 10)
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Task("own", "1", "fine")

    with VerifierPool(own, 2) as verifiers:
        stream = verifiers.outcomes(endless())
        assert [next(stream).score for _ in range(25)] == [1.0] * 25
        assert taken <= 150


def test_an_error_ends_processes_at_once(own):
    def verified() -> bool:
        """Whether the verifier is at work: it has started a process of its own."""
        return any("child-of-a-verifier" in child.cmdline() for child in psutil.Process().children(recursive=True))

    with ThreadPoolExecutor() as threads:
        with pytest.raises(KeyError), VerifierPool(Verification(own.own, timeout=600), 1) as verifiers:
            waiting = threads.submit(lambda: list(verifiers.outcomes(tasks_of("child"))))
            wait_until(verified, 60)
            raise KeyError
        # Not by its time limit.
        assert "signal 9" in waiting.result()[0].error


@pytest.mark.parametrize(
    ("ground_truth", "score", "detail"),
    [
        (0.25, 0.25, "score 0.25"),
        (True, 1.0, "score 1"),
        ([1, "x"], None, "neither"),
        (2, None, "neither"),
        ("1", None, "neither"),
    ],
)
def test_an_own_verifier_returns_a_score(own, ground_truth, score, detail):
    [outcome] = outcomes(own, [Task("own", json.dumps(ground_truth), "score")])
    assert outcome.score == score
    assert detail in (outcome.detail or outcome.error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def verify(text, ground_truth) return 1", "own.py: the verifier 'own' cannot be loaded .SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def check(text, ground_truth): return 1", "defines no function verify"),
        ("import os; os._exit(1)", "did not start: it ended with status 1"),
    ],
)
def test_an_own_verifier_that_cannot_be_loaded_stops_the_stage(tmp_path, own, content, message):
    (tmp_path / "own.py").write_text(content)
    with pytest.raises(UserError, match=message):
        outcomes(own, tasks_of("a"))


def test_an_own_verifier_without_its_file_stops_the_stage(tmp_path, own):
    (tmp_path / "own.py").unlink()
    with pytest.raises(UserError, match="no such file"):
        outcomes(own, tasks_of("a"))


def test_the_code_of_answers_has_its_own_limits():
    loop = "while True: pass"
    tasks = [Task("code", json.dumps({"tests": ["pass"]}), text) for text in (loop, "x = 1")]
    found = outcomes(Verification(timeout=0.5, code=Limits(seconds=1.0)), tasks)
    # An endless loop of the answer's is a wrong answer, not a verifier that hangs.
    assert found == [Outcome(0.0, "not done within 1 s", None), Outcome(1.0, "passed 1 tests", None)]


def test_the_tally_counts_and_shows(tmp_path, own):
    rows = [("p1", "h", 0, "boom", "stop", None), ("p1", "h", 1, "a", "stop", None), ("p2", "h", 1, "2", "stop", None)]
    prompts = prompts_table(("p1", "own", "1"), ("p2", "numeric", "3"))
    label(tmp_path, rows, prompts, 0.5, own)
    tally = label_correctness(tmp_path / "candidates.parquet", prompts, tmp_path / "again.parquet", 0.5, own)
    assert (tally.scored["own"], tally.failed["own"], tally.points["own"]) == (1, 1, 1.0)
    assert tally.table().split() == ["scored", "mean", "failed", "numeric", "1", "0.0", "0", "own", "1", "1.0", "1"]
    assert correctness.Tally().table() == "no prompt has a verifier"


def test_settings_become_limits():
    settings = Correctness(
        timeout=3.0,
        memory_mb=512,
        verifiers=[{"name": "mine", "path": "mine.py"}],
        code={"seconds": 20.0, "memory_mb": 100, "processes": 2, "disk_mb": 1},
    )
    verification = Verification.from_settings(settings)
    assert verification.names()[-1] == "mine"
    assert verification.seconds("mine") == 3.0
    assert verification.seconds("code") > 20.0
    assert verification.code == Limits(20.0, 100, 2, 1)


def test_text_of_every_kind_comes_through():
    texts = ["漢字 5", "5\n\u2028\x00\r", '"5"', "\\u0035"]
    found = outcomes(Verification(), [Task("regex", json.dumps("5|漢"), text) for text in texts])
    assert [outcome.score for outcome in found] == [1.0, 1.0, 1.0, 1.0]
