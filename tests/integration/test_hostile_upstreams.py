"""A server that means harm: what was found in poolers and drivers that believed theirs, tried on pgreserve.

The other half of test_published_vulnerabilities.py: here the attacker has a database, or a place on the road to one, and others
must not notice.  Each docstring names what was published and how it worked.
A user would lose: every database behind pgreserve to the owner of one.
"""

import contextlib
import os
import ssl
import struct

import pytest

import wire
from faults import Dripper
from hostile import HostileServer, Meddler
from server import PASSWORD, ROLE
from test_published_vulnerabilities import assert_serves
from waiting import Stopwatch
from wire import Wire, message, query


@pytest.fixture
def beside(start_proxy, tmp_path):
    """A daemon with a good upstream for `app` and a hostile one for `hostile`."""
    users = tmp_path / "users"
    users.write_text(f'"{ROLE}" "{PASSWORD}"\n')

    def start(server, **options):
        return start_proxy(automation={"timeout": 20, "connect_timeout": 2}, **{"database:*": None}, databases={
            "app": {"url": "${UPSTREAM}"}, "hostile": {"url": server.url(**options)}}, auth={"users_file": users})
    return start


def meet(proxy, database="hostile"):
    """A client of the hostile upstream: what it is told."""
    with Wire(proxy.port()) as client:
        try:
            client.login(ROLE, PASSWORD, database)
            return client.query("SELECT 1").errors[0]
        except wire.ErrorResponse as error:
            return error


@pytest.mark.parametrize("tail", [b",s=AAAA,i=2147483647", b",s=AAAA,i=100001", b",s=AAAA,i=99999999999999999999"])
def test_server_that_wants_the_password_hashed_for_an_hour(beside, tail):
    """CVE-2026-6669 (PgBouncer to 1.25.2) and CVE-2026-42198 (pgjdbc): the number of SCRAM's rounds is the server's to choose, and
    was obeyed, in the one thread that serves everybody.  libpq of today obeys too."""
    def script(peer):
        peer.send(peer.ask_for_scram(tail))
        peer.receive()

    with HostileServer(script) as server:
        proxy = beside(server)
        started = proxy.cpu_seconds()
        with Stopwatch() as watch:
            error = meet(proxy)
            assert_serves(proxy)
        assert "iterations of SCRAM" in error.message and error.sqlstate == "08001"
        assert proxy.cpu_seconds() - started < 1 + watch.seconds / 2
        assert not server.problems


