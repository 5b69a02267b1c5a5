"""Under systemd: told when ready, fed while alive, given its sockets, and locked in (contract 11).

A user would lose: a service that is "started" before it listens, a stuck one that nobody restarts, or the walls around it.
Here the manager is a datagram socket and a few variables, as sd_notify(3) and sd_listen_fds(3) document them.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import waiting
from proxy import ROOT, binary_path
from server import PASSWORD, ROLE, free_port
from waiting import port_accepts, wait_until
from wire import Wire

UNITS = os.path.join(ROOT, "systemd")


class Manager:
    """What systemd's side of NOTIFY_SOCKET hears."""

    def __init__(self, directory, abstract=False):
        name = os.path.join(directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name if abstract else name)
        self.environment = {"NOTIFY_SOCKET": "@" + name if abstract else name}
        self.heard = []

    def messages(self):
        while True:
            try:
                self.heard.append(self.socket.recv(4096, socket.MSG_DONTWAIT).decode())
            except BlockingIOError:
                return self.heard

    def lines(self):
        return [line for message in self.messages() for line in message.splitlines()]

    def wait(self, line, after=0):
        wait_until(lambda: line in self.lines()[after:], f"{line} among {self.heard}")
        return self.lines().index(line, after) + 1


@pytest.fixture(params=[False, True], ids=["path", "abstract"])
def manager(request, tmp_path):
    manager = Manager(str(tmp_path), request.param)
    yield manager
    manager.socket.close()


def test_it_says_when_it_is_ready_reloads_and_stops(start_proxy, manager):
    proxy = start_proxy(wait=None, environment=manager.environment)
    proxy.start(wait="listening")
    at = manager.wait("READY=1")
    wait_until(lambda: any(re.match(r"STATUS=0 clients, [0-9]+ of 8", line) for line in manager.lines()), "a status")
    proxy.hang_up()
    at = manager.wait("RELOADING=1", at)
    told = next(line for line in manager.lines() if line.startswith("MONOTONIC_USEC="))
    assert 0 < int(told.split("=")[1]) <= time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6
    at = manager.wait("READY=1", at)
    proxy.change(automation={"size": "many"})
    proxy.write_config()
    proxy.hang_up()
    manager.wait("READY=1", manager.wait("RELOADING=1", at))
    assert not any(line.startswith("WATCHDOG") for line in manager.lines()), "nobody asked for it"
    proxy.stop(signal.SIGTERM)
    manager.wait("STOPPING=1")


