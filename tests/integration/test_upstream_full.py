"""An upstream that grants less than the cap is full, not down (contract 12), and a pooler upstream is named.

A user would lose: the reserved connections, exactly when the automation has taken everything.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pooler import PROGRAM, Pooler
from server import ROLE
from test_logs import events, wait_event
from waiting import wait_until
from wire import query


@pytest.fixture
def limit(postgres):
    """Sets the role's CONNECTION LIMIT; lifted afterwards."""
    def set_limit(number):
        postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT {number}")
    yield set_limit
    set_limit(-1)


def living(pool):
    return pool["in_use"] + pool["available"]


def wait_living(proxy, **numbers):
    def look():
        return all(living(proxy.pool(name)) == number for name, number in numbers.items())
    wait_until(look, f"connections {numbers}; {proxy.status()['pools']}")


def test_the_ceiling_is_kept_and_shown_everywhere(start_proxy, limit):
    limit(3)
    proxy = start_proxy()
    wait_until(lambda: proxy.pool()["ceiling"] == 3, "the ceiling")
    assert proxy.status()["total"]["ceiling"] == 3
    assert proxy.status()["upstreams"][0]["ceiling"] == 3
    full = wait_event(proxy, "upstream is full")
    assert int(full["granted"]) <= 3 and full["level"] == "WARNING"
    assert "ceiling 3" in proxy.command("status", "-c", proxy.config_path).stdout


def test_a_ceiling_of_nothing_at_all_is_one(start_proxy, limit):
    """Not one connection is granted: 0 is how many there were, not that nobody knows."""
    limit(0)
    proxy = start_proxy(wait="listening")
    for name in ("automation", "adhoc"):
        wait_until(lambda: proxy.pool(name)["ceiling"] == 0, "the ceiling")
    assert int(wait_event(proxy, "upstream is full")["granted"]) == 0
    assert proxy.status()["upstreams"][0]["ceiling"] == 0
    assert [row["ceiling"] for row in proxy.show("STATUS")] == ["0", "0", "0"]
    assert "pgreserve_pool_upstream_ceiling{pool=\"adhoc\"} 0\n" in proxy.get("/metrics")
    assert proxy.command("status", "-c", proxy.config_path).stdout.count("ceiling 0") == 3
    limit(-1)
    wait_until(lambda: proxy.status()["total"]["ceiling"] is None, "the ceiling to be forgotten", timeout=25)
    wait_event(proxy, "upstream has room again")


def test_full_is_not_down(start_proxy, limit):
    limit(3)
    proxy = start_proxy()
    wait_until(lambda: proxy.pool()["ceiling"], "the ceiling")
    assert proxy.status()["state"] not in ("down", "exhausted")
    with proxy.wire() as wire:
        assert wire.query("SELECT 1").value == "1"


def test_a_ceiling_that_turns_out_higher_is_forgotten(start_proxy, limit):
    limit(3)
    proxy = start_proxy()
    wait_until(lambda: proxy.pool()["ceiling"] == 3, "the ceiling")
    limit(-1)
    wait_until(lambda: living(proxy.pool()) == 4, "the pool to be filled", timeout=25)
    wait_until(lambda: proxy.status()["total"]["ceiling"] is None, "the ceiling to be forgotten")
    assert {row["ceiling"] for row in proxy.show("STATUS")} == {None}
    assert "pgreserve_pool_upstream_ceiling{pool=\"automation\"} -1\n" in proxy.get("/metrics")
    wait_event(proxy, "upstream has room again")


def test_waiters_keep_waiting_while_it_is_full(start_proxy, limit, postgres):
    """Nothing lives, the upstream is full: nobody is failed before his time, and a place that comes free is used."""
    limit(0)
    proxy = start_proxy(wait="listening", automation={"prefill": "off", "timeout": 20},
                        adhoc={"prefill": "off"})
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(proxy.wire)
        wait_event(proxy, "login to upstream failed", sqlstate="53300")
        proxy.wait_pool(waiting=1)
        mark = len(postgres.refusals())
        wait_until(lambda: len(postgres.refusals()) > mark, "another try")
        assert not coming.done()
        limit(-1)
        with coming.result(timeout=20) as wire:
            assert wire.query("SELECT 1").value == "1"


def test_the_reserved_pool_gets_its_places_from_the_automation(start_proxy, limit, postgres):
    """The automation has everything when adhoc's connections die: it gives them back, one by one."""
    proxy = start_proxy(automation={"size": 6, "max_overflow": 0})
    proxy.wait_warm()
    limit(6)
    for pid in [row[0] for row in adhoc_backends(proxy, postgres)]:
        postgres.terminate(pid)
    wait_living(proxy, adhoc=2, automation=4)
    with proxy.wire("adhoc") as wire:
        assert wire.query("SELECT 1").value == "1"
    limit(-1)
    wait_living(proxy, adhoc=2, automation=6)


