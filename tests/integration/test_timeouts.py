"""Nobody hangs: every time limit ends in the error that PostgreSQL uses for its own.

A user would lose: a pool to one forgotten transaction, or the reason why they were cut off.
"""

import pytest

import wire
from waiting import Stopwatch, wait_until
from wire import bind, execute, extended, parse, query

SINGLE = {"size": 1, "max_overflow": 0, "timeout": 20}


def assert_free_and_clean(proxy):
    proxy.wait_pool(in_use=0)
    with proxy.wire() as next_client:
        assert next_client.query("SHOW work_mem").value == "4MB"
        assert next_client.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                                 " AND pid = pg_backend_pid()").value == "0"


def test_query_timeout_cancels_the_query_alone(start_proxy):
    proxy = start_proxy(automation={**SINGLE, "query_timeout": "400ms"})
    with proxy.wire() as client:
        with Stopwatch() as watch:
            error = client.query("SELECT pg_sleep(30)").error
        assert 0.3 < watch.seconds < 5
        assert (error.severity, error.sqlstate) == ("ERROR", "57014")
        assert client.query("SELECT 'still here'").value == "still here"
        client.send(extended("SELECT pg_sleep(30)"), wire.sync())
        assert client.answer().error.sqlstate == "57014"
        assert client.query("SELECT 'still here'").value == "still here"
    assert_free_and_clean(proxy)


def test_query_timeout_spares_quick_queries_of_a_long_transaction(start_proxy):
    proxy = start_proxy(automation={**SINGLE, "query_timeout": "700ms"})
    with proxy.wire() as client:
        client.query("BEGIN")
        for _ in range(5):
            assert not client.query("SELECT pg_sleep(0.25)").errors
        assert client.query("COMMIT").tags == ["COMMIT"]


def test_query_timeout_counts_the_query_not_the_wait_for_it(start_proxy):
    proxy = start_proxy(automation={**SINGLE, "query_timeout": "800ms"})
    (holder,) = proxy.hold()
    with proxy.wire() as client:
        client.send(query("SELECT 'waited'"))
        with Stopwatch() as watch:
            holder.cursor().execute("SELECT pg_sleep(0.5)")
            holder.cursor().execute("SELECT pg_sleep(0.5)")
            holder.close()
            assert client.answer().value == "waited"
        assert watch.seconds > 0.9


def test_idle_in_transaction_timeout(start_proxy, postgres):
    proxy = start_proxy(automation={**SINGLE, "idle_in_transaction_timeout": "400ms"})
    with proxy.wire() as client:
        client.query("BEGIN")
        client.query("SELECT pg_advisory_xact_lock(7)")
        with Stopwatch() as watch:
            error = client.final_error()
        assert 0.25 < watch.seconds < 5
        assert (error.severity, error.sqlstate) == ("FATAL", "25P03")
    assert_free_and_clean(proxy)


def test_idle_in_transaction_timeout_spares_the_busy(start_proxy):
    proxy = start_proxy(automation={**SINGLE, "idle_in_transaction_timeout": "500ms"})
    with proxy.wire() as client:
        client.query("BEGIN")
        assert not client.query("SELECT pg_sleep(1.2)").errors
        assert client.query("COMMIT").state == "I"


def test_transaction_timeout(start_proxy, postgres):
    proxy = start_proxy(automation={**SINGLE, "transaction_timeout": "500ms"})
    with proxy.wire() as client:
        client.query("BEGIN")
        with Stopwatch() as watch:
            client.send(query("SELECT pg_sleep(30)"))
            error = client.final_error()
        assert 0.3 < watch.seconds < 5
        assert (error.severity, error.sqlstate) == ("FATAL", "25P04")
    wait_until(lambda: not postgres.backends("state = 'active' AND query LIKE '%pg_sleep(30)%'"),
               "the query to be cancelled")
    assert_free_and_clean(proxy)


def test_transaction_timeout_ends_an_idle_transaction_too(start_proxy):
    proxy = start_proxy(automation={**SINGLE, "transaction_timeout": "400ms"})
    with proxy.wire() as client:
        client.query("BEGIN")
        assert client.final_error().sqlstate == "25P04"
    assert_free_and_clean(proxy)


def test_transaction_timeout_ends_one_that_no_sync_has_ended(start_proxy, postgres):
    """Execute and Flush, again and again: one transaction on the server, though it says nothing of one."""
    proxy = start_proxy(automation={**SINGLE, "transaction_timeout": "400ms"})
    with proxy.wire() as client:
        client.send(extended("INSERT INTO things VALUES (-1, 'half')"), wire.flush())
        client.until("C")
        assert proxy.pool()["in_use"] == 1
        last = None
        for _ in range(100):
            client.send(extended("SELECT pg_sleep(0.02)"), wire.flush())
            last = client.until("CE")[-1]
            if last.kind == "E":
                break
        assert last.kind == "E" and wire.error_fields(last.body)["C"] == "25P04"
    assert_free_and_clean(proxy)
    with proxy.wire() as client:
        assert client.query("SELECT count(*) FROM things WHERE id = -1").value == "0"


