"""The replication protocol through the proxy: a session of its own, counted in the cap, used by nobody after it.

On a private server with wal_level = logical.  A user would lose: change capture (Debezium, pg_recvlogical), physical
backups (pg_receivewal), or one connection of the cap for each of them that is not counted.
"""

import os
import signal
import struct
import subprocess

import pytest

from server import HBA, PASSWORD, ROLE, PostgresServer
from waiting import wait_until
from wire import ErrorResponse, copy_data, copy_done, query

SLOT = "captured"


@pytest.fixture(scope="module")
def shared_postgres():
    server = PostgresServer()
    try:
        server._write("pg_hba.conf", HBA + "host replication all 127.0.0.1/32 scram-sha-256\n")
        server.sql("ALTER SYSTEM SET wal_level = logical")
        server.sql(f"ALTER ROLE {ROLE} REPLICATION")
        server.restart(signal.SIGINT)
        yield server
    finally:
        server.destroy()


@pytest.fixture
def proxy(start_proxy):
    return start_proxy(pgreserve={"total_connections": 5}, automation={"size": 3, "max_overflow": 0, "timeout": "2s"})


@pytest.fixture
def slot(postgres):
    postgres.sql(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'")
    connection = postgres.superuser_connection("app")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (SLOT,))
        cursor.execute("SELECT pg_current_wal_lsn()")
        (start,) = cursor.fetchone()
    connection.close()
    yield start
    wait_until(lambda: not postgres.sql("SELECT 1 FROM pg_replication_slots WHERE active"), "the slot to be free")
    postgres.sql(f"SELECT pg_drop_replication_slot('{SLOT}')")


