"""A bad day upstream: down, slow, refusing, dying, full.  Clear errors for some, nothing for the rest.

A user would lose: queries to connections that were dead already, or everybody's work to one failure.
"""

import datetime
import json
import os
import signal

import pytest

import wire
from faults import Lingerer, Link, Scissors
from proxy import is_under_valgrind, limit
from server import PASSWORD, PASSWORD_IN_URL, ROLE
from waiting import Stopwatch, wait_until
from wire import Wire, query


@pytest.fixture
def link(postgres):
    with Link(postgres.port) as road:
        yield road


def login_or_first_query_error(proxy, pool="automation"):
    """The upstream's failure may be told at login or at the first query."""
    with Wire(proxy.port(pool)) as client:
        try:
            client.login(ROLE, PASSWORD, "app")
            return client.query("SELECT 1").error
        except wire.ErrorResponse as refused:
            return refused


def test_restart_under_idle_clients_is_not_seen(start_proxy, postgres):
    proxy = start_proxy()
    clients = [proxy.wire() for _ in range(10)] + [proxy.wire("adhoc") for _ in range(3)]
    for client in clients:
        assert client.query("SELECT 1").value == "1"
    postgres.restart(signal.SIGQUIT)
    for client in clients:
        assert client.query("SELECT 'after'").value == "after"
        client.close()


def test_restart_in_mid_query_ends_that_client_only(start_proxy, postgres):
    proxy = start_proxy()
    busy, idle = proxy.wire(), proxy.wire()
    assert idle.query("SELECT 1").value == "1"
    busy.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: postgres.backends("state = 'active'"), "the query to run")
    postgres.restart(signal.SIGQUIT)
    error = busy.final_error()
    assert error.severity == "FATAL" and error.sqlstate in ("57P01", "57P02", "08006")
    assert idle.query("SELECT 'after'").value == "after"
    idle.close()


def test_a_connection_that_was_reset_keeps_its_place_a_moment(start_proxy, postgres):
    """The road resets both ends; until the server has let go of its own, another connection might be one too many."""
    with Scissors(postgres.port, iter([("down", 1)]), mark=b"SELECT 'cut'") as road:
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(port=road.port) + "?sslmode=disable"},
                            pgreserve={"log_pool_events": "on", "log_format": "json"}, automation={"size": 1, "max_overflow": 0})
        with proxy.wire() as client, proxy.wire() as other:
            client.send(query("SELECT 'cut'"))
            assert client.final_error().sqlstate == "08006"
            assert other.query("SELECT 'after'").value == "after"
        lines = [json.loads(line) for line in proxy.log().splitlines()]
    lost, made = ([line for line in lines if line["event"] == event and line["pool"] == "automation"][-1]
                  for event in ("backend lost", "connect"))
    when = [datetime.datetime.fromisoformat(line["time"]).timestamp() for line in (lost, made)]
    assert "reset" in lost["reason"]
    assert when[1] - made["took"] - when[0] >= 0.045, "a log's times are cut to milliseconds"


class Deaf(Link):
    """Takes connections, and does nothing with them until it is restored: a server that is stopped or swapped out."""

    def __init__(self, port):
        self.taken, self.most = set(), 0
        super().__init__(port)

    def _serve(self, near):
        with self.lock:
            self.taken.add(near)
            self.most = max(self.most, len(self.taken))
        self.open_road.wait()
        super()._serve(near)
        with self.lock:
            self.taken.discard(near)