def test_it_is_not_ready_before_it_listens(start_proxy, tmp_path):
    manager = Manager(str(tmp_path))
    taken = socket.create_server(("127.0.0.1", 0))
    proxy = start_proxy(wait=None, environment=manager.environment,
                        adhoc={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
    result = proxy.command("run", "-c", proxy.config_path)
    assert result.returncode == 1 and "cannot listen" in result.stderr
    assert "READY=1" not in manager.lines()
    taken.close()


def test_a_loop_that_is_stuck_feeds_no_watchdog(start_proxy, tmp_path):
    manager = Manager(str(tmp_path))
    proxy = start_proxy(environment={**manager.environment, "WATCHDOG_USEC": "400000"})

    def fed():
        return manager.lines().count("WATCHDOG=1")
    wait_until(lambda: fed() >= 3, "the watchdog to be fed")
    proxy.process.send_signal(signal.SIGSTOP)
    with open(f"/proc/{proxy.process.pid}/stat") as stat:
        wait_until(lambda: stat.seek(0) == 0 and stat.read().rsplit(")", 1)[1].split()[0] == "T", "it to stand still")
    before = fed()
    time.sleep(0.5)  # what must not happen cannot be waited for
    assert fed() == before
    proxy.process.send_signal(signal.SIGCONT)
    wait_until(lambda: fed() > before, "the watchdog to be fed again")


def test_watchdog_of_another_process_is_not_fed(start_proxy, tmp_path):
    manager = Manager(str(tmp_path))
    start_proxy(environment={**manager.environment, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
    wait_until(lambda: any("STATUS" in line for line in manager.lines()), "a status")
    assert "WATCHDOG=1" not in manager.lines()


def test_an_upgrade_names_the_new_main_process_and_feeds_its_watchdog(start_proxy, tmp_path):
    manager = Manager(str(tmp_path))
    proxy = start_proxy(environment={**manager.environment, "WATCHDOG_USEC": "200000"})
    proxy.upgrade()
    at = manager.wait(f"MAINPID={proxy.process.pid}")
    assert "STOPPING=1" not in manager.lines(), "the service goes on"
    manager.wait("READY=1", at)
    manager.wait("WATCHDOG=1", at)


# -- socket activation ------------------------------------------------------------------------------

ACTIVATE = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
for target, fd in enumerate([os.dup2(fd, 100 + i) for i, fd in enumerate(fds)], 3):
    os.dup2(fd, target)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def activate(proxy, sockets, names=None):
    """Starts the daemon as systemd does: its sockets from descriptor 3 on."""
    wrapper = os.path.join(proxy.directory, "activate.py")
    with open(wrapper, "w") as file:
        file.write("#!/usr/bin/python3\n" + ACTIVATE)
    proxy.environment["LISTEN_FDS"] = str(len(sockets))
    if names:
        proxy.environment["LISTEN_FDNAMES"] = ":".join(names)
    with open(proxy.log_path, "ab") as log:
        proxy.process = subprocess.Popen(
            ["/usr/bin/python3", wrapper, ",".join(str(each.fileno()) for each in sockets), binary_path(), "run", "-c",
             proxy.config_path], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=proxy.environment,
            pass_fds=[each.fileno() for each in sockets])


def listening(address, family=socket.AF_INET):
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(address)
    server.listen(64)
    return server


def test_passed_sockets_are_found_by_address(start_proxy):
    proxy = start_proxy(wait=None)
    proxy.change(automation={"listen": f"127.0.0.1:{proxy.port()}, unix:{proxy.directory}"})
    proxy.write_config()
    path = f"{proxy.directory}/.s.PGSQL.{proxy.port()}"
    sockets = [listening(("127.0.0.1", proxy.port(name))) for name in ("adhoc", "http", "automation", "admin")]
    sockets.append(listening(path, socket.AF_UNIX))
    inode = os.stat(path).st_ino
    early = Wire(proxy.port())  # nobody accepts yet
    activate(proxy, sockets)
    with early.login(ROLE, PASSWORD, "app") as client:
        assert client.query("SELECT 'waited for the start'").value == "waited for the start"
    proxy.wait_ready()
    with Wire(None, path=path).login(ROLE, PASSWORD, "app") as client:
        proxy.upgrade()
        assert client.query("SELECT 'after an upgrade'").value == "after an upgrade"
    proxy.stop()
    assert os.stat(path).st_ino == inode, "the file is systemd's"
    assert port_accepts(proxy.port()), "and so are the sockets"
    for each in sockets:
        each.close()


def test_passed_sockets_are_found_by_their_pool_s_name(start_proxy):
    proxy = start_proxy(wait=None)
    elsewhere = {name: free_port() for name in ("automation", "admin", "http")}
    sockets = [listening(("127.0.0.1", port)) for port in elsewhere.values()]
    configured = dict(proxy.ports)
    proxy.ports.update(elsewhere)
    activate(proxy, sockets, list(elsewhere))
    wait_until(proxy._is_listening, "it to serve")
    proxy.wait_ready()
    with proxy.wire() as client, proxy.wire("adhoc") as developer:
        assert developer.query("SELECT 1").value == "1", "opened by itself, as its configuration says"
        proxy.upgrade()
        assert client.query("SELECT 1").value == "1"
    assert proxy.show("VERSION")
    for name in elsewhere:
        assert not port_accepts(configured[name]), f"{name} listens where systemd said, and there alone"
    for each in sockets:
        each.close()


def test_a_passed_socket_that_nobody_wants_is_closed_and_a_wrong_one_refused(start_proxy):
    proxy = start_proxy(wait=None)
    stray = listening(("127.0.0.1", 0))
    activate(proxy, [stray])
    stray.close()
    wait_until(proxy._is_listening, "it to serve")
    assert "no address of the configuration" in proxy.log()
    proxy.wait_ready()
    proxy.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.bind(("127.0.0.1", 0))
        activate(proxy, [datagram])
        assert proxy.process.wait(20 * waiting.patience) == 1
    assert "not a listening stream socket" in proxy.log()
    proxy.process = None


def test_sockets_of_another_process_are_left_alone(start_proxy):
    start_proxy(environment={"LISTEN_PID": "1", "LISTEN_FDS": "2"})


# -- who it runs as ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_becomes_the_configured_user_for_good(start_proxy):
    proxy = start_proxy(wait=None, pgreserve={"user": "nobody"})
    os.chmod(proxy.directory, 0o755)
    proxy.program = shutil.copy(proxy.program, proxy.directory)  # where nobody may start it, wherever the tests are run
    proxy.start()
    nobody = pwd.getpwnam("nobody")
    assert who_runs(proxy) == ({nobody.pw_uid}, {nobody.pw_gid}, [])
    assert "as root" not in proxy.log()
    with proxy.wire() as client:
        proxy.upgrade()
        assert client.query("SELECT 1").value == "1"
    assert who_runs(proxy) == ({nobody.pw_uid}, {nobody.pw_gid}, [])
    proxy.reload(pgreserve={"user": "daemon"})
    wait_until(lambda: "user in [pgreserve] needs a restart" in proxy.log(), "a word about user")


def who_runs(proxy):
    """Its uids, gids and the groups beside its own."""
    with open(f"/proc/{proxy.process.pid}/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    gids = {int(word) for word in lines["Gid"].split()}
    return ({int(word) for word in lines["Uid"].split()}, gids,
            [group for group in map(int, lines["Groups"].split()) if group not in gids])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_unknown_user_is_no_reason_to_stay_root(start_proxy):
    proxy = start_proxy(wait=None, pgreserve={"user": "no-such-user"})
    result = proxy.command("run", "-c", proxy.config_path)
    assert result.returncode == 1 and "there is no such user" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="it is root that is warned of")
def test_root_without_a_user_is_warned_of(proxy):
    assert "running as root" in proxy.log()


# -- the units --------------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path):
    """The units as they are installed, with this program's path."""
    for name in ("pgreserve.service", "pgreserve.socket"):
        with open(os.path.join(UNITS, name)) as file:
            text = file.read().replace("/usr/local/bin/pgreserve", binary_path())
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")
def test_units_are_well_formed(units):
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(units / "pgreserve.service"), str(units / "pgreserve.socket")],
        capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "pgreserve" not in result.stderr, result.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")
def test_sandbox_is_rated_below_two(units):
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(units / "pgreserve.service")],
        capture_output=True, text=True, timeout=60)
    rating = re.search(r"Overall exposure level for pgreserve.service: ([0-9.]+)", result.stdout)
    assert rating and float(rating.group(1)) < 2.0, result.stdout + result.stderr


def test_unit_restarts_what_is_stuck_and_lets_transactions_finish():
    with open(os.path.join(UNITS, "pgreserve.service")) as file:
        unit = dict(line.strip().split("=", 1) for line in file if "=" in line and not line.startswith("#"))
    assert unit["Type"] == "notify" and int(unit["WatchdogSec"]) >= 10 and unit["Restart"] == "on-failure"
    assert int(unit["TimeoutStopSec"]) > 30, "shutdown_timeout's default"
