"""Answers' code in its sandbox: what it may do, what it cannot, and that nothing of it is left."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import sandbox_attacks
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.verifiers import VERIFIERS, Verification, sandbox_child
from adaptive_samplers.labels.verifiers.code import verify_code
from adaptive_samplers.labels.verifiers.processes import Task, VerifierPool
from adaptive_samplers.labels.verifiers.sandbox import (
    Finished,
    Limits,
    Sandbox,
    SandboxError,
    TimeLimit,
    check_sandbox,
    run_program,
)
from support import REPOSITORY, absent, wait_until

LIMITS = Limits(seconds=5, memory_mb=256, processes=4, disk_mb=2)
SHORT = Limits(seconds=1, memory_mb=256, processes=4, disk_mb=2)


@pytest.fixture(scope="module", autouse=True)
def _can_build_sandboxes():
    """Where the system forbids sandboxes, the tests that need one fail on CI; elsewhere they say why they are left."""
    try:
        check_sandbox()
    except UserError as error:
        absent(str(error))


def run(code: str, limits: Limits = LIMITS, stdin: str = "") -> Finished:
    return run_program(code, stdin, limits, time.monotonic() + limits.seconds)


def printed(code: str, limits: Limits = LIMITS) -> str:
    finished = run(code, limits)
    assert finished.status == 0, finished
    return finished.output.strip()


# Names the process, and all that it forks, so that what is left of it can be told from other sandboxes.
MARK = f"mark{os.getpid()}"
MARKED = f"import ctypes, os, time\nctypes.CDLL(None).prctl(15, b{MARK!r}, 0, 0, 0)\n"


def marked_processes() -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["name"]) if process.info["name"] == MARK]


def test_a_program_reads_prints_and_ends():
    assert run("print(input()[::-1])", stdin="abc\n") == Finished(0, "cba\n", None)
    assert run("import sys\nprint(len(sys.stdin.read()))", stdin="x" * 1_000_000).output == "1000000\n"
    assert run("if __name__ == '__main__':\n    print('main')").output == "main\n"
    assert run("import sys\nsys.exit(3)").status == 3
    assert run("1 / 0") == Finished(1, "", "ZeroDivisionError: division by zero")
    assert run("print('é 漢')").output == "é 漢\n"


def test_the_standard_library_and_installed_packages_are_there():
    code = "import json, decimal, sqlite3, numpy\nprint(numpy.arange(3).sum())"
    assert printed(code, Limits(seconds=30)) == "3"


def test_the_same_program_prints_the_same_every_time():
    assert len({printed("print({'a', 'b', 'c', 'd', 'e'})") for _ in range(3)}) == 1


def test_there_is_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)"
        assert "not supported" in run(code).error


def test_the_environment_and_the_files_of_this_user_are_out_of_sight(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    (tmp_path / "secret").write_text("hunter2")
    code = f"""
import os, pathlib
print(os.environ.get("SECRET_TOKEN"), pathlib.Path({str(tmp_path / "secret")!r}).exists())
print(pathlib.Path({str(REPOSITORY / "scripts")!r}).exists(), pathlib.Path("/etc/passwd").exists())
print(pathlib.Path("/proc/self").exists(), os.listdir("."))
print(b"hunter2" in b"".join(path.read_bytes() for path in pathlib.Path("/proc").rglob("environ")))
"""
    assert printed(code).split() == ["None", "False", "False", "False", "False", "[]", "False"]


def test_nothing_is_written_outside_the_working_folder(tmp_path):
    places = ["/written", "/usr/written", "/etc/written", "/dev/written", f"{sys.prefix}/written"]
    places += [f"{sys.base_prefix}/written", str(tmp_path / "written"), str(REPOSITORY / "written")]
    code = f"""
import tempfile
for place in {places!r}:
    try:
        open(place, "w").write("x")
        print("written", place)
    except OSError:
        pass
open("here", "w").write("x"); tempfile.TemporaryFile().write(b"x")
try:
    open("/tmp/there", "w").write("x")
except OSError:
    pass  # where Python itself is installed below /tmp, that is read-only
