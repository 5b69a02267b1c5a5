"""Random sessions, and how to play them: on a shared pool and on connections of their own.

A script is what one client does: segments, each a few steps.  A step is the bytes that are sent and how many
ReadyForQuery end its answer.  Segments marked `holds` keep a backend for good reason (a transaction, a
temporary table, LISTEN ...); while one runs, another client may need a backend, so only as many hold at once as
leave one free.  When a segment is over, the proxy must find out by itself that the backend is free again.

Clients do not meet: each has its own table, channel, lock and names, so that a script has one right answer.
"""

import itertools
import struct
from dataclasses import dataclass, field

from hypothesis import strategies as st

from wire import (Wire, bind, close, copy_data, copy_done, copy_fail, describe, execute, extended, message,
                  parse, query, sync)

CLIENTS = 8
NAMES = ("work_mem", "TimeZone", "DateStyle", "search_path", "application_name", "statement_timeout",
         "IntervalStyle", "extra_float_digits", "bytea_output", "default_transaction_isolation", "lc_monetary",
         "client_min_messages")
VALUES = {
    "work_mem": ("'5MB'", "'7777kB'", "6000"),
    "TimeZone": ("'Asia/Tokyo'", "'UTC'", "'America/New_York'", "'<+02>-02'"),
    "DateStyle": ("'German'", "'ISO, DMY'", "sql, mdy"),
    "search_path": ("w", "w, public", "''", "'$user', public", '"odd name", w'),
    "application_name": ("'one'", "'it''s two'", "''"),
    "statement_timeout": ("'1h'", "0", "'7min'"),
    "IntervalStyle": ("iso_8601", "'postgres_verbose'"),
    "extra_float_digits": ("0", "3", "'-2'"),
    "bytea_output": ("'escape'", "hex"),
    "default_transaction_isolation": ("'serializable'", "'repeatable read'"),
    "lc_monetary": ("'C'",),
    "client_min_messages": ("'debug1'", "warning"),
}


@dataclass
class Step:
    say: bytes
    readies: int = 1
    note: str = ""

    def __repr__(self):
        return self.note


@dataclass
class Segment:
    steps: list
    holds: bool = False
    for_good: bool = False  # the backend stays with the client to the end

    def __repr__(self):
        return ("holds" if self.holds else "") + repr(self.steps)


@dataclass
class Script:
    parameters: dict
    segments: list = field(default_factory=list)

    def __repr__(self):
        return f"\n  {self.parameters} {self.segments}"


def q(sql):
    return Step(query(sql), note=sql)


def batch(note, *messages):
    return Step(b"".join(messages) + sync(), note=note)


def x(sql, *values):
    return batch(f"extended {sql} {values}", extended(sql, values))


# -- what a client may do, by its number ----------------------------------------------------------------


def setting():
    return st.sampled_from(NAMES).flatmap(
        lambda name: st.sampled_from(VALUES[name]).map(lambda value: (name, value)))


def set_statement(pair, how):
    name, value = pair
    literal = value if value.startswith("'") and value.count("'") == 2 else None
    if how == "config" and literal:
        return f"SELECT set_config('{name}', {literal}, false)"
    if how == "do" and literal:
        return f"DO $$ BEGIN PERFORM set_config('{name}', {literal}, false); END $$"
    if how == "zone" and name == "TimeZone":
        return f"SET TIME ZONE {value}"
    if how == "session":
        return f"SET SESSION {name} = {value}"
    if how == "local":
        return f"SET LOCAL {name} = {value}"
    return f"SET {name} TO {value}"


sets = st.builds(set_statement, setting(), st.sampled_from(("set", "set", "config", "do", "zone", "session", "local")))
resets = st.sampled_from([f"RESET {name}" for name in NAMES] + [f"SET {name} TO DEFAULT" for name in NAMES]
                         + ["RESET ALL", "RESET ALL", "DISCARD ALL", "DISCARD PLANS", "SET TIME ZONE LOCAL"])
shows = st.sampled_from([f"SHOW {name}" for name in NAMES] + [f"SELECT current_setting('{NAMES[0]}')"])


def customs(k):
    return st.sampled_from([
        f"SET my.c{k} = 'a'", f"SET my.c{k} TO 'b'", f"SELECT set_config('my.c{k}', 'c', false)",
        f"RESET my.c{k}", f"SELECT NULLIF(current_setting('my.c{k}', true), '')",
        f"SELECT NULLIF(current_setting('my.c{(k + 1) % CLIENTS}', true), '')",
        f"SELECT set_config('my.c{k}', 'd', true)",
    ])


