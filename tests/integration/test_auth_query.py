"""auth_query: whom the users file does not know, the upstream is asked for.

A user would lose: a login with the role's own password, at once after it was changed, and no longer once it was dropped or has
expired; and the cap, the reservation and the secrecy of names to the questions that this takes.
"""

import contextlib
import hashlib
import re
import select

import pytest

import wire
from server import PASSWORD, ROLE
from test_auth import login, md5_secret, refusal
from waiting import Stopwatch, wait_until
from wire import Wire, scram_verifier, startup

RECOMMENDED = ("SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END"
               " FROM pg_catalog.pg_authid WHERE rolname=$1 AND rolcanlogin")
ASKS = "application_name = 'pgreserve auth_query'"
# Counts, and waits while somebody holds the lock; what it looks up is the recommended query's.
COUNTED = "SELECT * FROM lookup.counted($1)"
LOCK = 4711


@pytest.fixture(scope="module")
def roles(shared_postgres):
    """The role that asks, and what it may see: in `app` alone."""
    shared_postgres.ensure_running()
    shared_postgres.sql("CREATE ROLE asker LOGIN PASSWORD 'asker''s own'")
    with shared_postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute(f"""
            GRANT SELECT ON pg_catalog.pg_authid TO asker;
            CREATE SCHEMA lookup;
            GRANT USAGE ON SCHEMA lookup TO asker;
            CREATE SEQUENCE lookup.asked;
            CREATE FUNCTION lookup.counted(asked text, OUT rolname text, OUT password text)
                RETURNS SETOF record SECURITY DEFINER SET search_path = pg_catalog LANGUAGE plpgsql AS $$ BEGIN
                PERFORM nextval('lookup.asked'), pg_advisory_xact_lock_shared({LOCK});
                RETURN QUERY SELECT a.rolname::text, a.rolpassword FROM pg_authid a WHERE a.rolname = asked;
            END $$;""")
    connection.close()
    yield
    shared_postgres.ensure_running()
    with shared_postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA lookup CASCADE; DROP OWNED BY asker; DROP ROLE asker")
    connection.close()


@pytest.fixture
def role(roles, postgres):
    """role("name", "PASSWORD 'x'") makes one that goes with the test."""
    made = []

    def make(name, *options):
        quoted = '"' + name.replace('"', '""') + '"'
        made.append(quoted)
        postgres.sql(f"CREATE ROLE {quoted} LOGIN " + " ".join(options))
        return quoted

    yield make
    postgres.ensure_running()
    for quoted in made:
        postgres.sql(f"DROP ROLE IF EXISTS {quoted}")


@pytest.fixture
def asking(roles, start_proxy, tmp_path, postgres):
    """A daemon that asks: asking(method="md5", auth_query=...).  What it opened for that has gone at the end."""
    users = tmp_path / "users.txt"
    users.write_text(f'"{ROLE}" "{PASSWORD}"\n"asker" "asker\'s own"\n"locked" ""\n')
    users.chmod(0o644)

    def start(wait="ready", auth_query=RECOMMENDED, method="scram-sha-256", auth=None, **sections):
        return start_proxy(wait, auth={"method": method, "users_file": users, "auth_query": auth_query,
                                       "auth_user": "asker", "auth_dbname": "app", **(auth or {})}, **sections)
    return start


def asks(postgres):
    return postgres.sql(f"SELECT pid, state FROM pg_stat_activity WHERE {ASKS}")


def asked(postgres):
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM lookup.asked")
        return cursor.fetchone()[0]


@contextlib.contextmanager
def locked(postgres):
    """Questions of COUNTED do not come to their end meanwhile."""
    with contextlib.closing(postgres.superuser_connection("app")) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_lock({LOCK})")
        yield


def start_login(proxy, user, pool="automation", database="app"):
    client = Wire(proxy.port(pool))
    client.send(startup(user=user, database=database))
    return client