print("done")
"""
    assert printed(code) == "done"
    assert not any(Path(place).exists() for place in [*places, "/tmp/there"])
    assert printed("import os\nprint(os.listdir('.'))") == "[]"


def test_a_read_only_file_system_cannot_be_made_writable():
    code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
spaces = libc.unshare(0x10000000 | 0x00020000)
for place in ("/usr", {sys.prefix!r}, "/"):
    print(libc.mount(None, place.encode(), None, 32 | 4096, None), libc.umount2(place.encode(), 2))
"""
    assert set(printed(code).split()) == {"-1"}


def test_memory_is_limited():
    assert run("x = bytearray(10**9)").error == "MemoryError"
    assert run("x = []\nwhile True: x.append(bytes(10**7))").error == "MemoryError"


def test_stricter_limits_of_whoever_asks_stay():
    code = f"""
import resource, sys, time; sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
resource.setrlimit(resource.RLIMIT_SIGPENDING, (50, 50))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from adaptive_samplers.labels.verifiers.sandbox import Limits, run_program
print(run_program("import resource; print(resource.getrlimit(resource.RLIMIT_SIGPENDING))", "", Limits(),
                  time.monotonic() + 10).output)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "(50, 50)", done.stderr


def test_an_endless_loop_ends_at_the_limit():
    for code in ["while True: pass", "import time\ntime.sleep(1000)", "10**10**10"]:
        with pytest.raises(TimeLimit):
            run(code, SHORT)


def test_a_fork_bomb_is_held_and_leaves_nothing():
    code = """
children = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        children += 1
except OSError:
    print(children)
"""
    assert 0 < int(printed(MARKED + code)) <= LIMITS.processes
    assert not marked_processes()
    seen = []
    watch = threading.Thread(target=lambda: seen.append(wait_until(lambda: len(marked_processes()) > 1, 10)))
    watch.start()
    with pytest.raises(TimeLimit):
        run(MARKED + "while True:\n    try: os.fork()\n    except OSError: pass", SHORT)
    watch.join()
    assert seen == [True]
    assert not marked_processes()


def test_threads_count_as_processes():
    code = """
import threading, time
try:
    for count in range(100):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
except RuntimeError:
    print(count)
"""
    assert int(printed(code)) <= LIMITS.processes


def test_processes_that_hide_in_a_session_of_their_own_end_too():
    code = "if os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\ntime.sleep(0.5)\nprint('parent')"
    # Were it waited for, the time would be over.
    assert printed(MARKED + code) == "parent"
    assert not marked_processes()


def test_other_processes_cannot_be_killed():
    code = f"import os\nprint(os.getpid() < 10)\ntry: os.kill({os.getpid()}, 9)\nexcept OSError as e: print(e.errno)"
    assert printed(code).split() == ["True", "3"]
    assert run("import os\nos.kill(os.getpid(), 9)").status == 137
    assert printed("import os\nos.kill(1, 9)\nprint('alive')") == "alive"


def test_files_and_output_are_limited():
    assert "File too large" in run("open('f', 'wb').write(bytes(10**7))").error
    code = "for i in range(10): open(str(i), 'wb').write(bytes(10**6))"
    assert "No space left" in run(code).error
    with pytest.raises(ValueError, match="more than"):
        run("while True: print('x' * 10_000)")


def test_the_code_has_no_privileges():
    code = """
import os
with open("/dev/null"): pass
print(os.getuid() != 0, os.geteuid() != 0)
for attempt in (lambda: os.setuid(0), lambda: os.chroot("/usr"), lambda: os.mknod("x", 0o60600, 0)):
    try: attempt(); print("allowed")
    except OSError: pass
"""
    assert printed(code).split() == ["True", "True"]


def test_killing_whoever_asked_ends_the_sandbox():
    code = f"""
