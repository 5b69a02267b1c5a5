"""What an operator tells the console to do is done, to what was named and to nothing else.

A user would lose: a maintenance window in which one database was to stand still, and another one did.
"""

import re
import signal

import psycopg2
import pytest

import wire
from server import PASSWORD, ROLE
from waiting import Stopwatch, wait_until
from wire import Wire, cancel_request, query


def console(proxy, database="pgreserve"):
    return Wire(proxy.ports["admin"]).login(ROLE, PASSWORD, database)


def pids(proxy, database):
    return {row["remote_pid"] for row in proxy.show("SERVERS") if row["database"] == database}


def cell(proxy, what, column, /, **where):
    return next(row[column] for row in proxy.show(what) if all(row[k] == v for k, v in where.items()))


@pytest.fixture
def two_databases(postgres):
    postgres.sql("CREATE DATABASE second TEMPLATE template0")
    yield
    postgres.sql("DROP DATABASE second WITH (FORCE)")


# -- PAUSE and RESUME -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["app@automation", "automation"])
def test_pause_of_a_part_spares_the_rest(proxy, postgres, target):
    proxy.wait_warm()
    with proxy.wire() as held, proxy.wire("adhoc") as free:
        assert proxy.admin(f"PAUSE {target}") == ["PAUSE"]
        assert not pids(proxy, "app@automation"), "what was free is closed: the database could be restarted"
        held.send(query("SELECT 'after'"))
        proxy.wait_pool(waiting=1)
        assert free.query("SELECT 'goes on'").value == "goes on"
        assert cell(proxy, "DATABASES", "paused", name="app@automation") == "1"
        assert cell(proxy, "DATABASES", "paused", name="app@adhoc") == "0"
        assert len(postgres.backend_pids()) == 2
        assert proxy.admin(f"RESUME {target}") == ["RESUME"]
        assert held.answer().value == "after"
        assert cell(proxy, "DATABASES", "paused", name="app@automation") == "0"


def test_pause_of_a_database_holds_it_in_every_pool_and_lets_it_be_dropped(proxy, postgres, two_databases):
    with proxy.wire(database="second") as client, proxy.wire("adhoc", database="second") as other:
        assert client.query("SELECT 1").value == other.query("SELECT 1").value == "1"
        assert proxy.admin("PAUSE second") == ["PAUSE"]
        postgres.sql("DROP DATABASE second")
        postgres.sql("CREATE DATABASE second TEMPLATE template0")
        with proxy.wire() as unaffected:
            assert unaffected.query("SELECT 1").value == "1"
        client.send(query("SELECT current_database()"))
        proxy.wait_pool(waiting=1)
        proxy.admin("RESUME second")
        assert client.answer().value == "second"


def test_a_new_lane_of_a_paused_database_begins_paused(start_proxy):
    proxy = start_proxy(databases={"alias": {"dbname": "app"}})
    proxy.admin("PAUSE alias")
    with pytest.raises(psycopg2.OperationalError, match="timed out|timeout"):
        late = dict(proxy.keywords(dbname="alias"), connect_timeout=2)
        psycopg2.connect(**late)
    proxy.admin("RESUME alias")
    proxy.connect(dbname="alias").close()


def test_resume_of_less_than_what_is_paused_says_so(proxy):
    proxy.admin("PAUSE automation")
    with pytest.raises(wire.ErrorResponse, match="wider PAUSE or SUSPEND"):
        proxy.admin("RESUME app@automation")
    assert proxy.admin("RESUME") == ["RESUME"]
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"


def test_ctrl_c_ends_the_waiting_and_the_pause(proxy):
    with proxy.wire() as busy, console(proxy) as pausing:
        busy.query("BEGIN")
        pausing.send(query("PAUSE"))
        wait_until(lambda: cell(proxy, "STATE", "value", key="paused") == "yes", "the pause")
        with Wire(proxy.ports["admin"]) as canceler:
            canceler.send(cancel_request(pausing.backend_pid, pausing.backend_key))
        assert pausing.answer().error.sqlstate == "57014"
        assert cell(proxy, "STATE", "value", key="paused") == "no"
        assert pausing.query("SHOW VERSION").value


def test_answers_of_a_pipeline_behind_a_pause_come_in_order(proxy):
    with proxy.wire() as busy, console(proxy) as client:
        busy.query("BEGIN")
        client.send(wire.extended("PAUSE"), wire.extended("SHOW VERSION"), wire.sync(), query("RESUME"))
        proxy.wait_pool(in_use=1)
        busy.query("COMMIT")
        answer = client.answer()
        assert answer.tags == ["PAUSE", "SHOW"] and len(answer.rows) == 1
        assert client.answer().tags == ["RESUME"]