def told(proxy, user, password, **others):
    """Everything that the daemon says to a login that fails, without what is random in it."""
    with Wire(proxy.port()) as client:
        with pytest.raises(wire.ErrorResponse) as refused:
            client.login(user, password, "app", **others)
        kinds = [(message.kind, len(message.body)) for message in client.login_messages]
        return kinds, {code: text.replace(user, "USER") for code, text in refused.value.fields.items()}


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
@pytest.mark.parametrize("kept", ["scram", "md5"])
def test_role_s_own_password_opens_the_door(asking, role, method, kept, postgres):
    secret = {"scram": scram_verifier("a'lice\"s"), "md5": md5_secret("alice", "a'lice\"s")}[kept]
    role("alice", f"PASSWORD '{secret}'")
    proxy = asking(method=method)
    if (method, kept) == ("scram-sha-256", "md5"):
        assert refusal(proxy, "alice", "a'lice\"s").sqlstate == "28P01"  # as with a users file
        return
    for pool in ("automation", "adhoc"):
        assert login(proxy, "alice", "a'lice\"s", pool) == ROLE
        assert refusal(proxy, "alice", "wrong", pool).sqlstate == "28P01"
    with contextlib.closing(proxy.connect(user="alice", password="a'lice\"s")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert len(asks(postgres)) == 2  # one of each pool


def test_change_counts_at_once(asking, role, postgres):
    """As on a connection to PostgreSQL itself: each login asks, so that nothing waits for a cache to forget."""
    proxy = asking()
    assert refusal(proxy, "alice", "first").sqlstate == "28P01"
    alice = role("alice", "PASSWORD 'first'")
    assert login(proxy, "alice", "first") == ROLE
    postgres.sql(f"ALTER ROLE {alice} PASSWORD 'second'")
    assert login(proxy, "alice", "second") == ROLE
    assert refusal(proxy, "alice", "first").sqlstate == "28P01"
    for change, undo in (("VALID UNTIL '2001-01-01'", "VALID UNTIL 'infinity'"), ("NOLOGIN", "LOGIN"),
                         ("PASSWORD NULL", "PASSWORD 'second'")):
        postgres.sql(f"ALTER ROLE {alice} {change}")
        assert refusal(proxy, "alice", "second").sqlstate == "28P01", change
        postgres.sql(f"ALTER ROLE {alice} {undo}")
        assert login(proxy, "alice", "second") == ROLE
    postgres.sql(f"DROP ROLE {alice}")
    assert refusal(proxy, "alice", "second").sqlstate == "28P01"


@pytest.mark.parametrize("method", ["scram-sha-256", "md5"])
def test_nobody_and_a_wrong_password_look_alike(asking, role, method, postgres):
    """No such role, one without a password, one that has expired or may not log in: the same bytes as a wrong password."""
    proxy = asking(method=method)
    role("alice", "PASSWORD '" + (scram_verifier("a") if method == "scram-sha-256" else md5_secret("alice", "a")) + "'")
    role("bobby")
    role("caron", "PASSWORD 'a' VALID UNTIL '2001-01-01'")
    postgres.sql("ALTER ROLE " + role("dorit", "PASSWORD 'a'") + " NOLOGIN")
    wrong = told(proxy, "alice", "wrong")
    assert wrong[1]["C"] == "28P01"
    for user in ("bobby", "caron", "dorit", "nobod"):
        assert told(proxy, user, "a") == wrong, user


def test_users_file_comes_first(asking, role, postgres):
    """Whom it knows is not asked for, with an empty secret neither: that is how somebody is kept out."""
    role("locked", "PASSWORD 'a'")
    proxy = asking(auth_query=COUNTED)
    before = asked(postgres)
    assert refusal(proxy, "locked", "a").sqlstate == refusal(proxy, "locked", "").sqlstate == "28P01"
    assert login(proxy, ROLE, PASSWORD) == ROLE
    assert (asked(postgres), asks(postgres)) == (before, [])


def test_without_a_users_file_the_upstream_s_own_user_needs_no_question(asking, role, postgres):
    role("alice", "PASSWORD 'a'")
    postgres.sql(f"GRANT asker TO {ROLE}")
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute(f"GRANT USAGE ON SCHEMA lookup TO {ROLE}")
    connection.close()
    try:
        proxy = asking(auth_query=COUNTED, auth={"users_file": None, "auth_user": ROLE, "auth_dbname": None})
        before = asked(postgres)
        assert login(proxy, ROLE, PASSWORD) == ROLE
        assert asked(postgres) == before
        assert login(proxy, "alice", "a") == ROLE
        assert asked(postgres) == before + 1
        proxy.stop()
    finally:
        with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
            cursor.execute(f"REVOKE USAGE ON SCHEMA lookup FROM {ROLE}; REVOKE asker FROM {ROLE}")
        connection.close()


def test_console_asks_nobody(asking, role, postgres):
    role("alice", "PASSWORD 'a'")
    proxy = asking(admin={"users": f"alice, {ROLE}"})
    with pytest.raises(wire.ErrorResponse, match="28P01"):
        proxy.admin("SHOW POOLS", user="alice", password="a")
    assert asks(postgres) == []


@pytest.mark.parametrize("query, words", [
    ("SELEC $1", "syntax error"),
    ("SELECT $1::text", "two columns"),
    ("SELECT $1::text, $1::text, 'x'", "two columns"),
    ("SELECT $1::text, 1", "not both text"),
    ("SELECT $1::text, 'x'::bytea", "not both text"),
    ("SELECT $1::text, n::text FROM generate_series(1, 100000) n", "more than one row"),
    ("SELECT $1::text, repeat('x', 3000)", "too long"),
    ("SELECT $1::text, repeat('x', 1000000)", "too long"),
    ("SELECT set_config('a.b', $1, false) INTO TEMP x", "no result|permission|cannot"),
    ("SELECT $1::text, no.such()", "does not exist"),
])
def test_query_that_is_wrong_says_so_to_the_operator_alone(asking, postgres, query, words):
    """Neither a hang nor a wrong password; what exactly is wrong stands in the log."""
    proxy = asking(auth_query=query)
    for _ in range(2):
        error = refusal(proxy, "alice", "a")
        assert (error.severity, error.sqlstate) == ("FATAL", "F0000")
        assert error.message == 'could not look up user "alice": auth_query failed'
    assert re.search(f"auth_query failed.*({words})", proxy.log()), proxy.log()
    assert login(proxy, ROLE, PASSWORD) == ROLE


def test_error_that_may_quote_a_password_is_not_logged(asking, role):
    role("alice", f"PASSWORD '{md5_secret('alice', 'a')}'")
    proxy = asking(auth_query="SELECT rolname, rolpassword::int::text FROM pg_catalog.pg_authid WHERE rolname=$1")
    assert refusal(proxy, "alice", "a").sqlstate == "F0000"
    assert "22P02" in proxy.log()
    assert md5_secret("alice", "a")[3:] not in proxy.log()


@pytest.mark.parametrize("query", [
    "SELECT 'mallory', rolpassword FROM pg_catalog.pg_authid WHERE rolname=$1",  # somebody else's
    "SELECT NULL, rolpassword FROM pg_catalog.pg_authid WHERE rolname=$1",
    "SELECT $1::text, 'SCRAM-SHA-256$0:x$y:z'",  # a verifier that is none, nor a password
    "SELECT $1::text, ''",
])
def test_answer_that_fits_nobody_lets_nobody_in(asking, role, query):
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth_query=query)
    for password in ("a", "", "SCRAM-SHA-256$0:x$y:z"):
        assert refusal(proxy, "alice", password).sqlstate == "28P01"


