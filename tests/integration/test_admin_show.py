"""Every SHOW table has PgBouncer 1.25.2's columns, in its order and of its types, and tells the truth.

A user would lose: their monitoring, on the day they put pgreserve in PgBouncer's place.
"""

import re
import threading

import pytest

import wire
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire, query

TYPES = {"text": 25, "int4": 23, "int8": 20, "numeric": 1700, "bytea": 17, "bool": 16, "float8": 701}
SOCKET = ("type user database replication state addr port:int4 local_addr local_port:int4 connect_time"
          " request_time wait:int4 wait_us:int4 close_needed:int4 ptr link remote_pid:int4 tls"
          " application_name prepared_statements:int4 id:int4")
BUFFERS = " recv_pos:int4 pkt_pos:int4 pkt_remain:int4 send_pos:int4 send_remain:int4 pkt_avail:int4 send_avail:int4"
COUNTERS = "server_assignment_count xact_count query_count"
PARSES = "client_parse_count server_parse_count bind_count"


def numeric(prefix, names):
    return " ".join(f"{prefix}{name}:numeric" for name in names.split())


PGBOUNCER = {
    "POOLS": "database user cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4"
             " sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 sv_used:int4 sv_tested:int4"
             " sv_login:int4 maxwait:int4 maxwait_us:int4 pool_mode load_balance_hosts",
    "STATS": " ".join(["database", numeric("total_", COUNTERS + " received sent xact_time query_time wait_time"),
                       numeric("total_", PARSES),
                       numeric("avg_", COUNTERS + " recv sent xact_time query_time wait_time"),
                       numeric("avg_", PARSES)]),
    "STATS_TOTALS": " ".join(["database", numeric("", COUNTERS + " bytes_received bytes_sent xact_time query_time"
                                                  " wait_time " + PARSES)]),
    "STATS_AVERAGES": " ".join(["database", numeric("", COUNTERS + " bytes_received bytes_sent xact_time query_time"
                                                    " wait_time"), numeric("avg_", PARSES)]),
    "TOTALS": "name value:numeric",
    "CLIENTS": SOCKET,
    "SERVERS": SOCKET,
    "SOCKETS": SOCKET + BUFFERS,
    "ACTIVE_SOCKETS": SOCKET + BUFFERS,
    "DATABASES": "name host port:int4 database force_user pool_size:int4 min_pool_size:int4 reserve_pool_size:int4"
                 " server_lifetime:int4 pool_mode load_balance_hosts max_connections:int4 current_connections:int4"
                 " max_client_connections:int4 current_client_connections:int4 paused:int4 disabled:int4",
    "USERS": "name pool_size reserve_pool_size pool_mode max_user_connections:int4 current_connections:int4"
             " max_user_client_connections:int4 current_client_connections:int4",
    "LISTS": "list items:int4",
    "CONFIG": "key value default changeable",
    "VERSION": "version",
    "STATE": "key value",
    "MEM": "name size:int4 used:int4 free:int4 memtotal:int4",
    "FDS": "fd:int4 task user database addr port:int4 cancel:int8 link:int4 client_encoding std_strings datestyle"
           " timezone password scram_client_key:bytea scram_server_key:bytea",
    "PEERS": "peer_id:int4 host port:int4 pool_size:int4",
    "PEER_POOLS": "peer_id:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active_cancel:int4 sv_login:int4",
    "DNS_HOSTS": "hostname ttl:int8 addrs",
    "DNS_ZONES": "zonename serial:int8 count:int4",
}
NOTHING_ADDED = ("STATS", "VERSION", "LISTS", "CONFIG")
OURS = ("STATUS", "HOLDERS", "LONGEST", "WAITERS", "ADVICE")


def described(answer):
    """(name, type oid) of each column."""
    body = next(m.body for m in answer.messages if m.kind == "T")
    offset, columns = 2, []
    for _ in range(int.from_bytes(body[:2], "big")):
        end = body.index(b"\0", offset)
        columns.append((body[offset:end].decode(), int.from_bytes(body[end + 7:end + 11], "big")))
        offset = end + 19
    return columns


@pytest.fixture
def console(proxy):
    with Wire(proxy.ports["admin"]).login(ROLE, PASSWORD, "pgbouncer") as client:
        yield client


def row_of(rows, **cells):
    """The one row with these cells."""
    found = [row for row in rows if all(row[key] == value for key, value in cells.items())]
    assert len(found) == 1, f"{cells} in {rows}"
    return found[0]


