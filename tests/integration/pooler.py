"""Debian's pgbouncer in front of a PostgresServer, on a private port: an upstream that is itself a pooler.

It runs as `postgres` when the tests run as root (it refuses root), keeps everything in one temporary
directory, and goes with the test.  `Pooler(postgres, mode="transaction")` is a context manager.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile

from proxy import die_with_parent
from server import PASSWORD, PASSWORD_IN_URL, ROLE, free_port
from waiting import port_accepts, wait_until

PROGRAM = "/usr/sbin/pgbouncer"


class Pooler:
    def __init__(self, postgres, mode="session", **settings):
        self.port = free_port()
        self.directory = tempfile.mkdtemp(prefix="pgreserve-test-pooler-")
        self.log_path = os.path.join(self.directory, "log")
        settings = {"pool_mode": mode, "default_pool_size": 20, "max_client_conn": 100, **settings}
        with open(os.path.join(self.directory, "users.txt"), "w") as file:
            file.write(f'"{ROLE}" "{PASSWORD}"\n')
        with open(os.path.join(self.directory, "pgbouncer.ini"), "w") as file:
            file.write(f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n[pgbouncer]\n"
                       f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
                       f"auth_type = scram-sha-256\nauth_file = {self.directory}/users.txt\n")
            for key, value in settings.items():
                file.write(f"{key} = {value}\n")
        self.process = None

    def url(self, database="app"):
        return f"postgresql://{ROLE}:{PASSWORD_IN_URL}@127.0.0.1:{self.port}/{database}"

    def __enter__(self):
        command = [PROGRAM, os.path.join(self.directory, "pgbouncer.ini")]
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (self.directory, *(os.path.join(self.directory, name)
                                           for name in os.listdir(self.directory))):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups",
                       "--pdeathsig=KILL", *command]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd="/", preexec_fn=die_with_parent)
        wait_until(lambda: self.process.poll() is not None or port_accepts(self.port), "pgbouncer to listen")
        assert self.process.poll() is None, self.log()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self):
        with open(self.log_path) as file:
            return file.read()
