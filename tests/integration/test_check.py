"""`pgreserve check`, the doctor: can the cap and the reservation hold on this upstream, and what to write if not.

A user would lose: the warning before the night in which the 49th connection is refused.
"""

import contextlib
import os
import re
import signal
import subprocess

import psycopg2
import pytest

from certificates import Authority
from pooler import PROGRAM, Pooler
from proxy import Proxy, binary_path
from server import PASSWORD, ROLE, SETTINGS, PostgresServer, free_port
from waiting import port_accepts, wait_until


def figure(text, what):
    """The number on the line of the sum that begins with `what`."""
    match = re.search(rf"^ +{re.escape(what)} +(-?\d+)", text, re.MULTILINE)
    assert match, f"no line {what!r} in:\n{text}"
    return int(match.group(1))


class Configured:
    """A configuration file for a server that is asked directly: no daemon runs."""

    def __init__(self, postgres):
        self.proxy = Proxy(postgres)

    def check(self, *arguments, **sections):
        self.proxy.change(**sections)
        self.proxy.write_config()
        return self.proxy.command("check", *arguments, "-c", self.proxy.config_path, timeout=60)


@pytest.fixture
def configured(postgres):
    one = Configured(postgres)
    yield one
    one.proxy.destroy()


@pytest.fixture(scope="module")
def private_postgres():
    """A server whose settings these tests change."""
    server = PostgresServer()
    yield server
    server.destroy()


@contextlib.contextmanager
def settings(server, **values):
    """Restarts the server with these on top of the harness's own; put back afterwards."""
    extra = "".join(f"{key} = {value}\n" for key, value in values.items())
    base = SETTINGS + f"port = {server.port}\nunix_socket_directories = '{server.directory}'\n"
    try:
        server._write("postgresql.auto.conf", base + extra)
        server.restart(signal.SIGINT)
        yield
    finally:
        server._write("postgresql.auto.conf", base)
        server.restart(signal.SIGINT)


@contextlib.contextmanager
def strangers(server, count, user="postgres", database="postgres"):
    """Connections that the host's own services hold."""
    held = []
    try:
        for _ in range(count):
            if user == "postgres":
                held.append(server.superuser_connection(database))
            else:
                held.append(psycopg2.connect(host="127.0.0.1", port=server.port, user=user,
                                             password=PASSWORD, dbname=database))
        yield held
    finally:
        for connection in held:
            connection.close()


# -- the sum ------------------------------------------------------------------------------------------


def test_the_story_sixty_slots_leave_fewer_than_sixty(private_postgres):
    """60 connections, 3 kept for superusers, 7 used by the host's own services: 50 are left, and the lines to write
    hold; they are checked with the doctor itself."""
    with settings(private_postgres, max_connections=60):
        proxy = Proxy(private_postgres, pgreserve={"total_connections": 60},
                      automation={"size": 50, "max_overflow": 5},
                      adhoc={"size": 5, "reserved": 5, "max_overflow": 0})
        with strangers(private_postgres, 5):  # the harness itself has two more
            done = proxy.command("check", "-c", proxy.config_path)
            assert done.returncode == 1, done
            assert figure(done.stdout, "max_connections") == 60
            assert figure(done.stdout, "kept for superusers") == -3
            assert figure(done.stdout, "used by others now") == -7
            assert figure(done.stdout, "largest cap that can hold") == 50
            assert "does not hold" in done.stdout and "total_connections = 50" in done.stdout
            assert "[pool:automation]" in done.stdout and "size = 40" in done.stdout
            assert "reservation of 5 is not safe" in done.stdout
            proxy.change(pgreserve={"total_connections": 50}, automation={"size": 40})
            proxy.write_config()
            done = proxy.command("check", "-c", proxy.config_path)
            assert done.returncode == 0 and "It holds" in done.stdout, done
        proxy.destroy()


@pytest.mark.parametrize("most, kept", [(20, 3), (20, 0), (35, 10)])
def test_what_it_says_is_what_the_server_grants(private_postgres, most, kept):
    """The largest cap is filled to the last place, and one more is refused."""
    with settings(private_postgres, max_connections=most, superuser_reserved_connections=kept):
        proxy = Proxy(private_postgres)
        done = proxy.command("check", "-c", proxy.config_path)
        proxy.destroy()
        largest = figure(done.stdout, "largest cap that can hold")
        assert largest == most - kept - 2
        wait_until(lambda: not private_postgres.backends(), "the doctor's connection to be gone")
        with strangers(private_postgres, largest, ROLE, "app"):
            with pytest.raises(psycopg2.OperationalError, match="slots|too many"):
                with strangers(private_postgres, 1, ROLE, "app"):
                    pass


