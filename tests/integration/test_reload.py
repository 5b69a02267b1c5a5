"""HUP: what can change does, what cannot is said, and a bad file changes nothing.

A user would lose: the chance to fix a limit at two in the morning without cutting everybody off.
"""

import os
import re
import subprocess

import pytest

from load import Sampler, end_load, pgbench
from proxy import binary_path
from server import PASSWORD, ROLE, free_port, make_certificate
from waiting import wait_until
from wire import Wire, query, startup


def config_value(proxy, ending):
    values = [row["value"] for row in proxy.show("CONFIG") if row["key"].endswith(ending)]
    assert values, f"{ending} is in SHOW CONFIG"
    return values[0]


def test_larger_size_serves_more_at_once(start_proxy, postgres):
    proxy = start_proxy(pgreserve={"total_connections": 20},
                        automation={"size": 1, "max_overflow": 0, "timeout": 20})
    (holder,) = proxy.hold()
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 'served'"))
        proxy.wait_pool(waiting=1)
        proxy.reload(automation={"size": 3})
        assert waiter.answer().value == "served"
    holder.cursor().execute("SELECT 'still in my transaction'")
    postgres.wait_for_backends(5)
    holder.close()


def test_smaller_size_closes_what_is_too_much_when_free(start_proxy, postgres):
    proxy = start_proxy(automation={"size": 4, "max_overflow": 0})
    postgres.wait_for_backends(6)
    holders = proxy.hold(count=4)
    proxy.reload(automation={"size": 1})
    for holder in holders:
        holder.cursor().execute("SELECT 'not cut off'")
        holder.close()
    postgres.wait_for_backends(3)
    assert proxy.pool()["total_possible"] == 1


def test_smaller_cap_is_reached_without_cutting_anybody(start_proxy, postgres):
    proxy = start_proxy(pgreserve={"total_connections": 8})
    postgres.wait_for_backends(6)
    proxy.reload(pgreserve={"total_connections": 4}, automation={"size": 2, "max_overflow": 0})
    postgres.wait_for_backends(4)
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"


def test_changed_timeout_is_in_the_next_error(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 60})
    (holder,) = proxy.hold()
    proxy.reload(automation={"timeout": "250ms"})
    with proxy.wire() as client:
        assert "timeout 0.25 s" in client.query("SELECT 1").error.message
    holder.close()


def test_bad_file_keeps_the_old_configuration(start_proxy):
    proxy = start_proxy(automation={"size": 3})
    with proxy.wire() as client:
        client.query("BEGIN")
        proxy.reload(automation={"size": "many"}, pgreserve={"no_such_key": "1"})
        log = proxy.log()
        assert "many" in log and "no_such_key" in log, "all mistakes are listed"
        assert config_value(proxy, "automation.size") == "3"
        assert client.query("SELECT 1").state == "T"
    proxy.change(automation={"size": 2}, pgreserve={"no_such_key": None})
    proxy.write_config()
    proxy.hang_up()
    wait_until(lambda: config_value(proxy, "automation.size") == "2", "the mended file")


def test_vanished_file_keeps_the_old_configuration(proxy):
    import os
    os.unlink(proxy.config_path)
    proxy.hang_up()
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"


def test_key_that_needs_a_restart_is_named(proxy):
    old = proxy.port()
    proxy.reload(automation={"listen": f"127.0.0.1:{free_port()}"})
    wait_until(lambda: "restart" in proxy.log() or "listen" in proxy.log(), "a word about listen")
    assert proxy.is_running()
    proxy.ports["automation"] = old if "restart" in proxy.log() else int(
        proxy.sections["pool:automation"]["listen"].rsplit(":", 1)[1])
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"


@pytest.fixture
def with_extra(start_proxy):
    """Three pools, of which a reload can take the last away."""
    proxy = start_proxy(wait=None, pgreserve={"total_connections": 12})
    proxy.add_pool("extra", size=1, max_overflow=0)
    proxy.write_config()
    proxy.start()
    proxy.wait_warm()
    return proxy


def taken_out(proxy):
    """Reloads without the pool; what was logged about it."""
    mark = len(proxy.log())
    proxy.reload(**{"pool:extra": None})
    wait_until(lambda: "configuration reloaded" in proxy.log(mark), "the end of the reload")
    return proxy.log(mark)


def assert_sent_away(client):
    error = client.final_error()
    assert (error.severity, error.sqlstate) == ("FATAL", "57P01")
    assert "extra" in error.hint and "configuration" in error.hint


def test_clients_of_a_pool_that_is_taken_out_are_told(with_extra, postgres):
    proxy = with_extra
    with proxy.wire("extra") as busy, proxy.wire("extra") as waiting, proxy.wire("extra") as idle, proxy.wire() as other:
        busy.query("BEGIN")
        waiting.send(query("SELECT 1"))
        proxy.wait_pool("extra", waiting=1)
        taken_out(proxy)
        for client in (busy, waiting, idle):
            assert_sent_away(client)
        assert other.query("SELECT 1").value == "1"
    with Wire(proxy.port("extra")) as late:
        late.send(startup(user=ROLE, database="app"))
        assert_sent_away(late)
    postgres.wait_for_backends(6)