@pytest.mark.parametrize("name", ['al"ice', "al'ice", "a; DROP TABLE things; --", "älice", "名前", "$1", "%s", " ", "a\\b",
                                  "x" * 63])
def test_name_is_a_parameter_not_sql(asking, role, name):
    role(name, "PASSWORD 'a'")
    proxy = asking(method="md5" if not name.isascii() else "scram-sha-256",
                   auth_query="SELECT $1::text, 'a'::text WHERE EXISTS"
                              " (SELECT FROM pg_catalog.pg_authid WHERE rolname=$1)")
    assert login(proxy, name, "a") == ROLE
    assert refusal(proxy, name[:-1] + "?", "a").sqlstate == "28P01"


def test_name_that_cannot_be_a_role_s(asking, role):
    """Longer than a name can be, which is cut as PostgreSQL cuts it; or no text at all, whole or where it is cut."""
    role("y" * 63, "PASSWORD 'a'")
    proxy = asking()
    for name in ("y" * 63, "y" * 64, "y" * 5000):
        assert login(proxy, name, "a") == ROLE
    assert refusal(proxy, "y" * 62, "a").sqlstate == refusal(proxy, "x" + "ü" * 40, "a").sqlstate == "28P01"
    with Wire(proxy.port()) as client:
        client.send(wire.message("", b"\0\3\0\0user\0\xff\xfe\0database\0app\0\0"))
        assert client.receive().kind == "R"


def test_two_hundred_who_ask_for_one_name_ask_once(asking, role, postgres):
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth_query=COUNTED)
    before = asked(postgres)
    with contextlib.ExitStack() as stack:
        with locked(postgres):
            clients = [stack.enter_context(start_login(proxy, "alice")) for _ in range(200)]
            wait_until(lambda: proxy.pool()["clients"] == 200, "all to have come")
        for client in clients:
            assert client.receive().kind == "R"
    assert asked(postgres) - before == 1
    assert len(asks(postgres)) == 1


