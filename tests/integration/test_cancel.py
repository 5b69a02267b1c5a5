"""Ctrl-C ends one's own query, wherever it is, and never anybody else's.

A user would lose: the only way to stop a runaway query, or (much worse) a query that somebody else's
Ctrl-C hits because the backend has changed hands meanwhile.
"""

import os
import random
import signal
import subprocess
import threading
import time

import psycopg2
import pytest

import wire
from server import PASSWORD, ROLE
from waiting import Stopwatch, wait_until
from wire import Wire, extended, query


def cancel(proxy, client, pool="automation", pid=None, key=None):
    """A CancelRequest through any listener; returns when the proxy has closed it."""
    with Wire(proxy.port(pool)) as other:
        other.send(wire.cancel_request(pid or client.backend_pid, key or client.backend_key))
        assert other.is_closed()


def wait_running(postgres, text="pg_sleep"):
    wait_until(lambda: postgres.backends(f"state = 'active' AND query LIKE '%{text}%'"),
               "the query to run")


@pytest.mark.parametrize("through", ["automation", "adhoc", "admin"])
def test_running_query_is_cancelled_through_any_listener(proxy, postgres, through):
    with proxy.wire() as client:
        client.send(query("SELECT pg_sleep(60)"))
        wait_running(postgres)
        cancel(proxy, client, through)
        answer = client.answer()
        assert answer.error.sqlstate == "57014" and answer.state == "I"
        assert client.query("SELECT 'still here'").value == "still here"


def test_session_and_statement_mode_too(any_mode_proxy, postgres):
    with any_mode_proxy.wire() as client:
        for sent in (query("SELECT pg_sleep(60)"), extended("SELECT pg_sleep(60)") + wire.sync()):
            client.send(sent)
            wait_running(postgres)
            cancel(any_mode_proxy, client)
            assert client.answer().error.sqlstate == "57014"


def test_in_a_transaction_it_fails_the_transaction_only(proxy, postgres):
    with proxy.wire() as client:
        client.query("BEGIN")
        client.send(query("SELECT pg_sleep(60)"))
        wait_running(postgres)
        cancel(proxy, client)
        answer = client.answer()
        assert answer.error.sqlstate == "57014" and answer.state == "E"
        assert client.query("ROLLBACK").state == "I"


