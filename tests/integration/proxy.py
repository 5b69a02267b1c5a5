"""Runs pgreserve in front of a PostgresServer with a configuration made for one test.

`Proxy(postgres, automation={"size": 2})` writes an INI file of sections with small, fast numbers,
overlays what the test wants and picks free ports; `start()` runs the daemon and waits until it answers
and (unless told otherwise) has its upstream.  Passwords reach it through `${VAR}`, as users are told to do.
`stop()` checks what every test wants to be true at the end: the daemon went of its own will with
status 0, and no sanitizer spoke.
"""

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import psycopg2

import waiting
from server import PASSWORD, PASSWORD_IN_URL, ROLE, free_port
from waiting import wait_until
from wire import Wire

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def binary_path():
    return os.path.abspath(os.environ.get("PGRESERVE_BINARY", os.path.join(ROOT, "build/pgreserve")))


MEMORY_LIMIT_KB = 64 * 1024  # of a daemon that keeps nothing whole


def _binary():
    with open(binary_path(), "rb") as file:
        return file.read()


def is_under_valgrind():
    """By a script that stands in the program's place and runs `pgreserve.program` beside it (scripts/memcheck.py)."""
    return _binary().startswith(b"#!")


def is_sanitized():
    """Or under valgrind, which is slower still."""
    return is_under_valgrind() or b"__asan_init" in _binary()


def limit(seconds):
    """A time limit for the daemon itself to keep: under valgrind it has ten times as long, for a start takes it seconds."""
    return f"{seconds * (10 if is_under_valgrind() else 1)}s"


