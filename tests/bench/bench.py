#!/usr/bin/python3
"""What standing in between costs: pgreserve beside PgBouncer, HAProxy, Pgpool-II and no proxy at all, in one table.

    bench.py                         everything, 20 minutes on a quiet machine with two cores
    bench.py --quick                 the same by fewer and shorter rounds: 5 minutes
    bench.py --only Bulk,Logins      some chapters
    bench.py --compare A.json B.json what has changed between two runs
    bench.py --readme A.json         puts a run's table into README.md and its picture into docs/bench.svg

All stand in front of one private PostgreSQL with 50 connections each, each alone on core 0; the load and the server
have core 1.  Every row goes round by round through all of them, and who begins changes, because a machine's speed drifts
over minutes: what counts are ratios within a round.  The figure that does not depend on who starves whom is CPU time
of the proxy per transaction.  A proxy that cannot do a row is left out of it, with the reason at the end.
"""

import argparse
import os
import signal
import sys
import tempfile
import time

import machine
import parties
from parties import BACKENDS, PARTIES, ROOT

import bulk  # noqa: E402  (parties finds the tests' own modules for it)
import idle  # noqa: E402
import pgbench  # noqa: E402
import report  # noqa: E402
import trips  # noqa: E402

TPS = {"tps": "tps", "cpu_us": "CPU µs/tx"}
LATENCY = {**TPS, "median_us": "median µs", "p99_us": "99 % µs", "p999_us": "99.9 % µs"}
LATE_AFTER_SECONDS = 17 * 60  # a machine this slow has three rounds for what is left, so that the run ends in time


