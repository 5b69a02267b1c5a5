"""Waiting for a connection in a small pool: how it ends, who is told what, and who comes next.

A user would lose: the word who holds the connections, or the connection itself (a wait that ends in
FATAL makes drivers throw away their whole pool).
"""

import asyncio
import threading

import asyncpg
import pytest
import sqlalchemy

from server import PASSWORD, ROLE
from waiting import Stopwatch
from wire import ErrorResponse, Wire, extended, query


def test_sqlalchemy_raises_a_database_error_and_goes_on(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "300ms"})
    engine = sqlalchemy.create_engine(proxy.url(), pool_size=1)
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        connection.execute(sqlalchemy.text("SELECT 1")).scalar()
        connection.connection.rollback()
        (holder,) = proxy.hold()
        with pytest.raises(sqlalchemy.exc.OperationalError) as raised:
            connection.execute(sqlalchemy.text("SELECT 1"))
        assert raised.value.orig.pgcode == "53300"
        assert not raised.value.connection_invalidated, "SQLAlchemy would drop its whole pool"
        holder.close()
        connection.connection.rollback()
        assert connection.execute(sqlalchemy.text("SELECT 2")).scalar() == 2
        assert connection.connection.dbapi_connection is raw
    engine.dispose()


def test_asyncpg_succeeds_when_retried(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "300ms"})

    async def run():
        connection = await asyncpg.connect(proxy.url())
        (holder,) = proxy.hold()
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await connection.fetchval("SELECT 1")
        holder.close()
        assert await connection.fetchval("SELECT 2") == 2
        await connection.close()
    asyncio.run(run())


def test_client_that_timed_out_succeeds_when_retried(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "200ms"})
    with proxy.wire() as client:
        (holder,) = proxy.hold()
        for _ in range(3):
            assert client.query("SELECT 1").error.sqlstate == "53300"
        assert client.ask(extended("SELECT $1::int", (4,))).error.sqlstate == "53300"
        holder.close()
        assert client.query("SELECT 3").value == "3"
        assert client.ask(extended("SELECT $1::int", (4,))).value == "4"


def test_whole_pipeline_is_skipped_to_its_sync_and_the_next_one_waits_anew(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "400ms"})
    with proxy.wire() as client:
        (holder,) = proxy.hold()
        client.send(extended("SELECT 1"), extended("SELECT 2"), b"S\0\0\0\4",
                    extended("SELECT 3"), b"S\0\0\0\4")
        first = client.answer()
        assert first.kinds == "EZ" and first.error.sqlstate == "53300"
        holder.close()
        assert client.answer().value == "3"


def test_session_mode_refuses_for_good(start_proxy):
    proxy = start_proxy(automation={"mode": "session", "size": 1, "max_overflow": 0,
                                    "timeout": "300ms"})
    holder = proxy.connect()
    holder.cursor().execute("SELECT 1")
    with Wire(proxy.port()) as client:
        try:
            client.login(ROLE, PASSWORD, "app")
            client.send(query("SELECT 1"))
            error = client.final_error()
        except ErrorResponse as refused:
            error = refused
        assert (error.severity, error.sqlstate) == ("FATAL", "53300")
        assert error.message.startswith('pool "automation" limit of size 1 overflow 0 reached')
    holder.close()


def test_whole_seconds_are_said_as_such(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 1})
    with proxy.wire() as client:
        (holder,) = proxy.hold()
        assert client.query("SELECT 1").error.message == (
            'pool "automation" limit of size 1 overflow 0 reached, connection timed out, timeout 1 s')
        holder.close()


def test_detail_names_the_longest_holder(start_proxy):
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": "300ms"})
    holders = proxy.hold(application_name="nightly-batch") + proxy.hold(application_name="other")
    with proxy.wire() as client:
        detail = client.query("SELECT 1").error.detail
        assert "nightly-batch" in detail and "2" in detail
    for holder in holders:
        holder.close()


def test_hint_says_what_would_help(start_proxy):
    """More size, more of the cap, or an operator's RESUME: each where it is what is missing."""
    proxy = start_proxy(pgreserve={"total_connections": 3},
                        automation={"size": 1, "max_overflow": 9, "overflow_delay": "0", "timeout": "300ms"},
                        adhoc={"timeout": "300ms"})
    holders = proxy.hold() + proxy.hold("adhoc", 2)
    with proxy.wire() as at_the_cap, proxy.wire("adhoc") as at_its_size:
        hint = at_the_cap.query("SELECT 1").error.hint
        assert "total_connections = 3" in hint and "SHOW HOLDERS" in hint and "raise size" not in hint
        hint = at_its_size.query("SELECT 1").error.hint
        assert "raise size" in hint and "total_connections" not in hint
        for holder in holders:
            holder.close()
        proxy.wait_pool(in_use=0)
        proxy.admin("PAUSE automation")
        assert "RESUME" in at_the_cap.query("SELECT 1").error.hint
        proxy.admin("RESUME automation")
        assert not at_the_cap.query("SELECT 1").errors


def test_waiting_client_is_told_once(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 2,
                                    "wait_notice": "200ms"})
    (holder,) = proxy.hold()
    with proxy.wire() as client:
        answer = client.query("SELECT 1")
        assert len(answer.notices) == 1, "one NOTICE, not one a tick"
        assert answer.error.sqlstate == "53300"
    holder.close()


def test_a_freed_connection_goes_to_the_waiter_at_once(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 20})
    (holder,) = proxy.hold()
    with proxy.wire() as client:
        client.send(query("SELECT 'served'"))
        proxy.wait_pool(waiting=1)
        with Stopwatch() as watch:
            holder.rollback()
            assert client.answer().value == "served"
        assert watch.seconds < 0.5
    holder.close()


def test_crowd_on_one_connection_is_served_to_the_last(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    failures = []

    def scraper(number):
        try:
            connection = proxy.connect()
            with connection.cursor() as cursor:
                for turn in range(10):
                    cursor.execute("SELECT %s + %s", (number, turn))
                    assert cursor.fetchone()[0] == number + turn
            connection.close()
        except Exception as error:  # noqa: BLE001 - reported below, in the main thread
            failures.append(error)

    threads = [threading.Thread(target=scraper, args=(n,)) for n in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(proxy.postgres.backends("datname = 'app'")) <= 3


def test_reserved_connections_beyond_size_are_open_and_had_at_once(start_proxy):
    """Five are reserved though the pool's size is one: nobody waits for the overflow's delay to get what is reserved."""
    proxy = start_proxy(pgreserve={"total_connections": 10},
                        adhoc={"size": 1, "max_overflow": 4, "reserved": 5, "overflow_delay": "1h", "overflow_idle": "0",
                               "timeout": "2s"})
    proxy.wait_pool("adhoc", available=5, is_healthy=True, state="healthy")
    holders = proxy.hold("adhoc", 5)
    proxy.wait_pool("adhoc", in_use=5)
    for holder in holders:
        holder.close()
    for pid in proxy.postgres.backend_pids():
        proxy.postgres.terminate(pid)
    proxy.wait_pool("adhoc", available=5, is_healthy=True, state="healthy")