@pytest.mark.parametrize("what, limit, taken", [("ROLE", 7, 0), ("ROLE", 9, 3), ("DATABASE", 6, 2)])
def test_limits_of_role_and_database_count(configured, postgres, what, limit, taken):
    name = ROLE if what == "ROLE" else "app"
    postgres.sql(f"ALTER {what} {name} CONNECTION LIMIT {limit}")
    try:
        with strangers(postgres, taken, ROLE, "app"):
            done = configured.check()
    finally:
        postgres.sql(f"ALTER {what} {name} CONNECTION LIMIT -1")
    assert figure(done.stdout, "largest cap that can hold") == limit - taken
    assert f"by the {what.lower()}'s CONNECTION LIMIT" in done.stdout
    assert done.returncode == (0 if limit - taken >= 8 else 1)


def test_a_superuser_is_told_that_it_takes_the_last_door(private_postgres):
    private_postgres.sql("CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'b0ss-secret' CONNECTION LIMIT 3")
    proxy = Proxy(private_postgres)
    proxy.change(**{"database:*": {"url": f"postgresql://boss:b0ss-secret@127.0.0.1:{private_postgres.port}/app"}})
    proxy.write_config()
    done = proxy.command("check", "-c", proxy.config_path)
    proxy.destroy()
    private_postgres.sql("DROP ROLE boss")
    assert "superuser" in done.stdout and "ordinary role" in done.stdout
    assert figure(done.stdout, "largest cap that can hold") == 63, "exempt from its own limit too"


def test_who_uses_the_slots_is_named(configured, postgres):
    with psycopg2.connect(host="127.0.0.1", port=postgres.port, user=ROLE, password=PASSWORD, dbname="app",
                          application_name="greedy \x1b[31m monitor"):
        done = configured.check()
    assert "greedy" in done.stdout and "\x1b" not in done.stdout


def test_every_upstream_is_looked_at_and_the_tightest_counts(configured, postgres):
    postgres.sql("ALTER DATABASE dev CONNECTION LIMIT 4")
    try:
        done = configured.check(databases={"dev": {"dbname": "dev"}})
    finally:
        postgres.sql("ALTER DATABASE dev CONNECTION LIMIT -1")
    assert done.returncode == 1
    assert "[database:*]" in done.stdout and "[database:dev]" in done.stdout
    assert "the largest cap that can hold is 4" in done.stdout