import sys, time; sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
from adaptive_samplers.labels.verifiers.sandbox import Limits, run_program
run_program({MARKED + "time.sleep(1000)"!r}, "", Limits(seconds=1000), time.monotonic() + 1000)
"""
    asker = subprocess.Popen([sys.executable, "-c", code])
    wait_until(marked_processes, 60, asker)
    processes = psutil.Process(asker.pid).children(recursive=True)
    assert len(processes) == 4  # the server, the launcher, process 1 and the answer's
    asker.kill()
    asker.wait()
    assert not psutil.wait_procs(processes, 60)[1]


def test_another_server_comes_when_it_is_killed():
    assert printed("print(1)") == "1"
    [server] = [child for child in psutil.Process().children() if sandbox_child.__file__ in child.cmdline()]
    server.kill()
    with pytest.raises(SandboxError, match="does not answer"):
        run("print(1)")
    assert printed("print(1)") == "1"


def test_no_descriptor_is_left_open():
    printed("print(1)")
    before = len(os.listdir("/proc/self/fd"))
    for code in ("print(1)", "1 / 0", "import os; os._exit(0)"):
        run(code)
        verify_code(code, {"tests": ["pass"]}, LIMITS)
    with pytest.raises(TimeLimit):
        run("while True: pass", Limits(seconds=0.2))
    assert len(os.listdir("/proc/self/fd")) == before


def outcomes(command: list[str], **options) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def holds(found: dict[str, Any]) -> None:
    """No attack reaches anything or is left without a verdict, honest work is done, and nothing is left of either."""
    verdicts = found.pop("verdicts")
    attacked = {verdict["attack"] for verdict in verdicts}
    assert attacked == {*sandbox_attacks.OUT, *sandbox_attacks.SELF, *sandbox_attacks.WORK}
    wrong = [verdict for verdict in verdicts if verdict["score"] != (verdict["attack"] in sandbox_attacks.WORK)]
    assert not wrong
    # However long an answer draws things out, its time is over when it is.
    seconds = [verdict["s"] for verdict in verdicts if verdict["attack"] not in sandbox_attacks.WORK]
    assert max(seconds) < sandbox_attacks.SECONDS + 10
    assert found == {"processes left": [], "server lives": True, "files locked": False, "descriptors left": 0}


def test_attacks_by_answers_of_this_user():
    holds(outcomes([sys.executable, sandbox_attacks.__file__, str(REPOSITORY / "scripts")]))


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root has tested just that already")
def test_attacks_by_answers_of_a_user_who_is_not_root():
    """The other way in, by a user namespace; of another Python, for that user may not be able to read this one."""
    system = "/usr/bin/python3"
    version = [system, "-c", "import sys; print(sys.version_info >= (3, 11))"]
    if not Path(system).exists() or subprocess.run(version, capture_output=True, text=True).stdout != "True\n":
        absent("Python 3.11 of the system is missing: install python3")
    library = REPOSITORY / "scripts" / "adaptive_samplers"
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        folder = Path(place)
        shutil.copy(sandbox_attacks.__file__, folder)
        for path in (path for pattern in sandbox_attacks.NEEDED for path in library.glob(pattern)):
            copied = folder / "adaptive_samplers" / path.relative_to(library)
            copied.parent.mkdir(parents=True, exist_ok=True)
            # Packages do not import what they hold, of which not all can be had.
            copied.write_text("" if path.name == "__init__.py" else path.read_text())
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        command = [system, str(folder / "sandbox_attacks.py"), place]
        holds(outcomes(command, user=65534, group=65534, extra_groups=[]))


# In a user namespace of its own, in which the system then creates no namespaces.
FORBIDDING = """
for kind in user mnt pid net ipc uts; do echo 0 > /proc/sys/user/max_${kind}_namespaces || exit 9; done
exec "$@"
"""
ASKING = """
import json, sys; sys.path.insert(0, sys.argv[1])
from adaptive_samplers.labels.verifiers.code import verify_code
from adaptive_samplers.labels.verifiers.sandbox import check_sandbox
answer = f"open({sys.argv[2]!r}, 'w')"
for ask in (check_sandbox, lambda: verify_code(answer, {"tests": ["pass"]})):
    try:
        print(json.dumps(["no error", str(ask())]))
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


def test_where_sandboxes_are_forbidden_no_code_is_run(tmp_path):
    enter = ["unshare", "--user", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*enter, "true"], check=False, capture_output=True).returncode:
        absent("`unshare --user` of util-linux is missing, or may not create user namespaces")
    ask = [sys.executable, "-c", ASKING, REPOSITORY / "scripts", tmp_path / "witness"]
    done = subprocess.run([*enter, "sh", "-c", FORBIDDING, "sh", *ask], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (checked, why), (verified, same) = map(json.loads, done.stdout.splitlines())
    assert checked == "UserError" and "user namespaces" in why
    assert verified == "SandboxError" and "namespaces" in same and same in why
    assert not (tmp_path / "witness").exists()


def test_there_are_no_sandboxes_but_on_linux(monkeypatch):
    check_sandbox.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError, match="Linux"):
        check_sandbox()


