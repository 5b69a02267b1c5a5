"""Drivers talk to the console as they do to any server: prepared, in binary, with a SET before and a COMMIT behind.

A user would lose: the console, in every program that is not psql.
"""

import asyncio
import subprocess

import asyncpg
import psycopg
import psycopg2
import pytest

import jdbc
import wire
from server import PASSWORD, ROLE
from wire import Wire


@pytest.fixture
def console(proxy):
    with Wire(proxy.ports["admin"]).login(ROLE, PASSWORD, "pgreserve") as client:
        yield client


def url(proxy, scheme="postgresql"):
    return proxy.url("admin", scheme, "pgreserve")


# -- programs ---------------------------------------------------------------------------------------------


def test_psql(proxy):
    script = "SHOW HELP;\nSHOW POOLS \\gx\nSHOW STATUS \\gdesc\nSHOW CONFIG;\nSET log_level = info;\n"
    done = proxy.psql("-v", "ON_ERROR_STOP=1", "-f", "-", pool="admin", database="pgreserve", input=script)
    assert done.returncode in (0, 3), done.stderr  # \gdesc asks the server with a query of its own
    assert "Console usage" in done.stderr and "cl_active" in done.stdout
    done = proxy.psql("-Atc", "SHOW VERSION", pool="admin", database="pgbouncer")
    assert done.stdout.startswith("PgBouncer 1.25.2") and not done.stderr


@pytest.mark.parametrize("autocommit", [True, False])
def test_psycopg2(proxy, autocommit):
    connection = psycopg2.connect(**proxy.keywords("admin", dbname="pgbouncer"))
    connection.autocommit = autocommit
    with connection.cursor() as cursor:
        cursor.execute("SHOW STATS")
        assert cursor.fetchone()[1] >= 0
        cursor.execute("SHOW %s;" % "LISTS")
        assert dict(cursor.fetchall())["peers"] == 0
    connection.commit()
    connection.close()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("autocommit", [False, True])
def test_psycopg3(proxy, binary, autocommit):
    with psycopg.connect(**proxy.keywords("admin", dbname="pgreserve"), autocommit=autocommit) as connection:
        for _ in range(7):  # from the sixth on it prepares
            with connection.cursor(binary=binary, row_factory=psycopg.rows.dict_row) as cursor:
                rows = cursor.execute("SHOW POOLS", prepare=None).fetchall()
                assert {row["database"] for row in rows} >= {"app@automation", "pgbouncer"}
                assert all(isinstance(row["cl_active"], int) for row in rows)
        rows = connection.execute("SHOW STATS", binary=binary).fetchall()
        assert all(int(cell) >= 0 for row in rows for cell in row[1:])
        status = connection.execute("SHOW STATUS", binary=binary).fetchall()
        assert status[0][6] is True and isinstance(status[0][8], float)
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.commit()


def test_asyncpg(proxy):
    async def run():
        connection = await asyncpg.connect(url(proxy), timeout=20)
        try:
            for _ in range(3):
                pools = await connection.fetch("SHOW POOLS")
                assert any(row["database"] == "app@adhoc" and row["sv_idle"] >= 0 for row in pools)
            assert (await connection.fetchval("SELECT 1")) == 1
            assert "pgreserve" in await connection.fetchval("SHOW VERSION")
            stats = await connection.fetch("SHOW STATS")
            assert all(row["total_query_count"] >= 0 for row in stats)
            with pytest.raises(asyncpg.PostgresSyntaxError):
                await connection.fetch("SHOW NONSENSE")
            assert len(await connection.fetch("SHOW STATE")) == 3
            await connection.execute("PAUSE adhoc")
            await connection.execute("RESUME adhoc")
        finally:
            await connection.close()
    asyncio.run(run())


def test_asyncpg_pool_resets_its_connections(proxy):
    async def run():
        async with asyncpg.create_pool(url(proxy), min_size=1, max_size=2, timeout=20) as pool:
            for _ in range(5):
                async with pool.acquire() as connection:
                    assert await connection.fetchval("SELECT 7") == 7
    asyncio.run(run())


