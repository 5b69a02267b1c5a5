#!/usr/bin/python3
"""What a query costs in pgreserve, and in Debian's pgbouncer in the same minutes.

Both proxies stand in front of one private PostgreSQL with 50 backends each and the same settings (trust for
clients, transaction mode, all backends opened beforehand), each alone on core 0; pgbench and the server have
core 1.  `pgbench -S` runs through the one, then the other, then again (A/B rounds), because a machine's speed
drifts over minutes.  The figure that does not depend on who starves whom is CPU time of the proxy per
transaction: user and system time of its process, all threads, over the transactions that pgbench counted.
Transactions per second follow from it only when the proxy is what is short, and are shown beside.
"""

import argparse
import json
import os
import pwd
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

import server  # noqa: E402
from waiting import port_accepts, wait_until  # noqa: E402

BACKENDS = 50
MAX_CLIENTS = 1000
PROXY_CORE, LOAD_CORE = 0, 1
TICKS = os.sysconf("SC_CLK_TCK")


def pin(core):
    os.sched_setaffinity(0, {core % os.cpu_count()})


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Upstream(server.PostgresServer):
    """A server with room for both proxies and pgbench's tables in it."""

    def __init__(self, scale):
        server.SETTINGS += f"max_connections = {2 * BACKENDS + 20}\nshared_buffers = 512MB\n"
        server.HBA = "local all all trust\nhost all all 127.0.0.1/32 trust\n"
        super().__init__()
        subprocess.run(["pgbench", "-i", "-q", "-s", str(scale), *self.address(), "app"],
                       check=True, capture_output=True)

    def address(self):
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", server.ROLE]


class ProxyProcess:
    """One proxy on the proxy's core; `configuration` is written where `arguments` will name it."""

    def __init__(self, name, port, command, files, user=None):
        self.name, self.port = name, port
        self.directory = tempfile.mkdtemp(prefix=f"pgreserve-bench-{name}-")
        owner = pwd.getpwnam(user) if user and os.geteuid() == 0 else None
        for file, text in files.items():
            with open(os.path.join(self.directory, file), "w") as output:
                output.write(text)
            if owner:
                os.chown(output.name, owner.pw_uid, owner.pw_gid)
        if owner:
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            command = ["setpriv", f"--reuid={user}", f"--regid={owner.pw_gid}", "--init-groups", *command]
        self.log = open(os.path.join(self.directory, "log"), "wb")
        self.process = subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log,
                                        preexec_fn=lambda: pin(PROXY_CORE))
        wait_until(self._is_up, f"{name} to listen", timeout=20)

    def _is_up(self):
        if self.process.poll() is not None:
            with open(self.log.name) as log:
                sys.exit(f"{self.name} ended:\n{log.read()[-3000:]}")
        return port_accepts(self.port)

    def cpu_seconds(self):
        """(user, system) of the whole process, as proc(5) gives them, threads that ended included."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) / TICKS, int(fields[12]) / TICKS

    def peak_memory_mb(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) / 1024

    def end(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def start_pgbouncer(program, upstream):
    port = server.free_port()
    configuration = f"""[databases]
app = host=127.0.0.1 port={upstream.port} dbname=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = userlist.txt
pool_mode = transaction
default_pool_size = {BACKENDS}
min_pool_size = {BACKENDS}
max_client_conn = {MAX_CLIENTS}
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
"""
    return ProxyProcess("pgbouncer", port, [program, "pgbouncer.ini"],
                        {"pgbouncer.ini": configuration, "userlist.txt": f'"{server.ROLE}" ""\n'},
                        user="postgres")


def start_pgreserve(program, upstream):
    port = server.free_port()
    configuration = f"""[pgreserve]
