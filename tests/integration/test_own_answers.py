"""Nobody ever gets somebody else's answer: every one is looked at, hundreds of clients at a time, in chaos.

tests/load/answers.c asks and compares.  Meanwhile backends are killed, connections replaced, the configuration read again, the
console's RECONNECT and DISPOSE given, and the program replaced by an upgrade.  `make proof` runs it until millions of
answers have come: PGRESERVE_PROOF_ANSWERS; else it takes PGRESERVE_PROOF_SECONDS (12).
A user would lose: everything; a wrong row is worse than none.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest

import waiting
import wire
from hostile import Meddler
from proxy import ROOT, binary_path
from server import ROLE
from waiting import wait_until

SECONDS = float(os.environ.get("PGRESERVE_PROOF_SECONDS", "12"))
ANSWERS = int(os.environ.get("PGRESERVE_PROOF_ANSWERS", "0"))
SEED = int(os.environ.get("PGRESERVE_SEED", "0")) or random.randrange(1, 1 << 30)


def program():
    beside = os.path.join(os.path.dirname(binary_path()), "tests/load/answers")
    return beside if os.path.exists(beside) else os.path.join(ROOT, "build/tests/load/answers")


class Harm:
    """Done once every `period` seconds in a thread of its own; what goes wrong there is told at the end."""

    def __init__(self, ended):
        self.ended, self.threads, self.problems, self.done = ended, [], [], {}

    def every(self, period, work):
        def run():
            while not self.ended.wait(period):
                try:
                    self.done[work.__name__] = self.done.get(work.__name__, 0) + bool(work())
                except Exception as error:  # noqa: BLE001 - told below
                    self.problems.append(f"{work.__name__}: {error!r}")
        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def test_a_wrong_answer_would_be_seen(start_proxy, postgres):
    """The proof of the proof: on the way from the server one row in twenty is given to another asker."""
    rows, last = itertools.count(), [b""]

    def change(received):
        body = received.body
        if received.kind == "D" and body.startswith(b"\0\1") and b"c" in body[6:7] and next(rows) % 20 == 19:
            body = last[0]
        last[0] = body if received.kind == "D" and body[6:7] == b"c" else last[0]
        return wire.message(received.kind, body)

    with Meddler(postgres.port, change) as road:
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(port=road.port) + "?sslmode=disable"},
                            auth={"method": "trust"})
        done = subprocess.run([program(), "--port", str(proxy.port()), "--user", ROLE, "--clients", "20", "--seconds", "2"],
                              capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and json.loads(done.stdout)["wrong"] > 0 and "wrong: connection" in done.stderr


@pytest.mark.exclusive
@pytest.mark.parametrize("mode", ["transaction"] if ANSWERS else ["transaction", "session"])  # sharing is what the long run is about
def test_each_answer_is_ones_own(start_proxy, postgres, mode):
    clients, size = (200, 6) if mode == "transaction" else (12, 12)
    proxy = start_proxy(auth={"method": "trust"}, pgreserve={"total_connections": 20},
                        automation={"mode": mode, "size": size, "max_overflow": 2, "timeout": 60, "recycle": 3},
                        adhoc={"size": 2, "reserved": 2})
    proxy.wait_warm()
    dice = random.Random(SEED)
    harm = Harm(threading.Event())
    replacing = threading.Lock()  # no command may meet a console that is being handed over

    def kill():
        pids = sorted(postgres.backend_pids("datname = 'app'"))
        return pids and postgres.terminate(dice.choice(pids))

    def command():
        with replacing:
            return proxy.admin(dice.choice(("DISPOSE", "DISPOSE automation", "RECONNECT", "RELOAD", "SET pre_ping_idle = 1")))

    def hang_up():
        with replacing:
            proxy.process.send_signal(signal.SIGHUP)
            return True

    def upgrade():
        with replacing:
            proxy.upgrade()
            return True

    command_line = [program(), "--port", str(proxy.port()), "--user", ROLE, "--clients", str(clients), "--seed", str(SEED)]
    command_line += ["--answers", str(ANSWERS), "--seconds", "1"] if ANSWERS else ["--seconds", str(SECONDS if mode == "transaction" else 4)]
    load = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=None if ANSWERS else subprocess.PIPE, text=True)
    started = time.monotonic()
    try:
        wait_until(lambda: proxy.pool()["clients"] >= clients // 2, "the load")
        harm.every(0.4, kill)
        harm.every(0.9, command)
        harm.every(1.3, hang_up)
        harm.every(60 if ANSWERS else SECONDS / 2.5, upgrade)
        said, errors = load.communicate(timeout=None if ANSWERS else (SECONDS + 60) * waiting.patience)
    finally:
        harm.end()
        load.kill()
        load.wait()
    seconds = time.monotonic() - started
    figures = json.loads(said)
    print(f"\n{mode}: {json.dumps(figures)} in {seconds:.0f} s, seed {SEED}; harm done: {harm.done}")
    assert figures["wrong"] == figures["never"] == 0 and load.returncode == 0, errors
    assert not harm.problems, harm.problems[:5]
    assert figures["answers"] > max(ANSWERS - 1, 200 * SECONDS / waiting.patience)
    # there was something to withstand
    assert harm.done["kill"] > 3 and harm.done["command"] > 2 and harm.done["hang_up"] > 1
    assert figures["disconnects"] > 10 and figures["cancels"] > 5
    if mode == "transaction":
        assert harm.done["upgrade"] >= 1 and figures["cancelled"] > 0 and figures["transactions"] > 10
    proxy.wait_pool(clients=0, in_use=0, waiting=0, timeout=20)
