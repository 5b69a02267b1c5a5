"""Whatever the protocol allows on one connection works through the proxy, in every mode.

A user would lose: a query kind, a result's exactness, a driver that pipelines.
"""

import psycopg2
import pytest

import wire
from wire import bind, close, describe, execute, extended, flush, function_call, parse, query, sync


@pytest.fixture
def client(any_mode_proxy):
    with any_mode_proxy.wire() as connection:
        yield connection


@pytest.fixture
def transaction_client(start_proxy, request):
    """For what a statement-mode pool does not allow: more than one statement a transaction."""
    with start_proxy(automation={"mode": request.param}).wire() as connection:
        yield connection


two_modes = pytest.mark.parametrize("transaction_client", ["session", "transaction"], indirect=True)


def test_simple_query_gives_its_rows_and_tag(client):
    answer = client.query("SELECT id, name FROM things WHERE id <= 2 ORDER BY id")
    assert answer.columns == ["id", "name"]
    assert answer.rows == [["1", "thing 1"], ["2", "thing 2"]]
    assert answer.tags == ["SELECT 2"]
    assert answer.kinds == "TDDCZ" and answer.state == "I"


def test_null_and_empty_values_stay_apart(client):
    assert client.query("SELECT NULL, '', 'ü'").rows == [[None, "", "ü"]]


def test_several_statements_in_one_query(client):
    answer = client.query("SELECT 1; SELECT 2; SELECT 3")
    assert answer.rows == [["1"], ["2"], ["3"]]
    assert answer.kinds == "TDC" * 3 + "Z"


def test_empty_query(client):
    assert client.query("").kinds == "IZ"
    assert client.query(" ; -- nothing").kinds == "IZ"


def test_error_keeps_the_connection(client):
    error = client.query("SELECT 1/0").error
    assert (error.severity, error.sqlstate) == ("ERROR", "22012")
    assert client.query("SELECT 7").value == "7"


def test_error_stops_the_rest_of_a_multi_statement_query(client):
    answer = client.query("SELECT 1; SELECT 1/0; SELECT 3")
    assert answer.rows == [["1"]] and answer.error.sqlstate == "22012"


def test_extended_query_with_parameters(client):
    answer = client.ask(extended("SELECT $1::int + $2::int", (40, 2)))
    assert answer.rows == [["42"]] and answer.kinds == "12TDCZ"


def test_named_statement_lives_on_over_syncs(client):
    assert client.ask(parse("mine", "SELECT $1::text || '!'")).kinds == "1Z"
    for word in ("a", "b", "c"):
        answer = client.ask(bind("", "mine", (word,)), execute())
        assert answer.rows == [[word + "!"]]
    assert client.ask(close("S", "mine")).kinds == "3Z"
    assert client.ask(bind("", "mine", ("x",)), execute()).error.sqlstate == "26000"


def test_describe_statement_gives_parameters_and_columns(client):
    answer = client.ask(parse("d", "SELECT $1::int AS one, $2::text AS two"), describe("S", "d"))
    assert answer.kinds == "1tTZ" and answer.columns == ["one", "two"]


def test_describe_of_a_statement_without_rows(client):
    assert client.ask(parse("", "CREATE TEMP TABLE t (a int)"), describe("S")).kinds == "1tnZ"


def test_many_syncs_on_the_way_are_answered_in_order(client):
    client.send(b"".join(extended("SELECT $1::int", (n,)) + sync() for n in range(200)))
    for n in range(200):
        answer = client.answer()
        assert answer.rows == [[str(n)]]


def test_many_simple_queries_on_the_way_are_answered_in_order(client):
    client.send(b"".join(query(f"SELECT {n}") for n in range(200)))
    assert [client.answer().value for _ in range(200)] == [str(n) for n in range(200)]


def test_pipeline_of_several_statements_in_one_sync(client):
    answer = client.ask(extended("SELECT 1"), extended("SELECT 2"), extended("SELECT 3"))
    assert answer.rows == [["1"], ["2"], ["3"]]


def test_error_in_mid_pipeline_skips_to_its_sync_only(client):
    client.send(extended("SELECT 1"), extended("SELECT 1/0"), extended("SELECT 2"), sync(),
                extended("SELECT 3"), sync())
    first, second = client.answer(), client.answer()
    assert first.rows == [["1"]] and first.error.sqlstate == "22012"
    assert second.rows == [["3"]] and not second.errors


def test_error_in_parse_skips_to_sync(client):
    answer = client.ask(extended("SELEKT 1"))
    assert answer.kinds == "EZ" and answer.error.sqlstate == "42601"
    assert client.query("SELECT 1").value == "1"


def test_flush_brings_answers_without_sync(client):
    client.send(parse("", "SELECT 5"), bind(), describe("P"), flush())
    assert [m.kind for m in client.until("T")] == ["1", "2", "T"]
    client.send(execute(), flush())
    assert wire.data_row(client.until("C")[0].body) == ["5"]
    client.send(sync())
    assert client.answer().kinds == "Z"


@two_modes
def test_portal_is_fetched_in_parts(transaction_client):
    client = transaction_client
    client.send(parse("", "SELECT generate_series(1, 5)"), bind("p"), execute("p", 2), flush())
    assert [m.kind for m in client.until("s")] == ["1", "2", "D", "D", "s"]
    client.send(execute("p", 2), flush())
    assert [m.kind for m in client.until("s")] == ["D", "D", "s"]
    client.send(execute("p", 2), sync())
    assert client.answer().rows == [["5"]]


