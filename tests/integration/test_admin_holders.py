"""Who has them all, since when, doing what, and what should be changed: the console's own tables.

A user would lose: the answer to the only question that is asked while nobody can get in.
"""

import psycopg
import pytest

import wire
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire, query


def holders(proxy):
    return {row["application_name"]: row for row in proxy.show("HOLDERS")}


def test_holders_longest_first_with_what_they_do(proxy, postgres):
    with proxy.wire(application_name="first") as first, proxy.wire(application_name="second") as second, \
            proxy.wire("adhoc", application_name="third") as third:
        first.query("BEGIN")
        first.query("SELECT 'the first one''s last words'")
        second.query("BEGIN")
        second.query("SELECT 1/0")
        third.send(query("SELECT pg_sleep(600)"))
        wait_until(lambda: "third" in holders(proxy), "the third one")
        rows = proxy.show("HOLDERS")
        assert [row["application_name"] for row in rows] == ["first", "second", "third"]
        assert [row["state"] for row in rows] == ["idle in transaction", "idle in transaction (aborted)", "running"]
        assert [row["pool"] for row in rows] == ["automation", "automation", "adhoc"]
        assert rows[0]["last_query"] == "SELECT 'the first one''s last words'"
        assert rows[0]["address"] == "127.0.0.1:%d" % first.socket.getsockname()[1]
        assert (rows[0]["database"], rows[0]["user"], rows[0]["pinned_by"]) == ("app", ROLE, "")
        held = [float(row["held_for"]) for row in rows]
        assert held == sorted(held, reverse=True) and 0 <= held[2] < 60
        assert float(rows[0]["idle_in_transaction_for"]) > 0 == float(rows[2]["idle_in_transaction_for"])
        assert {int(row["backend_pid"]) for row in rows} <= postgres.backend_pids()
        assert list(rows[0])[:7] == ["client", "address", "application_name", "state", "held_for", "pinned_by",
                                     "last_query"]
        proxy.admin(f"KILL_CLIENT {rows[2]['client']}")
        assert third.final_error().sqlstate == "57P01"
    wait_until(lambda: not proxy.show("HOLDERS"), "all to let go")


def last_query(proxy, name):
    return holders(proxy)[name]["last_query"]


def test_a_prepared_statement_is_a_query_too(proxy):
    """Most drivers send a text once, and its name ever after."""
    with proxy.wire(application_name="driver") as client:
        client.ask(wire.parse("begin", "BEGIN"), wire.parse("one", "SELECT 'one'"), wire.parse("two", "SELECT 'two'"))
        client.ask(wire.bind("", "begin"), wire.execute())
        assert last_query(proxy, "driver") == "BEGIN"
        client.ask(wire.bind("", "one"), wire.execute())
        assert last_query(proxy, "driver") == "SELECT 'one'"
        client.ask(wire.bind("", "two"), wire.execute(), wire.bind("", "one"), wire.execute())
        assert last_query(proxy, "driver") == "SELECT 'one'"
        client.query("SELECT 'three'")
        assert last_query(proxy, "driver") == "SELECT 'three'"
        client.ask(wire.bind("", "two"), wire.execute(), wire.close("S", "two"))
        assert last_query(proxy, "driver") == "SELECT 'two'", "its text is there though its name has gone"
        client.ask(wire.parse("", "SELECT 'unnamed'"))
        client.ask(wire.bind("", "one"), wire.execute())
        client.ask(wire.bind(), wire.execute())
        assert last_query(proxy, "driver") == "SELECT 'unnamed'"
        client.query("COMMIT")
        proxy.wait_pool(in_use=0)
        client.ask(wire.bind("", "begin"), wire.execute())
        assert last_query(proxy, "driver") == "BEGIN", "the text before was another transaction's"


def test_of_a_long_prepared_statement_the_beginning_is_shown(proxy):
    with proxy.wire(application_name="driver") as client:
        text = "SELECT '" + "long" * 5000 + "'"
        client.ask(wire.parse("long", text), wire.parse("begin", "BEGIN"))
        client.ask(wire.bind("", "begin"), wire.execute())
        client.ask(wire.bind("", "long"), wire.execute())
        assert last_query(proxy, "driver") == text[:1024]