def plain(k):
    return st.sampled_from([
        "SELECT 1", "SELECT 1; SELECT 2", "", ";", "SELEKT", "SELECT 1/0", "SELECT now() IS NOT NULL",
        f"INSERT INTO w.t{k} VALUES (1, 'x')", f"SELECT * FROM w.t{k}", f"UPDATE w.t{k} SET b = 'y'",
        f"DELETE FROM w.t{k}", "SELECT timestamptz '2026-01-31 12:00:00+00', interval '1 day', 0.1::float8",
        "SELECT '\\x00ff'::bytea", "SELECT 1; SELECT 1/0; SELECT 2", "SELECT count(*) FROM pg_listening_channels()",
        "SELECT count(*) FROM pg_cursors", "SELECT current_user, session_user",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        f"SELECT to_regclass('pg_temp.temp{k}')", "SELECT w.noop()", "SELECT w.set_it('6MB')",
        "SELECT w.set_it('4MB'), 1/0", "COMMIT", "ROLLBACK",
        f"BEGIN; INSERT INTO w.t{k} VALUES (2, 'z'); COMMIT", "BEGIN; SET work_mem = '9MB'; ROLLBACK",
        "BEGIN; SET work_mem = '9MB'; COMMIT", "SET work_mem = '8MB'; SELECT 1/0",
        "BEGIN; SAVEPOINT a; SET work_mem = '9MB'; ROLLBACK TO a; COMMIT",
        "SELECT to_char(date '2026-02-01', 'Day'), date '2026-02-01'",
    ])


def simple(k):
    return st.one_of(sets, resets, shows, shows, customs(k), plain(k), plain(k)).map(q)


def any_sql(k):
    return st.one_of(sets, resets, shows, customs(k),
                     plain(k).filter(lambda sql: sql.count(";") == 0 and sql not in ("COMMIT", "ROLLBACK")))


def extended_step(k):
    return any_sql(k).map(x)


STATEMENTS = ("SELECT 1", "SELECT $1::int + 1", "SELECT $1::text, $2::text", "SHOW work_mem", "SELEKT",
              "SELECT current_setting('TimeZone')", "SELECT 1/$1::int")
STATEMENT_NAMES = ("a", "b", "S_1", "it's")


@st.composite
def protocol_step(draw, k):
    """Prepared statements by name, as drivers use them, and as they should not."""
    messages, notes = b"", []
    readies = draw(st.integers(1, 3))
    for _ in range(readies):
        for _ in range(draw(st.integers(1, 4))):
            name = draw(st.sampled_from(STATEMENT_NAMES + ("",)))
            kind = draw(st.sampled_from(("parse", "run", "run", "describe", "close", "parse and run")))
            sql = draw(st.sampled_from(STATEMENTS))
            values = draw(st.lists(st.sampled_from(("1", "0", None, "x")), max_size=2))
            if kind == "parse":
                messages += parse(name, sql)
            elif kind == "run":
                messages += bind("", name, values) + describe("P") + execute()
            elif kind == "describe":
                messages += describe("S", name)
            elif kind == "close":
                messages += close("S", name)
            else:
                messages += parse(name, sql) + describe("S", name) + bind("", name, values) + execute()
            notes.append(f"{kind} {name!r} {sql} {values}")
        messages += sync()
        notes.append("sync")
    return Step(messages, readies, "; ".join(notes))


def deallocate(k):
    return st.sampled_from([q(f'DEALLOCATE "{name}"') for name in STATEMENT_NAMES]
                           + [q("DEALLOCATE ALL"), x("DEALLOCATE ALL"), x('DEALLOCATE "a"')])


def copies(k):
    return st.sampled_from([
        Step(query(f"COPY w.t{k} FROM STDIN") + copy_data(b"1\tone\n2\ttwo\n") + copy_done(), note="copy in"),
        Step(query(f"COPY w.t{k} FROM STDIN") + copy_data(b"broken\n") + copy_done(), note="copy in, broken"),
        Step(query(f"COPY w.t{k} FROM STDIN") + copy_data(b"1\tone\n") + copy_fail("no"), note="copy in, failed"),
        q(f"COPY w.t{k} TO STDOUT"), q("COPY (SELECT generate_series(1, 50)) TO STDOUT"),
    ])


def free_segment(k):
    step = st.one_of(simple(k), simple(k), simple(k), extended_step(k), protocol_step(k), protocol_step(k),
                     deallocate(k), copies(k))
    return st.lists(step, min_size=1, max_size=3).map(Segment)


