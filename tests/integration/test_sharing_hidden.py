"""What hides from a reader of statements is nobody else's all the same.

First does something in a way that a scan of its text could miss; Second, on the same only backend, must see a fresh session, and
First its own.
"""

import pytest

from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire, bind, copy_data, copy_done, describe, execute, parse, query, sync

PATH, FRESH = "SHOW search_path", '"$user", public'
HIDDEN = {
    "a role by its quoted name": ('SET "role" TO pg_monitor', "SELECT current_user", "proxy"),
    "the session's user by its setting": ("SET session_authorization TO proxy", "SELECT session_user", "proxy"),
    "set_config behind an escaped quote": ("SELECT E'\\'', set_config('search_path', 'evil', false)", PATH, FRESH),
    "set_config behind a dollar quote": ("SELECT $$it's$$, set_config('search_path', 'evil', false)", PATH, FRESH),
    "set_config with a column called true": (
        "SELECT set_config('search_path', 'evil', \"true\") FROM (SELECT false AS \"true\") s", PATH, FRESH),
    "a custom setting behind a dollar quote": (
        "SELECT $$it's$$; SET my.tenant = 'first'", "SELECT NULLIF(current_setting('my.tenant', true), '')", None),
    "a custom setting with a name that is cut": (
        f"SET my.{'x' * 70} = 'first'", f"SELECT NULLIF(current_setting('my.{'x' * 63}', true), '')", None),
    "a custom setting in a long text": (
        f"SET my.tenant = 'first'; SELECT length('{'x' * 40000}')",
        "SELECT NULLIF(current_setting('my.tenant', true), '')", None),
    "a custom setting with a long value": (
        f"SET my.tenant = '{'x' * 40000}'", "SELECT NULLIF(current_setting('my.tenant', true), '')", None),
    "a setting by a trigger": ("INSERT INTO fired VALUES (1)", PATH, FRESH),
    "a custom setting by a trigger": (
        "INSERT INTO fired VALUES (2)", "SELECT NULLIF(current_setting('my.hidden', true), '')", None),
}


@pytest.fixture
def pool(start_proxy, postgres):
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("GRANT pg_monitor TO proxy")
        cursor.execute("DROP TABLE IF EXISTS fired; CREATE TABLE fired (a int); ALTER TABLE fired OWNER TO proxy")
        cursor.execute("""CREATE OR REPLACE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
                          BEGIN PERFORM set_config('search_path', 'evil', false);
                                PERFORM set_config('my.hidden', 'first', false); RETURN NEW; END $$""")
        cursor.execute("CREATE TRIGGER fires BEFORE INSERT ON fired FOR EACH ROW EXECUTE FUNCTION fire()")
    connection.close()
    yield start_proxy(automation={"size": 1, "max_overflow": 1, "overflow_delay": "10ms", "timeout": 5})
    postgres.ensure_running()
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE fired; DROP FUNCTION fire()")
    connection.close()


@pytest.mark.parametrize("what", HIDDEN)
def test_hidden_state_is_nobody_elses(pool, what):
    act, look, fresh = HIDDEN[what]
    with pool.wire() as first, pool.wire() as second:
        assert not first.query(act).errors
        for _ in range(3):
            assert second.query(look).value == fresh


LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
MADE = "SELECT to_regclass('made')"
KEPT = {
    "a setting beside a set_config for the transaction": (
        ["SET search_path = 'evil'; SELECT set_config('app.u', '5', true)"], PATH),
    "a custom setting beside one": (
        ["SET my.tenant = 'first'; SELECT set_config('app.u', '5', true)"],
        "SELECT NULLIF(current_setting('my.tenant', true), '')"),
    "a setting by UPDATE": (["UPDATE pg_settings SET setting = 'evil' WHERE name = 'search_path'"], PATH),
    "a lock by EXECUTE": (
        ["PREPARE x AS SELECT pg_advisory_lock(77)", "EXECUTE x", "DEALLOCATE x"], LOCKS),
    "a lock by EXPLAIN ANALYZE EXECUTE": (
        ["PREPARE x AS SELECT pg_advisory_lock(77)", "EXPLAIN ANALYZE EXECUTE x", "DEALLOCATE x"], LOCKS),
    "a lock by CREATE TABLE AS EXECUTE": (
        ["PREPARE x AS SELECT 1 FROM pg_advisory_lock(77)", "CREATE TABLE executed AS EXECUTE x", "DEALLOCATE x",
         "DROP TABLE executed"], LOCKS),
    "a lock by EXECUTE of what code has prepared": (
        ["PREPARE other AS SELECT 1", "DO $$ BEGIN EXECUTE 'PREPARE x AS SELECT pg_advisory_lock(77)'; END $$",
         "EXECUTE x", "DEALLOCATE ALL"], LOCKS),
    "a lock by a Bind of what SQL has prepared": (
        ["PREPARE x AS SELECT pg_advisory_lock(77)", bind("", "x") + execute(), "DEALLOCATE x"], LOCKS),
    "a setting by EXECUTE": (
        ["PREPARE x AS SELECT set_config('search_path', 'evil', false)", "EXECUTE x", "DEALLOCATE x"], PATH),
    "a table that a quoted search_path makes temporary": (
        ["BEGIN; SET LOCAL search_path TO 'pg_temp'; CREATE TABLE made (a int); COMMIT"], MADE),
    "a table that a computed search_path makes temporary": (
        ["BEGIN", "SELECT set_config('search_path', 'pg_' || 'temp', true)", "CREATE TABLE made (a int)", "COMMIT"], MADE),
    "a table that SELECT INTO makes temporary": (
        ["BEGIN", "SET LOCAL search_path TO 'pg_temp'", "SELECT 1 AS a INTO made", "COMMIT"], MADE),
    "a type that a search_path makes temporary": (
        ["BEGIN", "SET LOCAL search_path TO 'pg_temp'", "CREATE TYPE made AS (a int)", "COMMIT"], "SELECT to_regtype('made')"),
}


@pytest.mark.parametrize("what", KEPT)
def test_a_client_keeps_what_nobody_else_sees(start_proxy, postgres, what):
    """As on connections of their own, also when the backend has been another's meanwhile."""
    pool = start_proxy(automation={"size": 1, "max_overflow": 1, "overflow_delay": "10ms", "timeout": 5})
    steps, look = KEPT[what]

    def play(client, step):
        answer = client.query(step) if isinstance(step, str) else client.ask(step)
        assert not answer.errors
        return answer.state

    with Wire(postgres.port).login(ROLE, PASSWORD, "app") as own:
        fresh = own.query(look).value
        for step in steps:
            play(own, step)
        kept = own.query(look).value
    assert kept != fresh
    with pool.wire() as first, pool.wire() as second:
        for step in steps:
            if play(first, step) == "I":
                wait_until(lambda: (pool.pool()["in_use"], pool.pool()["pinned"]) in ((0, 0), (1, 1)), "the server's answer")
        for _ in range(2):
            assert second.query(look).value == fresh
            assert first.query(look).value == kept


@pytest.mark.parametrize("step", ["SET my.empty = ''", "SELECT set_config('my.empty', '', false)",
                                  "BEGIN; SAVEPOINT s; SET my.empty = '1'; ROLLBACK TO s; COMMIT"])
def test_a_custom_setting_that_is_empty_is_still_one(start_proxy, step):
    pool = start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": 5})
    with pool.wire() as client, pool.wire() as other:
        assert not client.query(step).errors
        pool.wait_pool(in_use=0)
        other.query("BEGIN") # takes the backend that has it
        assert client.query("SELECT current_setting('my.empty')").value == ""


def test_a_setting_that_cannot_be_restored_stops_its_client_before_it_runs_anything(pool, postgres):
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("SET ROLE proxy")
        for schema in ("sa", "sb"):
            cursor.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.t (a int)")
        cursor.execute("CREATE TEXT SEARCH CONFIGURATION sb.tsc (COPY = pg_catalog.simple)")
    connection.close()
    try:
        with pool.wire() as first, pool.wire() as second:
            assert not second.query("SET search_path = sb; SET default_text_search_config = 'sb.tsc'").errors
            assert not first.query("SET search_path = sa").errors
            assert not first.query("DROP TEXT SEARCH CONFIGURATION sb.tsc").errors
            second.send(query("INSERT INTO t VALUES (1)"))
            second.until_closed()
            assert first.query("SELECT count(*) FROM sa.t").value == "0"
    finally:
        postgres.sql("SELECT 1")
        with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA sa, sb CASCADE")
        connection.close()


