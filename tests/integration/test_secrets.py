"""Passwords stay where they belong: not in `ps`, logs, cores, nor in memory once nobody needs them.

A user would lose: the password of the database, to whoever may look at the machine.
"""

import re
import subprocess

import pytest

import wire
from proxy import binary_path, is_sanitized
from server import PASSWORD, PASSWORD_IN_URL, ROLE
from waiting import wait_until
from wire import Wire


def memory_holds(pid, secret):
    """Whether the bytes stand anywhere in the process's memory."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if not rights.startswith("rw") or "[v" in line:
                continue
            start, end = (int(number, 16) for number in span.split("-"))
            try:
                memory.seek(start)
                if secret.encode() in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False


def core_limit(proxy):
    with open(f"/proc/{proxy.process.pid}/limits") as limits:
        soft, hard = re.search(r"Max core file size\s+(\S+)\s+(\S+)", limits.read()).groups()
    return soft, hard


def test_command_line_has_no_password(proxy):
    with open(f"/proc/{proxy.process.pid}/cmdline") as file:
        line = file.read()
    assert "-c" in line and PASSWORD not in line and PASSWORD_IN_URL not in line


def test_url_of_status_is_taken_off_the_command_line(proxy):
    url = f"postgresql://{ROLE}:{PASSWORD_IN_URL}@127.0.0.1:{proxy.port('admin')}/pgreserve"
    watching = subprocess.Popen([binary_path(), "status", "--watch=1", "--url", url], stdout=subprocess.PIPE,
                                text=True, env=proxy.environment, stdin=subprocess.DEVNULL)
    try:
        assert watching.stdout.readline()  # it has asked, with the password
        with open(f"/proc/{watching.pid}/cmdline") as file:
            line = file.read()
        assert "--url" in line and PASSWORD_IN_URL not in line
    finally:
        watching.kill()
        watching.communicate()


def test_core_would_hold_passwords_so_there_is_none(start_proxy):
    proxy = start_proxy()
    soft, hard = core_limit(proxy)
    assert soft in ("0", "1")
    proxy.reload(pgreserve={"core_dumps": "on"})
    wait_until(lambda: core_limit(proxy) == (hard, hard), "the limit to be lifted")


def test_log_at_debug_has_no_password(start_proxy):
    proxy = start_proxy(pgreserve={"log_level": "debug", "log_pool_events": "on"})
    with proxy.wire():
        pass
    for user in (ROLE, "nobody"):
        with Wire(proxy.port()) as client, pytest.raises(wire.ErrorResponse):
            client.login(user, "a wr0ng one", "app")
    assert "a wr0ng one" not in proxy.log()  # the right one is looked for after every test


def users_file(path, **users):
    path.write_text("".join(f'"{name}" "{secret}"\n' for name, secret in users.items()))


@pytest.mark.parametrize("method", ["scram-sha-256", "md5", "password"])
def test_forgotten_password_is_not_in_memory(start_proxy, tmp_path, method):
    if is_sanitized():
        pytest.skip("its shadow memory is too large to be read, and what is freed stays there for a while")
    path = tmp_path / "users.txt"
    secret = "unforgettable-7f3a91"
    users_file(path, alice=secret, bob="b")
    rules = tmp_path / "pg_hba.conf"
    rules.write_text("host all all all password\n")
    proxy = start_proxy(auth={"users_file": path, "hba_file": rules} if method == "password" else
                        {"users_file": path, "method": method})
    with Wire(proxy.port()) as client:
        client.login("alice", secret, "app")
    assert memory_holds(proxy.process.pid, secret), "it can be found while it is known"
    users_file(path, bob="b")
    proxy.hang_up()
    wait_until(lambda: not memory_holds(proxy.process.pid, secret), "the password to be wiped")


def test_salts_outlive_a_reload(proxy):
    """A name whose salt changes at a reload, while another's does not, would be known to exist."""
    def salt(user):
        with Wire(proxy.port()) as client:
            challenge = client.scram_challenge(user)
            return challenge["s"], challenge["i"]

    before = {user: salt(user) for user in (ROLE, "nobody")}
    proxy.hang_up()
    assert {user: salt(user) for user in (ROLE, "nobody")} == before
