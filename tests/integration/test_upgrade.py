"""USR2: a new process takes over, and nobody notices (contract 11).

A user would lose: every client's session at each new version, or the cap while two processes run.
"""

import asyncio
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg
import pytest

import wire
from load import Sampler, end_load, pgbench
from proxy import limit, replaced_by_an_upgrade
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire, query

def served(proxy):
    return sum(int(row["total_xact_count"]) for row in proxy.show("STATS"))


def test_idle_client_goes_on_with_all_that_it_had(proxy):
    first = proxy.process.pid
    with proxy.wire(application_name="carried", options="-c statement_timeout=7s") as client:
        client.query("SET search_path = pg_catalog, public")
        client.query("SET my.tenant = 'seven'")
        client.ask(wire.parse("mine", "SELECT name FROM things WHERE id = $1", [23]))
        pid_before = client.query("SELECT pg_backend_pid()").value
        client.ask(wire.parse("", "SELECT 'unnamed ' || $1"))
        proxy.upgrade()
        assert proxy.process.pid != first
        assert client.ask(wire.bind("", "", ["one"]), wire.execute()).value == "unnamed one"
        assert client.ask(wire.bind("", "mine", ["3"]), wire.execute()).value == "thing 3"
        assert client.query("SHOW search_path").value == "pg_catalog, public"
        assert client.query("SHOW my.tenant").value == "seven"
        assert client.query("SHOW application_name").value == "carried"
        client.query("RESET statement_timeout")
        assert client.query("SHOW statement_timeout").value == "7s", "what its start-up packet said"
        assert client.ask(wire.parse("mine", "SELECT 1")).error.sqlstate == "42P05", "the name is taken"
        assert client.query("SELECT pg_backend_pid()").value != pid_before
        (row,) = [row for row in proxy.show("CLIENTS") if row["application_name"] == "carried"]
        assert row["user"] == ROLE and row["port"] == str(client.socket.getsockname()[1])


def test_ten_upgrades_under_load_lose_nothing(start_proxy, postgres):
    proxy = start_proxy(pgreserve={"total_connections": 8})
    proxy.wait_warm()
    idle = psycopg.connect(proxy.url(), autocommit=True, prepare_threshold=0)
    idle.execute("SET work_mem = '5MB'")
    loop = asyncio.new_event_loop()
    other = loop.run_until_complete(asyncpg.connect(proxy.url()))
    loop.run_until_complete(other.execute("SET search_path = pg_catalog"))
    statement = loop.run_until_complete(other.prepare("SELECT $1::int + 1, current_schema()"))
    loop.run_until_complete(statement.fetchrow(0))  # its prepare() sends no Sync, and is not over before this
    with Sampler(postgres) as sampler:
        loads = [pgbench(proxy, mode, 10) for mode in ("simple", "prepared")]
        pids = {proxy.process.pid}
        wait_until(lambda: proxy.pool()["clients"] == 22, "the load")
        for turn in range(10):
            proxy.upgrade()
            pids.add(proxy.process.pid)
            wait_until(lambda: served(proxy) > 200, "the new process to serve")
            assert idle.execute("SELECT name FROM things WHERE id = %s", [1 + turn % 3]).fetchone()
            assert idle.execute("SHOW work_mem").fetchone() == ("5MB",)
            assert tuple(loop.run_until_complete(statement.fetchrow(turn))) == (turn + 1, "pg_catalog")
        for load in loads:
            end_load(load)
    assert len(pids) == 11
    assert sampler.seen["all"] <= 8 and sampler.seen["samples"] > 50, sampler.seen
    idle.close()
    loop.run_until_complete(other.close())
    loop.close()


def test_many_idle_clients_and_one_with_much_to_carry(proxy):
    clients = [proxy.wire() for _ in range(200)]
    for number, client in enumerate(clients):
        client.query(f"SET my.number = '{number}'")
    heavy = clients[77]
    for number in range(100):
        heavy.ask(wire.parse(f"statement {number}", f"SELECT {number} /* {'x' * 20000} */"))
    proxy.upgrade()
    assert "refused=0" in proxy.log() and "carried_over=200" in proxy.log()
    for number, client in enumerate(clients):
        assert client.query("SHOW my.number").value == str(number)
    for number in range(100):
        assert heavy.ask(wire.bind("", f"statement {number}"), wire.execute()).value == str(number)
    for client in clients:
        client.close()


