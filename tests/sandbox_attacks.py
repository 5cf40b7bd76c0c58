"""Answers' code that attacks the sandbox, or does its work there, and a program that runs it.

    python sandbox_attacks.py FOLDER [NAME ...]

The folder is what makes `adaptive_samplers` importable. It need hold the files in `NEEDED` alone, and any Python from
3.11 on will do, so that a user who cannot read this repository or its Python can run the attacks too.
"""

import ctypes
import fcntl
import json
import os
import resource
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

NEEDED = ("errors.py", "hashing.py", "labels/verifiers/*.py")
SECRET = "hunter2"
TOGETHER = 12  # attacks at once: most of them sleep
SECONDS = 1.0

# An answer that gets at something prints one word, and so solves its task.
TASK = {"cases": [{"input": "", "output": "REACHED"}]}
PRELUDE = """
import ctypes, errno, fcntl, json, os, resource, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(15, b"{mark}", 0, 0, 0)
on_x86 = os.uname().machine == "x86_64"
def reached(condition=True):
    if condition:
        print("REACHED", flush=True)
        os._exit(0)
def call(on_x86_64, elsewhere, *arguments):
    # The result of a system call by its number; the error's number below 0.
    result = libc.syscall(on_x86_64 if on_x86 else elsewhere, *arguments)
    return result if result >= 0 else -ctypes.get_errno()
def tries(action, *arguments):
    try:
        action(*arguments)
    except (OSError, ValueError, AttributeError):
        return False
    return True
def each_descriptor(payload):
    for descriptor in range(1, 64):
        tries(os.write, descriptor, payload)
"""

# What would reach beyond the sandbox, or take more than its limits.
OUT = {
    "kills its process group": "os.killpg(0, 9)",
    "stops its process group": "os.killpg(0, signal.SIGSTOP)",
    "interrupts everything in reach": "signal.signal(2, signal.SIG_IGN); tries(os.killpg, 0, 2); tries(os.kill, -1, 2)",
    "kills who waits for it": "reached(tries(os.kill, {outside}, 9))",
    "leaves a process in a session of its own": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)
        time.sleep(1000)
""",
    "reads the caller's keyring": """
key = call(250, 219, 10, -3, b"user", b"{key}", 0)
if key > 0:
    buffer = ctypes.create_string_buffer(100)
    call(250, 219, 11, key, buffer, 100)
    reached(buffer.value == b"{secret}")
""",
    "leaves a key to the next answer": "reached(call(248, 217, b'user', b'note', b'x', 1, -3) > 0)",
    "leaves a key to its user": "reached(call(248, 217, b'user', b'note', b'x', 1, -4) > 0)",
    "fills shared memory segments": """
held = []
for number in range(8):
    segment = libc.shmget(0, 100_000_000, 0o1600)
    libc.shmat.restype = ctypes.c_void_p
    place = libc.shmat(segment, None, 0)
    if segment < 0 or place in (None, 2**64 - 1): break
    ctypes.memset(place, 1, 100_000_000)
    libc.shmdt(ctypes.c_void_p(place))
    held.append(segment)
for segment in held: libc.shmctl(segment, 0, None)
reached(len(held) * 100_000_000 > {memory})
""",
    "fills files in memory": "reached(tries(os.memfd_create, 'x'))",
    "fills message queues": "reached(libc.msgget(0, 0o1600) >= 0)",
    "takes semaphores": "reached(libc.semget(0, 1, 0o1600) >= 0)",
    "opens a POSIX message queue": "reached(call(240, 180, b'note', 0o102, 0o600, None) >= 0)",
    "enlarges pipes": "reached(tries(fcntl.fcntl, os.pipe()[1], 1031, 2**20))",
    "opens sockets of other families": """
for family in range(46):
    for kind in (1, 2, 3, 5):
        if family != socket.AF_UNIX:
            reached(tries(socket.socket, family, kind))
""",
    "connects to an abstract socket": """
