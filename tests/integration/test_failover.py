"""Several hosts in the url: the first that will do is taken, and when the primary is lost its standby serves everybody.

A user would lose: all work, while a server that could do it is there.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

import wire
from faults import Hesitant, Link
from server import BIN, PASSWORD_IN_URL, ROLE, PostgresServer, free_port
from waiting import wait_until


def url(*hosts, sslmode="disable", options=""):
    """Of several hosts: a port of this machine's, or "host:port"."""
    hosts = ",".join(f"127.0.0.1:{host}" if isinstance(host, int) else host for host in hosts)
    return f"postgresql://{ROLE}:{PASSWORD_IN_URL}@{hosts}/app?sslmode={sslmode}{options}"


def start_with_one(start_proxy, upstream, connect_timeout, **arguments):
    """A daemon whose pools have a connection each."""
    return start_proxy(environment={"UPSTREAM": upstream},
                       automation={"size": 1, "max_overflow": 0, "connect_timeout": connect_timeout},
                       adhoc={"size": 1, "reserved": 1, "connect_timeout": connect_timeout}, **arguments)


class Standby(PostgresServer):
    """A copy of another server that follows it."""

    def __init__(self, primary):
        self.primary = primary
        super().__init__()

    def _create(self):
        open(self.log_path, "w").close()
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
            shutil.chown(self.log_path, "postgres", "postgres")
        os.chmod(self.directory, 0o755)
        subprocess.run(
            self._as_postgres([f"{BIN}/pg_basebackup", "-h", self.primary.directory, "-p", str(self.primary.port),
                               "-U", "postgres", "-D", self.data, "-X", "stream", "-R", "-c", "fast", "--no-sync"]),
            check=True, capture_output=True, cwd="/")
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a") as settings:
            settings.write(f"port = {self.port}\nunix_socket_directories = '{self.directory}'\n")

    def _load(self):
        pass  # it has what the primary has

    def promote(self):
        self.sql("SELECT pg_promote(true, 30)")

    def wait_until_it_has(self, what):
        wait_until(lambda: self.sql(f"SELECT {what}")[0][0], f"the standby to have {what}")


class Pair:
    """A primary that tests may lose, and its standby."""

    def __init__(self):
        self.primary = PostgresServer()
        with open(os.path.join(self.primary.data, "pg_hba.conf"), "a") as rules:
            rules.write("local replication postgres trust\n")
        self.primary.sql("SELECT pg_reload_conf()")
        self.standby = Standby(self.primary)

    def destroy(self):
        self.standby.destroy()
        self.primary.destroy()


@pytest.fixture
def pair():
    pair = Pair()
    yield pair
    pair.destroy()


def port_of(client):
    return int(client.query("SELECT current_setting('port')").value)


class Silent:
    """Takes connections, as a machine does whose server hangs, and says nothing."""

    def __init__(self):
        self.port, self.held = free_port(), []
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=200)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for connection in (self.listener, *self.held):
            connection.close()

    def callers(self):
        """How many have come; they stay."""
        self.listener.setblocking(False)
        try:
            while True:
                self.held.append(self.listener.accept()[0])
        except BlockingIOError:
            return len(self.held)


def test_host_that_refuses_is_passed_over(start_proxy, postgres):
    proxy = start_proxy(environment={"UPSTREAM": url(free_port(), postgres.port)})
    with proxy.wire() as client:
        assert port_of(client) == postgres.port


@pytest.mark.parametrize("first", ["127.0.0.1:{silent}", "localhost:{silent}", "no-such-host.invalid:{silent}"])
def test_host_that_says_nothing_is_passed_over(start_proxy, postgres, first):
    """libpq's PQconnectdb leaves such a host after connect_timeout; the calls that do not block leave that to their caller."""
    with Silent() as silent:
        proxy = start_proxy(environment={"UPSTREAM": url(first.format(silent=silent.port), postgres.port)},
                            automation={"size": 2, "max_overflow": 0, "connect_timeout": "3s"},
                            adhoc={"connect_timeout": "3s"})
        with proxy.wire() as client, proxy.wire() as other:
            assert port_of(client) == postgres.port
            client.query("BEGIN")
            assert other.query("SELECT 'served'").value == "served"
        if ".invalid" not in first:
            assert silent.callers() > 0
            assert 'event="upstream host does not answer"' in proxy.log()


def test_slow_host_behind_one_that_refuses_has_all_the_time(start_proxy, postgres):
    with Link(postgres.port) as slow:
        slow.delay = 2.0
        proxy = start_with_one(start_proxy, url(free_port(), slow.port), "3s")
        with proxy.wire() as client:
            assert port_of(client) == postgres.port
        assert "does not answer" not in proxy.log()