def test_a_text_prepared_under_another_time_zone_keeps_its_meaning(pool):
    text = "SELECT timestamptz '2020-01-01 00:00'"
    ask = bind("", "s") + describe("P") + execute()
    with pool.wire(TimeZone="UTC") as first, pool.wire(TimeZone="Asia/Tokyo") as second:
        assert first.ask(parse("s", text), ask).value == "2020-01-01 00:00:00+00"
        assert second.ask(parse("s", text), ask).value == "2020-01-01 00:00:00+09"
        for _ in range(2):
            assert first.ask(ask).value == "2020-01-01 00:00:00+00"
            assert second.ask(ask).value == "2020-01-01 00:00:00+09"


def test_statements_that_hidden_code_deallocated_are_prepared_again(pool):
    ask = bind("", "s") + execute()
    with pool.wire() as first, pool.wire() as second:
        assert second.ask(parse("s", "SELECT 42"), ask).value == "42"
        assert not first.query("DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$").errors
        answers = [second.ask(ask) for _ in range(3)]
        assert [answer.rows for answer in answers[1:]] == [[["42"]], [["42"]]]


def test_deallocate_all_keeps_what_is_prepared_behind_it(pool):
    with pool.wire() as client:
        client.send(query("DEALLOCATE ALL"), parse("s", "SELECT 7"), sync())
        assert client.answer().tags == ["DEALLOCATE ALL"] and client.answer().kinds == "1Z"
        assert client.ask(bind("", "s"), execute()).value == "7"


def test_a_reset_before_a_copy_does_not_end_up_in_its_data(pool):
    with pool.wire(application_name="copies") as client:
        client.send(query("RESET work_mem; COPY things FROM STDIN"))
        client.until("G")
        client.send(copy_data(b"100001\tname\n"), copy_done())
        assert client.answer().tags[-1] == "COPY 1"
        assert client.query("SHOW application_name").value == "copies"
        assert not client.query("DELETE FROM things WHERE id = 100001").errors


def test_looking_at_an_extensions_setting_hurts_nobody(pool):
    with pool.wire() as first, pool.wire() as second:
        assert not first.query("SELECT current_setting('plpgsql.variable_conflict', true)").errors
        for _ in range(3):
            assert not second.query("DO $$BEGIN PERFORM 1; END$$").errors
            assert not first.query("DO $$BEGIN PERFORM 2; END$$").errors


def test_what_is_left_of_a_custom_setting_that_was_reset_is_nobody_elses(start_proxy, postgres):
    """Where an extension has a setting of that name, an empty value is refused: a stranger's session ended of it."""
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    connection.close()
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as here, proxy.wire() as there, proxy.wire() as first, proxy.wire() as second:
        here.query("BEGIN")
        assert here.query("SELECT similarity('a', 'b')").value == "0"
        assert not first.query("SET pg_trgm.similarity_threshold = 0.5").errors
        assert not second.query("SET work_mem = '5MB'").errors
        assert not first.query("RESET pg_trgm.similarity_threshold").errors
        there.query("BEGIN")
        here.query("COMMIT")
        for client, expected in ((second, "5MB"), (first, "4MB")):
            assert client.query("SHOW work_mem").value == expected
        there.query("COMMIT")


def test_a_failing_command_on_a_database_leaves_the_reserved_connections_alone(pool):
    with pool.wire() as client:
        for _ in range(5):
            assert client.query("DROP DATABASE app_which_is_not").error.sqlstate == "3D000"
            client.query("ALTER DATABASE app SET work_mem = '4MB'")
        assert pool.pool("adhoc")["available"] == 2
        client.query("ALTER DATABASE app RESET work_mem")


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_what_code_may_have_set_at_another_level_ends_nobody(start_proxy, level):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as first, proxy.wire() as second:
        first.query(f"SET default_transaction_isolation = '{level}'")
        assert not first.query("DO $$BEGIN END$$").errors
        assert second.query("SHOW transaction_isolation").value == "read committed"
        assert first.query("SHOW transaction_isolation").value == level