def test_question_that_takes_too_long_ends(asking, role, postgres):
    """Who shares it is told; it does not run on, and the next is answered."""
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth_query=COUNTED, automation={"login_timeout": "1s"})
    with locked(postgres):
        with start_login(proxy, "alice") as one, start_login(proxy, "alice") as two, Stopwatch() as watch:
            for client in (one, two):
                assert client.final_error().sqlstate == "57014"
        assert watch.seconds < 10
        wait_until(lambda: all(state == "idle" for _, state in asks(postgres)), "the query to be cancelled")
    assert login(proxy, "alice", "a") == ROLE


def test_who_leaves_meanwhile_is_forgotten(asking, role, postgres):
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth_query=COUNTED)
    before = asked(postgres)
    with locked(postgres):
        with start_login(proxy, "alice"), start_login(proxy, "bob"):
            wait_until(lambda: asked(postgres) > before, "the first question")
        wait_until(lambda: proxy.pool()["clients"] == 0, "both to be gone")
    assert login(proxy, "alice", "a") == ROLE


def test_upstream_that_is_down_is_no_wrong_password(asking, role, postgres):
    role("alice", "PASSWORD 'a'")
    proxy = asking()
    postgres.stop()
    try:
        error = refusal(proxy, "alice", "a")
        assert (error.severity, error.sqlstate) == ("FATAL", "08001")
        assert error.message == 'could not look up user "alice": no connection to the upstream'
    finally:
        postgres.start()
    wait_until(lambda: proxy.is_ready(), "the upstream to be back", 20)
    assert login(proxy, "alice", "a") == ROLE


def test_auth_user_that_may_not_log_in(asking):
    proxy = asking(auth={"auth_user": "nobody"})
    assert refusal(proxy, "alice", "a").sqlstate == "08001"
    assert login(proxy, ROLE, PASSWORD) == ROLE


@pytest.mark.parametrize("how", ["idle", "asked"])
def test_connection_that_has_died_is_made_anew_unseen(asking, role, postgres, how):
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth_query=COUNTED)
    assert login(proxy, "alice", "a") == ROLE
    if how == "idle":
        postgres.terminate(asks(postgres)[0][0])
    else:
        with locked(postgres), start_login(proxy, "alice"):
            wait_until(lambda: [pid for pid, state in asks(postgres) if state == "active"], "the question")
            postgres.terminate(asks(postgres)[0][0])
            wait_until(lambda: [pid for pid, state in asks(postgres) if state == "active"], "it to be asked again")
    assert login(proxy, "alice", "a") == ROLE


def test_it_counts_in_its_pool_and_the_cap(asking, role, postgres):
    """The pool of the client pays: a full one lets nobody new in, and another's reservation stays whole."""
    role("alice", "PASSWORD 'a'")
    proxy = asking(pgreserve={"total_connections": 4}, automation={"size": 2, "max_overflow": 0, "login_timeout": "2s"})
    proxy.wait_warm()
    with contextlib.ExitStack() as stack:
        for connection in proxy.hold(count=2):
            stack.callback(connection.close)
        with start_login(proxy, "alice") as client:
            assert client.final_error().sqlstate == "57014"
        assert asks(postgres) == []
        assert login(proxy, "alice", "a", "adhoc") == ROLE  # reserved: at once
        assert len(asks(postgres)) == 1
        assert len(postgres.backends()) + len(asks(postgres)) <= 4
    assert login(proxy, "alice", "a") == ROLE
    assert len(postgres.backends()) + len(asks(postgres)) <= 4
    wait_until(lambda: [state for _, state in asks(postgres)] == ["idle", "idle"], "one of each pool")
    rows = wait_until(lambda: [row for row in proxy.show("SERVERS") if row["user"] == "asker" and row["state"] == "idle"],
                      "the console to know of them")
    assert all(row["application_name"] == "pgreserve auth_query" for row in rows)
    pools = [row for row in proxy.show("POOLS") if row["user"] == "asker"]
    assert sum(int(row["sv_idle"]) for row in pools) == len(rows) == 2
    assert all(row["cl_active"] == row["cl_waiting"] == "0" for row in pools)


