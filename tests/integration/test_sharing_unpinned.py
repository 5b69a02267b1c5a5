"""Ordinary work ties nobody to a backend: 200 clients of every usual kind on five of them.

The pool's `pinned` is sampled all the while and stays 0, every answer is right, nobody times out.  A user would lose:
the pool, to drivers that each keep a connection for what they say at start-up.
"""

import asyncio
import os
import selectors
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.orm import Session, declarative_base

from jdbc import compiled
from proxy import Proxy
from server import PASSWORD, ROLE
from wire import bind, close, describe, execute, parse, query, sync

CLIENTS = 200
SIZE = 5


class Watch:
    """Samples the pool's figures until the block ends."""

    def __init__(self, proxy: Proxy):
        self.proxy = proxy
        self.pinned = self.most_clients = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.over.wait(0.02):
            now = self.proxy.pool()
            self.pinned = max(self.pinned, now["pinned"])
            self.most_clients = max(self.most_clients, now["clients"])

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, failure, *_):
        self.over.set()
        self.thread.join()
        if failure is None:
            assert self.pinned == 0, f"{self.pinned} were tied to their backends"


@pytest.fixture
def proxy(start_proxy):
    return start_proxy(pgreserve={"total_connections": SIZE + 2},
                       automation={"size": SIZE, "max_overflow": 0, "timeout": 15})


@pytest.fixture
def watched(proxy):
    with Watch(proxy) as watch:
        yield watch
        proxy.wait_pool(in_use=0, pinned=0, waiting=0)
    assert watch.most_clients >= CLIENTS * 9 // 10, "not everybody was there at once"


