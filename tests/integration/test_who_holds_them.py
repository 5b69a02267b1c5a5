"""One scraper sits on 40 connections in idle transactions: psql, the page's document, the terminal and the log each name it.

A user would lose: the minute in which they should have found whom to stop.  What the page makes of its document is
looked at in tests/browser (test_exhausted_names_who_has_them_all).
"""

import json
import re

import pytest

from test_logs import events, wait_event
from waiting import wait_until

QUERY = "SELECT price FROM (VALUES (1)) AS items(price)"


@pytest.fixture
def scene(start_proxy):
    """The shipped pools; 40 connections of scraper-7 idle in transactions, 3 of billing, and one at work."""
    proxy = start_proxy(pgreserve={"total_connections": 60},
                        automation={"size": 50, "max_overflow": 5, "leak_warning": "1s"},
                        adhoc={"size": 5, "reserved": 5})
    proxy.wait_warm()
    held = proxy.hold(count=40, application_name="scraper-7")
    for connection in held:
        with connection.cursor() as cursor:
            cursor.execute(QUERY)
    held += proxy.hold(count=3, application_name="billing")
    with proxy.wire(application_name="worker") as worker:
        worker.query("LISTEN jobs")
        proxy.wait_pool(in_use=44)
        yield proxy
    for connection in held:
        connection.close()


def test_psql_names_it(scene):
    def psql(command):
        done = scene.psql("-At", "-c", command, pool="admin", database="pgreserve")
        assert done.returncode == 0, done
        return [line.split("|") for line in done.stdout.splitlines()]

    holders = psql("SHOW HOLDERS")
    assert [row[2] for row in holders[:40]] == ["scraper-7"] * 40, "longest first"
    assert {row[3] for row in holders[:40]} == {"idle in transaction"} and {row[6] for row in holders[:40]} == {QUERY}
    wait_until(lambda: len(psql("SHOW LONGEST")) == 3, "the holds to last a second")
    first = psql("SHOW LONGEST")[0]
    assert (first[2], first[6]) == ("scraper-7", "40") and float(first[5]) >= 1
    assert psql("SHOW STATUS")[0][-1] == "scraper-7 40 (40 idle in transaction), billing 3 (3 idle in transaction), worker 1"
    wait_until(lambda: "idle in a transaction" in psql("SHOW ADVICE")[0][-1], "ten seconds to be observed", timeout=30)


def test_the_page_is_told(scene):
    document = json.loads(scene.get("/live.json"))
    columns = document["holders"]["columns"]
    rows = [dict(zip(columns, row)) for row in document["holders"]["rows"]]
    assert len([row for row in rows if row["application_name"] == "scraper-7"
                and row["state"] == "idle in transaction"]) == 40
    assert document["pools"][0]["slots"]["idle_in_transaction"] == 43


@pytest.mark.parametrize("door", ["http", "console"])
def test_the_terminal_names_it(scene, door):
    url = scene.url("admin", database="pgreserve") if door == "console" else f"http://127.0.0.1:{scene.ports['http']}"
    done = scene.command("status", "--ascii", "--url", url)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert "|  |- held by scraper-7 40 (40 idle in transaction), billing 3 (3 idle in transaction), worker 1" in lines
    assert len([line for line in lines if "held by" in line]) == 1, "nobody holds any of the other pool"
    assert "held by scraper-7 40 (40 idle in transaction)" in scene.get("/status")


def test_the_log_names_it_in_two_lines(scene):
    first = wait_event(scene, "connection held for long", application="scraper-7", state="idle in transaction")
    assert first["last_query"] == QUERY and first["pool"] == "automation" and "pinned_by" not in first
    assert float(first["held"]) >= 1 and re.match(r"127\.0\.0\.1:\d+$", first["address"])
    pinned = wait_event(scene, "connection held for long", application="worker")
    assert (pinned["state"], pinned["pinned_by"]) == ("idle", "listen")
    wait_until(lambda: len([event for event in events(scene, "connection held for long")
                            if event["application"] == "scraper-7"]) == 2, "the other 39 in one line", timeout=15)
    last = wait_event(scene, "connection held for long", application="scraper-7")
    assert last["repeated"] == "39"