def test_columns_are_pgbouncers(console):
    for what, columns in PGBOUNCER.items():
        expected = [(name, TYPES[kind or "text"])
                    for name, _, kind in (column.partition(":") for column in columns.split())]
        found = described(console.query(f"SHOW {what}"))
        if what in NOTHING_ADDED:
            assert found == expected, what
        assert found[:len(expected)] == expected, f"{what}: extra columns stand last"


def test_every_row_has_as_many_cells_as_columns_and_cells_of_its_types(proxy, console):
    with proxy.wire() as holder, proxy.wire("adhoc"):
        holder.query("BEGIN")
        for what in (*PGBOUNCER, *OURS):
            answer = console.query(f"SHOW {what}")
            assert answer.tags == ["SHOW"], what
            columns = described(answer)
            for row in answer.rows:
                assert len(row) == len(columns), what
                for value, (name, oid) in zip(row, columns):
                    if value is not None and oid in (TYPES["int4"], TYPES["int8"], TYPES["numeric"]):
                        assert re.fullmatch(r"-?\d+", value), f"{what}.{name}: {value}"
                        assert oid != TYPES["int4"] or -2**31 <= int(value) < 2**31


def test_stats_count_what_was_done(proxy):
    with proxy.wire(database="app") as client:
        before = row_of(proxy.show("STATS_TOTALS"), database="app@automation")
        assert client.query("SELECT repeat('x', 10000)").value
        client.query("BEGIN")
        client.query("SELECT pg_sleep(0.05)")
        client.query("COMMIT")
        client.ask(wire.extended("SELECT $1::int", [7]))
        after = row_of(proxy.show("STATS_TOTALS"), database="app@automation")
    grown = {key: int(after[key]) - int(before[key]) for key in before if key != "database"}
    assert grown["xact_count"] == 3 and grown["query_count"] == 5
    assert grown["server_assignment_count"] == 3
    assert grown["bytes_sent"] > 10000 and grown["bytes_received"] > 100
    assert 50_000 <= grown["query_time"] <= grown["xact_time"] < 5_000_000
    assert (grown["client_parse_count"], grown["bind_count"]) == (1, 1)
    assert grown["server_parse_count"] >= 1
    stats = row_of(proxy.show("STATS"), database="app@automation")
    assert int(stats["total_xact_count"]) >= int(after["xact_count"])
    assert int(stats["avg_query_time"]) > 0
    totals = {row["name"]: int(row["value"]) for row in proxy.show("TOTALS")}
    assert totals["total_query_count"] > int(after["query_count"])
    assert len(totals) == 22


def test_waits_and_timeouts_are_counted(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "300ms"})
    with proxy.wire() as holder, proxy.wire() as late:
        holder.query("BEGIN")
        assert late.query("SELECT 1").error.sqlstate == "53300"
        wait = int(row_of(proxy.show("STATS_TOTALS"), database="app@automation")["wait_time"])
        assert 300_000 <= wait < 3_000_000


def test_rows_are_unique_where_exporters_demand_it(proxy):
    connections = [proxy.connect(pool, application_name=f"{pool}{n}")
                   for pool in ("automation", "adhoc") for n in range(2)]
    for what, keys in (("POOLS", ("database", "user")), ("STATS", ("database",)),
                       ("DATABASES", ("name", "host", "port", "database", "force_user", "pool_mode"))):
        rows = [tuple(row[key] for key in keys) for row in proxy.show(what)]
        assert len(rows) == len(set(rows)) >= 3, what
    for connection in connections:
        connection.close()


def test_databases(start_proxy):
    proxy = start_proxy(databases={"alias": {"dbname": "app"}})
    with proxy.wire(), proxy.wire("adhoc"):
        rows = proxy.show("DATABASES")
    row = row_of(rows, name="app@automation")
    assert (row["host"], row["database"], row["force_user"]) == ("127.0.0.1", "app", ROLE)
    assert (row["port"], row["pool_mode"]) == (str(proxy.postgres.port), "transaction")
    assert (row["pool_size"], row["reserve_pool_size"], row["max_connections"]) == ("4", "2", "6")
    assert (row["current_client_connections"], row["paused"], row["disabled"]) == ("1", "0", "0")
    assert row_of(rows, name="app@adhoc")["reserved"] == "2"
    unused = row_of(rows, name="alias@adhoc")
    assert (unused["database"], unused["current_connections"]) == ("app", "0")
    assert row_of(rows, name="pgbouncer")["pool_mode"] == "statement"


