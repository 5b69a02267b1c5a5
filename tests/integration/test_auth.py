"""Who may come in, how they prove it, and that failure tells nothing.

A user would lose: a log-in with what they have (SCRAM, md5, a users file of PgBouncer's), or the secrecy
of which user names exist.
"""

import hashlib
import struct
import time

import psycopg2
import pytest

import wire
from server import PASSWORD, ROLE
from wire import Wire, message, scram_verifier


def md5_secret(user, password):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


@pytest.fixture
def with_users(start_proxy, tmp_path):
    """A daemon with a users file: with_users({"alice": secret}, method="md5")"""
    def start(users, method="scram-sha-256", **sections):
        path = tmp_path / "users.txt"
        quote = lambda word: '"' + word.replace('"', '""') + '"'
        path.write_text("; a comment\n" + "".join(
            f"{quote(name)} {quote(secret)}\n" for name, secret in users.items()))
        path.chmod(0o644)
        proxy = start_proxy(auth={"method": method, "users_file": path}, **sections)
        proxy.users_path = path
        return proxy
    return start


def login(proxy, user, password, pool="automation", database="app"):
    with Wire(proxy.port(pool)) as client:
        client.login(user, password, database)
        return client.query("SELECT current_user").value


def refusal(proxy, user, password, pool="automation", database="app"):
    with pytest.raises(wire.ErrorResponse) as refused:
        login(proxy, user, password, pool, database)
    return refused.value


def test_upstreams_own_user_and_password_open_the_door(proxy):
    assert login(proxy, ROLE, PASSWORD) == ROLE
    assert login(proxy, ROLE, PASSWORD, "adhoc") == ROLE


def test_wrong_password_and_unknown_user_look_alike(proxy):
    wrong, unknown = refusal(proxy, ROLE, "wrong"), refusal(proxy, "nobody", "wrong")
    for error in (wrong, unknown):
        assert (error.severity, error.sqlstate) == ("FATAL", "28P01")
    assert wrong.message.replace(ROLE, "X") == unknown.message.replace("nobody", "X")
    assert set(wrong.fields) == set(unknown.fields)


def test_unknown_users_get_a_steady_salt(proxy):
    """A salt that changes from try to try would tell that the user does not exist."""
    def salt(user):
        with Wire(proxy.port()) as client:
            challenge = client.scram_challenge(user)
            return challenge["s"], challenge["i"]
    assert salt("ghost") == salt("ghost") != salt("spectre")
    assert salt(ROLE) == salt(ROLE)
    assert salt(ROLE)[1] == salt("ghost")[1]
    assert len(salt(ROLE)[0]) == len(salt("ghost")[0])


def test_empty_and_long_passwords_are_wrong_passwords(proxy):
    for password in ("", "x" * 5000, "ü" * 100):
        assert refusal(proxy, ROLE, password).sqlstate == "28P01"


def test_libpq_says_so_too(proxy):
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        proxy.connect(password="wrong")


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
@pytest.mark.parametrize("secret", ["plain", "md5", "scram"])
def test_users_file_secrets(with_users, method, secret):
    password = 'al"ice\'s pässword'
    stored = {"plain": password, "md5": md5_secret("alice", password),
              "scram": scram_verifier(password)}[secret]
    proxy = with_users({"alice": stored, ROLE: PASSWORD}, method)
    if (method, secret) == ("scram-sha-256", "md5"):
        assert refusal(proxy, "alice", password).sqlstate == "28P01"
        return
    assert login(proxy, "alice", password) == ROLE
    assert refusal(proxy, "alice", "other").sqlstate == "28P01"
    assert refusal(proxy, "bob", password).sqlstate == "28P01"


def test_md5_refusals_look_alike(with_users):
    proxy = with_users({"alice": "a"}, "md5")
    wrong, unknown = refusal(proxy, "alice", "wrong"), refusal(proxy, "bobby", "wrong")
    assert wrong.message.replace("alice", "X") == unknown.message.replace("bobby", "X")
    assert wrong.sqlstate == unknown.sqlstate == "28P01"