def test_the_built_in_configuration_gets_its_variables(postgres):
    if port_accepts(6433) or port_accepts(6435):
        pytest.skip("somebody's daemon has the built-in ports")
    environment = {"PATH": os.environ["PATH"], "SUPABASE_URL": postgres.url(), "DB_TOTAL_CONNECTIONS": "61",
                   "DB_POOL_SIZE": "51"}
    done = subprocess.run([binary_path(), "check"], capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode == 1, done
    assert "DB_TOTAL_CONNECTIONS=60 DB_POOL_SIZE=50 DB_MAX_OVERFLOW=5 DB_RESERVED=5" in done.stdout


# -- while the daemon runs ----------------------------------------------------------------------------


def test_through_the_daemon_it_opens_nothing_beyond_the_cap(start_proxy, postgres):
    proxy = start_proxy()
    proxy.wait_warm()
    wait_until(lambda: proxy.status()["upstreams"][0]["kind"] == "server", "the upstream to be known")
    before = postgres.backend_pids()
    seen = set()
    watching = subprocess.Popen([binary_path(), "check", "-c", proxy.config_path], stdout=subprocess.PIPE,
                                text=True, env=proxy.environment)
    while watching.poll() is None:
        seen |= postgres.backend_pids()
    text = watching.communicate()[0]
    assert watching.returncode == 0, text
    assert seen <= before, "connections that are not the daemon's"
    assert "running" in text
    assert figure(text, "used by others now") == -2, "the harness's two; the daemon's own are not others"
    assert figure(text, "largest cap that can hold") == 60


def test_through_an_exhausted_daemon_it_still_answers(start_proxy, postgres):
    proxy = start_proxy()
    holders = proxy.hold(count=6)
    with strangers(postgres, 3):
        done = proxy.command("check", "-c", proxy.config_path)
    assert done.returncode == 0 and figure(done.stdout, "used by others now") == -5, done
    for holder in holders:
        holder.close()


def test_a_pool_that_does_not_let_the_user_in_is_passed_over(start_proxy):
    proxy = start_proxy(adhoc={"users": "somebody_else"})
    done = proxy.command("check", "-c", proxy.config_path)
    assert done.returncode == 0 and "It holds" in done.stdout, done


def test_without_http_the_daemon_is_found_by_its_listener(start_proxy, postgres):
    proxy = start_proxy()
    proxy.wait_warm()
    before = postgres.backend_pids()
    proxy.change(admin={"http": "", "listen": ""})
    proxy.write_config()
    done = proxy.command("check", "-c", proxy.config_path)
    assert done.returncode == 0 and "daemon is running" in done.stdout, done
    assert postgres.backend_pids() <= before
    assert figure(done.stdout, "largest cap that can hold") == 60


def test_the_daemons_ceiling_is_told(start_proxy, postgres):
    postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 3")
    try:
        proxy = start_proxy()
        wait_until(lambda: proxy.pool()["ceiling"] == 3, "the ceiling")
        done = proxy.command("check", "-c", proxy.config_path)
    finally:
        postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
    assert done.returncode == 1 and figure(done.stdout, "largest cap that can hold") == 3, done
    assert "upstream is full when it had 3" in done.stdout


# -- what goes wrong ----------------------------------------------------------------------------------


def test_nobody_there_is_3(configured):
    done = configured.check(**{"database:*": {"url": f"postgresql://u:s3cr3t@127.0.0.1:{free_port()}/d"}})
    assert done.returncode == 3 and "Nothing listens there" in done.stdout and "s3cr3t" not in done.stdout


def test_a_wrong_password_is_3(configured, postgres):
    done = configured.check(**{"database:*": {"url": postgres.url(password="n0t-it")}})
    assert done.returncode == 3 and "user or the password is wrong" in done.stdout
    assert "n0t-it" not in done.stdout + done.stderr


def test_an_unknown_host_is_3(configured):
    done = configured.check(**{"database:*": {"url": "postgresql://u:p@no-such-host.invalid/d"}})
    assert done.returncode == 3 and "no such host" in done.stdout


def test_an_ipv6_only_host_without_a_route_is_explained(configured, have):
    """In a network namespace of its own there is no route at all."""
    unshare = have("unshare")
    if subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode != 0:
        pytest.skip("no network namespace may be made here")
    configured.proxy.change(**{"database:*": {"url": "postgresql://u:p@[2001:db8::1]/d"}})
    configured.proxy.write_config()
    done = subprocess.run([unshare, "-rn", binary_path(), "check", "-c", configured.proxy.config_path],
                          capture_output=True, text=True, timeout=30, env=configured.proxy.environment)
    assert done.returncode == 3 and "has only IPv6 addresses" in done.stdout, done


def test_a_full_upstream_is_1(configured, postgres):
    postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
    try:
        done = configured.check()
    finally:
        postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
    assert done.returncode == 1 and "full" in done.stdout, done


@pytest.mark.parametrize("timeout", ["300ms", "60s"])
def test_a_full_upstream_is_1_through_the_daemon_too(start_proxy, postgres, timeout):
    """Whether the wait for a connection ends in the daemon's error or in the question's own 20 seconds."""
    postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
    try:
        proxy = start_proxy(wait="listening", automation={"timeout": "300ms"}, adhoc={"timeout": timeout})
        wait_until(lambda: proxy.pool()["ceiling"] == 0, "the ceiling")
        done = proxy.command("check", "-c", proxy.config_path, timeout=60)
    finally:
        postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
    assert done.returncode == 1 and "The upstream is full" in done.stdout, done
    assert "upstream is full when it had 0 connections" in done.stdout


def test_pools_that_are_in_use_are_not_an_upstream_that_is_away(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "300ms"},
                        adhoc={"size": 1, "reserved": 1, "timeout": "300ms"})
    holders = proxy.hold() + proxy.hold("adhoc")
    done = proxy.command("check", "-c", proxy.config_path)
    assert done.returncode == 1 and "SHOW HOLDERS" in done.stdout and "is full" not in done.stdout, done
    for holder in holders:
        holder.close()


