"""The admin console: PgBouncer's commands with PgBouncer's columns, and our own.

A user would lose: their dashboards and exporters (a column renamed or moved), or the console itself on
the day when everything is stuck.
"""

import psycopg
import psycopg2
import pytest

import wire
from proxy import limit
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire, query

# reference: what PgBouncer 1.25.2 sends, column for column
INT4, TEXT = 23, 25
SOCKET_COLUMNS = (
    "type user database replication state addr port:4 local_addr local_port:4 connect_time request_time"
    " wait:4 wait_us:4 close_needed:4 ptr link remote_pid:4 tls application_name prepared_statements:4"
    " id:4")
COLUMNS = {
    "POOLS": "database user cl_active:4 cl_waiting:4 cl_active_cancel_req:4 cl_waiting_cancel_req:4"
             " sv_active:4 sv_active_cancel:4 sv_being_canceled:4 sv_idle:4 sv_used:4 sv_tested:4"
             " sv_login:4 maxwait:4 maxwait_us:4 pool_mode load_balance_hosts",
    "CLIENTS": SOCKET_COLUMNS,
    "SERVERS": SOCKET_COLUMNS,
    "CONFIG": "key value default changeable",
    "VERSION": "version",
}
EXACT = ("CONFIG", "VERSION")  # nothing is added to these
STATUS_COLUMNS = ["pool", "in_use", "available", "overflow", "total_possible", "reserved", "is_healthy",
                  "waiting", "longest_wait", "longest_hold", "pinned", "closing", "clients", "state"]


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
    with Wire(proxy.ports["admin"]).login(ROLE, PASSWORD, "pgreserve") as client:
        yield client


@pytest.mark.parametrize("what", COLUMNS)
def test_columns_are_pgbouncers(console, what):
    expected = [(name.split(":")[0], INT4 if name.endswith(":4") else TEXT)
                for name in COLUMNS[what].split()]
    found = described(console.query(f"SHOW {what}"))
    if what in EXACT:
        assert found == expected
    assert found[:len(expected)] == expected, "extra columns stand last"


@pytest.mark.parametrize("what", [*COLUMNS, "STATUS"])
def test_extended_protocol_gives_the_same(console, what):
    simple = console.query(f"SHOW {what}")
    extended = console.ask(wire.extended(f"SHOW {what}"))
    assert not extended.errors
    assert extended.columns == simple.columns
    described_alone = console.ask(wire.parse("s", f"SHOW {what}"), wire.describe("S", "s"),
                                  wire.bind("", "s"), wire.execute())
    assert not described_alone.errors and described_alone.columns == simple.columns


def test_show_status(proxy):
    proxy.wait_warm()
    rows = proxy.show("STATUS")
    assert list(rows[0])[:len(STATUS_COLUMNS)] == STATUS_COLUMNS
    automation = next(row for row in rows if row["pool"] == "automation")
    assert (automation["in_use"], automation["total_possible"], automation["reserved"]) == ("0", "6", "0")
    assert automation["state"] == "healthy"
    adhoc = next(row for row in rows if row["pool"] == "adhoc")
    assert (adhoc["available"], adhoc["total_possible"], adhoc["reserved"]) == ("2", "2", "2")


def test_show_pools_counts(start_proxy):
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": 20})
    holders = proxy.hold(count=2)
    idle = proxy.wire()
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 1"))
        proxy.wait_pool(waiting=1)
        row = next(r for r in proxy.show("POOLS") if r["database"] == "app@automation")
        assert (row["user"], row["cl_waiting"], row["sv_active"], row["sv_idle"], row["pool_mode"]) == (
            ROLE, "1", "2", "0", "transaction")
        assert int(row["cl_active"]) >= 2
        assert int(row["maxwait"]) * 1_000_000 + int(row["maxwait_us"]) > 0
    names = [(r["database"], r["user"]) for r in proxy.show("POOLS")]
    assert len(names) == len(set(names)), "exporters refuse duplicate rows"
    for client in holders + [idle]:
        client.close()


def test_show_clients_and_servers(proxy, postgres):
    with proxy.wire(application_name="reporter") as client:
        client.query("BEGIN")
        pid = client.query("SELECT pg_backend_pid()").value
        row = next(r for r in proxy.show("CLIENTS") if r["application_name"] == "reporter")
        assert (row["type"], row["user"], row["database"], row["state"]) == (
            "C", ROLE, "app@automation", "active")
        assert row["addr"] == "127.0.0.1" and int(row["local_port"]) == proxy.port()
        assert int(row["port"]) == client.socket.getsockname()[1]
        servers = proxy.show("SERVERS")
        mine = next(r for r in servers if r["remote_pid"] == pid)
        assert (mine["type"], mine["database"], mine["state"]) == ("S", "app@automation", "active")
        assert mine["port"] == str(postgres.port)
        assert row["link"] == mine["ptr"] and mine["link"] == row["ptr"]
        pids = {int(r["remote_pid"]) for r in servers}
        assert pids == postgres.backend_pids()


