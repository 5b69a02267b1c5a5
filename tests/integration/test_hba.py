"""hba_file and ident_file: the same lines let in the same clients as PostgreSQL does, in the same words.

A PostgreSQL of its own is asked and pgreserve is asked: by unix socket, from 127.0.0.1, 127.0.0.2 and ::1, with TLS and
without, with certificates and without.  A user would lose: the rules that kept strangers out, or the door that was open.
"""

import getpass
import itertools
import os
import random
import re
import signal
import socket
import ssl

import pytest

import wire
from certificates import Authority
from server import HBA, PASSWORD, ROLE, PostgresServer, has_ipv6
from waiting import wait_until
from wire import Wire

USERS = {"ann": "ann's", "bob": "md5 secret", "we ird": "x,y"}
DATABASES = ("app", "dev", "ann", "all")
SYSTEM_USER = getpass.getuser()


class Reference(PostgresServer):
    """PostgreSQL with users of all kinds, and files of rules that can be changed."""

    def prepare(self, authority):
        with open(authority.ca_file) as file:
            self._write("root.crt", file.read())
        self.sql("ALTER SYSTEM SET ssl_ca_file = 'root.crt'")
        if has_ipv6():
            self.sql("ALTER SYSTEM SET listen_addresses = '127.0.0.1, ::1'")
        for user, password in USERS.items():
            self.sql(f"SET password_encryption = {'md5' if user == 'bob' else chr(39) + 'scram-sha-256' + chr(39)}")
            self.sql(f'CREATE ROLE "{user}" LOGIN PASSWORD %s', password)
        for database in set(DATABASES) - {"app", "dev"}:
            self.sql(f'CREATE DATABASE "{database}"')
        self.secrets = dict(self.sql("SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"))
        self.restart(signal.SIGINT)

    def use(self, files):
        """The control connections stay: their line comes first."""
        for name, text in files.items():
            self._write(name, HBA.strip().splitlines()[0] + "\n" + text if name == "pg_hba.conf" else text)
        mark = self.log_mark()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "received SIGHUP" in self.log(mark), "PostgreSQL to read its files")
        return mark


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def certificates(authority, tmp_path_factory):
    """TLS with one, by whose it is; "bare" has none."""
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    contexts = {}
    for whose, pair in {"bare": None, "ann": authority.sign("ann"), "carol": authority.sign("carol"),
                        "ann of us": authority.sign("ann/O=Us", "ours"), "stranger": stranger.sign("ann")}.items():
        contexts[whose] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        contexts[whose].check_hostname, contexts[whose].verify_mode = False, ssl.CERT_NONE
        if pair:
            contexts[whose].load_cert_chain(*pair)
    return contexts


@pytest.fixture(scope="module")
def reference(authority):
    server = PostgresServer.__new__(Reference)
    server.__init__()
    try:
        server.prepare(authority)
        yield server
    finally:
        server.destroy()


@pytest.fixture
def with_rules(start_proxy, authority, reference):
    """A daemon with these files: with_rules({"pg_hba.conf": lines}), which listens everywhere that the reference does."""
    pair = authority.sign("localhost", "server")

    def start(files, client_mode="prefer", wait="listening", **sections):
        auth = {"hba_file": None, "ident_file": None, **sections.pop("auth", {})}
        proxy = start_proxy(wait=None, databases={name: {"dbname": "app"} for name in DATABASES}, **sections)
        port, directory = proxy.port(), proxy.directory
        proxy.socket_path = f"{directory}/.s.PGSQL.{port}"
        proxy.rules_path = f"{directory}/pg_hba.conf"
        write_files(proxy, {"pg_ident.conf": "", **files})
        with open(f"{directory}/users.txt", "w") as file:
            for user, secret in reference.secrets.items():
                file.write('"%s" "%s"\n' % (user, secret))
        listen = [f"127.0.0.1:{port}", f"unix:{directory}:{port}"] + [f"[::1]:{port}"] * has_ipv6()
        proxy.change(automation={"listen": ", ".join(listen)},
                     auth={"users_file": f"{directory}/users.txt", **auth,
                           "hba_file": auth["hba_file"] or proxy.rules_path,
                           "ident_file": auth["ident_file"] or f"{directory}/pg_ident.conf"},
                     tls={"client_mode": client_mode, "client_cert_file": pair[0], "client_key_file": pair[1],
                          "client_ca_file": authority.ca_file})
        proxy.write_config()
        if wait:
            proxy.start(wait)
        return proxy
    return start