def test_console_and_page_show_who_is_asked_for(asking, role, postgres):
    """While a question is on its way, and while one waits for a connection."""
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth_query=COUNTED, automation={"size": 1, "max_overflow": 0})
    before = asked(postgres)
    with locked(postgres), start_login(proxy, "alice"):
        wait_until(lambda: asked(postgres) > before, "the question")
        server = next(row for row in proxy.show("SERVERS") if row["user"] == "asker")
        assert (server["state"], server["application_name"]) == ("active", "pgreserve auth_query")
        assert (proxy.pool()["in_use"], proxy.pool()["clients"]) == (1, 1)
        assert [row["database"] for row in proxy.show("POOLS") if row["user"] == "asker"] == ["app@automation"]
        for what in ("HOLDERS", "LONGEST", "WAITERS", "STATUS", "ADVICE", "CLIENTS", "SOCKETS", "DATABASES", "USERS", "LISTS",
                     "STATS", "FDS"):
            proxy.show(what)
        for path in ("/live.json", "/metrics", "/status"):
            assert proxy.get(path)
    with contextlib.ExitStack() as stack:
        held = proxy.hold()
        client = stack.enter_context(start_login(proxy, "alice"))
        wait_until(lambda: [row["user"] for row in proxy.show("WAITERS")] == ["alice"], "it to wait")
        assert proxy.pool()["waiting"] == 1
        assert proxy.get("/live.json")
        for connection in held:
            connection.close()
        assert client.receive().kind == "R"


def test_it_can_be_set_on_the_console(asking, role):
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth={"auth_query": None, "auth_user": None})
    with pytest.raises(wire.ErrorResponse, match="needs auth_user"):
        proxy.admin("SET auth_query = 'SELECT $1::text, ''b'''")
    proxy.admin("SET auth_user = 'asker'")
    proxy.admin("SET auth_query = 'SELECT $1::text, ''b'''")
    assert login(proxy, "alice", "b") == ROLE
    assert refusal(proxy, "alice", "a").sqlstate == "28P01"


@pytest.mark.parametrize("method", ["md5", "password"])
def test_known_users_get_in_while_no_connection_is_free(asking, role, postgres, tmp_path, method):
    """What was answered a moment ago stands in when the upstream cannot be asked, and a proof that fails against it is not
    the last word: the password may be new."""
    alice = role("alice", f"PASSWORD '{md5_secret('alice', 'a')}'")
    rules = tmp_path / "hba"
    rules.write_text(f"host all all 127.0.0.1/32 {method}\n")
    rules.chmod(0o644)
    proxy = asking(auth={"hba_file": rules}, automation={"size": 1, "max_overflow": 0})
    assert login(proxy, "alice", "a") == ROLE
    with contextlib.ExitStack() as stack:
        held = proxy.hold()
        with Wire(proxy.port()) as client:
            client.login("alice", "a", "app")
        assert asks(postgres) == []
        postgres.sql(f"ALTER ROLE {alice} PASSWORD '{md5_secret('alice', 'b')}'")
        client = stack.enter_context(start_login(proxy, "alice"))
        request = client.receive()
        salted = hashlib.md5(hashlib.md5(b"balice").hexdigest().encode() + request.body[4:8]).hexdigest()
        client.send(wire.message("p", wire.text("b" if method == "password" else "md5" + salted)))
        wait_until(lambda: any(row["user"] == "alice" for row in proxy.show("WAITERS")), "it to be asked for anew")
        for connection in held:
            connection.close()
        assert client.receive().body == b"\0\0\0\0"


def test_known_user_s_new_password_is_met_by_the_second_try(asking, role, postgres):
    """SCRAM's proof is bound to the salt that was known: it cannot be held against a new one, but the old one is forgotten."""
    alice = role("alice", "PASSWORD 'a'")
    proxy = asking(automation={"size": 1, "max_overflow": 0})
    assert login(proxy, "alice", "a") == ROLE
    with contextlib.ExitStack() as stack:
        held = proxy.hold()
        postgres.sql(f"ALTER ROLE {alice} PASSWORD 'b'")
        assert refusal(proxy, "alice", "b").sqlstate == "28P01"
        client = stack.enter_context(start_login(proxy, "alice"))
        wait_until(lambda: [row for row in proxy.show("WAITERS") if float(row["waiting_for"]) > 1.5],
                   "it to wait longer than for an answer that is known")
        assert select.select([client.socket], [], [], 0)[0] == []
        for connection in held:
            connection.close()
        assert client.receive().kind == "R"
    assert login(proxy, "alice", "b") == ROLE
    assert refusal(proxy, "alice", "a").sqlstate == "28P01"


