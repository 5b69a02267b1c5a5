"""What was found in PgBouncer, its like and libpq, tried on pgreserve byte by byte; by a server: test_hostile_upstreams.py.

Each docstring names what was published and how it worked; each test plays it and then asks whether somebody else is still
served, by a daemon that is well to its end (conftest) and has taken neither time nor memory.
A user would lose: everything at once, to somebody who has read the same announcements.
"""

import itertools
import socket
import struct
import threading

import psycopg2
import pytest

import wire
from certificates import Authority
from proxy import is_under_valgrind
from server import PASSWORD, ROLE
from test_auth import md5_secret, with_users  # noqa: F401 - a fixture
from waiting import Stopwatch, wait_until
from wire import SSL_REQUEST, Wire, message, query, startup, text

STEPS = ("start-up", "password", "session")


@pytest.fixture
def unharmed(proxy):
    """The daemon under attack; afterwards it serves, and was neither busy nor bloated meanwhile."""
    proxy.wait_warm()
    memory = proxy.peak_memory_kb()
    with Stopwatch() as watch:
        yield proxy
        assert_serves(proxy)
    assert is_under_valgrind() or proxy.cpu_seconds() < 1 + watch.seconds / 2, "it was kept busy"
    assert proxy.peak_memory_kb() - memory < 32 * 1024


def assert_serves(proxy, pool="automation", database="app"):
    with proxy.wire(pool, database=database) as client:
        assert client.query("SELECT 'served'").value == "served"


def reach(client, step, user=ROLE):
    """Brings a connection to where the attack begins."""
    if step == "start-up":
        return
    if step == "session":
        client.login(user, PASSWORD, "app")
        return
    client.send(startup(user=user, database="app"))
    assert client.receive().kind == "R"


def assert_refused(client, *sqlstates):
    error = client.final_error()
    assert error.severity == "FATAL" and error.sqlstate in sqlstates, str(error)
    return error


# -- names and first packets ------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [63, 64, 128, 4500])
def test_long_names(unharmed, length):
    """CVE-2012-4575, PgBouncer before 1.5.4: a database name longer than the room for it ended the process when
    databases were made up on demand.  Here any name is such a database."""
    name = "n" * length
    for parameters in ({"user": ROLE, "database": name}, {"user": name, "database": "app"},
                       {"user": ROLE, "database": name, "application_name": name}):
        with Wire(unharmed.port()) as client, pytest.raises(wire.ErrorResponse) as refused:
            client.login(password=PASSWORD, **parameters)
        assert refused.value.severity == "FATAL" and refused.value.sqlstate in ("3D000", "28P01")


@pytest.mark.parametrize("first", [
    message("p", b"secret\0"), message("p", b"SCRAM-SHA-256\0\0\0\0\x08n,,n=,r="), message("p"), message("X"), query("SELECT 1"),
], ids=["password", "SASL", "empty", "Terminate", "Query"])
def test_password_before_the_start_up_packet(unharmed, first):
    """CVE-2015-4054, PgBouncer before 1.5.5: a password message as the first thing said was looked up for a user who
    was not there yet, and the process ended.  Alone, after SSLRequest was declined, and with a start-up packet behind it."""
    for before, behind in itertools.product((b"", SSL_REQUEST, wire.GSSENC_REQUEST), (b"", startup(user=ROLE, database="app"))):
        with Wire(unharmed.port()) as client:
            client.send(before)
            if before:
                assert client.read_exactly(1) == b"N"
            client.send(first + behind)
            assert_refused(client, "08P01")


@pytest.mark.parametrize("options", ["-c=", "--=", "-c =", "--=x", "-c", "--", "-", "\\", "-c a.b=1 -c=", " -c= ", "-c\\"])
def test_options_without_a_name(unharmed, options):
    """CVE-2026-107349, PgBouncer 1.20 to 1.26.0: `options` with an empty name made a search through a list go round
    for ever, before anybody had shown who they were."""
    with Wire(unharmed.port()) as client:
        client.send(startup(user=ROLE, database="app", options=options))
        assert_refused(client, "42601")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("length", [0x80000000, 0x80000001, 0xFFFFFFFF, 0xFFFFFFFC, 0x7FFFFFFF])