@two_modes
def test_transaction_state_is_shown(transaction_client):
    client = transaction_client
    assert client.query("BEGIN").state == "T"
    assert client.query("SELECT 1/0").state == "E"
    assert client.query("SELECT 1").error.sqlstate == "25P02"
    assert client.query("ROLLBACK").state == "I"


@two_modes
def test_transaction_stays_on_one_backend_and_commits(transaction_client):
    client = transaction_client
    client.query("BEGIN")
    pids = {client.query("SELECT pg_backend_pid()").value for _ in range(5)}
    assert len(pids) == 1
    client.query("UPDATE things SET name = 'changed' WHERE id = 500")
    assert client.query("COMMIT").tags == ["COMMIT"]
    assert client.query("SELECT name FROM things WHERE id = 500").value == "changed"
    client.query("UPDATE things SET name = 'thing 500' WHERE id = 500")


@two_modes
def test_portal_lives_over_syncs_in_a_transaction(transaction_client):
    client = transaction_client
    client.query("BEGIN")
    client.ask(parse("", "SELECT generate_series(1, 3)"), bind("kept"), execute("kept", 1))
    assert client.ask(execute("kept", 1)).rows == [["2"]]
    assert client.query("COMMIT").state == "I"


@two_modes
def test_sql_cursor_in_a_transaction(transaction_client):
    client = transaction_client
    client.query("BEGIN")
    client.query("DECLARE c CURSOR FOR SELECT generate_series(1, 10)")
    assert client.query("FETCH 3 FROM c").rows == [["1"], ["2"], ["3"]]
    assert client.query("FETCH 1 FROM c").rows == [["4"]]
    client.query("COMMIT")


@two_modes
def test_savepoints(transaction_client):
    client = transaction_client
    client.query("BEGIN")
    client.query("SAVEPOINT s")
    assert client.query("SELECT 1/0").state == "E"
    assert client.query("ROLLBACK TO s").state == "T"
    assert client.query("SELECT 1").value == "1"
    client.query("COMMIT")


def test_function_call(client, postgres):
    oid = postgres.sql("SELECT 'pg_catalog.int4pl(int,int)'::regprocedure::oid")[0][0]
    client.send(function_call(oid, [40, 2]))
    answer = client.answer()
    assert answer.kinds == "VZ" and answer.messages[0].body[4:] == b"42"
    client.send(function_call(1, []))
    assert client.answer().errors
    assert client.query("SELECT 1").value == "1"


def test_notices_arrive_in_their_place(client):
    answer = client.query("DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'w'; END $$")
    assert [n["M"] for n in answer.notices] == ["hello 1", "w"]
    assert answer.kinds == "NNCZ"


def test_notification_reaches_an_idle_listener(any_mode_proxy):
    with any_mode_proxy.wire() as listener, any_mode_proxy.wire() as teller:
        assert listener.query("LISTEN news").tags == ["LISTEN"]
        teller.query("NOTIFY news, 'it rains'")
        received = listener.receive()
        assert received.kind == "A" and received.body[4:] == b"news\0it rains\0"
        assert listener.query("UNLISTEN news").tags == ["UNLISTEN"]


def test_listener_hears_itself_with_its_answer(client):
    client.query("LISTEN self")
    answer = client.query("NOTIFY self, 'me'")
    assert "A" in answer.kinds


def test_parameter_status_reaches_the_client(any_mode_proxy):
    with any_mode_proxy.wire() as client:
        for name in ("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone",
                     "integer_datetimes", "standard_conforming_strings", "is_superuser"):
            assert name in client.parameters, name
        assert client.parameters["server_version"].startswith("15.")
        answer = client.query("SET DateStyle TO 'German'")
        assert answer.kinds.replace("S", "", 1) == "CZ"
        assert client.query("SHOW DateStyle").value.startswith("German")


def test_binary_results_pass_unchanged(any_mode_proxy):
    connection = any_mode_proxy.connect()
    with connection.cursor() as cursor:
        every_byte = bytes(range(256)) * 40
        cursor.execute("SELECT %s", (psycopg2.Binary(every_byte),))
        assert bytes(cursor.fetchone()[0]) == every_byte


def test_many_rows_arrive_complete(any_mode_proxy):
    with any_mode_proxy.connect().cursor() as cursor:
        cursor.execute("SELECT n, repeat('x', n % 100) FROM generate_series(1, 50000) n")
        rows = cursor.fetchall()
    assert len(rows) == 50000
    assert all(len(text) == n % 100 for n, text in rows)


def test_statement_text_of_several_megabytes(client):
    value = "y" * 5_000_000
    assert client.query(f"SELECT length('{value}')").value == "5000000"
    assert client.ask(extended("SELECT length($1)", (value,))).value == "5000000"


def test_bytes_that_come_one_by_one(client):
    for byte in query("SELECT 'slow'"):
        client.send(bytes([byte]))
    assert client.answer().value == "slow"


def test_statement_mode_refuses_transactions(start_proxy):
    proxy = start_proxy(automation={"mode": "statement", "size": 1, "max_overflow": 0})
    with proxy.wire() as client:
        client.send(query("BEGIN"))
        error = wire.ErrorResponse(wire.error_fields(client.until("E")[-1].body))
        assert "transaction" in error.message
    with proxy.wire() as other:
        assert other.query("SELECT 1").value == "1"
