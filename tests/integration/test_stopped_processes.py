"""SIGSTOP and SIGCONT: of pgreserve, of a backend, of the postmaster, of a client, under load.

A laptop's lid, a debugger, a snapshot of a virtual machine: everything stands still, and goes on.
A user would lose: sessions that were well, to clocks that went on meanwhile.
"""

import os
import signal
import subprocess
import time

from load import Sampler, end_load, pgbench
from marks import CAP, assert_at_rest, descriptors_of_its_own
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import query


def wait_for_state(pid, states):
    def has_state():
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in states
    wait_until(has_state, f"process {pid} to be in one of {states}")


def stand_still(pid, seconds):
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for_state(pid, "T")
        time.sleep(seconds)  # time that passes is what is tested
    finally:
        os.kill(pid, signal.SIGCONT)


def test_pgreserve_stands_still_longer_than_any_ping_may_take(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 4, "max_overflow": 2, "pre_ping_idle": "200ms"}, adhoc={"pre_ping_idle": "200ms"})
    proxy.wait_warm()
    most = descriptors_of_its_own(proxy)
    load = pgbench(proxy, "extended", 8)
    with proxy.wire() as idle, proxy.wire("adhoc") as developer, Sampler(postgres) as sampler:
        developer.query("BEGIN")
        wait_until(lambda: proxy.pool()["in_use"] > 0, "the load")
        kept = postgres.backend_pids()
        for seconds in (0.2, 0.2, 4):
            stand_still(proxy.process.pid, seconds)
            assert idle.query("SELECT 'well'").value == "well"
        assert developer.query("COMMIT").tags == ["COMMIT"]
        end_load(load)
        assert "ping_failed" not in proxy.log() and "backend lost" not in proxy.log()
        assert postgres.backend_pids() >= kept, "backends that were well are kept"
    assert sampler.seen["all"] <= CAP
    assert_at_rest(proxy, most)


def test_one_backend_stands_still_and_the_others_work_on(start_proxy, postgres):
    proxy = start_proxy()
    proxy.wait_warm()
    most = descriptors_of_its_own(proxy)
    with proxy.wire() as unlucky, Sampler(postgres) as sampler:
        unlucky.query("BEGIN")
        pid = int(unlucky.query("SELECT pg_backend_pid()").value)
        os.kill(pid, signal.SIGSTOP)
        try:
            load = pgbench(proxy, "simple", 8)
            unlucky.send(query("SELECT 'late'"))
            wait_until(lambda: proxy.pool()["in_use"] > 1, "the load")
            for _ in range(20):
                with proxy.wire() as other:
                    assert other.query("SELECT 'unharmed'").value == "unharmed"
        finally:
            os.kill(pid, signal.SIGCONT)
        assert unlucky.answer().value == "late"
        assert unlucky.query("COMMIT").tags == ["COMMIT"]
        end_load(load)
    assert sampler.seen["all"] <= CAP
    assert_at_rest(proxy, most)


def test_the_postmaster_stands_still_and_what_is_open_works_on(start_proxy, postgres):
    """Nobody can log in upstream meanwhile: not those who come in place of a backend that is gone, either."""
    proxy = start_proxy(automation={"size": 4, "max_overflow": 2, "connect_timeout": "1s"},
                        adhoc={"connect_timeout": "1s"})
    proxy.wait_warm()
    most = descriptors_of_its_own(proxy)
    load = pgbench(proxy, "simple", 4)
    wait_until(lambda: proxy.pool()["in_use"] > 0, "the load")
    with Sampler(postgres) as sampler:
        os.kill(postgres.process.pid, signal.SIGSTOP)
        try:
            wait_for_state(postgres.process.pid, "T")
            with proxy.wire("adhoc") as developer:
                postgres.terminate(int(developer.query("SELECT pg_backend_pid()").value))
            wait_until(lambda: "login to upstream failed" in proxy.log(), "a login to fail", timeout=20)
            for _ in range(20):
                with proxy.wire() as other:
                    assert other.query("SELECT 'unharmed'").value == "unharmed"
        finally:
            os.kill(postgres.process.pid, signal.SIGCONT)
        proxy.wait_warm()
    most = descriptors_of_its_own(proxy)
    assert sampler.seen["all"] <= CAP
    end_load(load)
    assert_at_rest(proxy, most)


def test_a_client_stands_still_within_its_answer_and_the_others_work_on(start_proxy, postgres, tmp_path):
    rows = 50000
    proxy = start_proxy()
    proxy.wait_warm()
    most = descriptors_of_its_own(proxy)
    out = tmp_path / "out"
    with open(out, "wb") as file, Sampler(postgres) as sampler:
        client = subprocess.Popen(
            ["psql", "-X", "-h", "127.0.0.1", "-p", str(proxy.port()), "-U", ROLE, "-d", "app", "-c",
             f"COPY (SELECT repeat('x', 1000) || n FROM generate_series(1, {rows}) n) TO STDOUT"],
            env={**os.environ, "PGPASSWORD": PASSWORD}, stdout=file)
        wait_until(lambda: out.stat().st_size > 0, "its answer to begin")
        os.kill(client.pid, signal.SIGSTOP)
        try:
            wait_for_state(client.pid, "T")
            load = pgbench(proxy, "extended", 4)
            for _ in range(20):
                with proxy.wire() as other:
                    assert other.query("SELECT 'unharmed'").value == "unharmed"
            end_load(load)
            proxy.wait_pool(in_use=1)  # its own, still
        finally:
            os.kill(client.pid, signal.SIGCONT)
        assert client.wait(timeout=60) == 0
    assert out.read_bytes() == b"".join(b"x" * 1000 + b"%d\n" % n for n in range(1, rows + 1))
    assert sampler.seen["all"] <= CAP
    assert_at_rest(proxy, most)