def test_a_login_that_is_under_way_when_its_pool_is_taken_out(with_extra):
    proxy = with_extra
    with Wire(proxy.port("extra")) as silent, Wire(proxy.port("extra")) as half:
        half.send(startup(user=ROLE, database="app"))
        half.receive()
        taken_out(proxy)
        assert_sent_away(half)
        silent.send(startup(user=ROLE, database="app"))
        assert_sent_away(silent)


def test_pools_that_come_and_go_are_named_at_every_reload(with_extra):
    proxy = with_extra
    kept = dict(proxy.sections["pool:extra"])
    for _ in range(2):
        log = taken_out(proxy)
        assert re.search(r"WARNING.*\[pool:extra\] is not in the file any more", log), log
    proxy.add_pool("fresh", size=1, max_overflow=0)
    for _ in range(2):
        log = taken_out(proxy)
        assert re.search(r"WARNING.*\[pool:fresh\] is new: it needs a restart", log), log
    mark = len(proxy.log())
    proxy.reload(**{"pool:extra": kept, "pool:fresh": None})
    wait_until(lambda: "configuration reloaded" in proxy.log(mark), "the end of the reload")
    assert "[pool:" not in proxy.log(mark)
    with proxy.wire("extra") as client:
        assert client.query("SELECT 1").value == "1"


def test_changed_upstream_is_used_by_new_connections(start_proxy, postgres):
    proxy = start_proxy(databases={"alias": {"dbname": "app"}})
    with proxy.wire(database="alias") as client:
        assert client.query("SELECT current_database()").value == "app"
    proxy.reload(databases={"alias": {"dbname": "dev"}})

    def now():
        with proxy.wire(database="alias") as client:
            return client.query("SELECT current_database()").value
    wait_until(lambda: now() == "dev", "the new target")


