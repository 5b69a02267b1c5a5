"""Roads on which bytes come one by one, or stop coming: the same answers, and nobody else waits for them.

A user would lose: a session to a message that came in pieces, or everybody's work to one connection that has stalled.
"""

import threading

import pytest

from faults import Dripper, Staller
from load import Sampler
from marks import CAP, Marks, assert_at_rest, descriptors_of_its_own
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire, bind, close, copy_data, copy_done, describe, execute, extended, flush, parse, query, sync

CONVERSATION = [
    [query("SELECT 1 AS one, NULL, 'text'; SELECT 2")],
    [query("SELECT 1/0")],
    [parse("named", "SELECT $1::int + 1", ()), describe("S", "named"), bind("p", "named", (41,)), execute("p"), sync()],
    [bind("", "named", (1,)), describe("P"), execute(), close("S", "named"), sync()],
    [extended("SELECT generate_series(1, 3)"), extended("SELECT 1/0"), extended("SELECT 'skipped'"), sync()],
    [query("SET search_path = pg_catalog"), query("SHOW search_path"), query("RESET search_path")],
    [query("BEGIN"), query("CREATE TEMP TABLE drip (n int, word text)"), query("COPY drip FROM STDIN"),
     copy_data(b"1\tone\n2\t"), copy_data(b"two\n"), copy_done(), query("SELECT count(*) FROM drip"), query("ROLLBACK")],
    [query("COPY (SELECT n, 'row ' || n FROM generate_series(1, 5) n) TO STDOUT")],
    [parse("", "SELECT 'flushed'"), bind(), execute(), flush(), sync()],
    [query("LISTEN drip"), query("NOTIFY drip, 'drop'"), query("UNLISTEN drip")],
]


def play(client):
    """The kinds and bodies of all answers, without what differs from backend to backend."""
    heard = []
    for messages in CONVERSATION:
        client.send(*messages)
        for _ in range(sum(message[:1] in (b"Q", b"S") for message in messages)):
            for answer in client.until("Z"):
                heard.append((answer.kind, b"" if answer.kind == "A" else answer.body))
    return heard


@pytest.mark.parametrize("side", ["client", "server", "both"])
def test_one_byte_at_a_time_changes_no_answer(start_proxy, postgres, side):
    with Dripper(postgres.port, both=True) as upstream:
        slow = side != "client"
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(port=upstream.port if slow else None) + "?sslmode=disable"},
                            automation={"size": 1, "max_overflow": 0}, adhoc={"size": 1, "reserved": 1})
        most = descriptors_of_its_own(proxy)
        with Wire(postgres.port) as direct:
            expected = play(direct.login(ROLE, PASSWORD, "app"))
        with Dripper(proxy.port(), both=True) as road:
            with Wire(proxy.port() if side == "server" else road.port) as client:
                client.login(ROLE, PASSWORD, "app")
                assert play(client) == expected
        assert_at_rest(proxy, most)


def test_conversations_at_once_one_byte_at_a_time(start_proxy, postgres):
    marks = Marks(postgres)
    with Dripper(postgres.port, both=True) as upstream:
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(port=upstream.port) + "?sslmode=disable"})
        most = descriptors_of_its_own(proxy)
        with Dripper(proxy.port(), both=True) as road, Sampler(postgres) as sampler:
            threads = [threading.Thread(target=marks.converse, args=(road.port,)) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sampler.seen["all"] <= CAP
        assert_at_rest(proxy, most)
    marks.check()
    assert marks.whole == 6


@pytest.mark.parametrize("bytes_before", [0, 1, 4, 5, 30, 5000])
def test_an_upstream_that_stalls_within_an_answer_stops_its_own_client_only(start_proxy, postgres, tmp_path, bytes_before):
    """One of two roads goes silent behind so many bytes of an answer; the other's clients never notice."""
    users = tmp_path / "users"
    users.write_text(f'"{ROLE}" "{PASSWORD}"\n')
    with Staller(postgres.port) as road:
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(), "STALLING": postgres.url(port=road.port) + "?sslmode=disable"},
                            **{"database:*": None}, databases={"app": {"url": "${UPSTREAM}"}, "stalling": {"url": "${STALLING}", "dbname": "app"}},
                            auth={"users_file": users})
        most = descriptors_of_its_own(proxy)
        stalled = proxy.wire(database="stalling")
        assert stalled.query("SELECT 'before'").value == "before"
        road.stall_after(bytes_before)
        stalled.send(query("SELECT repeat('stalled', 1000)"))
        wait_until(lambda: road.stalled, "the road to stall")
        for _ in range(20):
            with proxy.wire() as other:
                assert other.query("SELECT 'unharmed'").value == "unharmed"
        road.go_on()
        assert stalled.answer().value == "stalled" * 1000
        road.stall_after(bytes_before)
        stalled.send(query("SELECT repeat('stalled', 1000)"))
        wait_until(lambda: road.stalled, "the road to stall again")
        stalled.close()
        wait_until(lambda: not [row for row in proxy.show("CLIENTS") if row["database"].startswith("stalling")],
                   "the client that has gone to be gone")
        road.go_on()
        with proxy.wire(database="stalling") as after:
            assert after.query("SELECT 'its own'").value == "its own"
        assert_at_rest(proxy, most)


def test_a_client_that_stalls_within_a_message_keeps_no_connection_from_others(start_proxy):
    """The rest of it comes later, and is answered: there is one connection for all of them."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    most = descriptors_of_its_own(proxy)
    asked = {at: query(f"SELECT 'stalled behind {at}'") for at in (1, 4, 5, 6, 20)}
    slow = {at: proxy.wire() for at in asked}
    for at, client in slow.items():
        client.send(asked[at][:at])
    for _ in range(20):
        with proxy.wire() as other:
            assert other.query("SELECT 'unharmed'").value == "unharmed"
    for at, client in slow.items():
        client.send(asked[at][at:])
        assert client.answer().value == f"stalled behind {at}"
    for at, client in slow.items():
        client.send(asked[at][:at])
        client.close()
    assert_at_rest(proxy, most)