def replaced_by_an_upgrade(program):
    """The file that the daemon started as `program` runs from, and starts anew from."""
    return program + ".program" if is_under_valgrind() else program


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Successor:
    """The process that an upgrade has left, in subprocess.Popen's shape: once the old one has gone it is an orphan, and so
    ours to wait for.  When the old one lived longer, that has had its status, and 0 stands for it here."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # not ours, or not yet
                if not os.path.exists(f"/proc/{self.pid}"):
                    self.returncode = 0
                return self.returncode
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("pgreserve", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Proxy:
    def __init__(self, postgres, upstream_port=None, files_limit=None, environment=None,
                 **sections):
        self.postgres = postgres
        self.directory = tempfile.mkdtemp(prefix="pgreserve-test-proxy-")
        self.log_path = os.path.join(self.directory, "log")
        self.config_path = os.path.join(self.directory, "pgreserve.ini")
        self.ports = {}
        self.process = None
        self.program = binary_path()
        self.log_mark = 0
        self.files_limit = files_limit
        self.environment = {
            "PATH": os.environ["PATH"],
            "UPSTREAM": postgres.url(password=PASSWORD_IN_URL, port=upstream_port),
            **{name: value for name, value in os.environ.items() if name.endswith("SAN_OPTIONS")},
            **(environment or {}),
        }
        self.sections = self._default_sections()
        self.change(**sections)
        self.write_config()

    # -- configuration ---------------------------------------------------------------------------

    def _default_sections(self):
        for name in ("automation", "adhoc", "admin", "http"):
            self.ports[name] = free_port()
        return {
            "pgreserve": {"total_connections": 8, "shutdown_timeout": limit(10)},
            "database:*": {"url": "${UPSTREAM}"},
            "pool:automation": {
                "listen": f"127.0.0.1:{self.ports['automation']}", "mode": "transaction",
                "size": 4, "max_overflow": 2, "reserved": 0, "timeout": limit(10),
            },
            "pool:adhoc": {
                "listen": f"127.0.0.1:{self.ports['adhoc']}", "mode": "transaction",
                "size": 2, "max_overflow": 0, "reserved": 2, "timeout": limit(10),
            },
            "admin": {
                "listen": f"127.0.0.1:{self.ports['admin']}",
                "http": f"127.0.0.1:{self.ports['http']}",
            },
            "auth": {"method": "scram-sha-256"},
            "tls": {},
        }

    def change(self, **sections):
        """automation={...} and adhoc={...} mean the pools; None removes a section or a key."""
        for name, keys in sections.items():
            section = {"automation": "pool:automation", "adhoc": "pool:adhoc",
                       "databases": None}.get(name, name)
            if section is None:
                for database, values in keys.items():
                    self.sections[f"database:{database}"] = values
            elif keys is None:
                self.sections.pop(section, None)
            else:
                self.sections.setdefault(section, {}).update(keys)

    def write_config(self):
        with open(self.config_path, "w") as file:
            for section, keys in self.sections.items():
                file.write(f"[{section}]\n")
                for key, value in keys.items():
                    if value is not None:
                        file.write(f"{key} = {value}\n")
                file.write("\n")

    def add_pool(self, name, **keys):
        """A further pool, written at the next start or reload."""
        self.ports[name] = free_port()
        self.sections[f"pool:{name}"] = {"listen": f"127.0.0.1:{self.ports[name]}", **keys}

    def reload(self, **sections):
        """Writes the changed file, sends HUP and waits until the daemon says that it has read it."""
        self.change(**sections)
        self.write_config()
        self.hang_up()

    def hang_up(self):
        mark = os.path.getsize(self.log_path)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: re.search("reload|configuration", self.log(mark)), "a log line about HUP")

    # -- running ---------------------------------------------------------------------------------

    def start(self, wait="ready"):
        def limits():
            die_with_parent()
            if self.files_limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.files_limit, self.files_limit))

        self.log_mark = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "run", "-c", self.config_path], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=self.environment, preexec_fn=limits)
        wait_until(self._is_listening, "pgreserve to listen", timeout=20)
        if wait == "ready":
            self.wait_ready()

    def _is_listening(self):
        assert self.process.poll() is None, "pgreserve ended:\n" + self.log()
        try:
            return self.status()
        except OSError:
            return False

    def wait_ready(self, timeout=20):
        wait_until(self.is_ready, "pgreserve to reach its upstream", timeout)

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}/readyz", timeout=10) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            assert error.code == 503
            return False

    def wait_warm(self, timeout=20):
        """Waits until every pool has `size` connections open and all of them free."""
        sizes = sum(int(keys["size"]) for name, keys in self.sections.items()
                    if name.startswith("pool:") and keys.get("prefill") != "off")
        wait_until(lambda: len(self.postgres.backends("state = 'idle'")) >= sizes,
                   f"{sizes} warm connections", timeout)

    def log(self, since=0):
        with open(self.log_path, "rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def is_running(self):
        return self.process.poll() is None

    def upgrade(self, wait="gone"):
        """USR2; `process` is the new one from then on.  Waits until the old one is gone, or only no longer accepts; returns
        the old one."""
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        old, mark = self.process, os.path.getsize(self.log_path)
        old.send_signal(signal.SIGUSR2)
        found = wait_until(lambda: re.search(r"handing over\W+new_pid=(\d+)", self.log(mark)), "the new process")
        self.process = Successor(int(found.group(1)))
        wait_until(lambda: re.search(r"took over\W+old_pid=%d\b" % old.pid, self.log(mark)), "it to serve")
        if wait == "gone":
            assert old.wait(timeout=20 * waiting.patience) == 0, self.log(mark)
            wait_until(lambda: "the old process has gone" in self.log(mark), "it to notice")
        return old

    def wait_exit(self, timeout=20):
        return self.process.wait(timeout=timeout * waiting.patience)

    def stop(self, how=signal.SIGINT):
        """Stops it and checks that it was well to the end."""
        if self.is_running():
            self.process.send_signal(how)
        try:
            status = self.wait_exit()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("pgreserve did not stop:\n" + self.log()[-3000:]) from None
        self.check_health(status)

    def check_health(self, status):
        log = self.log()
        assert "Sanitizer" not in log and "runtime error:" not in log, log[-8000:]
        assert status == 0, f"exit status {status}:\n{log[-3000:]}"
        assert PASSWORD not in log and PASSWORD_IN_URL not in log, "a password in the log"

    def processes(self):
        """Every process that runs with this configuration: two, while an upgrade goes on."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if b"run" in words and self.config_path.encode() in words:
                found.append(int(pid))
        return found

    def destroy(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- the process from outside ----------------------------------------------------------------

    def peak_memory_kb(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1))

    def assert_little_memory(self):
        if not is_sanitized():  # whose own bookkeeping is larger
            peak = self.peak_memory_kb()
            assert peak < MEMORY_LIMIT_KB, f"{peak} kB were taken"

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- clients ---------------------------------------------------------------------------------

    def port(self, pool="automation"):
        return self.ports[pool]

    def keywords(self, pool="automation", **others):
        return {"host": "127.0.0.1", "port": self.ports[pool], "user": ROLE, "password": PASSWORD,
                "dbname": "app", "connect_timeout": 20, **others}

    def url(self, pool="automation", scheme="postgresql", database="app"):
        return (f"{scheme}://{ROLE}:{PASSWORD_IN_URL}@127.0.0.1:{self.ports[pool]}/{database}")

    def connect(self, pool="automation", autocommit=True, **others):
        connection = psycopg2.connect(**self.keywords(pool, **others))
        connection.autocommit = autocommit
        return connection

    def wire(self, pool="automation", user=ROLE, password=PASSWORD, database="app", **parameters):
        return Wire(self.ports[pool]).login(user, password, database, **parameters)

    def hold(self, pool="automation", count=1, **others):
        """Clients that each hold a backend in an open transaction."""
        held = []
        for _ in range(count):
            connection = self.connect(pool, autocommit=False, **others)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
            held.append(connection)
        return held

    def psql(self, *arguments, pool="automation", database="app", user=ROLE, password=PASSWORD,
             **options):
        environment = {**os.environ, "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "20", "PAGER": ""}
        return subprocess.run(
            ["psql", "-X", "-h", "127.0.0.1", "-p", str(self.ports[pool]), "-U", user,
             "-d", database, *arguments],
            capture_output=True, text=True, env=environment, timeout=60, **options)

    # -- ops -------------------------------------------------------------------------------------

    def get(self, path):
        url = f"http://127.0.0.1:{self.ports['http']}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()

    def status(self):
        return json.loads(self.get("/status.json"))

    def pool(self, name="automation"):
        return next(pool for pool in self.status()["pools"] if pool["name"] == name)

    def wait_pool(self, pool="automation", timeout=10, **figures):
        """Waits until the pool's figures in /status.json are these."""
        def matches():
            now = self.pool(pool)
            return all(now[key] == value for key, value in figures.items()) and now
        try:
            return wait_until(matches, f"{pool} {figures}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {self.pool(pool)}") from None

    def admin(self, command, database="pgreserve", user=ROLE, password=PASSWORD):
        """Runs one console command; rows as dictionaries of strings."""
        with Wire(self.ports["admin"]).login(user, password, database) as wire:
            answer = wire.query(command)
            if answer.errors:
                raise answer.errors[0]
            if "T" not in answer.kinds:
                return answer.tags
            return [dict(zip(answer.columns, row)) for row in answer.rows]

    def show(self, what):
        return self.admin("SHOW " + what)

    def command(self, *arguments, timeout=30, environment=None):
        """Runs another pgreserve command, such as status, with the same configuration."""
        return subprocess.run(
            [binary_path(), *arguments], capture_output=True, text=True, timeout=timeout,
            env={**self.environment, **(environment or {})}, stdin=subprocess.DEVNULL)