def test_client_idle_timeout(start_proxy):
    proxy = start_proxy(automation={**SINGLE, "client_idle_timeout": "500ms"})
    with proxy.wire() as busy, proxy.wire() as idle:
        for _ in range(4):
            assert not busy.query("SELECT pg_sleep(0.2)").errors
        error = idle.final_error()
        assert (error.severity, error.sqlstate) == ("FATAL", "57P05")
        assert not busy.query("SELECT pg_sleep(0.9)").errors
    assert_free_and_clean(proxy)


def test_client_idle_timeout_is_not_for_those_in_a_transaction_or_waiting(start_proxy):
    proxy = start_proxy(automation={**SINGLE, "client_idle_timeout": "300ms"})
    (holder,) = proxy.hold()
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 'served'"))
        proxy.wait_pool(waiting=1)
        holder.cursor().execute("SELECT pg_sleep(0.8)")
        holder.rollback()
        assert waiter.answer().value == "served"


@pytest.mark.parametrize("key, action", [
    ("query_timeout", ["SELECT pg_sleep(30)"]),
    ("idle_in_transaction_timeout", ["BEGIN"]),
    ("transaction_timeout", ["BEGIN"]),
    ("client_idle_timeout", []),
])
def test_error_says_which_limit_and_its_value(start_proxy, key, action):
    proxy = start_proxy(automation={**SINGLE, key: "300ms"})
    with proxy.wire() as client:
        for statement in action:
            client.send(query(statement))
        error = None
        while error is None:
            received = client.receive()
            if received.kind == "E":
                error = wire.ErrorResponse(wire.error_fields(received.body))
    words = " ".join(filter(None, (error.message, error.detail, error.hint)))
    assert "300" in words or "0.3" in words, words


def test_limits_of_one_pool_do_not_bind_the_other(start_proxy):
    proxy = start_proxy(automation={"query_timeout": "200ms", "transaction_timeout": "200ms"})
    with proxy.wire("adhoc") as developer:
        developer.query("BEGIN")
        assert not developer.query("SELECT pg_sleep(0.8)").errors
        assert developer.query("COMMIT").tags == ["COMMIT"]


def test_leak_warning_names_the_holder_and_its_query_once(start_proxy):
    proxy = start_proxy(automation={"leak_warning": "300ms"})
    with proxy.wire(application_name="forgetful") as client:
        client.query("BEGIN")
        client.query("SELECT 'the last query of all'")
        wait_until(lambda: "forgetful" in proxy.log(), "the warning")
        assert not client.query("SELECT pg_sleep(0.8)").errors
        lines = [line for line in proxy.log().splitlines() if "forgetful" in line]
        assert len(lines) == 1 and "the last query of all" in lines[0]
        client.query("COMMIT")


def test_leak_warning_names_a_prepared_query(start_proxy):
    proxy = start_proxy(automation={"leak_warning": "300ms"})
    with proxy.wire(application_name="forgetful") as client:
        client.ask(parse("begin", "BEGIN"), parse("one", "SELECT 'prepared long ago'"))
        proxy.wait_pool(in_use=0)
        client.ask(bind("", "begin"), execute())
        client.ask(bind("", "one"), execute())
        wait_until(lambda: "forgetful" in proxy.log(), "the warning")
        (line,) = [line for line in proxy.log().splitlines() if "forgetful" in line]
        assert "SELECT 'prepared long ago'" in line


@pytest.mark.parametrize("made", ["by SET", "in the start-up packet"])
def test_idle_session_timeout_is_the_sessions_own(start_proxy, postgres, made):
    """Though no backend of its own is idle then; and nobody's free backend is ended by it."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    pids = postgres.backend_pids()
    with proxy.wire(**({"idle_session_timeout": "200ms"} if "packet" in made else {})) as client:
        if made == "by SET":
            client.query("SET idle_session_timeout = '200ms'")
        assert client.query("SHOW idle_session_timeout").value == "200ms"
        error = client.final_error()
        assert (error.severity, error.sqlstate) == ("FATAL", "57P05")
        assert error.message == "terminating connection due to idle-session timeout"
    with proxy.wire() as other:
        assert other.query("SHOW idle_session_timeout").value == "0"
    assert postgres.backend_pids() == pids


def test_an_error_of_ours_is_an_answer(start_proxy):
    """Who has waited for longer than it may be idle stays connected (contract: timeout)."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 3})
    with proxy.wire() as holder, proxy.wire() as client:
        client.query("SET idle_session_timeout = '2500ms'")
        holder.query("BEGIN")
        assert client.query("SELECT 1").error.sqlstate == "53300"
        holder.query("SELECT pg_sleep(0.3)")  # long enough to be swept
        holder.query("COMMIT")
        assert client.query("SELECT 1").value == "1"