def test_state_says_paused(proxy):
    proxy.admin("PAUSE automation")
    assert cell(proxy, "STATE", "value", key="active") == "yes", "one pool of two"
    proxy.admin("PAUSE")
    assert cell(proxy, "STATE", "value", key="paused") == "yes"
    proxy.admin("RESUME")


# -- SUSPEND -----------------------------------------------------------------------------------------------


def test_suspend_stands_still_and_keeps_its_connections(proxy, postgres):
    proxy.wait_warm()
    before = postgres.backend_pids()
    with proxy.wire() as client:
        client.query("SELECT 1")
        assert proxy.admin("SUSPEND") == ["SUSPEND"]
        assert cell(proxy, "STATE", "value", key="suspended") == "yes"
        client.send(query("SELECT 'unread'"))
        for _ in range(5):
            assert proxy.pool()["waiting"] == 0 and proxy.pool()["in_use"] == 0
        proxy.admin("RESUME")
        assert client.answer().value == "unread"
        assert postgres.backend_pids() == before


def test_suspend_waits_until_what_was_read_has_been_passed_on(proxy):
    with proxy.wire() as slow:
        slow.send(query("SELECT repeat('x', 30000000)"))
        wait_until(lambda: any(int(row["send_remain"]) > 0 for row in proxy.show("SOCKETS") if row["type"] == "C"),
                   "a reader that has fallen behind")
        with console(proxy) as suspending:
            suspending.send(query("SUSPEND"))
            assert len(slow.answer().value) == 30_000_000
            assert suspending.answer().tags == ["SUSPEND"]
        proxy.admin("RESUME")


# -- DISABLE and ENABLE ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["app@automation", "automation"])
def test_disable_refuses_new_clients_only(proxy, target):
    with proxy.wire() as old:
        assert proxy.admin(f"DISABLE {target}") == ["DISABLE"]
        with pytest.raises(wire.ErrorResponse) as refused:
            proxy.wire()
        assert (refused.value.severity, refused.value.sqlstate) == ("FATAL", "57P03")
        assert old.query("SELECT 'still served'").value == "still served"
        proxy.wire("adhoc").close()
        assert cell(proxy, "DATABASES", "disabled", name="app@automation") == "1"
        assert cell(proxy, "DATABASES", "disabled", name="app@adhoc") == "0"
        assert proxy.admin(f"ENABLE {target}") == ["ENABLE"]
        proxy.wire().close()


def test_disable_of_a_database_holds_in_every_pool(proxy):
    proxy.admin("DISABLE app")
    for pool in ("automation", "adhoc"):
        with pytest.raises(wire.ErrorResponse):
            proxy.wire(pool)
    proxy.admin("ENABLE app")
    proxy.wire().close()


# -- RECONNECT, WAIT_CLOSE -------------------------------------------------------------------------------


def test_reconnect_of_one_pool_and_wait_close(proxy):
    proxy.wait_warm()
    automation, adhoc = pids(proxy, "app@automation"), pids(proxy, "app@adhoc")
    with proxy.wire() as busy, console(proxy) as waiting:
        busy.query("BEGIN")
        assert proxy.admin("RECONNECT app@automation") == ["RECONNECT"]
        waiting.send(query("WAIT_CLOSE app@automation"))
        wait_until(lambda: len(pids(proxy, "app@automation") & automation) == 1, "all but the busy one to go")
        assert cell(proxy, "SERVERS", "close_needed", state="active") == "1"
        busy.query("COMMIT")
        assert waiting.answer().tags == ["WAIT_CLOSE"]
        assert not pids(proxy, "app@automation") & automation
        assert pids(proxy, "app@adhoc") == adhoc


def test_wait_close_of_what_needs_no_close_returns_at_once(proxy):
    with Stopwatch() as watch:
        assert proxy.admin("WAIT_CLOSE") == ["WAIT_CLOSE"]
    assert watch.seconds < 2


# -- KILL -------------------------------------------------------------------------------------------------


def test_kill_ends_clients_and_connections_of_one_pool_at_once(proxy, postgres):
    proxy.wait_warm()
    adhoc = pids(proxy, "app@adhoc")
    with proxy.wire() as running, proxy.wire() as idle, proxy.wire("adhoc") as spared:
        running.query("BEGIN")
        running.send(query("SELECT pg_sleep(600)"))
        wait_until(lambda: postgres.backends("state = 'active' AND query LIKE '%pg_sleep%'"), "the query to run")
        assert proxy.admin("KILL automation") == ["KILL"]
        assert running.final_error().sqlstate == "57P01"
        assert idle.final_error().sqlstate == "57P01"
        assert spared.query("SELECT 1").value == "1"
        wait_until(lambda: {str(pid) for pid in postgres.backend_pids()} == adhoc, "automation's backends to end")
        assert proxy.admin("RESUME automation") == ["RESUME"], "until then new clients wait, as after PAUSE"
        with proxy.wire() as client:
            assert client.query("SELECT 1").value == "1"