def test_psycopg2_with_md5(with_users):
    proxy = with_users({"alice": md5_secret("alice", "a")}, "md5")
    with proxy.connect(user="alice", password="a").cursor() as cursor:
        cursor.execute("SELECT 1")


def test_trust_asks_for_nothing(start_proxy):
    proxy = start_proxy(auth={"method": "trust"})
    with Wire(proxy.port()) as client:
        client.login("anybody", None, "app")
        assert client.query("SELECT current_user").value == ROLE


def test_users_file_changes_with_a_reload(with_users):
    proxy = with_users({"alice": "first"})
    assert login(proxy, "alice", "first") == ROLE
    proxy.users_path.write_text('"alice" "second"\n"bob" "b"\n')
    proxy.hang_up()
    assert login(proxy, "alice", "second") == ROLE
    assert login(proxy, "bob", "b") == ROLE
    assert refusal(proxy, "alice", "first").sqlstate == "28P01"


def test_users_of_a_pool(with_users):
    proxy = with_users({"scraper": "s", "dev": "d"},
                       automation={"users": "scraper"}, adhoc={"users": "dev, other"})
    assert login(proxy, "scraper", "s", "automation") == ROLE
    assert login(proxy, "dev", "d", "adhoc") == ROLE
    error = refusal(proxy, "dev", "d", "automation")
    assert (error.severity, error.sqlstate) == ("FATAL", "28000")
    assert refusal(proxy, "scraper", "s", "adhoc").sqlstate == "28000"
    # whoever does not know the password learns nothing about who exists
    known, unknown = refusal(proxy, "scraper", "x", "adhoc"), refusal(proxy, "nobody", "x", "adhoc")
    assert known.sqlstate == unknown.sqlstate
    assert known.message.replace("scraper", "X") == unknown.message.replace("nobody", "X")


def test_networks_of_a_pool(start_proxy):
    proxy = start_proxy(automation={"networks": "10.0.0.0/8, 192.168.1.0/24"},
                        adhoc={"networks": "127.0.0.0/8"})
    assert refusal(proxy, ROLE, PASSWORD, "automation").severity == "FATAL"
    assert login(proxy, ROLE, PASSWORD, "adhoc") == ROLE


def test_unknown_database_is_refused_when_there_is_no_star(start_proxy):
    proxy = start_proxy(**{"database:*": None}, databases={"app": {"url": "${UPSTREAM}"}})
    assert login(proxy, ROLE, PASSWORD, database="app") == ROLE
    error = refusal(proxy, ROLE, PASSWORD, database="nowhere")
    assert (error.severity, error.sqlstate) == ("FATAL", "3D000")
    assert "nowhere" in error.message


def test_database_that_the_upstream_lacks_is_named(proxy):
    error = refusal(proxy, ROLE, PASSWORD, database="nowhere")
    assert error.sqlstate == "3D000" and "nowhere" in error.message
    assert login(proxy, ROLE, PASSWORD, database="app") == ROLE


def test_database_name_of_a_section_is_routed(start_proxy):
    proxy = start_proxy(databases={"alias": {"dbname": "dev"}})
    with proxy.wire(database="alias") as client:
        assert client.query("SELECT current_database()").value == "dev"
    with proxy.wire(database="app") as client:
        assert client.query("SELECT current_database()").value == "app"
    with proxy.wire(database="postgres") as client:
        assert client.query("SELECT current_database()").value == "postgres"