def test_server_that_says_so_in_pieces(beside):
    """The same, told so that a look at what has come in sees half of it, or begins in the middle."""
    def pieces(cut, pause):
        def script(peer):
            whole = peer.ask_for_scram(b",s=AAAA,i=2147483647")
            peer.send(whole[:cut])
            peer.socket.settimeout(pause)
            try:
                peer.receive()
            except TimeoutError:
                pass
            peer.socket.settimeout(20)
            peer.send(whole[cut:])
            peer.receive()
        return script

    def early(prefix):
        """A part of it that needs no nonce comes along with the question for a proof."""
        def script(peer):
            peer.send(message("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0") + prefix)
            nonce = peer.receive().body.split(b"r=", 1)[1]
            body = struct.pack("!I", 11) + b"r=" + nonce + b",s=AAAA,i=2147483647"
            peer.send(message("R", body)[len(prefix):])
            peer.receive()
        return script

    scripts = [pieces(1, 0.1), pieces(5, 0.1), pieces(9, 1.8), pieces(20, 0.1)] + [early(prefix) for prefix in (b"R", b"R\0\0", b"R\0\0\0")]
    for script in scripts:
        with HostileServer(script) as server:
            proxy = beside(server)
            started = proxy.cpu_seconds()
            assert meet(proxy).severity in ("ERROR", "FATAL")
            assert_serves(proxy)
            assert proxy.cpu_seconds() - started < 1, "it went round and round over the half that was there"
            assert not server.problems
            proxy.stop()


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_honest_server_on_a_slow_road_is_let_in(start_proxy, postgres, sslmode):
    """What is looked at before it is whole, and again, costs an honest server nothing."""
    with Dripper(postgres.port) as road:
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(port=road.port) + "?sslmode=" + sslmode},
                            automation={"size": 1, "max_overflow": 0}, adhoc={"size": 1, "reserved": 1})
        assert_serves(proxy)


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_server_that_leaves_in_the_middle_of_what_it_asks_is_noticed_then(start_proxy, postgres, tmp_path, leave, has_tls):
    """Not when connect_timeout is over: whoever waits would be told so late, and of the wrong thing."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if has_tls else None
    if tls:
        tls.load_cert_chain(os.path.join(postgres.data, "server.crt"), os.path.join(postgres.data, "server.key"))

    def script_of(first, second):
        def script(peer):
            asked = message("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0")
            if first is not None:
                peer.send(asked[:first])
            else:
                peer.send(peer.ask_for_scram(b",s=AAAA,i=4096")[:second])
            getattr(peer, leave)()
        return script

    cuts = [(first, None) for first in (0, 1, 5, 9, 22)] + [(None, second) for second in (0, 1, 5, 9, 30)]
    users = tmp_path / "users"
    users.write_text(f'"{ROLE}" "{PASSWORD}"\n')
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(HostileServer(script_of(*cut), tls=tls)) for cut in cuts]
        databases = {f"cut{number}": {"url": server.url(sslmode="require" if tls else "disable")}
                     for number, server in enumerate(servers)}
        proxy = start_proxy(automation={"timeout": 20, "connect_timeout": 5, "prefill": "off"}, auth={"users_file": users},
                            **{"database:*": None}, databases={"app": {"url": "${UPSTREAM}"}, **databases})
        for number, server in enumerate(servers):
            error = meet(proxy, f"cut{number}")
            assert error.sqlstate == "08001" and "timeout" not in error.message, (cuts[number], error.message)
            assert not server.problems
        assert_serves(proxy)


def test_server_whose_last_words_come_with_its_welcome(beside):
    """In one piece, so that libpq has read them and the login has gone well: they are told, and the connection is given to nobody."""
    def script(peer):
        words = wire.text("SFATAL") + wire.text("VFATAL") + wire.text("C57P01") + wire.text("Mnot today") + b"\0"
        peer.send(message("R", b"\0\0\0\0") + message("K", b"\0" * 8) + message("Z", b"I") + message("E", words))
        peer.receive()  # it does not close

    with HostileServer(script) as server:
        proxy = beside(server)
        error = meet(proxy)
        assert error.sqlstate == "08001" and error.message == "could not connect to upstream: not today"
        assert_serves(proxy)


@pytest.mark.parametrize("tail", [b"x" * 60000 + b",s=AAAA,i=4096", b"x" * 1500 + b",s=AAAA,i=4096", b",s=" + b"A" * 1600 + b",i=4096",
                                  b",s=,i=1", b",i=4096", b"", b",s=AAAA,i=0", b",s=AAAA,i=-1", b",s=AAAA,i=4096,x=" + b"y" * 900],
                         ids=lambda tail: tail[:10].decode() + f"({len(tail)})")
def test_server_with_a_long_nonce_or_half_a_challenge(beside, tail):
    """CVE-2026-6665, PgBouncer before 1.25.2: a server's long nonce ran over the end of the answer's buffer.
    (CVE-2019-10164 was the like of it in libpq.)"""
    def script(peer):
        peer.send(peer.ask_for_scram(tail))
        peer.receive()
        peer.send(message("R", struct.pack("!I", 12) + b"v=AAAA"))
        peer.receive()

    with HostileServer(script) as server:
        proxy = beside(server)
        assert meet(proxy).message.startswith("could not connect to upstream: ")
        assert_serves(proxy)


@pytest.mark.parametrize("said", [b"E\0\0\0\x1aSFATAL\0Mno state here\0\0", b"E\0\0\0\5\0", b"E\0\0\0\x09CXYZ\0", b"Eold words\n\0",
                                  b"R\xff\xff\xff\xff\0\0\0\0", b"R\0\0\0\x04", b"Z\0\0\0\x05I", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""],
                         ids=lambda said: said[:12].decode("latin-1"))
def test_server_whose_error_has_no_sqlstate_at_login(beside, said):
    """CVE-2026-6666, PgBouncer before 1.25.2: an error without an SQLSTATE in answer to a login ended the process."""
    def script(peer):
        peer.send(said)
        peer.close()

    with HostileServer(script) as server:
        proxy = beside(server)
        error = meet(proxy)
        assert error.sqlstate == "08001" and error.message.startswith("could not connect to upstream: ")
        assert_serves(proxy)


@pytest.mark.parametrize("error", [b"SERROR\0Mno state\0\0", b"\0", b"C\0\0", b"SFATAL\0VFATAL\0Mgone\0\0", b"M" + b"x" * 70000 + b"\0\0",
                                   b"Mno end", b""], ids=lambda body: body[:8].decode("latin-1") + f"({len(body)})")
def test_server_whose_error_has_no_sqlstate(start_proxy, postgres, error):
    """The same in a session: the client is told what there is to be told, and the next one is served."""
    def change(received):
        is_marked = received.kind == "E" and b"division by zero" in received.body
        return message("E", error) if is_marked else message(received.kind, received.body)

    with Meddler(postgres.port, change) as road:
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(port=road.port) + "?sslmode=disable"},
                            automation={"size": 1, "max_overflow": 1})
        for sent in (query("SELECT 1/0"), wire.extended("SELECT 1/0") + wire.sync()):
            with proxy.wire() as client:
                client.send(sent)
                try:
                    assert client.until("EZ")[-1].kind in "EZ"
                except wire.Closed:
                    pass
            assert_serves(proxy)


@pytest.mark.parametrize("said", [b"E\0\0\0\x30SFATAL\0C08P01\0M\x1b[31mtrust me\x1b[0m, type your password\0\0",
                                  b"E\x1b]0;trust me\x07\0", b"Strust me", b"S" + message("R", b"\0\0\0\0"), b"N", b"X"],
                         ids=["error", "old error", "S and words", "S and a welcome", "N", "X"])
def test_words_before_the_servers_tls(beside, said):
    """CVE-2024-10977 (libpq): words of a man in the middle in answer to SSLRequest were shown as the server's.  CVE-2021-23222
    (libpq) and CVE-2021-43767 (Odyssey): bytes behind the server's S were taken for what came through TLS."""
    with HostileServer(lambda peer: peer.receive(), encryption=said) as server:
        proxy = beside(server, sslmode="require")
        error = meet(proxy)
        assert error.message.startswith("could not connect to upstream: ")
        for shown in (error.message, proxy.log(), proxy.get("/status"), str(proxy.show("STATUS"))):
            assert "trust me" not in shown and "\x1b" not in shown
        assert 80877103 in server.codes and 196608 not in server.codes, "it went on in the clear"
        assert_serves(proxy)