def senders(postgres):
    return {pid for (pid,) in postgres.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender'")}


def everybody(postgres):
    return postgres.sql(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'")[0][0]


@pytest.mark.parametrize("kind", ["database", "true"])
def test_psql_identifies_the_system(proxy, postgres, kind):
    (system,) = postgres.sql("SELECT system_identifier::text FROM pg_control_system()")[0]
    for _ in range(4):
        done = subprocess.run(
            ["psql", "-X", "-At", "-c", "IDENTIFY_SYSTEM", f"host=127.0.0.1 port={proxy.port()} user={ROLE} dbname=app"
             f" replication={kind}"], capture_output=True, text=True, timeout=30,
            env={**os.environ, "PGPASSWORD": PASSWORD})
        assert done.returncode == 0 and done.stdout.startswith(system), done.stderr
    with proxy.wire() as client:
        for _ in range(5):
            assert client.query("SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()").value == \
                "client backend"
    proxy.wait_pool(in_use=0)


def test_replication_true_of_a_word_that_means_no_is_an_ordinary_session(proxy):
    with proxy.wire(replication="off") as client:
        assert client.query("SELECT 1").value == "1"
        proxy.wait_pool(in_use=0)


def test_pg_recvlogical_hears_what_the_pool_does(proxy, postgres, slot, tmp_path, have):
    with proxy.wire() as client:
        client.query("CREATE TABLE IF NOT EXISTS captured (id int)")
        client.query("INSERT INTO captured SELECT generate_series(1, 300)")
        end = client.query("SELECT pg_current_wal_insert_lsn()").value
        client.query("INSERT INTO captured VALUES (1000)")  # something behind the end
    done = subprocess.run(
        [have("pg_recvlogical"), "-h", "127.0.0.1", "-p", str(proxy.port()), "-U", ROLE, "-d", "app", "-S", SLOT, "--start",
         "-f", str(tmp_path / "out"), "--no-loop", "--endpos", end], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PGPASSWORD": PASSWORD})
    assert done.returncode == 0, done.stderr
    heard = (tmp_path / "out").read_text()
    assert heard.count("INSERT: id[integer]:") == 300
    proxy.wait_pool(in_use=0)


def test_pg_receivewal(proxy, postgres, tmp_path, have):
    with proxy.wire() as client:
        client.query("CREATE TABLE IF NOT EXISTS written (id int)")
        client.query("INSERT INTO written SELECT generate_series(1, 1000)")
    postgres.sql("SELECT pg_switch_wal()")
    end = postgres.sql("SELECT pg_current_wal_lsn()")[0][0]
    process = subprocess.Popen(
        [have("pg_receivewal"), "-h", "127.0.0.1", "-p", str(proxy.port()), "-U", ROLE, "-D", str(tmp_path), "--no-loop",
         "--endpos", end], env={**os.environ, "PGPASSWORD": PASSWORD}, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: senders(postgres), "the receiver")
        postgres.sql("CREATE TABLE more AS SELECT generate_series(1, 1000)")
        postgres.sql("SELECT pg_switch_wal()")
        postgres.sql("DROP TABLE more")
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert any(os.path.getsize(path) == 16 << 20 for path in tmp_path.iterdir()), list(tmp_path.iterdir())
    proxy.wait_pool(in_use=0)


def stream(proxy, slot, **parameters):
    client = proxy.wire(replication="database", application_name="capture", **parameters)
    client.send(query(f"START_REPLICATION SLOT {SLOT} LOGICAL {slot}"))
    client.until("W")
    return client


def next_change(client):
    """The text of the next change; keepalives are answered as they ask."""
    while True:
        received = client.receive()
        assert received.kind == "d", received
        if received.body[:1] == b"w":
            return received.body[25:].decode()
        assert received.body[:1] == b"k"
        if received.body[-1]:
            (position,) = struct.unpack_from("!Q", received.body, 1)
            client.send(copy_data(b"r" + struct.pack("!QQQQB", position, position, position, 0, 0)))


def test_changes_stream_while_they_are_made(proxy, postgres, slot):
    client = stream(proxy, slot)
    (name,) = postgres.sql("SELECT application_name FROM pg_stat_replication")[0]
    assert name == "capture", "its start-up parameters are in force"
    with proxy.wire() as other:
        other.query("CREATE TABLE IF NOT EXISTS captured (id int)")
        for number in range(10):
            other.query(f"INSERT INTO captured VALUES ({number})")
            while f"id[integer]:{number}" not in next_change(client):
                pass
    client.send(copy_done())
    messages = client.until("Z")
    assert "c" in "".join(one.kind for one in messages)
    assert client.query("SELECT 1").value == "1", "it is an ordinary session again"
    client.close()
    proxy.wait_pool(in_use=0)


@pytest.mark.parametrize("leaves", ["vanishes", "resets", "says goodbye"])
def test_its_connection_counts_and_is_used_by_nobody_after_it(proxy, postgres, slot, leaves):
    client = stream(proxy, slot)
    (sender,) = senders(postgres)
    proxy.wait_pool(in_use=1)
    held = proxy.hold(count=2)
    with proxy.wire() as late:
        assert late.query("SELECT 1").error.sqlstate == "53300", "the third of three is the stream's"
    assert everybody(postgres) <= 5
    if leaves == "resets":
        client.reset()
    else:
        if leaves == "says goodbye":
            client.send(copy_done(), b"X\0\0\0\4")
        client.close()
    wait_until(lambda: not senders(postgres), "the sender to be gone")
    with proxy.wire() as late:
        assert late.query("SELECT pg_backend_pid()").value != str(sender)
    for connection in held:
        connection.close()
    proxy.wait_pool(in_use=0)


def test_a_stream_whose_server_ends_it_is_told_why(proxy, postgres, slot):
    client = stream(proxy, slot)
    (sender,) = senders(postgres)
    postgres.terminate(sender)
    messages = client.until_closed()
    assert any(one.kind == "E" and b"57P01" in one.body for one in messages), messages
    client.close()
    proxy.wait_pool(in_use=0)


def test_five_streams_at_most_three_connections(proxy, postgres):
    """The cap holds for these too: the rest is refused, not opened."""
    clients, refused = [], 0
    for _ in range(5):
        try:
            client = proxy.wire(replication="database")
            assert client.query("IDENTIFY_SYSTEM").value
            clients.append(client)
        except ErrorResponse as error:
            assert error.sqlstate == "53300", error
            refused += 1
        assert everybody(postgres) <= 5
    assert len(clients) == 3 and refused == 2
    for client in clients:
        client.close()
    wait_until(lambda: not senders(postgres), "the senders to be gone")
