"""The fenced blocks of a document, and what a reader who follows a how-to page does with them."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from support import REPOSITORY

# What a copy of the project does without. It has what Python and Numba compiled, so that its jobs need not, but nothing
# that they are just writing, which may be gone when its turn comes.
NOT_COPIED = (".git", ".venv", "results", "logs", "benchmarks", ".snakemake", ".*_cache", ".hypothesis")
UNFINISHED = ("*.nb[ci].tmp.*", "*.pyc.[0-9]*")
NOT_WRITTEN = (*NOT_COPIED, "__pycache__")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes
    ----------
    language : what stands behind its fence; `sh` for commands, `diff` for a change.
    path : the file that its first line names; None without such a line.
    place : what that line says beside: `at its end`, `as it is`, or nothing for a whole file or a change.
    text : the rest.
    """

    language: str
    path: str | None
    place: str
    text: str


def fenced_blocks(text: str) -> list[Block]:
    """The fenced blocks of a document, without their indentation."""
    blocks = []
    for indent, language, content in re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        content = re.sub(f"^{indent}", "", content, flags=re.MULTILINE)
        named = re.match(r"# ([\w./-]+\.\w+)(?:, (at its end|as it is))?\n", content)
        path, place = (named[1], named[2] or "") if named else (None, "")
        blocks.append(Block(language, path, place, content[named.end() :] if named else content))
    return blocks


def copy_of_the_project(folder: Path) -> Path:
    """A copy to change; its `.venv` is the environment in which the tests run."""
    shutil.copytree(REPOSITORY, folder, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED, *UNFINISHED))
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def follow(block: Block, project: Path) -> None:
    """Do what a block says, in a copy of the project: run it, or write it into its file."""
    if block.language == "sh":
        done = subprocess.run(
            ["bash", "-e", "-c", block.text], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout[-5000:]}{done.stderr[-5000:]}"
        return
    assert block.path, f"this block does not say which file it goes to:\n{block.text}"
    file = project / block.path
    if block.place == "as it is":
        text = file.read_text()
        assert all(line.removesuffix(" ...").strip() in text for line in block.text.splitlines()), block.text
    elif block.place == "at its end":
        file.write_text(f"{file.read_text()}\n\n{block.text}")
    elif block.language == "diff":
        file.write_text(changed_text(file.read_text(), block))
    else:
        assert not file.exists(), f"{block.path} is there already"
        file.write_text(block.text)


def changed_text(text: str, block: Block) -> str:
    """A file's text after a change. What the change says to be there must be there, in one place."""
    lines = block.text.splitlines(keepends=True)
    assert {line[:1] for line in lines} <= set(" +-\n"), f"{block.path}: a line begins with neither ' ', '+' nor '-'"
    old = "".join(line[1:] or "\n" for line in lines if line[0] != "+")
    new = "".join(line[1:] or "\n" for line in lines if line[0] != "-")
    found = f"\n{text}".count(f"\n{old}")
    assert found == 1, f"{block.path} has this in {found} places:\n{textwrap.indent(old, '    ')}"
    return f"\n{text}".replace(f"\n{old}", f"\n{new}")[1:]


def contents(project: Path) -> dict[str, bytes]:
    """The files of a project and what is in them, but for users' own, which lie at its top."""
    found = {}
    for folder, folders, names in os.walk(project):
        folders[:] = [name for name in folders if not any(fnmatch(name, pattern) for pattern in NOT_WRITTEN)]
        if Path(folder) != project:
            paths = [Path(folder, name) for name in names]
            found |= {str(path.relative_to(project)): path.read_bytes() for path in paths if path.is_file()}
    return found
