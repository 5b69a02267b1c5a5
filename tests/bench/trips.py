"""An upstream that is 20 ms away: how many round trips a proxy adds to a transaction, and what it makes of the rest.

delay.c holds every byte back for 10 ms each way.  A transaction that takes the time of one round trip on a connection
of its own and two through a proxy has had one added.  The cases are those in which poolers are tempted: settings that
differ from client to client, a prepared statement that the backend lacks, a check before use, somebody's session state
left behind.  PgBouncer has the settings that give its users comparable safety, where there are such.
"""

import os
import signal
import statistics
import subprocess
import time

import bulk
import machine
import parties
import pgbench
from parties import server
from waiting import port_accepts, wait_until

import wire  # noqa: E402

ONE_WAY_US = 10000
TRIP_MS = 2 * ONE_WAY_US / 1000


class Distance:
    """The delaying relay, running."""

    def __init__(self, target_port, directory):
        program = os.path.join(directory, "delay")
        subprocess.run(["gcc", "-O2", "-o", program, os.path.join(os.path.dirname(__file__), "delay.c")],
                       check=True)
        self.port = server.free_port()
        self.process = subprocess.Popen([program, str(self.port), str(target_port), str(ONE_WAY_US)],
                                        preexec_fn=lambda: machine.pin(machine.LOAD_CORE))
        wait_until(lambda: port_accepts(self.port), "the delaying relay")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def timed(connection, messages):
    started = time.monotonic()
    connection.sendall(messages)
    bulk.read_to_end(connection)
    return (time.monotonic() - started) * 1000


def several(port, count):
    return [bulk.open_socket(port, tls=False) for _ in range(count)]


def plain(port):
    (client,) = several(port, 1)
    return [timed(client, wire.query("SELECT 1")) for _ in range(12)]


def changed_settings(port):
    """Two clients with different settings, by turns on the one backend."""
    clients = several(port, 2)
    for client, zone in zip(clients, ("Asia/Tokyo", "Europe/Vienna")):
        timed(client, wire.query(f"SET TimeZone = '{zone}'"))
        timed(client, wire.query("SELECT 1"))
    return [timed(clients[i % 2], wire.query("SELECT 1")) for i in range(12)]


def new_statement(port):
    """Two statements where the backend keeps one: whichever is run next is not there."""
    (client,) = several(port, 1)
    for name in ("one", "two"):
        timed(client, wire.parse(name, f"SELECT '{name}'") + wire.sync())
    return [timed(client, wire.bind("", ("one", "two")[i % 2]) + wire.execute() + wire.sync()) for i in range(12)]


def pre_ping(port):
    """A backend that was idle for longer than a connection may be trusted."""
    (client,) = several(port, 1)
    timed(client, wire.query("SELECT 1"))
    times = []
    for _ in range(5):
        time.sleep(0.6)
        times.append(timed(client, wire.query("SELECT 1")))
    return times


def after_dirt(port):
    """The one before left a temporary table behind, and a moment later somebody else comes."""
    times = []
    (next_one,) = several(port, 1)
    for _ in range(5):
        (dirty,) = several(port, 1)
        timed(dirty, wire.query("CREATE TEMPORARY TABLE left_behind (n int)"))
        dirty.sendall(wire.terminate())
        dirty.close()
        time.sleep(0.2)
        times.append(timed(next_one, wire.query("SELECT 1")))
    return times


CASES = {
    "nothing special": (plain, {}, {}),
    "changed settings": (changed_settings, {}, {}),
    "prepared statement new to the backend": (new_statement, {"max_prepared_statements": 1},
                                              {"max_prepared_statements": 1}),
    "pre-ping on": (pre_ping, {"pre_ping": "on", "pre_ping_idle": "500ms"},
                    {"server_check_query": "select 1", "server_check_delay": 0.5}),
    "dirty state left": (after_dirt, {}, {"server_reset_query_always": 1}),
}


def cannot(name, case):
    if name not in ("pgreserve", "pgbouncer"):
        return "it does not share connections"
    if name == "pgbouncer" and "prepared" in case and not parties.knows_prepared():
        return "this version has no prepared statements in transaction mode"
    return None


def added(name, case, distance):
    """Round trips added to a transaction: that of the lower quartile, for a busy machine can only add to the time, and each
    transaction of a case is in the same situation."""
    play, ours, theirs = CASES[case]
    settings = ours if name == "pgreserve" else theirs
    if name == "pgbouncer" and not parties.knows_prepared():
        settings = {key: value for key, value in settings.items() if "prepared" not in key}
    party = parties.start(name, distance.port, size=1, **settings)
    try:
        wait_until(lambda: can_query(party.port), "a backend far away", 20)
        times = play(party.port)
    finally:
        party.end()
    quartile = statistics.quantiles(times, n=4)[0]
    return {"added": round(quartile / TRIP_MS - 1, 2), "quartile_ms": quartile, "median_ms": statistics.median(times)}


def can_query(port):
    try:
        plain_client = bulk.open_socket(port, tls=False)
        timed(plain_client, wire.query("SELECT 1"))
        plain_client.close()
        return True
    except OSError:
        return False


def throughput(party, clients, seconds):
    """Transactions a second of clients that do nothing but ask, each answer a round trip away.  In threads, so that they
    log in side by side: one login after the other would take longer than the round."""
    seconds += 3
    return pgbench.between_lines(party, pgbench.command(party, clients, "simple", seconds, "-b", "select-only",
                                                  threads=parties.BACKENDS), seconds)