ADD = "def add(a, b):\n    return a + b"
TESTS = {"tests": ["assert add(1, 2) == 3", "assert add(-1, 1) == 0"]}
CALLS = {"function": "add", "calls": [{"arguments": [1, 2], "result": 3}, {"arguments": ["a", "b"], "result": "ab"}]}
CASES = {"cases": [{"input": "1 2\n", "output": "3\n"}, {"input": "5 5", "output": "10"}]}
SUM = "print(sum(map(int, input().split())))"

FORGERIES = {
    "leaving with success": "import os\nos._exit(0)",
    "asking to leave": "import sys\nsys.exit(0)",
    "leaving in the function": "import os\ndef add(a, b):\n    os._exit(0)",
    "printing success": "print('passed 2 tests')\nprint('{\"passed\": 2}')\ndef add(a, b): return 0",
    "writing success to every descriptor": """
import json, os, struct
for report in ({"ready": True}, {"passed": 2, "token": ""}, {"passed": 2}, {"result": 3}, [1], "passed"):
    payload = json.dumps(report).encode()
    for descriptor in range(1, 64):
        try: os.write(descriptor, struct.pack(">I", len(payload)) + payload)
        except OSError: pass
os._exit(0)
""",
    "writing rubbish to every descriptor": """
import os
for descriptor in range(1, 64):
    try: os.write(descriptor, b"\\xff" * 100)
    except OSError: pass
""",
    "swallowing exceptions": "import sys\nsys.excepthook = lambda *a: None\ndef add(a, b): return 0",
    "claiming at exit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef add(a, b): raise SystemExit(0)",
    "killing the first process": "import os\nos.kill(1, 9)\nos.kill(-1, 9)\nos._exit(0)",
    "nesting deeply": """
import os, struct
payload = b"[" * 200_000 + b"]" * 200_000
for descriptor in range(1, 64):
    try: os.write(descriptor, struct.pack(">I", len(payload)) + payload)
    except OSError: pass
""",
}


@pytest.mark.parametrize("ground_truth", [TESTS, CALLS, CASES], ids=["tests", "calls", "cases"])
@pytest.mark.parametrize("attack", FORGERIES)
def test_success_cannot_be_faked(attack, ground_truth):
    score, detail = verify_code(FORGERIES[attack], ground_truth, Limits(seconds=2))
    assert score == 0.0, detail


CLASS_OF_EQUALS = """
class Yes(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = int.__hash__
def add(a, b): return Yes(0)
"""


def test_what_equals_everything_does_not_equal_the_result_of_a_call():
    assert verify_code(CLASS_OF_EQUALS, CALLS, LIMITS)[0] == 0.0


def test_expected_results_never_enter_the_sandbox(monkeypatch):
    sent, send = [], Sandbox.send
    monkeypatch.setattr(Sandbox, "send", lambda self, message: (sent.append(message), send(self, message)))
    assert verify_code(ADD, {"function": "add", "calls": [{"arguments": [20, 3], "result": 23}]}, LIMITS)[0] == 1.0
    assert sent == [{"arguments": [20, 3]}]


GOOD_CODE = [
    (ADD, TESTS),
    (f"Here it is:\n```python\n{ADD}\n```\nIt adds.", TESTS),
    (f"```\nwrong\n```\nBetter:\n```py\n{ADD}\n```", CALLS),
    (f"```python\n{ADD}", TESTS),  # cut off after the code
    (f"```python\n{ADD}\n```\nRun it:\n```bash\npython add.py\n```", TESTS),
    ("add = lambda a, b: a + b", CALLS),
    (SUM, CASES),
    (f"def main():\n    {SUM}\nif __name__ == '__main__':\n    main()", CASES),
    ("import sys\na, b = sys.stdin.read().split()\nprint(int(a) + int(b), '  ')\nsys.exit()", CASES),
    (
        "def halve(x): return x / 3 * 1.0000000000001",
        {"function": "halve", "calls": [{"arguments": [1], "result": 1 / 3}]},
    ),
    (
        "def pair(): return (1, [2.0, None])",
        {"function": "pair", "calls": [{"arguments": [], "result": [1, [2, None]]}]},
    ),
    ("class A:\n    def go(self): return 1", {"tests": ["a = A()", "assert a.go() == 1"]}),
    (ADD, {"tests": ["def check(candidate):\n    assert candidate(2, 2) == 4", "check(add)"]}),
]
BAD_CODE = [
    ("def add(a, b):\n    return a - b", TESTS, "test 1: AssertionError"),
    ("def add(a, b):\n    return abs(a) + b", TESTS, "test 2: AssertionError"),
    ("def add(a, b) return a + b", TESTS, "SyntaxError"),
    ("def plus(a, b): return a + b", TESTS, "NameError"),
    ("def plus(a, b): return a + b", CALLS, "no function 'add'"),
    ("def add(a, b): return {a, b}", CALLS, "TypeError"),
    ("def add(a, b): return str(a) + str(b)", CALLS, "call 1: returned '12', expected 3"),
    ("def yes(): return 1", {"function": "yes", "calls": [{"arguments": [], "result": True}]}, "returned 1"),
    ("print(3)", CASES, "case 2: printed '3\\n'"),
    ("print(input() + 1)", CASES, "case 1: TypeError"),
    ("I do not know.", CASES, "SyntaxError"),
    ("```bash\nls\n```", TESTS, "no code"),
    ("print(3)\nraise SystemExit(1)", CASES, "exit status 1"),
    ("def add(a, b):\n    while True: pass", CALLS, "within 1 s"),
    ("while True: pass", TESTS, "within 1 s"),
    ("def add(a, b): return [0] * 10**10", CALLS, "MemoryError"),
    ("def add(a, b): return add(a, b)", TESTS, "RecursionError"),
]