def test_who_waits_for_a_connection_waits_on_and_gets_one(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    (holder,) = proxy.hold()
    waiter = proxy.wire()
    waiter.send(wire.extended("SELECT 'waited for ' || $1", ["it"]), wire.sync())
    proxy.wait_pool(waiting=1)
    old = proxy.upgrade(wait=None)
    proxy.wait_pool(waiting=1, in_use=0)
    with holder.cursor() as cursor:
        cursor.execute("SELECT 'still in my transaction'")
    holder.commit()
    assert waiter.answer().value == "waited for it"
    assert old.wait(20) == 0
    with holder.cursor() as cursor:
        cursor.execute("SELECT 'carried over after it'")
        assert cursor.fetchone() == ("carried over after it",)
    holder.close()
    waiter.close()


def test_who_waits_in_its_login_is_let_in_by_the_new_process(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    (holder,) = proxy.hold()
    with ThreadPoolExecutor(1) as pool:
        login = pool.submit(proxy.wire, database="dev", options="-c work_mem=7MB")
        proxy.wait_pool(waiting=1)
        old = proxy.upgrade(wait=None)
        proxy.wait_pool(waiting=1, in_use=0)
        holder.commit()
        with login.result(timeout=20) as client:
            assert client.query("SHOW work_mem").value == "7MB"
            assert client.query("SELECT current_database()").value == "dev"
    assert old.wait(20) == 0
    holder.close()


def test_half_a_message_is_not_lost(proxy):
    with proxy.wire() as client, Wire(proxy.port()) as newcomer:
        client.query("SELECT 1")
        whole = query("SELECT 'two halves'")
        client.send(whole[:9])
        hello = wire.startup(user=ROLE, database="app")
        newcomer.send(hello[:7])
        proxy.upgrade()
        client.send(whole[9:])
        assert client.answer().value == "two halves"
        newcomer.send(hello[7:])
        assert newcomer.receive().kind == "R", "it is asked for its password"


def test_error_before_its_sync_is_skipped_to_in_the_new_process(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "200ms"})
    (holder,) = proxy.hold()
    client = proxy.wire()
    client.send(wire.extended("SELECT 1"))
    assert client.receive().kind == "E"
    old = proxy.upgrade(wait=None)
    client.send(wire.extended("SELECT 'skipped'"), wire.sync())
    assert client.answer().kinds == "Z"
    holder.rollback()
    assert old.wait(20) == 0
    proxy.wait_pool(available=1)
    assert client.query("SELECT 'goes on'").value == "goes on"
    client.close()
    holder.close()


def test_cancel_after_the_upgrade_works(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    carried, staying = proxy.wire(), proxy.wire()
    staying.send(query("BEGIN"), query("SELECT pg_sleep(60)"))
    wait_until(lambda: postgres.backends("state = 'active'"), "the query to run")
    old = proxy.upgrade(wait=None)
    with Wire(proxy.port()) as canceller:  # reaches the new process; the old one has the client
        canceller.send(wire.cancel_request(staying.backend_pid, staying.backend_key))
        assert canceller.is_closed()
    assert staying.until("Z")[-1].body == b"T"
    assert staying.answer().error.sqlstate == "57014"
    staying.query("ROLLBACK")
    assert old.wait(20) == 0
    carried.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: postgres.backends("state = 'active'"), "the query to run")
    with Wire(proxy.port()) as canceller:
        canceller.send(wire.cancel_request(carried.backend_pid, carried.backend_key))
    assert carried.answer().error.sqlstate == "57014"
    assert staying.query("SELECT 'untouched'").value == "untouched"
    carried.close()
    staying.close()


def test_session_that_is_tied_ends_with_shutdown_timeout(start_proxy, postgres):
    proxy = start_proxy(pgreserve={"shutdown_timeout": "1500ms"})
    with proxy.wire() as pinned, proxy.wire() as busy:
        pinned.query("CREATE TEMP TABLE mine AS SELECT 'here' AS what")
        busy.query("BEGIN")
        old = proxy.upgrade(wait=None)
        assert pinned.query("SELECT what FROM mine").value == "here", "served on by the old process"
        assert old.poll() is None
        for client in (pinned, busy):
            error = client.final_error()
            assert (error.severity, error.sqlstate) == ("FATAL", "57P01")
        assert old.wait(20) == 0
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"


def test_session_mode_and_statement_mode(start_proxy):
    proxy = start_proxy(pgreserve={"total_connections": 10, "shutdown_timeout": limit(1)},
                        adhoc={"mode": "session"}, automation={"mode": "statement"})
    with proxy.wire("adhoc") as session, proxy.wire("adhoc") as unused, proxy.wire() as statement:
        session.query("SELECT 1")
        statement.query("SELECT 1")
        old = proxy.upgrade(wait=None)
        assert statement.query("SELECT 2").value == "2"
        assert unused.query("SELECT 3").value == "3", "it had no connection yet"
        assert session.query("SELECT 4").value == "4", "the old process still serves it"
        assert session.final_error().sqlstate == "57P01"
        assert old.wait(20) == 0


def test_tls_client_stays_and_is_served_until_shutdown_timeout(start_proxy, postgres):
    from server import make_certificate
    proxy = start_proxy(wait=None, pgreserve={"shutdown_timeout": "2s"})
    crt, key = make_certificate(proxy.directory)
    proxy.change(tls={"client_mode": "allow", "client_cert_file": crt, "client_key_file": key})
    proxy.write_config()
    proxy.start()
    with psycopg.connect(proxy.url() + "?sslmode=require", autocommit=True) as secret:
        secret.execute("SELECT 1")
        old = proxy.upgrade(wait=None)
        for turn in range(3):
            assert secret.execute(f"SELECT {turn}").fetchone() == (turn,)
        assert old.poll() is None
        with pytest.raises(psycopg.OperationalError):
            while True:
                secret.execute("SELECT 'until it ends'")
        assert old.wait(20) == 0
    with psycopg.connect(proxy.url() + "?sslmode=require") as again:
        assert again.execute("SELECT 1").fetchone() == (1,)


def test_reserved_pool_and_cap_while_the_old_process_is_full(start_proxy, postgres):
    proxy = start_proxy(pgreserve={"total_connections": 8})
    proxy.wait_warm()
    holders = proxy.hold(count=6)
    with Sampler(postgres) as sampler:
        old = proxy.upgrade(wait=None)
        with proxy.wire("adhoc") as developer:
            assert developer.query("SELECT 'in at once'").value == "in at once"
        waiter = proxy.wire()
        waiter.send(query("SELECT 'a place came free'"))
        proxy.wait_pool(waiting=1, in_use=0)
        holders.pop().rollback()
        assert waiter.answer().value == "a place came free"
        for holder in holders:
            holder.rollback()
        assert old.wait(20) == 0
        proxy.wait_warm()
    assert sampler.seen["all"] <= 8, sampler.seen
    waiter.close()


# -- a new program that is no good ------------------------------------------------------------------


@pytest.fixture
def replaceable(start_proxy, request):
    """A daemon that runs from a file of its own, which `replace(script)` puts another in the place of."""
    proxy = start_proxy(wait=None, pgreserve={"upgrade_timeout": limit(1)})
    starter, proxy.program = proxy.program, os.path.join(proxy.directory, "pgreserve")
    shutil.copy(starter, proxy.program)
    real, replaced = replaced_by_an_upgrade(starter), replaced_by_an_upgrade(proxy.program)
    if replaced != proxy.program:
        shutil.copy(real, replaced)

    def replace(script):
        fresh = replaced + ".new"
        if script is None:
            shutil.copy(real, fresh)
        else:
            with open(fresh, "w") as file:
                file.write(script)
            os.chmod(fresh, 0o755)
        os.rename(fresh, replaced)

    proxy.replace, proxy.replaced = replace, replaced
    proxy.start()
    return proxy


@pytest.mark.parametrize("script, words", [
    ("#!/bin/sh\nexit 1\n", "ended with status 1"),
    ("#!/bin/sh\nkill -SEGV $$\n", "ended by signal 11"),
    ("#!/bin/sh\nexec sleep 60\n", "upgrade_timeout"),
    ("#!/bin/sh\nexec 3>&-\nexec sleep 60\n", "closed the channel"),
    ("#!/usr/bin/python3\nimport socket, time\ns = socket.socket(fileno=3)\ns.send(b' \\0nonsense')\ntime.sleep(60)\n",
     "hands over in another way"),
    ("not a program", "Exec format error"),
])
def test_broken_new_program_leaves_the_old_one_serving(replaceable, script, words):
    proxy = replaceable
    pid = proxy.process.pid
    with proxy.wire() as client:
        client.query("SET search_path = public")
        proxy.replace(script)
        proxy.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: words in proxy.log() and "upgrade failed" in proxy.log(), words)
        assert client.query("SHOW search_path").value == "public"
        with proxy.wire() as newcomer:
            assert newcomer.query("SELECT 'served'").value == "served"
        wait_until(lambda: proxy.processes() == [pid], "the new one to be gone")
        proxy.replace(None)
        proxy.upgrade()
        assert client.query("SHOW search_path").value == "public"


