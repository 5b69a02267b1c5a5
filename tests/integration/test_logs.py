"""The log: one line an event in both formats, hostile names shown harmlessly, storms folded, no secrets.

A user would lose: the one line that says who and why, or trust in what a line says.
"""

import json
import os
import re
import shlex
import tempfile

import psycopg2
import pytest

from faults import Link
from server import PASSWORD, PASSWORD_IN_URL, ROLE
from waiting import wait_until
from wire import Closed, ErrorResponse, Wire, query, startup

LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) (.*)$")
PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)(?: |$)')


def parse_text(line):
    """A line of logfmt as a dictionary; fails on anything that is not key=value to its very end."""
    match = LINE.match(line)
    assert match, f"not a line of the log: {line!r}"
    fields, at, rest = {"level": match.group(1)}, 0, match.group(2)
    while at < len(rest):
        pair = PAIR.match(rest, at)
        assert pair, f"not logfmt from {rest[at:]!r} on"
        value = pair.group(2)
        fields[pair.group(1)] = json.loads(value) if value.startswith('"') and "\\x" not in value else value
        at = pair.end()
    return fields


def events(proxy, name=None):
    found = []
    for line in proxy.log().splitlines():
        fields = json.loads(line) if line.startswith("{") else parse_text(line)
        if name is None or fields["event"] == name:
            found.append(fields)
    return found


def wait_event(proxy, name, **wanted):
    def look():
        return [event for event in events(proxy, name)
                if all(str(event.get(key)) == str(value) for key, value in wanted.items())]
    return wait_until(look, f"the event {name} {wanted}")[-1]


@pytest.fixture(params=["text", "json"])
def log_format(request):
    return request.param


def test_every_line_can_be_parsed_and_says_who(start_proxy, log_format):
    proxy = start_proxy(pgreserve={"log_format": log_format, "log_level": "debug"})
    with proxy.connect(application_name="my app").cursor() as cursor:
        cursor.execute("SELECT 1")
    with pytest.raises(psycopg2.OperationalError):
        proxy.connect(password="not it", application_name="guesser")
    refused = wait_event(proxy, "login refused")
    assert refused["pool"] == "automation" and refused["user"] == ROLE
    assert refused["database"] == "app" and refused["application"] == "guesser"
    assert refused["address"].startswith("127.0.0.1:") and refused["sqlstate"] == "28P01"
    assert wait_event(proxy, "client login", application="my app")["level"] == "DEBUG"
    assert {"starting", "listening"} <= {event["event"] for event in events(proxy)}
    proxy.stop()
    assert events(proxy, "stopped")


def test_pool_events_tell_the_life_of_a_connection(start_proxy, log_format):
    proxy = start_proxy(pgreserve={"log_format": log_format, "log_pool_events": "on"},
                        automation={"size": 1, "max_overflow": 0, "recycle": "1", "prefill": "off"},
                        adhoc={"prefill": "off"})
    (holder,) = proxy.hold(application_name="worker 7")
    checkout = wait_event(proxy, "checkout", application="worker 7")
    connect = wait_event(proxy, "connect", pool="automation")
    assert connect["pid"] == checkout["pid"] and float(connect["took"]) > 0
    assert checkout["user"] == ROLE and float(checkout["waited"]) >= 0
    holder.rollback()
    assert wait_event(proxy, "checkin", pid=connect["pid"])["pool"] == "automation"
    recycled = wait_event(proxy, "recycle", pid=connect["pid"])
    assert float(recycled["age"]) >= 0.85
    assert wait_event(proxy, "close", pid=connect["pid"])["reason"] == "recycle"
    holder.close()


def test_pool_events_are_off_by_default(proxy):
    with proxy.wire() as wire:
        wire.query("SELECT 1")
    proxy.stop()
    assert not {"checkout", "checkin", "connect", "close"} & {event["event"] for event in events(proxy)}


def test_a_dead_backend_is_a_line_with_the_servers_words(start_proxy, postgres, log_format):
    proxy = start_proxy(pgreserve={"log_format": log_format})
    proxy.wait_warm()
    pid = next(iter(postgres.backend_pids()))
    postgres.terminate(pid)
    lost = wait_event(proxy, "backend lost", pid=pid)
    assert "administrator command" in lost["reason"] and lost["level"] == "WARNING"


HOSTILE = ["two\nlines", 'quo"te\\d', "\x1b]0;title\x07\x1b[2J", "tab\tand\rreturn", "a=b c",
           "‮evil", "c1\u009b31m", "' OR 1=1 --", "ünï 日本"]