def test_lengths_of_two_to_four_gibibytes(unharmed, step, length):
    """CVE-2026-6668 and CVE-2026-107348, PgBouncer to 1.25.2 and 1.26.0: room for a message was doubled until it sufficed,
    which above 2^31 it never did.  Here a length is judged before a byte of room is made for it."""
    with Wire(unharmed.port()) as client:
        reach(client, step)
        header = struct.pack("!I", length)
        client.send((header if step == "start-up" else b"p" + header) + b"x" * 64)
        assert_refused(client, "08P01")


# -- SCRAM -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0xFFFFFFEE, 0x80000000, 0x7FFFFFFF, 5, 0])
def test_length_within_a_sasl_message(unharmed, length):
    """CVE-2026-6664, PgBouncer before 1.25.2: the length of the client's first SCRAM message was added to where it stood,
    in 32 bits, and so passed the check; the process then read four gibibytes."""
    with Wire(unharmed.port()) as client:
        reach(client, "password")
        client.send(message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", length) + b"n,,n"))
        assert_refused(client, "08P01")


def scram_dialogue(client, user=ROLE):
    """The server's first message to the nonce `fixednonce`: its attributes."""
    return client.scram_challenge(user)


@pytest.mark.parametrize("final", [
    "", ",", "c=biws", "r={r}", "p=AAAA", "c=biws,r={r}", "c=biws,p=AAAA", "r={r},p=AAAA", "c=,r={r},p=AAAA", "c=biws,r=,p=AAAA",
    "c=biws,r={r},p=", "c=biws,r={r},p", "c=biws,r={r},p=" + "A" * 43 + "=,x=1", "c=biws,r={r},x=1", "p=AAAA,r={r},c=biws",
    "c=biws,r={r},p=A\0AA", "c=biws,c=biws,r={r},p=AAAA", "c=" + "A" * 4000 + ",r={r},p=AAAA", "=" * 60, "\0" * 60,
])
def test_final_message_that_lacks_something(unharmed, final):
    """CVE-2026-19888, PgBouncer to 1.25.2: a client's final SCRAM message without one of its attributes passed as read, and
    what was not there was used."""
    with Wire(unharmed.port()) as client:
        challenge = scram_dialogue(client)
        client.send(message("p", final.replace("{r}", challenge["r"]).encode()))
        assert_refused(client, "08P01", "28P01")


@pytest.mark.parametrize("database", ["app", "nowhere"])
@pytest.mark.parametrize("when", ["after the first", "before the proof"])
def test_second_start_up_packet_changes_nobody(with_users, database, when):  # noqa: F811
    """CVE-2026-107350, PgBouncer 1.17 to 1.26.0: a second start-up packet in the middle of SCRAM was obeyed where the first
    had named no known database, so that who knew one user's password came in as any other, an administrator for example."""
    proxy = with_users({"mallory": "known", ROLE: PASSWORD}, **{"database:*": None}, databases={"app": {"url": "${UPSTREAM}"}},
                       admin={"users": ROLE})
    again = startup(user=ROLE, database="app")
    for pool in ("automation", "admin"):
        with Wire(proxy.port(pool)) as client:
            client.send(startup(user="mallory", database="pgreserve" if pool == "admin" else database))
            first = client.receive()
            if first.kind == "R" and when == "before the proof":
                client.send(message("p", text("SCRAM-SHA-256") + struct.pack("!I", 20) + b"n,,n=,r=fixednonce12"))
                assert client.receive().kind == "R"
            client.send(again)
            if first.kind == "R":
                assert_refused(client, "08P01")
            else:
                assert client.is_closed()
        with Wire(proxy.port(pool)) as client:  # in one piece
            client.send(startup(user="mallory", database=database) + again)
            assert all(received.kind in "RE" for received in client.until_closed())
    assert_serves(proxy)


# -- who somebody is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
def test_unknown_user_is_not_somebody_else(with_users, method):  # noqa: F811
    """CVE-2015-6817, PgBouncer 1.6: a name that was not found went on as the user that had been set up to look for
    it.  CVE-2025-46801, Pgpool-II to 4.6.0: a name without an entry was let in by the method of last resort."""
    proxy = with_users({"alice": "a"}, method)
    for user, password in itertools.product(("", ROLE, ROLE.upper(), "Alice", "alice ", "postgres"),
                                            (PASSWORD, "a", "", "md5", md5_secret(ROLE, PASSWORD))):
        with Wire(proxy.port()) as client, pytest.raises(wire.ErrorResponse) as refused:
            client.login(user, password, "app")
        assert refused.value.sqlstate == ("28P01" if user else "28000")
    assert proxy.pool()["clients"] == 0


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
def test_empty_password_opens_nothing(with_users, method):  # noqa: F811
    """CVE-2017-7546, PostgreSQL before 9.6.4: an empty password meant no password to some, and was one to others.  In
    PgBouncer's users file it stands for those who come in another way."""
    proxy = with_users({"alice": "", ROLE: PASSWORD}, method)
    with Wire(proxy.port()) as client, pytest.raises(wire.ErrorResponse) as refused:
        client.login("alice", "", "app")
    assert refused.value.sqlstate == "28P01"


def test_stranger_does_not_learn_which_databases_there_are(with_users):  # noqa: F811
    """PgBouncer before 1.17 said which databases it knew to whoever asked, and let them be guessed (its changelog of 2022)."""
    proxy = with_users({ROLE: PASSWORD}, **{"database:*": None}, databases={"app": {"url": "${UPSTREAM}"}})
    proxy.admin("DISABLE app")
    said = set()
    for database, user in itertools.product(("app", "nowhere"), (ROLE, "nobody")):
        with Wire(proxy.port()) as client, pytest.raises(wire.ErrorResponse) as refused:
            client.login(user, "wrong", database)
        said.add(str(refused.value).replace(user, "X"))
    assert said == {'FATAL 28P01 password authentication failed for user "X"'}
    for database, sqlstate in (("app", "57P03"), ("nowhere", "3D000")):
        with Wire(proxy.port()) as client, pytest.raises(wire.ErrorResponse) as refused:
            client.login(ROLE, PASSWORD, database)
        assert refused.value.sqlstate == sqlstate
    proxy.admin("ENABLE app")
    assert_serves(proxy)


def test_stats_user_commands_nothing(with_users, postgres):  # noqa: F811
    """CVE-2026-6667, PgBouncer before 1.25.2: a verb of the console was obeyed without the question who may.  So every verb of
    HELP is tried, and every spelling that a driver could send."""
    proxy = with_users({"watcher": "w", ROLE: PASSWORD}, admin={"users": ROLE, "stats_users": "watcher"})
    victim = proxy.wire()
    victim.query("BEGIN")
    (row,) = [row for row in proxy.show("CLIENTS") if row["database"].startswith("app")]
    verbs = [f"KILL_CLIENT {row['id']}", f"kill_client {row['ptr']}", f"/* */ KILL_CLIENT {row['id']};", "KILL", "KILL app", "PAUSE",
             "RESUME", "DISABLE app", "ENABLE app", "RECONNECT", "RELOAD", "SUSPEND", "SHUTDOWN", "SHUTDOWN WAIT_FOR_CLIENTS",
             "SET max_clients = 1", "SET log_level TO debug", "DISPOSE", "DISPOSE automation", "WAIT_CLOSE"]
    with Wire(proxy.port("admin")) as console:
        console.login("watcher", "w", "pgreserve")
        known = {word for fields in console.query("SHOW HELP").notices for word in fields.get("D", fields["M"]).split()}
        assert {verb.split()[0] for verb in verbs if verb[0].isupper()} <= known | {"DISPOSE"}, "HELP tells of these"
        for verb in verbs:
            for answer in (console.query(verb), console.ask(wire.extended(verb)), console.query(f"SHOW VERSION; {verb}")):
                assert answer.errors, verb
                assert answer.errors[0].sqlstate in ("42501", "42601"), verb
        assert console.query("SHOW STATUS").rows
    assert victim.query("COMMIT").tags == ["COMMIT"]
    victim.close()
    assert_serves(proxy)


# -- start-up parameters -----------------------------------------------------------------------------------

EVIL = """
CREATE SCHEMA evil;
CREATE TABLE evil.traces (what text);
GRANT ALL ON SCHEMA evil TO PUBLIC;
GRANT ALL ON evil.traces TO PUBLIC;
"""
SHADOWS = {
    "set_config(text, text, boolean)": "text", "current_setting(text)": "text", "pg_backend_pid()": "integer",
    "pg_listening_channels()": "SETOF text", "pg_my_temp_schema()": "oid", "version()": "text", "now()": "timestamptz",
    "texteq(text, text)": "boolean", "pg_current_xact_id_if_assigned()": "xid8",
}


@pytest.fixture
def evil(postgres):
    """A schema whose functions, operators and tables bear the names of PostgreSQL's own, and tell of each use."""
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute(EVIL)
        for signature, result in SHADOWS.items():
            cursor.execute(f"CREATE FUNCTION evil.{signature} RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN"
                           f" INSERT INTO evil.traces VALUES ('{signature}'); RAISE EXCEPTION 'evil {signature}'; END $$")
        for kind in ("text", "name", "integer", "oid", "boolean"):
            cursor.execute(f"CREATE FUNCTION evil.same({kind}, {kind}) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
                           " RAISE EXCEPTION 'evil operator'; END $$")
            cursor.execute(f"CREATE OPERATOR evil.= (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = evil.same)")
        for view in ("pg_settings", "pg_prepared_statements", "pg_cursors", "pg_locks", "pg_class", "pg_trigger", "pg_proc"):
            cursor.execute(f"CREATE VIEW evil.{view} AS SELECT 1/0 AS name, 1/0 AS setting, 1/0 AS source, 1/0 AS pid")
    connection.close()
    yield postgres
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA evil CASCADE")
    connection.close()


def test_nothing_of_ours_is_looked_for_where_the_client_says(start_proxy, evil):
    """CVE-2025-12819, PgBouncer before 1.25.1: the client's search_path, from its start-up packet, was in force when the
    pooler's own query ran.  Here a client names a schema that shadows all that pgreserve's questions and settings use, and
    makes it ask them: not one may be found there, on its own connection or on whose is next."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "pin_recheck": "100ms"})
    mark = evil.log_mark()
    ways = ({"search_path": "evil, pg_catalog"}, {"options": "-c search_path=evil,pg_catalog"})
    for parameters in ways:
        with proxy.wire(**parameters) as client:
            assert client.query("SHOW search_path").value.replace(" ", "") == "evil,pg_catalog"
            assert client.query("SELECT 'a'::text = 'b'").error.message == "evil operator", "what is shadowed is found"
            for statement in ("SET work_mem = '5MB'", "LISTEN here", "UNLISTEN *", "PREPARE p AS VALUES (1)", "DEALLOCATE p",
                              "SELECT pg_catalog.pg_advisory_lock(7)", "SELECT pg_catalog.pg_advisory_unlock(7)",
                              "SELECT pg_catalog.set_config('my.own', 'x', false)", "CREATE TEMP TABLE t (n int)", "DROP TABLE t",
                              "DO $$ BEGIN PERFORM 1; END $$", "SET ROLE NONE", "BEGIN", "COMMIT", "RESET work_mem"):
                assert not client.query(statement).errors, statement
            wait_until(lambda: proxy.pool()["pinned"] == 0, "its connection to be anybody's again")
            assert client.query("SHOW my.own").value == "x"
            client.query("LISTEN left")
        with proxy.wire() as other:
            assert other.query("SHOW search_path").value == '"$user", public'
            assert other.query("SELECT pg_backend_pid() > 0").value == "t"
    assert evil.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%evil%' AND state = 'active'"
                    " AND pid <> pg_backend_pid()") == [(0,)]
    log = evil.log(mark)
    assert log.count("ERROR:  evil") == len(ways), "only what the client itself asked for"
    assert "division by zero" not in proxy.log()


@pytest.fixture
def asking(start_proxy, postgres):
    """asking(expiry) is a daemon that asks its upstream for passwords, and a role `looked_up` to be asked for.  The query finds
    tables, functions and operators by search_path: the recommended one names them, but an operator's own need not."""
    query = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname = $1"

    def start(expiry="infinity"):
        postgres.sql(f"CREATE ROLE looked_up LOGIN PASSWORD 'its own' VALID UNTIL '{expiry}'")
        with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
            cursor.execute(f"GRANT SELECT ON pg_catalog.pg_authid TO {ROLE}")
        connection.close()
        return start_proxy(auth={"auth_user": ROLE, "auth_query": query})
    yield start
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute(f"REVOKE SELECT ON pg_catalog.pg_authid FROM {ROLE}")
    connection.close()
    postgres.sql("DROP ROLE looked_up")


def test_search_path_of_a_stranger_does_not_reach_auth_query(asking, evil):
    """CVE-2025-12819, PgBouncer before 1.25.1: whoever connected, without a password, named a search_path in the start-up
    packet; it was in force when auth_query ran, which then called the stranger's functions with auth_user's rights."""
    with evil.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE evil.pg_authid AS SELECT 'looked_up'::name AS rolname, 'stolen'::text AS rolpassword,"
                       " NULL::timestamptz AS rolvaliduntil")
        cursor.execute(f"GRANT USAGE ON SCHEMA evil TO {ROLE}; GRANT SELECT ON evil.pg_authid TO {ROLE}")
    connection.close()
    proxy = asking()
    mark = evil.log_mark()
    ways = ({"search_path": "evil, pg_catalog"}, {"options": "-c search_path=evil,pg_catalog"},
            {"options": "-csearch_path=evil,pg_catalog -c role=postgres"})
    for parameters in ways:
        for password in ("stolen", "wrong"):
            with Wire(proxy.port()) as stranger:
                with pytest.raises(wire.ErrorResponse, match="28P01"):
                    stranger.login("looked_up", password, "app", **parameters)
    for parameters in ways[:2]:
        with proxy.wire(user="looked_up", password="its own", **parameters) as client:
            assert client.query("SHOW search_path").value.replace(" ", "") == "evil,pg_catalog"
    assert "evil" not in evil.log(mark)
    assert evil.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgreserve auth_query'") == [(1,)]