def test_what_was_paused_meanwhile_is_not_undone(replaceable):
    proxy = replaceable
    here, real, go = proxy.process.pid, proxy.program + ".real", proxy.directory + "/go"
    shutil.copy(proxy.replaced, real)
    proxy.replace(f'#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.05; done\nexec {real} "$@"\n')
    proxy.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "event=upgrade " in proxy.log(), "the new process to be started")
    proxy.admin("PAUSE")
    open(go, "w").close()
    wait_until(lambda: "paused or stopped on the console meanwhile" in proxy.log(), "the refusal")
    proxy.admin("RESUME")
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"
    wait_until(lambda: proxy.processes() == [here], "the new one to be gone")


def test_bad_configuration_leaves_the_old_process_serving(proxy):
    pid = proxy.process.pid
    proxy.change(automation={"size": "many"})
    proxy.write_config()
    with proxy.wire() as client:
        proxy.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: "ended with status 2" in proxy.log(), "the new process's end")
        assert client.query("SELECT 1").value == "1"
    assert proxy.is_running() and proxy.processes() == [pid]
    proxy.change(automation={"size": 4})
    proxy.write_config()
    proxy.upgrade()


def test_new_process_that_dies_while_it_takes_over_gives_way_to_the_old(start_proxy, postgres):
    proxy = start_proxy(pgreserve={"total_connections": 8})
    with proxy.wire() as busy, Sampler(postgres) as sampler:
        busy.query("BEGIN")
        old = proxy.upgrade(wait=None)
        proxy.wait_ready()
        proxy.process.kill()
        proxy.process = old
        wait_until(lambda: "upgrade failed" in proxy.log(), "the old process to notice")
        assert busy.query("COMMIT").state == "I"
        assert busy.query("SELECT 'served on'").value == "served on"
        with proxy.wire() as newcomer:
            assert newcomer.query("SELECT 'so am I'").value == "so am I"
        proxy.wait_ready()
    assert sampler.seen["all"] <= 8, sampler.seen


