"""A real Prometheus scrapes the daemon and fires the alert rules that are shipped.

A user would lose: the call in the night, before customers notice.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request

import pytest

from proxy import ROOT, die_with_parent
from server import free_port
from waiting import wait_until
from wire import query

ALERTS = os.path.join(ROOT, "conf/prometheus/alerts.yml")
ALERTS_TEST = os.path.join(ROOT, "tests/prometheus/alerts_test.yml")
DASHBOARD = os.path.join(ROOT, "conf/grafana/pgreserve.json")


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)


class Prometheus:
    """Scrapes and evaluates every second; the rules are the shipped ones without their patience (`for:`)."""

    def __init__(self, target_port):
        self.directory = tempfile.mkdtemp(prefix="pgreserve-test-prometheus-")
        self.port = free_port()
        with open(ALERTS) as file:
            impatient = re.sub(r"for: \w+", "for: 0s", file.read())
        self._write("alerts.yml", impatient)
        self._write("prometheus.yml", json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["alerts.yml"],
            "scrape_configs": [{"job_name": "pgreserve",
                                "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}]}]}))
        self.log_path = os.path.join(self.directory, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={self.directory}/prometheus.yml",
                 f"--storage.tsdb.path={self.directory}/data", f"--web.listen-address=127.0.0.1:{self.port}",
                 "--log.level=warn"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        wait_until(lambda: self.query("up") and self.query("up")[0]["value"][1] == "1", "Prometheus to scrape", 30)

    def _write(self, name, text):
        with open(os.path.join(self.directory, name), "w") as file:
            file.write(text)

    def api(self, path, **parameters):
        try:
            url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it still starts
                return {}
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        except OSError:
            assert self.process.poll() is None, open(self.log_path).read()
            return {}

    def query(self, expression):
        return self.api("query", query=expression).get("result", [])

    def firing(self):
        return {(alert["labels"]["alertname"], alert["labels"].get("pool"))
                for alert in self.api("alerts").get("alerts", []) if alert["state"] == "firing"}

    def destroy(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def start_prometheus(have):
    have("prometheus")
    started = []

    def start(proxy):
        started.append(Prometheus(proxy.ports["http"]))
        return started[-1]
    yield start
    for prometheus in started:
        prometheus.destroy()


def test_rules_are_well_formed_and_fire_when_they_must(have):
    have("promtool")
    for arguments in (("check", "rules", ALERTS), ("test", "rules", ALERTS_TEST)):
        done = promtool(*arguments)
        assert done.returncode == 0 and "SUCCESS" in done.stdout, done


def test_every_alert_has_its_test():
    with open(ALERTS) as rules, open(ALERTS_TEST) as tests:
        names = set(re.findall(r"alert: (\w+)", rules.read()))
        tested = tests.read()
    assert len(names) >= 9
    assert not [name for name in names if name not in tested]


def test_alerts_fire_when_55_connections_are_held_and_cease(start_proxy, start_prometheus):
    proxy = start_proxy(pgreserve={"total_connections": 60},
                        automation={"size": 50, "max_overflow": 5, "timeout": 60, "overflow_idle": "1s"},
                        adhoc={"size": 5, "reserved": 5})
    proxy.wait_warm()
    prometheus = start_prometheus(proxy)
    wait_until(lambda: not prometheus.firing(), "an alert about the time before the first scrape to cease", 30)

    holders = proxy.hold(count=55)
    proxy.wait_pool(in_use=55, overflow=5)
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 1"))
        expected = {(name, "automation") for name in (
            "PgreserveHighUse", "PgreserveFewAvailable", "PgreserveOverflowForLong", "PgreservePoolExhausted")}
        wait_until(lambda: prometheus.firing() == expected, "the alerts to fire", 30)
        (in_use,) = prometheus.query('pgreserve_pool_in_use{pool="automation"}')
        assert in_use["value"][1] == "55"
        for holder in holders:
            holder.close()
        waiter.answer()
    wait_until(lambda: not prometheus.firing(), "the alerts to cease", 30)


def test_alert_when_the_daemon_is_gone(start_proxy, start_prometheus):
    proxy = start_proxy()
    prometheus = start_prometheus(proxy)
    proxy.stop()
    wait_until(lambda: ("PgreserveAbsent", None) in prometheus.firing(), "the alert to fire", 30)


def dashboard_expressions():
    with open(DASHBOARD) as file:
        panels = json.load(file)["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", [])]


def test_every_panel_of_the_dashboard_has_data(start_proxy, start_prometheus):
    """Grafana itself is not there: its variables are put in by hand, and Prometheus judges."""
    proxy = start_proxy()
    with proxy.wire() as wire:
        wire.query("SELECT 1")
        prometheus = start_prometheus(proxy)
        wait_until(lambda: prometheus.query("rate(pgreserve_process_cpu_seconds_total[1m])"), "two scrapes", 30)
        expressions = dashboard_expressions()
        assert len(expressions) > 20
        for title, expression in expressions:
            for name, value in (("$pool", ".*"), ("$job", "pgreserve"), ("$__rate_interval", "1m")):
                expression = expression.replace(name, value)
            assert prometheus.query(expression) or expression.endswith("> 0"), (title, expression)
