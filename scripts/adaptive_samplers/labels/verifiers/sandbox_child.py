"""The script that builds the sandbox around itself and executes the answer's code. Only `sandbox` starts it.

It uses only the standard library. A server with an empty environment waits for requests, so that Python starts only
once. Its argument is the system call filter (see `sandbox_filter`) in hexadecimal. For each request it forks a
launcher, which leaves the machine's namespaces. The launcher forks process 1 of the new namespaces; when that ends,
the kernel kills everything in them. Process 1 forks the answer's process.
"""

import contextlib
import ctypes
import fcntl
import json
import math
import os
import platform
import resource
import signal
import socket
import struct
import sys
import types
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION = 0x20080522
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
INNER_USER = 1000
# User ids from here on belong to no person, service or container. Lower ones are used if these do not exist.
NO_USERS, LOW_NO_USERS = 0x70000000, 30_000
WORK = "/sandbox"
STAGING = "/tmp"
CHANNEL, STATUS = 3, 4  # descriptors
LONGEST_MESSAGE = 64 * 2**20
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache")

libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """The system does not let an ordinary program build a sandbox."""


def send(channel: socket.socket, message: Any) -> None:
    """Send a message as JSON, preceded by its length."""
    payload = json.dumps(message).encode()
    channel.sendall(struct.pack(">I", len(payload)) + payload)


def receive(channel: socket.socket) -> Any:
    """The next message; None at the end of the stream. ValueError if it is not a message."""
    header = _read(channel, 4)
    if header is None:
        return None
    (length,) = struct.unpack(">I", header)
    if length > LONGEST_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    payload = _read(channel, length)
    return None if payload is None else json.loads(payload)


def _read(channel: socket.socket, length: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < length:
        part = channel.recv(min(length - len(parts), 2**20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def check(result: int, action: str) -> None:
    """Raise the C library's error for a failed call."""
    if result != 0:
        raise Unavailable(f"{action}: {os.strerror(ctypes.get_errno())}")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    check(libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]), f"mounting {target}")


def leave_namespaces() -> None:
    """Leave the machine's network, processes and mounts. Without root this needs a user namespace."""
    spaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        check(libc.unshare(spaces), "leaving the namespaces as root")
        return
    check(libc.unshare(spaces | CLONE_NEWUSER), "creating a user namespace")
    for name, content in [
        ("setgroups", "deny"),
        ("uid_map", f"{INNER_USER} {user} 1"),
        ("gid_map", f"{INNER_USER} {group} 1"),
    ]:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)


def build_root(visible: list[str], disk_bytes: int) -> None:
    """Build and enter a file system with the Python installation, read-only, and an empty folder in memory."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    links, folders = {}, {}
    for path in [*SYSTEM, *visible, *DEVICES]:
        if os.path.islink(path):
            links[path] = os.readlink(path)
        elif os.path.exists(path):
            # Opened now, because the staging folder may hide it later.
            folders[path] = os.open(path, os.O_PATH)
    mount("tmpfs", STAGING, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path, descriptor in folders.items():
        _bind(descriptor, path)
    _make_read_only([STAGING + path for path in folders])
    for path, target in links.items():
        os.makedirs(STAGING + os.path.dirname(path), exist_ok=True)
        os.symlink(target, STAGING + path)
    os.makedirs(STAGING + WORK, exist_ok=True)
    for shared in ("/tmp", "/dev/shm"):
        if not os.path.lexists(STAGING + shared):
            os.symlink(WORK, STAGING + shared)
    mount("tmpfs", STAGING + WORK, "tmpfs", MS_NOSUID | MS_NODEV, f"size={disk_bytes},nr_inodes=4096,mode=777")
    mount(None, STAGING, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.chdir(STAGING)
    number = PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise Unavailable(f"processors of the kind {platform.machine()} are not provided for")
    check(libc.syscall(number, b".", b"."), "entering the new root")
    check(libc.umount2(b".", MNT_DETACH), "leaving the old root")
    os.chdir(WORK)


def _bind(descriptor: int, path: str) -> None:
    """Mount a descriptor's file or folder, and what is mounted in it, at the same path of the new root."""
    target, source = STAGING + path, f"/proc/self/fd/{descriptor}"
    is_folder = os.path.isdir(source)
    os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)
    if not is_folder:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
    mount(source, target, None, MS_BIND | MS_REC)
    os.close(descriptor)