def test_expired_password_opens_nothing_through_auth_query(asking, postgres):
    """CVE-2025-2291, PgBouncer before 1.24.1: auth_query gave the password of a role whatever its VALID UNTIL."""
    proxy = asking(expiry="2001-01-01")

    def tell(password):
        with Wire(proxy.port()) as client:
            with pytest.raises(wire.ErrorResponse) as refused:
                client.login("looked_up", password, "app")
        return refused.value.fields
    assert tell("its own") == tell("wrong")
    assert tell("its own")["C"] == "28P01"
    postgres.sql("ALTER ROLE looked_up VALID UNTIL 'infinity'")
    with proxy.wire(user="looked_up", password="its own") as client:
        assert client.query("SELECT 'in'").value == "in"
    postgres.sql("ALTER ROLE looked_up VALID UNTIL '2001-01-01'")
    assert tell("its own")["C"] == "28P01"


PARAMETERS = [
    {"options": "-c work_mem=77MB"}, {"search_path": "evil_path"}, {"my.secret": "mine"}, {"options": "-c my.secret=mine"},
    {"TimeZone": "Asia/Tokyo"}, {"client_encoding": "SJIS"}, {"standard_conforming_strings": "off"}, {"statement_timeout": "1ms"},
    {"default_transaction_read_only": "on"}, {"application_name": "evil'; SELECT 1; --"}, {"row_security": "off"},
    {"session_preload_libraries": "nothing"}, {"role": "postgres"}, {"session_authorization": "postgres"}, {"nonsense": "1"},
    {"x'; CREATE TABLE pwned (); --": "1"}, {"my.x": "'; CREATE TABLE pwned (); --"}, {"my.x": "\\'; CREATE TABLE pwned (); --"},
    {"options": "-c my.x=\\\\';CREATE\\ TABLE\\ pwned();--"}, {"options": "-c log_statement=none -c is_superuser=on"},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=lambda parameters: "-".join(parameters)[:40] + str(parameters)[-12:])
