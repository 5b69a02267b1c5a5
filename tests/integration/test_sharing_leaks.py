"""A client that looks at its session finds what a connection of its own would show, whatever others did before.

One client after the other leaves something behind in every way there is; then somebody looks: at every setting, the
prepared statements, cursors, channels, locks, temporary objects, sequences, roles, and at what the server told it at
login.  A user would lose: a wrong answer under a stranger's search_path, a deadlock with a stranger's lock, a secret in
a stranger's temporary table.
"""

import pytest

from server import PASSWORD, ROLE
from wire import Wire, bind, describe, execute, extended, function_call, parse, sync

SETSEED = 1599 # its number among the server's functions

FUNCTIONS = """
CREATE OR REPLACE FUNCTION hides(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; END $$;
CREATE OR REPLACE PROCEDURE hides_in_procedure(what text) LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; COMMIT; END $$;
GRANT pg_monitor TO proxy;
CREATE SEQUENCE IF NOT EXISTS drawn;
GRANT ALL ON SEQUENCE drawn TO proxy;
CREATE TABLE IF NOT EXISTS numbered (id serial, word text);
GRANT ALL ON numbered, numbered_id_seq TO proxy;
"""

# What a client may leave behind: queries, or bytes that end with a Sync.
ACTS = {
    "set": ["SET work_mem = '77MB'", "SET SESSION search_path TO pg_catalog", "SET TIME ZONE 'Asia/Tokyo'"],
    "set names": ["SET NAMES 'LATIN1'"],
    "set in a transaction": ["BEGIN; SET DateStyle = 'German'; COMMIT"],
    "set in a savepoint": ["BEGIN", "SAVEPOINT s", "SET DateStyle = 'SQL'", "ROLLBACK TO s", "COMMIT"],
    "set, extended": [extended("SET statement_timeout = '9min'") + sync()],
    "characteristics": ["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY"],
    "set_config": ["SELECT set_config('lock_timeout', '8min', false)",
                   "SELECT set_config(lower('WORK_mem'), '6MB', false) FROM things WHERE id = 1"],
    "update of pg_settings": ["UPDATE pg_settings SET setting = '5000' WHERE name = 'work_mem'"],
    "custom": ["SET my.tenant = 'a stranger'", "SELECT set_config('my.other', 'a stranger', false)",
               "SELECT set_config('my' || '.third', 'a stranger', false)"],
    "custom, hidden": ["SELECT hides($$SET my.hidden = 'a stranger'$$)"],
    "role": ["SET ROLE pg_monitor"],
    "role by set_config": ["SELECT set_config('role', 'pg_monitor', false)"],
    "role, hidden": ["DO $$ BEGIN SET ROLE pg_monitor; END $$"],
    "session authorization": ["SET SESSION AUTHORIZATION proxy", "SET ROLE pg_monitor"],
    "temp table": ["CREATE TEMP TABLE secret AS SELECT 1 AS one"],
    "temp table, odd": ["SELECT 1 AS one INTO TEMPORARY secret", "CREATE VIEW pg_temp.seen AS SELECT 1"],
    "temp, by search_path": ["SET search_path = pg_temp, public", "CREATE TABLE secret (a int)"],
    "temp, by a search_path put back": ["SET search_path = pg_temp", "CREATE TABLE secret (a int)",
                                        "SET search_path = public", "SELECT 1"],
    "temp function and type": ["CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                               "CREATE TYPE pg_temp.t AS ENUM ('a')"],
    "temp table, hidden": ["SELECT hides('CREATE TEMP TABLE secret (a int)')"],
    "temp table over things": ["CREATE TEMP TABLE things AS SELECT 'a stranger'::text AS name"],
    "listen": ["LISTEN channel", 'LISTEN "Other"'],
    "listen, hidden": ["DO $$ BEGIN EXECUTE 'LISTEN ' || 'channel'; END $$"],
    "prepare": ["PREPARE mine AS SELECT 1", "EXECUTE mine"],
    "prepare, hidden": ["SELECT hides('PREPARE mine AS SELECT 1')"],
    "cursor with hold": ["DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM things"],
    "cursor with hold, hidden": ["DO $$ BEGIN EXECUTE 'DECLARE kept CURSOR WITH HOLD FOR SELECT 1'; END $$"],
    "locks": ["SELECT pg_advisory_lock(42)", "SELECT pg_try_advisory_lock_shared(1, 2)"],
    "lock, hidden": ["SELECT hides('SELECT pg_advisory_lock(43)')"],
    "lock, in a procedure": ["CALL hides_in_procedure('SELECT pg_advisory_lock(44)')"],
    "lock, in a statement that failed": ["SELECT pg_advisory_lock(45), 1 / (id - id) FROM things"],
    "named statements": [parse("S_1", "SELECT 'a stranger'") + parse("__asyncpg_stmt_1__", "SELECT $1::int")
                         + bind("C_1", "S_1") + execute("C_1") + sync()],
    "unnamed statement": [parse("", "SELECT 'a stranger'") + describe("S", "") + sync()],
    "failed pipeline": [parse("S_1", "SELECT 1") + extended("SELECT 1/0") + parse("S_2", "SELECT 2") + sync()],
    "sequence": ["SELECT nextval('drawn')"],
    "sequence by insert": ["INSERT INTO numbered (word) VALUES ('x')", "SELECT lastval()"],
    "sequence, hidden": ["SELECT hides($$SELECT nextval('drawn')$$)"],
    "application_name": ["SET application_name = 'a stranger'"],
    "abandoned transaction": ["BEGIN", "SET work_mem = '99MB'", "LISTEN channel", "CREATE TEMP TABLE secret (a int)",
                              "SELECT pg_advisory_lock(46)", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"],
    "abandoned failed transaction": ["SET work_mem = '98MB'", "BEGIN", "SELECT pg_advisory_lock(47)", "SELECT 1/0"],
    "several in one": ["SET work_mem = '80MB'; LISTEN channel; CREATE TEMP TABLE secret (a int); PREPARE p AS SELECT 1"],
    "reset of what it came with": ["RESET ALL", "SET TIME ZONE DEFAULT"],
    "discard": ["SET work_mem = '80MB'", "LISTEN channel", "DISCARD ALL", "LISTEN other"],
}
PARAMETERS = {"application_name": "actor", "TimeZone": "America/New_York", "options": "-c work_mem=70MB -c my.own=mine"}
LOOKERS = {
    "a plain client": {},
    "a client with settings": {"application_name": "looker", "TimeZone": "Europe/Vienna", "DateStyle": "SQL, DMY",
                               "options": "-c statement_timeout=11min -c search_path=public,pg_catalog"},
}
LOOKS = {
    "prepared statements": "SELECT name, statement FROM pg_prepared_statements",
    "cursors": "SELECT name FROM pg_cursors WHERE name <> ''",
    "channels": "SELECT * FROM pg_listening_channels()",
    "locks": "SELECT locktype, mode, classid, objid FROM pg_locks WHERE pid = pg_backend_pid()"
             " AND locktype <> 'relation' AND locktype <> 'virtualxid'",
    "temporary objects": "SELECT classid::regclass, objid FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass"
                         " AND refobjid = pg_my_temp_schema()",
    "who": "SELECT current_user, session_user, current_database(), current_schemas(false)",
    "custom settings": "SELECT NULLIF(current_setting('my.' || name, true), '') FROM"
                       " unnest('{tenant,other,third,hidden,own}'::text[]) name",
    "pg_stat_activity": "SELECT application_name, state, usename FROM pg_stat_activity WHERE pid = pg_backend_pid()",
    "a name": "SELECT name FROM things WHERE id = 7",
    "lastval": "SELECT lastval()",
    "currval": "SELECT currval('drawn')",
    "fetch": "FETCH kept",
    "execute": "EXECUTE mine",
}


def look(client):
    """All that a client can see of its session."""
    seen = {f"SHOW {name}": value for name, value, _ in client.query("SHOW ALL").rows}
    for what, sql in LOOKS.items():
        answer = client.query(sql)
        seen[what] = [error.sqlstate for error in answer.errors] or answer.rows
    for name in ("", "S_1", "S_2", "__asyncpg_stmt_1__"):
        seen[f"statement {name}"] = [error.sqlstate for error in client.ask(bind("", name), execute()).errors]
    seen["portal"] = client.ask(execute("C_1")).error.sqlstate
    seen["state"] = client.query("").state
    seen["at login"] = client.parameters
    return seen


@pytest.fixture(scope="module")
def own_connection(shared_postgres):
    """What each looker sees on a connection of its own."""
    with shared_postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute(FUNCTIONS)
    connection.close()
    expected = {}
    for looker, parameters in LOOKERS.items():
        with Wire(shared_postgres.port).login(ROLE, PASSWORD, "app", **parameters) as client:
            expected[looker] = look(client)
    shared_postgres.wait_for_backends(0)
    yield expected
    shared_postgres.sql("REVOKE pg_monitor FROM proxy")


def act(client, steps):
    for step in steps:
        if isinstance(step, str):
            client.query(step)
        else:
            client.send(step)
            client.answer()


def differences(expected, seen):
    return {what: (seen.get(what), "instead of", value) for what, value in expected.items() if seen.get(what) != value}


@pytest.mark.parametrize("leaves", ["says goodbye", "vanishes"])
@pytest.mark.parametrize("looker", LOOKERS)
def test_nothing_of_a_client_that_has_left_is_there(start_proxy, own_connection, leaves, looker):
    """One backend: the looker gets the very one that was used."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "recycle": "1h", "timeout": 15})
    wrong = {}
    for what, steps in ACTS.items():
        actor = proxy.wire(**PARAMETERS)
        act(actor, steps)
        if leaves == "says goodbye":
            actor.send(b"X\0\0\0\4")
        actor.close()
        with proxy.wire(**LOOKERS[looker]) as client:
            found = differences(own_connection[looker], look(client))
        if found:
            wrong[what] = found
    assert not wrong


@pytest.mark.parametrize("looker", LOOKERS)
def test_nothing_of_a_client_that_stays_is_seen(start_proxy, own_connection, looker):
    """Travelling state is on the looker's backend a moment before; what ties its client has the other backend."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "recycle": "1h", "timeout": 15})
    wrong = {}
    for what, steps in ACTS.items():
        with proxy.wire(**PARAMETERS) as actor, proxy.wire(**LOOKERS[looker]) as client:
            act(actor, steps)
            found = differences(own_connection[looker], look(client))
        if found:
            wrong[what] = found
    assert not wrong


def test_a_client_keeps_what_is_its_own_while_others_look(start_proxy, own_connection):
    """After each stranger's work one's own session is as it was, on whichever backend it runs."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "recycle": "1h", "timeout": 15})
    sql = ("SELECT current_setting('work_mem'), current_setting('TimeZone'), current_setting('search_path'),"
           " current_setting('my.own', true), current_setting('application_name'), '2026-02-01'::date::text")
    with proxy.wire(application_name="mine", TimeZone="Europe/Rome") as mine:
        act(mine, ["SET work_mem = '11MB'", "SET search_path = public", "SET my.own = 'mine'", "SET DateStyle = German"])
        before = mine.query(sql).rows
        assert before == [["11MB", "Europe/Rome", "public", "mine", "mine", "01.02.2026"]]
        mine.ask(parse("S_1", sql))
        for what, steps in ACTS.items():
            with proxy.wire() as stranger:
                act(stranger, steps)
                assert mine.query(sql).rows == before, what
                assert mine.ask(bind("", "S_1"), execute()).rows == before, what


@pytest.mark.parametrize("seeds", [
    "SELECT setseed(0.5)",
    "SET seed = 0.5",
    "BEGIN; SET LOCAL seed = 0.5; COMMIT",
    "SELECT set_config('seed', '0.5', false)",
    "SELECT set_config('seed', '0.5', true)",
    pytest.param(function_call(SETSEED, ["0.5"]), id="a function call"),
])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_random_is_not_what_another_client_has_seeded(start_proxy, postgres, seeds, mode):
    """Tokens that random() makes could be told in advance."""
    proxy = start_proxy(automation={"mode": mode, "size": 1, "max_overflow": 0, "recycle": "1h", "timeout": 15})
    with Wire(postgres.port).login(ROLE, PASSWORD, "app") as own:
        act(own, [seeds])
        expected = own.query("SELECT random(), random()").rows
    with proxy.wire() as client:
        act(client, [seeds])
        assert client.query("SELECT random(), random()").rows == expected
        act(client, [seeds])
    with proxy.wire() as other:
        assert other.query("SELECT random(), random()").rows != expected


@pytest.mark.parametrize("way", ["none is kept", "it has looked at them"])
def test_random_is_not_what_a_statement_under_its_own_name_has_seeded(start_proxy, way):
    """Where a client's names of statements pass as they are."""
    most = {"max_prepared_statements": 0} if way == "none is kept" else {}
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "recycle": "1h", "timeout": 15, **most})
    with proxy.wire() as client:
        client.ask(parse("S_1", "SELECT 1"))
        client.query("SELECT count(*) FROM pg_prepared_statements")
        client.ask(parse("S_2", "SELECT setseed(0.5)"))
        client.ask(bind("", "S_2"), execute())
        seeded = client.query("SELECT random(), random()").rows
        client.ask(bind("", "S_2"), execute())
    with proxy.wire() as other:
        assert other.query("SELECT random(), random()").rows != seeded