def test_show_version(console):
    version = console.query("SHOW VERSION").value
    assert version.startswith("PgBouncer 1.25.2 compatible (pgreserve ")


def test_show_config_hides_passwords(proxy):
    rows = proxy.show("CONFIG")
    keys = {row["key"]: row for row in rows}
    assert keys["total_connections"]["value"] == "8"
    assert any(key.endswith("automation.size") and row["value"] == "4" for key, row in keys.items())
    assert {row["changeable"] for row in rows} <= {"yes", "no"}
    assert PASSWORD not in str(rows) and "pr0xy" not in str(rows)


@pytest.mark.parametrize("text", ["show pools", "SHOW POOLS;", "  Show\tPools ; ", "/* x */ SHOW POOLS"])
def test_spelling_of_commands_is_free(console, text):
    assert not console.query(text).errors


@pytest.mark.parametrize("text", ["SELECT * FROM pools", "SHOW NONSENSE", "PAUSE nowhere", "SHOW", "DROP TABLE x",
                                  "'", "SHOW POOLS extra words"])
def test_nonsense_is_an_error_and_the_console_stays(console, text):
    assert console.query(text).errors
    assert not console.query("SHOW POOLS").errors


def test_psql_and_drivers_can_use_it(proxy):
    done = proxy.psql("-Atc", "SHOW VERSION", "-c", "SHOW POOLS", pool="admin", database="pgreserve")
    assert done.returncode == 0 and "app@automation" in done.stdout, done
    connection = proxy.connect("admin", dbname="pgbouncer")
    with connection.cursor() as cursor:
        cursor.execute("SHOW STATUS")
        assert [column.name for column in cursor.description][:14] == STATUS_COLUMNS
    connection.close()
    with psycopg.connect(**proxy.keywords("admin", dbname="pgbouncer"), autocommit=True) as connection:
        assert connection.execute("SHOW POOLS").fetchall()


def test_other_database_names_are_refused(proxy):
    with pytest.raises(wire.ErrorResponse):
        proxy.admin("SHOW POOLS", database="app")


def test_others_are_refused_and_stats_users_may_only_show(start_proxy, tmp_path):
    users = tmp_path / "users"
    users.write_text('"boss" "b"\n"viewer" "v"\n"other" "o"\n')
    proxy = start_proxy(auth={"users_file": users},
                        admin={"users": "boss", "stats_users": "viewer"})
    assert proxy.admin("SHOW POOLS", user="boss", password="b")
    assert proxy.admin("RELOAD", user="boss", password="b")
    assert proxy.admin("SHOW POOLS", user="viewer", password="v")
    for command in ("PAUSE", "SHUTDOWN", "RECONNECT", "DISPOSE", "RELOAD"):
        with pytest.raises(wire.ErrorResponse) as refused:
            proxy.admin(command, user="viewer", password="v")
        assert refused.value.sqlstate == "42501"
    assert proxy.is_running()


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
def test_who_may_not_even_look_hears_it_after_the_proof(start_proxy, tmp_path, method):
    """And who has none hears the same of everybody: not whose name has a password, nor who may come in with it."""
    users = tmp_path / "users"
    users.write_text('"boss" "b"\n"other" "o"\n')
    proxy = start_proxy(auth={"users_file": users, "method": method}, admin={"users": "boss"})
    for user, password, sqlstate in (("other", "o", "28000"), ("other", "wrong", "28P01"), ("boss", "wrong", "28P01"),
                                     ("nobody", "o", "28P01")):
        with pytest.raises(wire.ErrorResponse) as refused:
            proxy.admin("SHOW POOLS", user=user, password=password)
        assert (refused.value.severity, refused.value.sqlstate) == ("FATAL", sqlstate), user
        assert refused.value.message == ("user is not allowed on the admin console" if sqlstate == "28000" else
                                         f'password authentication failed for user "{user}"')


def test_daemons_own_uid_needs_no_password_over_a_unix_socket(start_proxy, tmp_path):
    proxy = start_proxy(wait=None)
    port = proxy.ports["admin"]
    proxy.change(admin={"listen": f"127.0.0.1:{port}, unix:{tmp_path}"})
    proxy.write_config()
    proxy.start()
    with Wire(0, path=str(tmp_path / f".s.PGSQL.{port}")) as client:
        client.login("anyone", None, "pgreserve")
        assert client.query("SHOW POOLS").rows


