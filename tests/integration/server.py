"""A private PostgreSQL 15 for the tests: one a test session (or xdist worker).

Its non-superuser limit is exactly CAP while the harness's own OBSERVERS connections are open, and they
always are: `sql()` runs on one of them, the sampler of the chaos test on the other, so nothing that the
tests do takes a slot from the proxy, and the server's log betrays any proxy that goes one too far.
Never runs as root: as root it is started as user postgres through setpriv.  Everything lives in one
temporary directory that goes away with it.  Signals follow pg_ctl: INT is fast, QUIT is immediate.
"""

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import psycopg2
import psycopg2.extensions

from waiting import wait_until
from wire import scram_verifier

BIN = os.environ.get("PGRESERVE_PG_BIN", "/usr/lib/postgresql/15/bin")
CAP = 60
SUPERUSER_RESERVED = 3
OBSERVERS = 2

ROLE = "proxy"
PASSWORD = "pr0xy secret's"  # a blank and a quote: they must survive URLs, INI and libpq
PASSWORD_IN_URL = "pr0xy%20secret%27s"

SETTINGS = f"""
listen_addresses = '127.0.0.1'
max_connections = {CAP + SUPERUSER_RESERVED + OBSERVERS}
superuser_reserved_connections = {SUPERUSER_RESERVED}
shared_buffers = 64MB
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
max_wal_size = 4GB
ssl = on
ssl_cert_file = 'server.crt'
ssl_key_file = 'server.key'
log_min_messages = warning
log_line_prefix = '%m [%p] %u@%d '
timezone = 'UTC'
"""

HBA = """
local all postgres trust
local all all scram-sha-256
host  all all 127.0.0.1/32 scram-sha-256
"""


def _ports_in_turn():
    """Below the kernel's ephemeral range, so that no client's own socket takes one meanwhile; each test process has a
    range of its own and goes through it from a random place, so that no port comes twice in a row."""
    count = 2500
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
    first = int.from_bytes(os.urandom(2), "big")
    return itertools.cycle(10000 + worker * count + (first + i) % count for i in range(count))


_ports = _ports_in_turn()


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


def free_port():
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def make_certificate(directory, name="server", host="localhost"):
    """A self-signed certificate and key for `host`; returns their paths."""
    crt, key = os.path.join(directory, name + ".crt"), os.path.join(directory, name + ".key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
         "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host},IP:127.0.0.1",
         "-keyout", key, "-out", crt],
        check=True, capture_output=True)
    os.chmod(key, 0o600)
    return crt, key


class PostgresServer:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="pgreserve-test-")
        self.data = os.path.join(self.directory, "data")
        self.log_path = os.path.join(self.directory, "log")
        self.port = free_port()
        self.process = None
        self.lock = threading.RLock()
        self.control = None
        self.observer = None
        self._create()
        self.start()
        self._load()

    # -- birth and death -------------------------------------------------------------------------

    def _as_postgres(self, command):
        if os.geteuid() != 0:
            return command
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups",
                "--pdeathsig=QUIT", *command]

    def _create(self):
        open(self.log_path, "w").close()
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            os.chown(self.log_path, owner.pw_uid, owner.pw_gid)
        os.chmod(self.directory, 0o755)
        subprocess.run(
            self._as_postgres([f"{BIN}/initdb", "-D", self.data, "-U", "postgres", "--no-sync",
                               "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]),
            check=True, capture_output=True, cwd="/")
        self._write("postgresql.auto.conf",
                    SETTINGS + f"port = {self.port}\nunix_socket_directories = '{self.directory}'\n")
        self._write("pg_hba.conf", HBA)
        crt, key = make_certificate(self.directory)
        for path in (crt, key):
            shutil.move(path, self.data)
            moved = os.path.join(self.data, os.path.basename(path))
            if os.geteuid() == 0:
                shutil.chown(moved, "postgres", "postgres")
            os.chmod(moved, 0o600)

    def _write(self, name, text):
        path = os.path.join(self.data, name)
        with open(path, "w") as file:
            file.write(text)

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self._as_postgres([f"{BIN}/postgres", "-D", self.data]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        wait_until(self._open_observers, "PostgreSQL to start", timeout=30)

    def _open_observers(self):
        assert self.process.poll() is None, "PostgreSQL died:\n" + self.log()[-3000:]
        try:
            self.control = self.superuser_connection()
            self.observer = self.superuser_connection()
            return True
        except psycopg2.OperationalError:
            return False

    def stop(self, how=signal.SIGINT):
        """INT: clients are cut off, data saved; QUIT is what `pg_ctl -m immediate` sends."""
        with self.lock:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
            for connection in (self.control, self.observer):
                connection.close()

    def restart(self, how=signal.SIGQUIT):
        self.stop(how)
        self.start()

    def ensure_running(self):
        if self.process.poll() is not None:
            self.start()

    def destroy(self):
        if self.process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- contents --------------------------------------------------------------------------------

    def _load(self):
        iterations = int(os.environ.get("PGRESERVE_SCRAM_ITERATIONS", "4096"))
        self.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD %s", scram_verifier(PASSWORD, iterations))
        for database in ("app", "dev"):
            self.sql(f"CREATE DATABASE {database} OWNER {ROLE}")
        with self.superuser_connection("app") as connection, connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {ROLE}")
            cursor.execute("CREATE TABLE things (id int PRIMARY KEY, name text)")
            cursor.execute("INSERT INTO things SELECT n, 'thing ' || n FROM generate_series(1, 1000) n")
        connection.close()
        self.sql("CHECKPOINT")  # commits are not waited for: a test that lets a backend crash at once would lose them

    def superuser_connection(self, database="postgres"):
        connection = psycopg2.connect(host=self.directory, port=self.port, user="postgres",
                                      dbname=database)
        connection.autocommit = True
        return connection

    def url(self, database="app", password=PASSWORD_IN_URL, port=None):
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{port or self.port}/{database}"

    # -- looking ---------------------------------------------------------------------------------

    def sql(self, statement, *parameters):
        """Runs it as the superuser on the control connection; rows as a list of tuples."""
        with self.lock, self.control.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def backends(self, condition="true"):
        """The proxy's connections as the server's own table shows them: (pid, datname, state)."""
        return self.sql("SELECT pid, datname, state, query FROM pg_stat_activity"
                        f" WHERE usename = '{ROLE}' AND backend_type = 'client backend'"
                        f" AND {condition}")

    def backend_pids(self, condition="true"):
        return {row[0] for row in self.backends(condition)}

    def terminate(self, pid):
        return self.sql("SELECT pg_terminate_backend(%s)", pid)[0][0]

    def clear_backends(self):
        """Whatever a test has left behind goes, stopped processes too: the next test starts with none."""
        for pid in self.backend_pids():
            self.terminate(pid)
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        try:
            self.wait_for_backends(0)
        except AssertionError:
            self.restart()

    def wait_for_backends(self, count, condition="true", timeout=10):
        wait_until(lambda: len(self.backends(condition)) == count,
                   f"{count} backends where {condition}", timeout)

    def log(self, since=0):
        with open(self.log_path, "rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def log_mark(self):
        return os.path.getsize(self.log_path)

    def refusals(self, since=0):
        """Lines of the log that say that somebody asked for one connection too many."""
        signs = ("too many clients", "remaining connection slots", "too many connections")
        return [line for line in self.log(since).splitlines() if any(sign in line for sign in signs)]
