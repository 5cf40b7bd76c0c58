"""The filter of system calls: its numbers are the kernel's, and it judges calls as it says on each machine."""

import errno
import re
import struct
from pathlib import Path

import pytest

from adaptive_samplers.labels.verifiers import sandbox_filter
from adaptive_samplers.labels.verifiers.sandbox_filter import _LET_THROUGH, _MACHINES, _REFUSED
from support import absent

HEADERS = {
    "x86_64": ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"],
    "aarch64": ["/usr/include/asm-generic/unistd.h"],
}
ALLOWED, KILLED = 0x7FFF0000, 0x80000000


def numbers(machine: str) -> dict[str, int]:
    """The numbers of all system calls, as the kernel's own headers give them."""
    for path in filter(Path.exists, map(Path, HEADERS[machine])):
        found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", path.read_text(), re.MULTILINE)
        return {name: int(number) for name, number in found}
    absent("the kernel's headers are missing: install linux-libc-dev")


def judge(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel's interpreter of such programs makes of a call; written from seccomp(2) and its format alone."""
    program = sandbox_filter.sandbox_filter(machine)
    architecture = _MACHINES[machine][0] if architecture is None else architecture
    call = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    value, place = 0, 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("=HBBI", program, 8 * place)
        place += 1
        match code:
            case 0x20:
                (value,) = struct.unpack_from("<I", call, operand)
            case 0x06:
                return operand
            case 0x15:
                place += if_true if value == operand else if_false
            case 0x35:
                place += if_true if value >= operand else if_false
            case 0x45:
                place += if_true if value & operand else if_false
            case _:
                raise AssertionError(f"instruction {code:#x}")


def refused(error: int) -> int:
    return 0x00050000 | error


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_are_the_kernels(machine):
    known, column = numbers(machine), _MACHINES[machine][1]
    ours = {name: pair[column] for name, pair in _REFUSED.items()}
    for name, number in ours.items():
        assert known.get(name) == number, name
    by_argument = ("_SOCKET", "_SOCKETPAIR", "_CLONE", "_FCNTL", "_PRLIMIT", "_SETRLIMIT")
    for name in by_argument:
        called = "prlimit64" if name == "_PRLIMIT" else name[1:].lower()
        assert known[called] == getattr(sandbox_filter, name)[column]
    for name, number in _LET_THROUGH.items():
        assert known.get(name, number) == number  # a header may be older than the call


@pytest.mark.parametrize("machine", HEADERS)
def test_every_call_of_the_kernel_is_judged_as_named(machine):
    allowed = {"read", "write", "openat", "execve", "futex", "mmap", "rt_sigaction", "epoll_create1", "getrandom"}
    for name, number in numbers(machine).items():
        if name in _REFUSED:
            expected = refused(errno.EPERM)
        elif number >= 424 and name not in _LET_THROUGH:
            expected = refused(errno.ENOSYS)
        elif name in ("socket", "socketpair"):
            expected = refused(errno.EAFNOSUPPORT)
        else:
            expected = ALLOWED
        assert judge(machine, number) == expected, name
        assert name not in allowed or expected == ALLOWED
    assert judge(machine, 9999) == refused(errno.ENOSYS)


@pytest.mark.parametrize("machine", HEADERS)
def test_arguments_decide(machine):
    known, not_permitted = numbers(machine), refused(errno.EPERM)
    for name in ("socket", "socketpair"):
        assert judge(machine, known[name], 1, 1) == ALLOWED
        for family in (0, 2, 10, 16, 17, 38, 40, 2 + 2**31):
            assert judge(machine, known[name], family) == refused(errno.EAFNOSUPPORT)
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert judge(machine, known["clone"], flag | 17) == not_permitted
    assert judge(machine, known["clone"], 0x3D0F00) == judge(machine, known["clone"], 17) == ALLOWED  # thread, process
    for command, expected in [
        (2, ALLOWED),
        (6, ALLOWED),
        (1030, ALLOWED),
        (1024, not_permitted),
        (1031, not_permitted),
    ]:
        assert judge(machine, known["fcntl"], 3, command) == expected
    limit, address = known["prlimit64"], 2**40
    assert judge(machine, limit, 0, 7, address) == ALLOWED and judge(machine, limit, 1, 7) == not_permitted
    assert judge(machine, limit, 0, 4, 0, address) == ALLOWED
    assert judge(machine, limit, 0, 4, address) == judge(machine, limit, 0, 4, 8) == not_permitted
    if "setrlimit" in known:
        assert (
            judge(machine, known["setrlimit"], 4) == not_permitted and judge(machine, known["setrlimit"], 7) == ALLOWED
        )


def test_programs_for_other_machines_are_killed():
    i386 = 0x40000003
    for machine in _MACHINES:
        assert judge(machine, 20, architecture=i386) == KILLED
    assert judge("x86_64", 0x40000000 | 39) == judge("x86_64", 2**32 - 1) == KILLED
    with pytest.raises(ValueError, match="s390x"):
        sandbox_filter.sandbox_filter("s390x")