def test_pause_holds_new_work_and_resume_lets_it_go(proxy, postgres):
    busy, fresh = proxy.wire(), proxy.wire()
    busy.query("BEGIN")
    pausing = Wire(proxy.ports["admin"]).login(ROLE, PASSWORD, "pgreserve")
    pausing.send(query("PAUSE"))
    fresh.send(query("SELECT 'later'"))
    assert busy.query("SELECT 'a transaction goes on'").value
    assert busy.query("COMMIT").tags == ["COMMIT"]
    assert pausing.answer().tags == ["PAUSE"], "PAUSE returns when the last transaction is over"
    assert proxy.show("POOLS")
    wait_until(lambda: not postgres.backends("state <> 'idle'"), "silence upstream")
    proxy.admin("RESUME")
    assert fresh.answer().value == "later"
    assert busy.query("SELECT 1").value == "1"
    for client in (busy, fresh, pausing):
        client.close()


def test_waiting_during_pause_is_still_bounded(start_proxy):
    proxy = start_proxy(automation={"timeout": limit(0.4)})
    proxy.admin("PAUSE")
    with proxy.wire() as client:
        assert client.query("SELECT 1").error.sqlstate == "53300"
        proxy.admin("RESUME")
        assert client.query("SELECT 1").value == "1"


@pytest.mark.parametrize("command", ["RECONNECT", "DISPOSE"])
def test_every_connection_is_replaced_busy_ones_when_free(proxy, postgres, command):
    proxy.wait_warm()
    with proxy.wire() as busy:
        busy.query("BEGIN")
        pid = int(busy.query("SELECT pg_backend_pid()").value)
        before = postgres.backend_pids()
        proxy.admin(command)
        wait_until(lambda: before & postgres.backend_pids() == {pid}, "the free ones to be replaced")
        assert busy.query("SELECT 'still mine'").value == "still mine"
        busy.query("COMMIT")
        wait_until(lambda: pid not in postgres.backend_pids(), "the busy one to follow")
        assert busy.query("SELECT 1").value == "1"
    postgres.wait_for_backends(6)


def test_dispose_of_one_pool_spares_the_other(proxy, postgres):
    proxy.wait_warm()
    adhoc = {r["remote_pid"] for r in proxy.show("SERVERS") if r["database"] == "app@adhoc"}
    automation = {r["remote_pid"] for r in proxy.show("SERVERS") if r["database"] == "app@automation"}
    assert len(adhoc) == 2 and len(automation) == 4
    proxy.admin("DISPOSE automation")
    wait_until(lambda: not {int(pid) for pid in automation} & postgres.backend_pids(),
               "automation's connections to be replaced")
    assert {int(pid) for pid in adhoc} <= postgres.backend_pids()


def test_reload_command(proxy):
    proxy.change(automation={"size": 2})
    proxy.write_config()
    assert proxy.admin("RELOAD") == ["RELOAD"]
    wait_until(lambda: proxy.pool()["total_possible"] == 4, "the new size")


def test_shutdown_command(proxy):
    client = proxy.wire()
    client.query("SELECT 1")
    try:
        proxy.admin("SHUTDOWN")
    except (wire.Closed, wire.ErrorResponse):
        pass
    assert client.final_error().sqlstate == "57P01"
    assert proxy.wait_exit() == 0


def test_it_answers_while_everything_is_exhausted(start_proxy):
    proxy = start_proxy(automation={"timeout": 30, "overflow_delay": "10ms"})
    holders = proxy.hold(count=6) + proxy.hold("adhoc", count=2)
    crowd = [proxy.wire() for _ in range(20)]
    for client in crowd:
        client.send(query("SELECT 1"))
    proxy.wait_pool(waiting=20)
    done = proxy.psql("-Atc", "SHOW POOLS", pool="admin", database="pgreserve")
    assert done.returncode == 0 and "app@automation" in done.stdout
    assert {r["state"] for r in proxy.show("STATUS")} == {"exhausted", "high_load"}
    for client in crowd + holders:
        client.close()


def test_two_consoles_and_one_that_vanishes(proxy):
    first = Wire(proxy.ports["admin"]).login(ROLE, PASSWORD, "pgreserve")
    first.send(query("SHOW CONFIG") * 200)
    first.reset()
    assert proxy.show("POOLS")
    with pytest.raises(psycopg2.OperationalError):
        proxy.connect("admin", dbname="pgreserve", password="wrong")
    assert proxy.is_running() and isinstance(proxy.show("CLIENTS"), list)


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset], ids=["close", "reset"])
def test_console_that_leaves_during_pause_does_not_undo_it(proxy, leave):
    with proxy.wire() as busy, proxy.wire() as fresh:
        busy.query("BEGIN")
        before = proxy.descriptors()
        pausing = [Wire(proxy.ports["admin"]).login(ROLE, PASSWORD, "pgreserve") for _ in range(10)]
        for console in pausing:
            console.send(query("PAUSE"))
        fresh.send(query("SELECT 'later'"))
        proxy.wait_pool(waiting=1)
        assert proxy.descriptors() >= before + 8
        for console in pausing:
            leave(console)
        wait_until(lambda: proxy.descriptors() <= before + 2, "the consoles to be gone, though what they wait for is not")
        assert busy.query("COMMIT").tags == ["COMMIT"]
        proxy.admin("RESUME")
        assert fresh.answer().value == "later"
