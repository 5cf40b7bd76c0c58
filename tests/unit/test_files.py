"""Atomic output, hashes of files, and part files that survive a kill at any byte."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from adaptive_samplers import files
from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output, read_json, write_json
from adaptive_samplers.hashing import file_sha256
from adaptive_samplers.partfile import PartFile
from adaptive_samplers.stage import run_stage
from support import REPOSITORY, absent


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_output(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and temporary.parent == path.parent and temporary.suffix == ".txt"
        temporary.write_text("whole")
    assert path.read_text() == "whole" and names(path.parent) == ["a.txt"]
    with pytest.raises(RuntimeError, match="stop"), atomic_output(path) as temporary:
        temporary.write_text("broken")
        raise RuntimeError("stop")
    assert path.read_text() == "whole" and names(path.parent) == ["a.txt"]


def test_a_folder_replaces_the_old_one(tmp_path):
    path = tmp_path / "a0.7_b0.3"  # what follows the dot is no suffix
    for content in ("old", "new"):
        with atomic_output(path) as temporary:
            (temporary / "sub").mkdir(parents=True)
            (temporary / "sub" / content).write_text(content)
        assert names(path / "sub") == [content] and names(tmp_path) == ["a0.7_b0.3"]
    with pytest.raises(RuntimeError, match="stop"), atomic_output(path) as temporary:
        temporary.mkdir()
        raise RuntimeError("stop")
    assert names(path / "sub") == ["new"] and names(tmp_path) == ["a0.7_b0.3"]


@pytest.mark.parametrize("name", ["a0.7_b0.3_top2", "a.parquet", "model"])
def test_what_a_killed_process_left_is_deleted_and_what_others_write_is_not(tmp_path, name):
    path, other = tmp_path / name, tmp_path / f"{name}.5"
    code = (
        "import os, signal, sys; from adaptive_samplers.files import atomic_output\n"
        "with atomic_output(sys.argv[1]) as temporary:\n"
        "    temporary.mkdir(); (temporary / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for written in (path, other):
        command = [sys.executable, "-c", code, str(written)]
        assert subprocess.run(command, env={"PYTHONPATH": str(REPOSITORY / "scripts")}).returncode == -9
    (left, of_other) = sorted(tmp_path.iterdir(), key=lambda found: ".5." in found.name)
    living = left.with_name(f".{name}.{files._HOST}.{os.getppid()}{path.suffix}")
    elsewhere = left.with_name(f".{name}.another-node.7{path.suffix}")
    for held in (living, elsewhere, tmp_path / f".{name}", tmp_path / f".{name}.note"):
        held.touch()
    write_json(1, path)
    assert names(tmp_path) == sorted([name, of_other.name, living.name, elsewhere.name, f".{name}", f".{name}.note"])
    os.utime(elsewhere, (0, 0))
    write_json(1, path)
    assert elsewhere.name not in names(tmp_path) and living.exists()


def test_what_a_process_left_is_deleted_before_its_end_is_noted(tmp_path):
    """A run that is started again at once after a kill."""
    if not Path("/proc/self/stat").exists():
        absent("no /proc, which alone tells that a process has ended before its parent takes note")
    path = tmp_path / "a.json"
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        (tmp_path / f".a.json.{files._HOST}.{ended.pid}.json").touch()
        write_json(1, path)
        assert names(tmp_path) == ["a.json"]


def test_half_of_a_pair_is_written_as_its_escape(tmp_path):
    write_json({"why": "\ud800 \x00 é"}, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {"why": "\ud800 \x00 é"}


def test_a_log_takes_every_message(tmp_path, capsys):
    def main(_):
        raise UserError("the judge said \ud800")

    stage = SimpleNamespace(log=[str(tmp_path / "log")], threads=1, resources={}, rule="judge")
    with pytest.raises(SystemExit):
        run_stage(main, stage)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "error in rule judge: the judge said \\ud800\n"
    assert "said \\ud800" in capsys.readouterr().err


def test_a_folder_is_never_deleted_in_place(tmp_path, monkeypatch):
    """A crash while the old folder is being deleted must not leave half of it under its name."""
    path = tmp_path / "folder"
    (path / "old").mkdir(parents=True)
    deleted = []
    monkeypatch.setattr(files.shutil, "rmtree", lambda folder, **options: deleted.append(str(folder)))
    with atomic_output(path) as temporary:
        (temporary / "new").mkdir(parents=True)
    assert names(path) == ["new"] and str(path) not in deleted


def test_what_a_killed_process_left_is_not_in_the_way(tmp_path):
    with atomic_output(tmp_path / "folder") as temporary:
        pass_on = temporary
        temporary.mkdir()
    pass_on.mkdir()
    (pass_on / "stale").touch()
    with atomic_output(tmp_path / "folder") as temporary:
        temporary.mkdir()  # as the stages do, without exist_ok
    assert names(tmp_path / "folder") == [] and names(tmp_path) == ["folder"]


def test_output_that_was_not_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_output(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def test_everything_is_flushed_before_the_rename(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files.os, "fsync", lambda number: flushed.append(os.readlink(f"/proc/self/fd/{number}")))
    with atomic_output(tmp_path / "folder") as temporary:
        (temporary / "sub").mkdir(parents=True)
        (temporary / "sub" / "a").write_text("a")
        (temporary / "b").write_text("b")
        assert not flushed
    assert sorted(os.path.basename(path) for path in flushed) == ["a", "b"]


def test_json_in_any_locale(tmp_path):
    value = {"b": [1, 2.5, None, True], "a": "naïve 終わり"}
    write_json(value, tmp_path / "v.json")
    assert read_json(tmp_path / "v.json") == value and names(tmp_path) == ["v.json"]
    code = f"from adaptive_samplers.files import *; write_json(read_json({str(tmp_path / 'v.json')!r}), 'w.json')"
    subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code],
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY / "scripts"), "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"},
    )
    assert (tmp_path / "w.json").read_bytes() == (tmp_path / "v.json").read_bytes()


def test_the_hash_of_a_file(tmp_path):
    content = os.urandom(3_000_001)
    (tmp_path / "f").write_bytes(content)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()


ROWS = [{"key": ["p", "h", i], "text": f"line\nbreak {i} 終"} for i in range(4)]


def part_with(path, rows, fingerprint="one"):
    with PartFile(path, fingerprint) as part:
        for row in rows:
            part.append(row)
        return list(part.rows())


def test_rows_come_back_in_order(tmp_path):
    path = tmp_path / "new" / "out.parquet"
    assert part_with(path, ROWS[:2]) == ROWS[:2]
    assert part_with(path, ROWS[2:]) == ROWS
    assert names(path.parent) == ["out.parquet.part"]
    with PartFile(path, "one") as part:
        assert list(part.rows()) == ROWS
        part.remove()
    assert names(path.parent) == []


def test_a_kill_at_any_byte_loses_only_the_row_that_was_being_written(tmp_path):
    path = tmp_path / "out"
    part_with(path, ROWS[:3])
    whole = (tmp_path / "out.part").read_bytes()
    for size in range(len(whole) + 1):
        (tmp_path / "out.part").write_bytes(whole[:size])
        kept = max(0, whole[:size].count(b"\n") - 1)  # the first line is the header
        assert part_with(path, [ROWS[3]]) == [*ROWS[:kept], ROWS[3]]


def test_rows_of_another_fingerprint_are_dropped(tmp_path, capsys):
    path = tmp_path / "out"
    part_with(path, ROWS)
    assert part_with(path, ROWS[:1], fingerprint="two") == ROWS[:1]
    assert "out.part: rows of another configuration" in capsys.readouterr().err


def test_rows_survive_the_process(tmp_path):
    """Once `append` has returned, SIGKILL does not take the row away."""
    code = (
        "import os, signal; from adaptive_samplers.partfile import PartFile\n"
        f"part = PartFile({str(tmp_path / 'out')!r}, 'one').__enter__()\n"
        f"[part.append(row) for row in {ROWS!r}]\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(REPOSITORY / "scripts")})
    assert done.returncode == -9
    lines = (tmp_path / "out.part").read_text().splitlines()
    assert [json.loads(line) for line in lines[1:]] == ROWS
    assert part_with(tmp_path / "out", []) == ROWS


def test_a_full_disk_is_named_and_costs_the_row_in_flight_alone(tmp_path, monkeypatch):
    path = tmp_path / "out"
    part_with(path, ROWS[:2])
    with PartFile(path, "one") as part:
        write, left = part.file.write, [20, 0]

        class FullDisk:
            """The disk takes 20 more bytes, which is less than a row."""

            def write(self, data):
                if not (size := left.pop(0)):
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(data[:size])

        part.file = FullDisk()
        with pytest.raises(UserError, match=r"out\.part could not be written: no space is left.*df -h.*run again"):
            part.append(ROWS[2])
    assert part_with(path, ROWS[2:]) == ROWS


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "quota"), RuntimeError("I/O: No space left on device (28)")],
)
def test_a_full_disk_leaves_the_old_output(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UserError, match=r"a\.txt could not be written"), atomic_output(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]
