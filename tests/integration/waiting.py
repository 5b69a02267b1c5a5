"""Waiting for events in tests: poll a condition, never sleep for a guess.

Every wait has a bound and names what it waited for, so that a failing test says what did not happen.
Machines are noisy, and ASan builds run several times slower: bounds (not the times that a test asserts) are
stretched by `patience`, which conftest sets from the binary.  Only a test that fails ever waits so long.
"""

import socket
import time

POLL_SECONDS = 0.01
patience = 1.0


def wait_until(condition, what, timeout=10.0):
    """Polls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout * patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout * patience:.1f} s in vain for {what}")
        time.sleep(POLL_SECONDS)


class Stopwatch:
    """with Stopwatch() as watch: ...; watch.seconds"""

    def __enter__(self):
        self.started = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.started

    @property
    def so_far(self):
        return time.monotonic() - self.started


def port_accepts(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), timeout=2).close()
        return True
    except OSError:
        return False
