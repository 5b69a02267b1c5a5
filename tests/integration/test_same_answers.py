"""Sessions of one client that no random session says, each by what it does: the same answers as on a connection of its own.

Every case is played on a connection of its own and through a pool of three backends.  Between two transactions of the
client two strangers change places: one begins a transaction on a free backend and leaves settings there, the other
commits its own.  So the client meets another backend, and one with other settings, whenever it may.
"""

import itertools

import pytest

from scripts import Step, batch, in_order, normalized, prepare_server, q, wire_to, x
from server import PASSWORD, ROLE
from wire import bind, close, describe, execute, extended, parse, sync

LONG = "n" * 63
ONE, PLUS = "SELECT 1", "SELECT $1::int + 1"


def prepared(name, sql):
    return batch(f"prepare {name!r}", parse(name, sql))


def run(name, *values):
    return batch(f"run {name!r}", bind("", name, values) + describe("P") + execute())


def deallocated(name, sql):
    return [prepared(name, ONE), run(name), q(sql), run(name)]


STATEMENTS = {
    "DEALLOCATE of a name that is not ASCII": deallocated("mü", "DEALLOCATE mü"),
    "DEALLOCATE of a name with a dollar": deallocated("a$1", "DEALLOCATE a$1"),
    "DEALLOCATE of a name with a quote": deallocated('a"1', 'DEALLOCATE "a""1"'),
    "DEALLOCATE of a name with escapes": deallocated("a", 'DEALLOCATE U&"\\0061"'),
    "DEALLOCATE behind a comment": deallocated("a", "/* bye */ DEALLOCATE a"),
    "DEALLOCATE before a comment": deallocated("a", "DEALLOCATE a -- bye"),
    "DEALLOCATE among others": deallocated("a", "SELECT 1; DEALLOCATE a; SELECT 2"),
    "DEALLOCATE of two": [prepared("a", ONE), prepared("b", PLUS), q("DEALLOCATE a; DEALLOCATE b"), run("a"), run("b", 1)],
    "DEALLOCATE in a long text": deallocated("a", "DEALLOCATE a" + " " * 400),
    "DEALLOCATE that is only prepared": [
        prepared("a", ONE), batch("parse", parse("", "DEALLOCATE a") + describe("S", "")), run("a"),
        batch("parse", parse("", "DEALLOCATE a") + describe("S", "")), run(""), run("a"), run("")],
    "DEALLOCATE that is run twice": [
        prepared("a", ONE), batch("twice", parse("", "DEALLOCATE a") + (bind() + execute()) * 2), run("a")],
    "DEALLOCATE that is prepared before its statement": [
        batch("parse", parse("", "DEALLOCATE a") + parse("a", ONE)), run(""), run("a")],
    "DEALLOCATE that is run by a pipeline": [
        prepared("a", ONE), batch("pipeline", extended(ONE) + extended("DEALLOCATE a") + extended(ONE)), run("a")],
    "DEALLOCATE of prepare": deallocated("prepare", "DEALLOCATE prepare"),
    "DEALLOCATE of prepare among others": deallocated("prepare", "SELECT 1; DEALLOCATE Prepare; SELECT 2"),
    "DEALLOCATE PREPARE of prepare": deallocated("prepare", "DEALLOCATE PREPARE prepare"),
    "a name that is cut is told once": [prepared("a", "SELECT 1 AS " + "n" * 70), run("a"), run("a")],
    "DEALLOCATE that is a statement itself": [prepared("a", ONE), prepared("d", "DEALLOCATE a"), run("d"), run("a"), run("d")],
    "EXECUTE": [prepared("a", PLUS), q("EXECUTE a(1)"), x("EXECUTE a(2)"), run("a", 3), q("DEALLOCATE a"), q("EXECUTE a(4)")],
    "EXECUTE in EXPLAIN": [prepared("a", PLUS), q("EXPLAIN (COSTS off) EXECUTE a(1)")],
    "EXECUTE in CREATE TABLE": [
        prepared("a", PLUS), q("CREATE TEMP TABLE made AS EXECUTE a(5)"), q("SELECT * FROM made"), q("DROP TABLE made")],
    "EXECUTE in a statement beside an unnamed one": [
        prepared("a", ONE), x(PLUS, "1"), prepared("b", "EXECUTE a"), run("", "2"), run("b")],
    "EXECUTE in a transaction": [q("BEGIN"), prepared("a", PLUS), q("EXECUTE a(1)"), q("COMMIT"), q("EXECUTE a(2)")],
    "a look at pg_prepared_statements": [prepared("a", PLUS), q("SELECT name, statement FROM pg_prepared_statements")],
    "PREPARE of a name that the protocol has": [prepared("a", "SELECT 2"), q("PREPARE a AS SELECT 1"), q("EXECUTE a"), run("a")],
    "Parse of a name that SQL has": [
        q("PREPARE a AS SELECT 1"), prepared("a", "SELECT 2"), run("a"), prepared("b", "SELECT 3"), run("b"),
        q("DEALLOCATE a"), prepared("a", "SELECT 2"), run("a"), run("b")],
    "Parse of a name that has a statement too long to be shared": [
        prepared("a", "SELECT 1 /*" + "x" * 40000 + "*/"), prepared("a", "SELECT 2"), run("a"),
        batch("close", close("S", "a")), prepared("a", "SELECT 2"), run("a")],
    "a Close of the unnamed statement that is skipped in a pipeline": [
        x(ONE), Step(bind("", "missing") + describe("S", "") + close("S", "") + sync() + parse("a", ONE)
                     + describe("S", "") + bind() + execute() + sync(), 2, "pipeline"), run("")],
    "names that are one where the server cuts them": [
        prepared(LONG + "1", ONE), run(LONG + "2"), batch("close", close("S", LONG + "3")), run(LONG), prepared(LONG + "4", ONE)],
}