def adhoc_backends(proxy, postgres):
    ours = {row["remote_pid"] for row in proxy.show("SERVERS") if row["database"].endswith("@adhoc")}
    return [row for row in postgres.backends() if str(row[0]) in ours]


def test_nobody_loses_a_connection_in_use_to_the_reserved_pool(start_proxy, limit, postgres):
    proxy = start_proxy(automation={"size": 6, "max_overflow": 0})
    proxy.wait_warm()
    holders = proxy.hold(count=6)
    limit(6)
    for pid in [row[0] for row in adhoc_backends(proxy, postgres)]:
        postgres.terminate(pid)
    wait_event(proxy, "upstream is full")
    assert proxy.pool()["in_use"] == 6
    holders[0].rollback()
    wait_living(proxy, adhoc=1, automation=5)
    for holder in holders[1:]:
        with holder.cursor() as cursor:
            cursor.execute("SELECT 1")
        holder.close()
    holders[0].close()
    wait_living(proxy, adhoc=2, automation=4)
    limit(-1)


def test_where_strangers_take_what_is_given_the_automation_is_not_bled_dry(start_proxy, limit, postgres):
    """The limit falls below what is open: what we let go of never comes back, so that giving more is in vain."""
    proxy = start_proxy(automation={"size": 6, "max_overflow": 0})
    proxy.wait_warm()
    limit(1)
    for pid in [row[0] for row in adhoc_backends(proxy, postgres)]:
        postgres.terminate(pid)
    wait_until(lambda: living(proxy.pool()) == 2, "what may be given to have been given")
    with proxy.wire("adhoc") as waiter:
        waiter.send(query("SELECT 1"))  # tries again every second
        mark = len(postgres.refusals())
        wait_until(lambda: len(postgres.refusals()) >= mark + 2, "more tries")
        assert living(proxy.pool()) == 2
        limit(-1)
        assert waiter.answer().value == "1"
    wait_living(proxy, adhoc=2)


def test_a_poolers_own_words_for_full_are_known(start_proxy, postgres, have):
    """PgBouncer at its max_client_conn: full, not down; live connections go on, the reserved pool has its share."""
    have(PROGRAM)
    with Pooler(postgres, "session", max_client_conn=4) as pooler:
        proxy = through(pooler, start_proxy)
        wait_until(lambda: proxy.pool()["ceiling"] == 4, "the ceiling")
        wait_living(proxy, adhoc=2, automation=2)
        assert "no more connections allowed" in wait_event(proxy, "login to upstream failed", sqlstate="08001")["reason"]
        with proxy.wire() as wire:
            assert wire.query("SELECT 1").value == "1"
        assert proxy.status()["state"] != "down"
        proxy.stop()


def kind(proxy):
    return next(iter(proxy.status()["upstreams"]))["kind"]


def test_a_server_is_known_as_one(proxy):
    proxy.wait_warm()
    wait_until(lambda: kind(proxy) == "server", "the upstream's kind")
    assert not events(proxy, "upstream is a pooler in transaction mode")


def through(pooler, start_proxy, **others):
    return start_proxy(**{"database:*": {"url": pooler.url()}}, **others)


def test_a_transaction_mode_pooler_is_warned_of(start_proxy, postgres, have):
    have(PROGRAM)
    with Pooler(postgres, "transaction") as pooler:
        proxy = through(pooler, start_proxy)
        warning = wait_event(proxy, "upstream is a pooler in transaction mode")
        assert warning["level"] == "WARNING" and "session" in warning["hint"]
        assert kind(proxy) == "transaction pooler"
        proxy.stop()
        assert len(events(proxy, "upstream is a pooler in transaction mode")) == 1


def test_a_session_mode_pooler_is_told_from_it(start_proxy, postgres, have):
    have(PROGRAM)
    with Pooler(postgres, "session") as pooler:
        proxy = through(pooler, start_proxy)
        wait_until(lambda: kind(proxy) == "session pooler", "the upstream's kind")
        assert not events(proxy, "upstream is a pooler in transaction mode")
        proxy.stop()


def test_the_question_leaves_no_trace_and_opens_nothing(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0}, adhoc={"size": 1, "reserved": 1},
                        pgreserve={"total_connections": 2})
    wait_until(lambda: kind(proxy) == "server", "the upstream's kind")
    assert len(postgres.backends()) <= 2
    for pool in ("automation", "adhoc"):
        with proxy.wire(pool) as wire:
            assert wire.query("SELECT count(*) FROM pg_settings WHERE source = 'session'"
                              " AND name <> 'application_name'").value == "0"