def test_a_prepared_statement_of_one_that_looks_at_its_names(proxy):
    with proxy.wire(application_name="looker") as client:
        client.ask(wire.parse("one", "SELECT 'one'"))
        client.query("BEGIN")
        assert client.query("SELECT name FROM pg_prepared_statements").value == "one"
        client.ask(wire.bind("", "one"), wire.execute())
        assert last_query(proxy, "looker") == "SELECT 'one'"


def test_as_many_holders_as_are_in_use(proxy):
    clients = [proxy.wire() for _ in range(6)]
    for client in clients[:3]:
        client.query("BEGIN")
    assert len(proxy.show("HOLDERS")) == proxy.pool()["in_use"] == 3
    for client in clients:
        client.close()
    proxy.wait_pool(in_use=0)
    assert proxy.show("HOLDERS") == []


def test_a_pinned_one_says_by_what(proxy):
    with proxy.wire(application_name="listener") as client:
        client.query("LISTEN news")
        row = wait_until(lambda: [row for row in [holders(proxy)["listener"]] if row["state"] == "idle"],
                         "the question what it holds to be answered")[0]
        assert (row["pinned_by"], row["last_query"]) == ("listen", "LISTEN news")


def test_in_session_mode_that_is_the_reason(start_proxy):
    proxy = start_proxy(automation={"mode": "session"})
    with proxy.wire(application_name="session") as client:
        client.query("SELECT 1")
        assert holders(proxy)["session"]["pinned_by"] == "session mode"