def test_slow_host_that_has_spoken_is_waited_for(start_proxy, postgres):
    with Hesitant(postgres.port) as slow, Silent() as silent:
        later = threading.Timer(2.2, slow.goes.set)
        later.start()
        proxy = start_with_one(start_proxy, url(slow.port, silent.port, sslmode="require"), "4s")
        with proxy.wire() as client:
            assert port_of(client) == postgres.port
        assert "does not answer" not in proxy.log()
        later.join()


def test_every_host_says_nothing(start_proxy, postgres):
    """connect_timeout is for one login, however many hosts it tries (contract 6)."""
    with Silent() as first, Silent() as second:
        proxy = start_with_one(start_proxy, url(first.port, second.port), "2s", wait="listening")
        with pytest.raises(wire.ErrorResponse) as refused:
            proxy.wire()
        assert refused.value.sqlstate == "08001" and "connect_timeout" in refused.value.message
        assert first.callers() > 0 and second.callers() > 0
        took = float(re.search(r"login to upstream failed.* took=([0-9.]+)", proxy.log()).group(1))
        assert took < 3, "the time is shared, not given to each"


def test_session_attributes_choose_the_host(start_proxy, pair):
    primary, standby = pair.primary.port, pair.standby.port
    for attributes, order, expected in [("read-write", (standby, primary), primary),
                                        ("primary", (standby, primary), primary),
                                        ("standby", (primary, standby), standby),
                                        ("prefer-standby", (primary, standby), standby),
                                        ("read-only", (primary, standby), standby),
                                        ("any", (primary, standby), primary)]:
        proxy = start_proxy(environment={"UPSTREAM": url(*order, options=f"&target_session_attrs={attributes}")},
                            automation={"size": 1, "max_overflow": 0})
        with proxy.wire() as client:
            assert port_of(client) == expected, attributes


def test_preferred_standby_that_says_nothing(start_proxy, pair):
    """What was asked of the others before is asked again: the primary is taken for want of a standby."""
    with Silent() as silent:
        proxy = start_with_one(start_proxy, url(pair.primary.port, silent.port, options="&target_session_attrs=prefer-standby"), "3s")
        with proxy.wire() as client:
            assert port_of(client) == pair.primary.port


@pytest.mark.parametrize("how", ["dies", "falls silent"])
def test_standby_takes_over(start_proxy, pair, how):
    """Sessions stay; what was on its way is told; nothing is written to two servers, and the cap holds on the new one."""
    with Link(pair.primary.port) as road:
        proxy = start_proxy(environment={"UPSTREAM": url(road.port, pair.standby.port, options="&target_session_attrs=read-write")},
                            automation={"size": 4, "max_overflow": 1, "connect_timeout": "3s", "pre_ping_idle": "0"},
                            adhoc={"connect_timeout": "3s"})
        clients = [proxy.wire() for _ in range(8)]
        for number, client in enumerate(clients):
            assert client.query(f"INSERT INTO things VALUES ({2000 + number}, 'before')").tags == ["INSERT 0 1"]
        in_transaction = clients[0]
        in_transaction.query("BEGIN")
        in_transaction.query("INSERT INTO things VALUES (3000, 'lost')")
        said = pair.primary.sql("SELECT pg_current_wal_insert_lsn()")[0][0]
        pair.standby.wait_until_it_has(f"pg_last_wal_replay_lsn() >= '{said}'")
        if how == "dies":
            pair.primary.stop(signal.SIGQUIT)
            road.refuse()
        else:
            road.silence()
        pair.standby.promote()
        if how == "dies":
            error = in_transaction.final_error()
            assert error.severity == "FATAL" and error.sqlstate in ("57P01", "57P02", "08006"), error

        def writes(client, number):
            answer = client.query(f"INSERT INTO things VALUES ({4000 + number}, 'after') ON CONFLICT DO NOTHING")
            assert not answer.errors or answer.error.sqlstate == "08001", answer.errors
            return not answer.errors

        for number, client in enumerate(clients[1:], 1):
            wait_until(lambda: writes(client, number), "the standby to be written to", timeout=60)
            assert port_of(client) == pair.standby.port
        assert len(pair.standby.backends()) <= 10
        with pair.standby.superuser_connection("app") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FILTER (WHERE name = 'before'), count(*) FILTER (WHERE name = 'after'),"
                           " count(*) FILTER (WHERE name = 'lost') FROM things")
            assert cursor.fetchone() == (8, 7, 0)
        connection.close()
        for client in clients[1:]:
            client.close()
