"""/metrics: Prometheus' format, and figures that are true.

A user would lose: the graph that was to show last night's incident.
"""

import json
import os
import re
import subprocess

import pytest

from proxy import ROOT
from waiting import Stopwatch, wait_until
from wire import query

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """One scrape: `metrics.value(name, label=value)`."""

    def __init__(self, text):
        self.types, self.samples = {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert name not in self.types, f"{name} is declared twice"
                self.types[name] = kind
            elif not line.startswith("#"):
                name, labels, value = SAMPLE.match(line).groups()
                key = (name, frozenset(LABEL.findall(labels or "")))
                assert key not in self.samples, f"{line} is there twice"
                self.samples[key] = float(value)

    def value(self, name, **labels):
        return self.samples[name, frozenset(labels.items())]

    def sum(self, name, **labels):
        return sum(value for (each, has), value in self.samples.items()
                   if each == name and set(labels.items()) <= has)

    def buckets(self, name, **labels):
        found = {}
        for (each, has), value in self.samples.items():
            if each == name + "_bucket" and set(labels.items()) <= has:
                found[float(dict(has)["le"].replace("+Inf", "inf"))] = value
        return dict(sorted(found.items()))


def scrape(proxy):
    return Metrics(proxy.get("/metrics"))


def test_promtool_finds_no_fault(proxy, have):
    promtool = have("promtool")
    with proxy.wire() as wire, proxy.wire("adhoc") as other:
        wire.query("LISTEN x")
        other.query("SELECT 1")
        done = subprocess.run([promtool, "check", "metrics"], input=proxy.get("/metrics"), capture_output=True,
                              text=True, timeout=30)
    assert done.returncode == 0 and not done.stdout and not done.stderr, done


def test_figures_are_those_of_status(proxy):
    proxy.wait_warm()
    with proxy.wire() as first, proxy.wire() as second, proxy.wire("adhoc"):
        first.query("BEGIN")
        second.query("LISTEN x")
        proxy.wait_pool(in_use=2, clients=2, pinned=1)
        metrics, status = scrape(proxy), proxy.status()
        names = {"in_use": "in_use", "available": "available", "overflow": "overflow", "waiting": "waiting",
                 "total_possible": "possible", "reserved": "reserved", "pinned": "pinned", "closing": "closing",
                 "clients": "clients", "is_healthy": "healthy"}
        for pool in status["pools"]:
            for figure, name in names.items():
                assert metrics.value(f"pgreserve_pool_{name}", pool=pool["name"]) == pool[figure], figure
            for state in ("healthy", "high_load", "exhausted", "down"):
                assert metrics.value("pgreserve_pool_state", pool=pool["name"], state=state) == \
                    (state == pool["state"])
        assert metrics.value("pgreserve_connections_limit") == 8
        assert metrics.value("pgreserve_connections_open") == 6 == len(proxy.postgres.backends())
        assert metrics.sum("pgreserve_pool_slots") + metrics.value("pgreserve_connections_free") == 8
        assert metrics.value("pgreserve_clients") == 3


def test_work_is_counted_for_pool_and_database(proxy):
    before = scrape(proxy)
    with proxy.wire() as wire:
        for _ in range(5):
            wire.query("SELECT 1")
        wire.query("BEGIN")
        wire.query("SELECT 2")
        wire.query("COMMIT")
    after = scrape(proxy)

    def grown(name, **labels):
        return after.sum(name, **labels) - before.sum(name, **labels)
    for scope in ({"name": "pool", "pool": "automation"}, {"name": "database", "database": "app", "pool": "automation"}):
        kind = scope.pop("name")
        assert grown(f"pgreserve_{kind}_transactions_total", **scope) == 6
        assert grown(f"pgreserve_{kind}_queries_total", **scope) == 8
        assert grown(f"pgreserve_{kind}_assignments_total", **scope) >= 6
        assert grown(f"pgreserve_{kind}_client_logins_total", **scope) == 1
        assert grown(f"pgreserve_{kind}_received_bytes_total", **scope) > 8 * 10
        assert grown(f"pgreserve_{kind}_sent_bytes_total", **scope) > 8 * 10
    assert grown("pgreserve_pool_transactions_total", pool="adhoc") == 0
    assert grown("pgreserve_pool_transaction_seconds_count", pool="automation") == 6
    assert grown("pgreserve_pool_query_seconds_count", pool="automation") == 8


def assert_sums_agree(proxy, pools=("automation", "adhoc")):
    """At rest: what was counted by database, by pool and in histograms is the same work."""
    metrics = scrape(proxy)
    for pool in pools:
        for what in ("transactions", "queries", "assignments", "client_logins", "received_bytes", "sent_bytes"):
            assert metrics.value(f"pgreserve_pool_{what}_total", pool=pool) == \
                metrics.sum(f"pgreserve_database_{what}_total", pool=pool), what
        for what, name in (("transactions", "transaction"), ("queries", "query")):
            assert metrics.value(f"pgreserve_pool_{name}_seconds_count", pool=pool) == \
                metrics.value(f"pgreserve_pool_{what}_total", pool=pool), what
        assert metrics.value("pgreserve_pool_wait_seconds_count", pool=pool) == \
            metrics.value("pgreserve_pool_assignments_total", pool=pool) + \
            metrics.value("pgreserve_pool_timeouts_total", pool=pool)
        opened = metrics.value("pgreserve_pool_upstream_logins_total", pool=pool)
        failed = metrics.value("pgreserve_pool_upstream_login_failures_total", pool=pool)
        closed = metrics.sum("pgreserve_pool_closes_total", pool=pool)
        # one that is recycled is on its way out for a moment
        is_open = sum(metrics.value(f"pgreserve_pool_{what}", pool=pool) for what in ("in_use", "available", "closing"))
        assert opened - closed <= is_open <= opened + failed - closed
    return metrics


def test_sums_agree(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "200ms"})
    proxy.wait_warm()
    with proxy.wire() as wire, proxy.wire() as late, proxy.wire("adhoc") as other:
        wire.query("BEGIN")
        late.send(query("SELECT 1"))
        assert late.answer().error.sqlstate == "53300"
        wire.query("COMMIT")
        other.query("SELECT 1/0")
    proxy.wait_pool(clients=0, in_use=0)
    proxy.wait_pool("adhoc", clients=0, in_use=0)
    assert_sums_agree(proxy)