reached(tries(socket.socket(socket.AF_UNIX).connect, "\\0{abstract}"))
""",
    "connects to a socket by its path": "reached(tries(socket.socket(socket.AF_UNIX).connect, {socket!r}))",
    "reads a secret file": "reached(tries(open, {file!r}))",
    "reads the machine's accounts": "reached(tries(open, '/etc/passwd'))",
    "follows a link out": """
os.symlink({file!r}, "link"); os.symlink("/proc/1/root", "root")
reached(tries(open, "link") or tries(os.listdir, "root") or tries(os.listdir, "../../../../home"))
""",
    "reads its environment": "reached('{secret}' in str(os.environ) or os.path.exists('/proc/self'))",
    "reads the kernel's files": "reached(any(map(os.path.exists, ('/sys/kernel', '/proc/meminfo', '/run'))))",
    "joins a control group": "reached(os.path.exists('/sys/fs/cgroup'))",
    "uses an inherited descriptor": "reached(any(tries(os.fstat, number) for number in range(4, 1024)))",
    "goes back by a descriptor's folder": """
for number in range(64):
    reached(tries(os.fchdir, number))
""",
    "makes a device": "reached(tries(os.mknod, 'disk', 0o60600, os.makedev(8, 0)))",
    "opens a terminal": "reached(tries(os.openpty) or tries(open, '/dev/tty') or tries(open, '/dev/mem'))",
    "changes a device's times": "reached(tries(os.utime, '/dev/null') or tries(os.chmod, '/dev/null', 0o600))",
    "writes elsewhere": """
for place in ("/x", "/usr/x", "/etc/x", "/dev/x", "/var/tmp/x", os.path.dirname(os.__file__) + "/x", {folder!r} + "/x"):
    reached(tries(open, place, "w"))
""",
    "locks a file of Python's": """
reached(tries(fcntl.flock, os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB))
""",
    "leases a file of Python's": """
file = os.open(os.__file__, os.O_RDONLY)
reached(tries(fcntl.fcntl, file, 1024, fcntl.F_WRLCK) or tries(fcntl.fcntl, file, 1024, fcntl.F_RDLCK))
""",
    "watches a folder of Python's": """
folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
reached(tries(fcntl.fcntl, folder, 1026, 1) or libc.inotify_init1(0) >= 0 or call(300, 262, 0, 0) >= 0)
""",
    "becomes another user": """
for action in (os.setuid, os.setgid, os.seteuid, os.setegid):
    reached(tries(action, 0))
reached(tries(os.setgroups, [0]) or tries(os.chroot, "/usr") or tries(os.nice, -5))
reached(libc.prctl(39, 0, 0, 0, 0) != 1)
""",
    "makes namespaces": """
reached(any(libc.unshare(flag) == 0 for flag in (0x10000000, 0x10020000, 0x20000, 0x50000000)))
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x02000000):
    child = call(56, 220, flag | 17, 0, 0, 0, 0)
    if child == 0: os._exit(0)
    reached(child > 0)
arguments = struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0)
child = call(435, 435, arguments, len(arguments))
if child == 0: os._exit(0)
reached(child > 0)
""",
    "mounts": """
os.mkdir("there")
reached(libc.mount(b"none", b"there", b"tmpfs", 0, None) == 0 or libc.umount2(b"/usr", 2) == 0)
reached(libc.mount(None, b"/usr", None, 32 | 4096, None) == 0 or call(428, 428, -100, b"/usr", 1) >= 0)
reached(call(430, 430, b"tmpfs", 0) >= 0)
""",
    "looks into the first process": """
buffer = ctypes.create_string_buffer(8)
vector = struct.pack("PN", ctypes.addressof(buffer), 8)
process = call(434, 434, 1, 0)
reached(process >= 0 and call(438, 438, process, 0, 0) >= 0)
for place in (0x400000, 0x10000):
    reached(call(310, 270, 1, vector, 1, struct.pack("PN", place, 8), 1, 0) not in (-errno.EPERM, -errno.ENOSYS))
reached(libc.ptrace(0x4206, 1, 0, 0) == 0 or libc.ptrace(16, 1, 0, 0) == 0)
reached(call(312, 272, 1, os.getpid(), 2, 0, 0) >= 0)
""",
    "traces its own child": """
