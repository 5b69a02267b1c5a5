"""How the pool shares out what it has: order, overflow, reservation, recycling, room for others.

A user would lose: fairness, a burst's connections given back, fresh connections, or the reserved ones.
"""

import threading
import time

import pytest

import waiting
from waiting import Stopwatch, wait_until
from wire import query


def test_first_come_first_served(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    (holder,) = proxy.hold()
    waiters = []
    for number in range(20):
        client = proxy.wire()
        client.send(query("SELECT clock_timestamp()"))
        proxy.wait_pool(waiting=number + 1)
        waiters.append(client)
    holder.close()
    served = [client.answer().value for client in waiters]
    assert served == sorted(served)
    for client in waiters:
        client.close()


def test_newcomers_do_not_overtake_those_who_wait(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    (holder,) = proxy.hold()
    with proxy.wire() as waiter, proxy.wire() as newcomer:
        waiter.send(query("SELECT clock_timestamp()"))
        proxy.wait_pool(waiting=1)
        holder.close()
        newcomer.send(query("SELECT clock_timestamp()"))
        assert waiter.answer().value < newcomer.answer().value


def test_size_is_opened_at_start_and_reopened_when_one_dies(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 4}, adhoc={"size": 2})
    postgres.wait_for_backends(6)
    victim = min(postgres.backend_pids())
    postgres.terminate(victim)
    wait_until(lambda: len(postgres.backend_pids() - {victim}) == 6, "the dead one's replacement")
    assert proxy.pool("adhoc")["available"] == 2


def test_without_prefill_nothing_is_opened_until_needed(start_proxy, postgres):
    proxy = start_proxy(automation={"prefill": "off"}, adhoc={"prefill": "off", "reserved": 0},
                        wait="listening")
    assert not postgres.backends()
    with proxy.wire() as client:  # the first login asks the server for its parameters
        client.query("SELECT 1")
        assert len(postgres.backends()) == 1


def test_overflow_opens_only_after_overflow_delay(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 2, "max_overflow": 2, "overflow_delay": "600ms",
                                    "overflow_idle": "1h"})
    postgres.wait_for_backends(4)
    holders = proxy.hold(count=2)
    with proxy.wire() as third:
        with Stopwatch() as watch:
            third.query("BEGIN")
        assert 0.5 < watch.seconds < 3
        assert proxy.pool()["overflow"] == 1
    for holder in holders:
        holder.close()


def test_a_wait_shorter_than_overflow_delay_opens_nothing(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 3, "overflow_delay": "5s"},
                        adhoc={"size": 1, "reserved": 1})
    postgres.wait_for_backends(2)
    before = postgres.backend_pids()
    clients = [proxy.wire() for _ in range(10)]
    for client in clients:
        client.send(query("SELECT pg_sleep(0.02)"))
    for client in clients:
        client.answer()
        client.close()
    assert postgres.backend_pids() == before


def test_overflow_is_closed_after_overflow_idle(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 2, "max_overflow": 2, "overflow_delay": "10ms",
                                    "overflow_idle": "500ms"})
    holders = proxy.hold(count=4)
    postgres.wait_for_backends(6)
    for holder in holders:
        holder.close()
    postgres.wait_for_backends(4)
    assert proxy.wait_pool(overflow=0, in_use=0)["available"] >= 2


def test_reserved_pool_never_waits_while_automation_is_exhausted(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 4, "max_overflow": 2, "timeout": 20,
                                    "overflow_delay": "10ms"})
    holders = proxy.hold(count=6)
    crowd = [proxy.wire() for _ in range(50)]
    for client in crowd:
        client.send(query("SELECT 1"))
    proxy.wait_pool(waiting=50)
    for _ in range(20):
        with Stopwatch() as watch:
            with proxy.wire("adhoc") as developer:
                assert developer.query("SELECT 'dev'").value == "dev"
        assert watch.seconds < 1
    for holder in holders:
        holder.close()
    for client in crowd:
        client.answer()
        client.close()


def test_reserved_connections_are_never_lent(start_proxy, postgres):
    """Automation may be given more size than there is: what is reserved stays out of its reach."""
    proxy = start_proxy(pgreserve={"total_connections": 6},
                        automation={"size": 4, "max_overflow": 10, "timeout": "500ms",
                                    "overflow_delay": "10ms"},
                        adhoc={"size": 2, "reserved": 2})
    holders = proxy.hold(count=4)
    with proxy.wire() as fifth:
        assert fifth.query("SELECT 1").error.sqlstate == "53300"
    assert len(postgres.backends()) <= 6
    developers = proxy.hold("adhoc", count=2)
    assert len(postgres.backends()) == 6
    for client in holders + developers:
        client.close()


