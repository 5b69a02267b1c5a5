"""What somebody meets who types `make run` on a machine without an upstream, up to Ctrl-C.

The demo runs on the shipped ports, so these steps are one test: two at once would be in each other's way.
"""

import os
import re
import signal
import subprocess
import urllib.request

import psycopg2
import pytest

import waiting
from proxy import ROOT, binary_path, die_with_parent
from waiting import port_accepts, wait_until

SCRIPT = os.path.join(ROOT, "scripts", "run_demo.sh")
PORTS = (6432, 6433, 6434, 6435)
UPSTREAM_VARIABLES = ("SUPABASE_URL", "POSTGRES_", "DB_", "PG")


def hear_ctrl_c():
    """What runs in a shell's background, these tests perhaps among it, ignores SIGINT and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def demo(tmp_path):
    """The script as a shell would start it: in a process group of its own, which Ctrl-C then reaches."""
    busy = [port for port in PORTS if port_accepts(port)]
    if busy:
        pytest.skip(f"somebody else has port {busy[0]}")
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(UPSTREAM_VARIABLES)}
    environment["TMPDIR"] = "/tmp"
    output_path = tmp_path / "output"
    with open(output_path, "w") as output:
        process = subprocess.Popen([SCRIPT, binary_path()], start_new_session=True, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                   preexec_fn=hear_ctrl_c)
    process.output = output_path.read_text
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def processes_that_name(text):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if text.encode() in file.read():
                    found.append(pid)
        except OSError:  # it ended meanwhile
            continue
    return found


def ask(url, query):
    connection = psycopg2.connect(url, connect_timeout=20)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(query)
        rows = cursor.fetchall()
    connection.close()
    return rows


def test_the_demo_serves_everybody_and_leaves_nothing_behind(demo):
    def has_started():
        assert demo.poll() is None, demo.output()
        return "Ctrl-C stops it" in demo.output()

    wait_until(has_started, "the lines to connect with", timeout=60)
    directory = re.search(r"/tmp/pgreserve-demo\.\w+", demo.output()).group()
    scraper = re.search(r"DATABASE_URL=(\S+)", demo.output()).group(1)
    developer = re.search(r"psql (\S+:6433/\S+)", demo.output()).group(1)
    operator = re.search(r"psql (\S+:6434/\S+) -c 'SHOW POOLS'", demo.output()).group(1)

    assert ask(scraper, "SELECT count(*) FROM jobs") == [(10000,)]
    assert ask(developer, "SELECT current_user") == [("scraper",)]
    # 60 are free for others than superusers, no more and no less.
    assert ask(developer, "SELECT current_setting('max_connections')::int"
                          " - current_setting('superuser_reserved_connections')::int") == [(60,)]
    pools = subprocess.run(["psql", "-X", operator, "-c", "SHOW POOLS"], capture_output=True, text=True,
                           timeout=30)
    assert pools.returncode == 0 and "automation" in pools.stdout, pools.stderr
    with urllib.request.urlopen("http://127.0.0.1:6435/status", timeout=10) as answer:
        assert "adhoc" in answer.read().decode()

    second = subprocess.run([SCRIPT, binary_path()], capture_output=True, text=True, timeout=30,
                            preexec_fn=die_with_parent)
    assert second.returncode != 0 and "port 6432 is taken" in second.stderr

    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(timeout=40 * waiting.patience) == 0, demo.output()
    assert not os.path.exists(directory)
    assert not processes_that_name(directory)
    assert not any(port_accepts(port) for port in PORTS), "a listener is left"
