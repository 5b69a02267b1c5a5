"""Who is compared: pgreserve, PgBouncer, HAProxy, Pgpool-II, and no proxy at all, before one private PostgreSQL.

Each has 50 connections to the server and the same settings as far as it has them.  Every start is one process (or
family) on the proxies' core.  `auth` is what clients must prove: trust, or scram-sha-256; TLS is there for clients that
ask.  A cell of the table that a party cannot do is left out with the reason, which `cannot()` gives.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile

import machine

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

import server  # noqa: E402
from waiting import port_accepts, wait_until  # noqa: E402

BACKENDS = 50
MAX_CLIENTS = 12000
PARTIES = ("pgreserve", "pgbouncer", "haproxy", "pgpool", "none")  # "relay" takes part when it is asked for
KEEPER = "keeper"  # the role whose password the server asks for
PASSWORD = "key-of-the-keeper"


class Upstream(server.PostgresServer):
    """A server with room for all of them, pgbench's tables, and a role that needs its password."""

    def __init__(self, scale):
        server.SETTINGS += f"max_connections = {5 * BACKENDS + 120}\nshared_buffers = 512MB\n"
        server.HBA = (f"local all all trust\nhost all {KEEPER} 127.0.0.1/32 scram-sha-256\n"
                      "host all all 127.0.0.1/32 trust\n")
        super().__init__()
        subprocess.run(["pgbench", "-i", "-q", "-s", str(scale), "-h", "127.0.0.1", "-p", str(self.port),
                        "-U", server.ROLE, "app"], check=True, capture_output=True)
        self.sql(f"CREATE ROLE {KEEPER} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")


