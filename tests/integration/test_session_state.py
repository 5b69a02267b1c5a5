"""Nobody's session state reaches anybody else, and one's own stays one's own.

One automation backend serves two clients in turn, the hardest case.  First leaves something behind in
its session; Second, on the same backend or a new one, must see a fresh session.  While First is
connected, its own state must be in force in whatever it runs.
"""

import pytest

from wire import bind, describe, execute, flush, message, parse, sync


@pytest.fixture
def narrow(start_proxy, mode):
    """Two backends at most, so that a state that keeps its backend leaves one for the other client."""
    return start_proxy(automation={"mode": mode, "size": 1, "max_overflow": 1,
                                   "overflow_delay": "10ms"})


# what First does, what shows it, what First must see, what a fresh session shows
LEFTOVERS = {
    "set": ("SET work_mem = '77MB'", "SHOW work_mem", "77MB", "4MB"),
    "set time zone": ("SET TIME ZONE 'Asia/Tokyo'", "SHOW TimeZone", "Asia/Tokyo", "UTC"),
    "search_path": ("SET search_path = pg_catalog", "SHOW search_path", "pg_catalog",
                    '"$user", public'),
    "set_config": ("SELECT set_config('work_mem', '78MB', false)", "SHOW work_mem", "78MB", "4MB"),
    "custom setting": ("SET my.tenant = 'first'", "SELECT NULLIF(current_setting('my.tenant', true), '')",
                       "first", None),
    "set role": ("SET ROLE pg_monitor", "SELECT current_user", "pg_monitor", "proxy"),
    "read only": ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                  "SHOW default_transaction_read_only", "on", "off"),
    "temp table": ("CREATE TEMP TABLE secret AS SELECT 1 AS one",
                   "SELECT to_regclass('pg_temp.secret')::text", "secret", None),
    "temp table by select into": ("SELECT 1 AS one INTO TEMP secret",
                                  "SELECT to_regclass('pg_temp.secret')::text", "secret", None),
    "advisory lock": ("SELECT pg_advisory_lock(42)",
                      "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                      " AND pid = pg_backend_pid()", "1", "0"),
    "prepare": ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements"
                " WHERE name = 'mine'", "1", "0"),
    "listen": ("LISTEN channel", "SELECT count(*) FROM pg_listening_channels()", "1", "0"),
    "holdable cursor": ("DECLARE kept CURSOR WITH HOLD FOR SELECT 1",
                        "SELECT count(*) FROM pg_cursors WHERE name = 'kept'", "1", "0"),
    "do block": ("DO $$ BEGIN EXECUTE 'CREATE TEMP TABLE secret (a int)'; END $$",
                 "SELECT to_regclass('pg_temp.secret')::text", "secret", None),
    "set in a do block": ("DO $$ BEGIN PERFORM set_config('work_mem', '79MB', false); END $$",
                          "SHOW work_mem", "79MB", "4MB"),
    "several in one query": ("SELECT 1; SET work_mem = '80MB'; SELECT 2", "SHOW work_mem",
                             "80MB", "4MB"),
    "with a comment before": ("/* x */ -- y\n SET work_mem = '81MB'", "SHOW work_mem", "81MB", "4MB"),
}

@pytest.fixture(scope="module", autouse=True)
def monitor_role(shared_postgres):
    shared_postgres.sql("GRANT pg_monitor TO proxy")
    yield
    shared_postgres.sql("REVOKE pg_monitor FROM proxy")


@pytest.mark.parametrize("what", LEFTOVERS)
@pytest.mark.parametrize("leaves", ["stays", "says goodbye", "vanishes"])
def test_no_leftovers_for_the_next_client(narrow, what, leaves):
    act, look, own, fresh = LEFTOVERS[what]
    first, second = narrow.wire(), narrow.wire()
    assert second.query(look).value == fresh
    assert not first.query(act).errors
    if leaves == "says goodbye":
        first.send(b"X\0\0\0\4")
        first.close()
    elif leaves == "vanishes":
        first.close()
    # enough rounds that second meets every backend
    for _ in range(4):
        assert second.query(look).value == fresh
    if leaves == "stays":
        seen = first.query(look).value
        assert seen is not None and seen.split(".")[-1] == own
        assert second.query(look).value == fresh
    first.close()
    with narrow.wire() as third:
        assert third.query(look).value == fresh


@pytest.mark.parametrize("what", LEFTOVERS)
def test_own_state_stays_in_force(narrow, what):
    act, look, own, _ = LEFTOVERS[what]
    with narrow.wire() as first, narrow.wire() as second:
        assert not first.query(act).errors
        for _ in range(3):
            second.query("SELECT 1")
            seen = first.query(look).value
            assert seen is not None and seen.split(".")[-1] == own