def test_jdbc(proxy, have, tmp_path):
    done = subprocess.run(
        [*jdbc.compiled(have, tmp_path, "JdbcConsole"), f"jdbc:postgresql://127.0.0.1:{proxy.ports['admin']}/pgbouncer",
         ROLE, PASSWORD], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


# -- what drivers say on their own ------------------------------------------------------------------------


@pytest.mark.parametrize("name,value", [
    ("client_encoding", "UTF8"), ("standard_conforming_strings", "on"), ("DateStyle", "ISO, MDY"),
    ("TimeZone", "UTC"), ("default_transaction_isolation", "read committed"),
    ("transaction_isolation", "read committed"), ("server_version", "15.0"), ("server_version_num", "150000"),
    ("session_authorization", ROLE), ("application_name", "asker")])
def test_parameters_that_drivers_ask_for(proxy, name, value):
    with Wire(proxy.ports["admin"]).login(ROLE, PASSWORD, "pgreserve", application_name="asker") as client:
        for verb in ("SHOW", "SELECT"):
            answer = client.query(f"{verb} {name}")
            assert answer.value == value and answer.columns == [name.lower()]
        assert client.query(f"SET {name} = '{value}'").tags == ["SET"]
        if name in client.parameters:
            assert client.parameters[name] == value, "as at the log-in"


@pytest.mark.parametrize("text,tag", [
    ("SET extra_float_digits = 3", "SET"), ("SET client_encoding TO 'UTF8'", "SET"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET"), ("set TIME ZONE 'UTC'", "SET"),
    ("SET DateStyle TO 'ISO', 'MDY'", "SET"), ("BEGIN", "BEGIN"), ("BEGIN TRANSACTION READ ONLY", "BEGIN"),
    ("START TRANSACTION", "START TRANSACTION"), ("COMMIT", "COMMIT"), ("ROLLBACK", "ROLLBACK"),
    ("RESET ALL", "RESET"), ("DISCARD ALL", "DISCARD ALL"), ("UNLISTEN *", "UNLISTEN"),
    ("SELECT 1", "SELECT 1"), ("SELECT version()", "SELECT 1"), ("SELECT pg_catalog.version();", "SELECT 1"),
    ("SHOW TRANSACTION ISOLATION LEVEL", "SHOW"), ("SHOW TIME ZONE", "SHOW")])
def test_what_they_say_unasked_is_understood(console, text, tag):
    answer = console.query(text)
    assert answer.tags == [tag] and answer.state == "I"
    assert console.ask(wire.extended(text)).tags == [tag]


def test_a_set_application_name_is_shown(proxy, console):
    console.query("SET application_name = 'my console'")
    assert any(row["application_name"] == "my console" for row in proxy.show("CLIENTS"))


# -- the extended protocol, byte by byte ------------------------------------------------------------------


def test_named_statements_and_portals(console):
    answer = console.ask(wire.parse("a", "SHOW VERSION"), wire.parse("b", "SHOW STATE"),
                         wire.bind("p", "b"), wire.bind("q", "a"),
                         wire.execute("p"), wire.execute("q"), wire.describe("P", "q"), wire.describe("S", "b"))
    assert answer.kinds == "1122DDDCDCTtTZ"
    assert console.ask(wire.bind("", "a"), wire.execute()).kinds == "2DCZ", "statements outlive the Sync"
    assert console.ask(wire.execute("p")).error.sqlstate == "34000", "portals do not"
    assert console.ask(wire.parse("a", "SHOW STATE")).error.sqlstate == "42P05"
    assert console.ask(wire.close("S", "a"), wire.parse("a", "SHOW STATE")).kinds == "31Z"
    assert console.ask(wire.bind("", "gone")).error.sqlstate == "26000"
    assert console.ask(wire.describe("S", "gone")).error.sqlstate == "26000"


def test_rows_a_few_at_a_time(console):
    whole = console.query("SHOW LISTS").rows
    answer = console.ask(wire.parse("", "SHOW LISTS"), wire.bind(), wire.execute("", 5), wire.execute("", 5),
                         wire.execute("", 5))
    assert answer.rows == whole and len(whole) == 14
    assert answer.kinds == "12" + "DDDDDs" * 2 + "DDDDC" + "Z"


def test_an_error_skips_to_the_sync(console):
    answer = console.ask(wire.extended("SHOW NONSENSE"), wire.extended("SHOW VERSION"))
    assert answer.kinds == "12nEZ"
    assert console.ask(wire.extended("SHOW VERSION")).kinds == "12TDCZ"


def test_an_empty_statement(console):
    assert console.ask(wire.extended("")).kinds == "12nIZ"
    assert console.ask(wire.extended(" ; ")).kinds == "12nIZ"


def test_commands_take_no_parameters(console):
    assert console.ask(wire.parse("", "SHOW POOLS"), wire.bind("", "", ["x"])).error.sqlstate == "08P01"


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0", b"\0\0\0\x01", b"\0\0\xff\xff", b"\0\0\0\0\0\0\0\x7f",
                                  b"no end", b"\0\0\0\0\xff\xff"])
def test_malformed_messages_are_errors_and_the_console_stays(console, body):
    for kind in "PBDEC":
        answer = console.ask(wire.message(kind, body))
        assert answer.errors or kind in "PC" and answer.kinds in ("1Z", "3Z"), f"{kind} {body}"
        assert console.query("SHOW VERSION").value


def test_names_without_end_do_not_fill_the_memory(console):
    failed = 0
    for n in range(400):
        failed += bool(console.ask(wire.parse(f"statement {n}", "SHOW VERSION")).errors)
    assert failed == 400 - 256
    assert console.ask(wire.extended("SHOW VERSION", statement="statement 1x")).errors
    assert console.query("SHOW VERSION").value
