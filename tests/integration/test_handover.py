"""The new process of an upgrade, taught by an old one that lies: another version, cut-off records, no descriptor, random bytes.

A user would lose: the new process to a mistake of the old version, and every client with it.
The test plays the old process on the channel (src/proxy/upgrade_inside.h).
"""

import array
import os
import random
import socket
import struct
import subprocess

import pytest

import waiting
from proxy import binary_path, die_with_parent
from server import ROLE
from waiting import wait_until
from wire import Wire, bind, execute, query

HELLO, SOCKET, OFFERED, LANE, CLIENT, READY, TAKEN, REFUSED, STOPPING, PLACES, CANCEL = (
    1, 2, 3, 4, 5, 32, 33, 34, 35, 64, 65)
(VERSION, STAGE, POOL, FLAGS, USER, DATABASE, START_APPLICATION, REPLICATION, START_SETTING, MINOR, APPLICATION,
 KEY_PID, KEY_SECRET, BASE, SETTINGS, TOLD, STATEMENT, UNNAMED, HELD, MESSAGE_LEFT, CONNECTED, SINCE, ANSWERED,
 NAME, VALUE, UNDER, SIGNS) = range(1, 28)
WORD_VERSION, WORD_PID, WORD_NAME, WORD_PATH, WORD_REASON, WORD_POOL, WORD_OPEN, WORD_SECRET = range(1, 9)


def record(*fields):
    parts = []
    for tag, value in fields:
        if isinstance(value, int):
            value = struct.pack("!q", value)
        elif isinstance(value, str):
            value = value.encode()
        parts.append(struct.pack("!HI", tag, len(value)) + value)
    return b"".join(parts)


