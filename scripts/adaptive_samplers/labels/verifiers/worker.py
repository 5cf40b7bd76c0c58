"""A process that verifies answers for `processes`, which kills it if an answer takes too long.

It reads requests from standard input and writes replies to the original standard output, one line of JSON each. What
verifiers print goes to standard error.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

from adaptive_samplers.errors import UserError
from adaptive_samplers.hashing import content_id
from adaptive_samplers.labels.verifiers.registry import Verification, Verifier
from adaptive_samplers.labels.verifiers.sandbox import Limits

_PR_SET_PDEATHSIG = 1
_LONGEST_TEXT = 2_000


def main() -> None:
    """Serve until the input ends. Its first line holds the settings, and each further line a batch of tasks."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _end_with_parent()
    settings = json.loads(sys.stdin.buffer.readline())
    own = tuple((name, path) for name, path in settings["own"])
    verification = Verification(own, settings["timeout"], settings["memory_mb"], Limits(**settings["code"]))
    memory = verification.memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    try:
        verifiers = verification.verifiers()
    except UserError as error:
        _reply(replies, {"refused": str(error)})
        return
    _reply(replies, {"ready": True})
    loaded: set[str] = set()
    for line in sys.stdin.buffer:
        for kind, name, text, ground_truth in json.loads(line):
            if name not in loaded:
                loaded.add(name)
                _load(verifiers[name])
                _reply(replies, {"loaded": name})
            _reply(replies, _verdict(verifiers[name], kind, text, ground_truth))


def _end_with_parent() -> None:
    """Do not outlive the stage if it is killed while a verifier hangs."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _load(verifier: Verifier) -> None:
    try:
        verifier.load()
    except Exception as error:
        # Each answer's row reports its own error.
        print(f"verifier {verifier.name}: {type(error).__name__}: {error}", file=sys.stderr)


def _verdict(verifier: Verifier, kind: str, text: str, ground_truth: str | None) -> list[Any]:
    """Score, detail and error; anything that a verifier raises becomes the error."""
    try:
        if ground_truth is None:
            raise ValueError("the prompt has no ground truth")
        if kind == "check":
            verifier.accept(json.loads(ground_truth))
            return [None, None, None]
        if kind == "final_answer":
            return [None, _final_answer(verifier, text, json.loads(ground_truth)), None]
        score, detail = verifier(text, json.loads(ground_truth))
    except BaseException as error:
        return [None, None, _writable(f"{type(error).__name__}: {error}"[:_LONGEST_TEXT])]
    return [score, _writable(detail[:_LONGEST_TEXT]), None]


def _writable(text: str) -> str:
    """A text that a table can hold: lone surrogates are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _final_answer(verifier: Verifier, text: str, ground_truth: Any) -> str | None:
    if verifier.final_answer is None:
        raise ValueError(f"the verifier {verifier.name} knows no final answers")
    said = verifier.said(text)
    answer = verifier.final_answer(said, ground_truth) if said.strip() else None
    if answer is None:
        return None
    answer = _writable(answer)
    # Truncated, two long answers could look the same.
    return answer if len(answer) <= _LONGEST_TEXT else f"hash {content_id(answer)}"


def _reply(replies: Any, content: Any) -> None:
    replies.write(json.dumps(content) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