def test_one_database_under_two_names_is_two_rows(start_proxy):
    proxy = start_proxy(databases={"alias": {"dbname": "app"}})
    with proxy.wire(database="alias") as one, proxy.wire(database="app") as other:
        one.query("SELECT 1")
        other.query("SELECT 1")
        names = [row["database"] for row in proxy.show("POOLS")]
    assert {"alias@automation", "app@automation"} <= set(names) and len(names) == len(set(names))


def test_users_lists_state_version(proxy):
    with proxy.wire(), proxy.wire():
        row = row_of(proxy.show("USERS"), name=ROLE)
        assert int(row["current_client_connections"]) == 3, "two and this console"
        lists = {row["list"]: int(row["items"]) for row in proxy.show("LISTS")}
        assert list(lists) == ["databases", "users", "peers", "pools", "peer_pools", "free_clients", "used_clients",
                               "login_clients", "free_servers", "used_servers", "dns_names", "dns_zones",
                               "dns_queries", "dns_pending"]
        assert lists["used_clients"] == 3 and lists["databases"] == 3 and lists["pools"] == 3
        proxy.wait_warm()
        lists = {row["list"]: int(row["items"]) for row in proxy.show("LISTS")}
        assert (lists["used_servers"], lists["free_servers"]) == (6, 2)
    assert proxy.show("STATE") == [{"key": "active", "value": "yes"}, {"key": "paused", "value": "no"},
                                   {"key": "suspended", "value": "no"}]
    assert re.fullmatch(r"PgBouncer 1\.25\.2 compatible \(pgreserve \d+\.\d+\.\d+\)",
                        proxy.show("VERSION")[0]["version"])


def test_config_has_pgbouncers_keys_and_ours(start_proxy):
    proxy = start_proxy(pgreserve={"max_clients": 1234}, automation={"timeout": "1min", "recycle": "10min"})
    rows = {row["key"]: row for row in proxy.show("CONFIG")}
    for key, value in {"max_client_conn": "1234", "max_user_connections": "0", "default_pool_size": "4",
                       "reserve_pool_size": "2", "max_db_connections": "8", "query_wait_timeout": "60",
                       "server_lifetime": "600", "pool_mode": "transaction", "auth_type": "scram-sha-256",
                       "log_pooler_errors": "1", "pool:automation.timeout": "1min",
                       "max_clients": "1234"}.items():
        assert rows[key]["value"] == value, key
    assert rows["pool:adhoc.listen"]["changeable"] == "no" and rows["default_pool_size"]["changeable"] == "yes"
    assert len(rows) == len(proxy.show("CONFIG")), "no key twice"


def test_sockets_and_fds(proxy):
    with proxy.wire(application_name="idle one"), proxy.wire(application_name="busy one") as busy:
        busy.query("BEGIN")
        names = [row["application_name"] for row in proxy.show("SOCKETS") if row["type"] == "C"]
        assert {"idle one", "busy one"} <= set(names)
        names = [row["application_name"] for row in proxy.show("ACTIVE_SOCKETS") if row["type"] == "C"]
        assert "busy one" in names and "idle one" not in names
        fds = proxy.show("FDS")
        assert {row["task"] for row in fds} == {"pooler", "client", "server"}
        assert len({row["fd"] for row in fds}) == len(fds)
        assert all(row["password"] is None and row["scram_client_key"] is None for row in fds)
    assert PASSWORD not in str(proxy.show("FDS") + proxy.show("CONFIG") + proxy.show("DATABASES"))


def test_prepared_statements_are_counted_on_both_sides(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})

    def shown(table, **cells):
        return row_of(proxy.show(table), **cells)["prepared_statements"]

    with proxy.wire(application_name="none"), proxy.wire(application_name="two") as client:
        for name in ("a", "b"):
            client.send(wire.parse(name, f"SELECT '{name}'") + wire.sync())
            assert not client.answer().errors
        assert (shown("CLIENTS", application_name="two"), shown("CLIENTS", application_name="none")) == ("2", "0")
        assert shown("SERVERS", database="app@automation") == "2"
        client.send(wire.close("S", "b") + wire.sync())
        assert not client.answer().errors
        assert shown("CLIENTS", application_name="two") == "1"
        assert shown("SERVERS", database="app@automation") == "2", "others may use it still"
    assert {row["prepared_statements"] for row in proxy.show("SERVERS") if "@adhoc" in row["database"]} == {"0"}


