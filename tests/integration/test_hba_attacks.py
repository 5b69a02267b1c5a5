"""Whoever tries to slip past the lines of hba_file: by a name that the server reads otherwise, by files that are none, by time.

A user would lose the rules that kept strangers out, or all clients would wait for one.
"""

import os
import select

import pytest

import wire
from proxy import is_under_valgrind
from server import PASSWORD, ROLE
from test_hba import authority, certificates, come, reference, with_rules, write_files  # noqa: F401
from waiting import wait_until
from wire import Wire, scram_verifier

LONG = "a" * 63


def refusal(proxy, user, database="app", **parameters):
    """The SQLSTATE that this client is refused with; None: it came in."""
    try:
        with Wire(proxy.port()) as client:
            client.login(user, "x", database, **parameters)
    except wire.ErrorResponse as error:
        return error.sqlstate
    return None


def start(start_proxy, tmp_path, lines, **sections):
    """Without a users_file: who is trusted comes to the upstream as its own user."""
    rules = tmp_path / "pg_hba.conf"
    rules.write_text(lines)
    proxy = start_proxy(auth={"hba_file": rules, **sections.pop("auth", {})}, **sections)
    proxy.rules = rules
    return proxy


def test_a_name_that_the_server_cuts_is_cut_before_rules_are_asked(start_proxy, tmp_path):
    proxy = start(start_proxy, tmp_path, f"host all {LONG} all reject\nhost {LONG} all all reject\nhost all all all trust\n")
    assert refusal(proxy, LONG) == "28000"
    assert refusal(proxy, LONG + "b") == "28000"
    assert refusal(proxy, "ann", LONG + "b") == "28000"
    assert refusal(proxy, "ann") is None


@pytest.mark.parametrize("value", ["f", "fa", "of", "n", "OFF"])
def test_what_the_server_takes_for_no_replication_is_not_let_in_by_the_lines_for_it(start_proxy, tmp_path, value):
    proxy = start(start_proxy, tmp_path, "host replication all all trust\n")
    assert refusal(proxy, ROLE, replication=value) == "28000"


def test_replication_of_no_known_kind_is_refused_at_once(start_proxy, tmp_path):
    proxy = start(start_proxy, tmp_path, "host replication all all trust\n")
    with Wire(proxy.port()) as client:
        client.send(wire.startup(user=ROLE, database="app", replication="o"))
        error = client.final_error()
        assert (error.sqlstate, error.message) == ("22023", 'invalid value for parameter "replication": "o"')


def test_a_pipe_in_place_of_a_file_stops_nobody(with_rules):  # noqa: F811
    proxy = with_rules({"pg_hba.conf": "host all all all md5\n"})
    for name, text in (("pg_hba.conf", None), ("pg_ident.conf", None), ("list", "host all @list all trust\n")):
        path = f"{proxy.directory}/{name}"
        write_files(proxy, {"pg_hba.conf": text or "host all all all trust\n", "pg_ident.conf": "", name: ""})
        os.unlink(path)
        os.mkfifo(path)
        mark = os.path.getsize(proxy.log_path)
        proxy.hang_up()
        wait_until(lambda: "the old configuration stays in force" in proxy.log(mark), "the refusal")
        assert "it is no regular file" in proxy.log(mark)
        assert come(proxy) == "in" and come(proxy, password="wrong")[0] == "28P01"
        os.unlink(path)


def test_show_config_says_hba_where_rules_are_asked(start_proxy, tmp_path):
    proxy = start(start_proxy, tmp_path, "host all all all scram-sha-256\n")
    rows = {row["key"]: row["value"] for row in proxy.show("CONFIG")}
    assert rows["auth_type"] == "hba" and rows["auth_hba_file"] == str(proxy.rules)
    proxy.reload(auth={"hba_file": None})
    assert {row["key"]: row["value"] for row in proxy.show("CONFIG")}["auth_type"] == "scram-sha-256"


@pytest.fixture
def with_slow(start_proxy, tmp_path):
    """A daemon whose user slow is checked for seconds."""
    users = tmp_path / "users.txt"
    rounds = 100_000 if is_under_valgrind() else 3_000_000
    users.write_text(f'"slow" "{scram_verifier("x", rounds)}"\n"{ROLE}" "{PASSWORD}"\n')
    return start(start_proxy, tmp_path, f"host all slow all password\nhost all {ROLE} all scram-sha-256\n",
                 auth={"users_file": users}, databases={"app": {"dbname": "app", "user": ROLE, "password": PASSWORD}})


def ask_slowly(client, password, behind=b""):
    client.send(wire.startup(user="slow", database="app"))
    assert client.receive().body == b"\0\0\0\3"
    client.send(wire.message("p", password + b"\0") + behind)


def test_nobody_waits_for_a_password_that_is_looked_at(with_slow):
    with Wire(with_slow.port()) as slow, Wire(with_slow.port()) as right:
        ask_slowly(slow, b"wrong")
        ask_slowly(right, b"x", wire.message("Q", b"SELECT 'early'\0"))
        with with_slow.wire() as other:
            assert other.query("SELECT 1").rows
        assert not select.select([slow.socket, right.socket], [], [], 0)[0], "both are still being looked at"
        assert slow.final_error().sqlstate == "28P01"
        right.socket.settimeout(60)
        kinds = ""
        while kinds.count("Z") < 2:
            kinds += right.receive().kind
        assert kinds.startswith("R") and kinds.endswith("TDCZ"), "what was sent early was kept for after the login"


def test_who_leaves_while_his_password_is_looked_at_leaves_nothing(with_slow):
    for _ in range(2):
        with Wire(with_slow.port()) as slow:
            ask_slowly(slow, b"wrong", b"p" + b"x" * 100)
    with with_slow.wire() as other:
        assert other.query("SELECT 1").rows
    with Wire(with_slow.port()) as slow:
        ask_slowly(slow, b"x")
        with_slow.stop()
    assert with_slow.wait_exit() == 0


@pytest.mark.parametrize("method", ["hba", "trust"])
def test_trust_is_not_let_in_by_a_listen_that_wants_a_restart(start_proxy, tmp_path, method):
    proxy = start(start_proxy, tmp_path, "host all all all scram-sha-256\n", wait=None)
    local = f"127.0.0.1:{proxy.port()}"
    proxy.change(automation={"listen": f"0.0.0.0:{proxy.port()}"})
    proxy.write_config()
    proxy.start()
    assert refusal(proxy, ROLE) == "28P01"
    if method == "hba":
        proxy.rules.write_text("host all all all trust\n")
    mark = os.path.getsize(proxy.log_path)
    proxy.reload(automation={"listen": local}, auth={"hba_file": proxy.rules} if method == "hba" else
                 {"hba_file": None, "method": "trust"})
    wait_until(lambda: "the old configuration stays in force" in proxy.log(mark), "the refusal")
    assert refusal(proxy, ROLE) == "28P01"