def test_one_upgrade_at_a_time(proxy):
    with proxy.wire() as busy:
        busy.query("BEGIN")
        old = proxy.upgrade(wait=None)
        for process, words in ((old, "one goes on"), (proxy.process, "the last one is not over")):
            process.send_signal(signal.SIGUSR2)
            wait_until(lambda: words in proxy.log(), words)
        busy.query("COMMIT")
        assert old.wait(20) == 0
        wait_until(lambda: "the old process has gone" in proxy.log(), "the end of it")
        proxy.upgrade()
        assert busy.query("SELECT 1").value == "1"


def test_what_is_paused_is_not_upgraded(proxy):
    proxy.admin("PAUSE adhoc")
    proxy.process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "no upgrade" in proxy.log(), "the refusal")
    proxy.admin("RESUME adhoc")
    proxy.upgrade()


@pytest.mark.parametrize("which", ["old", "new", "both"])
def test_term_during_an_upgrade_stops_both(proxy, postgres, which):
    with proxy.wire() as busy, proxy.wire() as idle:
        busy.query("BEGIN")
        old = proxy.upgrade(wait=None)
        assert idle.query("SELECT 'carried'").value == "carried"
        if which != "new":
            old.send_signal(signal.SIGTERM)
        if which != "old":
            proxy.process.send_signal(signal.SIGTERM)
        busy.send(query("COMMIT"))
        assert busy.until("C")[-1].body == b"COMMIT\0"
        assert wire.ErrorResponse(wire.error_fields(busy.until_closed()[-1].body)).sqlstate == "57P01"
        assert old.wait(20) == 0
        if which == "old":
            assert idle.query("SELECT 'only the old one was told'").value
            proxy.process.send_signal(signal.SIGTERM)
        assert proxy.wait_exit() == 0
        assert idle.final_error().sqlstate == "57P01"