@st.composite
def transaction(draw, k):
    inside = st.one_of(
        sets.map(q), resets.filter(lambda sql: not sql.startswith("DISCARD ALL")).map(q), shows.map(q), customs(k).map(q),
        plain(k).filter(lambda sql: "COMMIT" not in sql and "ROLLBACK" not in sql and "BEGIN" not in sql).map(q),
        st.sampled_from(("SAVEPOINT a", "ROLLBACK TO a", "RELEASE a", "SAVEPOINT b", "ROLLBACK TO b",
                         "DECLARE c CURSOR FOR SELECT generate_series(1, 9)", "FETCH 2 FROM c", "CLOSE c",
                         "SET TRANSACTION READ ONLY", "SET CONSTRAINTS ALL DEFERRED",
                         f"CREATE TABLE w.d{k} (a int)", f"SELECT pg_advisory_xact_lock({k})")).map(q),
        extended_step(k), protocol_step(k), copies(k))
    begin = draw(st.sampled_from(("BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL SERIALIZABLE")).map(
        lambda sql: q(sql)) | st.just(x("BEGIN")))
    end = draw(st.sampled_from(("COMMIT", "ROLLBACK", "END", "ABORT")).map(q) | st.just(x("COMMIT")))
    steps = draw(st.lists(inside, min_size=1, max_size=5))
    return Segment([begin, *steps, end, q(f"DROP TABLE IF EXISTS w.d{k}")], holds=True)


@st.composite
def held_state(draw, k):
    """State that cannot move, made, looked at and ended."""
    made, looks, ended = draw(st.sampled_from([
        (f"CREATE TEMP TABLE temp{k} AS SELECT 1 AS one",
         (f"SELECT * FROM temp{k}", f"INSERT INTO temp{k} VALUES (2)", f"SELECT to_regclass('pg_temp.temp{k}')"),
         f"DROP TABLE temp{k}"),
        (f"SELECT 1 AS one INTO TEMP temp{k}", (f"SELECT count(*) FROM temp{k}",), "DISCARD TEMP"),
        (f"LISTEN c{k}", (f"NOTIFY c{k}, 'hello'", "SELECT count(*) FROM pg_listening_channels()",
                          f"SELECT pg_notify('c{k}', 'there')"), "UNLISTEN *"),
        (f"SELECT pg_advisory_lock({k})", (f"SELECT pg_try_advisory_lock({k})",),
         "SELECT pg_advisory_unlock_all()"),
        (f"PREPARE p{k} AS SELECT $1::int + 1", (f"EXECUTE p{k}(41)", f"EXECUTE p{k}(1)"), f"DEALLOCATE p{k}"),
        (f"DECLARE h{k} CURSOR WITH HOLD FOR SELECT generate_series(1, 5)", (f"FETCH 2 FROM h{k}",), f"CLOSE h{k}"),
        ("SET ROLE pg_monitor", ("SELECT current_user",), "RESET ROLE"),
        ("SET pgreserve.pin = on", ("SHOW pgreserve.pin",), "SET pgreserve.pin = off"),
        (f"DO $$ BEGIN CREATE TEMP TABLE temp{k} (a int); END $$", (f"SELECT count(*) FROM temp{k}",),
         f"DROP TABLE temp{k}"),
        (f"SELECT w.make_temp('temp{k}')", (f"SELECT count(*) FROM temp{k}",), f"DROP TABLE temp{k}"),
    ]))
    between = st.one_of(st.sampled_from(looks).map(q), st.sampled_from(looks).map(q), simple(k), protocol_step(k))
    steps = draw(st.lists(between, min_size=1, max_size=4))
    steps = [step for step in steps if not any(word in step.note for word in ("DISCARD ALL", "RESET ALL", "ROLLBACK"))]
    how = draw(st.sampled_from((q, x)))
    # a step may have failed in a transaction of its own
    return Segment([how(made), *steps, q("ROLLBACK"), q(ended)], holds=True)


@st.composite
def script(draw, k):
    parameters = draw(st.fixed_dictionaries({}, optional={
        "application_name": st.sampled_from((f"client {k}", "same", "")),
        "TimeZone": st.sampled_from(("Asia/Tokyo", "Europe/Berlin")),
        "options": st.sampled_from(("-c work_mem=5555kB", "-c search_path=w,public -c statement_timeout=2h",
                                    "-c my.start=here", "-c DateStyle=German")),
    }))
    segment = st.one_of(free_segment(k), free_segment(k), free_segment(k), transaction(k), held_state(k))
    return Script(parameters, draw(st.lists(segment, min_size=1, max_size=4)))


