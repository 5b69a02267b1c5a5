"""Start-up settings, SET and RESET as on a connection of one's own, on whichever backend one runs.

A user would lose: rows written under a wrong time zone, a driver that believes a wrong client_encoding.
"""

from contextlib import closing

import pytest

from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire, bind, execute, extended, message, parse, query, terminate

PARAMETERS = {
    "none": {},
    "plain": {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "application_name": "app one", "client_encoding": "LATIN1"},
    "options": {"options": r"-c work_mem=70MB --statement-timeout=1h -c search_path=w,\ public -c my.words=two\ words"
                           " -c TimeZone=Europe/Paris"},
    "any": {"IntervalStyle": "iso_8601", "extra_float_digits": "3", "lock_timeout": "9min", "bytea_output": "escape",
            "default_transaction_isolation": "serializable", "default_transaction_read_only": "on", "search_path": "",
            "my.own": "it's mine", "standard_conforming_strings": "off"},
    "encoding twice": {"options": "-c client_encoding=LATIN1 -e -S 5000", "client_encoding": "UTF8", "Application_Name": "x"},
    "both": {"options": "-c TimeZone=Asia/Tokyo -c work_mem=71MB", "TimeZone": "Europe/Rome", "application_name": "both"},
}
STATEMENTS = [
    "SET TimeZone = 'America/New_York'", "RESET TimeZone", "SET TIME ZONE 'Asia/Tokyo'", "SET TIME ZONE DEFAULT",
    "SET TIME ZONE LOCAL", "SET DateStyle = 'SQL, DMY'", "SET DateStyle TO DEFAULT", "SET NAMES 'UTF8'",
    "RESET client_encoding", "SET application_name = 'other'", "RESET application_name", "SET work_mem = '9MB'",
    "RESET ALL", "SET search_path = pg_catalog", "RESET search_path", "SET my.own = 'changed'", "RESET my.own",
    "BEGIN; SET TimeZone = 'Asia/Tokyo'; ROLLBACK", "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; COMMIT",
    "BEGIN; SET TimeZone = 'Asia/Tokyo'; SAVEPOINT s; RESET TimeZone; ROLLBACK TO s; COMMIT", "RESET timezone",
    "SELECT set_config('IntervalStyle', 'sql_standard', false)", "RESET IntervalStyle",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "SET standard_conforming_strings = on", "DISCARD ALL",
    "SET work_mem = '9MB'; RESET work_mem; SET TimeZone = 'UTC'; RESET TimeZone", "SET no.such = 1; SELECT 1/0",
]
LOOK = ("SELECT name, setting FROM pg_settings WHERE name NOT IN ('port')"
        " UNION ALL SELECT 'my.own', current_setting('my.own', true)"
        " UNION ALL SELECT 'my.words', current_setting('my.words', true) ORDER BY 1")


def told(answer):
    """The last ParameterStatus of each name."""
    pairs = [message.body.split(b"\0")[:2] for message in answer.messages if message.kind == "S"]
    return dict(sorted(pairs))


def says(client, statement):
    answer = client.query(statement)
    return told(answer), answer.tags, [error.sqlstate for error in answer.errors]


@pytest.mark.parametrize("what", PARAMETERS)
def test_settings_and_resets_are_those_of_ones_own_connection(start_proxy, postgres, what):
    """Step by step beside an own connection; between the steps others change everything on both backends."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0})
    own = Wire(postgres.port).login(ROLE, PASSWORD, "app", **PARAMETERS[what])
    client = proxy.wire(**PARAMETERS[what])
    others = [proxy.wire(TimeZone="Australia/Sydney", options="-c work_mem=66MB"), proxy.wire(search_path="x")]
    assert client.parameters == own.parameters
    for statement in STATEMENTS:
        assert says(client, statement) == says(own, statement), statement
        for other in others:
            assert not other.query("SET work_mem = '67MB'").errors
        shared, alone = dict(client.query(LOOK).rows), dict(own.query(LOOK).rows)
        assert shared == alone, statement
    for one in (own, client, *others):
        one.close()


def test_pg_stat_activity_shows_each_clients_name_while_it_runs(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    own_row = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    with proxy.wire(application_name="first") as first, proxy.wire(application_name="second") as second:
        for _ in range(3):
            first.query("BEGIN")
            (name,), = postgres.sql("SELECT application_name FROM pg_stat_activity WHERE state = 'idle in transaction'"
                                    " AND usename = 'proxy'")
            assert name == "first"
            first.query("COMMIT")
            assert second.query(own_row).value == "second"
        second.query("SET application_name = 'renamed'")
        assert first.query(own_row).value == "first"
        assert second.query(own_row).value == "renamed"
        assert {"first", "renamed"} <= {row["application_name"] for row in proxy.show("CLIENTS")}


def test_a_setting_whose_object_is_gone_is_told_to_its_owner_alone(start_proxy, postgres):
    """SET of something that later becomes impossible: an error to the one whose setting it is."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    with proxy.wire() as other:
        postgres.sql("GRANT SET ON PARAMETER log_statement_stats TO proxy")
        client = proxy.wire()
        assert not client.query("SET log_statement_stats = on").errors
        assert other.query("SELECT 1").value == "1"
        postgres.sql("REVOKE SET ON PARAMETER log_statement_stats FROM proxy")
        client.send(query("SELECT 1"))
        error = client.final_error()
        assert error.sqlstate == "42501" and "log_statement_stats" in error.message
        for _ in range(3):
            assert other.query("SHOW log_statement_stats").value == "off"