total_connections = {BACKENDS}
max_clients = {MAX_CLIENTS}
[database:*]
url = {upstream.url(password="")}?sslmode=disable
[pool:bench]
listen = 127.0.0.1:{port}
mode = transaction
size = {BACKENDS}
max_overflow = 0
[admin]
listen = 127.0.0.1:{server.free_port()}
http = 127.0.0.1:{server.free_port()}
[auth]
method = trust
"""
    return ProxyProcess("pgreserve", port, [program, "run", "-c", "pgreserve.ini"],
                        {"pgreserve.ini": configuration})


def run_pgbench(proxy, clients, protocol, seconds):
    """One round; a dictionary of figures, or of `error` when pgbench said no."""
    def limits():
        pin(LOAD_CORE)
        raise_descriptor_limit()

    before = proxy.cpu_seconds()
    result = subprocess.run(
        ["pgbench", "-n", "-S", "-c", str(clients), "-j", "1", "-T", str(seconds), "-M", protocol,
         "-h", "127.0.0.1", "-p", str(proxy.port), "-U", server.ROLE, "app"],
        capture_output=True, text=True, preexec_fn=limits, timeout=seconds + 120,
        env={**os.environ, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"})
    after = proxy.cpu_seconds()
    done = re.search(r"transactions actually processed: (\d+)", result.stdout)
    if result.returncode != 0 or not done or int(done.group(1)) == 0:
        lines = [line for line in result.stderr.splitlines() if "rror" in line]
        return {"error": (lines or [result.stderr.strip() or "no transactions"])[0][:160]}
    transactions = int(done.group(1))
    user, system = (after[i] - before[i] for i in (0, 1))
    return {
        "transactions": transactions,
        "tps": float(re.search(r"tps = ([\d.]+)", result.stdout).group(1)),
        "cpu_us": (user + system) * 1e6 / transactions,
        "user_us": user * 1e6 / transactions,
        "system_us": system * 1e6 / transactions,
    }


def compare(proxies, clients, protocol, rounds, seconds):
    """A/B rounds of one kind; prints them and returns what was measured."""
    print(f"\n{clients} clients, {protocol} protocol, {BACKENDS} backends, {seconds} s a round\n"
          f"  {'round':7}{'proxy':11}{'tps':>9}{'CPU us/tx':>11}{'user':>8}{'system':>8}", flush=True)
    measured = {proxy.name: [] for proxy in proxies}
    ratios = []
    for number in range(1, rounds + 1):
        # Who goes first changes from round to round.
        for proxy in proxies if number % 2 else reversed(proxies):
            figures = run_pgbench(proxy, clients, protocol, seconds)
            if "error" in figures:
                print(f"  {number:<7}{proxy.name:11}n/a: {figures['error']}", flush=True)
                continue
            measured[proxy.name].append(figures)
            print(f"  {number:<7}{proxy.name:11}{figures['tps']:9.0f}{figures['cpu_us']:11.2f}"
                  f"{figures['user_us']:8.2f}{figures['system_us']:8.2f}", flush=True)
        ours, theirs = (measured.get(name, []) for name in ("pgreserve", "pgbouncer"))
        if len(ours) == len(theirs) == number:
            ratios.append(ours[-1]["cpu_us"] / theirs[-1]["cpu_us"])
            print(f"  {number:<7}CPU per transaction, pgreserve / pgbouncer: {ratios[-1]:.3f}", flush=True)
    medians = {name: {key: statistics.median(figures[key] for figures in rows) for key in rows[0]}
               for name, rows in measured.items() if rows}
    for name, row in medians.items():
        print(f"  median {name:11}{row['tps']:9.0f}{row['cpu_us']:11.2f}"
              f"{row['user_us']:8.2f}{row['system_us']:8.2f}")
    if ratios:
        print(f"  median CPU per transaction, pgreserve / pgbouncer: {statistics.median(ratios):.3f}"
              f"  (rounds {min(ratios):.3f} to {max(ratios):.3f})", flush=True)
    return {"clients": clients, "protocol": protocol, "rounds": measured, "medians": medians,
            "ratios": ratios, "ratio": statistics.median(ratios) if ratios else None}


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pgreserve", default=os.path.join(ROOT, "build/pgreserve"), metavar="PROGRAM")
    parser.add_argument("--pgbouncer", default="/usr/sbin/pgbouncer", metavar="PROGRAM")
    parser.add_argument("--clients", default="50,500", help="numbers of clients, with commas between")
    parser.add_argument("--protocols", default="simple",
                        help="simple, extended, prepared, with commas between (Debian 12's pgbouncer has"
                             " no prepared statements in transaction mode)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="length of one round of one proxy")
    parser.add_argument("--scale", type=int, default=10, help="pgbench's scale")
    parser.add_argument("--only", choices=("pgreserve", "pgbouncer"), help="measure one of them alone")
    parser.add_argument("--json", metavar="FILE", help="write every figure there too")
    parser.add_argument("--quick", action="store_true", help="two rounds of 2 s: does it run at all?")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.scale = 2, 2, 1
    return options


def main():
    options = parse_options()
    programs = {"pgreserve": (start_pgreserve, os.path.abspath(options.pgreserve)),
                "pgbouncer": (start_pgbouncer, options.pgbouncer)}
    for name in list(programs):
        if options.only not in (None, name):
            del programs[name]
        elif not os.path.exists(programs[name][1]):
            sys.exit(f"there is no {programs[name][1]}")
    if os.cpu_count() < 2:
        print("only one core here: proxy and load share it, so look at CPU per transaction alone")

    raise_descriptor_limit()
    pin(LOAD_CORE)  # the server and pgbench inherit it
    results, proxies, upstream = [], [], Upstream(options.scale)
    try:
        for start, program in programs.values():
            proxies.append(start(program, upstream))
        for proxy in proxies:  # pgbouncer opens its backends when the first client comes
            run_pgbench(proxy, BACKENDS, "simple", 1)
        wait_until(lambda: len(upstream.backends()) == BACKENDS * len(proxies),
                   "the proxies to open their backends", 30)
        for protocol in options.protocols.split(","):
            for clients in options.clients.split(","):
                results.append(compare(proxies, int(clients), protocol, options.rounds, options.seconds))
        print()
        for proxy in proxies:
            print(f"peak memory of {proxy.name}: {proxy.peak_memory_mb():.1f} MB")
    finally:
        for proxy in proxies:
            proxy.end()
        upstream.destroy()
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"time": time.time(), "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
