"""Rows that pgbench measures: transactions and CPU time, latency, logins, and whether the queue is fair.

Up to 50 clients the proxy's CPU time is taken over the whole run, logins included, which are few; beyond that between
two of pgbench's progress lines, when all have logged in.
"""

import glob
import os
import re
import statistics
import subprocess
import tempfile

import machine
import parties
from parties import KEEPER, PASSWORD, server

MANY = 50  # clients beyond which logins would count too much


def command(party, clients, protocol, seconds, *more, user=server.ROLE, threads=1):
    return ["pgbench", "-n", "-c", str(clients), "-j", str(threads), "-T", str(seconds), "-M", protocol, *more,
            "-h", "127.0.0.1", "-p", str(party.port), "-U", user, "app"]


def environment(tls=False):
    return {**os.environ, "PGSSLMODE": "require" if tls else "disable", "PGGSSENCMODE": "disable",
            "PGPASSWORD": PASSWORD, "LC_ALL": "C"}


def prepare_child():
    machine.pin(machine.LOAD_CORE)
    machine.raise_descriptor_limit()


class Failed(Exception):
    """pgbench said no."""


def complaint(stderr):
    lines = [line for line in stderr.splitlines() if "rror" in line or "FATAL" in line or "ERROR" in line]
    return (lines or [stderr.strip()[-160:] or "no transactions"])[0][:160]


def start(arguments, tls=False, cwd=None):
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=prepare_child, env=environment(tls), cwd=cwd)


def finish(process, seconds):
    try:
        output, errors = process.communicate(timeout=seconds + 90)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failed("pgbench did not come to its end") from None
    done = re.search(r"transactions actually processed: (\d+)", output)
    if process.returncode != 0 or not done or int(done.group(1)) == 0:
        raise Failed(complaint(errors))
    return int(done.group(1)), float(re.search(r"tps = ([\d.]+)", output).group(1)), errors


def whole_run(party, arguments, seconds, tls=False, cwd=None):
    before = party.cpu_seconds()
    count, tps, _ = finish(start(arguments, tls, cwd), seconds)
    return {"tps": tps, "cpu_us": (party.cpu_seconds() - before) * 1e6 / count}


def between_lines(party, arguments, seconds):
    """The second and the last but one of pgbench's lines, one a second, bound what is measured."""
    process = start([*arguments, "-P", "1", "--progress-timestamp"])
    marks = []  # (time, its rate since the last mark, CPU seconds)
    errors = []
    for line in process.stderr:
        found = re.match(r"progress: ([\d.]+) s, ([\d.]+) tps", line)
        if found:
            marks.append((float(found.group(1)), float(found.group(2)), party.cpu_seconds()))
        else:
            errors.append(line)
        if len(marks) == seconds - 1:
            break
    try:
        finish(process, seconds)
    except Failed as failure:
        raise Failed(complaint("".join(errors)) if errors else str(failure)) from None
    if len(marks) < 2:
        raise Failed("too slow for a second's figures")
    count = sum(rate * (at - last[0]) for last, (at, rate, _) in zip(marks, marks[1:]))
    return {"tps": count / (marks[-1][0] - marks[0][0]),
            "cpu_us": (marks[-1][2] - marks[0][2]) * 1e6 / count if count else 0.0}


def warm_up(party, clients, is_scram):
    """Every connection to the server is open, and keys that are kept are known."""
    user = KEEPER if is_scram else server.ROLE
    for _ in range(2):
        finish(start(command(party, clients, "simple", 2, "-b", "select-only", user=user)), 2)


def throughput(party, clients, protocol, builtin, seconds):
    if clients > MANY:
        seconds += 2 + clients // 1600  # pgbench counts the time in which they log in
        return between_lines(party, command(party, clients, protocol, seconds, "-b", builtin), seconds)
    return whole_run(party, command(party, clients, protocol, seconds, "-b", builtin), seconds)


def latencies(directory, skip_seconds=0.0):
    """Microseconds of every transaction that pgbench has logged, but for those of the first seconds."""
    lines = []
    for path in glob.glob(os.path.join(directory, "pgbench_log.*")):
        lines += [line.split() for line in open(path)]
    times = [(int(line[4]) + int(line[5]) / 1e6, int(line[2])) for line in lines if line[2].isdigit()]
    first = min(at for at, _ in times)
    return sorted(us for at, us in times if at - first >= skip_seconds)


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latency(party, protocol, seconds):
    with tempfile.TemporaryDirectory() as directory:
        figures = whole_run(party, command(party, 1, protocol, seconds, "-b", "select-only", "-l"), seconds,
                            cwd=directory)
        times = latencies(directory)
    return {**figures, "median_us": statistics.median(times), "p99_us": percentile(times, 0.99),
            "p999_us": percentile(times, 0.999)}


def logins(party, is_scram, tls, seconds):
    """Connect, authenticate, one query, leave."""
    figures = whole_run(party, command(party, 1, "simple", seconds, "-C", "-b", "select-only",
                                       user=KEEPER if is_scram else server.ROLE), seconds, tls=tls)
    return {"per_second": figures["tps"], "cpu_us": figures["cpu_us"]}


def fairness(party, clients, seconds):
    """Ten times as many clients as backends, queries of 5 ms: what the longest wait is to the median one."""
    with tempfile.TemporaryDirectory() as directory:
        script = os.path.join(directory, "script.sql")
        with open(script, "w") as file:
            file.write("SELECT pg_sleep(0.005);\n")
        finish(start(command(party, clients, "simple", seconds + 1, "-l", "-f", script), cwd=directory),
               seconds)
        times = latencies(directory, skip_seconds=1.0)
    return {"median_ms": statistics.median(times) / 1000, "longest_ms": times[-1] / 1000,
            "longest_over_median": times[-1] / statistics.median(times)}


def system_calls(party, clients, protocol):
    """System calls for each transaction, by name: the difference of a short and a long run, so that logins cancel out.
    strace slows all of it, but changes little of what is called."""
    totals = []
    for count in (max(2, 1000 // clients), 3 * max(2, 1000 // clients)):
        arguments = ["pgbench", "-n", "-b", "select-only", "-c", str(clients), "-j", "1", "-t", str(count), "-M", protocol,
                     "-h", "127.0.0.1", "-p", str(party.port), "-U", server.ROLE, "app"]
        calls = machine.SystemCalls(party.process.pid, party.directory)
        process = start(arguments)
        done, _, _ = finish(process, 30)
        totals.append((done, calls.stop()))
    (few, first), (many, second) = totals
    by_name = {name: (second[name] - first.get(name, 0)) / (many - few) for name in second}
    return {"calls": sum(by_name.values()),
            "by_name": {name: round(each, 3) for name, each in by_name.items() if each >= 0.01}}
