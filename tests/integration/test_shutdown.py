"""Stopping: transactions finish, nobody gets a bare reset, nothing is left behind.

A user would lose: a transaction to a deployment, or a clean stop to a hanging client.
"""

import signal
import socket

import pytest

import wire
from server import PASSWORD, ROLE
from waiting import Stopwatch, port_accepts, wait_until
from wire import Wire, query

TERMINATING = "terminating connection due to administrator command"


def assert_told(client):
    error = client.final_error()
    assert (error.severity, error.sqlstate, error.message) == ("FATAL", "57P01", TERMINATING)


def test_term_with_idle_clients_ends_at_once(proxy):
    clients = [proxy.wire() for _ in range(5)]
    for client in clients:
        client.query("SELECT 1")
    with Stopwatch() as watch:
        proxy.process.send_signal(signal.SIGTERM)
        for client in clients:
            assert_told(client)
        assert proxy.wait_exit() == 0
    assert watch.seconds < 5


def test_term_lets_a_transaction_finish(proxy):
    idle, busy = proxy.wire(), proxy.wire()
    idle.query("SELECT 1")
    busy.query("BEGIN")
    busy.query("UPDATE things SET name = 'saved' WHERE id = 3")
    proxy.process.send_signal(signal.SIGTERM)
    assert_told(idle)
    assert busy.query("SELECT 'on I go'").value == "on I go"
    busy.send(query("COMMIT"))
    assert busy.until("C")[-1].body == b"COMMIT\0"
    rest = busy.until_closed()
    assert [m.kind for m in rest][-1] == "E"
    assert wire.error_fields(rest[-1].body)["C"] == "57P01"
    assert proxy.wait_exit() == 0
    with proxy.postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name FROM things WHERE id = 3")
        assert cursor.fetchone() == ("saved",)
        cursor.execute("UPDATE things SET name = 'thing 3' WHERE id = 3")
    connection.close()


def test_term_lets_a_running_query_finish(proxy, postgres):
    with proxy.wire() as client:
        client.send(query("SELECT pg_sleep(1.5), 'done'"))
        wait_until(lambda: postgres.backends("state = 'active'"), "the query to run")
        proxy.process.send_signal(signal.SIGTERM)
        assert wire.data_row(client.until("D")[-1].body)[1] == "done"
        client.until_closed()
    assert proxy.wait_exit() == 0


def test_term_takes_no_new_clients_but_the_waiting_are_not_left_hanging(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    holder = proxy.wire()
    holder.query("BEGIN")
    waiter = proxy.wire()
    waiter.send(query("SELECT 'waited'"))
    proxy.wait_pool(waiting=1)
    proxy.process.send_signal(signal.SIGTERM)

    def refused():
        try:
            with Wire(proxy.port(), timeout=5) as client:
                client.login(ROLE, PASSWORD, "app")
                return False
        except (OSError, wire.Closed, wire.ErrorResponse):
            return True
    wait_until(refused, "new clients to be refused")
    holder.send(query("ROLLBACK"))
    holder.until_closed()
    messages = waiter.until_closed()
    assert messages and messages[-1].kind == "E"
    assert proxy.wait_exit() == 0


def test_second_term_ends_at_once(proxy):
    client = proxy.wire()
    client.query("BEGIN")
    with Stopwatch() as watch:
        proxy.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not port_accepts(proxy.port()), "the listener to close")
        assert proxy.is_running()
        proxy.process.send_signal(signal.SIGTERM)
        assert_told(client)
        assert proxy.wait_exit() == 0
    assert watch.seconds < 5


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_end_at_once(proxy, postgres, how):
    client, idle = proxy.wire(), proxy.wire()
    client.query("BEGIN")
    busy = proxy.wire()
    busy.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: postgres.backends("state = 'active'"), "the query to run")
    with Stopwatch() as watch:
        proxy.process.send_signal(how)
        for each in (client, idle, busy):
            assert_told(each)
        assert proxy.wait_exit() == 0
    assert watch.seconds < 5
    postgres.wait_for_backends(0, timeout=10)


def test_term_gives_up_after_shutdown_timeout(start_proxy):
    proxy = start_proxy(pgreserve={"shutdown_timeout": "700ms"})
    client = proxy.wire()
    client.query("BEGIN")
    with Stopwatch() as watch:
        proxy.process.send_signal(signal.SIGTERM)
        assert_told(client)
        assert proxy.wait_exit() == 0
    assert 0.5 < watch.seconds < 5


def test_stop_while_the_upstream_is_down(start_proxy, postgres):
    from faults import Link
    with Link(postgres.port) as link:
        link.refuse()
        proxy = start_proxy(upstream_port=link.port, wait="listening")
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.wait_exit() == 0


def test_stop_while_logins_hang(start_proxy, postgres):
    from faults import Link
    with Link(postgres.port) as link:
        link.silence()
        proxy = start_proxy(upstream_port=link.port, wait="listening")
        with Stopwatch() as watch:
            proxy.process.send_signal(signal.SIGTERM)
            assert proxy.wait_exit() == 0
        assert watch.seconds < 8


def test_stop_with_a_client_that_reads_nothing(proxy, postgres):
    client = proxy.wire()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"))
    wait_until(lambda: postgres.backends("wait_event = 'ClientWrite'"), "the reader's halt to be felt")
    with Stopwatch() as watch:
        proxy.process.send_signal(signal.SIGINT)
        assert proxy.wait_exit() == 0
    assert watch.seconds < 8
    client.close()


def test_stop_with_clients_in_login(proxy):
    silent, half = Wire(proxy.port()), Wire(proxy.port())
    half.send(wire.startup(user=ROLE, database="app"))
    half.receive()
    proxy.process.send_signal(signal.SIGTERM)
    assert proxy.wait_exit() == 0
    silent.close()
    half.close()


def test_listen_ports_are_free_again_at_once(proxy):
    proxy.wire().query("SELECT 1")
    proxy.stop()
    proxy.start()
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"


def test_kill_9_leaves_no_backend_behind(proxy, postgres):
    client = proxy.wire()
    client.query("BEGIN")
    proxy.process.kill()
    proxy.process.wait()
    postgres.wait_for_backends(0)
    proxy.start()
    with proxy.wire() as again:
        assert again.query("SELECT 1").value == "1"