child = os.fork()
if child == 0: time.sleep(1000)
reached(libc.ptrace(0x4206, child, 0, 0) == 0)
""",
    "opens the kernel's machinery": """
attributes = struct.pack("IIQQQQQ", 1, 112, 1, 0, 0, 0, 0b1100000) + bytes(72)
found = {{
    "io_uring": call(425, 425, 4, ctypes.create_string_buffer(248)),
    "perf": call(298, 241, attributes, 0, -1, -1, 0),
    "userfaultfd": call(323, 282, 1),
    "bpf": call(321, 280, 0, struct.pack("IIII", 2, 4, 8, 1) + bytes(56), 72),
    "aio": call(206, 0, 100, ctypes.create_string_buffer(8)),
    "secret memory": call(447, 447, 0),
    "handles": call(303, 264, -100, b"/usr", struct.pack("Ii", 128, 0) + bytes(128), ctypes.create_string_buffer(4), 0),
    "landlock": call(444, 444, None, 0, 1),
    "filters": call(317, 277, 2, 0, ctypes.create_string_buffer(struct.pack("I", 0x7FFC0000))),
    "personality": call(135, 92, 0x0040000),
    "memory policy": call(238, 237, 0, None, 0),
    "quota": call(179, 60, 0, b"/dev/vda", 0, None),
    "log": call(103, 116, 10, None, 0),
}}
reached(any(result >= 0 for result in found.values()))
""",
    "sets clocks and names": """
reached(call(164, 170, struct.pack("qq", 0, 0), None) >= 0 or call(227, 112, 0, struct.pack("qq", 0, 0)) >= 0)
reached(call(159, 171, bytes(208)) >= 0 or call(170, 161, b"x", 1) >= 0)
""",
    "raises its limits": """
for what in range(16):
    soft, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        reached(tries(resource.setrlimit, what, (hard + 1, hard + 1)))
""",
    "sets limits of the first process": """
reached(any(tries(resource.prlimit, 1, what, (0, 0)) for what in (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE)))
""",
    "has its crash written to the machine": """
reached(resource.getrlimit(resource.RLIMIT_CORE)[0] != {core})
reached(tries(resource.setrlimit, resource.RLIMIT_CORE, (0, 0)))
reached(tries(resource.prlimit, 0, resource.RLIMIT_CORE, (0, 1)))
""",
    "fills the disk": """
count = 0
try:
    while True:
        with open(str(count), "wb") as file: file.write(bytes(1_000_000))
        count += 1
except OSError:
    reached(count * 1_000_000 > {disk})
""",
    "fills the disk with deleted files": """
held, written = [], 0
try:
    while True:
        held.append(open("x", "wb", buffering=0)); os.unlink("x")
        written += held[-1].write(bytes(1_000_000))
except OSError:
    reached(written > {disk})
""",
    "fills the table of files": """
count = 0
try:
    while True:
        os.mkdir(str(count)); count += 1
except OSError:
    reached(count > 10_000)
""",
    "forks without end": """
children = 0
try:
    while children < 50:
        if os.fork() == 0: time.sleep(1000)
        children += 1
except OSError:
    pass
reached(children > {processes})
""",
    "calls the kernel as a 32-bit program": """
import mmap
if on_x86:
    # mov eax, 20 (getpid); int 0x80; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("b814000000cd80c3"))
    reached(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))() == os.getpid())
""",
    "calls the kernel with 32-bit pointers": "reached(on_x86 and libc.syscall(0x40000000 | 39) == os.getpid())",
}

# What an answer does to itself, and to who asked: a wrong answer, neither a failure nor a right one.
SELF = {
    "sends every signal to the first process": """
for number in range(1, 65):
    tries(os.kill, 1, number)
    call(129, 138, 1, number, struct.pack("iii", number, 0, -1) + bytes(116))
time.sleep(0.2)
""",
    "sends every signal to itself": """
for number in range(1, 65):
    child = os.fork()
    if child == 0: os.kill(os.getpid(), number); os._exit(0)
    os.waitpid(child, os.WUNTRACED)