def test_start_up_parameters_are_their_own_clients_and_after_the_proof(start_proxy, postgres, parameters):
    """The same, in general: what a client puts into its start-up packet reaches the server only after the proof, as a value
    and never as SQL, and is over with its session.  One connection, so that whoever comes next has the same."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    proxy.wait_warm()
    look = ("SELECT string_agg(name || '=' || setting, ';' ORDER BY name) FROM pg_settings"
            " WHERE source IN ('session', 'client') AND name <> 'application_name'")
    with proxy.wire() as client:
        before = client.query(look).value
        pid = client.query("SELECT pg_backend_pid()").value
    with Wire(proxy.port()) as client, pytest.raises(wire.ErrorResponse) as refused:
        client.login(ROLE, "wrong", "app", **parameters)
    assert refused.value.sqlstate == "28P01", "nothing of it was looked at before the proof"
    for last in ("SELECT 1", "BEGIN"):
        with Wire(proxy.port()) as client:
            try:
                client.login(ROLE, PASSWORD, "app", **parameters)
                client.query(last)
            except wire.ErrorResponse as error:
                assert error.severity == "FATAL"
        with proxy.wire() as other:
            assert other.query(look).value == before
            assert other.query("SELECT current_user || session_user").value == ROLE * 2
            assert other.query("SELECT current_setting('my.secret', true)").value in (None, "")
            assert other.query("SELECT to_regclass('pwned') IS NULL").value == "t"
            assert other.query("SELECT pg_backend_pid()").value == pid or last == "BEGIN"
    assert postgres.sql("SELECT usesuper FROM pg_user WHERE usename = %s", ROLE) == [(False,)]


@pytest.mark.parametrize("encoding", ["SJIS", "BIG5", "GBK", "GB18030", "UHC", "JOHAB"])
def test_encoding_whose_characters_end_in_a_backslash(start_proxy, encoding):
    """The way that quotes were got around in many a client (CVE-2006-2313 and -2314, PostgreSQL 8.1): in these encodings a
    backslash or quote may be the second half of a character.  pgreserve quotes settings when it puts them in force."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0})
    value = b"\x83\\"  # one character of these, or half of one and a backslash
    with proxy.wire(client_encoding=encoding) as client, proxy.wire() as other:
        for said in (value, b"\x83\\\x83\\", b"\x83", b"\\", b"\\\\'", b"'\\"):
            client.query(b"SELECT set_config('my.a', '" + said.replace(b"'", b"''") + b"', false),"
                         b" set_config('my.b', ', evil(); --', false)")
            shown = client.query("SHOW my.b")
            assert other.query("SELECT current_setting('my.b', true)").value in (None, "")
            again = client.query("SHOW my.b")
            assert [row for row in again.rows] == [row for row in shown.rows]
            assert [error.sqlstate for error in again.errors] == [error.sqlstate for error in shown.errors]
        assert client.query("SHOW client_encoding").value == encoding
        assert other.query("SHOW client_encoding").value == "UTF8"