def _make_read_only(targets: list[str]) -> None:
    """Make the bound paths read-only. Devices can still be written to, but keep their times and permissions."""
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4].encode().decode("unicode_escape") for line in file]
    for point in points:
        if any(point == target or point.startswith(target + "/") for target in targets):
            # A user namespace may add restrictions to a mount but not lift existing ones.
            has = os.statvfs(point).f_flag
            kept = has & (MS_NOSUID | MS_NODEV | 8 | 1024 | 2048) | ((1 << 21) if has & 4096 else 0)
            kept |= 0 if point.removeprefix(STAGING) in DEVICES else MS_NODEV
            mount(None, point, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def drop_privileges(number: int) -> None:
    """Give up all privileges for good. Root becomes a user whose number belongs to this sandbox alone.

    The limit on processes counts per user, so each sandbox then has its whole limit.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        try:
            become(NO_USERS + number)
        except OSError:
            # A container may not have all user ids.
            become(LOW_NO_USERS + number % LOW_NO_USERS)
    else:
        header = struct.pack("Ii", CAPABILITY_VERSION, 0)
        check(libc.capset(header, bytes(24)), "dropping capabilities")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forbidding new privileges")
    check(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "closing the memory to others")


def become(user: int) -> None:
    """Change the user and group for good."""
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def refuse_system_calls(program: bytes) -> None:
    """Install a system call filter for this process and all that it starts, after forbidding core dumps.

    Only a dump limit of 1 byte is never reached *and* keeps crashes from the machine's dump handler, which would run
    outside the sandbox.
    """
    core = 0 if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (core, core))
    instructions = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HP", len(program) // 8, ctypes.addressof(instructions))
    check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, pointer, 0, 0), "filtering system calls")


def limit_resources(limits: dict[str, Any]) -> None:
    """Set the limits of the calling process and of all that it starts."""
    seconds = math.ceil(limits["seconds"])
    for what, value in [
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_DATA, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["disk_bytes"]),
        (resource.RLIMIT_NPROC, limits["counted_processes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_SIGPENDING, 1024),
        (resource.RLIMIT_MSGQUEUE, 0),
    ]:
        # The caller's limit may be stricter.
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def run_program(request: dict[str, Any], channel: socket.socket) -> int:
    """Execute the code as a program, whose standard output goes to the verifier."""
    try:
        exec(compile(request["code"], "answer.py", "exec"), _module("__main__"))
    except SystemExit as stop:
        code = stop.code
        return code if isinstance(code, int) else 0 if code is None else 1
    except BaseException as error:
        send(channel, {"error": describe(error)})
        return 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
    return 0


def run_tests(request: dict[str, Any], channel: socket.socket) -> int:
    """Execute the code, ask for the tests, run them in order until one fails, and sign the report."""
    names = _module("answer")
    if not _define(request["code"], names, channel):
        return 0
    send(channel, {"ready": True})
    work = receive(channel)
    for number, test in enumerate(work["tests"]):
        try:
            exec(compile(test, f"test {number + 1}", "exec"), names)
        except BaseException as error:
            send(channel, {"failed": number, "error": describe(error)})
            return 0
    send(channel, {"passed": len(work["tests"]), "token": work["token"]})
    return 0


def run_calls(request: dict[str, Any], channel: socket.socket) -> int:
    """Execute the code, then call its function with the arguments that arrive, and send the results."""
    names = _module("answer")
    if not _define(request["code"], names, channel):
        return 0
    function = names.get(request["function"])
    if not callable(function):
        send(channel, {"error": f"the answer defines no function '{request['function']}'"})
        return 0
    send(channel, {"ready": True})
    while (call := receive(channel)) is not None:
        try:
            reply = {"result": json.loads(json.dumps(function(*call["arguments"])))}
        except BaseException as error:
            reply = {"error": describe(error)}
        send(channel, reply)
    return 0


def _define(code: str, names: dict[str, Any], channel: socket.socket) -> bool:
    try:
        exec(compile(code, "answer.py", "exec"), names)
    except BaseException as error:
        send(channel, {"error": describe(error)})
        return False
    return True


def _module(name: str) -> dict[str, Any]:
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module.__dict__


def describe(error: BaseException) -> str:
    """The type and text of an exception, shortened."""
    try:
        text = str(error)
    except BaseException:
        text = ""
    name = type(error).__name__
    return f"{name}: {text[:200]}" if text else name


KINDS = {"program": run_program, "tests": run_tests, "calls": run_calls}


def run_answer(request: dict[str, Any], channel: socket.socket) -> int:
    """The answer's process: set its limits, then run its code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    limit_resources(request["limits"])
    sys.argv = ["answer.py"]
    return KINDS[request["kind"]](request, channel)


def first_process(request: dict[str, Any], number: int) -> int:
    """Process 1: build the root, start the answer and wait for it. All that the answer started ends with it."""
    channel = socket.socket(fileno=CHANNEL)
    # Without handlers, no signal from inside reaches it. In its own session, none gets out through its group.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.setsid()
        build_root(request["visible"], request["limits"]["disk_bytes"])
        drop_privileges(number)
        # Changing the user clears it.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        with open(os.memfd_create("stdin"), "wb+") as given:
            given.write(request.get("stdin", "").encode())
            given.seek(0)
            os.dup2(given.fileno(), 0)
        refuse_system_calls(bytes.fromhex(sys.argv[1]))
    except (OSError, Unavailable) as error:
        send(channel, {"unavailable": str(error)})
        return 1
    send(channel, {"started": True})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(STATUS)
            code = run_answer(request, channel)
        finally:
            # The answer's threads must not keep its process alive.
            os._exit(code & 255)
    channel.close()
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == child:
            os.write(STATUS, bytes([exit_status(status)]))
            return 0


def exit_status(status: int) -> int:
    """The exit status as shells give it: 128 plus the signal's number for a killed process."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def launch(descriptors: list[int]) -> None:
    """The launcher, which stays outside and waits until process 1, and with it every other process, is gone.

    A termination signal makes it kill process 1. The descriptors are the channel to the verifier, the standard output,
    and the pipe to which process 1 writes the answer's status.
    """
    child = 0

    def stop(*_: object) -> None:
        if not child:
            os._exit(0)
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, stop)
    channel, output, status = (fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in descriptors)
    null = os.open("/dev/null", os.O_RDWR)
    for source, target in [(null, 0), (output, 1), (null, 2), (channel, CHANNEL), (status, STATUS)]:
        os.dup2(source, target)
    os.closerange(STATUS + 1, 256)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with socket.socket(fileno=CHANNEL) as channel_here:
        try:
            request = receive(channel_here)
            if request is None:
                return
            number = os.getpid()
            leave_namespaces()
            child = os.fork()
        except (OSError, Unavailable) as error:
            send(channel_here, {"unavailable": str(error)})
            return
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os._exit(first_process(request, number))
    os.close(STATUS)
    os.waitpid(child, 0)


def serve() -> None:
    """Start a sandbox for every three descriptors that arrive on descriptor 0; end those whose numbers arrive."""
    control = socket.socket(fileno=os.dup(0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 16, 3)
        if not message:
            return
        if descriptors:
            child = os.fork()
            if child == 0:
                try:
                    launch(descriptors)
                finally:
                    os._exit(0)
            for descriptor in descriptors:
                os.close(descriptor)
            control.send(struct.pack(">I", child))
        else:
            (child,) = struct.unpack(">I", message)
            # It has not been waited for, so its number has not been reused.
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            control.send(b"ended")


if __name__ == "__main__":
    serve()