def test_waiters_in_the_order_of_the_queue(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    with proxy.wire() as holder:
        holder.query("BEGIN")
        waiting = []
        for n in range(3):
            client = proxy.wire(application_name=f"waiter {n}")
            client.send(query(f"SELECT {n}"))
            waiting.append(client)
            proxy.wait_pool(waiting=n + 1)
        rows = proxy.show("WAITERS")
        assert [row["application_name"] for row in rows] == ["waiter 0", "waiter 1", "waiter 2"]
        assert [row["before"] for row in rows] == ["0", "1", "2"]
        assert [row["query"] for row in rows] == ["SELECT 0", "SELECT 1", "SELECT 2"]
        assert {row["pool"] for row in rows} == {"automation"} and {row["database"] for row in rows} == {"app"}
        assert all(0 < float(row["timeout_in"]) <= 30 for row in rows)
        assert float(rows[0]["waiting_for"]) >= float(rows[2]["waiting_for"])
        assert rows[0]["since"]
        holder.query("COMMIT")
        for n, client in enumerate(waiting):
            assert client.answer().value == str(n)
            client.close()
    assert proxy.show("WAITERS") == []


def test_waiters_with_prepared_statements(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    with proxy.wire() as named, proxy.wire() as unnamed, proxy.wire() as unknown, proxy.wire() as holder:
        named.ask(wire.parse("one", "SELECT 'one'"))
        unnamed.ask(wire.parse("", "SELECT 'unnamed'"))
        proxy.wait_pool(in_use=0)
        holder.query("BEGIN")
        for n, (client, statement) in enumerate([(named, "one"), (unnamed, ""), (unknown, "none such")]):
            client.send(wire.bind("", statement), wire.execute(), wire.sync())
            proxy.wait_pool(waiting=n + 1)
        assert [row["query"] for row in proxy.show("WAITERS")] == ["SELECT 'one'", "SELECT 'unnamed'", ""]
        holder.query("COMMIT")
        assert named.answer().value == "one"


def test_the_longest_holders_are_remembered_when_they_have_gone(proxy):
    with proxy.wire(application_name="scraper-7") as leaking:
        leaking.query("BEGIN")
        wait_until(lambda: [r for r in proxy.show("LONGEST") if float(r["longest_idle_in_hour"]) >= 1],
                   "a hold of a second to be noted")
        assert float(holders(proxy)["scraper-7"]["longest_in_hour"]) >= 1
    wait_until(lambda: not proxy.show("HOLDERS"), "it to let go")
    (row,) = proxy.show("LONGEST")
    assert (row["pool"], row["user"], row["application_name"], row["address"]) == (
        "automation", ROLE, "scraper-7", "127.0.0.1")
    assert row["holds"] == "1"
    assert float(row["longest_in_hour"]) >= float(row["longest_idle_in_hour"]) >= 1


def test_running_is_told_apart_from_idling(proxy):
    with proxy.wire(application_name="worker") as working:
        working.send(query("SELECT pg_sleep(2.5)"))
        working.answer()
    (row,) = proxy.show("LONGEST")
    assert float(row["longest_in_hour"]) >= 1 and float(row["longest_idle_in_hour"]) == 0


def test_advice_has_evidence(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "200ms"})
    rows = proxy.show("ADVICE")
    assert {(row["pool"], row["window"], row["setting"]) for row in rows} == {
        (pool, window, setting) for pool in ("automation", "adhoc") for window in ("hour", "day")
        for setting in ("size", "max_overflow", "timeout")}
    assert rows[0]["advice"] is None and "too little" in rows[0]["evidence"]
    with proxy.wire() as holder, proxy.wire() as late:
        holder.query("BEGIN")
        late.send(query("SELECT 1"))
        assert late.answer().error.sqlstate == "53300"
        wait_until(lambda: proxy.show("ADVICE")[0]["advice"], "ten seconds to be observed", timeout=20)
        advice = {row["setting"]: row for row in proxy.show("ADVICE")
                  if row["pool"] == "automation" and row["window"] == "hour"}
    assert (advice["size"]["now"], advice["size"]["advice"]) == ("1", "1")
    assert advice["max_overflow"]["advice"] == "1", "for 200 ms of ten seconds two were wanted"
    assert "at most 2 were in use or waited for" in advice["max_overflow"]["evidence"]
    assert "idle in a transaction" in advice["size"]["evidence"]
    assert (advice["timeout"]["now"], advice["timeout"]["advice"]) == ("200 ms", "400 ms")
    assert "1 of 3 clients" in advice["timeout"]["evidence"] or "1 of 2 clients" in advice["timeout"]["evidence"]


def test_the_ceiling_that_the_upstream_met_us_with(start_proxy, postgres):
    postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 3")
    try:
        proxy = start_proxy(wait=None)
        proxy.start("listening")
        wait_until(lambda: int(proxy.show("STATUS")[-1]["ceiling"] or 0) >= 3, "the upstream to say that it is full")
        assert proxy.show("STATUS")[-1]["pool"] == "total"
        assert any("too many connections" in (row["error"] or "") for row in proxy.show("STATUS"))
    finally:
        postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


def test_query_texts_are_cut_and_stay_readable(proxy):
    with proxy.wire(application_name="wordy") as client, \
            psycopg.connect(**proxy.keywords("admin", dbname="pgreserve"), autocommit=True) as console:
        for padding in range(3):
            client.query("BEGIN")
            client.query("SELECT '" + "x" * padding + "ä\n\t|" * 3000 + "'")
            (text,) = (row[6] for row in console.execute("SHOW HOLDERS"))
            assert text.startswith("SELECT 'x"[:8 + min(padding, 1)]) and 1000 < len(text.encode()) <= 1026
            client.query("ROLLBACK")


def test_bytes_that_are_no_utf8_cost_nobody_the_table(proxy):
    hostile = b"SELECT '\xff\xfe\xc0\xaf\xed\xa0\x80\xf5 \xe4'"
    with proxy.wire(application_name="latin") as client, \
            psycopg.connect(**proxy.keywords("admin", dbname="pgreserve"), autocommit=True) as console:
        client.query("BEGIN")
        client.query("SET client_encoding = 'LATIN1'")
        assert client.query(hostile).rows
        rows = console.execute("SHOW HOLDERS").fetchall()
        assert [(row[2], row[6]) for row in rows] == [("latin", "SELECT '???????? ?'")]


def test_hostile_names_stay_in_their_cells(proxy):
    name = "%s%n'\";--\x01é" + "x" * 300
    with Wire(proxy.port()).login(ROLE, PASSWORD, "app", application_name=name) as client:
        client.query("BEGIN")
        with Wire(proxy.ports["admin"]).login(ROLE, PASSWORD, "pgreserve") as console:
            for what in ("HOLDERS", "CLIENTS", "LONGEST"):
                assert not console.query(f"SHOW {what}").errors
            assert console.query(f"KILL_CLIENT {name}").errors
            with pytest.raises(wire.ErrorResponse):
                proxy.admin("PAUSE " + "x" * 5000 + "@" + "y" * 5000)
