"""The examples that ship: run as they are, against pgreserve, and read by the programs that they are for."""

import json
import os
import subprocess
import sys

import pytest

from proxy import ROOT

EXAMPLES = os.path.join(ROOT, "conf", "examples")
PROFILES = ("postgres", "scraper", "monitoring")


def run_example(proxy, *command):
    return subprocess.run([sys.executable, *command], cwd=EXAMPLES, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "DATABASE_URL": proxy.url(), "PYTHONDONTWRITEBYTECODE": "1"})


def test_the_sample_scraper_shares_what_it_is_given(start_proxy, postgres):
    """50 workers on 2 connections: all pages arrive, each once, and nobody holds anything in the end."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 1})
    done = run_example(proxy, "scraper.py", "300", "50")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == "300 pages\n"
    with proxy.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*), count(DISTINCT number), min(body) FROM pages")
        assert cursor.fetchone() == (300, 300, "page 1")
        cursor.execute("DROP TABLE pages")
    connection.close()
    assert proxy.pool()["in_use"] == 0
    assert len(postgres.backends()) <= 5


def test_the_scraper_tries_again_what_is_over_in_a_moment(start_proxy):
    """No connection within the pool's timeout is an error that it survives, and says."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": "200ms"})
    [holder] = proxy.hold()
    process = subprocess.Popen(
        [sys.executable, "-c", "import database, scraper; scraper.store(1, 'x')"], cwd=EXAMPLES, text=True,
        stderr=subprocess.PIPE, env={**os.environ, "DATABASE_URL": proxy.url(), "PYTHONDONTWRITEBYTECODE": "1"})
    line = process.stderr.readline()
    assert "page 1, once more: pool \"automation\" limit of size 1 overflow 0 reached" in line
    with holder.cursor() as cursor:
        cursor.execute("CREATE TABLE pages (number bigint PRIMARY KEY, body text)")
    holder.commit()
    assert process.wait(timeout=60) == 0
    process.stderr.close()
    with holder.cursor() as cursor:
        cursor.execute("SELECT body FROM pages")
        assert cursor.fetchall() == [("x",)]
        cursor.execute("DROP TABLE pages")
    holder.commit()
    holder.close()


def test_database_py_has_both_ways(proxy):
    """NullPool, and the small pool: the one keeps no connection to pgreserve, the other does."""
    code = """
import json, database
from sqlalchemy import text
counts = []
for engine in (database.engine, database.small_pool_engine()):
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    counts.append(engine.pool.checkedin() if hasattr(engine.pool, "checkedin") else 0)
print(json.dumps(counts))
"""
    done = run_example(proxy, "-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, 1]


def test_compose_reads_its_file(have):
    """docker-compose's own schema and rules; whether the images run is not tried here, for there is no engine."""
    have("docker-compose")
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    done = subprocess.run(["docker-compose", "-f", os.path.join(ROOT, "docker-compose.yml"), *profiles, "config"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for service in ("pgreserve", "postgres", "scraper", "prometheus", "grafana"):
        assert f"\n  {service}:\n" in done.stdout


@pytest.mark.parametrize("volume", ["conf/prometheus/prometheus.yml", "conf/prometheus/alerts.yml",
                                    "conf/grafana/provisioning/datasources/prometheus.yml",
                                    "conf/grafana/provisioning/dashboards/pgreserve.yml",
                                    "conf/grafana/pgreserve.json", "conf/examples/Dockerfile"])
def test_what_compose_mounts_is_there(volume):
    assert os.path.exists(os.path.join(ROOT, volume))


def test_prometheus_reads_its_configuration(have):
    have("promtool")
    done = subprocess.run(["promtool", "check", "config", os.path.join(ROOT, "conf/prometheus/prometheus.yml")],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