def test_settings_follow_in_pipelines(start_proxy):
    """A SET and what depends on it in one batch, on a backend that another client has just changed."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    with proxy.wire() as client, proxy.wire() as other:
        for zone in ("Asia/Tokyo", "Europe/Rome", "UTC"):
            other.query("SET TimeZone = 'Australia/Sydney'")
            answer = client.ask(extended(f"SET TimeZone = '{zone}'"), extended("SHOW TimeZone"))
            assert answer.rows == [[zone]]
            other.query("SET work_mem = '9MB'")
            client.send(query("SHOW TimeZone"), query("RESET TimeZone"), query("SHOW TimeZone"))
            assert [client.answer().rows for _ in range(3)] == [[[zone]], [], [["UTC"]]]


@pytest.mark.parametrize("way", ["none is kept", "it has looked at them"])
def test_a_reset_under_a_name_of_its_own_goes_back_to_the_start_up_packet(start_proxy, way):
    """At each Bind, where a client's names of statements pass as they are."""
    most = {"max_prepared_statements": 0} if way == "none is kept" else {}
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5, **most})
    with proxy.wire(application_name="app one", TimeZone="Asia/Tokyo") as client:
        client.ask(parse("S_1", "SELECT 1"))
        client.query("SELECT count(*) FROM pg_prepared_statements")
        client.ask(parse("S_2", "RESET ALL"))
        for _ in range(2):
            client.query("SET application_name = 'other'; SET TimeZone = 'Europe/Rome'")
            assert not client.ask(bind("", "S_2"), execute()).errors
            assert client.query("SELECT current_setting('application_name'), current_setting('TimeZone')").rows == [
                ["app one", "Asia/Tokyo"]]


@pytest.mark.parametrize("names", [b"SELECT current_setting('a.\xff', true)", "SET \"my.größe\" = '1'".encode(),
                                   "SELECT set_config('my.größe', '1', false)".encode()])
def test_a_name_that_another_encoding_does_not_have_ties_its_client_alone(start_proxy, names):
    """What the server is asked about every client must not fail for one."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as first, proxy.wire(client_encoding="EUC_JP") as second:
        first.send(message("Q", names + b"\0"))
        first.answer()
        tied = proxy.pool()["pinned"]
        for _ in range(5):
            second.query("SET work_mem = '5MB'")
            assert second.query("SHOW work_mem").value == "5MB"
        wait_until(lambda: proxy.pool()["pinned"] == tied and proxy.pool()["in_use"] == tied, "the second to be free")
        if tied:
            assert first.query("SELECT current_setting('my.größe')").value == "1"


def test_who_logs_in_after_alter_role_has_what_it_set(start_proxy, postgres):
    """A connection of one's own is a new login; ours were opened before."""
    proxy = start_proxy(automation={"size": 3, "max_overflow": 0, "timeout": 10})
    postgres.sql("ALTER ROLE proxy CREATEROLE")  # or it may not alter itself
    try:
        with proxy.wire() as client:
            for sql, expected in (("ALTER ROLE proxy SET work_mem = '23MB'", "23MB"),
                                  ("BEGIN; ALTER USER proxy RESET ALL; ALTER DATABASE app SET work_mem = '24MB'; COMMIT", "24MB"),
                                  ("ALTER DATABASE app RESET work_mem", "4MB")):
                assert not client.query(sql).errors
                others = [proxy.wire() for _ in range(3)]
                values = [other.query("BEGIN; SHOW work_mem").value for other in others]
                for other in others:
                    other.close()
                assert values == 3 * [expected], sql
    finally:
        postgres.sql("ALTER ROLE proxy NOCREATEROLE")