def test_mem_counts_its_objects(proxy):
    with proxy.wire(), proxy.wire():
        rows = {row["name"]: row for row in proxy.show("MEM")}
        assert int(rows["client"]["used"]) == 3
        assert int(rows["client"]["memtotal"]) == 3 * int(rows["client"]["size"])


def test_help_is_a_notice(console):
    answer = console.query("SHOW HELP")
    assert answer.tags == ["SHOW"] and "T" not in answer.kinds
    (notice,) = answer.notices
    assert notice["M"] == "Console usage"
    for words in ("SHOW HELP|POOLS", "SHOW ADVICE", "KILL_CLIENT <client_id>", "SET key = arg", "WAIT_CLOSE [<db>]"):
        assert words in notice["D"]


def test_everything_is_shown_while_nothing_upstream_answers(start_proxy):
    dead = start_proxy(wait=None, upstream_port=1)
    dead.start("listening")
    with Wire(dead.ports["admin"]).login(ROLE, PASSWORD, "pgbouncer") as console:
        for what in (*PGBOUNCER, *OURS):
            assert not console.query(f"SHOW {what}").errors, what
        wait_until(lambda: dead.show("STATUS")[0]["error"], "the upstream's error in SHOW STATUS")
        assert {row["state"] for row in dead.show("STATUS")} == {"down"}


def test_a_thousand_clients_are_all_shown(start_proxy):
    proxy = start_proxy(pgreserve={"max_clients": 2000})
    clients = [proxy.wire() for _ in range(1000)]
    rows = proxy.show("CLIENTS")
    assert len(rows) == 1001 and len({row["id"] for row in rows}) == 1001
    assert row_of(proxy.show("POOLS"), database="app@automation")["cl_active"] == "1000"
    for client in clients:
        client.close()
    wait_until(lambda: row_of(proxy.show("POOLS"), database="app@automation")["cl_active"] == "0", "none left")


def test_counters_do_not_drift(proxy, postgres):
    """At rest, after clients came, waited, failed and vanished, what the console says is what the server says."""
    crowd = [proxy.wire() for _ in range(20)]
    for n, client in enumerate(crowd):
        client.send(query("BEGIN") if n % 3 else query("SELECT 1/0"))
    for client in crowd[::2]:
        client.reset()
    for client in crowd[1::2]:
        client.close()
    proxy.wait_pool(clients=0, waiting=0, in_use=0)
    row = row_of(proxy.show("POOLS"), database="app@automation")
    assert (row["cl_active"], row["cl_waiting"], row["sv_active"]) == ("0", "0", "0")
    wait_until(lambda: {int(r["remote_pid"]) for r in proxy.show("SERVERS")} == postgres.backend_pids(),
               "the console and the server to agree")


def backend_states(postgres):
    """pg_stat_activity's view of us: (application_name, state) of every backend in use."""
    return sorted((row[0], row[1]) for row in postgres.sql(
        f"SELECT application_name, state FROM pg_stat_activity WHERE usename = '{ROLE}' AND state <> 'idle'"))


def test_holders_agree_with_pg_stat_activity(proxy, postgres):
    proxy.wait_warm()
    clients = {name: proxy.wire(application_name=name) for name in ("idler", "failed", "runner", "resting")}
    clients["idler"].query("BEGIN")
    clients["failed"].query("BEGIN")
    clients["failed"].query("SELECT 1/0")
    clients["runner"].send(query("SELECT pg_sleep(600)"))
    clients["resting"].query("SELECT 1")
    wait_until(lambda: ("runner", "active") in backend_states(postgres), "the query to run")
    ours = sorted((row["application_name"], {"running": "active"}.get(row["state"], row["state"]))
                  for row in proxy.show("HOLDERS"))
    assert ours == backend_states(postgres) and len(ours) == 3
    assert {int(row["remote_pid"]) for row in proxy.show("SERVERS")} == postgres.backend_pids()
    assert sum(int(row["sv_active"]) for row in proxy.show("POOLS")) == 3
    for client in clients.values():
        client.close()


