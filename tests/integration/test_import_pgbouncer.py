"""Somebody who runs PgBouncer changes over: its own file, converted, serves the same clients at the same port."""

import os
import signal
import subprocess

import psycopg2
import pytest

from pooler import Pooler
from proxy import binary_path, die_with_parent
from server import PASSWORD, ROLE, free_port
from waiting import port_accepts, wait_until


class Converted:
    """pgreserve on a converted pgbouncer.ini."""

    def __init__(self, directory):
        self.directory = directory
        self.ini = os.path.join(directory, "pgbouncer.ini")
        self.process = None

    def convert(self):
        """What `pgreserve import-pgbouncer` writes goes into pgreserve.ini, with ports of the test's own."""
        done = subprocess.run([binary_path(), "import-pgbouncer", self.ini], capture_output=True, text=True,
                              timeout=20)
        assert done.returncode == 0, done.stderr
        self.console = free_port()
        self.path = os.path.join(self.directory, "pgreserve.ini")
        with open(self.path, "w") as file:
            file.write(done.stdout.replace("127.0.0.1:6434", f"127.0.0.1:{self.console}")
                       .replace("127.0.0.1:6435", f"127.0.0.1:{free_port()}"))
        checked = subprocess.run([binary_path(), "check", "-t", "-c", self.path], capture_output=True, text=True,
                                 timeout=20)
        assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
        return done.stdout

    def start(self, port):
        with open(os.path.join(self.directory, "log"), "w") as log:
            self.process = subprocess.Popen([binary_path(), "run", "-c", self.path], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, preexec_fn=die_with_parent)
        wait_until(lambda: self.process.poll() is not None or port_accepts(port), "pgreserve to listen")
        assert self.process.poll() is None, open(log.name).read()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=30) == 0
        self.process = None


@pytest.fixture
def converted(tmp_path):
    converted = Converted(str(tmp_path))
    yield converted
    if converted.process:
        converted.process.kill()
        converted.process.wait()


def ask(port, database, query, password=PASSWORD, **others):
    connection = psycopg2.connect(host="127.0.0.1", port=port, user=ROLE, password=password, dbname=database,
                                  connect_timeout=20, **others)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()
    finally:
        connection.close()


QUESTIONS = ["SELECT current_database()", "SELECT current_user", "SHOW TimeZone", "SHOW DateStyle",
             "SELECT count(*) FROM things", "SHOW application_name"]


def test_clients_get_the_same_answers_after_the_change(postgres, converted):
    databases = (f"app = host=127.0.0.1 port={postgres.port}\n"
                 f"alias = host=127.0.0.1 port={postgres.port} dbname=app timezone='Asia/Tokyo' datestyle='ISO, DMY'\n"
                 f"forced = host=127.0.0.1 port={postgres.port} dbname=app user={ROLE}"
                 f" password='{PASSWORD.replace(chr(39), chr(39) * 2)}'\n")
    with Pooler(postgres, mode="transaction") as bouncer:
        ini = os.path.join(bouncer.directory, "pgbouncer.ini")
        text = open(ini).read().replace(f"* = host=127.0.0.1 port={postgres.port}\n", databases)
        with open(ini, "w") as file:
            file.write(text + f"admin_users = {ROLE}\n")
        bouncer.process.send_signal(signal.SIGHUP)
        wait_until(lambda: port_knows(bouncer.port, "alias"), "pgbouncer to know its databases")
        before = answers(bouncer.port)
        port = bouncer.port
        with open(converted.ini, "w") as file:
            file.write(open(ini).read().replace(f"{bouncer.directory}/users.txt", f"{converted.directory}/users.txt"))
        with open(f"{converted.directory}/users.txt", "w") as file:
            file.write(open(f"{bouncer.directory}/users.txt").read())
    assert before["alias"]["SHOW TimeZone"] == [("Asia/Tokyo",)]

    converted.convert()
    converted.start(port)
    assert answers(port) == before
    for password in ("wrong", ""):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            ask(port, "app", "SELECT 1", password=password)
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        ask(port, "nowhere", "SELECT 1")
    pools = ask(converted.console, "pgbouncer", "SHOW POOLS")
    assert any("alias" in row[0] for row in pools)
    converted.stop()
    postgres.wait_for_backends(0)


def port_knows(port, database):
    try:
        return ask(port, database, "SELECT 1")
    except psycopg2.OperationalError:
        return False


def answers(port):
    return {database: {question: ask(port, database, question, application_name="a-client") for question in QUESTIONS}
            for database in ("app", "alias", "forced")}


def test_a_socket_and_a_server_behind_a_socket(postgres, converted):
    """unix_socket_dir is where PgBouncer listens, and where it looks for a server without host=."""
    port = free_port()
    with open(f"{converted.directory}/users.txt", "w") as file:
        file.write(f'"{ROLE}" "{PASSWORD}" "a third field, which PgBouncer ignores"\n')
    with open(converted.ini, "w") as file:
        file.write(f"[databases]\napp = port={postgres.port}\n[pgbouncer]\nlisten_port = {port}\n"
                   f"unix_socket_dir = {postgres.directory}\nlisten_addr = 127.0.0.1\n"
                   f"auth_file = {converted.directory}/users.txt\n")
    converted.convert()
    converted.start(port)
    wait_until(lambda: os.path.exists(f"{postgres.directory}/.s.PGSQL.{port}"), "the socket, which comes last")
    connection = psycopg2.connect(host=postgres.directory, port=port, user=ROLE, password=PASSWORD, dbname="app")
    with connection.cursor() as cursor:
        cursor.execute("SELECT inet_server_addr()")
        assert cursor.fetchone() == (None,)
    connection.close()
    converted.stop()
    postgres.wait_for_backends(0)


def test_the_command_says_what_it_needs(tmp_path):
    def run(*arguments):
        return subprocess.run([binary_path(), "import-pgbouncer", *arguments], capture_output=True, text=True,
                              timeout=20)

    nothing = run()
    assert nothing.returncode == 1 and "needs a file" in nothing.stderr
    missing = run(str(tmp_path / "pgbouncer.ini"))
    assert missing.returncode == 1 and missing.stdout == "" and "No such file" in missing.stderr
    (tmp_path / "pgbouncer.ini").write_text("[databases]\na = host=h\n[pgbouncer]\nauth_type = cert\n")
    unusable = run(str(tmp_path / "pgbouncer.ini"))
    assert unusable.returncode == 2 and "[pool:automation]" in unusable.stdout
    assert "method = cert needs" in unusable.stderr
