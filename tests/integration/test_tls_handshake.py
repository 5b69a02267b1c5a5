"""How TLS begins: at once or after a request, with which versions, certificates and names.

A user would lose: sslnegotiation=direct, clients that are who their certificate says, a renewed certificate without a
restart; or would keep a revoked one.
"""

import hashlib
import os
import shutil
import socket
import ssl
import subprocess

import psycopg2
import pytest

import wire
from certificates import Authority, openssl
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server_pair(authority):
    return authority.sign("localhost", "server")


@pytest.fixture
def with_tls(start_proxy, server_pair):
    def start(client_mode="require", auth=None, method=None, wait="ready", tls=None, **sections):
        settings = {"client_mode": client_mode, "client_cert_file": server_pair[0],
                    "client_key_file": server_pair[1], **(tls or {})}
        return start_proxy(tls=settings, wait=wait, auth={"method": method or "scram-sha-256", **(auth or {})},
                           **sections)
    return start


def context_for(alpn=("postgresql",), certificate=None, **versions):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if certificate:
        context.load_cert_chain(*certificate)
    for name, value in versions.items():
        setattr(context, name, value)
    return context


def direct(proxy, context=None, pool="automation"):
    """A client that begins with its ClientHello."""
    client = Wire(proxy.port(pool))
    client.socket = (context or context_for()).wrap_socket(client.socket, server_hostname="localhost")
    return client


def after_request(proxy, context, pool="automation"):
    client = Wire(proxy.port(pool))
    client.send(wire.SSL_REQUEST)
    assert client.read_exactly(1) == b"S"
    client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
    return client


def ask(client):
    client.login(ROLE, PASSWORD, "app")
    return client.query("SELECT 'hello'").value


# -- direct ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_mode", ["allow", "require"])
def test_direct_tls(with_tls, client_mode):
    proxy = with_tls(client_mode)
    with direct(proxy) as client:
        assert client.socket.selected_alpn_protocol() == "postgresql"
        assert ask(client) == "hello"
        assert client.query("SELECT length(repeat('x', 3000000))").value == "3000000"
    with direct(proxy, pool="admin") as client:
        client.login(ROLE, PASSWORD, "pgreserve")


def test_direct_tls_in_small_pieces(with_tls):
    """A ClientHello may come byte by byte."""
    proxy = with_tls()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context_for().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with Wire(proxy.port()) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    client.send(bytes([byte]))
                incoming.write(client.socket.recv(65536))
        client.send(outgoing.read())
        tls.write(wire.startup(user=ROLE, database="app"))
        client.send(outgoing.read())
        incoming.write(client.socket.recv(65536))
        assert tls.read()[:1] == b"R"


@pytest.mark.parametrize("alpn", [None, ("http/1.1",), ("h2", "imap")], ids=str)
def test_direct_tls_without_our_protocol_is_refused(with_tls, alpn):
    """A browser that is made to connect here must not get to speak (RFC 7301, protocol 55.2.11)."""
    proxy = with_tls()
    with pytest.raises((ssl.SSLError, OSError, wire.Closed)):
        ask(direct(proxy, context_for(alpn)))
    assert ask(direct(proxy)) == "hello"
    assert "login refused" in proxy.log()


def test_wrong_protocol_after_a_request_is_refused_too(with_tls):
    proxy = with_tls()
    with pytest.raises((ssl.SSLError, OSError)):
        after_request(proxy, context_for(("http/1.1",)))
    assert ask(after_request(proxy, context_for(None))) == "hello"


def test_direct_tls_where_there_is_no_tls(proxy):
    """As PostgreSQL does: nothing is said in the clear to somebody who listens for TLS."""
    with Wire(proxy.port()) as client:
        client.send(b"\x16\x03\x01\x02\x00\x01" + b"\0" * 100)
        assert client.is_closed()
    assert "direct TLS is not offered" in proxy.log()


def test_request_for_tls_inside_tls_is_declined(with_tls):
    proxy = with_tls()
    with direct(proxy) as client:
        client.send(wire.SSL_REQUEST)
        assert client.final_error().sqlstate in ("0A000", "08P01")
    assert ask(direct(proxy)) == "hello"


