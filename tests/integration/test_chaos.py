"""The promise of the project, under everything at once.

An upstream that grants exactly the cap; 300 pgbench scrapers and 20 SQLAlchemy processes on the
automation port, developers coming and going on the other, connections recycled every 2 s, backends
killed at random, clients killed in mid-transaction, DISPOSE and HUP every few seconds.  Automation works
in database `app` and developers in `dev`, so that the server's own table tells the two pools apart.
PGRESERVE_CHAOS_SECONDS says for how long (60).
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import waiting
import wire
from load import Sampler
from server import CAP, PASSWORD, ROLE
from test_metrics import assert_sums_agree
from waiting import wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = float(os.environ.get("PGRESERVE_CHAOS_SECONDS", "60"))
SCRAPERS = 20
LOST = ("57P01", "08006")  # what a client sees whose backend was killed
PGBENCH_SCRIPT = """
\\set id random(1, 1000)
BEGIN;
SELECT name FROM things WHERE id = :id;
\\sleep 20 ms
UPDATE counts SET n = n + 1 WHERE id = :id;
COMMIT;
"""


class Chaos:
    def __init__(self, proxy, postgres, directory):
        self.proxy, self.postgres = proxy, postgres
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.problems = []
        self.logins = []          # seconds from connect to the first answer, of each developer
        self.developers_lost = self.kills = self.vanished = 0
        self.pgbench_transactions = 0
        self.script = directory / "scrape.sql"
        self.script.write_text(PGBENCH_SCRIPT)
        self.threads = []

    def run(self, work, *arguments):
        def guarded():
            try:
                work(*arguments)
            except Exception as error:  # noqa: BLE001 - reported by the test
                self.problems.append(f"{work.__name__}: {error!r}")
        self.threads.append(threading.Thread(target=guarded, name=work.__name__))
        self.threads[-1].start()

    def pause(self, seconds):
        return self.ended.wait(seconds)

    # -- the load --------------------------------------------------------------------------------

    def pgbench(self):
        """Rounds of 300 clients; a client whose backend is killed stays away until the next round."""
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        while not self.ended.is_set():
            bench = subprocess.Popen(
                ["pgbench", "-n", "-c", "300", "-j", "2", "-T", "10", "-f", str(self.script), "-h",
                 "127.0.0.1", "-p", str(self.proxy.port()), "-U", ROLE, "app"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            output, errors = bench.communicate(timeout=60 + 60 * waiting.patience)
            done = re.search(r"actually processed: (\d+)", output)
            self.pgbench_transactions += int(done.group(1)) if done else 0
            for line in errors.splitlines():
                if "53300" in line or "limit of size" in line or "slots" in line or "too many" in line:
                    self.problems.append(f"pgbench: {line}")

    def start_scraper(self):
        return subprocess.Popen(
            [sys.executable, os.path.join(HERE, "drivers/scraper.py"), self.proxy.url()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def developer(self, number):
        """At most four of them at work: each must get a reserved connection at once."""
        dice = random.Random(number)
        while not self.pause(dice.random() * 0.1):
            started = time.monotonic()
            try:
                with self.proxy.wire("adhoc", database="dev") as client:
                    client.query("SELECT 1").value
                    self.logins.append(time.monotonic() - started)
                    client.query("BEGIN")
                    for _ in range(dice.randrange(4)):
                        client.query("SELECT count(*) FROM pg_class").value
                        self.pause(dice.random() * 0.02)
                    client.query("COMMIT")
            except (wire.Closed, wire.ErrorResponse) as error:
                if getattr(error, "sqlstate", LOST[0]) not in LOST:
                    raise
                self.developers_lost += 1

    # -- the harm --------------------------------------------------------------------------------

    def killer(self):
        dice = random.Random(1)
        while not self.pause(0.4):
            pids = sorted(self.postgres.backend_pids())
            if pids and self.postgres.terminate(dice.choice(pids)):
                self.kills += 1

    def vanishing_clients(self):
        dice = random.Random(2)
        while not self.pause(0.1):
            try:
                client = self.proxy.wire()
                client.query("BEGIN")
                client.query(f"UPDATE counts SET n = -1000000 WHERE id = {dice.randrange(1, 1000)}")
                if dice.random() < 0.5:
                    client.send(wire.query("SELECT pg_sleep(1)"))
                client.close() if dice.random() < 0.5 else client.reset()
                self.vanished += 1
            except (wire.Closed, wire.ErrorResponse) as error:
                if getattr(error, "sqlstate", LOST[0]) not in LOST:
                    raise

    def operator(self):
        turn = 0
        while not self.pause(3):
            turn += 1
            self.proxy.admin(("DISPOSE", "DISPOSE automation", "DISPOSE adhoc")[turn % 3])
            self.pause(0.5)
            self.proxy.process.send_signal(signal.SIGHUP)


def start_sampler(postgres):
    """In the place of the harness's own second connection, so that the free slots stay exactly CAP."""
    postgres.observer.close()
    return Sampler(postgres)


