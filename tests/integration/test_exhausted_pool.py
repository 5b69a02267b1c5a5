"""The story that started the project: automation has taken all that it may, with the shipped numbers.

The 56th client gets a clear error, in time, stays connected, and its driver takes it for a usual database
error; five developers work on as if nothing were wrong.  One daemon serves the whole file, with 55 held
transactions, so these tests must leave them alone.
"""

import asyncio
import time

import asyncpg
import psycopg
import psycopg2
import pytest

from proxy import Proxy
from server import OBSERVERS
from waiting import Stopwatch, wait_until
from wire import extended, query


@pytest.fixture(scope="module")
def crowded(shared_postgres):
    """The shipped numbers: 50 + 5 for automation, 5 reserved, the server grants exactly 60."""
    shared_postgres.ensure_running()
    wait_until(lambda: len(shared_postgres.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"))
               == OBSERVERS, "every slot to be free")
    mark = shared_postgres.log_mark()
    proxy = Proxy(shared_postgres, pgreserve={"total_connections": 60},
                  automation={"size": 50, "max_overflow": 5, "timeout": "1500ms",
                              "overflow_delay": "10ms"},
                  adhoc={"size": 5, "reserved": 5, "timeout": "5s"})
    try:
        proxy.start()
        holders = proxy.hold(count=55)
        proxy.wait_pool(in_use=55)
        yield proxy
        for holder in holders:
            holder.close()
        proxy.stop()
    finally:
        proxy.destroy()
    assert not shared_postgres.refusals(mark)


TEXT = 'pool "automation" limit of size 50 overflow 5 reached, connection timed out, timeout 1.5 s'


def test_the_56th_gets_53300_after_the_timeout_and_stays(crowded):
    with crowded.wire() as client:
        with Stopwatch() as watch:
            answer = client.query("SELECT 1")
        error = answer.error
        assert 1.4 < watch.seconds < 4
        assert (error.severity, error.sqlstate, error.message) == ("ERROR", "53300", TEXT)
        assert "55" in error.detail, "how many are in use"
        assert error.hint
        assert answer.kinds.endswith("EZ") and answer.state == "I"
        again = client.ask(extended("SELECT 1"), extended("SELECT 2"))
        assert again.kinds.endswith("EZ") and again.error.sqlstate == "53300"


def test_five_developers_work_meanwhile(crowded):
    started = time.monotonic()
    developers = [crowded.hold("adhoc")[0] for _ in range(5)]
    for developer in developers:
        developer.close()
    done = [crowded.psql("-Atc", "SELECT 'dev'", pool="adhoc") for _ in range(5)]
    assert [d.stdout.strip() for d in done] == ["dev"] * 5
    assert time.monotonic() - started < 5
    with crowded.wire("adhoc") as client:
        with Stopwatch() as watch:
            assert client.query("SELECT 1").value == "1"
        assert watch.seconds < 0.5, "a reserved connection is there at once"


def test_status_says_exhausted_and_who_waits(crowded):
    with crowded.wire() as client:
        client.send(query("SELECT 1"))
        pool = crowded.wait_pool(waiting=1)
        assert (pool["in_use"], pool["total_possible"], pool["state"]) == (55, 55, "exhausted")
        assert pool["overflow"] == 5 and pool["available"] == 0
        assert crowded.pool("adhoc")["state"] == "healthy"
        rows = crowded.show("POOLS")
        waiting = [row for row in rows if row["cl_waiting"] == "1"]
        assert [row["database"] for row in waiting] == ["app@automation"]
        client.answer()


def test_psycopg2_raises_a_database_error_and_goes_on(crowded):
    connection = crowded.connect()
    with connection.cursor() as cursor:
        with pytest.raises(psycopg2.errors.TooManyConnections) as raised:
            cursor.execute("SELECT 1")
        assert raised.value.pgcode == "53300" and TEXT in str(raised.value)
        assert isinstance(raised.value, psycopg2.OperationalError) and connection.closed == 0
    connection.close()


def test_psycopg3_raises_a_database_error_and_goes_on(crowded):
    with psycopg.connect(**crowded.keywords(), autocommit=True) as connection:
        for _ in range(2):
            with pytest.raises(psycopg.errors.TooManyConnections, match="limit of size 50"):
                connection.execute("SELECT 1")
            assert not connection.closed


def test_asyncpg_raises_a_database_error_and_goes_on(crowded):
    async def run():
        connection = await asyncpg.connect(crowded.url())
        for _ in range(2):
            with pytest.raises(asyncpg.TooManyConnectionsError) as raised:
                await connection.fetchval("SELECT 1")
            assert TEXT in str(raised.value) and not connection.is_closed()
        connection.terminate()
    asyncio.run(run())