def test_a_server_that_does_nothing_goes_on_counting_logins_that_took_too_long(start_proxy, postgres):
    """Each is a connection of its own once it wakes up: no more are begun than the cap allows."""
    with Deaf(postgres.port) as road:
        road.silence()
        proxy = start_proxy(wait="listening", pgreserve={"total_connections": 3},
                            environment={"UPSTREAM": postgres.url(port=road.port) + "?sslmode=disable"},
                            automation={"size": 2, "max_overflow": 0, "timeout": "6s", "connect_timeout": limit(1)},
                            adhoc={"size": 1, "reserved": 1, "timeout": "6s", "connect_timeout": limit(1)})
        wait_until(lambda: road.most == 3, "the cap to be used up", timeout=20)
        assert login_or_first_query_error(proxy).sqlstate in ("08001", "53300")
        wait_until(lambda: [row["state"] for row in proxy.show("SERVERS")].count("closing") == 3, "all of them to be given up")
        assert login_or_first_query_error(proxy, "adhoc").sqlstate in ("08001", "53300")
        assert road.most == 3
        road.restore()
        wait_until(proxy.is_ready, "the server to be there again", timeout=30)
        with proxy.wire() as client:
            assert client.query("SELECT 'here'").value == "here"
        assert road.most == 3


def test_backend_killed_in_mid_query_passes_the_servers_words_on(proxy, postgres):
    client, other = proxy.wire(), proxy.wire()
    client.send(query("SELECT pg_sleep(60)"))
    ((pid, *_),) = wait_until(lambda: postgres.backends("state = 'active'"), "the query to run")
    postgres.terminate(pid)
    error = client.final_error()
    assert (error.severity, error.sqlstate) == ("FATAL", "57P01")
    assert "administrator command" in error.message
    assert other.query("SELECT 'unharmed'").value == "unharmed"
    other.close()
    postgres.wait_for_backends(6)


def test_backend_killed_in_an_idle_transaction(proxy, postgres):
    with proxy.wire() as client:
        client.query("BEGIN")
        pid = int(client.query("SELECT pg_backend_pid()").value)
        postgres.terminate(pid)
        client.send(query("SELECT 1"))
        assert client.final_error().severity == "FATAL"
    proxy.wait_pool(in_use=0, clients=0)


def test_backend_crash_is_08006_or_the_servers_word(proxy, postgres):
    """SIGKILL: PostgreSQL restarts all its backends, with 57P02 where it still can."""
    client, bystander = proxy.wire(), proxy.wire()
    assert bystander.query("SELECT 1").value == "1"
    client.send(query("SELECT pg_sleep(60)"))
    ((pid, *_),) = wait_until(lambda: postgres.backends("state = 'active'"), "the query to run")
    os.kill(pid, signal.SIGKILL)
    error = client.final_error()
    assert error.severity == "FATAL" and error.sqlstate in ("08006", "57P02", "57P01")
    postgres.control.close()
    postgres.observer.close()
    wait_until(postgres._open_observers, "PostgreSQL to recover", timeout=30)
    assert bystander.query("SELECT 'after'").value == "after"
    bystander.close()


def test_backend_that_has_said_that_it_goes_is_given_to_nobody(start_proxy, postgres):
    """Its last words come before its end does: a client that got it in between met that end without a word."""
    with Lingerer(postgres.port) as road:
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(port=road.port) + "?sslmode=disable"},
                            automation={"size": 2, "max_overflow": 1})
        proxy.wait_warm()
        with proxy.wire() as first, proxy.wire() as second:
            leaving = int(first.query("SELECT pg_backend_pid()").value)  # and is free again
            postgres.terminate(leaving)
            wait_until(lambda: "terminating connection" in proxy.log(), "its words to be heard")
            for client in (first, second):
                assert client.query("BEGIN").tags == ["BEGIN"]
            pids = {int(client.query("SELECT pg_backend_pid()").value) for client in (first, second)}
            assert leaving not in pids and len(pids) == 2
            for client in (first, second):
                assert client.query("COMMIT").tags == ["COMMIT"]