def test_kill_client_ends_that_one_and_rolls_back(proxy):
    with proxy.wire(application_name="victim") as victim, proxy.wire(application_name="other") as other:
        other.query("CREATE TABLE killed (n int)")
        try:
            victim.query("BEGIN")
            victim.query("INSERT INTO killed VALUES (1)")
            client = cell(proxy, "HOLDERS", "client", application_name="victim")
            assert client == cell(proxy, "CLIENTS", "id", application_name="victim")
            assert proxy.admin(f"KILL_CLIENT {client}") == ["KILL_CLIENT"]
            assert victim.final_error().sqlstate == "57P01"
            proxy.wait_pool(in_use=0)
            assert other.query("SELECT count(*) FROM killed").value == "0"
            with pytest.raises(wire.ErrorResponse):
                proxy.admin(f"KILL_CLIENT {client}")
        finally:
            other.query("DROP TABLE killed")


def test_a_console_may_kill_itself(proxy):
    with console(proxy) as own:
        client = cell(proxy, "CLIENTS", "id", database="pgbouncer", port=str(own.socket.getsockname()[1]))
        own.send(query(f"KILL_CLIENT {client}"))
        assert own.final_error().sqlstate == "57P01"
    assert proxy.show("VERSION")


# -- SET --------------------------------------------------------------------------------------------------


def test_set_of_the_log_level_works_at_once(proxy):
    mark = len(proxy.log())
    assert proxy.admin("SET log_level = 'error'") == ["SET"]
    assert cell(proxy, "CONFIG", "value", key="log_level") == "error"
    with pytest.raises(wire.ErrorResponse):
        proxy.wire(password="wrong")
    assert "login refused" not in proxy.log()[mark:]
    assert proxy.admin("SET log_level = info") == ["SET"]
    with pytest.raises(wire.ErrorResponse):
        proxy.wire(password="wrong")
    wait_until(lambda: "login refused" in proxy.log()[mark:], "the refusal in the log again")


@pytest.mark.parametrize("key", ["pool:automation.size", "automation.size", "default_pool_size", "size"])
def test_set_of_a_pools_size(start_proxy, key):
    proxy = start_proxy(pgreserve={"total_connections": 20}, automation={"overflow_idle": "100ms"})
    assert proxy.admin(f"SET {key} = 3") == ["SET"]
    wait_until(lambda: proxy.pool()["total_possible"] == 5, "the new size")
    wait_until(lambda: len(pids(proxy, "app@automation")) == 3, "what is too much to go")
    assert proxy.pool("adhoc")["total_possible"] == (2 if "automation" in key else 3)
    proxy.hang_up()
    wait_until(lambda: proxy.pool()["total_possible"] == 6, "the file's size after a reload")


def test_set_knows_units_and_pgbouncers_names(proxy):
    proxy.admin("SET automation.timeout = '250ms'")
    assert cell(proxy, "CONFIG", "value", key="query_wait_timeout") == "0.25"
    proxy.admin("SET query_wait_timeout TO 7")
    assert cell(proxy, "CONFIG", "value", key="pool:adhoc.timeout") == "7"
    assert "7" in [row["now"].split()[0] for row in proxy.show("ADVICE") if row["setting"] == "timeout"]


@pytest.mark.parametrize("text,sqlstate,words", [
    ("SET total_connections = 3", "22023", "size|reserved|total"),
    ("SET automation.size = many", "22023", "many"),
    ("SET automation.size = -1", "22023", "-1"),
    ("SET automation.listen = '127.0.0.1:1'", "55P02", "run time"),
    ("SET max_user_connections = 3", "55P02", "run time"),
    ("SET nonsense = 1", "42704", "nonsense"),
    ("SET automation.nonsense = 1", "42704", "nonsense"),
    ("SET log_level", "42601", "value"),
    ("SET log_level = info extra", "42601", "quotes"),
])
def test_set_refuses_what_a_file_could_not_say(proxy, text, sqlstate, words):
    before = proxy.show("CONFIG")
    with pytest.raises(wire.ErrorResponse) as refused:
        proxy.admin(text)
    assert refused.value.sqlstate == sqlstate
    assert re.search(words, refused.value.message + str(refused.value.hint)), refused.value
    assert proxy.show("CONFIG") == before


def test_set_keeps_passwords_and_expanded_values(proxy):
    proxy.admin("SET automation.size = 3")
    proxy.admin("RECONNECT")
    proxy.admin("WAIT_CLOSE")
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"


# -- SHUTDOWN ---------------------------------------------------------------------------------------------