class Party:
    """One of them, running; `port` is where its clients go."""

    def __init__(self, name, port, command=None, files=None, owner=None):
        self.name, self.port, self.process = name, port, None
        self.directory = tempfile.mkdtemp(prefix=f"pgreserve-bench-{name}-")
        if not command:
            return
        files = files or {}
        for file, text in files.items():
            with open(os.path.join(self.directory, file), "w") as output:
                output.write(text.replace("@DIRECTORY@", self.directory))
        server.make_certificate(self.directory)
        crt, key = (os.path.join(self.directory, file) for file in ("server.crt", "server.key"))
        with open(os.path.join(self.directory, "both.pem"), "w") as both:
            both.write(machine.read(crt) + machine.read(key))
        command = [argument.replace("@DIRECTORY@", self.directory) for argument in command]
        if owner and os.geteuid() == 0:
            ids = pwd.getpwnam(owner)
            for file in [self.directory] + [os.path.join(self.directory, f) for f in os.listdir(self.directory)]:
                os.chown(file, ids.pw_uid, ids.pw_gid)
            command = ["setpriv", f"--reuid={owner}", f"--regid={ids.pw_gid}", "--init-groups", *command]
        self.log_path = os.path.join(self.directory, "log")
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, preexec_fn=lambda: machine.pin(machine.PROXY_CORE))
        try:
            wait_until(self._is_up, f"{name} to listen", timeout=20)
        except Exception:
            self.end()
            raise

    def _is_up(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended:\n{machine.read(self.log_path)[-2000:]}")
        return port_accepts(self.port)

    def cpu_seconds(self):
        return machine.cpu_seconds(self.process.pid) if self.process else 0.0

    def end(self):
        if self.process:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                for process in reversed(machine.family(self.process.pid)):
                    os.kill(process, signal.SIGKILL)
                self.process.wait()
            self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


# -- how each is started: (program, upstream's port, auth, extra settings) -> Party ------------------


def start_pgreserve(program, upstream_port, auth, size=BACKENDS, **settings):
    port = server.free_port()
    pool = "".join(f"{key} = {value}\n" for key, value in settings.items())
    configuration = f"""[pgreserve]
total_connections = {size}
max_clients = {MAX_CLIENTS}
[database:*]
url = postgresql://{server.ROLE}@127.0.0.1:{upstream_port}/app?sslmode=disable
[pool:bench]
listen = 127.0.0.1:{port}
mode = transaction
size = {size}
max_overflow = 0
{pool}[admin]
listen = 127.0.0.1:{server.free_port()}
http = 127.0.0.1:{server.free_port()}
[auth]
method = {auth}
users_file = @DIRECTORY@/users
[tls]
client_mode = allow
client_cert_file = @DIRECTORY@/server.crt
client_key_file = @DIRECTORY@/server.key
"""
    return Party("pgreserve", port, [program, "run", "-c", "pgreserve.ini"],
                 {"pgreserve.ini": configuration, "users": f'"{KEEPER}" "{PASSWORD}"\n"{server.ROLE}" ""\n'})


def start_pgbouncer(program, upstream_port, auth, size=BACKENDS, **settings):
    port = server.free_port()
    more = "".join(f"{key} = {value}\n" for key, value in settings.items())
    configuration = f"""[databases]
app = host=127.0.0.1 port={upstream_port} dbname=app user={server.ROLE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {auth}
auth_file = users
pool_mode = transaction
default_pool_size = {size}
min_pool_size = {size}
max_client_conn = {MAX_CLIENTS}
ignore_startup_parameters = extra_float_digits
client_tls_sslmode = allow
client_tls_cert_file = server.crt
client_tls_key_file = server.key
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
{more}"""
    return Party("pgbouncer", port, [program, "pgbouncer.ini"],
                 {"pgbouncer.ini": configuration, "users": f'"{KEEPER}" "{PASSWORD}"\n"{server.ROLE}" ""\n'},
                 owner="postgres")


def start_haproxy(program, upstream_port, auth, size=BACKENDS, **_):
    """It only carries bytes: the server itself asks for passwords and speaks TLS."""
    port = server.free_port()
    configuration = f"""global
    maxconn {10 * size}
    nbthread 1
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen postgres
    bind 127.0.0.1:{port}
    server postgres 127.0.0.1:{upstream_port} maxconn {size + 10}
"""
    return Party("haproxy", port, [program, "-db", "-f", "haproxy.cfg"], {"haproxy.cfg": configuration})


def start_pgpool(program, upstream_port, auth, size=BACKENDS, **_):
    port, pcp = server.free_port(), server.free_port()
    configuration = f"""backend_clustering_mode = 'raw'
listen_addresses = '127.0.0.1'
port = {port}
socket_dir = '@DIRECTORY@'
pcp_socket_dir = '@DIRECTORY@'
wd_ipc_socket_dir = '@DIRECTORY@'
pcp_port = {pcp}
backend_hostname0 = '127.0.0.1'
backend_port0 = {upstream_port}
backend_weight0 = 1
backend_flag0 = 'ALWAYS_PRIMARY'
num_init_children = {size}
max_pool = 1
connection_cache = on
enable_pool_hba = {'on' if auth != 'trust' else 'off'}
pool_passwd = 'pool_passwd'
ssl = on
ssl_cert = '@DIRECTORY@/server.crt'
ssl_key = '@DIRECTORY@/server.key'
pid_file_name = '@DIRECTORY@/pid'
logdir = '@DIRECTORY@'
work_dir = '@DIRECTORY@'
memory_cache_enabled = off
sr_check_period = 0
health_check_period = 0
log_min_messages = fatal
"""
    hba = "host all all 127.0.0.1/32 scram-sha-256\n"
    return Party("pgpool", port, [program, "-n", "-f", "@DIRECTORY@/pgpool.conf", "-a", "@DIRECTORY@/hba"],
                 {"pgpool.conf": configuration, "hba": hba, "pool_passwd": f"{KEEPER}:TEXT{PASSWORD}\n"},
                 owner="postgres")


def start_relay(_program, upstream_port, _auth, size=BACKENDS, **_):
    """The floor (relay.c), compiled where it is started."""
    port = server.free_port()
    directory = tempfile.mkdtemp(prefix="pgreserve-bench-relay-")
    program = os.path.join(directory, "relay")
    subprocess.run(["gcc", "-O2", "-o", program, os.path.join(os.path.dirname(__file__), "relay.c")], check=True)
    try:
        return Party("relay", port, [program, str(port), str(upstream_port), server.ROLE, "app", str(size)])
    finally:
        shutil.rmtree(directory)


def start_none(_program, upstream_port, _auth, **_):
    return Party("none", upstream_port)


PROGRAMS = {"pgbouncer": "/usr/sbin/pgbouncer", "haproxy": "/usr/sbin/haproxy", "pgpool": "/usr/sbin/pgpool"}
STARTS = {"pgreserve": start_pgreserve, "pgbouncer": start_pgbouncer, "haproxy": start_haproxy,
          "pgpool": start_pgpool, "none": start_none, "relay": start_relay}


def start(name, upstream_port, auth="trust", **settings):
    return STARTS[name](PROGRAMS.get(name), upstream_port, auth, **settings)


def cannot(name, clients=1, protocol="simple"):
    """Why the party cannot do this, or None."""
    if clients > BACKENDS and name in ("haproxy", "none"):
        return "each client takes a connection of the server"
    if clients > BACKENDS and name == "pgpool":
        return "each client takes a process and a connection (num_init_children)"
    if protocol == "prepared" and name == "relay":
        return "it knows no prepared statements"
    if protocol == "prepared" and name == "pgbouncer" and not knows_prepared():
        return "this version has no prepared statements in transaction mode"
    return None


def knows_prepared():
    version = machine.version_of(PROGRAMS["pgbouncer"], "-V") or "0"
    major, minor = (int(part) for part in version.split(".")[:2])
    return (major, minor) >= (1, 21)