def test_junk_that_looks_like_a_client_hello(with_tls):
    proxy = with_tls()
    for junk in (b"\x16", b"\x16\x03\x01", b"\x16" * 300, b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"\x16\0\0\0\0"):
        with Wire(proxy.port()) as client:
            client.throw(junk)
    assert ask(direct(proxy)) == "hello"


def s_client(proxy, *arguments):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port()}", *arguments],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


def test_openssl_s_client(with_tls, authority):
    proxy = with_tls()
    trust = ("-CAfile", authority.ca_file, "-verify_return_error")
    for how in (("-starttls", "postgres"), ("-alpn", "postgresql")):
        said = s_client(proxy, *how, *trust)
        assert "Verify return code: 0 (ok)" in said and "TLSv1.3" in said, said
    assert "ALPN protocol: postgresql" in s_client(proxy, "-alpn", "postgresql", *trust)
    assert "no application protocol" in s_client(proxy, "-alpn", "http/1.1", *trust)
    assert "TLSv1.2" in s_client(proxy, "-starttls", "postgres", "-tls1_2", *trust)


def test_no_session_is_resumed(with_tls):
    """A resumed session would not look at a list of revoked certificates again."""
    proxy = with_tls()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = context_for(maximum_version=version)
        with direct(proxy, context) as client:
            assert ask(client) == "hello"
            session = client.socket.session
        if session is None or not session.has_ticket:
            continue
        again = Wire(proxy.port())
        again.socket = context.wrap_socket(again.socket, server_hostname="localhost", session=session)
        assert not again.socket.session_reused


# -- versions and ciphers -------------------------------------------------------------------------------


def test_protocols_setting(with_tls):
    proxy = with_tls(tls={"client_protocols": "tlsv1.2"})
    assert ask(after_request(proxy, context_for())) == "hello"
    with pytest.raises((ssl.SSLError, OSError)):
        after_request(proxy, context_for(minimum_version=ssl.TLSVersion.TLSv1_3))
    proxy.reload(tls={"client_protocols": "tlsv1.3"})
    with pytest.raises((ssl.SSLError, OSError)):
        after_request(proxy, context_for(maximum_version=ssl.TLSVersion.TLSv1_2))
    with after_request(proxy, context_for()) as client:
        assert client.socket.version() == "TLSv1.3"
        assert ask(client) == "hello"


def test_ciphers_setting(with_tls):
    proxy = with_tls(tls={"client_protocols": "tlsv1.2, tlsv1.3",
                          "client_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256",
                          "client_tls13_ciphers": "TLS_CHACHA20_POLY1305_SHA256"})
    with after_request(proxy, context_for(maximum_version=ssl.TLSVersion.TLSv1_2)) as client:
        assert client.socket.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
    with after_request(proxy, context_for()) as client:
        assert client.socket.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"


@pytest.mark.parametrize("wrong", [{"client_protocols": "tlsv9"}, {"client_ciphers": "NO-SUCH-CIPHER"},
                                   {"client_tls13_ciphers": "NO_SUCH"}, {"client_crl_file": "/nowhere"}],
                         ids=lambda wrong: next(iter(wrong)))
def test_wrong_settings_are_named(with_tls, authority, wrong):
    proxy = with_tls(wait=None, tls={"client_ca_file": authority.ca_file, **wrong})
    failed = proxy.command("run", "-c", proxy.config_path)
    assert failed.returncode == 2
    assert next(iter(wrong)) in failed.stderr or next(iter(wrong.values())) in failed.stderr


# -- channel binding ------------------------------------------------------------------------------------


def sasl_offer(client):
    client.send(wire.startup(user=ROLE, database="app"))
    return client.receive().body[4:]


def sasl_first(client, mechanism, first):
    client.send(wire.message("p", wire.text(mechanism) + len(first).to_bytes(4, "big") + first))
    return client.receive()