def test_named_statements_of_two_clients_do_not_meet(narrow):
    """Drivers all use the same names (S_1, __asyncpg_stmt_1__, pdo_stmt_00000001)."""
    with narrow.wire() as first, narrow.wire() as second:
        first.ask(parse("S_1", "SELECT 'first'"))
        assert second.ask(bind("", "S_1"), execute()).error.sqlstate == "26000"
        assert second.ask(parse("S_1", "SELECT 'second'")).kinds == "1Z"
        for _ in range(3):
            assert first.ask(bind("", "S_1"), execute()).value == "first"
            assert second.ask(bind("", "S_1"), execute()).value == "second"


def test_no_error_shows_how_names_of_ours_begin(start_proxy):
    """The second portal deallocates what was made for the first."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as client:
        client.ask(parse("a", "SELECT 1"), parse("b", "SELECT 2"))
        answer = client.ask(parse("", "DEALLOCATE a"), bind("p", ""), parse("", "DEALLOCATE b"), bind("q", ""),
                            execute("p"), execute("q"))
        assert not any("pgreserve_" in str(error) for error in answer.errors)


def test_long_unnamed_statement_is_still_there_behind_an_error(start_proxy):
    """The error has come before the Sync that ends its batch."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as first:
        first.send(parse("", "SELECT 'own' /*" + "x" * 200000 + "*/"), describe("S", "missing"), flush())
        assert first.until("E")[-1].kind == "E"
        assert first.ask().kinds == "Z"
        assert first.ask(bind("", ""), execute()).value == "own"


DATE = "SELECT date '01/02/2020'"
MONTH_FIRST, DAY_FIRST = "2020-01-02", "2020-02-01"
READ_OTHERWISE = {
    "SET LOCAL": ("BEGIN", "SET LOCAL datestyle = 'ISO, DMY'"),
    "set_config for the transaction": ("BEGIN", "SELECT set_config('datestyle', 'ISO, DMY', true)"),
    "code": ("BEGIN", "DO $$BEGIN SET datestyle = 'ISO, DMY'; END$$"),
    "SET in the same transaction": ("BEGIN", "SET datestyle = 'ISO, DMY'"),
    "SET in the same text": ("BEGIN; SET datestyle = 'ISO, DMY'",),
}


@pytest.mark.parametrize("how", READ_OTHERWISE)
def test_a_statement_means_what_ones_own_settings_say(start_proxy, how):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as first, proxy.wire() as second, proxy.wire() as third:
        second.ask(parse("s", DATE))
        third.query("DEALLOCATE ALL")  # so that it is not on the backend any more
        for statement in READ_OTHERWISE[how]:
            assert not first.query(statement).errors
        assert first.ask(parse("s", DATE), bind("", "s"), execute()).value == DAY_FIRST
        assert not first.query("COMMIT").errors
        assert second.ask(bind("", "s"), execute()).value == MONTH_FIRST
        assert second.ask(parse("t", DATE), bind("", "t"), execute()).value == MONTH_FIRST
        assert first.ask(bind("", "s"), execute()).value == DAY_FIRST


@pytest.mark.parametrize("how", READ_OTHERWISE)
def test_what_is_prepared_again_under_other_settings_is_nobody_elses(start_proxy, how):
    """The statement is one of both clients, and not on the backend when the first uses it under settings of its own."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as first, proxy.wire() as second, proxy.wire() as third:
        for client in (first, second):
            client.ask(parse("s", DATE))
        third.query("DEALLOCATE ALL")
        for statement in READ_OTHERWISE[how]:
            assert not first.query(statement).errors
        assert first.ask(bind("", "s"), execute()).rows
        assert not first.query("COMMIT").errors
        assert second.ask(bind("", "s"), execute()).value == MONTH_FIRST


@pytest.mark.parametrize("setting,statements", [
    ("SELECT set_config('app.tenant', '7', true)", "1"), ("SET LOCAL app.tenant = '7'", "1"), ("SET LOCAL search_path = pg_catalog", "2")])
def test_statements_behind_a_custom_setting_are_still_shared(start_proxy, setting, statements):
    """The way of row-level security: it changes what a policy sees, but not how a text is read."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as first, proxy.wire() as second, proxy.wire() as third:
        for client in (first, second):
            client.ask(parse("s", DATE))
        third.query("DEALLOCATE ALL")
        for client in (first, second):
            assert not client.query("BEGIN").errors + client.query(setting).errors
            assert client.ask(bind("", "s"), execute()).rows
            assert not client.query("COMMIT").errors
        assert [row["prepared_statements"] for row in proxy.show("SERVERS") if "@automation" in row["database"]] == [statements]