# -- before TLS is up ----------------------------------------------------------------------------------------


@pytest.fixture
def with_certificates(start_proxy, tmp_path):
    """Clients are who their certificate says; `authority` signs them."""
    authority = Authority(tmp_path)
    certificate, key = authority.sign("localhost", "server")
    proxy = start_proxy(auth={"method": "cert"}, tls={"client_mode": "verify-full", "client_cert_file": certificate,
                                                      "client_key_file": key, "client_ca_file": authority.ca_file})
    proxy.pair = authority.sign(ROLE)
    return proxy


class MiddleMan:
    """Between a client and the proxy: says something of its own before the client's TLS, then relays what they say."""

    def __init__(self, port, injected):
        self.port, self.injected = port, injected
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        near, _ = self.listener.accept()
        far = Wire(self.port).socket
        try:
            far.sendall(near.recv(8) + self.injected)
            forth = threading.Thread(target=self._copy, args=(near, far), daemon=True)
            forth.start()
            self._copy(far, near)
        except OSError:
            pass

    @staticmethod
    def _copy(source, target):
        try:
            while part := source.recv(65536):
                target.sendall(part)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(2)
            except OSError:
                pass


def assert_nothing_ran(postgres):
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('injected'), count(*) FROM pg_stat_activity WHERE query LIKE '%injected (%'"
                       " AND pid <> pg_backend_pid()")
        assert cursor.fetchone() == (None, 0)
    connection.close()