def test_ctrl_c_in_psql(proxy, postgres):
    environment = {**os.environ, "PGPASSWORD": PASSWORD}
    psql = subprocess.Popen(
        ["psql", "-X", "-h", "127.0.0.1", "-p", str(proxy.port()), "-U", ROLE, "-d", "app",
         "-c", "SELECT pg_sleep(60)"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True)
    wait_running(postgres)
    psql.send_signal(signal.SIGINT)
    _, errors = psql.communicate(timeout=20)
    assert "canceling statement due to user request" in errors


def test_drivers_cancel_function(proxy, postgres):
    connection = proxy.connect()
    with connection.cursor() as cursor:
        timer = threading.Thread(target=lambda: (wait_running(postgres), connection.cancel()))
        timer.start()
        with pytest.raises(psycopg2.errors.QueryCanceled):
            cursor.execute("SELECT pg_sleep(60)")
        timer.join()
        cursor.execute("SELECT 1")


def test_waiting_client_leaves_the_queue_and_stays_connected(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    (holder,) = proxy.hold()
    with proxy.wire() as waiter, proxy.wire() as behind:
        waiter.send(query("SELECT 'never'"))
        proxy.wait_pool(waiting=1)
        behind.send(query("SELECT 'behind'"))
        proxy.wait_pool(waiting=2)
        with Stopwatch() as watch:
            cancel(proxy, waiter)
            answer = waiter.answer()
        assert watch.seconds < 1
        assert (answer.error.severity, answer.error.sqlstate) == ("ERROR", "57014")
        assert answer.error.message == "canceling statement due to user request"
        assert answer.state == "I"
        proxy.wait_pool(waiting=1)
        holder.close()
        assert behind.answer().value == "behind"
        assert waiter.query("SELECT 'after'").value == "after"


def test_waiting_extended_query_is_cancelled_to_its_sync(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    (holder,) = proxy.hold()
    with proxy.wire() as waiter:
        waiter.send(extended("SELECT 1"), extended("SELECT 2"), wire.sync())
        proxy.wait_pool(waiting=1)
        cancel(proxy, waiter)
        answer = waiter.answer()
        assert answer.kinds == "EZ" and answer.error.sqlstate == "57014"
        holder.close()
        assert waiter.ask(extended("SELECT 3")).value == "3"


def test_idle_client_is_not_disturbed(proxy):
    with proxy.wire() as client:
        for _ in range(20):
            cancel(proxy, client)
        assert client.query("SELECT pg_sleep(0.2)").tags == ["SELECT 1"]


def test_idle_transaction_is_not_disturbed_later(proxy):
    with proxy.wire() as client:
        client.query("BEGIN")
        for _ in range(5):
            cancel(proxy, client)
        # PostgreSQL itself ignores a cancel between two queries
        assert client.query("SELECT 1").state in "TE"


def test_wrong_keys_cancel_nothing(proxy, postgres):
    with proxy.wire() as client:
        client.send(query("SELECT pg_sleep(1)"))
        wait_running(postgres)
        for pid, key in ((client.backend_pid, b"\0\0\0\0"),
                         (client.backend_pid + 1, client.backend_key),
                         (client.backend_pid, client.backend_key[::-1]),
                         (client.backend_pid, client.backend_key + b"x"),
                         (client.backend_pid, client.backend_key[:2])):
            cancel(proxy, client, pid=pid, key=key)
        assert client.answer().tags == ["SELECT 1"]


def test_keys_are_our_own_and_differ(proxy):
    with proxy.wire() as client:
        pid = client.query("SELECT pg_backend_pid()").value
        seen = {(client.backend_pid, client.backend_key)}
        for _ in range(20):
            with proxy.wire() as other:
                seen.add((other.backend_pid, other.backend_key))
        assert len(seen) == 21
        assert len({key for _, key in seen}) == 21, "keys are random"
        assert pid.isdigit()


def test_cancel_with_a_dead_clients_key(proxy):
    client = proxy.wire()
    client.query("SELECT 1")
    pid, key = client.backend_pid, client.backend_key
    client.close()
    proxy.wait_pool(clients=0)
    with proxy.wire() as other:
        other.send(query("SELECT pg_sleep(0.5)"))
        cancel(proxy, other, pid=pid, key=key)
        assert other.answer().tags == ["SELECT 1"]


def test_cancel_takes_no_slot_and_no_client_place(start_proxy, postgres):
    proxy = start_proxy(automation={"max_clients": 1, "size": 1, "max_overflow": 0})
    with proxy.wire() as client:
        client.send(query("SELECT pg_sleep(60)"))
        wait_running(postgres)
        cancel(proxy, client)
        assert client.answer().error.sqlstate == "57014"


def test_thousands_of_cancels_at_hand_over_hit_nobody_else(start_proxy):
    """Aggressors run tiny queries on two backends and cancel them just as they end; victims share the
    same backends and must never see 57014."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": 60})
    ended = threading.Event()
    cancels, hit_victims, problems = [], [], []
    seconds = float(os.environ.get("PGRESERVE_CANCEL_SECONDS", "10"))

    def guarded(work):
        def run(*arguments):
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001 - reported below
                problems.append(error)
        return run

    @guarded
    def victim(number):
        with proxy.wire(application_name=f"victim{number}") as client:
            while not ended.is_set():
                answer = client.query("SELECT pg_sleep(0.002)")
                if answer.errors:
                    hit_victims.append(answer.errors[0])

    @guarded
    def aggressor(number):
        dice = random.Random(number)
        with proxy.wire(application_name=f"aggressor{number}") as client:
            while not ended.is_set():
                client.send(query("SELECT pg_sleep(0.001)"))
                time.sleep(dice.random() * 0.004)
                with Wire(proxy.port()) as other:
                    other.send(wire.cancel_request(client.backend_pid, client.backend_key))
                    answer = client.answer()
                    assert all(error.sqlstate == "57014" for error in answer.errors)
                    cancels.append(bool(answer.errors))

    threads = [threading.Thread(target=victim, args=(n,)) for n in range(6)]
    threads += [threading.Thread(target=aggressor, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    ended.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert not hit_victims
    assert len(cancels) > 100 * seconds / 4, f"only {len(cancels)} cancels"
    assert any(cancels), "some must have hit their own query, else this tests nothing"
    proxy.wait_pool(in_use=0, waiting=0)