def write_files(proxy, files):
    for name, text in files.items():
        with open(f"{proxy.directory}/{name}", "w") as file:
            file.write(text)


# -- clients ----------------------------------------------------------------------------------------------------------


class Client(Wire):
    """Comes from somewhere, with TLS (in this context) or without."""

    def __init__(self, server, where, context=None):
        port, path = (server.port(), server.socket_path) if hasattr(server, "socket_path") else \
            (server.port, f"{server.directory}/.s.PGSQL.{server.port}")
        if where == "unix":
            super().__init__(port, path=path)
        else:
            super().__init__(port, host="::1" if where == "::1" else "127.0.0.1")
            if where not in ("::1", "127.0.0.1"):
                self.socket.close()
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(where, 0))
        if context:
            self.send(wire.SSL_REQUEST)
            assert self.read_exactly(1) == b"S"
            self.socket = context.wrap_socket(self.socket)


def outcome(server, certificates, where, encryption, user, database, password, **parameters):
    """"in", or the SQLSTATE and the message; "tls" when it does not come so far."""
    client = None
    try:
        client = Client(server, where, certificates[encryption] if encryption else None)
        client.login(user, password, database, **parameters)
    except wire.ErrorResponse as error:
        assert error.severity == "FATAL" or is_in(client)
        return "in" if is_in(client) else (error.sqlstate, error.message)
    except (ssl.SSLError, ConnectionError, wire.Closed):
        return "tls"
    finally:
        if client:
            client.close()
    return "in"


def is_in(client):
    """What comes behind that is not about who the client is: a role that is not there, a replication that may not be."""
    return any(m.kind == "R" and m.body == b"\0\0\0\0" for m in client.login_messages)


def compare(proxy, reference, certificates, clients):
    """What they came to."""
    outcomes = []
    for client in clients:
        *rest, parameters = client
        expected = outcome(reference, certificates, *rest, **parameters)
        assert outcome(proxy, certificates, *rest, **parameters) == expected, client
        outcomes.append(expected if isinstance(expected, str) else expected[1])
    return outcomes


WAYS = [("unix", None), ("127.0.0.1", None), ("127.0.0.2", None), ("::1", None), ("127.0.0.1", "bare"),
        ("127.0.0.1", "ann"), ("127.0.0.2", "carol"), ("127.0.0.1", "ann of us"), ("127.0.0.2", "stranger")]
if not has_ipv6():
    WAYS.remove(("::1", None))


def everybody():
    for where, encryption in WAYS:
        for user, database in itertools.product(USERS, DATABASES[:3] if encryption else DATABASES):
            yield where, encryption, user, database, USERS[user], {}
        yield where, encryption, "ghost", "app", "x", {}
        yield where, encryption, "bob", "app", "wrong", {}
        yield where, encryption, "we ird", "dev", "wrong", {}
        if encryption is None:
            yield where, encryption, "ann", "app", USERS["ann"], {"replication": "true"}
            yield where, encryption, "ann", "app", USERS["ann"], {"replication": "database"}


PASSWORDS = """
local  all          ann                     peer  map=os
local  sameuser     all                     scram-sha-256
local  all          bob                     md5   # his secret is md5
local  all          "we ird"                password
host   app,dev      ann   127.0.0.1/32      scram-sha-256
host   all          ann   127.0.0.2  255.255.255.255  reject
host   app          bob   127.0.0.0/8       md5
host   dev          bob   127.0.0.1/32      scram-sha-256
hostnossl all       "we ird","ghost" samehost  password
host   replication  all   ::1/128           trust
host   all          all   ::1/128           md5
"""
CERTIFICATES = """
hostssl   app  all  all           cert
hostssl   dev  all  all           cert  map=names
hostssl   ann  all  127.0.0.1/32  cert  map=names  clientname=DN
hostssl   all  ann  127.0.0.1/32  scram-sha-256    clientcert=verify-ca
hostssl   all  bob  all           md5              clientcert=verify-full
hostssl   all  "we ird"  127.0.0.2/32  password         clientcert=verify-full
hostssl   all  all  all           trust            clientcert=verify-full
hostnossl all  all  all           trust
"""
WORDS = r"""
# one \
  two
host  @databases     @users,ghost  127.0.0.0/8  trust
local "all"          "all",ann     trust
local sameuser,replication "we ird",ann \
   trust
host  "sameuser",a"pp"  al"l"      127.0.0.0/8  scram-sha-256
host  replication    all           samenet      reject
local all            "bob"         ident map="o s"
hostnogssenc all     ann           ::/0         trust
hostgssenc   all     all           all          trust
"""
IDENT = f"""
os       {SYSTEM_USER}          ann
"o s"    /^(.*)$                \\1
"o s"    /{SYSTEM_USER[:2]}     bob
names    ann                    ann
names    carol                  bob
names    /^c(aro)l$             "we ird"
names    "/^O=Us,CN=(.*)$"      \\1
names    CN=carol               "we ird"
"""