def test_server_is_not_asked_for_gss_encryption(beside):
    """CVE-2022-41862 (libpq): an error in answer to the request for GSSAPI encryption was copied without its end.  We never
    ask, whatever the url says."""
    with HostileServer(lambda peer: peer.send(b"E\0\0\0\5\0")) as server:
        proxy = beside(server, gssencmode="prefer")
        meet(proxy)
        assert server.codes and 80877104 not in server.codes
        assert_serves(proxy)


@pytest.mark.parametrize("lie", [b"D\xff\xff\xff\xff", b"D\x7f\xff\xff\xff", b"D\0\0\0\0", b"D\0\0\0\3", b"Z\0\0\0\x04", b"Z\x7f\xff\xff\xff",
                                 b"E\xff\xff\xff\xff", b"S\xff\xff\xff\xf0", b"\0\0\0\0\4", b"T\x80\0\0\0"], ids=lambda lie: lie.hex())
def test_server_whose_lengths_lie(start_proxy, postgres, lie):
    """The server's side of the four-gibibyte lengths: a session ends, no room is made for them, nobody else notices."""
    def change(received):
        is_marked = received.kind == "D" and b"lie to me" in received.body
        return lie + b"\0" * 32 if is_marked else message(received.kind, received.body)

    with Meddler(postgres.port, change) as road:
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(port=road.port) + "?sslmode=disable"},
                            automation={"size": 1, "max_overflow": 1})
        memory = proxy.peak_memory_kb()
        with proxy.wire() as client:
            client.socket.settimeout(2)
            client.send(query("SELECT 'lie to me'"))
            try:
                client.until("Z")
            except (wire.Closed, TimeoutError):  # it may wait for the rest of what was announced, as libpq would
                pass
        assert_serves(proxy)
        assert proxy.peak_memory_kb() - memory < 32 * 1024
