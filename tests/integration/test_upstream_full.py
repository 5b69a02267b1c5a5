"""An upstream that grants less than the cap is full, not down (contract 12), and a pooler upstream is named.

A user would lose: the reserved connections, exactly when the automation has taken everything.
"""

import json
import re
import socket
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


def states(proxy):
    """The reserved pool's state wherever it is told, which must be the same everywhere; and the exit status that says it."""
    status = proxy.command("status", "-c", proxy.config_path)
    told = [next(pool["state"] for pool in proxy.status()["pools"] if pool["name"] == "adhoc"),
            next(row["state"] for row in proxy.show("STATUS") if row["pool"] == "adhoc"),
            re.search(r"^adhoc +(\w+)", proxy.get("/status"), re.M).group(1),
            re.search(r'pgreserve_pool_state{pool="adhoc",state="(\w+)"} 1\n', proxy.get("/metrics")).group(1),
            next(pool["state"] for pool in json.loads(proxy.get("/live.json"))["pools"] if pool["name"] == "adhoc"),
            re.search(r"adhoc: (\w+)", status.stdout).group(1)]
    assert len(set(told)) == 1, told
    return told[0], status.returncode


@pytest.mark.parametrize("granted", [0, 1])
def test_who_lacks_reserved_connections_is_not_healthy(start_proxy, limit, granted):
    """Every reserved connection is free or in its own pool's use, or else it is not (contract 8)."""
    limit(granted)
    proxy = start_proxy(wait="listening", automation={"prefill": "off"})
    wait_until(lambda: proxy.pool("adhoc")["ceiling"] == granted, "the ceiling")
    wait_living(proxy, adhoc=granted)
    assert states(proxy) == ("high_load", 1)
    assert proxy.pool("adhoc")["is_healthy"] is False and proxy.status()["state"] == "high_load"
    assert proxy.pool()["state"] == "healthy"
    limit(-1)
    wait_living(proxy, adhoc=2)
    assert states(proxy) == ("healthy", 0) and proxy.pool("adhoc")["is_healthy"] is True


def test_start_up_and_replacement_do_not_look_like_trouble(start_proxy, postgres):
    """While the reserved connections are being opened, and replaced one by one, all is well."""
    proxy = start_proxy(wait=None, automation={"prefill": "off"},
                        adhoc={"size": 6, "reserved": 6, "login_burst": 2})
    proxy.change(pgreserve={"total_connections": 12})
    proxy.write_config()
    proxy.start(wait="listening")
    def all_is_well():
        pool = proxy.pool("adhoc")
        assert pool["state"] == "healthy" and pool["is_healthy"], pool
        return pool
    wait_until(lambda: all_is_well()["available"] == 6, "the reserved connections")
    before = postgres.backend_pids()
    proxy.admin("DISPOSE adhoc")
    wait_until(lambda: all_is_well()["available"] == 6 and not before & postgres.backend_pids(), "new ones")


def test_a_pool_that_opens_on_demand_lacks_nothing_before_it(start_proxy):
    proxy = start_proxy(adhoc={"prefill": "off"})
    assert states(proxy) == ("healthy", 0) and proxy.pool("adhoc")["is_healthy"] is True


def test_a_silent_upstream_is_noticed_before_its_logins_time_out(start_proxy):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = start_proxy(wait="listening", upstream_port=silent.getsockname()[1])
        wait_until(lambda: proxy.pool("adhoc")["state"] != "healthy", "the reservation to be missed")
        assert states(proxy) == ("high_load", 1) and proxy.pool("adhoc")["is_healthy"] is False


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