def test_stopped_idle_backend_is_found_by_its_ping_and_replaced(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 1, "pre_ping_idle": "200ms"},
                        adhoc={"pre_ping_idle": "1h"})
    with proxy.wire() as client:
        pid = client.query("SELECT pg_backend_pid()").value
        os.kill(int(pid), signal.SIGSTOP)
        try:
            wait_until(lambda: [row for row in proxy.show("SERVERS") if row["remote_pid"] == pid
                                and row["state"] != "idle"] or not any(
                                    row["remote_pid"] == pid for row in proxy.show("SERVERS")),
                       "a ping to be on its way")
            with Stopwatch() as watch:
                assert client.query("SELECT pg_backend_pid()").value != pid
            assert watch.seconds < 8
        finally:
            os.kill(int(pid), signal.SIGCONT)
        wait_until(lambda: int(pid) not in postgres.backend_pids(), "the stopped one to be given up")


def test_ping_at_every_checkout(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "pre_ping_idle": "0"})
    with proxy.wire() as client:
        for _ in range(30):
            assert client.query("SELECT 1").value == "1"
        pid = int(client.query("SELECT pg_backend_pid()").value)
        postgres.terminate(pid)
        assert client.query("SELECT 2").value == "2"


def test_upstream_down_at_start_then_comes_up(start_proxy, link):
    link.refuse()
    proxy = start_proxy(upstream_port=link.port, wait="listening")
    assert proxy.status()["state"] == "down"
    error = login_or_first_query_error(proxy)
    assert error.message.startswith("could not connect to upstream: ")
    assert error.sqlstate == "08001"
    assert PASSWORD not in str(error.fields) and PASSWORD_IN_URL not in str(error.fields)
    assert proxy.show("STATUS"), "the console needs no upstream"
    link.restore()
    proxy.wait_ready()
    with proxy.wire() as client:
        assert client.query("SELECT 'up'").value == "up"


def test_client_that_met_the_outage_stays_connected(start_proxy, link):
    proxy = start_proxy(upstream_port=link.port)
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"
        link.refuse()
        link.cut()
        proxy.wait_pool(state="down")
        answer = client.query("SELECT 2")
        assert answer.error.severity == "ERROR" and answer.state == "I"
        assert answer.error.message.startswith("could not connect to upstream: ")
        link.restore()
        proxy.wait_ready()
        assert client.query("SELECT 3").value == "3"


def test_wrong_upstream_password_is_told_without_showing_it(start_proxy, postgres, tmp_path):
    users = tmp_path / "users"
    users.write_text(f'"{ROLE}" "{PASSWORD}"\n')
    proxy = start_proxy(environment={"UPSTREAM": postgres.url(password="s3cretwrong")},
                        auth={"users_file": users}, wait="listening")
    error = login_or_first_query_error(proxy)
    assert error.sqlstate == "28P01"
    assert error.message.startswith("could not connect to upstream: ")
    assert "password authentication failed" in error.message
    assert "s3cretwrong" not in str(error.fields)
    assert "s3cretwrong" not in proxy.log() and "s3cretwrong" not in proxy.get("/status.json")
    assert "s3cretwrong" not in str(proxy.show("CONFIG"))


def test_failing_logins_back_off(start_proxy, postgres, tmp_path):
    users = tmp_path / "users"
    users.write_text(f'"{ROLE}" "{PASSWORD}"\n')
    mark = postgres.log_mark()
    proxy = start_proxy(environment={"UPSTREAM": postgres.url(password="wrong")},
                        auth={"users_file": users}, wait="listening")

    def attempts():
        return postgres.log(mark).count("password authentication failed")
    wait_until(attempts, "the first")
    before = proxy.cpu_seconds()
    with Stopwatch() as watch:
        wait_until(lambda: watch.so_far > 3, "three seconds of trying", timeout=5)
    assert attempts() < 60, "a storm"
    assert is_under_valgrind() or proxy.cpu_seconds() - before < 1.0
    assert len(proxy.log().splitlines()) < 60, "repeated failures are folded"


