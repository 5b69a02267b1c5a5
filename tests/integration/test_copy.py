"""COPY in and out, simple and extended, and every way in which it can fail half-way.

A user would lose: bulk loads, dumps, and a connection that still works after a COPY that went wrong.
"""

import io

import pytest

import wire
from wire import bind, copy_data, copy_done, copy_fail, execute, extended, parse, query, sync

TARGET = "CREATE TEMP TABLE target (id int, word text)"


@pytest.fixture
def client(any_mode_proxy):
    with any_mode_proxy.wire() as connection:
        assert not connection.query(TARGET).errors
        yield connection


def start_copy_in(client):
    client.send(query("COPY target FROM STDIN"))
    assert [m.kind for m in client.until("G")] == ["G"]


def count(client):
    return client.query("SELECT count(*) FROM target").value


def test_copy_out_gives_every_row(client):
    answer = client.query("COPY (SELECT n, 'w' || n FROM generate_series(1, 1000) n) TO STDOUT")
    lines = [m.body for m in answer.messages if m.kind == "d"]
    assert lines == [f"{n}\tw{n}\n".encode() for n in range(1, 1001)]
    assert answer.kinds == "H" + "d" * 1000 + "cCZ" and answer.tags == ["COPY 1000"]


def test_copy_in_takes_every_row(client):
    start_copy_in(client)
    client.send(b"".join(copy_data(f"{n}\tw{n}\n".encode()) for n in range(1000)), copy_done())
    assert client.answer().tags == ["COPY 1000"]
    assert count(client) == "1000"


def test_copy_in_with_rows_cut_across_messages(client):
    start_copy_in(client)
    rows = b"".join(b"%d\tword\n" % n for n in range(500))
    for at in range(0, len(rows), 7):
        client.send(copy_data(rows[at:at + 7]))
    client.send(copy_done())
    assert client.answer().tags == ["COPY 500"]


def test_copy_in_of_nothing(client):
    start_copy_in(client)
    client.send(copy_done())
    assert client.answer().tags == ["COPY 0"]


def test_copy_in_given_up_by_the_client(client):
    start_copy_in(client)
    client.send(copy_data(b"1\tx\n"), copy_fail("changed my mind"))
    answer = client.answer()
    assert answer.error.sqlstate == "57014" and "changed my mind" in answer.error.message
    assert count(client) == "0"


def test_copy_in_refused_by_the_server_half_way(client):
    start_copy_in(client)
    client.send(copy_data(b"not a number\tx\n"))
    for n in range(2000):
        client.send(copy_data(b"%d\tstill sending\n" % n))
    client.send(copy_done())
    answer = client.answer()
    assert answer.kinds == "EZ" and answer.error.sqlstate == "22P02"
    assert count(client) == "0"


def test_copy_in_refused_and_query_already_behind_it(client):
    client.send(query("COPY target FROM STDIN"), copy_data(b"bad\tx\n"), copy_done(),
                query("SELECT 'next'"))
    first, second = client.answer(), client.answer()
    assert first.error.sqlstate == "22P02"
    assert second.value == "next"


def test_copy_that_fails_at_once_and_data_already_behind_it(client):
    client.send(query("COPY no_such_table FROM STDIN"), copy_data(b"1\tx\n"), copy_done(),
                query("SELECT 'next'"))
    assert client.answer().error.sqlstate == "42P01"
    assert client.answer().value == "next"


def test_copy_in_extended(client):
    client.send(parse("", "COPY target FROM STDIN"), bind(), execute(), wire.flush())
    client.until("G")
    client.send(copy_data(b"1\ta\n"), copy_data(b"2\tb\n"), copy_done(), sync())
    answer = client.answer()
    assert answer.kinds == "CZ" and answer.tags == ["COPY 2"]
    assert count(client) == "2"


def test_copy_in_extended_with_sync_before_the_data(client):
    """libpq's way: Parse, Bind, Execute, Sync in one go; the server ignores the Sync during COPY."""
    client.send(extended("COPY target FROM STDIN"), sync())
    client.until("G")
    client.send(copy_data(b"1\ta\n"), copy_done(), sync())
    assert client.answer().tags == ["COPY 1"]
    assert count(client) == "1"


def test_copy_in_extended_refused_half_way(client):
    client.send(extended("COPY target FROM STDIN"), sync())
    client.until("G")
    client.send(copy_data(b"bad\ta\n"))
    for n in range(500):
        client.send(copy_data(b"%d\tmore\n" % n))
    client.send(copy_done(), sync())
    answer = client.answer()
    assert answer.error.sqlstate == "22P02" and answer.kinds[-2:] == "EZ"
    assert client.query("SELECT 'fine'").value == "fine"


def test_copy_in_extended_given_up(client):
    client.send(extended("COPY target FROM STDIN"), sync())
    client.until("G")
    client.send(copy_fail("no"), sync())
    assert client.answer().error.sqlstate == "57014"
    assert count(client) == "0"


def test_copy_out_extended(client):
    answer = client.ask(extended("COPY (SELECT generate_series(1, 3)) TO STDOUT"))
    assert [m.body for m in answer.messages if m.kind == "d"] == [b"1\n", b"2\n", b"3\n"]


def test_copy_out_that_fails_half_way(client):
    answer = client.query("COPY (SELECT 1/(1000-n) FROM generate_series(1, 2000) n) TO STDOUT")
    assert answer.error.sqlstate == "22012" and answer.state == "I"
    assert client.query("SELECT 1").value == "1"


def test_two_copies_in_one_query(client):
    client.send(query("COPY target FROM STDIN; COPY target FROM STDIN; SELECT 'end'"))
    for row in (b"1\ta\n", b"2\tb\n"):
        client.until("G")
        client.send(copy_data(row), copy_done())
    answer = client.answer()
    assert answer.rows == [["end"]]
    assert count(client) == "2"


def test_copy_binary_there_and_back(any_mode_proxy):
    connection = any_mode_proxy.connect()
    with connection.cursor() as cursor:
        first = io.BytesIO()
        cursor.copy_expert("COPY (SELECT id, name FROM things) TO STDOUT (FORMAT binary)", first)
        cursor.execute(TARGET)
        first.seek(0)
        cursor.copy_expert("COPY target FROM STDIN (FORMAT binary)", first)
        cursor.execute("SELECT count(*) FROM target JOIN things USING (id)")
        assert cursor.fetchone()[0] == 1000


def test_copy_that_fails_in_the_middle_of_a_message_gives_its_backend_up(start_proxy):
    """The error comes while a long CopyData is half sent: when its rest has gone, nothing keeps the backend."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    rows = copy_data(b"1\n" * 30000)
    for end in (copy_done(), b"", copy_fail("no")):
        with proxy.wire() as loader, proxy.wire() as other:
            loader.send(query("COPY things FROM STDIN"))
            loader.until("G")
            loader.send(copy_data(b"bad\n") + rows[:1000])
            assert loader.answer().error.sqlstate == "22P02"
            loader.send(rows[1000:] + end)
            assert other.query("SELECT 1").value == "1"
            assert loader.query("SELECT count(*) FROM things").value == "1000"


def test_psql_copy_meta_command(any_mode_proxy, tmp_path):
    file = tmp_path / "things"
    assert any_mode_proxy.psql("-c", f"\\copy things TO '{file}'").returncode == 0
    assert len(file.read_text().splitlines()) == 1000
    done = any_mode_proxy.psql("-c", "CREATE TEMP TABLE t (LIKE things)",
                               "-c", f"\\copy t FROM '{file}'", "-c", "SELECT count(*) FROM t", "-At")
    assert done.stdout.split()[-1] == "1000", done
