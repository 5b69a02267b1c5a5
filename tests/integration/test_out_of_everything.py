"""The machine has no descriptor, no memory, no buffer, no thread to give: at each call in turn.

A user would lose: a session that never gets its answer and never an end, bytes out of the middle of an answer, everybody's
sessions to one client's bad luck, or a daemon that is no good any more when the machine is well again.

When its own memory cannot be had, the daemon ends, after a line that says so (base/memory.h), for its service manager to
start it anew.  Everything else costs one connection at most, and whoever has it is told or sees its end.
"""

import errno
import resource
import signal
import threading

import pytest

import wire
from faulty import ACCEPT, EPOLL_CTL, LIBRARY_MEMORY, OWN_MEMORY, RECV, SEND, SOCKET, THREAD, Faults
from load import Sampler
from marks import CAP, Marks, assert_at_rest, descriptors_of_its_own
from proxy import is_sanitized
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire, cancel_request, query

# What a client may be told: that its backend is gone or could not be had, that there is no room for it, that it was cancelled.
TOLD = ("08006", "08001", "53300", "57P01", "57014")


class Exercise:
    """What goes on while a call fails: a backend dies and is replaced, two conversations, a cancel, a wrong password."""

    def __init__(self, proxy, postgres):
        self.proxy, self.postgres = proxy, postgres
        self.marks = Marks(postgres)
        self.intruders = 0

    def cancel(self):
        with Wire(self.proxy.port()).login(ROLE, PASSWORD, "app") as client:
            client.send(query("SELECT 'cancelled' FROM pg_sleep(0.02)"))
            with Wire(self.proxy.port()) as messenger:
                messenger.send(cancel_request(client.backend_pid, client.backend_key))
                messenger.is_closed()
            return client.answer()

    def intrude(self):
        with Wire(self.proxy.port()) as client:
            client.login(ROLE, "wrong", "app")
            self.intruders += 1

    def lose_a_backend(self):
        """One that nobody has, and for good: who got it in its last moment would be told of its end."""
        for pid in sorted(self.postgres.backend_pids("state = 'idle'"))[:1]:
            self.postgres.terminate(pid)
            wait_until(lambda: pid not in self.postgres.backend_pids(), "a backend's end")

    def run(self):
        self.lose_a_backend()
        self.work()

    def work(self):
        self.marks.converse(self.proxy.port())
        self.marks.converse(self.proxy.port("adhoc"))
        for attempt in (self.cancel, self.intrude):
            try:
                attempt()
            except TimeoutError:
                self.marks.unanswered.append(attempt.__name__)
            except (OSError, wire.Closed, wire.ErrorResponse, AssertionError):
                pass

    def calls(self, faults, kinds):
        """How many there are when none fails."""
        faults.arm(kinds, 0, count=0)
        self.run()
        return faults.disarm()[0]

    def check(self):
        self.marks.check(TOLD)
        assert self.intruders == 0, "a wrong password was taken for a right one"


def assert_is_served(client):
    """At once, or as soon as there is a connection again: where none lived and a login failed, a client is told so and stays."""
    def is_served():
        client.send(query("SELECT 'served'"))
        messages = client.until("EZ")
        if messages[-1].kind == "Z":
            return wire.Answer(messages).value == "served"
        error = wire.ErrorResponse(wire.error_fields(messages[-1].body))
        assert error.severity == "ERROR" and error.sqlstate == "08001", error
        client.until("Z")
        return False
    wait_until(is_served, "a connection upstream")


def assert_serves(proxy):
    for pool in ("automation", "adhoc"):
        with proxy.wire(pool) as client:
            assert_is_served(client)


@pytest.mark.parametrize("kind, errors, sslmode", [
    (SEND, ("ENOBUFS",), "disable"), (SEND, ("ENOBUFS",), "require"), (RECV, ("ENOMEM",), "disable"), (RECV, ("ENOMEM",), "require"),
    (SOCKET, ("EMFILE", "ENOBUFS"), "disable"), (EPOLL_CTL, ("ENOSPC", "ENOMEM"), "disable"),
    (ACCEPT, ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED"), "disable"),
], ids=["send", "send-tls", "recv", "recv-tls", "socket", "epoll_ctl", "accept"])
def test_each_call_that_fails_costs_one_connection_at_most(start_proxy, postgres, tmp_path, kind, errors, sslmode):
    """(libpq takes what it could not write for written, so that such a login lasts until connect_timeout.)"""
    faults = Faults(tmp_path)
    proxy = start_proxy(environment={**faults.environment, "UPSTREAM": postgres.url() + "?sslmode=" + sslmode},
                        automation={"connect_timeout": "1s"}, adhoc={"connect_timeout": "1s"})
    exercise = Exercise(proxy, postgres)
    most = descriptors_of_its_own(proxy)
    injected = 0
    with proxy.wire() as bystander, Sampler(postgres) as sampler:
        for error in errors:
            for at in range(1, max(exercise.calls(faults, kind), 2) + 1):
                faults.arm(kind, at, getattr(errno, error))
                exercise.run()
                injected += faults.disarm()[1]
                assert proxy.is_running(), proxy.log()[-2000:]
                assert_is_served(bystander)
                assert_serves(proxy)
    assert injected >= len(errors), "faults that were met"
    assert sampler.seen["all"] <= CAP
    assert_at_rest(proxy, most)
    exercise.check()


def test_a_reader_that_cannot_be_waited_for_is_let_go(start_proxy, tmp_path):
    """It reads nothing, so that the rest of its answer has to wait, and the kernel refuses to say when it can go on."""
    faults = Faults(tmp_path)
    proxy = start_proxy(environment=faults.environment)
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"
        faults.arm(EPOLL_CTL, 1, errno.ENOMEM, count=1000)
        client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)"))
        wait_until(lambda: faults.failed(), "the socket to be full")
        faults.disarm()
        proxy.wait_pool(in_use=0, clients=0)
        messages = client.until_closed()
        assert "Z" not in [message.kind for message in messages], "an answer with a gap"
    assert_serves(proxy)