def logins_elsewhere(postgres):
    return {pid for (pid,) in postgres.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'elsewhere'")}


@pytest.fixture
def elsewhere(postgres):
    """What makes a section's keys, with a user of the upstream that only the section knows."""
    postgres.sql("CREATE ROLE elsewhere LOGIN PASSWORD 'its own'")
    yield lambda host="host=127.0.0.1", user="elsewhere", password="its own": {
        "url": f"{host} port={postgres.port} dbname=app", "user": user, "password": password}
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'elsewhere'")
    postgres.sql("DROP ROLE elsewhere")


def assert_told_to_come_again(client):
    error = client.final_error()
    assert (error.severity, error.sqlstate) == ("FATAL", "57P01")
    assert '"app"' in error.hint and "connect again" in error.hint


@pytest.mark.parametrize("becomes", ["nothing", "another's"])
def test_a_password_goes_to_no_other_server(start_proxy, postgres, elsewhere, becomes):
    """A section is taken out, so that [database:*] is in force, or leads to another host with another user: who came
    before may end what goes on, on the connection that is there, and no other is opened with what was its section's."""
    proxy = start_proxy(databases={"app": elsewhere()}, automation={"size": 1, "max_overflow": 0})
    as_elsewhere = {"user": "elsewhere", "password": "its own", "database": "app"}
    with proxy.wire(**as_elsewhere) as busy, proxy.wire(**as_elsewhere) as idle, proxy.wire(**as_elsewhere) as waiting:
        busy.query("BEGIN")
        waiting.send(query("SELECT 1"))
        proxy.wait_pool(waiting=1)
        before = logins_elsewhere(postgres)
        assert len(before) == 1
        mark = len(proxy.log())
        section = None if becomes == "nothing" else elsewhere("host=localhost hostaddr=127.0.0.1", ROLE, PASSWORD)
        proxy.reload(**{"database:app": section})
        for client in (idle, waiting):
            assert_told_to_come_again(client)
        wait_until(lambda: "configuration reloaded" in proxy.log(mark), "the end of the reload")
        said = re.search(r"WARNING.*\[database:app\] is not in the file any more", proxy.log(mark))
        assert bool(said) == (becomes == "nothing")
        assert busy.query("SELECT current_user").value == "elsewhere"
        assert busy.query("COMMIT").tags == ["COMMIT"]
        busy.send(query("SELECT 1"))
        assert_told_to_come_again(busy)
        assert logins_elsewhere(postgres) <= before
    with proxy.wire(database="app") as client:
        assert client.query("SELECT current_user").value == ROLE
    assert not logins_elsewhere(postgres)


def test_a_section_that_moves_with_its_user_takes_its_clients_along(start_proxy, elsewhere):
    proxy = start_proxy(databases={"app": elsewhere()})
    with proxy.wire(user="elsewhere", password="its own", database="app") as client:
        client.query("SET search_path = pg_catalog")
        pid = client.query("SELECT pg_backend_pid()").value
        proxy.reload(databases={"app": elsewhere("host=localhost hostaddr=127.0.0.1")})
        assert client.query("SELECT current_user").value == "elsewhere"
        assert client.query("SELECT pg_backend_pid()").value != pid
        assert client.query("SHOW search_path").value == "pg_catalog"


def test_a_section_that_is_there_again_serves_again(start_proxy, elsewhere):
    proxy = start_proxy(databases={"app": elsewhere()})
    as_elsewhere = {"user": "elsewhere", "password": "its own", "database": "app"}
    for _ in range(2):
        with proxy.wire(**as_elsewhere) as client:
            assert client.query("SELECT current_user").value == "elsewhere"
            proxy.reload(**{"database:app": None})
            assert_told_to_come_again(client)
        proxy.reload(**{"database:app": elsewhere()})


def test_a_hundred_reloads_under_load_harm_nobody(start_proxy, postgres):
    proxy = start_proxy(pgreserve={"total_connections": 8})
    proxy.wait_warm()
    idle = proxy.wire()
    idle.query("SET search_path = pg_catalog")
    with Sampler(postgres) as sampler:
        loads = [pgbench(proxy, mode, 8) for mode in ("simple", "prepared")]
        proxy.wait_pool(clients=17)
        for turn in range(100):
            size = turn % 4 + 1
            proxy.change(automation={"size": size, "max_overflow": 5 - size, "recycle": turn % 3 + 1,
                                     "timeout": 20 + turn % 2})
            if turn % 10 == 9:
                proxy.change(automation={"size": "many"})
            proxy.write_config()
            proxy.hang_up()
            assert idle.query(f"SELECT {turn}").value == str(turn)
        for load in loads:
            end_load(load)
    assert idle.query("SHOW search_path").value == "pg_catalog"
    assert sampler.seen["all"] <= 8 and sampler.seen["samples"] > 50, sampler.seen
    log = proxy.log()
    assert log.count("configuration reloaded") >= 90 and log.count("the old configuration stays") >= 1
    assert proxy.descriptors() < 100
    idle.close()


def test_changed_mode_is_for_the_next_transaction(start_proxy):
    proxy = start_proxy(automation={"mode": "session", "size": 1, "max_overflow": 0, "timeout": 5})
    first = proxy.wire()
    first.query("SELECT 1")
    proxy.reload(automation={"mode": "transaction"})
    first.close()
    with proxy.wire() as second, proxy.wire() as third:
        assert second.query("SELECT 2").value == "2"
        assert third.query("SELECT 3").value == "3"


# -- files that are none -------------------------------------------------------------------------


def refuse_reload(proxy):
    mark = os.path.getsize(proxy.log_path)
    proxy.hang_up()
    wait_until(lambda: "the old configuration stays in force" in proxy.log(mark), "the refusal")
    assert "it is no regular file" in proxy.log(mark)
    with proxy.wire() as client:
        assert client.query("SELECT 'served on'").value == "served on"


@pytest.mark.parametrize("which", ["configuration", "users_file", "client_cert_file", "client_key_file"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(start_proxy, tmp_path, which):
    users = tmp_path / "users.txt"
    users.write_text(f'"{ROLE}" "{PASSWORD}"\n')
    certificate, key = make_certificate(str(tmp_path), "proxy")
    proxy = start_proxy(auth={"users_file": users},
                        tls={"client_mode": "allow", "client_cert_file": certificate, "client_key_file": key})
    path = {"configuration": proxy.config_path, "users_file": users, "client_cert_file": certificate, "client_key_file": key}[which]
    before = open(path).read()
    os.unlink(path)
    os.mkfifo(path)
    refuse_reload(proxy)
    os.unlink(path)
    with open(path, "w") as file:
        file.write(before)
    mark = os.path.getsize(proxy.log_path)
    proxy.hang_up()
    wait_until(lambda: "configuration reloaded" in proxy.log(mark), "the reload of the file")


def test_configuration_that_came_through_a_pipe_is_not_waited_for_again(start_proxy):
    """-c /dev/stdin, or <(...) in a shell: it has come once, and nobody writes it again."""
    proxy = start_proxy(wait=None)
    with open(proxy.log_path, "w") as log:
        proxy.process = subprocess.Popen([binary_path(), "run", "-c", "/dev/stdin"], stdin=subprocess.PIPE, stdout=log,
                                         stderr=log, env=proxy.environment)
    proxy.process.stdin.write(open(proxy.config_path, "rb").read())
    proxy.process.stdin.close()
    wait_until(proxy._is_listening, "pgreserve to listen")
    proxy.wait_ready()
    writer = os.open(f"/proc/{proxy.process.pid}/fd/0", os.O_RDWR)  # without one the pipe would only be empty
    try:
        refuse_reload(proxy)
    finally:
        os.close(writer)


def test_users_file_of_nobody_is_one(start_proxy):
    proxy = start_proxy(auth={"users_file": "/dev/null", "method": "trust"})
    mark = os.path.getsize(proxy.log_path)
    proxy.hang_up()
    wait_until(lambda: "configuration reloaded" in proxy.log(mark), "the reload")
