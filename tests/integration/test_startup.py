"""How a connection begins: start-up packets, their parameters, and whatever is not one.

A user would lose: a driver that asks for SSL, GSS or a newer protocol first, `options=-c ...`, and a
proxy that lives through port scanners.
"""

import struct
import time

import psycopg2
import pytest

import wire
from server import PASSWORD, ROLE
from waiting import port_accepts, wait_until
from wire import Wire, query, startup


def assert_still_serves(proxy):
    with proxy.wire() as client:
        assert client.query("SELECT 1").value == "1"


def test_options_are_honoured(any_mode_proxy):
    with any_mode_proxy.wire(options="-c work_mem=71MB -c statement_timeout=33s") as client:
        assert client.query("SHOW work_mem").value == "71MB"
        assert client.query("SHOW statement_timeout").value == "33s"


def test_who_waits_for_a_connection_to_begin_with_knows_that_the_proof_was_good(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    (holder,) = proxy.hold()
    with Wire(proxy.port()) as client:
        client.send(startup(user=ROLE, database="dev"))
        answer = client.receive()
        while answer.body != b"\0\0\0\0":
            assert answer.kind == "R"
            client._authenticate(answer.body, ROLE, PASSWORD)
            answer = client.receive()
        proxy.wait_pool(waiting=1)
    holder.close()


def test_options_with_escaped_blanks(proxy):
    with proxy.wire(options=r"-c my.words=two\ words --work_mem=72MB") as client:
        assert client.query("SHOW my.words").value == "two words"
        assert client.query("SHOW work_mem").value == "72MB"


def test_time_zone_date_style_and_search_path_are_honoured(any_mode_proxy):
    with any_mode_proxy.wire(TimeZone="Asia/Tokyo", DateStyle="German", search_path="pg_catalog",
                             extra_float_digits="2") as client:
        assert client.parameters["TimeZone"] == "Asia/Tokyo"
        assert client.query("SHOW TimeZone").value == "Asia/Tokyo"
        assert client.query("SHOW DateStyle").value.startswith("German")
        assert client.query("SHOW search_path").value == "pg_catalog"
        assert client.query("SHOW extra_float_digits").value == "2"


def test_psql_with_pgoptions_and_pgtz(proxy, monkeypatch):
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=73MB")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    done = proxy.psql("-Atc", "SHOW work_mem", "-c", "SHOW timezone")
    assert done.stdout.split() == ["73MB", "Asia/Tokyo"], done


@pytest.mark.parametrize("parameters, word", [
    ({"no_such_setting": "1"}, "no_such_setting"),
    ({"options": "-c no_such_setting=1"}, "no_such_setting"),
    ({"work_mem": "not a size"}, "work_mem"),
    ({"options": "-c work_mem=lots"}, "work_mem"),
])
def test_wrong_setting_is_refused_with_the_servers_words(proxy, parameters, word):
    with Wire(proxy.port()) as client:
        with pytest.raises(wire.ErrorResponse) as refused:
            client.login(ROLE, PASSWORD, "app", **parameters)
            client.query("SELECT 1").value  # for a proxy that has to ask the server first
        assert word in refused.value.message
    assert_still_serves(proxy)


@pytest.mark.parametrize("parameters", [
    {"search_path": "a,\\b c"}, {"DateStyle": "foo"}, {"a b.c": "d"}, {"work_mem": "abc"}, {"options": "-c work_mem"},
    {"options": "--work-mem"}, {"options": "hello"}, {"options": "-Z"}])
def test_a_refusal_is_the_servers_to_the_letter(proxy, postgres, parameters):
    refusals = []
    for port in (postgres.port, proxy.port()):
        with Wire(port) as client, pytest.raises(wire.ErrorResponse) as refused:
            client.login(ROLE, PASSWORD, "app", **parameters)
        refusals.append({field: refused.value.fields.get(field) for field in "SVCMDH"})
    assert refusals[1] == refusals[0]


def test_ssl_request_is_declined_without_tls(proxy):
    with Wire(proxy.port()) as client:
        client.send(wire.SSL_REQUEST)
        assert client.read_exactly(1) == b"N"
        client.login(ROLE, PASSWORD, "app")
        assert client.query("SELECT 1").value == "1"


def test_gss_request_is_declined_and_may_be_followed_by_ssl(proxy):
    with Wire(proxy.port()) as client:
        client.send(wire.GSSENC_REQUEST)
        assert client.read_exactly(1) == b"N"
        client.send(wire.SSL_REQUEST)
        assert client.read_exactly(1) == b"N"
        client.login(ROLE, PASSWORD, "app")
        assert client.query("SELECT 1").value == "1"


def test_repeated_ssl_requests_are_not_served_for_ever(proxy):
    with Wire(proxy.port()) as client:
        client.send(wire.SSL_REQUEST)
        assert client.read_exactly(1) == b"N"
        client.send(wire.SSL_REQUEST)
        answer = client.socket.recv(1)
        assert answer in (b"", b"E"), "a second SSLRequest is an error"
    assert_still_serves(proxy)


def test_newer_minor_version_is_negotiated(proxy):
    with Wire(proxy.port()) as client:
        client.login(ROLE, PASSWORD, "app", version=196608 + 99)
        version, unknown = struct.unpack_from("!II", client.negotiated)
        assert version in (wire.PROTOCOL_3_0, wire.PROTOCOL_3_2, 2, 0) and unknown == 0
        assert client.query("SELECT 1").value == "1"


def test_protocol_3_2_is_spoken_or_negotiated_down(proxy):
    with Wire(proxy.port()) as client:
        client.login(ROLE, PASSWORD, "app", version=wire.PROTOCOL_3_2)
        assert client.negotiated is not None or len(client.backend_key) >= 4
        assert 4 <= len(client.backend_key) <= 256
        assert client.query("SELECT 1").value == "1"


def test_unknown_protocol_options_are_listed(proxy):
    with Wire(proxy.port()) as client:
        client.login(ROLE, PASSWORD, "app", **{"_pq_.future": "1", "_pq_.other": "x"})
        _, unknown = struct.unpack_from("!II", client.negotiated)
        names = client.negotiated[8:].split(b"\0")[:-1]
        assert unknown == 2 and set(names) == {b"_pq_.future", b"_pq_.other"}
        assert client.query("SELECT 1").value == "1"


@pytest.mark.parametrize("version", [0, 1 << 16, 2 << 16, 4 << 16, 0xFFFFFFFF])
def test_other_major_versions_are_refused(proxy, version):
    with Wire(proxy.port()) as client:
        client.send(startup(version, user=ROLE))
        assert client.final_error().severity == "FATAL"
    assert_still_serves(proxy)


def test_missing_user_is_refused(proxy):
    with Wire(proxy.port()) as client:
        client.send(startup(database="app"))
        assert client.final_error().severity == "FATAL"


def test_database_defaults_to_the_users_name(proxy):
    """PostgreSQL's rule; the upstream has no database of that name, and says so."""
    with Wire(proxy.port()) as client:
        with pytest.raises(wire.ErrorResponse) as refused:
            client.login(ROLE, PASSWORD)
            client.query("SELECT 1").value
        assert "proxy" in refused.value.message


@pytest.mark.parametrize("junk", [
    struct.pack("!I", 0) + b"xxxx",
    struct.pack("!I", 3) + b"xxxx",
    struct.pack("!I", 7) + b"xxxx",
    struct.pack("!I", 10005) + struct.pack("!I", 196608),
    struct.pack("!I", 0x7FFFFFFF) + struct.pack("!I", 196608),
    struct.pack("!I", 0xFFFFFFFF) + struct.pack("!I", 196608),
    struct.pack("!II", 13, 196608) + b"user\0",
    struct.pack("!II", 9, 196608) + b"x",
    struct.pack("!II", 20, 196608) + b"user\0proxy\0\0"[:12],
    struct.pack("!III", 12, 80877102, 1),
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 600,
    b"\x16\x03\x01\xff\xff" + b"\0" * 64,
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\0" * 64,
    b"\xff" * 64,
], ids=lambda junk: junk[:12].hex())
def test_garbage_ends_its_connection_only(proxy, junk):
    with Wire(proxy.port()) as client:
        client.send(junk)
        # what is too short to judge is ended by us; the rest the proxy must end by itself
        messages = client.socket.recv(65536) if not _is_short(junk) else b""
        assert b"ZI" not in messages
    assert_still_serves(proxy)


def _is_short(junk):
    (length,) = struct.unpack_from("!I", junk)
    return 8 <= length <= 10000 and len(junk) < length


def test_oversized_startup_packet_is_named_as_such(proxy):
    with Wire(proxy.port()) as client:
        client.send(struct.pack("!II", 20000, 196608) + b"x" * 64)
        assert client.final_error().sqlstate == "08P01"


def test_bytes_behind_an_ssl_request_are_dropped_with_the_connection(proxy):
    """CVE-2021-23222: a man in the middle could slip a query in before TLS is up."""
    with Wire(proxy.port()) as client:
        client.send(wire.SSL_REQUEST + startup(user=ROLE, database="app"))
        received = client.socket.recv(65536)
        while received and len(received) < 4096:
            more = client.socket.recv(65536)
            if not more:
                break
            received += more
        assert b"R\0\0\0" not in received, "it went on to authenticate"
    assert_still_serves(proxy)


def test_a_startup_that_never_comes_is_ended_by_login_timeout(start_proxy):
    proxy = start_proxy(automation={"login_timeout": "300ms"})
    started = time.monotonic()
    silent, half = Wire(proxy.port()), Wire(proxy.port())
    half.send(startup(user=ROLE)[:6])
    no_password = Wire(proxy.port())
    no_password.send(startup(user=ROLE, database="app"))
    for client in (silent, half, no_password):
        client.until_closed()
    assert 0.25 < time.monotonic() - started < 5
    assert_still_serves(proxy)


def test_login_timeout_counts_from_the_first_moment(start_proxy):
    """Who dawdles in each step of a login does not get it once for each."""
    proxy = start_proxy(automation={"login_timeout": "4s"})
    with Wire(proxy.port()) as client:
        came = time.monotonic()
        time.sleep(2.5)
        client.send(startup(user=ROLE, database="app"))
        assert client.receive().kind == "R"
        error = client.final_error()
        took = time.monotonic() - came
    assert (error.sqlstate, error.message) == ("57014", "canceling authentication due to timeout")
    assert 4 <= took < 6, "2.5 s of the four were over"


def test_health_probes_that_connect_and_leave(proxy):
    for _ in range(50):
        assert port_accepts(proxy.port())
    proxy.wait_pool(clients=0)
    assert_still_serves(proxy)


def test_unix_socket_listener(start_proxy, tmp_path):
    tmp_path.chmod(0o755)
    proxy = start_proxy(wait=None)
    port = proxy.port()
    proxy.change(automation={"listen": f"127.0.0.1:{port}, unix:{tmp_path}"})
    proxy.write_config()
    proxy.start()
    socket_path = tmp_path / f".s.PGSQL.{port}"
    connection = psycopg2.connect(host=str(tmp_path), port=port, user=ROLE, password=PASSWORD,
                                  dbname="app")
    assert connection.cursor().execute("SELECT 1") is None
    connection.close()
    assert_still_serves(proxy)
    proxy.stop()
    assert not socket_path.exists(), "the socket file is removed at the end"


def test_stale_unix_socket_file_of_a_killed_daemon_is_replaced(start_proxy, tmp_path):
    tmp_path.chmod(0o755)
    proxy = start_proxy(wait=None)
    proxy.change(automation={"listen": f"127.0.0.1:{proxy.port()}, unix:{tmp_path}"})
    proxy.write_config()
    proxy.start()
    proxy.process.kill()
    proxy.process.wait()
    proxy.start()
    with Wire(0, path=str(tmp_path / f".s.PGSQL.{proxy.port()}")) as client:
        client.login(ROLE, PASSWORD, "app")
        assert client.query("SELECT 1").value == "1"


def test_ipv6_listener(start_proxy):
    proxy = start_proxy(wait=None)
    proxy.change(automation={"listen": f"127.0.0.1:{proxy.port()}, [::1]:{proxy.port()}"})
    proxy.write_config()
    try:
        proxy.start()
    except AssertionError:
        pytest.skip("no IPv6 here")
    with Wire(proxy.port(), host="::1") as client:
        client.login(ROLE, PASSWORD, "app")
        assert client.query("SELECT 1").value == "1"


def test_port_in_use_is_a_clear_failure(proxy):
    second = proxy.command("run", "-c", proxy.config_path)
    assert second.returncode == 1
    assert str(proxy.port()) in second.stderr
    assert_still_serves(proxy)


def test_first_query_sent_before_the_login_is_over(start_proxy):
    proxy = start_proxy(auth={"method": "trust"})
    with Wire(proxy.port()) as client:
        client.send(startup(user=ROLE, database="app"), query("SELECT 'early'"))
        client.until("Z")
        assert client.answer().value == "early"


def test_names_that_look_like_a_start_up_packet_are_logged_safely(proxy):
    evil = "x\ny %s%n \x1b[31m"
    with Wire(proxy.port()) as client:
        with pytest.raises(wire.ErrorResponse):
            client.login(evil, "p", "app", application_name=evil)
    wait_until(lambda: proxy.is_running(), "the daemon to be there")
    assert "\x1b" not in proxy.log()


def test_a_start_up_packet_without_a_user_is_refused_as_by_the_server(proxy, postgres):
    errors = []
    for port in (postgres.port, proxy.port()):
        with Wire(port) as client:
            client.send(startup(database="app"))
            errors.append(client.final_error())
    own, shared = errors
    assert (shared.severity, shared.sqlstate, shared.message) == (own.severity, own.sqlstate, own.message)