def test_alter_role_in_session_mode(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "mode": "session"})
    try:
        with proxy.wire() as client:
            assert not client.query(f"ALTER ROLE {ROLE} SET work_mem = '23MB'").errors
        with proxy.wire() as client:
            assert client.query("SHOW work_mem").value == "23MB"
    finally:
        postgres.sql(f"ALTER ROLE {ROLE} RESET work_mem")


def test_alter_role_that_is_refused_replaces_nothing(start_proxy):
    """Or whoever may change nothing could have everybody's connections replaced, again and again."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    with proxy.wire() as client:
        pid = client.query("SELECT pg_backend_pid()").value
        assert client.query("ALTER ROLE postgres SET work_mem = '23MB'").error.sqlstate == "42501"
        assert client.query("SELECT pg_backend_pid()").value == pid


def test_what_the_configuration_changes_is_reported_to_who_logs_in_afterwards(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": 10, "pre_ping_idle": "100ms"})
    try:
        with proxy.wire(DateStyle="German") as client:
            assert client.query("SHOW DateStyle").value == "German, DMY"
            postgres.sql("ALTER SYSTEM SET timezone = 'Asia/Tokyo'")
            postgres.sql("ALTER SYSTEM SET DateStyle = 'SQL, DMY'")
            postgres.sql("SELECT pg_reload_conf()")

            def is_told():
                with proxy.wire() as other:
                    return (other.parameters["TimeZone"], other.parameters["DateStyle"]) == ("Asia/Tokyo", "SQL, DMY")

            wait_until(is_told, "the next login's parameters")
            with proxy.wire() as other:
                assert other.query("SHOW TimeZone").value == "Asia/Tokyo"
    finally:
        postgres.sql("ALTER SYSTEM SET timezone = 'UTC'")
        postgres.sql("ALTER SYSTEM RESET DateStyle")
        postgres.sql("SELECT pg_reload_conf()")


DEFAULTS = ("client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings")
CHANGED = {"client_encoding": "LATIN1", "DateStyle": "German, DMY", "IntervalStyle": "iso_8601", "TimeZone": "Asia/Tokyo",
           "standard_conforming_strings": "off"}


def in_force(client):
    return {name: client.query(f"SHOW {name}").value for name in DEFAULTS}


def believed(client):
    return {name: client.parameters[name] for name in DEFAULTS}


@pytest.fixture
def changing_role(postgres):
    """ALTER ROLE ... SET, as one function; undone afterwards."""
    def change():
        for name, value in CHANGED.items():
            postgres.sql(f"ALTER ROLE {ROLE} SET {name} = '{value}'")
    yield change
    postgres.sql(f"ALTER ROLE {ROLE} RESET ALL")


def reconnect(proxy, postgres):
    old = postgres.backend_pids()
    proxy.admin("RECONNECT")
    wait_until(lambda: not old & postgres.backend_pids(), "every connection to be replaced")


@pytest.mark.parametrize("how", ["reconnect", "upgrade"])
def test_a_backend_that_begins_otherwise_is_what_its_client_was_told(start_proxy, postgres, changing_role, how):
    """The role's defaults change while clients are connected: they keep what they began with, as on a connection of their
    own, and who comes later begins with the new ones, on whichever backend."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    client, idle, paris = proxy.wire(), proxy.wire(), proxy.wire(TimeZone="Europe/Paris")
    assert in_force(client) == believed(client)
    changing_role()
    if how == "upgrade":
        proxy.upgrade()
    reconnect(proxy, postgres)
    newcomer = proxy.wire()
    assert believed(newcomer) == CHANGED
    for _ in range(2):
        for each in (client, newcomer, idle, paris):
            assert in_force(each) == believed(each)
    assert in_force(paris)["TimeZone"] == "Europe/Paris"
    answer = client.query("SET TimeZone = 'Asia/Seoul'")
    assert told(answer) == {b"TimeZone": b"Asia/Seoul"}
    assert newcomer.query("SHOW TimeZone").value == "Asia/Tokyo"
    assert told(client.query("RESET ALL")) == {b"TimeZone": client.parameters["TimeZone"].encode()}
    assert in_force(client) == believed(client)
    for each in (client, idle, paris, newcomer):
        each.close()


