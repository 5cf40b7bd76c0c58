"""An iteration's training: the config's command is run, and the folder that it leaves becomes the next policy."""

import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from adaptive_samplers.errors import UserError
from adaptive_samplers.files import atomic_output
from adaptive_samplers.hashing import content_number
from adaptive_samplers.locks import only_writer
from adaptive_samplers.models.fetch import fetch_model
from adaptive_samplers.policies.command import filled_in, variable
from adaptive_samplers.stage import say

LIBRARY = Path(__file__).resolve().parents[2]
# Without PYTHONPATH, which the command would inherit.
ATTEND = """
import sys
sys.path.insert(0, sys.argv[1])
from adaptive_samplers.policies.attended import main
main(int(sys.argv[2]), sys.argv[3])
"""
SHOWN_LINES = 30  # of the log of a command that failed


def training_seed(run_seed: int, number: int) -> int:
    """The seed of an iteration's training, at least 0 and below 2^31, which every library accepts."""
    return content_number(["train", run_seed, number]) % 2**31


def train_policy(command: str, words: Mapping[str, str | int], output: Path, log: Path, threads: int) -> None:
    """Run a training command; the folder `output` exists if and only if it has succeeded.

    Parameters
    ----------
    command : of the config; `{output}` in it is a folder next to `output` that does not exist yet.
    words : what replaces the other placeholders in the command. Each is also an environment variable (see
    `command.variable`). Paths should be absolute, because a command may change folders. The folder `scratch`, if
    given, is created, and deleted once the command has succeeded.
    log : what the command writes to stdout and stderr goes there.
    threads : of each process of the command, for libraries that use OpenMP.

    Raises
    ------
    UserError
        If the command fails, with the last lines of its log, or leaves no model in safetensors with its tokenizer.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(output):
        for left in output.parent.glob(f".{output.name}.*"):
            # Left by killed jobs. While we hold the lock, nobody else writes there.
            shutil.rmtree(left, ignore_errors=True)
        if "scratch" in words:
            Path(words["scratch"]).mkdir(parents=True, exist_ok=True)
        with atomic_output(output) as temporary:
            words = {**words, "output": temporary.resolve()}
            say(f"training; what the command says is in {log}")
            with open(log, "w") as stream:
                code = _run(filled_in(command, words), words, threads, stream.fileno())
            if code:
                raise UserError(f"iteration.command ended with status {code}. The end of {log}:\n{_last_lines(log)}")
            _check_checkpoint(temporary, log)
        if "scratch" in words:
            shutil.rmtree(words["scratch"], ignore_errors=True)


def _run(command: str, words: Mapping[str, str | int], threads: int, stream: int) -> int:
    environment = {**os.environ, **{variable(word): str(value) for word, value in words.items()}}
    environment["OMP_NUM_THREADS"] = str(threads)
    # The variable that puts this library before installed ones is only for the workflow's own jobs (rules/common.smk).
    paths = environment.pop("PYTHONPATH", "").split(os.pathsep)
    if paths := [path for path in paths if path not in ("", str(LIBRARY))]:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    attendant = [sys.executable, "-c", ATTEND, str(LIBRARY), str(os.getpid()), command]
    # Its own process group, which is killed with this process.
    return subprocess.call(
        attendant, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=environment, start_new_session=True
    )


def _last_lines(log: Path) -> str:
    with open(log, errors="replace") as file:
        return "".join(f"  {line}" for line in deque(file, SHOWN_LINES)).rstrip()


def is_adapter(folder: Path) -> bool:
    """Whether a checkpoint is a PEFT adapter rather than a whole model."""
    return (folder / "adapter_config.json").is_file()


def _check_checkpoint(folder: Path, log: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"iteration.command succeeded and wrote no folder {{output}}; look at {log}")
    wanted = ["adapter_config.json"] if is_adapter(folder) else ["config.json", "tokenizer_config.json"]
    missing = [name for name in wanted if not (folder / name).is_file()]
    missing += [] if list(folder.glob("*.safetensors")) else ["*.safetensors"]
    if missing:
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise UserError(
            f"iteration.command left no {', no '.join(missing)} in {{output}} (there: {found}); let it save the model, "
            "or a PEFT adapter, in safetensors, and the model's tokenizer"
        )


def adopt_policy(checkpoint: Path, base: Path, license_name: str, name: str, folder: Path) -> None:
    """Make a model folder, with its provenance, from the output of training; an adapter is merged into `base`."""
    source = {"kind": "folder", "path": str(checkpoint)}
    if is_adapter(checkpoint):
        source = {"kind": "adapter", "adapter": source, "base": {"kind": "folder", "path": str(base)}}
    fetch_model(name, source, license_name, folder)
