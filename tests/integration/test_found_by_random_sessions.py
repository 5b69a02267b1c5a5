"""What random sessions have found once, each by its name: the same answers as on a connection of one's own.

Every case is a short session of one client.  It is played on a connection of its own and through a pool of one backend on
which another client has left prepared statements of the same texts; all messages must be equal.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from scripts import Script, Segment, Step, batch, play, prepare_server, q, wire_to, x
from server import PASSWORD, ROLE
from wire import bind, close, describe, execute, parse, query, sync


def run(name, *values):
    return bind("", name, values) + describe("P") + execute()


def pipeline(note, *batches):
    return Step(b"".join(messages + sync() for messages in batches), len(batches), note)


SELECT, PLUS = "SELECT 1", "SELECT $1::int + 1"
CASES = {
    "the unnamed statement outlives a question of ours": [
        x("CREATE TEMP TABLE kept AS SELECT 1 AS one"), batch("run it again", run("")), q("DROP TABLE kept")],
    "an error names a statement whose Parse was skipped by the client's name": [
        pipeline("parse behind an error", run("missing") + parse("S_1", PLUS), run("S_1", "0"))],
    "an error names a statement that was closed meanwhile by the client's name": [
        pipeline("close while it runs", parse("a", SELECT) + run("a", "1", "1"), close("S", "a"), run("b"))],
    "a Parse that was skipped is not used across a Sync": [
        pipeline("use in the next batch", run("a") + parse("a", SELECT), run("a"))],
    "a Close that was skipped is not believed across a Sync": [
        batch("parse", parse("a", SELECT)),
        pipeline("close behind an error", run("b") + close("S", "a"), run("a"), parse("a", SELECT))],
    "a skipped Close of a name that never was brings nothing back": [
        pipeline("parse, then close, both skipped", parse("a", SELECT) + parse("a", SELECT) + parse("b", SELECT),
                 run("b") + close("S", "b")),
        batch("parse", parse("b", SELECT))],
    "two names of one text are two statements": [
        batch("parse twice", parse("a", PLUS) + parse("b", PLUS)), batch("run the second", run("b")),
        batch("run the first", run("a"))],
    "a statement of ours that was skipped is prepared again in the next batch": [
        batch("parse", parse("a", SELECT) + parse("b", PLUS)), q("SELECT 1"),
        pipeline("behind an error", run("a", "1", "2") + describe("S", "b"), describe("S", "b") + run("a"))],
    "a skipped Parse of the unnamed statement leaves the one before": [
        x(SELECT), batch("skipped", run("missing") + parse("", PLUS)), batch("run", run(""))],
    "a failed Parse of the unnamed statement leaves none": [
        x(SELECT), batch("fails", parse("", "SELEKT")), batch("run", run(""))],
    "a closed unnamed statement is gone": [
        batch("parse", parse("", SELECT)), batch("close", close("S", "")), batch("run", run(""))],
    "the unnamed statement is there in a failed transaction": [
        x("BEGIN"), x("RESET work_mem"), pipeline("fail", parse("a", SELECT), parse("a", SELECT), describe("S", "")),
        q("ROLLBACK")],
    "DEALLOCATE by the extended protocol is answered in order": [
        batch("parse", parse("a", SELECT)), x('DEALLOCATE "a"'), batch("run", run("a"))],
    "DEALLOCATE by a query that ends an open batch": [
        Step(parse("a", SELECT) + run("a") + query("DEALLOCATE a"), note="no Sync"), batch("run", run("a"))],
    "a DEALLOCATE that was skipped took nothing": [
        batch("parse", parse("a", SELECT)), pipeline("behind an error", run("b") + query("DEALLOCATE a"), run("a")),
        pipeline("behind an error", run("b") + parse("", "DEALLOCATE a") + run(""), run("a"))],
    "DEALLOCATE behind an error in a pipeline of queries": [
        batch("parse", parse("a", SELECT)),
        Step(query("BEGIN") + query("SELECT 1/0") + query("DEALLOCATE a") + query("ROLLBACK"), 4, "pipeline"),
        batch("run", run("a"))],
    "a statement is not used across a DEALLOCATE in a pipeline of queries": [
        batch("parse", parse("a", SELECT)),
        Step(query("BEGIN") + query("SELECT 1/0") + query("DEALLOCATE a") + query("ROLLBACK") + run("a") + sync(), 5, "failed"),
        Step(query("BEGIN") + query("DEALLOCATE a") + query("ROLLBACK") + run("a") + sync(), 4, "done")],
    "DEALLOCATE takes no snapshot": [
        batch("parse", parse("a", SELECT)), q("BEGIN"), q("DEALLOCATE a"),
        q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), q("COMMIT"), batch("run", run("a"))],
    "DEALLOCATE by Bind in a failed transaction": [
        batch("parse", parse("a", SELECT) + parse("", "DEALLOCATE a")), x("BEGIN"), batch("parse", parse("", "DEALLOCATE a")),
        pipeline("fail", run("missing"), run("")), q("ROLLBACK"), batch("run", run("a"))],
    "a long unnamed statement outlives a question of ours": [
        batch("parse", parse("", "SELECT w.noop() /*" + "x" * 200000 + "*/") + describe("S", "")), batch("run", run(""))],
    "an unnamed statement beside names in SQL outlives a question of ours": [
        batch("parse", parse("a", SELECT)), q("EXECUTE a"), batch("parse", parse("", "SELECT set_config('my.q', 'b', false)")),
        batch("run", run("")), batch("again", run("")), q("DEALLOCATE a")],
    "names in SQL that begin in a transaction": [
        batch("parse", parse("a", SELECT) + parse("b", PLUS)), q("BEGIN"), q("EXECUTE a"), batch("run", run("b", "1")),
        q("COMMIT"), q("EXECUTE b(1)")],
    "what an aborted transaction set back is reported before ReadyForQuery": [
        x("BEGIN"), q("SET TimeZone TO 'Asia/Tokyo'"), x("DISCARD ALL"), q("COMMIT"), q("SHOW TimeZone")],
    "RESET goes back to the start-up packet and reports it once": [
        q("SET TimeZone = 'America/New_York'"), q("RESET TimeZone"), q("RESET ALL"), q("SHOW TimeZone")],
    "a setting beside a RESET in one text is reported": [
        q("SET TimeZone = 'America/New_York'; RESET work_mem"), q("SHOW TimeZone")],
    "one statement prepared again and again in transactions": [
        Step(step.say, note=step.note) for _ in range(3) for step in (
            q("BEGIN"), batch("parse", parse("a", SELECT)), batch("run", run("a")), batch("close", close("S", "a")),
            q("COMMIT"))],
}


@pytest.mark.parametrize("name", CASES)
def test_random_session_found(start_proxy, postgres, name):
    prepare_server(postgres)
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5})
    scripts = [Script({"TimeZone": "Europe/Berlin"}, [Segment(CASES[name])])]
    own = play(lambda parameters: wire_to(postgres.port, ROLE, PASSWORD, parameters), scripts, [0], 1)
    with proxy.wire() as other:
        for number, sql in enumerate((SELECT, PLUS)):
            assert other.ask(parse(f"a{number}", sql), parse(f"b{number}", sql)).kinds == "11Z"
        shared = play(lambda parameters: wire_to(proxy.port(), ROLE, PASSWORD, parameters), scripts, [0], 1)
    for before, now in zip(own[0], shared[0]):
        assert now == before


def test_a_backend_that_had_too_many_statements_still_knows_its_next_client(start_proxy):
    """What is closed to make room for the next client is not a batch that the client has begun."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 5, "max_prepared_statements": 1})
    with proxy.wire() as client, proxy.wire() as other:
        for _ in range(3):
            assert client.ask(parse("a", SELECT)).kinds == "1Z"
            other.query("BEGIN")  # in a transaction nothing is closed
            for name in ("b", "c", "d"):
                assert other.ask(parse(name, f"SELECT '{name}'")).kinds == "1Z"
            other.query("COMMIT")
            assert client.query("DEALLOCATE a").tags == ["DEALLOCATE"]
            for name in ("b", "c", "d"):
                assert other.query(f"DEALLOCATE {name}").tags == ["DEALLOCATE"]
        assert proxy.pool()["pinned"] == 0


def test_nothing_held_back_is_forgotten_when_a_backend_goes_from_hand_to_hand(start_proxy):
    """What a client sends behind a Parse of the unnamed statement is held until that is decided: the answers that decide
    it may be read in the same breath as the last ones of the client before it."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 15})
    both = [parse("", SELECT), sync(), describe("S", ""), sync()]

    def ask_again_and_again(_):
        with proxy.wire() as wire:
            kinds = set()
            for _ in range(300):
                wire.send(*both)
                kinds.add((wire.answer().kinds, wire.answer().kinds))
            return kinds

    with ThreadPoolExecutor(8) as clients:
        for kinds in clients.map(ask_again_and_again, range(8)):
            assert kinds == {("1Z", "tTZ")}