def test_a_session_begins_as_told_in_session_mode(start_proxy, postgres, changing_role):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "mode": "session"})
    with proxy.wire() as first:
        assert in_force(first) == believed(first)
    changing_role()
    reconnect(proxy, postgres)
    for parameters in ({}, {"TimeZone": "Europe/Paris"}, {}):
        with proxy.wire(**parameters) as client:
            assert in_force(client) == believed(client)


def test_defaults_that_change_in_a_running_session_are_told(start_proxy, postgres):
    """pg_reload_conf(): nobody is told one thing and gets another, whether a client's statement or a ping brings it up."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    clients = [proxy.wire(), proxy.wire(), proxy.wire(TimeZone="Europe/Paris")]
    try:
        for zone in ("Asia/Tokyo", "Asia/Seoul"):
            clients[2].query("SELECT 1")  # its own is in force there meanwhile
            postgres.sql(f"ALTER SYSTEM SET TimeZone = '{zone}'")
            postgres.sql("SELECT pg_reload_conf()")
            with postgres.superuser_connection() as looking, looking.cursor() as cursor:
                wait_until(lambda: cursor.execute("SELECT reset_val = %s FROM pg_settings WHERE name = 'TimeZone'", (zone,))
                           or cursor.fetchone()[0], "the server to have read it")
            for client in (*clients, clients[0]):
                answer = client.query("SHOW TimeZone")
                client.parameters.update({name.decode(): value.decode() for name, value in told(answer).items()})
                assert answer.value == client.parameters["TimeZone"]
            assert clients[2].parameters["TimeZone"] == "Europe/Paris"
            clients.append(proxy.wire())
            assert clients[-1].parameters["TimeZone"] == zone
    finally:
        postgres.sql("ALTER SYSTEM SET TimeZone = 'UTC'")
        postgres.sql("SELECT pg_reload_conf()")


@pytest.mark.parametrize("how", ["by code that is not looked into", "for its start-up packet"])
def test_what_was_set_for_who_has_gone_is_nobodys_default(start_proxy, how):
    """The server reports it when nobody is there: that is no change of what logins bring."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "hidden_state": "ignore"})
    with proxy.wire() as keeps, proxy.wire(TimeZone="Asia/Tokyo") as goes:
        keeps.query("CREATE OR REPLACE FUNCTION sets_zone() RETURNS void LANGUAGE plpgsql AS $$"
                    "BEGIN SET TimeZone = 'Asia/Seoul'; END$$")
        goes.send(query("SELECT sets_zone()" if "code" in how else "SELECT 1"), terminate())
        goes.until_closed()
        proxy.wait_pool(in_use=0)
        with proxy.wire() as other:
            assert other.parameters["TimeZone"] == "UTC"
            assert other.query("SHOW TimeZone").value == "UTC"
        keeps.query("DROP FUNCTION sets_zone")


def test_settings_too_long_to_travel_are_nobodys_default(start_proxy):
    """Of such a session not all is read: what its client was told of the rest is still its own."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0})
    long = {"local_preload_libraries": "repeat('y', 30000)", "search_path": "repeat('y', 30000)",
            "plpgsql.extra_warnings": "repeat('shadowed_variables,', 1300) || 'shadowed_variables'"}
    with proxy.wire() as client:
        assert not client.query("DO $$BEGIN END$$").errors  # which loads plpgsql and its settings
        for name, value in long.items():
            assert not client.query(f"SELECT set_config('{name}', {value}, false)").errors
        client.query("SET TimeZone = 'Asia/Seoul'")
        assert client.query("SHOW TimeZone").value == "Asia/Seoul"
        with proxy.wire() as other:
            assert other.parameters["TimeZone"] == "UTC"
            assert other.query("SHOW TimeZone").value == "UTC"


def test_what_was_still_to_be_restored_when_its_client_went(start_proxy, postgres):
    """A backend is not taken for what its client's settings say before they are in force again."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "hidden_state": "ignore"})
    with proxy.wire(TimeZone="Asia/Tokyo") as stays, proxy.wire(TimeZone="Asia/Tokyo") as goes, \
            closing(postgres.superuser_connection("app")) as blocking, blocking.cursor() as cursor:
        goes.query("CREATE OR REPLACE FUNCTION resets_zone() RETURNS void LANGUAGE plpgsql AS $$BEGIN RESET TimeZone; END$$")
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE pg_catalog.pg_settings IN ACCESS EXCLUSIVE MODE")  # so that our question has to wait
        assert not goes.query("SELECT resets_zone()").errors
        goes.send(query("SELECT pg_sleep(1)"))
        cursor.execute("ROLLBACK")
        wait_until(lambda: postgres.backends("query = 'SELECT pg_sleep(1)' AND state = 'active'"), "the next query to run")
        goes.close()
        assert stays.query("SHOW TimeZone").value == "Asia/Tokyo"
        stays.query("DROP FUNCTION resets_zone")