class Bench:
    def __init__(self, options):
        self.options = options
        self.started = time.monotonic()
        self.rows = []
        self.directory = tempfile.TemporaryDirectory(prefix="pgreserve-bench-")
        self.upstream = None
        self.running = {}
        self.names = [name for name in (*PARTIES, "relay") if name in options.parties.split(",")]

    # -- who runs ------------------------------------------------------------------------------------

    def party(self, name, auth="trust"):
        if (name, auth) not in self.running:
            self.running[name, auth] = parties.start(name, self.upstream.port, auth)
            # Some open their connections when the first client comes, all of them do so at their own pace.
            pgbench.warm_up(self.running[name, auth], BACKENDS, auth != "trust")
        return self.running[name, auth]

    def end_parties(self):
        for party in self.running.values():
            party.end()
        self.running = {}

    # -- rows ----------------------------------------------------------------------------------------

    def row(self, chapter, name, metrics, play, names=None, cannot=lambda _: None, rounds=None):
        """`play(name)` measures one round of one party: a dictionary of figures."""
        row = self.begin(chapter, name, metrics, play, names, cannot)
        for number in range(self.rounds(rounds)):
            self.play(row, number)
        self.finish(row)

    def rows_together(self, rows):
        """The same, round by round through all of them, and every round has new processes: where a process's memory
        happens to lie makes several percent, for as long as it lives."""
        for number in range(self.rounds()):
            self.end_parties()
            for row in rows:
                self.play(row, number)
        for row in rows:
            self.finish(row)

    def begin(self, chapter, name, metrics, play, names=None, cannot=lambda _: None):
        names = names or self.names
        left_out = {party: cannot(party) for party in names if cannot(party)}
        return {"chapter": chapter, "row": name, "metrics": metrics, "parties": {}, "left_out": left_out,
                "names": names, "play": play}

    def rounds(self, wanted=None):
        rounds = wanted or self.options.rounds
        return min(rounds, 3) if time.monotonic() - self.started > LATE_AFTER_SECONDS else rounds

    def play(self, row, number):
        for party in row["names"] if number % 2 else reversed(row["names"]):
            if party in row["left_out"]:
                continue
            try:
                row["parties"].setdefault(party, []).append(row["play"](party))
            except (pgbench.Failed, OSError, RuntimeError, AssertionError) as failure:
                row["left_out"][party] = str(failure).splitlines()[0][:200]

    def finish(self, row):
        del row["names"], row["play"]
        is_first = not any(other["chapter"] == row["chapter"] for other in self.rows)
        self.rows.append(row)
        report.print_row(row, self.names, is_first)
        if self.options.json:
            report.write_json(self.result(), self.options.json)

    def result(self):
        return {"time": time.time(), "machine": machine.describe(), "rounds": self.options.rounds,
                "postgresql": machine.version_of(os.path.join(parties.server.BIN, "postgres"), "--version"),
                "versions": {name: machine.version_of(program, "-v" if name in ("haproxy", "pgpool") else "--version")
                             for name, program in parties.PROGRAMS.items()},
                "rows": self.rows}

    # -- chapters ------------------------------------------------------------------------------------

    def throughput(self):
        rows = []
        for protocol in ("simple", "extended", "prepared"):
            for clients in self.options.clients:
                many = f"{clients} client{'s' if clients > 1 else ''}"
                if clients == 1 and protocol == "simple":
                    rows.append(self.begin(
                        "Throughput and CPU", f"select, {protocol}, {many}", LATENCY,
                        lambda name: pgbench.latency(self.party(name), "simple", self.options.seconds(2)),
                        cannot=lambda name: parties.cannot(name)))
                    continue
                rows.append(self.begin(
                    "Throughput and CPU", f"select, {protocol}, {many}", TPS,
                    lambda name, clients=clients, protocol=protocol: pgbench.throughput(
                        self.party(name), clients, protocol, "select-only", 1),
                    cannot=lambda name, clients=clients, protocol=protocol: parties.cannot(name, clients, protocol)))
        rows.append(self.begin(
            "Throughput and CPU", f"TPC-B, simple, {BACKENDS} clients", TPS,
            lambda name: pgbench.throughput(self.party(name), BACKENDS, "simple", "tpcb-like", self.options.seconds(2))))
        self.rows_together(rows)

    def calls(self):
        for protocol, clients in (("simple", 50), ("simple", 500), ("extended", 500), ("prepared", 500)):
            self.row("System calls", f"select, {protocol}, {clients} clients", {"calls": "calls/tx"},
                     lambda name: pgbench.system_calls(self.party(name), clients, protocol),
                     [name for name in self.names if name != "none"],
                     lambda name: parties.cannot(name, clients, protocol), rounds=1)

    def logins(self):
        for title, is_scram, tls in (("trust", False, False), ("trust over TLS", False, True),
                                     ("SCRAM", True, False), ("SCRAM over TLS", True, True)):
            self.row("Logins", f"connect, {title}, query, leave", {"per_second": "a second", "cpu_us": "CPU µs"},
                     lambda name: pgbench.logins(self.party(name, "scram-sha-256" if is_scram else "trust"), is_scram, tls,
                                                 self.options.seconds(1)))
        self.end_parties()

    def queue(self):
        clients = 10 * BACKENDS
        self.row("Queue", f"{clients} clients, {BACKENDS} backends",
                 {"median_ms": "median ms", "longest_ms": "longest ms", "longest_over_median": "longest/median"},
                 lambda name: pgbench.fairness(self.party(name), clients, self.options.seconds(2)),
                 cannot=lambda name: parties.cannot(name, clients))

    def idle(self):
        """Fresh processes, so that nobody's earlier work is counted as an idle client's memory."""
        self.end_parties()

        def play(name, tls, clients):
            party = parties.start(name, self.upstream.port)
            try:
                return idle.measure(party, clients, tls)
            finally:
                party.end()

        for title, tls, clients in (("plain", False, self.options.idle_clients),
                                    ("TLS", True, self.options.idle_clients // 2)):
            self.row("Idle clients", title,
                     {"bytes_per_client": "bytes each", "bytes_per_used_client": "after a query",
                      "logins_per_s": "logins/s", "login_cpu_us": "CPU µs/login"},
                     lambda name: play(name, tls, clients), cannot=lambda name: parties.cannot(name, clients),
                     rounds=1)

    def bulk(self):
        bulk.make_table(self.upstream)
        for tls in (False, True):
            for direction in ("out", "in"):
                for rows in ("large", "small"):
                    self.row("Bulk", f"COPY {direction}, {rows} rows{', TLS' if tls else ''}",
                             {"mb_per_s": "MB/s", "cpu_s_per_gb": "CPU s/GB"},
                             lambda name: bulk.measure(self.party(name), direction, rows, tls,
                                                       self.options.bulk_bytes // (1 if rows == "large" else 4)))

    def far(self):
        distance = trips.Distance(self.upstream.port, self.directory.name)
        self.end_parties()
        try:
            for case in trips.CASES:
                self.row("Far upstream", case, {"added": "round trips added"},
                         lambda name: trips.added(name, case, distance),
                         [name for name in self.names if name in ("pgreserve", "pgbouncer")],
                         lambda name: trips.cannot(name, case), rounds=1)
            started = {name: parties.start(name, distance.port) for name in self.names}
            for party in started.values():
                trips.throughput(party, BACKENDS, 1)
            for clients in (BACKENDS, 10 * BACKENDS):
                self.row("Far upstream", f"{clients} clients, {BACKENDS} backends", {"tps": "tps"},
                         lambda name: trips.throughput(started[name], clients, 1),
                         cannot=lambda name: parties.cannot(name, clients))
            for party in started.values():
                party.end()
        finally:
            distance.end()

    CHAPTERS = {"Throughput": throughput, "Calls": calls, "Queue": queue, "Bulk": bulk, "Logins": logins,
                "Idle": idle, "Far": far}

    def run(self):
        machine.raise_descriptor_limit()
        machine.pin(machine.LOAD_CORE)  # the server and the load inherit it
        if os.cpu_count() < 2:
            print("only one core here: proxy and load share it, so look at CPU per transaction alone")
        wanted = self.options.only.split(",") if self.options.only else list(self.CHAPTERS)
        self.upstream = parties.Upstream(self.options.scale)
        try:
            for name in wanted:
                self.CHAPTERS[name](self)
                print(f"  after {(time.monotonic() - self.started) / 60:.1f} minutes", flush=True)
        finally:
            self.end_parties()
            self.upstream.destroy()
        report.print_reasons(self.rows)
        return self.result()


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pgreserve", default=os.path.join(ROOT, "build/pgreserve"), metavar="PROGRAM")
    parser.add_argument("--pgbouncer", default="/usr/sbin/pgbouncer", metavar="PROGRAM")
    parser.add_argument("--parties", default=",".join(PARTIES), help="who takes part; relay: the least that a pooler can be")
    parser.add_argument("--only", help="chapters: " + ",".join(Bench.CHAPTERS))
    parser.add_argument("--clients", default="1,10,50,500,5000", help="numbers of clients, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=int, default=10, help="pgbench's scale")
    parser.add_argument("--json", metavar="FILE", help="write every figure there too, row by row")
    parser.add_argument("--svg", metavar="FILE", help="draw a picture there")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--compare", nargs=2, metavar="JSON", help="measure nothing: two runs beside each other")
    parser.add_argument("--readme", metavar="JSON", help="measure nothing: put a run into README.md and docs/bench.svg")
    options = parser.parse_args()
    options.clients = [int(clients) for clients in options.clients.split(",")]
    options.seconds = lambda seconds: seconds
    options.idle_clients, options.bulk_bytes = 10000, 256 << 20
    if options.quick:
        options.rounds, options.scale, options.seconds = 2, 1, lambda _: 1
        options.idle_clients, options.bulk_bytes = 2000, 64 << 20
    return options


def main():
    options = parse_options()
    for number in (signal.SIGINT, signal.SIGTERM):  # what was started is ended, in a shell's background too
        signal.signal(number, signal.default_int_handler)
    if options.compare:
        report.compare(*(report.load(path) for path in options.compare))
        return
    if options.readme:
        result = report.load(options.readme)
        report.picture(result, os.path.join(ROOT, "docs/bench.svg"))
        if not report.write_readme(result, os.path.join(ROOT, "README.md")):
            sys.exit("README.md has no place for it")
        return
    parties.PROGRAMS.update(pgreserve=os.path.abspath(options.pgreserve), pgbouncer=options.pgbouncer)
    for name in options.parties.split(","):
        if name in parties.PROGRAMS and not os.path.exists(parties.PROGRAMS[name]):
            sys.exit(f"there is no {parties.PROGRAMS[name]}: scripts/install_dependencies.sh bench")
    started = time.monotonic()
    result = Bench(options).run()
    result["seconds"] = time.monotonic() - started
    if options.json:
        report.write_json(result, options.json)
    if options.svg and report.picture(result, options.svg):
        print(f"\nthe picture is in {options.svg}")
    about = result["machine"]
    print(f"\n{about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB, Linux {about['kernel']};"
          f" PostgreSQL {result['postgresql']}, "
          + ", ".join(f"{report.NAMES[name]} {version}" for name, version in result["versions"].items()
                      if version and name != "pgreserve") + f"; {result['seconds'] / 60:.1f} minutes")


if __name__ == "__main__":
    main()