@pytest.mark.parametrize("lines, least", [
    (PASSWORDS, {"in": 15, "password authentication failed": 5, "pg_hba.conf rejects connection for": 3,
                 "no pg_hba.conf entry for host": 20, "no pg_hba.conf entry for replication": 1}),
    (CERTIFICATES, {"in": 30, "certificate authentication failed": 5, "tls": 10, "password authentication failed": 1,
                    "connection requires a valid client certificate": 5, '"trust" authentication failed': 1}),
    (WORDS, {"in": 20, "no pg_hba.conf entry for host": 20,
             "pg_hba.conf rejects replication": 1}),
], ids=["passwords", "certificates", "words"])
def test_the_same_clients_come_in(with_rules, reference, certificates, lines, least):
    files = {"pg_hba.conf": lines, "pg_ident.conf": IDENT, "databases": "app # and\nmore/databases dev\n",
             "users": '"we ird"\nbob\n'}
    mark = reference.use(files)
    proxy = with_rules(files)
    outcomes = compare(proxy, reference, certificates, everybody())
    assert "not reloaded" not in reference.log(mark)
    for kind, count in least.items():
        assert sum(outcome.startswith(kind) for outcome in outcomes) >= count, outcomes


def random_line(chance):
    """A line that PostgreSQL 15 reads as later ones do."""
    pick = chance.choice
    kind = pick(["local", "host", "host", "hostssl", "hostnossl", "hostnogssenc", "hostgssenc"])
    words = lambda *choices: ",".join(chance.sample(choices, pick([1, 1, 2])))
    line = [kind, words("all", "app", "dev", "sameuser", "replication", '"all"', '"sameuser"', "ann"),
            words("all", "ann", "bob", '"we ird"', '"all"', "ghost")]
    if kind != "local":
        line.append(pick(["all", "samehost", "samenet", "127.0.0.1/32", "127.0.0.2/31", "127.0.0.0/8", "::1/128", "::/0",
                          "0.0.0.0/0", "127.0.0.3 255.255.255.254", "10.0.0.0/8", "0.0.0.2 0.0.0.255"]))
    methods = ["trust", "reject", "md5", "scram-sha-256", "password"]
    methods += {"local": ["peer", "peer map=os"], "hostssl": ["cert", "cert map=names clientname=DN",
                "trust clientcert=verify-full", "md5 clientcert=verify-ca"]}.get(kind, [])
    return "\t".join(line + [pick(methods)])


def test_random_lines(with_rules, reference, certificates):
    seed = os.environ.get("PGRESERVE_SEED") or str(random.SystemRandom().randrange(1 << 32))
    print("PGRESERVE_SEED =", seed)
    chance = random.Random(seed)
    clients = list(everybody())
    proxy = with_rules({"pg_hba.conf": "local all all peer\n", "pg_ident.conf": IDENT})
    kinds = set()
    for _ in range(8):
        lines = "\n".join(random_line(chance) for _ in range(chance.randint(1, 7))) + "\n"
        reference.use({"pg_hba.conf": lines, "pg_ident.conf": IDENT})
        write_files(proxy, {"pg_hba.conf": lines})
        proxy.hang_up()
        try:
            for outcome_text in compare(proxy, reference, certificates, chance.sample(clients, 20)):
                kinds.add(outcome_text[:20])
        except AssertionError as error:
            raise AssertionError(f"seed {seed}\n{lines}\n{error}") from error
    assert len(kinds) > 3, kinds