def test_histograms_rise_and_end_in_their_count(proxy):
    with proxy.wire() as wire:
        wire.query("SELECT pg_sleep(0.03)")
    metrics = scrape(proxy)
    for name in ("wait", "transaction", "query"):
        for pool in ("automation", "adhoc"):
            buckets = metrics.buckets(f"pgreserve_pool_{name}_seconds", pool=pool)
            counts = list(buckets.values())
            assert counts == sorted(counts) and len(counts) > 10
            assert counts[-1] == metrics.value(f"pgreserve_pool_{name}_seconds_count", pool=pool)
    query_time = metrics.buckets("pgreserve_pool_query_seconds", pool="automation")
    assert query_time[0.025] < query_time[float("inf")], "a query of 30 ms is not below 25"
    assert metrics.value("pgreserve_pool_query_seconds_sum", pool="automation") >= 0.03


def test_a_wait_is_in_the_histogram(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    (holder,) = proxy.hold()
    with proxy.wire() as waiter, Stopwatch() as watch:
        waiter.send(query("SELECT 1"))
        proxy.wait_pool(waiting=1)
        wait_until(lambda: scrape(proxy).value("pgreserve_pool_longest_wait_seconds", pool="automation") > 0.3,
                   "the wait to last a while")
        holder.close()
        waiter.answer()
    metrics = scrape(proxy)
    assert 0.3 < metrics.value("pgreserve_pool_wait_seconds_sum", pool="automation") < watch.seconds
    buckets = metrics.buckets("pgreserve_pool_wait_seconds", pool="automation")
    assert buckets[float("inf")] - buckets[0.25] == 1


def test_refusals_are_counted_by_their_code(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "100ms"})
    (holder,) = proxy.hold()
    with proxy.wire() as refused:
        assert refused.query("SELECT 1").errors[0].sqlstate == "53300"
    holder.close()
    metrics = scrape(proxy)
    assert metrics.value("pgreserve_pool_timeouts_total", pool="automation") == 1
    assert metrics.value("pgreserve_pool_errors_total", pool="automation", sqlstate="53300") == 1