ZONE = q("SELECT current_setting('TimeZone')")
SETTINGS = {
    "SET LOCAL TO DEFAULT": [q("BEGIN"), q("SET LOCAL TimeZone TO DEFAULT"), ZONE, q("COMMIT"), ZONE],
    "SET LOCAL TO DEFAULT over SET": [
        q("SET TimeZone = 'Europe/Rome'"), q("BEGIN"), x("SET LOCAL TimeZone TO DEFAULT"), ZONE, q("COMMIT"), ZONE],
    "SET LOCAL TIME ZONE LOCAL": [
        q("SET TimeZone = 'Europe/Rome'"), q("BEGIN"), q("SAVEPOINT a"), q("SET LOCAL TIME ZONE LOCAL"), ZONE,
        q("ROLLBACK TO a"), ZONE, q("COMMIT"), ZONE],
    "SET LOCAL TO DEFAULT outside of a transaction": [q("SET LOCAL TimeZone TO DEFAULT"), ZONE],
    "SET LOCAL TO DEFAULT beside RESET": [
        q("SET TimeZone = 'Europe/Rome'"), q("BEGIN; SET LOCAL TimeZone TO DEFAULT; RESET work_mem"), ZONE, q("ROLLBACK"), ZONE],
}
START = {"TimeZone": "Asia/Tokyo", "options": "-c work_mem=7MB"}


class Strangers:
    """Whoever else uses the pool."""

    SETTINGS = ("TimeZone = 'Asia/Kolkata'", "DateStyle = 'SQL, DMY'", "work_mem = '66MB'", "search_path = pg_catalog",
                "standard_conforming_strings = off", "bytea_output = escape", "my.c = 'a stranger''s'")

    def __init__(self, proxy):
        self.here, self.there = proxy.wire(), proxy.wire()
        self.settings = itertools.cycle(self.SETTINGS)
        self.there.query("BEGIN")

    def change_places(self):
        assert not self.here.query("BEGIN").errors
        for setting in itertools.islice(self.settings, 3):
            self.here.query(f"SET {setting}")
        self.here.ask(parse("", f"SELECT '{next(self.settings)[:5]}'"))
        self.there.query("COMMIT")
        self.here, self.there = self.there, self.here

    def close(self):
        self.here.close()
        self.there.close()


def played(wire, steps, before_each):
    answers = [sorted(wire.parameters.items())]
    for step in steps:
        if not answers[1:] or answers[-1][1][-1] == ("Z", b"I"):
            before_each()
        wire.send(step.say)
        messages = [normalized(m) for _ in range(step.readies) for m in wire.until("Z")]
        answers.append((step.note, in_order(messages)))
    wire.close()
    return answers


@pytest.fixture
def assert_same(start_proxy, postgres):
    prepare_server(postgres)
    proxy = start_proxy(automation={"size": 3, "max_overflow": 0, "timeout": 5})

    def check(steps, **parameters):
        own = played(wire_to(postgres.port, ROLE, PASSWORD, parameters), steps, lambda: None)
        strangers = Strangers(proxy)
        shared = played(wire_to(proxy.port(), ROLE, PASSWORD, parameters), steps, strangers.change_places)
        strangers.close()
        for before, now in zip(own, shared):
            assert now == before

    return check


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements_of_the_protocol_in_sql(assert_same, name):
    assert_same(STATEMENTS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_start_up_packet(assert_same, name):
    assert_same(SETTINGS[name], **START)


@pytest.mark.parametrize("sql", ["/* from a driver */ DEALLOCATE a", "DEALLOCATE /* a */ PREPARE a -- bye", "DEALLOCATE a;; -- bye"])
def test_a_plain_deallocate_ties_no_backend(start_proxy, sql):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as client, proxy.wire() as other:
        client.ask(parse("a", ONE))
        assert not client.query(sql).errors
        assert other.query("SELECT 'free'").value == "free"
        assert client.ask(bind("", "a")).error.sqlstate == "26000"


@pytest.mark.parametrize("begin", [None, "BEGIN"])
def test_a_statement_whose_table_is_gone_takes_no_other_with_it(start_proxy, begin):
    """What looks at the client's statements has them prepared under its names: not all of them can be any more."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    with proxy.wire() as client, proxy.wire() as other:
        other.query("BEGIN; CREATE SCHEMA looks; CREATE TABLE looks.gone (a int); COMMIT")
        assert not client.ask(parse("a", "SELECT * FROM looks.gone"), parse("b", "SELECT 2"), parse("c", "SELECT 3")).errors
        other.query("DROP SCHEMA looks CASCADE")
        if begin:
            client.query(begin)
        look = client.query("SELECT name FROM pg_prepared_statements ORDER BY name")
        assert [name for name, in look.rows][-2:] == ["b", "c"]
        assert look.state == ("T" if begin else "I")
        for name, value in (("b", "2"), ("c", "3")):
            assert client.ask(bind("", name), execute()).value == value


def test_what_code_has_reset_goes_back_to_the_start_up_packet(start_proxy):
    """The server knows it first when it is asked, so one statement more may still find its own defaults."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    for reset in ("RESET TimeZone", "SET TimeZone TO DEFAULT", "RESET ALL"):
        for tie in ("SELECT 1", "LISTEN a"):
            with proxy.wire(**START) as client:
                client.query(tie)
                client.query("SET TimeZone = 'Europe/Rome'")
                assert not client.query(f"DO $$BEGIN {reset}; END$$").errors
                client.query("SELECT 1")
                assert client.query(ZONE.note).value == "Asia/Tokyo"
                assert client.query("SHOW work_mem").value == "7MB"