@pytest.mark.parametrize("injected", [
    startup(user=ROLE, database="app") + query("CREATE TABLE injected ()"), query("CREATE TABLE injected ()"),
    startup(user=ROLE, database="app"), b"\0", SSL_REQUEST,
], ids=["start-up and query", "query", "start-up", "a byte", "SSLRequest"])
def test_man_in_the_middle_puts_words_into_a_certified_mouth(with_certificates, postgres, injected):
    """CVE-2021-3935 (PgBouncer before 1.16.1), CVE-2021-23214 (PostgreSQL before 14.1), CVE-2021-43766 (Odyssey 1.1): what a
    man in the middle sent behind the client's SSLRequest was kept, and obeyed as the client's once TLS had shown whose
    certificate it was."""
    proxy = with_certificates
    files = {"sslcert": proxy.pair[0], "sslkey": proxy.pair[1], "sslmode": "require", "password": ""}
    proxy.connect(**files).close()
    middle = MiddleMan(proxy.port(), injected)
    with pytest.raises(psycopg2.OperationalError):
        proxy.connect(**files, hostaddr="127.0.0.1", **{"port": middle.address[1]})
    middle.listener.close()
    assert_nothing_ran(postgres)
    proxy.connect(**files).close()


def test_words_between_the_s_and_the_handshake(with_certificates, postgres):
    """The same by a quicker man: the words come when TLS has been agreed upon."""
    proxy = with_certificates
    for injected in (startup(user=ROLE, database="app") + query("CREATE TABLE injected ()"), b"\x16\x03\x01", b"\0" * 9):
        with Wire(proxy.port()) as client:
            client.send(SSL_REQUEST)
            assert client.read_exactly(1) == b"S"
            client.throw(injected)
    assert_nothing_ran(postgres)
    proxy.connect(sslcert=proxy.pair[0], sslkey=proxy.pair[1], sslmode="require").close()


