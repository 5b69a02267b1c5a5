"""The clients that people have do their ordinary work in all three modes.

A user would lose: their program, to a driver's habit that the proxy did not know.
"""

import asyncio
import os
import subprocess

import asyncpg
import psycopg
import psycopg2.extras
import pytest
import sqlalchemy

import jdbc
from proxy import ROOT
from server import PASSWORD, PASSWORD_IN_URL, ROLE

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def proxy(any_mode_proxy):
    return any_mode_proxy


@pytest.fixture(scope="module")
def pgbench_tables(shared_postgres):
    shared_postgres.ensure_running()
    environment = {**os.environ, "PGPASSWORD": PASSWORD}
    subprocess.run(["pgbench", "-q", "-i", "-s", "1", "-h", "127.0.0.1", "-p",
                    str(shared_postgres.port), "-U", ROLE, "app"],
                   check=True, capture_output=True, env=environment)
    shared_postgres.wait_for_backends(0)


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench(proxy, mode, protocol, pgbench_tables, have):
    clients = 4 if mode == "session" or protocol == "prepared" else 20
    script = ["-S"] if mode == "statement" else ["-b", "select-only@3", "-b", "tpcb-like@1"]
    done = subprocess.run(
        [have("pgbench"), "-n", "-h", "127.0.0.1", "-p", str(proxy.port()), "-U", ROLE, "-M", protocol,
         "-c", str(clients), "-t", "50", *script, "app"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PGPASSWORD": PASSWORD})
    assert done.returncode == 0, done.stderr
    assert f"number of transactions actually processed: {clients * 50}/{clients * 50}" in done.stdout
    assert "failed transactions: 0" in done.stdout


def test_psql(proxy, mode):
    script = """
\\set ON_ERROR_STOP on
\\d things
SELECT name FROM things WHERE id = :n;
SELECT 1 AS a \\gdesc
SELECT $$two\nlines$$;
\\copy (SELECT 'copied') TO STDOUT
VALUES (1), (2) \\g
\\echo :ROW_COUNT
"""
    if mode != "statement":
        script += "BEGIN; SAVEPOINT s; SELECT 1; ROLLBACK TO s; COMMIT;\n"
    done = proxy.psql("-v", "n=5", "-f", "-", input=script)
    assert done.returncode == 0, done.stderr
    for word in ("thing 5", "Column", "copied"):
        assert word in done.stdout


def test_psql_goes_on_after_an_error(proxy):
    done = proxy.psql("-At", input="SELECT 1/0;\nSELECT 'still';\n")
    assert "division by zero" in done.stderr and "still" in done.stdout


def test_psycopg2(proxy, mode):
    connection = proxy.connect(autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE p2 (id serial PRIMARY KEY, word text)")
        try:
            psycopg2.extras.execute_values(cursor, "INSERT INTO p2 (word) VALUES %s",
                                           [(f"w{n}",) for n in range(500)])
            cursor.execute("SELECT count(*) FROM p2 WHERE word = ANY(%s)", (["w1", "w2"],))
            assert cursor.fetchone() == (2,)
            with pytest.raises(psycopg2.errors.DivisionByZero):
                cursor.execute("SELECT 1/0")
            if mode != "statement":
                connection.autocommit = False
                cursor.execute("DELETE FROM p2")
                connection.rollback()
                with connection.cursor("named", withhold=False) as named:
                    named.itersize = 100
                    named.execute("SELECT id FROM p2")
                    assert len(list(named)) == 500
                connection.commit()
                connection.autocommit = True
        finally:
            connection.rollback()
            cursor.execute("DROP TABLE p2")
    connection.close()


def test_psycopg3(proxy, mode):
    with psycopg.connect(**proxy.keywords(), autocommit=True, prepare_threshold=2) as connection:
        connection.execute("CREATE TABLE p3 (id int, word text)")
        try:
            with connection.cursor() as cursor:
                if mode == "statement":  # executemany is one transaction
                    for n in range(20):
                        cursor.execute("INSERT INTO p3 VALUES (%s, %s)", (n, "x"))
                else:
                    cursor.executemany("INSERT INTO p3 VALUES (%s, %s)",
                                       [(n, "x") for n in range(20)])
                with cursor.copy("COPY p3 FROM STDIN") as copy:
                    for n in range(20, 100):
                        copy.write_row((n, "copied"))
            for n in range(20):  # beyond the threshold it uses named statements
                assert connection.execute("SELECT word FROM p3 WHERE id = %s", (n,)).fetchone() == ("x",)
            assert connection.execute("SELECT count(*) FROM p3").fetchone() == (100,)
            assert connection.execute("SELECT %b::bytea", (bytes(range(256)),)).fetchone()[0] == bytes(
                range(256))
            if mode != "statement":
                with pytest.raises(psycopg.errors.DivisionByZero):
                    with connection.transaction():
                        connection.execute("DELETE FROM p3")
                        connection.execute("SELECT 1/0")
                with connection.transaction(), connection.transaction():
                    assert connection.execute("SELECT count(*) FROM p3").fetchone() == (100,)
                with connection.pipeline():
                    answers = [connection.execute("SELECT %s::int", (n,)) for n in range(30)]
                    assert [answer.fetchone()[0] for answer in answers] == list(range(30))
        finally:
            connection.execute("DROP TABLE p3")


def test_psycopg3_async(proxy):
    async def run():
        async def one(number):
            async with await psycopg.AsyncConnection.connect(**proxy.keywords(),
                                                             autocommit=True) as connection:
                answer = await connection.execute("SELECT %s::int", (number,))
                return (await answer.fetchone())[0]
        return await asyncio.gather(*(one(n) for n in range(4)))
    assert asyncio.run(run()) == list(range(4))


def test_asyncpg(proxy, mode):
    async def run():
        connection = await asyncpg.connect(proxy.url())
        await connection.execute("CREATE TABLE ap (id int, tags text[], doc jsonb)")
        try:
            for n in range(10):
                await connection.execute("INSERT INTO ap VALUES ($1, $2, $3)", n, ["a", str(n)], "{}")
            await connection.copy_records_to_table("ap", records=[(n, ["c"], "{}") for n in range(90)])
            assert await connection.fetchval("SELECT count(*) FROM ap") == 100
            row = await connection.fetchrow("SELECT * FROM ap WHERE id = $1 AND tags[1] = 'a'", 3)
            assert row["tags"] == ["a", "3"]
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.execute("SELECT 1/0")
            await connection.executemany("UPDATE ap SET tags = $2 WHERE id = $1",
                                         [(n, ["u"]) for n in range(5)])
            if mode != "statement":
                with pytest.raises(RuntimeError):
                    async with connection.transaction():
                        await connection.execute("DELETE FROM ap")
                        raise RuntimeError
                async with connection.transaction():
                    seen = [r["id"] async for r in connection.cursor("SELECT id FROM ap", prefetch=7)]
                assert len(seen) == 100
        finally:
            await connection.execute("DROP TABLE ap")
        await connection.close()

    async def pooled():
        async with asyncpg.create_pool(proxy.url(), min_size=1, max_size=3) as pool:
            return await asyncio.gather(*(pool.fetchval("SELECT $1::int * 2", n) for n in range(40)))
    asyncio.run(run())
    assert asyncio.run(pooled()) == [n * 2 for n in range(40)]


def sqlalchemy_work(engine, mode):
    metadata = sqlalchemy.MetaData()
    table = sqlalchemy.Table("sa_things", metadata, sqlalchemy.Column("id", sqlalchemy.Integer,
                                                                     primary_key=True),
                             sqlalchemy.Column("word", sqlalchemy.String))
    metadata.create_all(engine)
    try:
        with engine.begin() as connection:
            connection.execute(table.insert(), [{"word": f"w{n}"} for n in range(50)])
        if mode != "statement":
            with pytest.raises(ZeroDivisionError), engine.begin() as connection:
                connection.execute(table.delete())
                raise ZeroDivisionError
        with engine.connect() as connection:
            count = connection.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(table))
            assert count.scalar() == 50
        assert sqlalchemy.inspect(engine).has_table("sa_things")
    finally:
        metadata.drop_all(engine)
        engine.dispose()


@pytest.mark.parametrize("pre_ping", [False, True])
def test_sqlalchemy(proxy, mode, pre_ping):
    options = {"isolation_level": "AUTOCOMMIT"} if mode == "statement" else {}
    sqlalchemy_work(sqlalchemy.create_engine(proxy.url(), pool_size=2, pool_pre_ping=pre_ping,
                                             **options), mode)


def test_node(proxy, mode, have):
    node = have("node")
    environment = {"NODE_PATH": os.path.join(ROOT, "build/node/node_modules") + ":/usr/share/nodejs",
                   **os.environ}
    if subprocess.run([node, "-e", "require('pg')"], env=environment, capture_output=True).returncode:
        pytest.skip("node's pg is not installed")
    done = subprocess.run([node, os.path.join(HERE, "drivers/node_pg.js"), proxy.url(), mode],
                          capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


@pytest.fixture(scope="module")
def jdbc_work(have, tmp_path_factory):
    return jdbc.compiled(have, tmp_path_factory.mktemp("classes"), "JdbcWork")


def test_jdbc(proxy, mode, jdbc_work):
    done = subprocess.run(
        [*jdbc_work, f"jdbc:postgresql://127.0.0.1:{proxy.port()}/app", ROLE, PASSWORD, mode],
        capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


def test_sqlalchemy_with_asyncpg(proxy, mode):
    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine
    options = {"isolation_level": "AUTOCOMMIT"} if mode == "statement" else {}
    url = f"postgresql+asyncpg://{ROLE}:{PASSWORD_IN_URL}@127.0.0.1:{proxy.port()}/app"

    async def run():
        engine = create_async_engine(url, pool_size=2, **options)
        async with engine.connect() as connection:
            for n in range(10):
                answer = await connection.execute(sqlalchemy.text("SELECT :n + 1"), {"n": n})
                assert answer.scalar() == n + 1
        await engine.dispose()
    asyncio.run(run())