os.kill(os.getpid(), 11)
""",
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "is interrupted": "os.kill(os.getpid(), signal.SIGINT)",
    "has the first process's time run out": """
tries(resource.prlimit, 1, resource.RLIMIT_CPU, (0, 0))
tries(resource.prlimit, 1, resource.RLIMIT_AS, (0, 0))
time.sleep(0.5)
""",
    "crashes": "ctypes.string_at(0)",
    "aborts": "os.abort()",
    "overflows the stack": "import sys; sys.setrecursionlimit(10**8)\ndef add(a, b): return add(a, b)\nadd(1, 2)",
    "raises half of a pair": "raise ValueError('\\ud800')",
    "raises control characters": "raise ValueError('\\0\\x1b[31m\\r\\n\\u2028')",
    "raises what cannot be shown": """
class Odd(BaseException):
    def __str__(self): raise Odd
raise Odd
""",
    "raises under half of a pair as a name": "raise type('\\ud800', (Exception,), dict())('\\udfff')",
    "closes everything": "os.closerange(0, 1000)",
    "ends its side of the channel": "socket.socket(fileno=3).shutdown(socket.SHUT_RDWR)",
    "sends nested lists": "each_descriptor(struct.pack('>I', 400_000) + b'[' * 200_000 + b']' * 200_000)",
    "sends lists nested just so": """
for depth in (300, 490, 900, 980, 995):
    text = b'{{"ready": true, "error": ' + b'[' * depth + b']' * depth + b'}}'
    tries(os.write, 3, struct.pack('>I', len(text)) + text)
def add(a, b): return 0
""",
    "sends a long message of many lists at the end of its time": """
text = b"[" + b"[]," * 22_000_000 + b"0]" if {memory} > 3e8 else b"[" + b"[]," * 15_000_000 + b"0]"
time.sleep(max(0, {seconds} - 0.2 - time.process_time()))
for start in range(0, 1): os.write(3, struct.pack(">I", len(text)) + text)
""",
    "sends a message drop by drop": """
os.write(3, struct.pack(">I", 1000))
while True:
    time.sleep(0.3)
    os.write(3, b"[")
""",
    "sends half a message": "os.write(3, struct.pack('>I', 1000) + b'[')\ntime.sleep(1000)",
    "sends a number too long": """
text = b'{{"failed": ' + b'9' * 4300 + b', "error": 1, "ready": true}}'
each_descriptor(struct.pack(">I", len(text)) + text)
""",
    "sends no text": "each_descriptor(struct.pack('>I', 4) + b'\\xff\\xfe\\xfd\\xfc')",
    "sends descriptors": """
end = socket.socket(fileno=3)
text = b'{{"ready": true}}'
for _ in range(20): socket.send_fds(end, [struct.pack(">I", len(text)) + text], [0, 1, 2] * 10)
""",
    "prints many lines": "sys.stdout.write('ab\\n' * ({disk} // 3 - 10))",
    "prints one line": "sys.stdout.write('a' * ({disk} - 10))",
    "prints more than it may": "while True: os.write(1, b'x' * 100_000)",
    "prints drop by drop": "while True: print('x', flush=True); time.sleep(0.1)",
    "prints no text": "os.write(1, bytes(range(256)) * 1000)",
    "hands its output to a child": "if os.fork() == 0: time.sleep(1000)",
    "waits for its end deaf to signals": """
for number in range(1, 32): tries(signal.signal, number, signal.SIG_IGN)
time.sleep(1000)
""",
    "leaves with an odd status": "class Odd(int):\n    def __and__(self, other): raise ValueError\nsys.exit(Odd(5))",
    "leaves with a status that is no number": "sys.exit('\\ud800' * 100_000)",
    "takes all memory": "held = []\nwhile True: held.append(bytes(10**6))",
    "takes all memory in all processes": """
for _ in range({processes}):
    if os.fork() == 0: break
held = []
try:
    while True: held.append(bytes(10**6))
except MemoryError:
    time.sleep(1000)
""",
    "forks for ever": "while True:\n    tries(os.fork)",
    "starts threads for ever": """