def test_fewer_slots_than_the_cap_means_full_not_down(start_proxy, postgres):
    """total_connections = 70 where the server grants 60: what lives goes on working."""
    proxy = start_proxy(pgreserve={"total_connections": 70},
                        automation={"size": 65, "max_overflow": 0, "timeout": "2s"},
                        adhoc={"size": 5, "reserved": 5})
    wait_until(lambda: len(postgres.backends()) == 60, "all that the server grants")
    clients = [proxy.wire() for _ in range(40)]
    for _ in range(3):
        for client in clients:
            client.send(query("SELECT pg_sleep(0.01)"))
        for client in clients:
            assert not client.answer().errors
    assert proxy.pool()["state"] != "down"
    with proxy.wire("adhoc") as developer:
        assert developer.query("SELECT 1").value == "1"
    for client in clients:
        client.close()


def test_slow_login_does_not_block_anyone(start_proxy, link):
    proxy = start_proxy(upstream_port=link.port, automation={"size": 1, "max_overflow": 2,
                                                            "overflow_delay": "10ms"})
    proxy.wait_warm()
    link.delay = 3.0
    (holder,) = proxy.hold()
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 'late'"))  # needs a new connection, which takes 3 s
        proxy.wait_pool(waiting=1)
        for _ in range(20):
            with Stopwatch() as watch:
                with proxy.wire("adhoc") as developer:
                    assert developer.query("SELECT 1").value == "1"
                proxy.status()
            assert watch.seconds < 1
        assert waiter.answer().value == "late"
    holder.close()


def test_login_that_never_ends_is_given_up(start_proxy, link):
    link.silence()
    proxy = start_proxy(upstream_port=link.port, wait="listening",
                        automation={"connect_timeout": "700ms", "timeout": 20},
                        adhoc={"connect_timeout": "700ms", "timeout": 20})
    with Stopwatch() as watch:
        error = login_or_first_query_error(proxy)
    assert watch.seconds < 10
    assert error.message.startswith("could not connect to upstream: ")
    link.restore()


def test_route_that_dies_under_idle_connections(start_proxy, link):
    """Nothing says that they are dead but the ping; clients get new ones when the road is back."""
    proxy = start_proxy(upstream_port=link.port,
                        automation={"pre_ping_idle": "200ms", "connect_timeout": "1s"},
                        adhoc={"pre_ping_idle": "200ms", "connect_timeout": "1s"})
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"
        link.silence()
        proxy.wait_pool(available=0, state="down", timeout=20)
        link.cut()
        link.restore()
        proxy.wait_ready()
        assert client.query("SELECT 'well'").value == "well"


def test_connection_cut_in_mid_query_without_a_word(start_proxy, postgres, link):
    proxy = start_proxy(upstream_port=link.port)
    client, other = proxy.wire(), proxy.wire()
    client.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: proxy.postgres.backends("state = 'active'"), "the query to run")
    link.cut()
    error = client.final_error()
    assert (error.severity, error.sqlstate) == ("FATAL", "08006")
    assert other.query("SELECT 'after'").value == "after"
    other.close()
    for pid in postgres.backend_pids("state = 'active'"):
        postgres.terminate(pid)  # the server itself would notice in a minute only


def test_database_dropped_under_its_pool(start_proxy, postgres):
    postgres.sql("CREATE DATABASE doomed OWNER proxy")
    proxy = start_proxy()
    with proxy.wire(database="doomed") as client:
        assert client.query("SELECT 1").value == "1"
        postgres.sql("DROP DATABASE doomed WITH (FORCE)")
        answer = client.query("SELECT 2")
        assert answer.error.message.startswith("could not connect to upstream: ")
        assert answer.error.sqlstate == "3D000"
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"


def test_clean_shutdown_of_the_server_in_mid_transaction(start_proxy, postgres):
    proxy = start_proxy()
    with proxy.wire() as client:
        client.query("BEGIN")
        postgres.stop(signal.SIGINT)
        client.send(query("SELECT 1"))
        error = client.final_error()
        assert error.severity == "FATAL" and error.sqlstate in ("57P01", "08006")
    proxy.wait_pool(state="down", in_use=0)
    postgres.start()
    proxy.wait_ready()
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"
