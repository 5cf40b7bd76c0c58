"""The lock of a part file: one writer at a time, and no trace of a killed one in the way."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from adaptive_samplers.errors import UserError
from adaptive_samplers.locks import only_writer
from adaptive_samplers.partfile import PartFile
from support import REPOSITORY

HOLD = """
import sys, time
from pathlib import Path
from adaptive_samplers.locks import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
COUNT = """
import sys, time
from pathlib import Path
from adaptive_samplers.locks import only_writer
place = Path(sys.argv[1])
for _ in range(20):
    with only_writer(place):
        value = int(place.read_text())
        time.sleep(0.001)
        place.write_text(str(value + 1))
"""


def start(code, *arguments):
    environment = {"PYTHONPATH": str(REPOSITORY / "scripts"), "SLURM_JOB_ID": "4711", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path):
    process = start(HOLD, tmp_path / "out.part", 60)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_writer_is_told_who_the_first_one_is(holder, tmp_path, capsys):
    with pytest.raises(UserError) as caught, only_writer(tmp_path / "out.part", patience=0.2):
        pytest.fail("two writers at once")
    words = str(caught.value)
    assert words.startswith(f"{tmp_path}/out.part is being written by process {holder.pid} on ")
    assert os.uname().nodename in words and "SLURM job 4711, since 20" in words and "scancel" in words
    assert len(re.findall("waiting 0 s for it to end", capsys.readouterr().err)) == 1


def test_a_part_file_is_locked_while_it_is_open(tmp_path):
    code = (
        "import sys, time; from adaptive_samplers.partfile import PartFile\n"
        "with PartFile(sys.argv[1], 'one') as part:\n"
        "    part.append({'key': 1}); list(part.rows()); print('held', flush=True); time.sleep(60)\n"
    )
    process = start(code, tmp_path / "out")
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"out.part is being written by process {process.pid}"):
        PartFile(tmp_path / "out", "two", patience=0.2).__enter__()
    assert len((tmp_path / "out.part").read_text().splitlines()) == 2, "the loser touches nothing"
    process.kill()
    process.wait()
    with PartFile(tmp_path / "out", "one") as part:
        assert list(part.rows()) == [{"key": 1}]


def test_who_is_patient_goes_on_when_the_first_one_ends(holder, tmp_path):
    ending = threading.Event()

    def end():
        ending.set()
        holder.terminate()

    threading.Timer(0.7, end).start()
    with only_writer(tmp_path / "out.part", patience=30):
        assert ending.is_set()
    assert os.listdir(tmp_path) == []


def test_a_killed_holder_and_its_note_block_nobody(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert "SLURM job 4711" in (tmp_path / "out.part.lock").read_text()
    with only_writer(tmp_path / "out.part", patience=0):
        note = (tmp_path / "out.part.lock").read_text()
        assert f"process {os.getpid()} on" in note and note.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_many_writers_never_meet(tmp_path):
    """Each reads a number, waits and writes the next one; the lock file is deleted and made anew all the while."""
    place = tmp_path / "number"
    place.write_text("0")
    processes = [start(COUNT, place) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lambda process: process.wait(60), processes)) == [0] * 4
    assert place.read_text() == "80"


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with only_writer(tmp_path / "out.part"):
        pass
    assert "out.part: this file system has no locks" in capsys.readouterr().err
