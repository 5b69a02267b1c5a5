"""`pgreserve status`, `pgreserve check -t`, and the other commands: output and exit status.

A user would lose: a cron job's or a deployment's decision, which hangs on these numbers.
"""

import json
import os
import signal
import subprocess

import pytest

from faults import Link
from proxy import binary_path
from waiting import wait_until
from wire import query

FIGURES = {"name", "in_use", "available", "overflow", "total_possible", "reserved", "is_healthy",
           "waiting", "longest_wait", "longest_hold", "pinned", "closing", "clients", "state"}


def status(proxy, *arguments):
    return proxy.command("status", *arguments, "-c", proxy.config_path)


def test_healthy_is_0_and_shows_every_pool(proxy):
    proxy.wait_warm()
    done = status(proxy)
    assert done.returncode == 0, done
    for word in ("automation", "adhoc", "in_use", "available", "total_possible", "reserved"):
        assert word in done.stdout, done.stdout


def test_json_has_the_figures_of_the_contract(proxy):
    proxy.wait_warm()
    done = status(proxy, "--json")
    assert done.returncode == 0
    tree = json.loads(done.stdout)
    assert tree["state"] == "healthy"
    pools = {pool["name"]: pool for pool in tree["pools"]}
    assert set(pools) == {"automation", "adhoc"}
    for pool in pools.values():
        assert FIGURES <= set(pool)
        assert pool["is_healthy"] is True and pool["state"] == "healthy"
        assert pool["in_use"] == pool["waiting"] == pool["pinned"] == pool["closing"] == 0
    assert pools["automation"]["total_possible"] == 6 and pools["automation"]["reserved"] == 0
    assert pools["adhoc"]["total_possible"] == 2 and pools["adhoc"]["reserved"] == 2
    assert tree["total"]["in_use"] == 0


def test_figures_follow_the_clients(proxy):
    with proxy.wire() as first, proxy.wire() as second:
        first.query("BEGIN")
        pool = proxy.wait_pool(in_use=1, clients=2)
        wait_until(lambda: proxy.pool()["longest_hold"] > 0, "the hold to be timed")
        assert pool["waiting"] == 0
        second.query("LISTEN x")
        proxy.wait_pool(pinned=1, in_use=2)
        total = proxy.status()["total"]
        assert total["in_use"] == 2 and total["clients"] == 2
    proxy.wait_pool(in_use=0, clients=0, pinned=0)


def test_high_load_is_1(start_proxy):
    proxy = start_proxy(automation={"size": 10, "max_overflow": 0},
                        pgreserve={"total_connections": 12})
    holders = proxy.hold(count=9)
    proxy.wait_pool(in_use=9, state="high_load")
    assert status(proxy).returncode == 1
    for holder in holders:
        holder.close()
    proxy.wait_pool(state="healthy")
    assert status(proxy).returncode == 0


