"""Drivers' statement caches on a shared pool of two, beside a busy stranger, over lost backends and changed tables.

The stranger uses the drivers' own statement names and sets whatever it can.  A user would lose: "prepared statement
does not exist", "already exists", or the stranger's answer.
"""

import asyncio
import os
import struct
import subprocess
import threading

import asyncpg
import psycopg
import pytest
import sqlalchemy

from jdbc import compiled
from proxy import ROOT
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import bind, close, describe, execute, extended, message, parse, text

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ("S_1", "S_2", "_pg3_0", "_pg3_1", "__asyncpg_stmt_1__", "__asyncpg_stmt_2__", "by-id", "a1")


class Stranger:
    """A client that is never idle for long; `still` holds it between two transactions."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.still = threading.Lock()
        self.over = threading.Event()
        self.problem = None
        self.rounds = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            with self.proxy.wire(application_name="stranger", TimeZone="Asia/Tokyo") as client:
                while not self.over.is_set():
                    with self.still:
                        self._round(client)
                    self.rounds += 1
                    self.over.wait(0.002)
        except Exception as error:  # noqa: BLE001 - the test shows it
            self.problem = error

    def _round(self, client):
        name = NAMES[self.rounds % len(NAMES)]
        client.query("DEALLOCATE ALL" if self.rounds % 5 == 0 else f"SET work_mem = '{self.rounds % 7 + 1}MB'")
        client.ask(parse(name, f"SELECT 'stranger {name}'"))
        assert client.ask(bind("", name), execute()).value == f"stranger {name}"
        client.query("SET search_path = pg_catalog" if self.rounds % 2 else "RESET ALL")
        assert client.ask(extended("SHOW TimeZone")).value == "Asia/Tokyo"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


@pytest.fixture
def proxy(start_proxy):
    return start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": 15})


@pytest.fixture
def stranger(proxy):
    with Stranger(proxy) as stranger:
        wait_until(lambda: stranger.rounds > 5 or stranger.problem, "the stranger to be busy")
        yield stranger
    assert stranger.problem is None and stranger.rounds > 5


@pytest.fixture
def lose_backends(proxy, stranger, postgres):
    """Ends every backend of the pool while all are free, and waits for new ones."""
    def lose():
        with stranger.still:
            proxy.wait_pool(in_use=0)
            gone = postgres.backend_pids()
            for pid in gone:
                postgres.terminate(pid)
            wait_until(lambda: not gone & postgres.backend_pids(), "the backends to be gone")
    return lose


@pytest.fixture
def table(postgres):
    """A table with rows 1 to 100; `table()` changes what `SELECT *` gives."""
    name = "habits"
    connection = postgres.superuser_connection("app")
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {ROLE}")
        cursor.execute(f"DROP TABLE IF EXISTS {name}")
        cursor.execute(f"CREATE TABLE {name} AS SELECT n AS id, 'word ' || n AS word FROM generate_series(1, 100) n")

        def widen():
            cursor.execute(f"ALTER TABLE {name} ADD COLUMN more int DEFAULT 7")
        yield widen
        cursor.execute(f"DROP TABLE {name}")
    connection.close()


BY_ID = "SELECT word FROM habits WHERE id = "


def test_psycopg2(proxy, stranger, lose_backends, table):
    connection = proxy.connect(autocommit=False)
    with connection.cursor() as cursor:
        for turn in range(3):
            for n in range(1, 30):
                cursor.execute(BY_ID + "%s", (n,))
                assert cursor.fetchone() == (f"word {n}",)
                if n % 3 == 0:
                    connection.rollback() if n % 2 else connection.commit()
            connection.commit()
            with connection.cursor("named") as named:
                named.itersize = 10
                named.execute("SELECT id FROM habits ORDER BY id")
                assert [row[0] for row in named] == list(range(1, 101))
            connection.commit()
            connection.set_session(isolation_level="SERIALIZABLE", readonly=turn == 1)
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("serializable",)
            connection.rollback()
            if turn == 0:
                lose_backends()
            if turn == 1:
                table()
    connection.close()


def test_psycopg3(proxy, stranger, lose_backends, table):
    with psycopg.connect(**proxy.keywords(), autocommit=True, prepare_threshold=1) as connection:
        def work():
            for n in range(1, 20):
                assert connection.execute(BY_ID + "%s", (n,)).fetchone() == (f"word {n}",)
                with connection.transaction():
                    assert connection.execute("SELECT %s::int + 1", (n,)).fetchone() == (n + 1,)
            with connection.pipeline() as pipeline:
                answers = [connection.execute(BY_ID + "%s", (n,)) for n in range(1, 40)]
                pipeline.sync()
                answers += [connection.execute("SELECT %s::text", (f"word {n}",)) for n in range(40, 60)]
            assert [answer.fetchone()[0] for answer in answers] == [f"word {n}" for n in range(1, 60)]
            with pytest.raises(psycopg.errors.DivisionByZero), connection.pipeline():
                connection.execute("SELECT %s::int / 0", (1,))
                connection.execute(BY_ID + "%s", (1,))
        work()
        lose_backends()
        work()
        table()
        work()
        with connection.cursor() as cursor:  # its cache of 100 statements overflows: it says DEALLOCATE
            for n in range(150):
                cursor.execute(f"SELECT %s::int + {n}", (1,))
                cursor.execute(f"SELECT %s::int + {n}", (1,))
                assert cursor.fetchone() == (n + 1,)
        work()


def test_psycopg3_sees_a_changed_table_on_new_and_old_connections(proxy, stranger, table):
    """What PostgreSQL itself says to the old: "cached plan must not change result type"; never to the new."""
    old = psycopg.connect(**proxy.keywords(), autocommit=True, prepare_threshold=1)
    for _ in range(5):
        assert old.execute("SELECT * FROM habits WHERE id = %s", (1,)).fetchone() == (1, "word 1")
    table()
    for _ in range(5):
        with psycopg.connect(**proxy.keywords(), autocommit=True, prepare_threshold=0) as new:
            for _ in range(3):
                assert new.execute("SELECT * FROM habits WHERE id = %s", (1,)).fetchone() == (1, "word 1", 7)
    for _ in range(3):
        try:
            assert old.execute("SELECT * FROM habits WHERE id = %s", (1,)).fetchone() == (1, "word 1", 7)
        except psycopg.errors.FeatureNotSupported:
            assert old.execute("SELECT 1").fetchone() == (1,)
    old.close()


def test_asyncpg(proxy, stranger, lose_backends, table):
    async def run():
        loop = asyncio.get_running_loop()
        async with asyncpg.create_pool(proxy.url(), min_size=3, max_size=3) as pool:
            async def work(number):
                async with pool.acquire() as connection:
                    for n in range(number, number + 8):
                        assert await connection.fetchval(BY_ID + "$1", n) == f"word {n}"
                        assert await connection.fetchval("SELECT count(*) FROM habits WHERE id = ANY($1::int[])", [n]) == 1
                    statement = await connection.prepare("SELECT $1::int * 2")
                    async with connection.transaction():
                        assert await statement.fetchval(number) == number * 2
                        rows = [row["id"] async for row in connection.cursor("SELECT id FROM habits", prefetch=9)]
                        assert len(rows) == 100
                    await connection.executemany("SELECT $1::int", [(n,) for n in range(20)])
                    assert await statement.fetchval(number) == number * 2
            for between in (lambda: None, lose_backends, table, lambda: None):
                await loop.run_in_executor(None, between)
                await asyncio.gather(*(work(n) for n in range(1, 10)))
            row = await pool.fetchrow("SELECT * FROM habits WHERE id = ANY($1::int[])", [1])
            assert tuple(row) == (1, "word 1", 7)
    asyncio.run(run())


def test_sqlalchemy(proxy, stranger, lose_backends, table):
    engine = sqlalchemy.create_engine(proxy.url(), pool_size=3)
    for between in (lambda: None, lose_backends, table, lambda: None):
        between()
        for n in range(1, 15):
            with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                with connection.begin():
                    answer = connection.execute(sqlalchemy.text(BY_ID + ":id"), {"id": n})
                    assert answer.scalar() == f"word {n}"
                    assert connection.execute(sqlalchemy.text("SHOW transaction_isolation")).scalar() == "repeatable read"
            reflected = sqlalchemy.Table("habits", sqlalchemy.MetaData(), autoload_with=engine)
    assert [column.name for column in reflected.columns] == ["id", "word", "more"]
    engine.dispose()


def talk(command, lose_backends, **options):
    """Runs a client that says when its backends are to be lost."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **options) as client:
        try:
            if client.stdout.readline() == "kill\n":
                lose_backends()
            output, errors = client.communicate("go\n", timeout=60)
        finally:
            client.kill()
    assert client.returncode == 0 and output == "done\n", errors


