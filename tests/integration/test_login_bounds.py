"""Who has not said who he is takes no room from those who have, and nobody tries passwords without end.

A user would lose: the way in while somebody holds connections open without a word, or, by the fault of one, for all.
"""

import threading

import pytest

import wire
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire


def login(proxy, password=PASSWORD, pool="automation", database="app"):
    with Wire(proxy.port(pool)) as client:
        client.login(ROLE, password, database)


def refusal(proxy, password=PASSWORD, pool="automation", database="app"):
    with pytest.raises(wire.ErrorResponse) as refused:
        login(proxy, password, pool, database)
    return refused.value


@pytest.mark.parametrize("says", [b"", wire.SSL_REQUEST, wire.startup(user=ROLE, database="app"), b"\0"],
                         ids=["nothing", "SSLRequest", "start-up", "a byte"])
def test_silent_connections_do_not_shut_the_door(start_proxy, says):
    proxy = start_proxy(auth={"max_logins": 4})
    crowd = [Wire(proxy.port()) for _ in range(4)]
    for client in crowd:
        client.send(says)
    wait_until(lambda: proxy.show("LISTS") and [row for row in proxy.show("LISTS") if row["list"] == "login_clients"
                                                 and int(row["items"]) >= 4], "the crowd to be there")
    login(proxy, pool="adhoc")  # other doors know nothing of it
    login(proxy, pool="admin", database="pgreserve")
    login(proxy)  # it waits until one of the crowd has dawdled long enough
    log = proxy.log()
    assert "too many logins in progress" in log
    for client in crowd:
        client.close()


def test_crowd_of_honest_clients_gets_in(start_proxy):
    """More than may log in at once: they wait in the kernel's queue, none is refused."""
    proxy = start_proxy(auth={"max_logins": 2})
    failures = []

    def come():
        try:
            for _ in range(4):
                login(proxy)
        except Exception as error:  # whatever it is, it is told below
            failures.append(error)

    threads = [threading.Thread(target=come) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_those_who_are_in_do_not_count(start_proxy):
    proxy = start_proxy(auth={"max_logins": 2})
    inside = [proxy.wire() for _ in range(6)]
    login(proxy)
    for client in inside:
        client.close()


def test_failures_of_an_address(start_proxy):
    proxy = start_proxy(auth={"max_failures": 3, "failure_window": "3s", "failure_exempt": "192.0.2.0/24"})
    inside = proxy.wire()
    for _ in range(3):
        assert refusal(proxy, "wrong").sqlstate == "28P01"
    error = refusal(proxy)  # even the right password is not asked for
    assert (error.severity, error.sqlstate) == ("FATAL", "53300")
    assert "max_failures of 3" in error.message and "Try again in" in error.hint
    login(proxy, pool="adhoc")
    login(proxy, pool="admin", database="pgreserve")
    assert inside.query("SELECT 1").value == "1"

    def is_forgiven():
        try:
            login(proxy)
            return True
        except wire.ErrorResponse as refused:
            assert refused.sqlstate == "53300"
            return False

    wait_until(is_forgiven, "forgiveness")
    inside.close()


def test_who_has_proved_himself_but_may_not_come_in_has_not_failed(start_proxy):
    """A right password at the wrong pool is a job's misconfiguration: it must not shut its address out of this door."""
    proxy = start_proxy(auth={"max_failures": 3, "failure_window": "1h", "failure_exempt": "192.0.2.0/24"},
                        automation={"users": "somebody_else"})
    for _ in range(6):
        error = refusal(proxy)
        assert error.sqlstate == "28000" and "is not allowed on pool" in error.message
    for _ in range(3):
        refusal(proxy, "wrong")
    assert refusal(proxy).sqlstate == "53300"


def test_names_of_databases_that_nobody_reached_are_forgotten(start_proxy):
    """A stranger who may call himself anything makes one after the other, and leaves before it is his turn."""
    def lanes():
        return int(next(row["used"] for row in proxy.show("MEM") if row["name"] == "lane"))

    proxy = start_proxy(auth={"method": "trust"}, automation={"size": 1, "max_overflow": 0})
    before = lanes()
    with proxy.wire() as inside:
        inside.query("BEGIN")
        for number in range(20):
            with Wire(proxy.port()) as stranger:
                stranger.send(wire.startup(user=ROLE, database=f"anything{number}"))
                proxy.wait_pool(waiting=1)
        assert lanes() > before
        wait_until(lambda: lanes() == before, "the names to be forgotten")
        assert inside.query("COMMIT").tags == ["COMMIT"]


def test_failures_of_this_machine_are_not_counted(start_proxy):
    """One job with a wrong password must not keep out the others that share its address."""
    proxy = start_proxy(auth={"max_failures": 3, "failure_window": "1h"})
    for _ in range(6):
        refusal(proxy, "wrong")
    login(proxy)