def test_downgrade_of_channel_binding_is_noticed(with_tls):
    """`y` says "you did not offer it": who took the offer out on the way is caught."""
    proxy = with_tls()
    with direct(proxy) as client:
        assert sasl_offer(client) == b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
        refused = sasl_first(client, "SCRAM-SHA-256", b"y,,n=,r=abcdefgh")
        assert refused.kind == "E"


def test_mechanism_and_flag_must_agree(with_tls):
    proxy = with_tls("allow")
    for mechanism, first in (("SCRAM-SHA-256-PLUS", b"n,,n=,r=abcdefgh"), ("SCRAM-SHA-256-PLUS", b"y,,n=,r=abcdefgh"),
                             ("SCRAM-SHA-256", b"p=tls-server-end-point,,n=,r=abcdefgh"),
                             ("SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=,r=abcdefgh")):
        with direct(proxy) as client:
            sasl_offer(client)
            assert sasl_first(client, mechanism, first).kind == "E"
    with Wire(proxy.port()) as client:  # in the clear it is not offered, and cannot be chosen
        assert sasl_offer(client) == b"SCRAM-SHA-256\0\0"
        assert sasl_first(client, "SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=abcdefgh").kind == "E"


def scram_plus(client, bound_to):
    """Logs in with the hash of this certificate bound in; the answer's kind."""
    import base64
    import hmac
    sasl_offer(client)
    bare = "n=,r=fixednonce"
    answer = sasl_first(client, "SCRAM-SHA-256-PLUS", f"p=tls-server-end-point,,{bare}".encode())
    server_first = answer.body[4:].decode()
    attributes = dict(part.split("=", 1) for part in server_first.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(attributes["s"]), int(attributes["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    binding = base64.b64encode(b"p=tls-server-end-point,," + hashlib.sha256(bound_to).digest()).decode()
    without = f"c={binding},r={attributes['r']}"
    signature = hmac.digest(hashlib.sha256(key).digest(), f"{bare},{server_first},{without}".encode(), "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    client.send(wire.message("p", f"{without},p={proof}".encode()))
    return client.receive().kind


def test_proof_bound_to_another_certificate_is_refused(with_tls, authority):
    """Who stands in between has another certificate, and the right proof is worth nothing to him."""
    proxy = with_tls()
    with direct(proxy) as client:
        assert scram_plus(client, client.socket.getpeercert(True)) == "R"
    other = ssl.PEM_cert_to_DER_cert(openssl("x509", "-in", authority.sign("mallory")[0]))
    with direct(proxy) as client:
        assert scram_plus(client, other) == "E"


@pytest.mark.parametrize("algorithm", [("rsa:2048",), ("rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048")], ids=str)
def test_libpq_binds_to_other_keys(with_tls, authority, algorithm):
    pair = authority.sign("localhost", "key-" + algorithm[0].replace(":", "-"), algorithm)
    proxy = with_tls(tls={"client_cert_file": pair[0], "client_key_file": pair[1]})
    connection = proxy.connect(sslmode="require", channel_binding="require")
    connection.close()


def test_certificate_without_a_hash_has_no_channel_binding(with_tls, tmp_path):
    """Ed25519 names no hash, so that tls-server-end-point is not defined, and libpq cannot compute it."""
    crt, key = str(tmp_path / "ed.crt"), str(tmp_path / "ed.key")
    openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout", key,
            "-out", crt)
    proxy = with_tls(tls={"client_cert_file": crt, "client_key_file": key})
    proxy.connect(sslmode="require").close()
    with direct(proxy) as client:
        assert sasl_offer(client) == b"SCRAM-SHA-256\0\0"


# -- reload ---------------------------------------------------------------------------------------------


def fingerprint(proxy):
    with direct(proxy) as client:
        return hashlib.sha256(client.socket.getpeercert(True)).hexdigest()


def test_renewed_certificate(with_tls, authority, tmp_path):
    """New connections get the new one, old ones go on; a broken pair changes nothing and is named."""
    certificate, key = str(tmp_path / "now.crt"), str(tmp_path / "now.key")
    copy = lambda pair: [shutil.copy(*each) for each in zip(pair, (certificate, key))]
    first, second = authority.sign("localhost", "first"), authority.sign("localhost", "second")
    copy(first)
    proxy = with_tls(tls={"client_cert_file": certificate, "client_key_file": key})
    old = proxy.connect(sslmode="require")
    before = fingerprint(proxy)
    half_way = direct(proxy)  # its handshake is over, its login is not
    copy(second)
    assert fingerprint(proxy) == before, "only a reload reads the files"
    proxy.hang_up()
    after = fingerprint(proxy)
    assert after != before
    assert scram_plus(half_way, half_way.socket.getpeercert(True)) == "R", "bound to what it was shown"
    with old.cursor() as cursor:
        cursor.execute("SELECT 1")
    shutil.copy(first[1], key)  # the key of another certificate
    mark = os.path.getsize(proxy.log_path)
    proxy.hang_up()
    wait_until(lambda: "the old configuration stays in force" in proxy.log(mark), "the refusal")
    assert key in proxy.log(mark)
    assert fingerprint(proxy) == after
    assert ask(direct(proxy)) == "hello"


def test_key_with_a_passphrase_is_refused_and_asks_nobody(with_tls, authority, server_pair, tmp_path):
    locked = str(tmp_path / "locked.key")
    openssl("pkey", "-in", server_pair[1], "-aes256", "-passout", "pass:x", "-out", locked)
    proxy = with_tls()
    proxy.reload(tls={"client_key_file": locked})
    wait_until(lambda: "the old configuration stays in force" in proxy.log(), "the refusal")
    assert ask(direct(proxy)) == "hello"


# -- certificates of clients ----------------------------------------------------------------------------


def libpq(proxy, user=ROLE, pair=None, **options):
    files = {"sslcert": pair[0], "sslkey": pair[1]} if pair else {"sslcert": "", "sslkey": ""}
    connection = proxy.connect(user=user, sslmode="require", **files, **options)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user")
            return cursor.fetchone()[0]
    finally:
        connection.close()


@pytest.mark.parametrize("client_mode", ["verify-ca", "verify-full"])
def test_verified_clients_only(with_tls, authority, tmp_path, client_mode):
    proxy = with_tls(client_mode, tls={"client_ca_file": authority.ca_file})
    known = authority.sign("anybody", "known-" + client_mode)
    assert libpq(proxy, pair=known) == ROLE
    stranger = Authority(tmp_path, "stranger").sign("anybody")
    for pair in (None, stranger):
        with pytest.raises(psycopg2.OperationalError, match="certificate|unknown ca|alert"):
            libpq(proxy, pair=pair)
    with pytest.raises(psycopg2.OperationalError, match="password"):
        libpq(proxy, pair=known, password="wrong")  # a certificate alone is not enough
    with Wire(proxy.port()) as client, pytest.raises(wire.ErrorResponse):
        client.login(ROLE, PASSWORD, "app")


def test_cert_method(with_tls, authority, tmp_path):
    proxy = with_tls("verify-full", method="cert", tls={"client_ca_file": authority.ca_file})
    assert libpq(proxy, pair=authority.sign(ROLE), password="never asked for") == ROLE
    with pytest.raises(psycopg2.OperationalError, match="certificate authentication failed"):
        libpq(proxy, pair=authority.sign("somebody-else"))
    with pytest.raises(psycopg2.OperationalError):
        libpq(proxy, pair=Authority(tmp_path, "stranger").sign(ROLE))


def test_revoked_certificate(with_tls, authority):
    good, bad = authority.sign("good"), authority.sign("bad")
    proxy = with_tls("verify-ca", tls={"client_ca_file": authority.ca_file})
    assert libpq(proxy, pair=bad) == ROLE
    proxy.reload(tls={"client_crl_file": authority.revoke(bad[0])})
    with pytest.raises(psycopg2.OperationalError, match="revoked"):
        libpq(proxy, pair=bad)
    assert libpq(proxy, pair=good) == ROLE
    assert "revoked" in proxy.log()
