"""PostgreSQL's own tools through transaction mode, many at once, beside an application that is not disturbed.

A user would lose: their backups; or their application, to pg_dump's empty search_path on a shared backend (the classic
accident), or to a DROP DATABASE that free connections of a pool block.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from server import PASSWORD, ROLE
from waiting import wait_until
from wire import extended

HERE = os.path.dirname(os.path.abspath(__file__))
TABLES = """
CREATE TABLE items (id serial PRIMARY KEY, name text NOT NULL, price numeric(8,2));
CREATE INDEX items_by_name ON items (lower(name));
INSERT INTO items (name, price) SELECT 'item ' || n, n / 7.0 FROM generate_series(1, 500) n;
CREATE VIEW dear AS SELECT * FROM items WHERE price > 50;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
"""


@pytest.fixture(scope="module", autouse=True)
def may_create_databases(shared_postgres):
    shared_postgres.ensure_running()
    shared_postgres.sql(f"ALTER ROLE {ROLE} CREATEDB")
    yield
    for (name,) in shared_postgres.sql("SELECT datname FROM pg_database WHERE datname LIKE 'tools%'"):
        shared_postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")
    shared_postgres.sql(f"ALTER ROLE {ROLE} NOCREATEDB")


@pytest.fixture
def proxy(start_proxy):
    return start_proxy(pgreserve={"total_connections": 8}, automation={"size": 6, "max_overflow": 0, "timeout": 60})


@pytest.fixture
def application(proxy, postgres):
    """A running scraper; every transaction of it must go well."""
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {ROLE}")
        cursor.execute("CREATE TABLE IF NOT EXISTS counts AS SELECT n AS id, 0 AS n FROM generate_series(1, 1000) n")
    connection.close()
    scrapers = [subprocess.Popen([sys.executable, os.path.join(HERE, "drivers/scraper.py"), proxy.url()],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    yield
    for scraper in scrapers:
        counts = json.loads(scraper.communicate(timeout=60)[0])
        assert counts["errors"] == {} and counts["lost"] == 0 and counts["transactions"] > 0, counts


def tool(proxy, program, *arguments, **options):
    done = subprocess.run([program, "-h", "127.0.0.1", "-p", str(proxy.port()), "-U", ROLE, *arguments],
                          capture_output=True, timeout=90,
                          env={**os.environ, "PGPASSWORD": PASSWORD, "PGCONNECT_TIMEOUT": "60"}, **options)
    assert done.returncode == 0, (program, arguments, done.stderr.decode())
    return done.stdout


def dump_of(proxy, *arguments):
    """Without the lines that are random."""
    dump = tool(proxy, "pg_dump", *arguments).decode()
    return [line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def life_of_a_database(proxy, name):
    tool(proxy, "createdb", name)
    tool(proxy, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", name, input=TABLES.encode())
    dump = tool(proxy, "pg_dump", "-Fc", name)
    plain = dump_of(proxy, name)
    tool(proxy, "createdb", f"{name}_copy")
    tool(proxy, "pg_restore", "-d", f"{name}_copy", input=dump)
    tool(proxy, "vacuumdb", "--analyze", f"{name}_copy")
    tool(proxy, "reindexdb", f"{name}_copy")
    tool(proxy, "clusterdb", f"{name}_copy")
    look = ("-X", "-At", "-c", "SELECT count(*), sum(price), twice(4) FROM items", "-d")
    assert tool(proxy, "psql", *look, f"{name}_copy") == tool(proxy, "psql", *look, name) != b""
    assert dump_of(proxy, f"{name}_copy") == plain
    tool(proxy, "dropdb", f"{name}_copy")
    tool(proxy, "dropdb", name)


def test_the_life_of_databases_beside_an_application(proxy, application):
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda n: life_of_a_database(proxy, f"tools_{n}"), range(3)))


def test_dumps_beside_the_application_on_its_own_database(proxy, application):
    """search_path is '' in pg_dump's sessions, row_security off, extra_float_digits 3: in nobody else's."""
    with ThreadPoolExecutor(20) as threads:
        dumps = list(threads.map(lambda _: dump_of(proxy, "-t", "things", "app"), range(20)))
    assert all(dump == dumps[0] and sum("thing " in line for line in dump) == 1000 for dump in dumps)
    with proxy.wire() as client:
        for _ in range(6):
            assert client.query("SHOW search_path").value == '"$user", public'
            assert client.query("SELECT name FROM things WHERE id = 5").value == "thing 5"


@pytest.mark.parametrize("command", ["DROP DATABASE tools_x", "ALTER DATABASE tools_x RENAME TO tools_y",
                                     "CREATE DATABASE tools_y TEMPLATE tools_x", "drop database if exists \"tools_x\""])
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_free_connections_block_no_command_on_their_database(proxy, postgres, command, protocol):
    postgres.sql("DROP DATABASE IF EXISTS tools_y")
    postgres.sql("DROP DATABASE IF EXISTS tools_x")
    postgres.sql(f"CREATE DATABASE tools_x OWNER {ROLE}")
    clients = [proxy.wire(database="tools_x") for _ in range(3)]
    for client in clients:
        client.query("BEGIN")
    for client in clients:
        client.query("COMMIT")
    assert len(postgres.backends("datname = 'tools_x'")) == 3
    with proxy.wire() as other:
        answer = other.query(command) if protocol == "simple" else other.ask(extended(command))
        assert not answer.errors
    if "TEMPLATE" in command:
        for client in clients:
            assert client.query("SELECT current_database()").value == "tools_x", "its clients go on"
    else:
        assert clients[0].query("SELECT 1").error.sqlstate == "3D000"
    for client in clients:
        client.close()


def test_free_connections_do_not_keep_a_database_in_its_tablespace(proxy, postgres):
    """A SET that changes no default."""
    with closing(postgres.superuser_connection()) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SET allow_in_place_tablespaces = on")
        cursor.execute("CREATE TABLESPACE tools_space LOCATION ''")
        cursor.execute(f"GRANT CREATE ON TABLESPACE tools_space TO {ROLE}")
        cursor.execute(f"CREATE DATABASE tools_z OWNER {ROLE}")
        try:
            with proxy.wire(database="tools_z") as client, proxy.wire() as other:
                client.query("SELECT 1")
                assert not other.query("ALTER DATABASE tools_z SET TABLESPACE tools_space").errors
        finally:
            cursor.execute("DROP DATABASE tools_z WITH (FORCE)")
            cursor.execute("DROP TABLESPACE tools_space")


def test_a_database_in_use_is_not_dropped(proxy, postgres):
    """A client in a transaction is another user, as it is without a proxy."""
    for name in ("tools_x", "tools_y"):
        postgres.sql(f"DROP DATABASE IF EXISTS {name}")
    postgres.sql(f"CREATE DATABASE tools_x OWNER {ROLE}")
    with proxy.wire(database="tools_x") as client, proxy.wire() as other:
        client.query("BEGIN")
        assert other.query("ALTER DATABASE tools_x RENAME TO tools_y").error.sqlstate == "55006"
        assert client.query("SELECT 1").value == "1"


PSQL = r"""
\set ON_ERROR_STOP on
SET search_path = pg_catalog, public;
\d things
\d+ things
\dt
\df twice
\dn
\l
\conninfo
SELECT name AS first_name FROM things WHERE id = 1 \gset
\echo gset :first_name
CREATE TEMP TABLE mine (id int, name text);
\copy mine FROM pstdin
1	one
2	two
\.
\copy (SELECT * FROM mine ORDER BY id) TO STDOUT
SELECT 'SELECT ' || n || ' AS executed' FROM generate_series(1, 3) n \gexec
\set FETCH_COUNT 10
SELECT 'row ' || n FROM generate_series(1, 95) n;
\unset FETCH_COUNT
BEGIN;
SAVEPOINT s;
\set ON_ERROR_STOP off
SELECT 1/0;
\set ON_ERROR_STOP on
ROLLBACK TO s;
COMMIT;
SHOW search_path;
\c dev
SELECT 'now in ' || current_database();
SHOW search_path;
\c app
SELECT 'back in ' || current_database();
SELECT to_regclass('pg_temp.mine') IS NULL AS gone;
\encoding LATIN1
SHOW client_encoding;
CREATE TEMP SEQUENCE turns;
\set ON_ERROR_STOP off
SELECT 'watched', 100 / (4 - nextval('turns')) \watch 0.02
\errverbose
SELECT 'the end';
"""


def own_words(output, port):
    return [line for line in output.splitlines() if str(port) not in line and " (every 0.02s)" not in line]


def test_psql_says_what_it_says_without_a_proxy(proxy, postgres, application):
    def run(port):
        return subprocess.run(["psql", "-X", "-At", "-h", "127.0.0.1", "-p", str(port), "-U", ROLE, "app"], text=True,
                              capture_output=True, input=PSQL, timeout=60,
                              env={**os.environ, "PGPASSWORD": PASSWORD, "PGSSLMODE": "disable"})
    own = run(postgres.port)
    assert "the end" in own.stdout and own.stdout.count("watched") == 3, own
    with ThreadPoolExecutor(4) as threads:
        for done in threads.map(run, 4 * [proxy.port()]):
            assert own_words(done.stdout, proxy.port()) == own_words(own.stdout, postgres.port)
            assert own_words(done.stderr, proxy.port()) == own_words(own.stderr, postgres.port)
    wait_until(lambda: proxy.pool()["pinned"] == 0, "nobody to be tied")