def test_hup_during_an_upgrade_is_the_new_process_s(start_proxy):
    proxy = start_proxy(automation={"timeout": 7})
    with proxy.wire() as busy:
        busy.query("BEGIN")
        old = proxy.upgrade(wait=None)
        old.send_signal(signal.SIGHUP)
        wait_until(lambda: "no reload" in proxy.log(), "the old one's refusal")
        proxy.reload(automation={"timeout": 9})
        wait_until(lambda: [row for row in proxy.show("CONFIG") if row["key"].endswith("automation.timeout")
                            and row["value"] == "9"], "the new value")
        busy.query("COMMIT")
        assert old.wait(20) == 0


# -- doors ------------------------------------------------------------------------------------------


def test_unix_sockets_keep_their_path_and_new_addresses_open(start_proxy):
    from server import free_port
    proxy = start_proxy(wait=None)
    listen = proxy.sections["pool:automation"]["listen"]
    proxy.change(automation={"listen": f"{listen}, unix:{proxy.directory}"})
    proxy.write_config()
    proxy.start()
    path = f"{proxy.directory}/.s.PGSQL.{proxy.port()}"
    inode = os.stat(path).st_ino
    with Wire(None, path=path) as client:
        client.login(ROLE, PASSWORD, "app")
        another = free_port()
        proxy.change(automation={"listen": f"{listen}, 127.0.0.1:{another}, unix:{proxy.directory}"})
        proxy.write_config()
        proxy.upgrade()
        assert client.query("SELECT 'carried'").value == "carried"
    assert os.stat(path).st_ino == inode
    for door in (Wire(None, path=path), Wire(another)):
        with door.login(ROLE, PASSWORD, "app") as client:
            assert client.query("SELECT 1").value == "1"
    proxy.stop()
    assert not os.path.exists(path), "the new process removes the file"


def test_console_says_that_it_ends_and_http_answers_go_on(proxy):
    import http.client
    with Wire(proxy.port("admin")).login(ROLE, PASSWORD, "pgreserve") as console:
        page = http.client.HTTPConnection("127.0.0.1", proxy.port("http"), timeout=10)
        page.request("GET", "/healthz")
        page.getresponse().read()
        busy = proxy.wire()
        busy.query("BEGIN")
        old = proxy.upgrade(wait=None)
        assert console.final_error().sqlstate == "57P01"
        page.request("GET", "/healthz")
        answer = page.getresponse()
        assert answer.status == 200 and answer.getheader("Connection") == "close"
        answer.read()
        busy.query("COMMIT")
        assert old.wait(20) == 0
    assert proxy.admin("SHOW VERSION")
    page.request("GET", "/healthz")
    assert page.getresponse().status == 200
    busy.close()


def test_client_whose_pool_is_gone_stays_where_it_is(start_proxy):
    proxy = start_proxy(wait=None, pgreserve={"total_connections": 12, "shutdown_timeout": "1500ms"})
    proxy.add_pool("third", size=1, max_overflow=0)
    proxy.write_config()
    proxy.start()
    with proxy.wire("third") as client:
        client.query("SELECT 1")
        proxy.sections.pop("pool:third")
        proxy.write_config()
        old = proxy.upgrade(wait=None)
        wait_until(lambda: "stays with the old process" in proxy.log(), "its refusal")
        assert client.query("SELECT 'served'").value == "served"
        assert client.final_error().sqlstate == "57P01"
        assert old.wait(20) == 0
    with pytest.raises(OSError):
        Wire(proxy.port("third"))