# -- messages within messages ----------------------------------------------------------------------------------


def test_message_whose_length_has_wrapped(unharmed):
    """CVE-2024-27304 (pgx before 5.5.4), and the talk about it: 4 GiB of text behind a length that has wrapped to a few
    bytes become messages of the text's author.  A proxy cannot tell them from the client's, but it must cut them as
    PostgreSQL does, and not make such lengths itself when it renames a statement."""
    smuggled = query("SELECT 'smuggled'")
    with unharmed.wire() as client:
        client.send(b"Q" + struct.pack("!I", 4 + len("SELECT 1\0")) + b"SELECT 1\0" + smuggled)
        assert client.answer().rows == [["1"]] and client.answer().rows == [["smuggled"]]
        assert client.query("SELECT 'in step'").value == "in step"
    for kind, body in itertools.product("PBQFd", (text("name"), b"")):
        with unharmed.wire() as client:
            client.send(kind.encode() + struct.pack("!I", 0x7FFFFFFF) + body + smuggled)
            assert_refused(client, "08P01")


@pytest.mark.parametrize("sent", [
    b"B" + struct.pack("!I", 0x3FFFFFFF) + text("") + text("s"), b"P" + struct.pack("!I", 0x3FFFFFFF) + text("s") + b"SELECT ",
    b"P" + struct.pack("!I", 12) + text("s") + b"SELEC" + query("SELECT 1"), b"B" + struct.pack("!I", 7) + text("") + b"s" + wire.sync(),
])
def test_rewritten_message_that_is_cut_short(unharmed, sent):
    """The same where pgreserve itself writes a new length, into Parse and Bind: a length that promises more than comes, or less
    than the names need, is never the end of the message before."""
    with unharmed.wire() as client:
        client.ask(wire.parse("s", "SELECT 1"))
        client.send(sent, wire.sync())
        client.socket.settimeout(1)
        try:
            received = client.until("EZ")
            assert "D" not in {each.kind for each in received}, received
        except (TimeoutError, wire.Closed):
            pass  # it waits for what was promised


# -- somebody else's answers ---------------------------------------------------------------------------------


def test_shared_statement_keeps_each_clients_rights(start_proxy, postgres):
    """CVE-2024-45624 (Pgpool-II): rows kept from one user's query were given to another without the right to them.
    Here statements are shared, and what start-up settings came to is remembered: rights must not be."""
    postgres.sql("DROP ROLE IF EXISTS limited")
    postgres.sql(f"CREATE ROLE limited; GRANT limited TO {ROLE}")
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0})
    ask = wire.extended("SELECT name FROM things WHERE id = $1", (7,), statement="s") + wire.sync()
    again = wire.bind("", "s", (7,)) + wire.execute() + wire.sync()
    try:
        for turn in range(3):
            with proxy.wire() as entitled, proxy.wire(role="limited") as limited:
                for sent in (ask, again):
                    entitled.send(sent)
                    assert entitled.answer().rows == [["thing 7"]]
                    limited.send(sent)
                    answer = limited.answer()
                    assert answer.errors[0].sqlstate in ("42501", "26000") and not answer.rows
                assert limited.query("SELECT current_user").value == "limited"
                assert entitled.query("SELECT current_user").value == ROLE
            with proxy.wire() as first, proxy.wire() as second:  # whoever has the limited one's connection now
                for client in (first, second):
                    client.query("BEGIN")
                    client.send(ask)
                    assert client.answer().rows == [["thing 7"]]
    finally:
        proxy.stop()
        postgres.sql("DROP ROLE limited")
