"""The seccomp(2) filter, as bytes: which system calls an answer's code may make.

Numbers below 424 differ between architectures, and no new ones are assigned. Of these, the filter refuses calls that
reach out of the sandbox (keys, locks, other processes' memory), evade its limits (memory that belongs to no process),
or open parts of the kernel that no answer needs and where most holes were found. It refuses all that containers do, and
more. From 424 on, all architectures share their numbers, and new kernels add to them. Of these, only the calls named
here are allowed. The rest look unknown, as to an older kernel, which the C library can handle.
"""

import errno
import platform
import struct

# For each supported machine: the kernel's number for it, and the position of its call numbers in the tables.
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1), "riscv64": (0xC00000F3, 1)}
_X32_CALLS = 0x40000000  # x86_64 calls of programs with 32-bit pointers start here

_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # Other processes.
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272)},
    # Things that outlive the sandbox, are visible outside or delay others: keys, locks, watches, write-backs.
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    **{"flock": (73, 32), "sync": (162, 81), "syncfs": (306, 267), "io_setup": (206, 0)},
    **{
        "inotify_init": (253, None),
        "inotify_init1": (294, 26),
        "fanotify_init": (300, 262),
        "fanotify_mark": (301, 263),
    },
    # Memory that counts towards no limit.
    **{"shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180)},
    **{"memfd_create": (319, 279)},
    # Namespaces, mounts, and access to files other than by path.
    **{"unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)},
    **{"chroot": (161, 51), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265)},
    # Parts of the kernel that are large, rarely needed, or old.
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "seccomp": (317, 277)},
    **{"mbind": (237, 235), "set_mempolicy": (238, 237), "get_mempolicy": (239, 236), "migrate_pages": (256, 238)},
    **{"move_pages": (279, 239), "vmsplice": (278, 75), "personality": (135, 92), "modify_ldt": (154, None)},
    **{"iopl": (172, None), "ioperm": (173, None), "uselib": (134, None), "ustat": (136, None), "sysfs": (139, None)},
    **{"_sysctl": (156, None), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42)},
    # The machine's clock, names, modules and devices, for which the code has no privilege anyway.
    **{"settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266)},
    **{"sethostname": (170, 161), "setdomainname": (171, 162), "vhangup": (153, 58), "syslog": (103, 116)},
    **{"create_module": (174, None), "init_module": (175, 105), "delete_module": (176, 106)},
    **{"get_kernel_syms": (177, None), "query_module": (178, None), "finit_module": (313, 273)},
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "acct": (163, 89)},
    **{"swapon": (167, 224), "swapoff": (168, 225), "quotactl": (179, 60)},
}
# Calls that are allowed or refused by their arguments.
_SOCKET, _SOCKETPAIR, _CLONE, _FCNTL = (41, 198), (53, 199), (56, 220), (72, 25)
_PRLIMIT, _SETRLIMIT = (302, 261), (160, 164)

_SHARED_NUMBERS = 424
_LET_THROUGH = {
    **{"pidfd_send_signal": 424, "pidfd_open": 434, "close_range": 436, "openat2": 437, "faccessat2": 439},
    **{"epoll_pwait2": 441, "futex_waitv": 449, "fchmodat2": 452},
}

_AF_UNIX = 1
_NEW_NAMESPACES = 0x7E020000  # all CLONE_NEW* that clone(2) knows
_FIRST_OF_LINUX, _DUPLICATE_CLOSED_ON_EXEC = 1024, 1030  # fcntl commands; Linux's are leases, watches and pipe sizes
_CORE = 4  # RLIMIT_CORE

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16


def sandbox_filter(machine: str | None = None) -> bytes:
    """The filter's instructions, of 8 bytes each, for a machine as `platform.machine` names it (None: this one).

    Raises
    ------
    ValueError
        If there is no filter for this kind of machine.
    """
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        raise ValueError(f"processors of the kind {machine} are not provided for")
    architecture, column = _MACHINES[machine]
    not_permitted = _ERROR | errno.EPERM
    # Programs for another architecture use other numbers.
    program = [_load(_ARCHITECTURE), *_unless(_EQUAL, architecture, _KILL), _load(_NUMBER)]
    if machine == "x86_64":
        program += _if(_AT_LEAST, _X32_CALLS, _KILL)
    for numbers in _REFUSED.values():
        if numbers[column] is not None:
            program += _if(_EQUAL, numbers[column], not_permitted)
    for numbers in (_SOCKET, _SOCKETPAIR):
        program += _call(numbers[column], 0, _unless(_EQUAL, _AF_UNIX, _ERROR | errno.EAFNOSUPPORT))
    program += _call(_CLONE[column], 0, _if(_ANY_BIT, _NEW_NAMESPACES, not_permitted))
    program += _call(
        _FCNTL[column],
        1,
        [*_if(_EQUAL, _DUPLICATE_CLOSED_ON_EXEC, _ALLOW), *_if(_AT_LEAST, _FIRST_OF_LINUX, not_permitted)],
    )
    # The code may not set other processes' limits, nor its own for core dumps: its crashes would then go to the
    # machine's dump handler, outside the sandbox. To read a limit, the call's third argument is null.
    program += _call(_PRLIMIT[column], 0, _unless(_EQUAL, 0, not_permitted))
    setting = []
    for upper in (False, True):
        setting += [_argument(2, upper), *_unless(_EQUAL, 0, not_permitted)]
    program += _call(_PRLIMIT[column], 1, [_jump(_EQUAL, _CORE, 0, len(setting)), *setting])
    program += _call(_SETRLIMIT[column], 0, _if(_EQUAL, _CORE, not_permitted))
    let_through = [instruction for number in _LET_THROUGH.values() for instruction in _if(_EQUAL, number, _ALLOW)]
    unknown = [*let_through, _return(_ERROR | errno.ENOSYS)]
    program += [_jump(_AT_LEAST, _SHARED_NUMBERS, 0, len(unknown)), *unknown, _return(_ALLOW)]
    return b"".join(program)


def _call(number: int, argument: int, judgement: list[bytes]) -> list[bytes]:
    """Judge a call by the lower half of one of its arguments, which is all that the kernel reads."""
    inside = [_argument(argument), *judgement, _load(_NUMBER)]
    return [_jump(_EQUAL, number, 0, len(inside)), *inside]


def _argument(position: int, upper: bool = False) -> bytes:
    return _load(_ARGUMENTS + 8 * position + 4 * upper)


def _if(comparison: int, value: int, action: int) -> list[bytes]:
    return [_jump(comparison, value, 0, 1), _return(action)]


def _unless(comparison: int, value: int, action: int) -> list[bytes]:
    return [_jump(comparison, value, 1, 0), _return(action)]


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _LOAD, 0, 0, offset)


def _jump(comparison: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", comparison, if_true, if_false, value)


def _return(action: int) -> bytes:
    return struct.pack("=HBBI", _RETURN, 0, 0, action)