import threading
while True: threading.Thread(target=time.sleep, args=(1000,)).start()
""",
    "is no Python at all": "\\0 (((((",
    "is nested deeply": "(" * 10_000 + ")" * 10_000,
    "returns itself within itself": "held = []\nfor _ in range(900): held = [held]\ndef add(a, b): return held",
    "returns millions of lists": "def add(a, b): return [[]] * 20_000_000",
    "returns a long number": "sys.set_int_max_str_digits(0)\ndef add(a, b): return 10**100_000",
    "returns half of a pair": "def add(a, b): return '\\ud800'",
    "returns no number": "def add(a, b): return float('nan')",
}
# What answers may do, and must be able to.
WORK = {
    "limits": "assert all(len(resource.getrlimit(what)) == 2 for what in range(16))",
    "threads": """
import threading, queue
line, threads = queue.Queue(), []
for number in range(3):
    threads.append(threading.Thread(target=line.put, args=(number,))); threads[-1].start()
for thread in threads: thread.join()
assert line.qsize() == 3
""",
    "pools": """
from concurrent.futures import ThreadPoolExecutor
assert list(ThreadPoolExecutor(2).map(str, range(3))) == ["0", "1", "2"]
""",
    "children": """
child = os.fork()
if child == 0: os._exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
""",
    "programs": """
import subprocess
said = subprocess.run([sys.executable, "-c", "print(input())"], input="x", capture_output=True, text=True)
assert said.stdout == "x\\n", said
assert subprocess.run("exit 3", shell=True, stderr=subprocess.DEVNULL).returncode == 3
""",
    "processes": """
import multiprocessing
def put(line): line.put(7)
line = multiprocessing.Queue()
process = multiprocessing.Process(target=put, args=(line,)); process.start()
assert line.get() == 7
process.join()
""",
    "shared memory": """
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=1000)
memory.buf[5] = 1; memory.close(); memory.unlink()
""",
    "coroutines": """
import asyncio
async def main():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=-1)
    return await process.stdout.read(), await asyncio.gather(*(asyncio.sleep(0.01, number) for number in range(3)))
assert asyncio.run(main()) == (b"1\\n", [0, 1, 2])
""",
    "files": """