def quoted_twice(word):
    """A value of a connection string in a literal of SQL."""
    word = word.replace("'", "\\'")
    return f"'{word}'".replace("'", "''")


LEFT = {
    "a temporary replication slot": (
        "SELECT slot_name FROM pg_create_physical_replication_slot('passing', false, true)",
        "SELECT count(*) FROM pg_replication_slots"),
    "a connection of dblink": (
        "SELECT dblink_connect('mine', 'hostaddr=127.0.0.1 port={port} dbname=app user=proxy password={password}')",
        "SELECT dblink_get_connections()"),
}


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("what", LEFT)
def test_what_no_cleaning_ends_ends_with_its_client(start_proxy, postgres, what, mode):
    """A slot that nobody advances fills the server's disk; a connection of dblink is open to whoever comes next."""
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS dblink; ALTER ROLE proxy REPLICATION")
    connection.close()
    proxy = start_proxy(automation={"mode": mode, "size": 1, "max_overflow": 0, "recycle": "1h", "timeout": 15})
    makes, look = LEFT[what]
    makes = makes.format(port=postgres.port, password=quoted_twice(PASSWORD))
    with proxy.wire() as other:
        fresh = other.query(look).value
    with proxy.wire() as client:
        assert not client.query(makes).errors
        assert client.query(look).value != fresh
    with proxy.wire() as other:
        assert other.query(look).value == fresh


def test_a_seed_of_the_start_up_packet_seeds_nothing(start_proxy):
    """As at a login of one's own."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 15})
    seen = []
    for _ in range(2):
        with proxy.wire(seed="0.5") as client:
            seen.append(client.query("SELECT random()").value)
    assert seen[0] != seen[1]
