"""USR2: a new process takes over, and nobody notices (contract 11).

A user would lose: every client's session at each new version, or the cap while two processes run.
"""

import json
import os
import signal
import subprocess
import sys
import threading

import psycopg
import pytest

import wire
from proxy import binary_path
from server import ROLE
from waiting import wait_until
from wire import Wire, query

HERE = os.path.dirname(os.path.abspath(__file__))


class Sampler:
    """sampler.py beside the test: the most connections that the server ever showed."""

    def __init__(self, postgres):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "sampler.py"), postgres.directory, str(postgres.port), ROLE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.seen = json.loads(self.process.stdout.read())
        self.process.wait()


def pgbench(proxy, *arguments):
    """pgbench's own select-only script over things that need no initialisation."""
    script = os.path.join(proxy.directory, "script.sql")
    with open(script, "w") as file:
        file.write("\\set n random(1, 100000)\nBEGIN;\nSELECT :n::int AS mine \\gset\n"
                   "SELECT name FROM things WHERE id = 1 + :n % 3;\nCOMMIT;\nSELECT :mine - :n AS zero \\gset\n"
                   "\\if :zero <> 0\nSELECT 1/0;\n\\endif\n")
    environment = {**os.environ, "PGPASSWORD": proxy.keywords()["password"]}
    return subprocess.Popen(
        ["pgbench", "-n", "-h", "127.0.0.1", "-p", str(proxy.port()), "-U", ROLE, "-f", script, *arguments, "app"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_idle_client_goes_on_with_all_that_it_had(proxy):
    first = proxy.process.pid
    with proxy.wire(application_name="carried", options="-c statement_timeout=7s") as client:
        client.query("SET search_path = pg_catalog, public")
        client.query("SET my.tenant = 'seven'")
        client.ask(wire.parse("mine", "SELECT name FROM things WHERE id = $1", [23]))
        pid_before = client.query("SELECT pg_backend_pid()").value
        client.ask(wire.parse("", "SELECT 'unnamed ' || $1"))
        proxy.upgrade()
        assert proxy.process.pid != first
        assert client.ask(wire.bind("", "", ["one"]), wire.execute()).value == "unnamed one"
        assert client.ask(wire.bind("", "mine", ["3"]), wire.execute()).value == "thing 3"
        assert client.query("SHOW search_path").value == "pg_catalog, public"
        assert client.query("SHOW my.tenant").value == "seven"
        assert client.query("SHOW application_name").value == "carried"
        client.query("RESET statement_timeout")
        assert client.query("SHOW statement_timeout").value == "7s", "what its start-up packet said"
        assert client.ask(wire.parse("mine", "SELECT 1")).error.sqlstate == "42P05", "the name is taken"
        assert client.query("SELECT pg_backend_pid()").value != pid_before
        (row,) = [row for row in proxy.show("CLIENTS") if row["application_name"] == "carried"]
        assert row["user"] == ROLE and row["port"] == str(client.socket.getsockname()[1])


def test_ten_upgrades_under_load_lose_nothing(start_proxy, postgres):
    proxy = start_proxy(pgreserve={"total_connections": 8})
    proxy.wait_warm()
    idle = psycopg.connect(proxy.url(), autocommit=True, prepare_threshold=0)
    idle.execute("SET work_mem = '5MB'")
    with Sampler(postgres) as sampler:
        loads = [pgbench(proxy, "-c", "10", "-T", "100", "-M", mode) for mode in ("simple", "prepared")]
        pids = {proxy.process.pid}
        for turn in range(10):
            proxy.upgrade()
            pids.add(proxy.process.pid)
            assert idle.execute("SELECT name FROM things WHERE id = %s", [1 + turn % 3]).fetchone()
            assert idle.execute("SHOW work_mem").fetchone() == ("5MB",)
        for load in loads:
            assert load.poll() is None, load.stdout.read()
            load.send_signal(signal.SIGINT)
    assert len(pids) == 11
    for load in loads:
        output = load.communicate()[0]
        assert "ERROR" not in output and "FATAL" not in output and "aborted" not in output, output
        assert "server closed" not in output, output
    assert sampler.seen["all"] <= 8 and sampler.seen["samples"] > 50, sampler.seen
    idle.close()