def test_the_last_clients_transaction_defaults_do_not_make_the_next_client_wait(start_proxy):
    """Serializable, read only, deferrable: such a transaction waits until no other is at work; nothing of ours may."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as writer, proxy.wire() as reader, proxy.wire(application_name="other") as other:
        writer.query("BEGIN ISOLATION LEVEL SERIALIZABLE")
        assert writer.query("UPDATE things SET name = name WHERE id = 1").tags == ["UPDATE 1"]
        assert reader.query("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY,"
                            " DEFERRABLE").tags == ["SET"]
        assert reader.query("SHOW transaction_isolation").value == "serializable"
        assert other.query("SELECT 1").value == "1"
        assert reader.query("SHOW transaction_deferrable").value == "on"
        writer.query("ROLLBACK")


RESETS = ["RESET work_mem", "SET work_mem TO DEFAULT", "RESET TimeZone", "SET LOCAL TimeZone TO DEFAULT", "RESET ALL"]


@pytest.mark.parametrize("reset", RESETS)
def test_a_reset_in_a_transaction_takes_no_snapshot(start_proxy, postgres, reset):
    """So the transaction's level may still be set behind it, and what others commit meanwhile is seen."""
    parameters = {"TimeZone": "Asia/Tokyo", "application_name": "app one", "options": "-c my.own=1"}
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0})
    for client in (Wire(postgres.port).login(ROLE, PASSWORD, "app", **parameters), proxy.wire(**parameters)):
        with client, proxy.wire() as other:
            for statement in ("SET TimeZone = 'UTC'", "BEGIN", reset, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"):
                assert not client.query(statement).errors, statement
            assert client.query("SHOW TimeZone").value == ("UTC" if "work_mem" in reset else "Asia/Tokyo")
            assert client.query("ROLLBACK; SHOW TimeZone").value == "UTC"
            for statement in ("BEGIN ISOLATION LEVEL REPEATABLE READ", reset):
                assert not client.query(statement).errors, statement
            assert other.query("UPDATE things SET name = 'new' WHERE id = 2").tags == ["UPDATE 1"]
            assert client.query("SELECT name FROM things WHERE id = 2").value == "new"
            client.query("ROLLBACK")
            other.query("UPDATE things SET name = 'thing 2' WHERE id = 2")


@pytest.mark.parametrize("write", ["INSERT INTO things VALUES (5000, '')", "MERGE INTO things USING (SELECT 1) AS o ON true"
                                   " WHEN NOT MATCHED THEN DO NOTHING"])
def test_a_write_behind_a_reset_in_one_batch_does_not_put_its_restoring_off(start_proxy, write):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    with proxy.wire(TimeZone="Asia/Tokyo") as client:
        client.query("BEGIN")
        assert not client.ask(extended("RESET TimeZone"), extended(write)).errors
        assert client.query("SHOW TimeZone").value == "Asia/Tokyo"
        client.query("ROLLBACK")


def test_a_setting_of_a_modules_name_that_it_does_not_know_ends_nobodys_session(start_proxy):
    """It is taken where PL/pgSQL has not been loaded yet, and refused where it has."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0})
    with proxy.wire() as client, proxy.wire() as holder, proxy.wire() as other:
        assert client.query("SET plpgsql.foo = '1'; SET plpgsql.bar = '2'; SET work_mem = '7MB'").tags == ["SET"] * 3
        assert holder.query("BEGIN; DO $$BEGIN END$$").tags == ["BEGIN", "DO"]
        assert other.query("BEGIN").tags == ["BEGIN"]  # has the one that knows nothing of it
        assert holder.query("COMMIT").tags == ["COMMIT"]
        for _ in range(2):
            assert client.query("SHOW work_mem").value == "7MB"
            assert holder.query("SHOW work_mem").value == "4MB"
        other.query("ROLLBACK")