def test_a_daemon_without_its_upstream_says_why(start_proxy, postgres):
    proxy = start_proxy(wait="listening", upstream_port=free_port())
    done = proxy.command("check", "-c", proxy.config_path)
    assert done.returncode == 3 and "through the running daemon" in done.stdout, done
    assert "Nothing listens there" in done.stdout


@pytest.mark.parametrize("arguments", [("--no-such-option",), ("extra",), ("-c",)])
def test_a_mistaken_call_does_not_say_that_the_cap_cannot_hold(configured, arguments):
    done = configured.proxy.command("check", *arguments)
    assert done.returncode == 2 and "usage: pgreserve" in done.stderr and not done.stdout, done


def test_minus_t_asks_nobody(configured):
    done = configured.check("-t", **{"database:*": {"url": "postgresql://u:p@127.0.0.1:1/d"}})
    assert done.returncode == 0 and "configuration ok" in done.stdout


@pytest.mark.parametrize("content", [None, "nobody\n", '"a" "b"\n"a" "c"\n'], ids=["missing", "no line", "twice"])
def test_a_users_file_that_stops_the_start_is_found(configured, tmp_path, content):
    users = tmp_path / "users"
    if content:
        users.write_text(content)
    proxy = configured.proxy
    for command in (("run",), ("check", "-t"), ("check",)):
        proxy.change(auth={"users_file": users})
        proxy.write_config()
        done = proxy.command(*command, "-c", proxy.config_path)
        assert done.returncode == 2 and str(users) in done.stderr and "configuration ok" not in done.stdout, done


@pytest.mark.parametrize("which", ["client_cert_file", "client_key_file", "client_ca_file", "client_crl_file", "client_ciphers"])
def test_tls_that_stops_the_start_is_found(configured, tmp_path, which):
    authority = Authority(tmp_path)
    certificate, key = authority.sign("localhost")
    proxy = configured.proxy
    proxy.change(tls={"client_mode": "prefer", "client_cert_file": certificate, "client_key_file": key,
                      "client_ca_file": authority.ca_file, "client_crl_file": authority.revoke(certificate)})
    proxy.write_config()
    assert proxy.command("check", "-t", "-c", proxy.config_path).returncode == 0
    proxy.change(tls={which: "/nowhere/at/all"})
    proxy.write_config()
    for command in (("run",), ("check", "-t"), ("check",)):
        done = proxy.command(*command, "-c", proxy.config_path)
        assert done.returncode == 2 and "TLS for clients" in done.stderr and "configuration ok" not in done.stdout, done


# -- poolers ------------------------------------------------------------------------------------------


def through(pooler, configured):
    return configured.check(**{"database:*": {"url": pooler.url()}})


def test_pgbouncer_in_transaction_mode_does_not_do(configured, postgres, have):
    have(PROGRAM)
    with Pooler(postgres, "transaction") as pooler:
        done = through(pooler, configured)
    assert done.returncode == 1, done
    assert "PgBouncer" in done.stdout and "Transaction mode" in done.stdout


def test_pgbouncer_in_session_mode_does(configured, postgres, have):
    have(PROGRAM)
    with Pooler(postgres, "session") as pooler:
        done = through(pooler, configured)
    assert done.returncode == 0, done
    assert "PgBouncer" in done.stdout and "Session mode works" in done.stdout


def test_its_own_limit_counts_when_it_tells_it(configured, postgres, have):
    have(PROGRAM)
    with Pooler(postgres, "session", default_pool_size=5, stats_users=ROLE) as pooler:
        done = through(pooler, configured)
    assert done.returncode == 1, done
    assert figure(done.stdout, "largest cap that can hold") == 5
    assert "by the pooler's own limit" in done.stdout


@pytest.mark.parametrize("mode, status", [("transaction", 1), ("session", 0)])
def test_through_the_daemon_its_finding_is_told(start_proxy, postgres, have, mode, status):
    have(PROGRAM)
    with Pooler(postgres, mode) as pooler:
        proxy = start_proxy(**{"database:*": {"url": pooler.url()}})
        wait_until(lambda: proxy.status()["upstreams"][0]["kind"] == f"{mode} pooler", "the upstream's kind")
        done = proxy.command("check", "-c", proxy.config_path)
        assert done.returncode == status and f"{mode.capitalize()} mode" in done.stdout, done
        proxy.stop()