class Old:
    """The old process's side."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(20 * waiting.patience)
        with open(proxy.log_path, "ab") as log:
            self.process = proxy.process = subprocess.Popen(
                [binary_path(), "run", "-c", proxy.config_path], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**proxy.environment, "PGRESERVE_HANDOVER": str(theirs.fileno())}, pass_fds=[theirs.fileno()],
                preexec_fn=die_with_parent)
        theirs.close()

    def send(self, kind, body=b"", fd=None):
        extra = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        pieces = [body[at:at + 32768] for at in range(0, len(body), 32768)] or [b""]
        for number, piece in enumerate(pieces):
            self.channel.sendmsg([bytes([kind, number + 1 < len(pieces)]) + piece], extra)
            extra = []

    def receive(self):
        while True:
            message = self.channel.recv(1 << 16)
            if not message or message[0] != PLACES:  # what it opens meanwhile
                return (message[0] if message else None), message[2:]

    def greet(self, version=1):
        self.send(HELLO, record((WORD_VERSION, version), (WORD_PID, os.getpid())))
        self.send(OFFERED)

    def give_way(self, **places):
        self.greet()
        assert self.receive()[0] == READY
        self.send(PLACES, record(*((WORD_POOL, record((WORD_NAME, name), (WORD_OPEN, count)))
                                   for name, count in places.items())))


SETTINGS_TEXT = b"application_name\0carried\0work_mem\x005MB\0"


def client_fields(key=1000, **changes):
    statement = record((NAME, "mine"), (VALUE, b"SELECT name FROM things WHERE id = $1\0\0\0"), (UNDER, b""), (SIGNS, 0))
    fields = {VERSION: 1, STAGE: 2, POOL: "automation", FLAGS: 0, USER: ROLE, DATABASE: "app", MINOR: 0,
              APPLICATION: "carried", KEY_PID: key, KEY_SECRET: b"abcd", BASE: b"application_name\0carried\0",
              SETTINGS: SETTINGS_TEXT, STATEMENT: statement, HELD: query("SHOW work_mem"), MESSAGE_LEFT: 0,
              CONNECTED: 1, SINCE: 1, ANSWERED: 1}
    fields.update(changes.get("fields", {}))
    return [(tag, value) for tag, value in fields.items() if value is not None]


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(20 * waiting.patience)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def old(start_proxy):
    old = Old(start_proxy(wait=None))
    yield old
    old.channel.close()


def as_wire(ours):
    wire = Wire.__new__(Wire)
    wire.socket = ours
    return wire


def test_a_statement_is_read_anew_by_the_process_that_takes_it(old, pair):
    """Another version may know more of what a text leaves behind."""
    ours, theirs = pair
    locks = record((NAME, "locks"), (VALUE, b"SELECT pg_advisory_lock(78)\0\0\0"), (UNDER, b""), (SIGNS, 0))
    old.give_way(automation=0, adhoc=0)
    old.send(CLIENT, record(*client_fields(fields={STATEMENT: locks})), theirs.fileno())
    assert old.receive()[0] == TAKEN
    wire = as_wire(ours)
    wire.answer()
    assert not wire.ask(bind("", "locks"), execute()).errors
    wait_until(lambda: old.proxy.pool()["pinned"] == 1, "the lock to be seen")


def test_a_client_as_written_goes_on_with_what_it_had_sent(old, pair):
    ours, theirs = pair
    old.give_way(automation=0, adhoc=0)
    old.send(CLIENT, record(*client_fields()), theirs.fileno())
    assert old.receive()[0] == TAKEN
    assert as_wire(ours).answer().value == "5MB"


@pytest.mark.parametrize("fields, words", [
    ({VERSION: 2}, "another version"),
    ({VERSION: None}, "another version"),
    ({999: b"something new"}, "does not know"),
    ({POOL: "gone"}, "pool"),
    ({USER: None}, "lacks"),
    ({USER: b"zero\0within"}, "malformed"),
    ({SETTINGS: b"name without a value\0"}, "malformed"),
    ({SETTINGS: b"a\0b"}, "malformed"),
    ({KEY_SECRET: b"x" * 33}, "malformed"),
    ({KEY_SECRET: b""}, "key"),
    ({STAGE: 7}, "malformed"),
    ({FLAGS: 1 << 20}, "malformed"),
    ({STATEMENT: record((NAME, "x"), (VALUE, b"no zero"))}, "malformed"),
    ({STATEMENT: record((VALUE, b"no name\0\0\0"))}, "malformed"),
    ({START_SETTING: record((NAME, "x"))}, "malformed"),
    ({MINOR: 70000}, "malformed"),
    ({HELD: b"x" * 200000}, "malformed"),
    ({CONNECTED: b"short"}, "malformed"),
])
def test_a_client_that_cannot_be_had_is_refused_with_a_reason(old, pair, fields, words):
    ours, theirs = pair
    old.give_way()
    old.send(CLIENT, record(*client_fields(fields=fields)), theirs.fileno())
    kind, body = old.receive()
    assert kind == REFUSED and words.encode() in body
    old.send(CLIENT, record(*client_fields()), theirs.fileno())
    assert old.receive()[0] == TAKEN, "the next one is none the worse"
    assert as_wire(ours).answer().value == "5MB"


def test_descriptor_that_did_not_come_and_key_that_is_taken(old, pair):
    _, theirs = pair
    old.give_way()
    old.send(CLIENT, record(*client_fields()))
    assert b"descriptor" in old.receive()[1]
    for expected in (TAKEN, REFUSED):
        old.send(CLIENT, record(*client_fields(key=7)), theirs.fileno())
        assert old.receive()[0] == expected


def test_what_is_cut_off_or_mutated_hurts_nobody(old, pair):
    ours, theirs = pair
    old.give_way()
    dice = random.Random(20261125)
    whole = record(*client_fields(fields={HELD: None}))
    bodies = [whole[:at] for at in range(0, len(whole), 3)]
    for number in range(600):
        mutated = bytearray(record(*client_fields(key=2000 + number, fields={HELD: None})))
        for _ in range(dice.randint(1, 4)):
            mutated[dice.randrange(len(mutated))] = dice.randrange(256)
        bodies.append(bytes(mutated))
    for body in bodies:
        old.send(CLIENT, body, theirs.fileno())
        assert old.receive()[0] in (TAKEN, REFUSED)
    for kind in (LANE, PLACES, CANCEL, 77):
        for _ in range(50):
            old.send(kind, dice.randbytes(dice.randint(0, 80)))
    old.send(CLIENT, record(*client_fields(key=1)), theirs.fileno())
    assert old.receive()[0] == TAKEN
    assert old.process.poll() is None


@pytest.mark.parametrize("how", ["another version", "nonsense", "gone at once", "no greeting"])
def test_an_old_process_that_cannot_be_understood_is_not_taken_over_from(start_proxy, how):
    proxy = start_proxy(wait=None)
    old = Old(proxy)
    if how == "another version":
        old.greet(version=2)
    elif how == "nonsense":
        old.channel.send(b"\1\0nonsense")
    elif how == "no greeting":
        old.send(OFFERED)
    else:
        old.channel.close()
    assert old.process.wait(20 * waiting.patience) == 1
    assert "cannot take over" in proxy.log()
    old.channel.close()
    proxy.process = None


def test_an_old_process_that_gives_it_up_is_not_taken_over_from(start_proxy):
    proxy = start_proxy(wait=None)
    old = Old(proxy)
    old.greet()
    assert old.receive()[0] == READY
    old.channel.close()
    assert old.process.wait(20 * waiting.patience) == 1, "its parent, the old process, still lives"
    assert "the old process serves on" in proxy.log()
    proxy.process = None


def test_places_of_an_old_process_that_is_lost_count_on_for_a_while(old, pair, postgres):
    old.give_way(automation=6, adhoc=0, unknown=0)
    wait_until(lambda: len(postgres.backends("state = 'idle'")) == 2, "the reserved pool alone")
    old.send(PLACES, record((WORD_POOL, record((WORD_NAME, "automation"), (WORD_OPEN, 3)))))
    wait_until(lambda: len(postgres.backends("state = 'idle'")) == 3, "one more, up to the pool's size of 4")
    old.channel.close()
    wait_until(lambda: len(postgres.backends("state = 'idle'")) == 6, "the rest, once they are believed to be gone", 20)


def test_variable_that_names_no_channel(start_proxy):
    proxy = start_proxy(wait=None)
    for value in ("", "2", "99", "x", "3x"):
        result = proxy.command("run", "-c", proxy.config_path, environment={"PGRESERVE_HANDOVER": value})
        assert result.returncode == 1 and "names no channel" in result.stderr