def assert_nothing_drifted(proxy, postgres):
    """At rest: nobody is counted who is not there, and each sum is the sum of its parts."""
    status = proxy.status()
    for figure in ("in_use", "waiting", "clients", "pinned", "closing", "overflow", "longest_wait", "longest_hold"):
        assert status["total"][figure] == 0, figure
    for table, columns in (("HOLDERS", ()), ("WAITERS", ()), ("POOLS", ("cl_active", "cl_waiting", "sv_active", "sv_closing"))):
        rows = [row for row in proxy.show(table) if row.get("pool") != "admin" and row.get("database") != "pgbouncer"]
        assert not rows or columns and {row[column] for row in rows for column in columns} == {"0"}, rows
    wait_until(lambda: {int(row["remote_pid"]) for row in proxy.show("SERVERS")} == postgres.backend_pids(),
               "the console and the server to name the same backends")
    metrics = assert_sums_agree(proxy)
    for pool in ("automation", "adhoc"):
        transactions = metrics.value("pgreserve_pool_transactions_total", pool=pool)
        assert 0 < transactions <= metrics.value("pgreserve_pool_assignments_total", pool=pool)
        assert transactions <= metrics.value("pgreserve_pool_queries_total", pool=pool)


@pytest.mark.exclusive
def test_the_cap_and_the_reservation_hold_in_chaos(start_proxy, postgres, tmp_path):
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS counts (id int PRIMARY KEY, n int)")
        cursor.execute("ALTER TABLE counts OWNER TO proxy")
        cursor.execute("TRUNCATE counts")
        cursor.execute("INSERT INTO counts SELECT n, 0 FROM generate_series(1, 1000) n")
    connection.close()
    mark = postgres.log_mark()
    proxy = start_proxy(
        pgreserve={"total_connections": CAP},
        environment={"UPSTREAM": postgres.url("dev")},
        databases={"app": {"dbname": "app"}},
        automation={"size": 50, "max_overflow": 5, "recycle": 2, "timeout": 60, "prefill": "off",
                    "overflow_idle": "500ms"},
        adhoc={"size": 5, "max_overflow": 0, "reserved": 5, "recycle": 2})
    postgres.wait_for_backends(5, "datname = 'dev'")
    descriptors = proxy.descriptors()
    chaos = Chaos(proxy, postgres, tmp_path)
    sampler = start_sampler(postgres)
    scrapers = [chaos.start_scraper() for _ in range(SCRAPERS)]
    dice = random.Random(3)
    try:
        chaos.run(chaos.pgbench)
        for number in range(4):
            chaos.run(chaos.developer, number)
        for work in (chaos.killer, chaos.vanishing_clients, chaos.operator):
            chaos.run(work)
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends and proxy.is_running():
            chaos.pause(min(2, SECONDS / 4))
            victim = dice.randrange(SCRAPERS)
            scrapers[victim].kill()
            scrapers[victim].communicate()
            scrapers[victim] = chaos.start_scraper()
    finally:
        chaos.ended.set()
        for thread in chaos.threads:
            thread.join(120 * waiting.patience)
        for scraper in scrapers:
            scraper.stdin.close()
        reports = [scraper.stdout.read() for scraper in scrapers]
        for scraper in scrapers:
            scraper.wait(60)
        seen = sampler.stop()
        postgres.observer = postgres.superuser_connection()

    assert proxy.is_running(), proxy.log()[-5000:]
    assert not chaos.problems, chaos.problems[:10]
    reports = [json.loads(report) for report in reports]
    errors = {text: state for report in reports for text, state in report["errors"].items()}
    assert not errors, errors
    work = sum(report["transactions"] for report in reports)
    logins = sorted(chaos.logins)
    print(f"\n{seen}\npgbench {chaos.pgbench_transactions}, SQLAlchemy {work} transactions (of the last"
          f" processes), {len(logins)} developers' logins: median {logins[len(logins) // 2]:.3f} s,"
          f" longest {logins[-1]:.3f} s; {chaos.kills} backends killed, {chaos.vanished} clients vanished,"
          f" {chaos.developers_lost} developers met a killed backend")

    # the cap and the reservation
    assert seen["all"] <= CAP
    assert seen["automation"] <= 55
    assert seen["adhoc"] <= 5
    assert not postgres.refusals(mark)

    # there was something to withstand
    assert seen["samples"] > SECONDS * 20
    # a sanitized build is too slow for its clients to need every connection
    assert seen["automation"] >= (50 if waiting.patience == 1 else 10)
    assert chaos.pgbench_transactions > SECONDS * 20 / waiting.patience and work > 0
    assert chaos.kills > SECONDS and chaos.vanished > SECONDS
    assert len(logins) > SECONDS * 2

    # no developer waited for a scraper: automation's queue is seconds long meanwhile
    assert logins[int(len(logins) * 0.95)] < 0.5 * waiting.patience
    assert logins[-1] < 2.0 * waiting.patience

    # nothing of the vanished clients' transactions came through, and nothing is left over
    proxy.wait_pool("automation", in_use=0, waiting=0, clients=0, pinned=0, closing=0, overflow=0,
                    timeout=20)
    proxy.wait_pool("adhoc", in_use=0, waiting=0, clients=0, pinned=0, closing=0, available=5, timeout=20)
    wait_until(lambda: proxy.status()["state"] == "healthy", "the resting state")
    assert_nothing_drifted(proxy, postgres)
    with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT min(n) FROM counts")
        assert cursor.fetchone()[0] >= 0
    connection.close()
    postgres.wait_for_backends(5, "datname = 'dev'")
    assert len(postgres.backends("datname = 'app'")) <= 50
    wait_until(lambda: proxy.descriptors() <= descriptors + 60, "descriptors to be closed")