@st.composite
def scenario(draw):
    scripts = [draw(script(k)) for k in range(CLIENTS)]
    order = draw(st.lists(st.integers(0, CLIENTS - 1), min_size=10, max_size=40))
    return scripts, order


# -- playing ------------------------------------------------------------------------------------------------


def normalized(message_):
    """What must be equal: not the numbers of processes and tables, nor where in the code (which a server remembers)."""
    kind, body = message_
    if kind == "A":
        return kind, body[4:]
    if kind == "T":
        (count,) = struct.unpack_from("!H", body)
        columns, offset = [], 2
        for _ in range(count):
            end = body.index(b"\0", offset)
            columns.append((body[offset:end], body[end + 7:end + 19]))
            offset = end + 19
        return kind, tuple(columns)
    if kind in "EN":
        parts = [part for part in body.split(b"\0") if part and part[:1] not in b"FLRW"]
        return kind, tuple(parts)
    return kind, body


def in_order(messages):
    """Parameters that are reported side by side may come in any order."""
    result = []
    for kind, group in itertools.groupby(messages, lambda message_: message_[0]):
        result += sorted(group) if kind == "S" else group
    return result


def in_failed_transaction(messages):
    """Behind an error the server refuses everything; in which words depends on what it had prepared before."""
    return [("E", b"") if kind == "E" else (kind, body) for kind, body in messages if kind in "EZ"]


class Player:
    """One client at work on its script."""

    def __init__(self, wire, script_):
        self.wire = wire
        self.script = script_
        self.transcript = [tuple(sorted(wire.parameters.items()))]
        self.segment = self.step = 0
        self.has_failed = False

    @property
    def is_done(self):
        return self.segment >= len(self.script.segments)

    @property
    def current(self):
        return self.script.segments[self.segment]

    @property
    def is_inside(self):
        return not self.is_done and self.current.holds and self.step > 0

    def play_step(self):
        step = self.current.steps[self.step]
        self.wire.send(step.say)
        messages = []
        for _ in range(step.readies):
            batch_ = in_order([normalized(m) for m in self.wire.until("Z")])
            messages += in_failed_transaction(batch_) if self.has_failed else batch_
            self.has_failed = batch_[-1] == ("Z", b"E")
        self.transcript.append((step.note, messages))
        self.step += 1
        if self.step >= len(self.current.steps):
            self.segment += 1
            self.step = 0


def play(connect, scripts, order, holders):
    """Plays all scripts, a step at a time in this order; `holders` clients may hold a backend at once."""
    players = []
    turn = 0
    try:
        for script_ in scripts:
            players.append(Player(connect(script_.parameters), script_))
        while not all(player.is_done for player in players):
            inside = sum(player.is_inside for player in players)
            able = [player for player in players
                    if not player.is_done and (player.is_inside or not player.current.holds or inside < holders)]
            player = able[order[turn % len(order)] % len(able)]
            player.play_step()
            turn += 1
        for player in players:
            player.wire.send(message("X"))
    finally:
        for player in players:
            player.wire.close()
    return [player.transcript for player in players]


def prepare_server(postgres):
    """The tables and functions that scripts use, and whatever an earlier round left taken away."""
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("GRANT pg_monitor TO proxy")
        cursor.execute("CREATE SCHEMA IF NOT EXISTS w AUTHORIZATION proxy")
        cursor.execute("SET ROLE proxy")
        cursor.execute("SET search_path = w")
        for k in range(CLIENTS):
            cursor.execute(f"CREATE TABLE IF NOT EXISTS t{k} (a int, b text)")
        cursor.execute("CREATE OR REPLACE FUNCTION noop() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'")
        cursor.execute("CREATE OR REPLACE FUNCTION set_it(v text) RETURNS void LANGUAGE plpgsql AS"
                       " $$BEGIN PERFORM set_config('work_mem', v, false); END$$")
        cursor.execute("CREATE OR REPLACE FUNCTION make_temp(v text) RETURNS void LANGUAGE plpgsql AS"
                       " $$BEGIN EXECUTE format('CREATE TEMP TABLE %I (a int)', v); END$$")
    connection.close()


def empty_tables(connection):
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE " + ", ".join(f"w.t{k}" for k in range(CLIENTS)))
        cursor.execute("DROP TABLE IF EXISTS " + ", ".join(f"w.d{k}" for k in range(CLIENTS)))


def wire_to(port, user, password, parameters):
    return Wire(port).login(user, password, "app", **parameters)