def test_rules_decide_before_anybody_is_asked(asking, role, postgres, tmp_path):
    rules = tmp_path / "hba"
    rules.write_text("host app trusted 127.0.0.1/32 trust\nhost app rejected 127.0.0.1/32 reject\n"
                     "host app all 127.0.0.1/32 password\n")
    rules.chmod(0o644)
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth_query=COUNTED, auth={"hba_file": rules})
    before = asked(postgres)
    assert login(proxy, "trusted", None) == ROLE
    assert refusal(proxy, "rejected", "a").sqlstate == "28000"
    assert asked(postgres) == before
    assert login(proxy, "alice", "a") == ROLE
    assert refusal(proxy, "alice", "b").sqlstate == refusal(proxy, "nobody", "b").sqlstate == "28P01"


def test_unknown_database_is_told_only_after_the_proof(asking, role):
    role("alice", "PASSWORD 'a'")
    proxy = asking(**{"database:*": None, "database:app": {"url": "${UPSTREAM}"}})
    assert login(proxy, "alice", "a") == ROLE
    assert refusal(proxy, "alice", "b", database="nowhere").sqlstate == "28P01"
    assert refusal(proxy, "alice", "a", database="nowhere").sqlstate == "3D000"


def test_reload_turns_it_on_changes_it_and_turns_it_off(asking, role, postgres):
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth={"auth_query": None, "auth_user": None})
    assert refusal(proxy, "alice", "a").sqlstate == "28P01"
    proxy.reload(auth={"auth_query": RECOMMENDED, "auth_user": "asker"})
    assert login(proxy, "alice", "a") == ROLE
    assert {row["key"]: row["value"] for row in proxy.show("CONFIG")}.items() >= {
        "auth_query": RECOMMENDED, "auth_user": "asker", "auth_dbname": "app"}.items()
    proxy.reload(auth={"auth_query": "SELECT $1::text, 'b'"})
    assert login(proxy, "alice", "b") == ROLE
    proxy.reload(auth={"auth_user": None})
    assert "auth_query needs auth_user" in proxy.log()
    assert login(proxy, "alice", "b") == ROLE  # the old one stays
    proxy.reload(auth={"auth_query": None})
    assert refusal(proxy, "alice", "b").sqlstate == "28P01"


def test_upgrade_ends_who_waits_in_vain(asking, role):
    """The old process opens nothing more: who waits for a question that it cannot ask is told so, and the new one asks."""
    role("alice", "PASSWORD 'a'")
    proxy = asking(pgreserve={"shutdown_timeout": 20}, automation={"size": 1, "max_overflow": 0})
    held = proxy.hold()
    with start_login(proxy, "alice") as client:
        wait_until(lambda: [row["user"] for row in proxy.show("WAITERS")] == ["alice"], "it to wait")
        old = proxy.upgrade(wait="serving")
        assert client.final_error().sqlstate == "57P01"
    for connection in held:
        connection.close()
    assert old.wait(timeout=60) == 0
    assert login(proxy, "alice", "a") == ROLE


def test_upgrade_holds_the_cap(asking, role, postgres):
    role("alice", "PASSWORD 'a'")
    proxy = asking(auth_query=COUNTED, pgreserve={"total_connections": 4, "shutdown_timeout": 5},
                   automation={"size": 2, "max_overflow": 0})
    assert login(proxy, "alice", "a") == ROLE
    before = asked(postgres)
    with locked(postgres), start_login(proxy, "alice"), start_login(proxy, "bob"):
        wait_until(lambda: asked(postgres) > before, "the question")
        old = proxy.upgrade(wait="serving")
        assert len(postgres.backends()) + len(asks(postgres)) <= 4
    assert old.wait(timeout=60) == 0
    assert login(proxy, "alice", "a") == ROLE
    assert len(postgres.backends()) + len(asks(postgres)) <= 4


@pytest.mark.parametrize("auth, words", [
    ({"auth_user": None}, "auth_query needs auth_user"),
    ({"auth_query": "SELECT 1, 2"}, r"auth_query has no \$1"),
])
def test_check_says_what_is_missing(asking, auth, words):
    proxy = asking(None, auth=auth)
    done = proxy.command("check", "-t", "-c", proxy.config_path)
    assert done.returncode == 2
    assert re.search(words, done.stdout + done.stderr)
