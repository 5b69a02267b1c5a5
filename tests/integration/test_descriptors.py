"""When the process runs out of descriptors: the doors that matter stay open, and it recovers.

A user would lose: psql and the console in the middle of a connection storm.
"""

import pytest

import wire
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire

LIMIT = 100


@pytest.fixture
def tight(start_proxy):
    return start_proxy(files_limit=LIMIT, pgreserve={"max_clients": 1000})


def storm(proxy, count):
    """Opens connections until `count`; those that are not served fail or stay silent."""
    clients = []
    for _ in range(count):
        client = Wire(proxy.port(), timeout=2)
        client.send(wire.startup(user=ROLE, database="app"))
        clients.append(client)
    return clients


def test_console_http_and_developers_get_in_during_a_storm(tight):
    tight.wait_warm()
    clients = storm(tight, 300)
    wait_until(lambda: tight.descriptors() >= LIMIT // 2, "the storm to be felt")
    assert tight.show("POOLS")
    assert tight.status()["pools"]
    with tight.wire("adhoc") as developer:
        assert developer.query("SELECT 'in'").value == "in"
    before = tight.cpu_seconds()
    wait_until(lambda: tight.show("VERSION"), "the console")
    assert tight.cpu_seconds() - before < 1.0, "no busy loop on accept"
    for client in clients:
        client.close()
    with tight.wire() as after:
        assert after.query("SELECT 'served again'").value == "served again"
    tight.wait_pool(clients=0)


def test_too_few_for_max_clients_is_said_at_the_start_and_when_it_is_changed(tight):
    def warnings():
        return [line for line in tight.log().splitlines() if "fewer open files are allowed than max_clients needs" in line]
    (line,) = warnings()
    for words in ("max_clients=1000", f"allowed={LIMIT}", "LimitNOFILE", "WARNING"):
        assert words in line
    tight.admin("SET max_clients = 20")
    assert len(warnings()) == 1
    tight.admin("SET max_clients = 2000")
    assert len(warnings()) == 2
    tight.admin("RELOAD")
    assert "max_clients=1000" in warnings()[2]


def test_refusal_for_want_of_descriptors_says_what_raises_the_limit(tight):
    clients = storm(tight, 100)
    with Wire(tight.port()) as late:
        late.send(wire.startup(user=ROLE, database="app"))
        refused = late.final_error()
    assert refused.sqlstate == "53300" and "descriptors" in refused.message and "LimitNOFILE" in refused.hint
    for client in clients:
        client.close()


def test_those_inside_work_on_during_a_storm(tight):
    with tight.wire() as inside:
        clients = storm(tight, 300)
        for _ in range(20):
            assert inside.query("SELECT 1").value == "1"
        for client in clients:
            client.close()
    tight.wait_pool(clients=0)


def test_backends_can_be_replaced_during_a_storm(tight, postgres):
    tight.wait_warm()
    clients = storm(tight, 300)
    before = postgres.backend_pids()
    for pid in before:
        postgres.terminate(pid)
    wait_until(lambda: len(postgres.backend_pids() - before) == 6, "replacements")
    for client in clients:
        client.close()


def test_storm_of_logins_and_leavings_leaks_nothing(proxy):
    proxy.wait_warm()
    with proxy.wire() as client:
        client.query("SELECT 1")
    proxy.wait_pool(clients=0)
    before = proxy.descriptors()
    for _ in range(5):
        clients = [Wire(proxy.port()) for _ in range(100)]
        for number, client in enumerate(clients):
            if number % 3 == 0:
                client.login(ROLE, PASSWORD, "app")
            elif number % 3 == 1:
                client.send(wire.startup(user=ROLE, database="app"))
        for client in clients:
            client.close()
    proxy.wait_pool(clients=0)
    wait_until(lambda: proxy.descriptors() <= before, "all descriptors to be closed")


def test_log_to_a_full_disk_harms_nobody(start_proxy):
    """stderr is /dev/full: every write fails with ENOSPC."""
    import subprocess
    from proxy import binary_path
    proxy = start_proxy(wait=None, pgreserve={"log_pool_events": "on"})
    with open("/dev/full", "w") as full:
        proxy.process = subprocess.Popen([binary_path(), "run", "-c", proxy.config_path],
                                         stdin=subprocess.DEVNULL, stdout=full, stderr=full,
                                         env=proxy.environment)
    open(proxy.log_path, "w").close()
    wait_until(proxy._is_listening, "pgreserve to listen")
    proxy.wait_ready()
    for _ in range(20):
        with proxy.wire() as client:
            assert client.query("SELECT 1").value == "1"