REFUSED_BY_BOTH = [
    "remote all all all trust", "local,host all all trust", "host", "host all", "host all all", "host all all all",
    "local all all", "host all all 10.0.0.1", "host all all 10.0.0.1 trust", "host all all 10.0.0.0/33 trust",
    "host all all 10.0.0.0/ trust", "host all all 10.0.0.0/x trust", "host all all ::/129 trust",
    "host all all 10.0.0.0 ffff:: trust", "host all all all,all trust", "host all all all trust,md5",
    "host all all all peer", "host all all all cert", "local all all cert", "host all all all what",
    "host all all all trust clientcert=verify-ca", "hostssl all all all trust clientcert=1",
    "hostssl all all all cert clientcert=verify-ca", "hostssl all all all cert clientname=SAN",
    "host all all all md5 map=x", "local all all peer maps=x", "local all all peer x",
]
TAKEN_BY_BOTH = [
    "local all all peer", "hostssl all all all cert map=\"a b\"", "host all all 10.1.2.3/8 md5",
    "host all all 10.0.0.0 255.0.0.255 md5", "host a,b c,d ::/0 reject", "host \"a b\" \"c\"\"d\" samenet trust",
    "hostssl all all all trust clientcert=verify-ca,clientname=CN", "local all all ident", "host all all 10.1/16 trust",
]
REFUSED_HERE_ALONE = [
    "host all all db.example trust", "host all all .example trust", "host samerole all all trust",
    "host all +staff all trust", "host all all all ident", "local all all pam",
]


def test_the_same_lines_are_refused(with_rules, reference):
    lines = REFUSED_BY_BOTH + REFUSED_HERE_ALONE + TAKEN_BY_BOTH
    proxy = with_rules({"pg_hba.conf": "\n".join(lines) + "\n"}, wait=None)
    reference._write("pg_hba.conf", "\n".join(lines) + "\n")
    rules = reference.sql("SELECT line_number FROM pg_hba_file_rules WHERE error IS NOT NULL OR type IS NULL")
    theirs = {lines[number - 1] for (number,) in rules}
    done = proxy.command("check", "-t", "-c", proxy.config_path)
    ours = {lines[int(number) - 1] for number in re.findall(rf"^{proxy.rules_path}:(\d+): ", done.stderr, re.M)}
    assert done.returncode == 2
    assert theirs == set(REFUSED_BY_BOTH)
    assert ours == set(REFUSED_BY_BOTH + REFUSED_HERE_ALONE)


# -- what is pgreserve's own ------------------------------------------------------------------------------------------


def come(proxy, certificates=(), where="127.0.0.1", encryption=None, user="ann", database="app", password=None):
    return outcome(proxy, certificates, where, encryption, user, database, password or USERS.get(user, PASSWORD))


OPEN = "host all all all scram-sha-256\n"


def test_rules_change_with_a_reload_and_bad_ones_do_not(with_rules):
    proxy = with_rules({"pg_hba.conf": OPEN})
    assert come(proxy) == "in"
    write_files(proxy, {"pg_hba.conf": "host all bob all md5\n"})
    assert come(proxy) == "in"
    proxy.hang_up()
    assert come(proxy) == ("28000", 'no pg_hba.conf entry for host "127.0.0.1", user "ann", database "app", no encryption')
    for wrong, place in (("host all all all ldap\n", ":1: ldap"), ("", ": there is no line"), (OPEN * 2 + "local\n", ":3: ")):
        write_files(proxy, {"pg_hba.conf": wrong})
        mark = os.path.getsize(proxy.log_path)
        proxy.hang_up()
        wait_until(lambda: "the old configuration stays in force" in proxy.log(mark), "the refusal")
        assert proxy.rules_path + place in proxy.log(mark)
        assert come(proxy)[0] == "28000" and come(proxy, user="bob") == "in"
    write_files(proxy, {"pg_hba.conf": OPEN})
    proxy.hang_up()
    assert come(proxy) == "in"
    write_files(proxy, {"pg_hba.conf": "host all all db.example trust\n"})
    with pytest.raises(wire.ErrorResponse, match="pg_hba.conf:1: db.example is no address"):
        proxy.admin("RELOAD")
    write_files(proxy, {"pg_hba.conf": "host all ann all reject\n" + OPEN})
    proxy.admin("RELOAD")
    assert come(proxy)[0] == "28000"


@pytest.mark.parametrize("files, place", [
    ({"pg_hba.conf": OPEN + "host all all all gss\n"}, "pg_hba.conf:2: gss is not supported"),
    ({"pg_hba.conf": "host all @nobody all md5\n"}, "nobody cannot be read: No such file or directory"),
    ({"pg_hba.conf": OPEN, "pg_ident.conf": "m /( x\n"}, "pg_ident.conf:1: the expression /(:"),
])
def test_bad_files_stop_the_start_and_the_check(with_rules, files, place):
    proxy = with_rules(files, wait=None)
    for command in (("run",), ("check", "-t"), ("check",)):
        done = proxy.command(*command, "-c", proxy.config_path)
        assert done.returncode == 2 and place in done.stderr, done.stderr