@pytest.mark.parametrize("limit, count", [
    ({"pgreserve": {"max_clients": 3}}, 3),
    ({"automation": {"max_clients": 3}}, 3),
    ({"automation": {"max_clients_per_user": 3}}, 3),
    ({"automation": {"max_clients_per_address": 3}}, 3),
])
def test_client_limits_name_the_limit_and_its_value(start_proxy, limit, count):
    proxy = start_proxy(**limit)
    inside = [proxy.wire() for _ in range(count)]
    error = refusal(proxy, ROLE, PASSWORD)
    assert (error.severity, error.sqlstate) == ("FATAL", "53300")
    assert "3" in error.message
    ((section, settings),) = limit.items()
    name = "pgreserve" if section == "pgreserve" else f"pool:{section}"
    assert f"Raise {next(iter(settings))} in [{name}]" in error.hint
    inside.pop().close()
    proxy.wait_pool(clients=count - 1)
    assert login(proxy, ROLE, PASSWORD) == ROLE
    assert proxy.show("VERSION"), "the console has its own door"
    for client in inside:
        client.close()


@pytest.mark.parametrize("first", [
    b"", b"n,,", b"n,,n=", b"n,,n=,r=", b"n,,r=x,n=", b"y,,n=,r=abc\0", b"p=tls-server-end-point,,n=,r=a",
    b"p=tls-unique,,n=,r=a", b"n,a=other,n=,r=abc", b"n,,m=ext,n=,r=abc", b"n" * 9000, b"\xff" * 40,
], ids=lambda first: first[:16].decode("latin-1") + f"({len(first)})")
def test_scram_first_message_that_is_none(proxy, first):
    with Wire(proxy.port()) as client:
        client.send(wire.startup(user=ROLE, database="app"))
        client.receive()
        client.send(message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        received = client.receive()
        if received.kind == "R":  # an authzid or a lone nonce may be judged in the second step
            client.send(message("p", b"c=biws,r=wrong,p=AAAA"))
            received = client.receive()
        assert received.kind == "E"
        assert wire.error_fields(received.body)["C"] in ("28P01", "08P01", "28000", "0A000")
    assert login(proxy, ROLE, PASSWORD) == ROLE


@pytest.mark.parametrize("body", [
    b"", b"SCRAM-SHA-256", b"SCRAM-SHA-256\0", b"SCRAM-SHA-256\0\0\0\0\x7f",
    b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=a", b"SCRAM-SHA-1\0\xff\xff\xff\xff",
    b"SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc",
], ids=lambda body: body.hex()[:30])
def test_sasl_initial_response_that_is_none(proxy, body):
    with Wire(proxy.port()) as client:
        client.send(wire.startup(user=ROLE, database="app"))
        client.receive()
        client.send(message("p", body))
        received = client.receive()
        if received.kind == "R":
            client.send(message("p", b"x"))
            received = client.receive()
        assert received.kind == "E"
    assert login(proxy, ROLE, PASSWORD) == ROLE


@pytest.mark.parametrize("sent", [wire.query("SELECT 1"), wire.sync(), b"p\0\0\0\0", b"p\x7f\xff\xff\xff",
                                  b"p\0\0\xff\xff" + b"x" * 100], ids=lambda sent: sent.hex()[:16])
def test_something_else_than_a_password(proxy, sent):
    with Wire(proxy.port()) as client:
        client.send(wire.startup(user=ROLE, database="app"))
        client.receive()
        client.send(sent)
        assert client.final_error().severity == "FATAL"
    assert login(proxy, ROLE, PASSWORD) == ROLE


def test_passwords_are_not_asked_of_the_upstream_again(proxy):
    """Hundreds of log-ins cost no upstream connection of their own."""
    proxy.wait_warm()
    before = proxy.postgres.backend_pids()
    started = time.monotonic()
    for _ in range(100):
        Wire(proxy.port()).login(ROLE, PASSWORD, "app").close()
    assert time.monotonic() - started < 20
    assert proxy.postgres.backend_pids() == before


def test_hash_password_makes_a_verifier_for_the_users_file(with_users, proxy):
    import subprocess
    from proxy import binary_path
    done = subprocess.run([binary_path(), "hash-password"], input="hushed word\n",
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stdout.startswith("SCRAM-SHA-256$")
    other = with_users({"alice": done.stdout.strip()})
    assert login(other, "alice", "hushed word") == ROLE