def test_developer_beyond_the_reservation_waits_for_developers_only(start_proxy):
    proxy = start_proxy(adhoc={"timeout": "400ms"})
    developers = proxy.hold("adhoc", count=2)
    with proxy.wire("adhoc") as third:
        error = third.query("SELECT 1").error
        assert error.sqlstate == "53300" and error.message.startswith('pool "adhoc" limit of size 2')
    for client in developers:
        client.close()


def test_old_connections_are_recycled_when_free(start_proxy, postgres):
    proxy = start_proxy(automation={"recycle": "1s", "size": 2}, adhoc={"recycle": "1h"})
    postgres.wait_for_backends(4)
    first = postgres.backend_pids()
    wait_until(lambda: len(first & postgres.backend_pids()) == 2
               and len(postgres.backend_pids()) == 4, "both automation connections to be replaced")
    assert proxy.pool("adhoc")["available"] == 2


def test_recycling_never_cuts_a_transaction(start_proxy, postgres):
    proxy = start_proxy(automation={"recycle": "300ms", "size": 1, "max_overflow": 0})
    with proxy.wire() as client:
        client.query("BEGIN")
        pid = client.query("SELECT pg_backend_pid()").value
        client.query("SELECT pg_sleep(1)")
        assert client.query("SELECT pg_backend_pid()").value == pid
        client.query("COMMIT")
        wait_until(lambda: int(pid) not in postgres.backend_pids(), "the old one to be replaced")
        assert client.query("SELECT pg_backend_pid()").value != pid


def test_recycling_at_full_use_never_exceeds_the_cap(start_proxy, postgres):
    """At the cap, the old one must be gone (the server's EOF) before the new one is tried."""
    mark = postgres.log_mark()
    proxy = start_proxy(pgreserve={"total_connections": 60},
                        automation={"size": 55, "max_overflow": 0, "recycle": "2s",
                                    "login_burst": 16},
                        adhoc={"size": 5, "reserved": 5, "recycle": "2s"})
    postgres.wait_for_backends(60)
    seen, most = set(), 0
    deadline = time.monotonic() + 20 * waiting.patience
    with proxy.wire() as client:
        while len(seen) <= 180 and time.monotonic() < deadline:
            client.query("SELECT 1")
            pids = postgres.backend_pids()
            seen |= pids
            most = max(most, len(pids))
    assert most <= 60
    assert len(seen) > 180, "they were recycled indeed"
    assert not postgres.refusals(mark)


def test_idle_connections_of_one_database_make_room_for_another(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 3, "max_overflow": 0, "timeout": 5})
    postgres.wait_for_backends(3 + 2)
    with Stopwatch() as watch:
        with proxy.wire(database="dev") as client:
            assert client.query("SELECT current_database()").value == "dev"
    assert watch.seconds < 3
    assert len(postgres.backends()) <= 5


def test_two_databases_take_turns_on_one_connection(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 20})
    failures = []

    def work(database):
        try:
            with proxy.wire(database=database) as client:
                for _ in range(15):
                    assert client.query("SELECT current_database()").value == database
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(d,)) for d in ("app", "dev") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("pre_ping_idle", ["0", "5s"])
def test_killed_idle_connection_is_never_given_out(start_proxy, postgres, pre_ping_idle):
    proxy = start_proxy(automation={"size": 3, "pre_ping_idle": pre_ping_idle})
    with proxy.wire() as client:
        for _ in range(20):
            for pid in postgres.backend_pids("datname = 'app'"):
                postgres.terminate(pid)
                # its last word is on the way when the server no longer lists it
                wait_until(lambda: pid not in postgres.backend_pids(), "its end")
            assert client.query("SELECT 'alive'").value == "alive"


def test_third_pool_has_numbers_of_its_own(start_proxy, postgres):
    proxy = start_proxy(wait=None)
    proxy.change(pgreserve={"total_connections": 10})
    proxy.add_pool("reports", mode="session", size=1, max_overflow=1, timeout="300ms",
                   overflow_delay="10ms")
    proxy.write_config()
    proxy.start()
    holders = proxy.hold("reports", count=2)
    assert proxy.pool("reports")["in_use"] == 2
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"
    for holder in holders:
        holder.close()