def test_pins_are_counted_by_their_reason(proxy):
    with proxy.wire() as wire:
        wire.query("LISTEN x")
        wait_until(lambda: scrape(proxy).value("pgreserve_pool_pinned", pool="automation") == 1, "the pin")
        metrics = scrape(proxy)
    assert metrics.value("pgreserve_pool_pinned", pool="automation") == 1
    assert metrics.sum("pgreserve_pool_pins_total", pool="automation") >= 1
    assert metrics.value("pgreserve_pool_pins_total", pool="automation", reason="listen") == 1


def test_a_leak_is_counted(start_proxy):
    proxy = start_proxy(automation={"leak_warning": "200ms"})
    (holder,) = proxy.hold()
    wait_until(lambda: scrape(proxy).value("pgreserve_pool_leak_warnings_total", pool="automation") == 1, "the warning")
    wait_until(lambda: scrape(proxy).value("pgreserve_pool_longest_hold_seconds", pool="automation") > 0.6,
               "the hold to go on")
    assert scrape(proxy).value("pgreserve_pool_leak_warnings_total", pool="automation") == 1, "one a hold"
    holder.close()


def test_what_happens_to_backends_is_counted(start_proxy, postgres):
    proxy = start_proxy(automation={"recycle": "1s"}, adhoc={"recycle": "0"})
    proxy.wait_warm()

    def value(name, **labels):
        return scrape(proxy).sum(f"pgreserve_pool_{name}_total", **labels)
    wait_until(lambda: value("recycles", pool="automation") >= 2, "connections to be replaced")
    wait_until(lambda: value("upstream_logins", pool="automation") >= 6, "logins in their place")
    assert value("closes", pool="automation", reason="recycle") >= 2
    assert value("recycles", pool="adhoc") == 0 and value("upstream_logins", pool="adhoc") == 2
    assert value("upstream_login_failures") == 0
    victim = min(postgres.backend_pids())
    postgres.terminate(victim)
    wait_until(lambda: victim not in postgres.backend_pids() and scrape(proxy).sum("pgreserve_pool_available") == 6,
               "the lost one to be replaced")


@pytest.mark.parametrize("database", ['say "hello"', "back\\slash", "new\nline", "euro€", "}{,= 1"])
def test_no_name_of_a_clients_choice_breaks_a_scrape(proxy, have, database):
    with pytest.raises(Exception, match="does not exist|3D000"):
        proxy.connect(dbname=database)
    text = proxy.get("/metrics")
    Metrics(text)
    done = subprocess.run([have("promtool"), "check", "metrics"], input=text, capture_output=True, text=True,
                          timeout=30)
    assert done.returncode == 0, done


def test_process_figures_are_the_systems(proxy):
    metrics = scrape(proxy)
    with open(f"/proc/{proxy.process.pid}/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert all(sample[0].startswith("pgreserve_") for sample in metrics.samples)
    assert abs(metrics.value("pgreserve_process_resident_memory_bytes") - resident) < 4 << 20
    assert abs(metrics.value("pgreserve_process_open_fds") - proxy.descriptors()) <= 1
    assert 0 < metrics.value("pgreserve_process_cpu_seconds_total") <= proxy.cpu_seconds() + 0.1
    assert scrape(proxy).value("pgreserve_process_start_time_seconds") == metrics.value("pgreserve_process_start_time_seconds")


def test_upstream_ceiling_is_told(start_proxy, postgres):
    """The server has fewer places than the cap: they are taken by somebody else."""
    room = 4
    others = [postgres.superuser_connection() for _ in range(60 - room)]
    try:
        proxy = start_proxy(wait="listening")
        wait_until(lambda: scrape(proxy).sum("pgreserve_pool_upstream_ceiling") > 0, "the ceiling to be met", 20)
        def ceiling():
            met = [pool["ceiling"] for pool in json.loads(proxy.get("/live.json"))["pools"]]
            return max(number or 0 for number in met)
        wait_until(lambda: 0 < ceiling() < 8, "the page's document to say so")
    finally:
        for other in others:
            other.close()


def test_rules_and_dashboard_use_only_what_is_there(proxy):
    """An alert on a name that does not exist never fires."""
    there = set()
    for name, kind in scrape(proxy).types.items():
        there |= {name} if kind != "histogram" else {name + end for end in ("_bucket", "_sum", "_count")}
    for path in ("conf/prometheus/alerts.yml", "conf/grafana/pgreserve.json"):
        with open(os.path.join(ROOT, path)) as file:
            used = set(re.findall(r"\b(?:pgreserve|process)_[a-z_]+", file.read()))
        assert used and used <= there, used - there
