"""Fixtures of the integration tests: one PostgreSQL a worker, one pgreserve a test.

`start_proxy(**sections)` starts a daemon with a configuration of its own and, when the test is over,
stops it and checks its end (exit status, sanitizers, connections left at the server).  A test that has
already failed is not made to fail twice, but its daemon's log is shown.
"""

import fcntl
import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import waiting  # noqa: E402
from proxy import Proxy, binary_path, is_sanitized  # noqa: E402
from server import PostgresServer  # noqa: E402

MODES = ("session", "transaction", "statement")


def pytest_configure(config):
    config.addinivalue_line("markers", "exclusive: no other test runs meanwhile, in any worker")
    is_slow = os.path.exists(binary_path()) and is_sanitized()
    waiting.patience = 8.0 if is_slow else 3.0


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.call_failed = call.excinfo is not None
        if item.call_failed:
            for proxy in (proxy for proxy in getattr(item, "proxies", []) if proxy.process):
                outcome.get_result().sections.append(("pgreserve's log", proxy.log()[-6000:]))


def run_id():
    """The same in all workers of one run."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))


@pytest.fixture(autouse=True)
def room_of_its_own(request):
    """A test marked `exclusive` waits until the other workers' tests are over, and they for it.

    Two file locks: everybody passes the gate, which an exclusive test keeps closed until its end; the
    floor is shared by all but an exclusive test.
    """
    exclusive = request.node.get_closest_marker("exclusive")
    stem = os.path.join(tempfile.gettempdir(), f"pgreserve-tests-{run_id()}")
    with open(stem + ".gate", "w") as gate, open(stem + ".floor", "w") as floor:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(floor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        if not exclusive:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        run = config.pluginmanager.getplugin("dsession")
        identity = getattr(getattr(run, "nodemanager", None), "testrunuid", None) or os.getpid()
        for end in ("gate", "floor"):
            try:
                os.unlink(os.path.join(tempfile.gettempdir(), f"pgreserve-tests-{identity}.{end}"))
            except FileNotFoundError:
                pass


@pytest.fixture(scope="session")
def shared_postgres():
    server = PostgresServer()
    yield server
    server.destroy()


@pytest.fixture
def postgres(shared_postgres):
    shared_postgres.ensure_running()
    yield shared_postgres
    shared_postgres.ensure_running()


@pytest.fixture
def start_proxy(postgres, request):
    """Starts daemons; the fixture stops and checks each of them afterwards.

    `wait` is "ready" (its upstream is there), "listening", or None: not started yet.
    """
    request.node.proxies = proxies = []

    def start(wait="ready", **arguments):
        proxy = Proxy(postgres, **arguments)
        proxies.append(proxy)
        if wait:
            proxy.start(wait)
        return proxy

    yield start
    failed = getattr(request.node, "call_failed", True)
    problems = []
    for proxy in proxies:
        try:
            if not failed and proxy.process:
                proxy.stop()
        except AssertionError as error:
            problems.append(str(error))
        finally:
            proxy.destroy()
    postgres.ensure_running()
    try:
        if not failed:
            postgres.wait_for_backends(0)
    except AssertionError as error:
        problems.append(f"left at the server: {error}")
    postgres.clear_backends()
    assert not problems, "\n".join(problems)


@pytest.fixture
def proxy(start_proxy):
    """The small default: automation 4+2, adhoc 2 reserved, transaction mode."""
    return start_proxy()


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def any_mode_proxy(start_proxy, mode):
    """The same in each of the three modes."""
    return start_proxy(automation={"mode": mode}, adhoc={"mode": mode})


@pytest.fixture(scope="session")
def have():
    """Skips unless a program of that name is installed."""
    def check(program):
        path = shutil.which(program)
        if not path:
            pytest.skip(f"{program} is not installed")
        return path
    return check