def test_what_a_temporary_table_hid_is_not_hidden_from_others(start_proxy, postgres):
    control = postgres.superuser_connection("app")
    control.cursor().execute("CREATE TABLE seen (a int); INSERT INTO seen VALUES (1); GRANT SELECT ON seen TO proxy")
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as first, proxy.wire() as second:
        assert second.ask(parse("s", "SELECT * FROM seen")).kinds == "1Z"
        first.query("DEALLOCATE ALL")
        first.query("CREATE TEMP TABLE seen (x text, y text)")
        assert first.ask(parse("s", "SELECT * FROM seen"), bind("", "s"), execute()).kinds == "12CZ"
        first.query("DROP TABLE seen")
        second.query("BEGIN")
        assert second.ask(bind("", "s"), execute()).value == "1"
        second.query("COMMIT")
        first.query("BEGIN; SET LOCAL search_path = pg_catalog")
        assert first.ask(parse("t", "SELECT * FROM seen")).error.sqlstate == "42P01"
        first.query("ROLLBACK")
        assert second.ask(bind("", "s"), execute()).value == "1"
    control.cursor().execute("DROP TABLE seen")
    control.close()


def test_named_statement_does_not_outlive_its_client(narrow):
    for _ in range(5):
        with narrow.wire() as client:
            assert client.ask(parse("same", "SELECT 1")).kinds == "1Z"


def test_named_statement_whose_parse_failed_leaves_no_trace(narrow):
    with narrow.wire() as client:
        assert client.ask(parse("bad", "SELEKT 1")).error.sqlstate == "42601"
        assert client.ask(bind("", "bad"), execute()).error.sqlstate == "26000"
        assert client.ask(parse("bad", "SELECT 3"), bind("", "bad"), execute()).value == "3"


def test_unnamed_statement_of_another_client_is_never_used(narrow):
    with narrow.wire() as first, narrow.wire() as second:
        first.ask(parse("", "SELECT 'private to first'"))
        answer = second.ask(bind("", ""), execute())
        assert "private to first" not in str(answer.rows)


def test_set_local_ends_with_its_transaction(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    with proxy.wire() as first, proxy.wire() as second:
        for statement in ("BEGIN", "SET LOCAL work_mem = '99MB'", "COMMIT"):
            assert not first.query(statement).errors
        assert first.query("SHOW work_mem").value == "4MB"
        assert second.query("SHOW work_mem").value == "4MB"


def test_rolled_back_set_is_gone(start_proxy):
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0})
    with proxy.wire() as first, proxy.wire() as second:
        for statement in ("BEGIN", "SET work_mem = '98MB'", "ROLLBACK"):
            assert not first.query(statement).errors
        assert first.query("SHOW work_mem").value == "4MB"
        assert second.query("SHOW work_mem").value == "4MB"


def test_start_up_parameters_belong_to_their_client(narrow):
    with narrow.wire(options="-c work_mem=70MB") as first, narrow.wire() as second:
        for _ in range(3):
            assert first.query("SHOW work_mem").value == "70MB"
            assert second.query("SHOW work_mem").value == "4MB"
    with narrow.wire() as third:
        assert third.query("SHOW work_mem").value == "4MB"


def test_application_name_belongs_to_its_client(narrow):
    look = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    with narrow.wire(application_name="one") as first, narrow.wire(application_name="two") as second:
        for _ in range(3):
            assert first.query(look).value == "one"
            assert second.query(look).value == "two"


def test_client_encoding_belongs_to_its_client(narrow):
    with narrow.wire(client_encoding="LATIN1") as first, narrow.wire() as second:
        first.send(message("Q", b"SELECT '\xfc'\0"))
        assert first.answer().messages[1].body[-1:] == b"\xfc"
        assert second.query("SHOW client_encoding").value == "UTF8"


def test_last_value_of_a_sequence_is_ones_own(narrow):
    with narrow.wire() as first, narrow.wire() as second:
        first.query("CREATE SEQUENCE IF NOT EXISTS counted")
        first.query("SELECT nextval('counted')")
        answer = second.query("SELECT currval('counted')")
        assert answer.errors and answer.error.sqlstate == "55000"


def test_backend_is_handed_on_after_the_state_is_cleaned(start_proxy, postgres):
    """DISCARD ALL, not a new login: the same backend serves the next client."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "recycle": "1h"})
    with proxy.wire() as first:
        pid = first.query("SELECT pg_backend_pid()").value
        first.query("SET work_mem = '77MB'")
        first.ask(parse("s", "SELECT 1"))
        first.send(sync())
        first.answer()
    with proxy.wire() as second:
        assert second.query("SHOW work_mem").value == "4MB"
        assert second.query("SELECT pg_backend_pid()").value == pid