def test_no_thread_for_a_cancel_delays_it(start_proxy, tmp_path):
    faults = Faults(tmp_path)
    faults.arm(THREAD, 1, errno.EAGAIN, count=3)
    proxy = start_proxy(environment=faults.environment)
    with proxy.wire() as client:
        client.send(query("SELECT pg_sleep(100)"))
        proxy.wait_pool(in_use=1)
        with Wire(proxy.port()) as messenger:
            messenger.send(cancel_request(client.backend_pid, client.backend_key))
        assert client.answer().error.sqlstate == "57014"
        assert faults.disarm()[1] == 3
        assert client.query("SELECT 'it goes on'").value == "it goes on"


def is_ending(proxy):
    """An abort takes its time: the process may still be there."""
    return not proxy.is_running() or "out of memory (" in proxy.log(proxy.log_mark)


def expect_end(proxy):
    assert proxy.wait_exit() == -signal.SIGABRT
    assert "out of memory (" in proxy.log(proxy.log_mark), proxy.log()[-2000:]


@pytest.mark.skipif(is_sanitized(), reason="the sanitizer has the memory")
def test_out_of_its_own_memory_it_ends_and_says_so(start_proxy, tmp_path):
    faults = Faults(tmp_path)
    proxy = start_proxy(environment=faults.environment)
    for at in (1, 5, 25):
        faults.arm(OWN_MEMORY, at)
        with Wire(proxy.port()) as client:
            try:
                client.login(ROLE, PASSWORD, "app")
                while True:
                    proxy.get("/status.json")
            except (OSError, wire.Closed):
                pass
        expect_end(proxy)
        faults.disarm()
        proxy.start()
        assert_serves(proxy)


@pytest.mark.skipif(is_sanitized(), reason="the sanitizer has the memory")
def test_a_library_without_memory_costs_one_connection_at_most(start_proxy, postgres, tmp_path):
    """libpq, OpenSSL and the C library say so to us; where there is no way on, the end is the same as for our own memory."""
    faults = Faults(tmp_path)
    proxy = start_proxy(environment=faults.environment)
    exercise = Exercise(proxy, postgres)
    most = descriptors_of_its_own(proxy)
    ends = injected = 0
    calls = exercise.calls(faults, LIBRARY_MEMORY)
    assert calls > 20
    for at in range(1, calls + 1, max(1, calls // 150)):
        faults.arm(LIBRARY_MEMORY, at)
        exercise.run()
        injected += faults.disarm()[1]
        if is_ending(proxy):
            expect_end(proxy)
            ends += 1
            proxy.start()
        assert_serves(proxy)
    assert injected > 20 and ends < injected / 2, (calls, injected, ends)
    assert_at_rest(proxy, most)
    exercise.check()


def test_a_limit_of_descriptors_that_falls_under_a_running_daemon(start_proxy, postgres):
    """From fewer than it has open up to enough: who is inside works on, who comes is told or let in, once there is room."""
    proxy = start_proxy()
    exercise = Exercise(proxy, postgres)
    exercise.run()
    pid = proxy.process.pid
    whole = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most, before = descriptors_of_its_own(proxy), proxy.descriptors()
    with proxy.wire() as bystander, Sampler(postgres) as sampler:
        for limit in range(before - 4, before + 14, 2):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, whole[1]))
            exercise.lose_a_backend()
            crowd = [threading.Thread(target=exercise.work) for _ in range(3)]
            for one in crowd:
                one.start()
            for _ in range(10):
                assert bystander.query("SELECT 'unharmed'").value == "unharmed"
            resource.prlimit(pid, resource.RLIMIT_NOFILE, whole)
            for one in crowd:
                one.join()
            assert_serves(proxy)
            assert proxy.show("POOLS") and proxy.status()
    assert sampler.seen["all"] <= CAP
    assert_at_rest(proxy, most)
    exercise.check()
    assert exercise.marks.whole > 0