@pytest.fixture(scope="module", autouse=True)
def tables(shared_postgres):
    shared_postgres.ensure_running()
    subprocess.run(["pgbench", "-q", "-i", "-s", "1", "-h", "127.0.0.1", "-p", str(shared_postgres.port), "-U", ROLE,
                    "app"], check=True, capture_output=True, env={**os.environ, "PGPASSWORD": PASSWORD})
    with shared_postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {ROLE}")
        cursor.execute("CREATE TABLE people (id serial PRIMARY KEY, name text, born timestamptz DEFAULT now())")
    connection.close()
    shared_postgres.wait_for_backends(0)


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench(proxy, watched, protocol, have):
    # prepared: it waits for each Parse with all its other clients, those in transactions too
    scripts = ["-S"] if protocol == "prepared" else ["-b", "select-only@4", "-b", "tpcb-like@1"]
    done = subprocess.run(
        [have("pgbench"), "-n", "-h", "127.0.0.1", "-p", str(proxy.port()), "-U", ROLE, "-M", protocol,
         "-c", str(CLIENTS), "-t", "20", *scripts, "app"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PGPASSWORD": PASSWORD})
    assert done.returncode == 0, done.stderr
    assert f"actually processed: {CLIENTS * 20}/{CLIENTS * 20}" in done.stdout
    assert "failed transactions: 0" in done.stdout


# What adapters say when they connect, and then with each query: name -> (first, usual).  Usual ones are asked in
# rounds; a pair of query and answer is checked.
ADAPTERS = {
    "Django": (["SET client_encoding TO 'UTF8'", "SELECT set_config('TimeZone', 'UTC', false)", "SET TIME ZONE 'UTC'",
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED", "SELECT 1"],
               [("BEGIN", None), ("SAVEPOINT \"s1_x1\"", None),
                ("INSERT INTO \"people\" (\"name\") VALUES ('django') RETURNING \"people\".\"name\"", "django"),
                ("RELEASE SAVEPOINT \"s1_x1\"", None), ("COMMIT", None),
                ("SELECT \"things\".\"name\" FROM \"things\" WHERE \"things\".\"id\" = 5 LIMIT 21", "thing 5"),
                ("SHOW TimeZone", "UTC")]),
    "Rails": (["SET client_min_messages TO 'warning'", "SET standard_conforming_strings = on",
               "SET SESSION timezone TO 'UTC'", "SET intervalstyle = iso_8601", "SET SESSION statement_timeout TO 59000",
               "SET SESSION \"lock_timeout\" TO DEFAULT", "SHOW max_identifier_length", "SHOW search_path",
               "SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM"
               " pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4')",
               "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull,"
               " a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment FROM pg_attribute"
               " a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON"
               " a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid WHERE a.attrelid ="
               " '\"people\"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"],
              [("", None), ("BEGIN", None), ("INSERT INTO \"people\" (\"name\") VALUES ('rails') RETURNING \"name\"",
                                             "rails"), ("COMMIT", None),
               ("SELECT current_setting('statement_timeout') || current_setting('intervalstyle')", "59siso_8601")]),
    "SQLAlchemy": (["BEGIN", "select pg_catalog.version()", "select current_schema()", "show transaction isolation level",
                    "show standard_conforming_strings", "ROLLBACK"],
                   [("BEGIN", None), ("SELECT things.name FROM things WHERE things.id = 9", "thing 9"),
                    ("ROLLBACK", None)]),
    "PHP's PDO, Laravel": (["set names 'utf8'", "set search_path to \"public\"", "set time zone 'UTC'",
                            "set application_name to 'Laravel'"],
                           [("select \"name\" from \"things\" where \"id\" = 3 limit 1", "thing 3"),
                            ("show application_name", "Laravel")]),
    "row level security": (["SET search_path = public"],
                           [("BEGIN", None), ("SELECT set_config('app.tenant', '42', true)", "42"),
                            ("SELECT current_setting('app.tenant')", "42"), ("COMMIT", None),
                            ("BEGIN; SET LOCAL ROLE proxy; SET LOCAL statement_timeout = 0; SELECT 1; COMMIT", None),
                            ("SELECT pg_advisory_xact_lock(7)", ""),
                            ("WITH t AS (SELECT id FROM things ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)"
                             " SELECT count(*) >= 0 FROM t", "t")]),
}


def converse(clients, script):
    """Each client says its way through `script`, (messages, expected value or None), as fast as it is answered."""
    with selectors.DefaultSelector() as waiting:
        for client in clients:
            waiting.register(client.socket, selectors.EVENT_READ, (client, iter(script[1:]), [script[0]]))
            client.send(script[0][0])
        while waiting.get_map():
            ready = waiting.select(20)
            assert ready, f"{len(waiting.get_map())} clients wait in vain"
            for key, _ in ready:
                client, rest, said = key.data
                answer = client.answer()
                messages, expected = said.pop()
                assert not answer.errors, (messages, answer.errors)
                assert expected is None or answer.value == expected, messages
                following = next(rest, None)
                if following:
                    said.append(following)
                    client.send(following[0])
                else:
                    waiting.unregister(client.socket)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_what_adapters_say(proxy, watched, adapter):
    first, usual = ADAPTERS[adapter]
    clients = [proxy.wire(application_name=f"{adapter} {n % 3}") for n in range(CLIENTS)]
    script = [(query(sql), None) for sql in first] + 2 * [(query(sql), expected) for sql, expected in usual]
    for name, sql, expected in (("a1", "SELECT name FROM things WHERE id = $1", "thing 8"), ("a2", "SELECT $1::text", "8")):
        script += [(parse(name, sql) + describe("S", name) + sync(), None),
                   (bind("", name, ("8",)) + execute() + sync(), expected)]
    converse(clients, script + [(query("DEALLOCATE a1"), None), (close("S", "a2") + sync(), None)])
    proxy.wait_pool(in_use=0)
    for client in clients:
        client.close()


def test_sqlalchemy_orm(proxy, watched):
    class Person(declarative_base()):
        __tablename__ = "people"
        id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
        name = sqlalchemy.Column(sqlalchemy.String)

    engine = sqlalchemy.create_engine(proxy.url(), pool_size=CLIENTS, max_overflow=0, pool_pre_ping=True)
    with ThreadPoolExecutor(20) as threads:
        connections = list(threads.map(lambda _: engine.connect(), range(CLIENTS)))

        def work(number):
            with Session(bind=connections[number]) as session:
                person = Person(name=f"person {number}")
                session.add(person)
                session.commit()
                with session.begin_nested():
                    person.name += "!"
                session.commit()
                found = session.query(Person).filter(Person.id == person.id).one()
                assert found.name == f"person {number}!"
                session.delete(found)
                session.commit()
        list(threads.map(work, range(CLIENTS)))
    for connection in connections:
        connection.close()
    engine.dispose()


def test_psycopg3_with_its_prepare_threshold(proxy, watched):
    async def run():
        async def connect():
            return await psycopg.AsyncConnection.connect(**proxy.keywords(), autocommit=True, prepare_threshold=2)

        async def work(connection, number):
            for n in range(5):
                answer = await connection.execute("SELECT name FROM things WHERE id = %s", (number + n + 1,))
                assert await answer.fetchone() == (f"thing {number + n + 1}",)
            async with connection.transaction():
                answer = await connection.execute("SELECT %s::int", (number,))
                assert await answer.fetchone() == (number,)
        connections = []
        for _ in range(CLIENTS // 20):
            connections += await asyncio.gather(*(connect() for _ in range(20)))
        await asyncio.gather(*(work(connection, n) for n, connection in enumerate(connections)))
        for connection in connections:
            await connection.close()
    asyncio.run(run())


def test_asyncpg_with_its_cache_and_its_pool(proxy, watched):
    async def run():
        async with asyncpg.create_pool(proxy.url(), min_size=CLIENTS, max_size=CLIENTS) as pool:
            async def work(number):
                async with pool.acquire() as connection:  # its end says UNLISTEN *, RESET ALL and more
                    for n in range(3):
                        assert await connection.fetchval("SELECT name FROM things WHERE id = $1",
                                                         number + n + 1) == f"thing {number + n + 1}"
                    async with connection.transaction():
                        assert await connection.fetchval("SELECT $1::text[]", ["a"]) == ["a"]
            for _ in range(2):
                await asyncio.gather(*(work(n) for n in range(CLIENTS)))
    asyncio.run(run())


def test_jdbc_defaults(proxy, watched, have, tmp_path):
    done = subprocess.run([*compiled(have, tmp_path, "JdbcSharing"), f"jdbc:postgresql://127.0.0.1:{proxy.port()}/app",
                           ROLE, PASSWORD, "many", str(CLIENTS)], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


def test_sequences_of_200_clients_on_five_backends_keep_nobody_waiting(proxy):
    """Hibernate's and SQLAlchemy's way to keys: a draw ties nobody for long while others wait."""
    with proxy.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SEQUENCE IF NOT EXISTS hibernate_sequence")
    connection.close()
    clients = [proxy.wire() for _ in range(CLIENTS)]
    converse(clients, 2 * [(query("select nextval ('hibernate_sequence')"), None)])
    assert clients[0].query("select nextval ('hibernate_sequence')").value == str(2 * CLIENTS + 1)
    for client in clients:
        client.close()
    proxy.wait_pool(in_use=0, pinned=0)