def as_application_name(name):
    """PostgreSQL keeps nothing but printable ASCII of it, byte by byte, and so does the proxy."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7f else "?" for byte in name.encode())


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_on_their_line(start_proxy, log_format, name):
    proxy = start_proxy(pgreserve={"log_format": log_format})
    with pytest.raises((ErrorResponse, Closed)):
        proxy.wire(user=name, password="x", application_name=name, database="app")
    refused = wait_event(proxy, "login refused")
    assert refused["user"] == name and refused["application"] == as_application_name(name)
    raw = proxy.log()
    for character in raw:
        assert character == "\n" or character >= " ", repr(character)
    assert "\x7f" not in raw and "\u009b" not in raw and "\u202e" not in raw


def test_bytes_that_are_no_utf8_stay_harmless(start_proxy, log_format):
    proxy = start_proxy(pgreserve={"log_format": log_format})
    with Wire(proxy.port()) as wire:
        wire.send(startup(user=b"\xff\xc3(", database="app", application_name=b"\x80\x1b[1m"))
        wire.until("R")
        wire.send(b"p" + (5).to_bytes(4, "big") + b"\0")
        wire.until("E")
    assert wait_event(proxy, "login refused")
    with open(proxy.log_path, "rb") as file:
        file.read().decode("utf-8")


def test_a_storm_of_failures_is_a_few_lines_with_a_count(start_proxy):
    """The first at once, the others by number, whoever they were."""
    proxy = start_proxy()
    for i in range(30):
        with pytest.raises((ErrorResponse, Closed)):
            proxy.wire(user=f"stranger{i}", password="x")
    proxy.stop()
    refused = events(proxy, "login refused")
    assert len(refused) < 8 and refused[0]["user"] == "stranger0" and "repeated" not in refused[0]
    assert 1 + sum(int(event.get("repeated", 0)) for event in refused) == 30
    assert refused[-1]["user"] == "stranger29"


def test_failed_logins_upstream_are_folded_by_their_reason(start_proxy, postgres):
    with Link(postgres.port) as link:
        link.refuse()
        proxy = start_proxy(upstream_port=link.port, wait="listening")
        wait_until(lambda: int(proxy.status()["total"]["closing"]) >= 0 and
                   events(proxy, "login to upstream failed"), "the first failure")
        for _ in range(5):
            with pytest.raises(psycopg2.OperationalError):
                proxy.connect()
        proxy.stop()
    failed = events(proxy, "login to upstream failed")
    assert len({event["reason"] for event in failed}) == len([e for e in failed if "repeated" not in e])
    assert sum(int(event.get("repeated", 0)) for event in failed) > 3


def test_the_journal_gets_priorities(start_proxy, log_format):
    """systemd names our stderr in JOURNAL_STREAM; the priority stands before the line."""
    proxy = start_proxy(wait=None, pgreserve={"log_format": log_format})
    open(proxy.log_path, "w").close()
    at = os.stat(proxy.log_path)
    proxy.environment["JOURNAL_STREAM"] = f"{at.st_dev}:{at.st_ino}"
    proxy.start()
    with pytest.raises((ErrorResponse, Closed)):
        proxy.wire(user="nobody", password="x")
    proxy.stop()
    lines = proxy.log().splitlines()
    assert lines and all(re.match(r"<[3467]>", line) for line in lines)
    assert any(line.startswith("<6>") and "login refused" in line for line in lines)
    bodies = [line[3:] for line in lines]
    if log_format == "json":
        assert all(json.loads(body)["event"] for body in bodies)
    else:
        assert all(body.startswith("event=") for body in bodies)


def test_level_changes_with_the_configuration(start_proxy):
    proxy = start_proxy(pgreserve={"log_level": "error"})
    proxy.wire().close()
    assert not events(proxy)
    proxy.change(pgreserve={"log_level": "debug"})
    proxy.write_config()
    proxy.process.send_signal(1)
    wait_event(proxy, "configuration reloaded")
    proxy.wire().close()
    wait_event(proxy, "client login")


SECRET_TEXT = "seventeen_purple_elephants"


@pytest.mark.parametrize("level", ["info", "debug"])
def test_no_output_tells_a_password_or_a_query(start_proxy, postgres, log_format, level):
    """Everything that pgreserve says, after passwords and query texts have gone through it in every way."""
    wrong = "Wr0ng-passw0rd"
    users = tempfile.NamedTemporaryFile("w", suffix=".txt")
    users.write(f'"{ROLE}" "{PASSWORD}"\n"other" "Oth3r-s3cret"\n')
    users.flush()
    proxy = start_proxy(pgreserve={"log_format": log_format, "log_level": level, "log_pool_events": "on"},
                        auth={"users_file": users.name}, automation={"timeout": 1, "size": 1, "max_overflow": 0})
    (holder,) = proxy.hold()
    with holder.cursor() as cursor:
        cursor.execute(f"SELECT '{SECRET_TEXT}'")
    with proxy.wire() as waiter:
        waiter.send(query(f"SELECT '{SECRET_TEXT}'"))
        assert waiter.answer().error.sqlstate == "53300"
    with pytest.raises(psycopg2.OperationalError):
        proxy.connect(password=wrong)
    pid = holder.info.backend_pid
    said = [proxy.command("status", *extra, "-c", proxy.config_path) for extra in ([], ["--json"])]
    said.append(proxy.command("check", "-c", proxy.config_path))
    said.append(proxy.command("check", "-t", "-c", proxy.config_path))
    said.append(proxy.command("status", "--url", proxy.url("admin", database="pgreserve")))
    said.append(proxy.command("status", "--url", proxy.url("admin", database="nonsense")))
    outputs = [done.stdout + done.stderr for done in said]
    outputs += [proxy.get(path) for path in ("/", "/status", "/status.json", "/metrics", "/healthz", "/readyz")]
    shows = ["POOLS", "STATUS", "CONFIG", "VERSION", "SERVERS", "CLIENTS", "USERS", "DATABASES", "LISTS", "STATS",
             "STATS_TOTALS", "STATS_AVERAGES", "TOTALS", "SOCKETS", "ACTIVE_SOCKETS", "FDS", "MEM", "STATE", "HELP",
             "WAITERS", "ADVICE"]
    outputs += [str(proxy.show(what)) for what in shows]
    may_show_queries = [str(proxy.show("HOLDERS")), proxy.get("/live.json")]
    assert SECRET_TEXT in may_show_queries[0], "an administrator sees what a holder does"
    holder.rollback()
    for pid in postgres.backend_pids():
        postgres.terminate(pid)
    wait_event(proxy, "backend lost")
    proxy.change(**{"database:*": {"url": f"postgresql://{ROLE}:{wrong}@127.0.0.1:{postgres.port}/app"}})
    proxy.write_config()
    proxy.process.send_signal(1)
    wait_event(proxy, "configuration reloaded")
    holder.close()
    proxy.stop()
    outputs.append(proxy.log())
    for output in outputs + may_show_queries:
        for secret in (PASSWORD, PASSWORD_IN_URL, wrong, "Oth3r-s3cret"):
            assert secret not in output, output[:3000]
        if output not in may_show_queries and level != "debug":
            assert SECRET_TEXT not in output, output[:3000]


def test_a_bad_configuration_does_not_repeat_its_passwords(proxy, tmp_path):
    file = tmp_path / "bad.ini"
    for line in ("url = postgresql://u:s3cretwrong@[::1", "url = host=x password='s3cretwrong",
                 "pasword = s3cretwrong",
                 "password = ${UNSET_s}s3cretwrong"):
        file.write_text(f"[database:*]\n{line}\n[pool:a]\nlisten = 127.0.0.1:1\n")
        for command in (["check", "-t"], ["check"], ["run"], ["status"]):
            done = proxy.command(*command, "-c", str(file))
            assert done.returncode != 0
            assert "s3cretwrong" not in done.stdout + done.stderr, (line, shlex.join(command), done)


def test_leak_warning_is_the_only_line_with_a_query(start_proxy, log_format):
    proxy = start_proxy(pgreserve={"log_format": log_format}, automation={"leak_warning": "200ms"})
    (holder,) = proxy.hold(application_name="forgetful")
    with holder.cursor() as cursor:
        cursor.execute(f"SELECT '{SECRET_TEXT}'\n AS x")
    warning = wait_event(proxy, "connection held for long")
    assert warning["application"] == "forgetful" and warning["level"] == "WARNING"
    assert float(warning["held"]) >= 0.2
    holder.close()
    with_query = [event for event in events(proxy) if SECRET_TEXT in json.dumps(event)]
    assert all(event["event"] == "connection held for long" for event in with_query)