def test_exhausted_is_2(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    (holder,) = proxy.hold()
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 1"))
        proxy.wait_pool(state="exhausted", waiting=1)
        done = status(proxy)
        assert done.returncode == 2 and "exhausted" in done.stdout
        holder.close()
        waiter.answer()


def test_exhausted_by_the_cap_is_2(start_proxy):
    """Its size and max_overflow allow more, but total_connections does not."""
    proxy = start_proxy(pgreserve={"total_connections": 3},
                        automation={"size": 1, "max_overflow": 9, "overflow_delay": "0", "timeout": 30})
    holders = proxy.hold()
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 1"))
        proxy.wait_pool(state="exhausted", in_use=1, waiting=1)
        assert status(proxy).returncode == 2
        holders[0].close()
        waiter.answer()
    proxy.wait_pool(state="healthy")


def test_upstream_down_is_2(start_proxy, postgres):
    with Link(postgres.port) as link:
        link.refuse()
        proxy = start_proxy(upstream_port=link.port, wait="listening")
        done = status(proxy)
        assert done.returncode == 2 and "down" in done.stdout


def test_daemon_unreachable_is_3(proxy):
    proxy.stop()
    done = status(proxy)
    assert done.returncode == 3
    assert done.stderr.strip(), "with a word of why"
    assert status(proxy, "--json").returncode == 3


def test_url_points_elsewhere(proxy, tmp_path):
    url = f"http://127.0.0.1:{proxy.ports['http']}"
    done = proxy.command("status", "--json", "--url", url)
    assert done.returncode == 0 and json.loads(done.stdout)["pools"]
    done = proxy.command("status", "--json", "--url",
                         proxy.url("admin", database="pgreserve"))
    assert done.returncode == 0 and json.loads(done.stdout)["pools"]


def test_watch_repeats(proxy):
    watching = subprocess.Popen(
        [binary_path(), "status", "--json", "--watch=0.2", "-c", proxy.config_path],
        stdout=subprocess.PIPE, text=True, env=proxy.environment)
    try:
        seen = ""
        while seen.count('"automation"') < 3:
            line = watching.stdout.readline()
            assert line, "it ended by itself"
            seen += line
    finally:
        watching.send_signal(signal.SIGINT)
        watching.stdout.close()
        watching.wait(timeout=10)


def test_help_and_version():
    for option, word in (("--help", "status"), ("--version", "pgreserve"), ("status --help", "--watch"),
                         ("check --help", "check"), ("run -h", "run")):
        done = subprocess.run([binary_path(), *option.split()], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and word in done.stdout


def test_unknown_command_is_refused():
    done = subprocess.run([binary_path(), "frobnicate"], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and "frobnicate" in done.stderr


def check(tmp_path, text, environment=None, command=("check", "-t")):
    file = tmp_path / "pgreserve.ini"
    file.write_text(text)
    return subprocess.run([binary_path(), *command, "-c", str(file)], capture_output=True, text=True,
                          timeout=20, env={"PATH": os.environ["PATH"], **(environment or {})})


GOOD = """[pgreserve]
total_connections = 10
[database:*]
url = postgresql://u:secret@127.0.0.1:5432/d
[pool:one]
listen = 127.0.0.1:7001
size = 5
[pool:two]
listen = 127.0.0.1:7002
size = 2
max_overflow = 0
reserved = 2
"""


def test_good_configuration_passes(tmp_path):
    done = check(tmp_path, GOOD)
    assert done.returncode == 0, done


@pytest.mark.parametrize("old, new, words", [
    ("total_connections = 10", "total_conections = 10", ["total_conections", ":2"]),
    ("size = 5", "size = five", ["five", ":7"]),
    ("size = 5", "size = -1", ["size", ":7"]),
    ("size = 5", "size = 9", ["one", "8"]),
    ("reserved = 2", "reserved = 11", ["reserved"]),
    ("url = postgresql://u:secret@", "url = postgresql://u@", ["password"]),
    ("[pool:two]", "[pol:two]", ["pol:two"]),
    ("listen = 127.0.0.1:7002", "listen = 127.0.0.1:99999", ["99999"]),
    ("listen = 127.0.0.1:7002", "listen = 127.0.0.1:7001", ["7001"]),
    ("127.0.0.1:5432/d", "127.0.0.1:7001/d", ["7001"]),
    ("[pgreserve]", "[auth]\nmethod = trust\n[pool:open]\nlisten = 0.0.0.0:7003\nsize=1\n[pgreserve]",
     ["trust", "i_know_this_is_open"]),
    ("size = 5", "size = ${NOT_SET_ANYWHERE}", ["NOT_SET_ANYWHERE"]),
    ("size = 5", "size = 5\nmode = sometimes", ["sometimes"]),
    ("size = 5", "size = 5\ntimeout = 5 parsecs", ["parsecs"]),
])
def test_mistakes_are_named_with_their_place(tmp_path, old, new, words):
    assert old in GOOD
    done = check(tmp_path, GOOD.replace(old, new, 1))
    assert done.returncode == 2, done
    for word in words:
        assert word in done.stderr, done.stderr
    assert "secret" not in done.stderr + done.stdout


def test_every_mistake_is_listed_not_only_the_first(tmp_path):
    text = GOOD.replace("size = 5", "size = five\nmode = sometimes\nno_such_key = 1")
    text += "[nonsense]\nx = 1\n"
    for command in (("check", "-t"), ("run",)):
        done = check(tmp_path, text, command=command)
        assert done.returncode == 2
        for word in ("five", "sometimes", "no_such_key", "nonsense"):
            assert word in done.stderr, (word, done.stderr)


def test_variables_come_from_the_environment(tmp_path):
    text = GOOD.replace("size = 5", "size = ${POOL_SIZE:-3}").replace(
        "postgresql://u:secret@127.0.0.1:5432/d", "${DATABASE}")
    assert check(tmp_path, text, {"DATABASE": "postgresql://u:p@127.0.0.1/d"}).returncode == 0
    assert check(tmp_path, text, {"DATABASE": "postgresql://u:p@127.0.0.1/d",
                                  "POOL_SIZE": "9"}).returncode == 2
    done = check(tmp_path, text)
    assert done.returncode == 2 and "DATABASE" in done.stderr


def test_missing_file_is_2(tmp_path):
    done = subprocess.run([binary_path(), "check", "-t", "-c", str(tmp_path / "none.ini")],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "none.ini" in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("--json", "--help"), ("--watch=1", "-h")])
def test_help_is_0_wherever_it_is_asked(proxy, arguments):
    done = proxy.command("status", *arguments)
    assert done.returncode == 0 and done.stdout.startswith("usage: pgreserve") and not done.stderr, done


def test_it_needs_no_variable_but_those_of_admin(proxy):
    proxy.wait_warm()
    bare = {"PATH": os.environ["PATH"]}

    def asked():
        return subprocess.run([binary_path(), "status", "--json", "-c", proxy.config_path], capture_output=True, text=True,
                              timeout=30, env=bare)
    done = asked()
    assert done.returncode == 0 and not done.stderr, done
    assert json.loads(done.stdout)["state"] == "healthy"
    proxy.change(pgreserve={"no_such_key": "1"}, automation={"size": "many"})
    proxy.write_config()
    assert asked().returncode == 0
    proxy.change(admin={"http": "${HTTP_ADDRESS}", "listen": None})
    proxy.write_config()
    done = asked()
    assert done.returncode == 3 and "HTTP_ADDRESS is not set" in done.stderr, done


def test_built_in_configuration_works_with_the_old_variables(postgres, tmp_path):
    """SUPABASE_URL, DB_POOL_SIZE and their kin: checked only, its ports may be taken here."""
    environment = {"PATH": os.environ["PATH"], "SUPABASE_URL": postgres.url(), "DB_POOL_SIZE": "7",
                   "DB_MAX_OVERFLOW": "2", "DB_POOL_TIMEOUT": "3", "DB_POOL_RECYCLE": "60"}
    done = subprocess.run([binary_path(), "check", "-t"], capture_output=True, text=True, timeout=20,
                          env=environment)
    assert done.returncode == 0, done
    environment["DB_POOL_SIZE"] = "58"
    done = subprocess.run([binary_path(), "check", "-t"], capture_output=True, text=True, timeout=20,
                          env=environment)
    assert done.returncode == 2, done