def test_figures_agree_with_pg_stat_activity_under_load(proxy, postgres):
    proxy.wait_warm()
    stop = threading.Event()

    def work(n):
        with proxy.wire("adhoc" if n % 4 == 0 else "automation", application_name=f"load {n}") as client:
            while not stop.is_set():
                client.send(query("BEGIN") + query("SELECT pg_sleep(0.002)") + query("COMMIT"))
                for _ in range(3):
                    assert not client.answer().errors

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    try:
        proxy.wait_pool(in_use=4)
        for _ in range(20):
            # no connection comes or goes now: at any time both sides must name the same ones
            shown = {int(row["remote_pid"]) for row in proxy.show("SERVERS") if row["state"] not in ("new", "closing")}
            assert shown == postgres.backend_pids()
            for row in proxy.show("STATUS"):
                assert int(row["in_use"]) + int(row["available"]) <= int(row["total_possible"])
            assert len(proxy.show("HOLDERS")) <= 8
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    proxy.wait_pool(in_use=0, clients=0)
    totals = {row["database"]: row for row in proxy.show("STATS_TOTALS")}
    for name in ("app@automation", "app@adhoc"):
        row = totals[name]
        assert int(row["query_count"]) == 3 * int(row["xact_count"]) > 0
        assert int(row["server_assignment_count"]) == int(row["xact_count"])


def assert_all_figures_agree(proxy, postgres, clients):
    """status.json, SHOW POOLS, SHOW SERVERS and pg_stat_activity, of a moment when nothing moves.

    `clients`: how many of each pool are connected.
    """
    activity = dict(postgres.sql(f"SELECT pid, state FROM pg_stat_activity WHERE usename = '{ROLE}'"))
    status, servers, shown = proxy.status(), proxy.show("SERVERS"), proxy.show("POOLS")
    assert {int(row["remote_pid"]) for row in servers} == set(activity)
    assert status["open"] == len(activity)
    for pool in status["pools"]:
        name = pool["name"]
        rows = [row for row in shown if row["pool"] == name]
        states = {int(row["remote_pid"]): row["state"] for row in servers if row["database"].endswith("@" + name)}
        assert {activity[pid] for pid, state in states.items() if state == "idle"} <= {"idle"}
        at_rest_in_use = [pid for pid, state in states.items() if state == "active" and activity[pid] == "idle"]
        at_work = [pid for pid in states if activity[pid] != "idle"]
        assert len(at_rest_in_use) == pool["pinned"], "in use, but not at work: pinned"
        assert pool["in_use"] == len(at_work) + pool["pinned"] == sum(int(row["sv_active"]) for row in rows)
        assert pool["in_use"] + pool["available"] == len(states)
        assert pool["available"] == sum(int(row[column]) for row in rows for column in ("sv_idle", "sv_used", "sv_tested"))
        assert pool["waiting"] == sum(int(row["cl_waiting"]) for row in rows)
        assert pool["clients"] == clients[name] == sum(int(row["cl_active"]) + int(row["cl_waiting"]) for row in rows)
        assert pool["closing"] == 0


def test_every_figure_agrees_with_pg_stat_activity(start_proxy, postgres):
    proxy = start_proxy(automation={"max_overflow": 0, "timeout": 60}, adhoc={"pre_ping": "off"})
    proxy.wait_warm()
    assert_all_figures_agree(proxy, postgres, {"automation": 0, "adhoc": 0})
    crowd = [proxy.wire() for _ in range(8)]
    person = proxy.wire("adhoc")
    for client in crowd[:2]:
        client.query("BEGIN")
    crowd[2].query("LISTEN x")
    crowd[3].send(query("SELECT pg_sleep(600)"))
    proxy.wait_pool(in_use=4, pinned=1)
    for client in crowd[4:6]:
        client.send(query("SELECT 1"))
    person.query("BEGIN")
    proxy.wait_pool(waiting=2)
    proxy.wait_pool("adhoc", in_use=1)
    wait_until(lambda: ("active",) in postgres.sql(f"SELECT state FROM pg_stat_activity WHERE usename = '{ROLE}'"),
               "the query to run")
    assert_all_figures_agree(proxy, postgres, {"automation": 8, "adhoc": 1})
    for client in (*crowd, person):
        client.reset()
    proxy.wait_pool(in_use=0, available=4, waiting=0, pinned=0, clients=0, closing=0, timeout=20)
    proxy.wait_pool("adhoc", in_use=0, available=2, clients=0, closing=0)
    wait_until(lambda: len(postgres.backend_pids()) == 6, "the cancelled backend to have come or gone")
    assert_all_figures_agree(proxy, postgres, {"automation": 0, "adhoc": 0})