def test_a_file_that_is_not_there(with_rules):
    proxy = with_rules({"pg_hba.conf": OPEN}, wait=None, auth={"hba_file": "/nonexistent/pg_hba.conf"})
    done = proxy.command("check", "-t", "-c", proxy.config_path)
    assert done.returncode == 2
    assert "/nonexistent/pg_hba.conf: cannot be read: No such file or directory" in done.stderr


def test_users_and_networks_of_the_pool_must_allow_too(with_rules):
    proxy = with_rules({"pg_hba.conf": "host all ann,bob all md5\n"},
                       automation={"users": "bob, we ird", "networks": "127.0.0.1/32, 127.0.0.2/32"})
    assert come(proxy, user="bob") == "in"
    assert come(proxy, user="bob", where="127.0.0.3")[1] == 'user "bob" is not allowed on pool "automation"'
    assert come(proxy, user="ann")[1] == 'user "ann" is not allowed on pool "automation"'
    assert come(proxy, user="we ird")[1].startswith("no pg_hba.conf entry for host")


def test_the_method_is_not_asked_where_there_are_rules(with_rules):
    proxy = with_rules({"pg_hba.conf": "host all ann all reject\nhost all all all md5\n"}, auth={"method": "trust"})
    assert come(proxy)[1].startswith("pg_hba.conf rejects connection for host")
    assert come(proxy, user="bob") == "in"
    assert come(proxy, user="bob", password="wrong")[0] == "28P01"


def test_rules_hold_on_the_console_too(with_rules):
    proxy = with_rules({"pg_hba.conf": "host pgreserve ann,bob 127.0.0.1/32 scram-sha-256\n"
                                       "host pgbouncer ann,bob,ghost 127.0.0.1/32 trust\n"},
                       admin={"users": "ann"}, auth={"method": "scram-sha-256"})
    assert proxy.admin("SHOW VERSION", user="ann", password=USERS["ann"])
    assert proxy.admin("RELOAD", "pgbouncer", user="ann", password=None)
    for user, database, expected in (("bob", "pgreserve", "28P01"), ("ghost", "pgreserve", "28000"),
                                     ("bob", "pgbouncer", "28000"), ("ghost", "pgbouncer", "28000")):
        with pytest.raises(wire.ErrorResponse) as refused:
            proxy.admin("SHOW VERSION", database, user=user, password="md5 secret")
        assert refused.value.sqlstate == expected, refused.value


def test_an_empty_password_and_a_password_that_is_none(with_rules):
    proxy = with_rules({"pg_hba.conf": "host all all all password\n"})
    with Wire(proxy.port()) as client:
        client.send(wire.startup(user="ann", database="app"))
        assert client.receive().body == b"\0\0\0\3"
        client.send(wire.message("p", b"\0"))
        error = client.final_error()
        assert (error.sqlstate, error.message) == ("28P01", "empty password returned by client")
    for body in (b"", b"ann's", b"ann's\0\0", b"\0ann's\0"):
        with Wire(proxy.port()) as client:
            client.send(wire.startup(user="ann", database="app"))
            client.receive()
            client.send(wire.message("p", body))
            assert client.final_error().sqlstate == "28P01"
    assert come(proxy) == come(proxy, user="bob") == come(proxy, user="we ird") == "in"
    assert come(proxy, user="ghost")[1] == 'password authentication failed for user "ghost"'


def test_the_line_is_in_the_log_and_nowhere_else(with_rules):
    proxy = with_rules({"pg_hba.conf": OPEN.replace("all", "dev", 1) + "host all all all reject\n"})
    error = come(proxy)
    assert "pg_hba.conf:2" not in error[1] and proxy.directory not in error[1]
    refusal = next(line for line in proxy.log().splitlines() if "refused by a rule" in line)
    assert f"file={proxy.rules_path}" in refusal and "line=2" in refusal and "reason=reject" in refusal


def test_the_upstreams_own_user_is_known_without_a_users_file(with_rules):
    proxy = with_rules({"pg_hba.conf": f"host all {ROLE} all scram-sha-256\n"}, auth={"users_file": None})
    assert come(proxy, user=ROLE) == "in"
    assert come(proxy, user="ann")[0] == "28000"
