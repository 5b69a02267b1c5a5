"""TLS between client and proxy, and between proxy and server.

A user would lose: encryption that they asked for, or a client that refuses to go without.
"""

import socket
import ssl

import psycopg2
import pytest

import wire
from server import PASSWORD, ROLE, make_certificate
from wire import Wire


@pytest.fixture
def with_tls(start_proxy, tmp_path):
    certificate, key = make_certificate(str(tmp_path), "proxy")

    def start(client_mode, **sections):
        proxy = start_proxy(tls={"client_mode": client_mode, "client_cert_file": certificate,
                                 "client_key_file": key}, **sections)
        proxy.certificate = certificate
        return proxy
    return start


def ask_over(proxy, **options):
    connection = proxy.connect(**options)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'hello'")
            assert cursor.fetchone() == ("hello",)
        return connection.info.ssl_in_use
    finally:
        connection.close()


@pytest.mark.parametrize("client_mode", ["allow", "prefer", "require"])
def test_sslmode_require(with_tls, client_mode):
    assert ask_over(with_tls(client_mode), sslmode="require") is True


def test_sslmode_verify_full(with_tls):
    proxy = with_tls("require")
    assert ask_over(proxy, sslmode="verify-full", sslrootcert=proxy.certificate, host="localhost",
                    hostaddr="127.0.0.1")
    with pytest.raises(psycopg2.OperationalError, match="does not match"):
        ask_over(proxy, sslmode="verify-full", sslrootcert=proxy.certificate, host="elsewhere",
                 hostaddr="127.0.0.1")


def test_plain_client_is_refused_when_tls_is_required(with_tls):
    proxy = with_tls("require")
    with Wire(proxy.port()) as client:
        with pytest.raises(wire.ErrorResponse) as refused:
            client.login(ROLE, PASSWORD, "app")
        assert refused.value.severity == "FATAL"
        assert refused.value.sqlstate == "28000"


@pytest.mark.parametrize("client_mode", ["allow", "prefer"])
def test_plain_client_is_welcome_when_it_is_not(with_tls, client_mode):
    assert ask_over(with_tls(client_mode), sslmode="disable") is False


def test_sslmode_require_fails_without_tls(proxy):
    with pytest.raises(psycopg2.OperationalError, match="does not support SSL"):
        ask_over(proxy, sslmode="require")


def test_scram_channel_binding(with_tls):
    proxy = with_tls("require")
    assert ask_over(proxy, sslmode="require", channel_binding="require")


def test_large_result_and_large_statement_over_tls(with_tls):
    proxy = with_tls("require")
    with proxy.connect(sslmode="require").cursor() as cursor:
        cursor.execute("SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300000) n")
        big = cursor.fetchone()[0]
        assert len(big) == 32 * 300000
        cursor.execute("SELECT md5(%s) = md5((SELECT string_agg(md5(n::text), '')"
                       " FROM generate_series(1, 300000) n))", (big,))
        assert cursor.fetchone()[0] is True


def test_tls_junk_after_the_s_ends_that_connection_only(with_tls):
    proxy = with_tls("prefer")
    for junk in (b"\0" * 100, b"\x16\x03\x01\x00\x05hello", wire.startup(user=ROLE, database="app"),
                 b"\x80\x2e\x01\x03\x01" + b"\0" * 50):
        with Wire(proxy.port()) as client:
            client.send(wire.SSL_REQUEST)
            assert client.read_exactly(1) == b"S"
            client.throw(junk)
    with Wire(proxy.port()) as client:
        client.send(wire.SSL_REQUEST)  # and goes in the middle of the handshake
        client.read_exactly(1)
        client.reset()
    assert ask_over(proxy, sslmode="require")


def test_bytes_slipped_in_behind_the_request_are_not_read_as_the_clients(with_tls):
    """CVE-2021-23222."""
    proxy = with_tls("prefer")
    with Wire(proxy.port()) as client:
        client.send(wire.SSL_REQUEST + wire.startup(user=ROLE, database="app"))
        received = b""
        try:
            while part := client.socket.recv(65536):
                received += part
        except ConnectionResetError:
            pass
        assert b"R\0\0\0" not in received


def test_old_tls_versions_are_refused(with_tls):
    proxy = with_tls("require")
    with Wire(proxy.port()) as client:
        client.send(wire.SSL_REQUEST)
        client.read_exactly(1)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(client.socket)


def test_cancel_over_a_tls_connection(with_tls):
    import threading
    proxy = with_tls("require")
    connection = proxy.connect(sslmode="require")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        with pytest.raises(psycopg2.errors.QueryCanceled):
            cursor.execute("SELECT pg_sleep(60)")
        timer.join()


@pytest.mark.parametrize("broken", ["missing file", "key of another"])
def test_broken_certificate_stops_the_start_with_a_reason(start_proxy, tmp_path, broken):
    certificate, key = make_certificate(str(tmp_path), "one")
    if broken == "missing file":
        key = str(tmp_path / "nowhere.key")
    else:
        key = make_certificate(str(tmp_path), "two")[1]
    proxy = start_proxy()
    proxy.change(tls={"client_mode": "require", "client_cert_file": certificate,
                      "client_key_file": key})
    proxy.write_config()
    failed = proxy.command("run", "-c", proxy.config_path)
    assert failed.returncode in (1, 2)
    assert key in failed.stderr or certificate in failed.stderr


@pytest.mark.parametrize("sslmode", ["require", "disable"])
def test_upstream_connection_follows_its_sslmode(start_proxy, postgres, sslmode):
    proxy = start_proxy(environment={"UPSTREAM": postgres.url() + "?sslmode=" + sslmode})
    with proxy.wire() as client:
        look = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert client.query(look).value == ("t" if sslmode == "require" else "f")
        assert client.query("SELECT length(repeat('x', 5000000))").value == "5000000"
        rows = client.query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)").rows
        assert len(rows) == 20000


def test_upstream_over_a_unix_socket(start_proxy, postgres):
    keywords = (f"host={postgres.directory} port={postgres.port} user={ROLE} dbname=app"
                " password='pr0xy secret\\'s'")
    proxy = start_proxy(environment={"UPSTREAM": keywords})
    with proxy.wire() as client:
        assert client.query("SELECT inet_client_addr() IS NULL").value == "t"


def test_upstream_with_several_hosts_tries_the_next(start_proxy, postgres):
    from server import PASSWORD_IN_URL, free_port
    url = (f"postgresql://{ROLE}:{PASSWORD_IN_URL}@127.0.0.1:{free_port()},localhost:{postgres.port}"
           "/app")
    proxy = start_proxy(environment={"UPSTREAM": url})
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"
