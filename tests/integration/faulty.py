"""Faults of the machine inside the daemon: faulty.c, built here and preloaded, and the file by which it is told what to do.

`Faults(directory)` goes into a proxy's environment (`environment`); then `arm(kinds, at)` makes the `at`-th such call fail,
`disarm()` ends that and says how many calls there were and how many of them failed, `wall_clock(seconds)` and
`monotonic_clock(seconds)` set the daemon's clocks wrong, and `slow_reads(seconds)` makes each large read take so long.
"""

import errno
import mmap
import os
import struct
import subprocess

from proxy import binary_path, is_sanitized

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faulty.c")
OWN_MEMORY, LIBRARY_MEMORY, SEND, RECV, ACCEPT, SOCKET, EPOLL_CTL, THREAD = (1 << kind for kind in range(8))
FIELDS = "qqqqqqqqq"  # struct control
KINDS, AT, COUNT, ERROR, CALLS, FAILED, WALL, MONOTONIC, SLOW = range(0, 72, 8)


def is_built_with_asan():
    with open(binary_path(), "rb") as file:
        return b"__asan_init" in file.read()


def build(directory):
    library = os.path.join(directory, "faulty.so")
    subprocess.run(["cc", "-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o", library, SOURCE, "-ldl",
                    *(["-DSANITIZED"] if is_sanitized() else [])], check=True)
    return library


class Faults:
    def __init__(self, directory):
        path = os.path.join(directory, "faulty.control")
        with open(path, "wb+") as file:
            file.write(bytes(struct.calcsize(FIELDS)))
            file.flush()
            self.control = mmap.mmap(file.fileno(), struct.calcsize(FIELDS))
        self.environment = {"LD_PRELOAD": build(directory), "FAULTY_CONTROL": path}
        if is_built_with_asan():  # it wants to be loaded first, which matters for malloc alone
            self.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"

    def _set(self, field, value):
        struct.pack_into("q", self.control, field, value)

    def _get(self, field):
        return struct.unpack_from("q", self.control, field)[0]

    def arm(self, kinds, at, error=errno.ENOMEM, count=1):
        for field, value in ((CALLS, 0), (FAILED, 0), (AT, at), (COUNT, count), (ERROR, error), (KINDS, kinds)):
            self._set(field, value)

    def disarm(self):
        self._set(KINDS, 0)
        return self._get(CALLS), self._get(FAILED)

    def failed(self):
        return self._get(FAILED)

    def wall_clock(self, seconds):
        self._set(WALL, seconds)

    def monotonic_clock(self, seconds):
        self._set(MONOTONIC, seconds)

    def slow_reads(self, seconds):
        self._set(SLOW, int(seconds * 1e6))