def test_shutdown_wait_for_servers_lets_transactions_finish(proxy):
    with proxy.wire() as busy, proxy.wire() as idle:
        busy.query("BEGIN")
        assert proxy.admin("SHUTDOWN WAIT_FOR_SERVERS") == ["SHUTDOWN"]
        assert idle.final_error().sqlstate == "57P01"
        assert busy.query("SELECT 'goes on'").value == "goes on"
        assert busy.query("COMMIT").tags == ["COMMIT"]
        assert proxy.wait_exit() == 0


def test_shutdown_wait_for_clients_lets_them_work_and_takes_no_more(proxy):
    with proxy.wire() as client:
        assert proxy.admin("SHUTDOWN WAIT_FOR_CLIENTS") == ["SHUTDOWN"]
        with pytest.raises((wire.Closed, ConnectionRefusedError)):
            proxy.wire()
        for n in range(3):
            assert client.query(f"SELECT {n}").value == str(n)
        assert proxy.show("STATUS"), "the console stays open meanwhile"
        assert proxy.is_running()
        client.send(wire.terminate())
    assert proxy.wait_exit() == 0


def test_shutdown_by_a_signal_while_a_pause_waits(proxy):
    with proxy.wire() as busy, console(proxy) as pausing:
        busy.query("BEGIN")
        pausing.send(query("PAUSE"))
        wait_until(lambda: cell(proxy, "STATE", "value", key="paused") == "yes", "the pause")
        proxy.stop(signal.SIGINT)


# -- who may, and what is nonsense ------------------------------------------------------------------------


VERBS = ["PAUSE", "RESUME", "DISABLE app", "ENABLE app", "RECONNECT", "DISPOSE", "KILL", "KILL_CLIENT 1", "SUSPEND",
         "WAIT_CLOSE", "RELOAD", "SHUTDOWN", "SHUTDOWN WAIT_FOR_CLIENTS", "SET log_level = debug"]


def test_stats_users_may_only_look(start_proxy, tmp_path):
    users = tmp_path / "users"
    users.write_text(f'"boss" "b"\n"viewer" "v"\n"{ROLE}" "{PASSWORD}"\n')
    proxy = start_proxy(auth={"users_file": users}, admin={"users": "boss", "stats_users": "viewer"})
    with proxy.wire(application_name="worker") as worker:
        worker.query("BEGIN")
        worker.query("SELECT 'between you and me'")
        with Wire(proxy.ports["admin"]).login("viewer", "v", "pgbouncer") as viewer:
            for verb in VERBS:
                assert viewer.query(verb).error.sqlstate == "42501", verb
            for harmless in ("SET extra_float_digits = 3", "SELECT 1", "BEGIN", "SHOW CLIENTS", "SHOW datestyle"):
                assert not viewer.query(harmless).errors, harmless
            seen = str(viewer.query("SHOW HOLDERS").rows)
            assert "worker" in seen and "between you and me" not in seen
        assert "between you and me" in str(proxy.admin("SHOW HOLDERS", user="boss", password="b"))
    assert cell_as(proxy, "boss", "b") == "no"


def cell_as(proxy, user, password):
    return next(row["value"] for row in proxy.admin("SHOW STATE", user=user, password=password)
                if row["key"] == "paused")


@pytest.mark.parametrize("text", [
    "PAUSE nowhere", "PAUSE app@nowhere", "PAUSE nowhere@automation", "PAUSE pgbouncer", "PAUSE app automation",
    "DISABLE", "ENABLE", "KILL_CLIENT", "KILL_CLIENT x", "KILL_CLIENT -1", "KILL_CLIENT 99999999999", "SUSPEND app",
    "RELOAD now", "SHUTDOWN NOW", "SHUTDOWN WAIT_FOR_SERVERS please", "EXPLODE", "PAUSE 'app", "SHOW \"POOLS"])
def test_nonsense_changes_nothing(proxy, text):
    with console(proxy) as client:
        assert client.query(text).error.severity == "ERROR"
        assert client.query("SHOW STATE").rows == [["active", "yes"], ["paused", "no"], ["suspended", "no"]]
    with proxy.wire() as unharmed:
        assert unharmed.query("SELECT 1").value == "1"


def test_several_commands_in_one_query(proxy):
    with console(proxy) as client:
        answer = client.query("SET application_name = 'x'; SHOW VERSION; -- and\nSHOW STATE;")
        assert answer.tags == ["SET", "SHOW", "SHOW"] and len(answer.rows) == 4
        answer = client.query("SHOW VERSION; NONSENSE; SHOW STATE")
        assert answer.tags == ["SHOW"] and len(answer.errors) == 1
        assert client.query(" ; ;").kinds == "IZ" and client.query("").kinds == "IZ"
        assert client.query("SHOW\u00a0POOLS").errors