@pytest.mark.parametrize(("answer", "ground_truth"), GOOD_CODE)
def test_code_that_passes_scores_one(answer, ground_truth):
    score, detail = verify_code(answer, ground_truth, LIMITS)
    assert score == 1.0, detail
    assert detail.startswith("passed")


@pytest.mark.parametrize(("answer", "ground_truth", "message"), BAD_CODE)
def test_code_that_fails_scores_zero_and_says_where(answer, ground_truth, message):
    score, detail = verify_code(answer, ground_truth, SHORT)
    assert score == 0.0
    assert message in detail


def test_what_an_answer_raises_can_be_written_to_a_table():
    truth = json.dumps(TESTS)
    with VerifierPool(Verification(), 1) as pool:
        (outcome,) = pool.outcomes([Task("code", truth, "raise ValueError('\\ud800')")])
    assert outcome == (0.0, "ValueError: \\ud800", None)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\x0b", "\u2028"])
def test_lines_are_compared_as_python_splits_them(ends):
    text = ends.join(["a", "", " b \t", "c", "", ""])
    answer = f"import sys\nsys.stdout.write({text!r})"
    same = ["\n".join(line.rstrip() for line in text.rstrip().splitlines()), "a\n\n b\nc", "a\n\n b\nc\n \n"]
    other = ["a\n\n b\nc\nd", "a\n\n b", "a\n b\nc", "a\n\nb\nc", "\na\n\n b\nc"]
    for expected in (*same, *other):
        score, detail = verify_code(answer, {"cases": [{"input": "", "output": expected}]}, LIMITS)
        assert score == (expected in same), (expected, detail)


def test_spaces_alone_are_no_lines():
    assert verify_code("print(' \\n ')", {"cases": [{"input": "", "output": ""}]}, LIMITS)[0] == 1.0


@pytest.mark.parametrize(
    "ground_truth",
    [
        "assert True",
        {},
        {"tests": []},
        {"tests": "assert True"},
        {"tests": ["assert (True"]},
        {"tests": ["pass"], "timeout": 5},
        {"cases": [{"input": "1"}]},
        {"cases": [{"input": 1, "output": "1"}]},
        {"function": "f", "calls": [{"arguments": 1, "result": 1}]},
        {"calls": [{"arguments": [1], "result": 1}]},
        {"function": "f", "calls": [{"arguments": [], "result": "x" * 2_100_000}]},
    ],
)
def test_a_ground_truth_of_another_form_is_refused_before_code_runs(ground_truth):
    with pytest.raises((ValueError, SyntaxError)):
        VERIFIERS["code"].check(ground_truth)


def test_numbers_too_large_for_floats_are_compared_all_the_same():
    big = {"function": "f", "calls": [{"arguments": [], "result": 1.5}]}
    assert verify_code("def f(): return 10**400", big, LIMITS)[0] == 0.0
    huge = {"function": "f", "calls": [{"arguments": [], "result": math.inf}]}
    assert verify_code("def f(): return float('inf')", huge, LIMITS)[0] == 1.0