import mmap, pathlib, shutil, tempfile
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "a"); path.write_text("x" * 5000); path.chmod(0o700); os.utime(path)
    shutil.copy(path, path.with_name("b")); path.rename(path.with_name("c"))
    with open(path.with_name("b"), "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX); assert mmap.mmap(file.fileno(), 0)[:1] == b"x"
    assert sorted(os.listdir(folder)) == ["b", "c"] and shutil.disk_usage(folder).free > 0
""",
    "databases": """
import sqlite3
with sqlite3.connect("data") as base: base.execute("create table t (x)"); base.execute("insert into t values (1)")
assert sqlite3.connect("data").execute("select sum(x) from t").fetchone() == (1,)
""",
    "signals and timers": """
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause()
try: os.kill(os.getpid(), signal.SIGINT); time.sleep(1)
except KeyboardInterrupt: pass
""",
    "local sockets and polls": """
import select, selectors
one, other = socket.socketpair(); one.send(b"x")
poll = select.epoll(); poll.register(other.fileno(), select.EPOLLIN); assert poll.poll(1)
assert selectors.DefaultSelector() and other.recv(1) == b"x"
end, start = os.pipe(); os.set_blocking(end, False); assert os.dup(end) > 2
""",
    "numbers, times and names": """
import datetime, decimal, platform, random, secrets, uuid, zoneinfo
assert secrets.token_bytes(4) and uuid.uuid4() and random.random() < 1 and platform.machine() and os.cpu_count()
assert datetime.datetime.now(datetime.timezone.utc) and len(os.sched_getaffinity(0)) > 0 and time.process_time() >= 0
""",
}
FORMS = {
    "cases": TASK,
    "tests": {"tests": ["assert add(1, 2) == 3"]},
    "calls": {"function": "add", "calls": [{"arguments": [1, 2], "result": 3}]},
}


def keep_secrets(folder: Path) -> dict[str, Any]:
    """Things that an answer must not get at, where an ordinary program of this user would; what to look for."""
    os.environ["SECRET_TOKEN"] = SECRET
    (folder / "secret").write_text(SECRET)
    # A session keyring of this process's own, with a secret in it, as a file system's or a network's tools keep them.
    libc = ctypes.CDLL(None, use_errno=True)
    join, add = ((250, 1), 248) if os.uname().machine == "x86_64" else ((219, 1), 217)
    key = f"sandbox-attacks-{os.getpid()}"
    if libc.syscall(*join, None) >= 0:
        assert libc.syscall(add, b"user", key.encode(), SECRET.encode(), len(SECRET), -3) > 0
    return {
        "key": key,
        "secret": SECRET,
        "file": str(folder / "secret"),
        "folder": str(folder),
        "socket": str(folder / "socket"),
        "abstract": key,
        "outside": os.getpid(),
        "core": min(1, resource.getrlimit(resource.RLIMIT_CORE)[1] % 2**64),
        "mark": f"attack{os.getpid()}",
    }


def marked(mark: str) -> list[int]:
    """The processes that bear a name."""
    found = []
    for name in Path("/proc").glob("[0-9]*/comm"):
        try:
            if name.read_text().strip() == mark:
                found.append(int(name.parent.name))
        except OSError:
            pass
    return found


def locked(path: str) -> bool:
    """Whether somebody holds a lock on a file."""
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def run(names: list[str]) -> dict[str, Any]:
    """Run attacks, some at a time: what they reached, who has no verdict, and what is left of them."""
    from adaptive_samplers.labels.verifiers import sandbox, worker
    from adaptive_samplers.labels.verifiers.code import verify_code
    from adaptive_samplers.labels.verifiers.registry import Verifier

    limits = sandbox.Limits(seconds=SECONDS, memory_mb=256, processes=4, disk_mb=2)
    attacked = Verifier("code", partial(verify_code, limits=limits), check=print)
    # Honest work has its time, however busy the machine is.
    patient = Verifier("code", partial(verify_code, limits=replace(limits, seconds=60)), check=print)
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX) as abstract, socket.socket(1) as named:
        # First, so that the server of sandboxes could hand them on.
        filled = keep_secrets(Path(place)) | {"memory": 256e6, "disk": 2 * 2**20, "processes": 4, "seconds": SECONDS}
        sandbox.check_sandbox()
        server = sandbox._server(os.getpid())
        descriptors = len(os.listdir("/proc/self/fd"))
        abstract.bind("\0" + filled["abstract"])
        named.bind(filled["socket"])
        for listening in (abstract, named):
            listening.listen()

        def attack(job: tuple[str, str]) -> dict[str, Any]:
            name, form = job
            code = (
                (PRELUDE + (OUT | SELF | WORK)[name] + ("\nreached()" if name in WORK else ""))
                .replace("{{", "{")
                .replace("}}", "}")
            )
            for word, value in filled.items():
                code = code.replace("{" + word + "!r}", repr(value)).replace("{" + word + "}", str(value))
            start = time.monotonic()
            score, detail, error = worker._verdict(
                patient if name in WORK else attacked, "verify", code, json.dumps(FORMS[form])
            )
            detail = (detail or error).encode().decode()  # as a table must be able to hold it
            return {"attack": name, "form": form, "score": score, "detail": detail, "s": time.monotonic() - start}

        jobs = [(name, form) for name in names for form in (FORMS if name in SELF else ("cases",))]
        with ThreadPoolExecutor(TOGETHER) as executor:
            verdicts = list(executor.map(attack, jobs))
        return {
            "verdicts": verdicts,
            "processes left": marked(filled["mark"]),
            "server lives": sandbox._server(os.getpid()) is server and server._process.poll() is None,
            "files locked": locked(os.__file__),
            "descriptors left": len(os.listdir("/proc/self/fd")) - descriptors,
        }


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    json.dump(run(sys.argv[2:] or [*OUT, *SELF, *WORK]), sys.stdout)