def test_node(proxy, stranger, lose_backends, have):
    node = have("node")
    environment = {"NODE_PATH": os.path.join(ROOT, "build/node/node_modules") + ":/usr/share/nodejs", **os.environ}
    if subprocess.run([node, "-e", "require('pg')"], env=environment, capture_output=True).returncode:
        pytest.skip("node's pg is not installed")
    talk([node, os.path.join(HERE, "drivers/node_sharing.js"), proxy.url()], lose_backends, env=environment)


def test_jdbc(proxy, stranger, lose_backends, have, tmp_path):
    talk([*compiled(have, tmp_path, "JdbcSharing"), f"jdbc:postgresql://127.0.0.1:{proxy.port()}/app", ROLE, PASSWORD,
          "habits"], lose_backends)


def bind_with_formats(name, count):
    return message("B", text("") + text(name) + struct.pack("!HH", 0, 0) + struct.pack(f"!H{count}H", count, *count * [0]))


@pytest.mark.parametrize("formats", [
    2,
    pytest.param(1, marks=pytest.mark.xfail(strict=True, reason="rows of another shape than was described")),
])
def test_a_statement_whose_table_has_changed_never_gives_rows_of_another_shape(proxy, stranger, lose_backends, table, formats):
    """On one's own connection its plan is refused, and drivers prepare it anew; so too on a backend that never had it."""
    with proxy.wire() as client:
        described = client.ask(parse("all", "SELECT * FROM habits WHERE id = 1"), describe("S", "all"))
        assert described.columns == ["id", "word"]
        assert client.ask(bind_with_formats("all", formats), execute()).rows == [["1", "word 1"]]
        table()
        lose_backends()
        error = client.ask(bind_with_formats("all", formats), execute()).error
        assert error.sqlstate == "0A000" and error.fields["R"] == "RevalidateCachedQuery"
        answer = client.ask(close("S", "all"), parse("all", "SELECT * FROM habits WHERE id = 1"), bind("", "all"), execute())
        assert answer.rows == [["1", "word 1", "7"]]
