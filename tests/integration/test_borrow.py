"""`borrow = on`: a reserved pool takes the place of an idle connection of a pool without a reservation (contract 4).

A user would lose: the third developer's login at night, while four connections of the automation do nothing; or, if the loan
went the wrong way or was never given back, the automation its connections.
"""

import pytest

from load import Sampler, end_load, pgbench
from test_logs import wait_event
from waiting import wait_until
from wire import query

CAP = 6


@pytest.fixture
def lending(start_proxy):
    """Six in all: automation keeps four open, adhoc its reserved two and may have two more.  The log has each close."""
    def start(automation=None, **adhoc):
        proxy = start_proxy(
            pgreserve={"total_connections": CAP, "log_pool_events": "on"},
            automation={"size": 4, "max_overflow": 0, **(automation or {})},
            adhoc={"size": 2, "reserved": 2, "max_overflow": 2, "borrow": "on", "timeout": 20,
                   "overflow_idle": "300ms", **adhoc})
        proxy.wait_warm()
        return proxy
    return start


def loans(proxy):
    return proxy.log().count("lent to a reserved pool")


def free_all(*holders):
    for holder in holders:
        holder.close()


def test_the_third_developer_gets_an_idle_place_of_the_automation(lending, postgres):
    proxy = lending()
    with Sampler(postgres) as sampler:
        developers = proxy.hold("adhoc", 2)
        developers += proxy.hold("adhoc", 2)  # both beyond the reservation
        proxy.wait_pool("adhoc", in_use=4, overflow=2)
        proxy.wait_pool(available=2)
        assert loans(proxy) == 2, "one for each who waited"
    assert sampler.seen["all"] <= CAP
    free_all(*developers)


def test_never_more_than_max_overflow(lending):
    proxy = lending(timeout="1s")
    developers = proxy.hold("adhoc", 4)
    with proxy.wire("adhoc") as fifth:
        assert fifth.query("SELECT 1").error.sqlstate == "53300"
    proxy.wait_pool(available=2)
    assert loans(proxy) == 2
    free_all(*developers)


def test_the_automation_gets_its_place_back(lending, postgres):
    proxy = lending()
    with Sampler(postgres) as sampler:
        developers = proxy.hold("adhoc", 3)
        proxy.wait_pool(available=3)
        scrapers = proxy.hold("automation", 3)
        with proxy.wire() as fourth:  # waits for the place that is lent
            fourth.send(query("SELECT 'served'"))
            proxy.wait_pool(waiting=1)
            free_all(*developers)
            assert fourth.answer().value == "served"
        free_all(*scrapers)
        proxy.wait_pool(available=4)
        proxy.wait_pool("adhoc", available=2, overflow=0)
    assert sampler.seen["all"] <= CAP
    assert loans(proxy) == 1, "and nobody's place went round in circles"


def test_never_the_other_way_round(lending):
    proxy = lending(automation={"max_overflow": 2, "borrow": "on", "timeout": "1s"})
    scrapers = proxy.hold("automation", 4)
    with proxy.wire() as fifth:
        assert fifth.query("SELECT 1").error.sqlstate == "53300"
    proxy.wait_pool("adhoc", available=2)
    assert loans(proxy) == 0
    free_all(*scrapers)


def test_a_connection_in_use_is_not_taken(lending):
    """The developer waits, and has the first that its scraper gives back."""
    proxy = lending()
    scrapers = proxy.hold("automation", 4)
    developers = proxy.hold("adhoc", 2)
    with proxy.wire("adhoc") as third:
        third.send(query("SELECT 'served'"))
        proxy.wait_pool("adhoc", waiting=1)
        for scraper in scrapers:
            with scraper.cursor() as cursor:
                cursor.execute("SELECT 'mine still'")
        assert proxy.pool("adhoc")["waiting"] == 1 and loans(proxy) == 0
        scrapers[0].rollback()
        assert third.answer().value == "served"
    for scraper in scrapers[1:]:
        with scraper.cursor() as cursor:
            cursor.execute("SELECT 'mine still'")
    free_all(*scrapers, *developers)


def test_off_is_off_and_a_reload_switches_it(lending):
    proxy = lending(borrow="off", timeout="1s")
    developers = proxy.hold("adhoc", 2)
    with proxy.wire("adhoc") as third:
        assert third.query("SELECT 1").error.sqlstate == "53300"
        assert loans(proxy) == 0
        proxy.reload(adhoc={"borrow": "on", "timeout": 20})
        assert third.query("SELECT 'served'").value == "served"
        assert loans(proxy) == 1
        proxy.wait_pool(available=4)  # the overflow has gone again
        proxy.reload(adhoc={"borrow": "off", "timeout": "1s"})
        assert third.query("SELECT 1").error.sqlstate == "53300"
    proxy.wait_pool(available=4)
    assert loans(proxy) == 1
    free_all(*developers)


def test_the_overflow_delay_is_waited_for(lending):
    proxy = lending(overflow_delay="30s", timeout="1s")
    developers = proxy.hold("adhoc", 2)
    with proxy.wire("adhoc") as third:
        assert third.query("SELECT 1").error.sqlstate == "53300"
    assert proxy.pool()["available"] == 4 and loans(proxy) == 0
    free_all(*developers)


def test_the_oldest_idle_connection_is_what_goes(lending, postgres):
    proxy = lending()
    with proxy.wire() as scraper:
        used = int(scraper.query("SELECT pg_backend_pid()").value)
    developers = proxy.hold("adhoc", 3)
    proxy.wait_pool(available=3)
    assert used in postgres.backend_pids()
    free_all(*developers)


def test_under_load_developers_come_and_go_within_the_cap(lending, postgres):
    """Two scrapers keep the automation busy: it has idle ones to lend now and then, and its clients notice nothing."""
    proxy = lending(overflow_idle="100ms")
    load = pgbench(proxy, "simple", 2)
    with Sampler(postgres) as sampler:
        for _ in range(5):
            developers = proxy.hold("adhoc", 4)
            free_all(*developers)
            proxy.wait_pool("adhoc", in_use=0, overflow=0)
    end_load(load)
    assert sampler.seen["all"] <= CAP
    assert loans(proxy) >= 5
    wait_event(proxy, "close", reason="lent to a reserved pool")
    wait_until(lambda: proxy.pool()["available"] == 4, "the automation to have its four again")
