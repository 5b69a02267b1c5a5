"""PgBouncer's monitors, as Debian ships them, read the console unchanged.

A user would lose: graphs and alarms that have watched PgBouncer for years.
"""

import os
import re
import subprocess
import sys

import psycopg2
import pytest

from server import PASSWORD, ROLE
from wire import query

DEBIAN_MODULES = "/usr/lib/python3/dist-packages"


def environment(proxy, **others):
    return {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(proxy.ports["admin"]), "PGUSER": ROLE,
            "PGPASSWORD": PASSWORD, "PGDATABASE": "pgbouncer", "PGCONNECT_TIMEOUT": "20", **others}


# -- check_postgres ---------------------------------------------------------------------------------------


def check(proxy, have, action, *arguments):
    done = subprocess.run(
        [have("check_postgres"), f"--action={action}", "--dbname=pgbouncer", "--host=127.0.0.1",
         f"--port={proxy.ports['admin']}", f"--dbuser={ROLE}", *arguments],
        env=environment(proxy), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("figure", ["cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "sv_tested",
                                    "sv_login", "maxwait"])
def test_check_postgres_reads_every_figure_of_pools(proxy, have, figure):
    status, text = check(proxy, have, f"pgb_pool_{figure}", "--warning=900", "--critical=1000")
    assert status == 0 and "OK" in text and f"app@automation=" in text, text


def test_check_postgres_sounds_the_alarm(start_proxy, have):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 60})
    with proxy.wire() as holder, proxy.wire() as one, proxy.wire() as two:
        holder.query("BEGIN")
        one.send(query("SELECT 1"))
        two.send(query("SELECT 1"))
        proxy.wait_pool(waiting=2)
        status, text = check(proxy, have, "pgb_pool_cl_waiting", "--warning=1", "--critical=2")
        assert status == 2 and "CRITICAL" in text and "app@automation=2" in text, text


def test_check_postgres_knows_the_limit_of_clients(start_proxy, have):
    proxy = start_proxy(pgreserve={"max_clients": 40})
    clients = [proxy.wire() for _ in range(10)]
    status, text = check(proxy, have, "pgbouncer_backends", "--warning=50%", "--critical=60%")
    assert status == 0 and re.search(r"1\d of 40 connections", text), text
    status, text = check(proxy, have, "pgbouncer_backends", "--warning=5", "--critical=8")
    assert status == 2, text
    for client in clients:
        client.close()


def test_check_postgres_sees_a_changed_configuration(proxy, have):
    before = check(proxy, have, "pgbouncer_checksum", "--critical=0")[1]
    checksum = re.search(r"[0-9a-f]{32}", before).group()
    assert check(proxy, have, "pgbouncer_checksum", f"--critical={checksum}")[0] == 0
    proxy.admin("SET automation.timeout = 11")
    assert check(proxy, have, "pgbouncer_checksum", f"--critical={checksum}")[0] == 2


# -- the exporters ----------------------------------------------------------------------------------------


EXPORTER = """
import psycopg2, sys
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_pgbouncer_exporter.collectors import DatabasesCollector, ListsCollector, PoolsCollector
connection = psycopg2.connect("")
connection.set_session(autocommit=True)
registry = CollectorRegistry()
registry.register(PoolsCollector(connection=connection, databases=None))
registry.register(DatabasesCollector(connection=connection, databases=None))
registry.register(ListsCollector(connection=connection))
sys.stdout.write(generate_latest(registry).decode())
"""


def test_the_collectors_of_debians_exporter(proxy):
    """Its collector of STATS asks for a column that PgBouncer itself dropped in 1.8; the others still serve."""
    pytest.importorskip("prometheus_pgbouncer_exporter")
    with proxy.wire():
        done = subprocess.run([sys.executable, "-c", EXPORTER], env=environment(proxy, PYTHONPATH=DEBIAN_MODULES),
                              capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f'pgbouncer_active_clients{{database="app@automation",user="{ROLE}"}} 1.0' in done.stdout
    assert 'pgbouncer_pool_size{database="app"} 4.0' in done.stdout
    assert 'pgbouncer_reserve_pool{database="app"} 2.0' in done.stdout
    assert re.search(r"^pgbouncer_used_clients 2\.0$", done.stdout, re.MULTILINE)


# What the exporter of the Prometheus community demands (its collector.go): the column that labels each row, those that
# become numbers, and label sets that are unique.
COMMUNITY = {
    "STATS_TOTALS": (("database",), "query_count query_time bytes_received bytes_sent wait_time xact_count xact_time"
                     " server_assignment_count client_parse_count server_parse_count bind_count"),
    "POOLS": (("database", "user"), "cl_active cl_active_cancel_req cl_waiting cl_waiting_cancel_req sv_active"
              " sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us"),
    "DATABASES": (("name", "host", "port", "database", "force_user", "pool_mode"),
                  "pool_size reserve_pool_size max_connections current_connections paused disabled"),
}


def test_what_the_community_exporter_demands(proxy):
    connection = psycopg2.connect(**proxy.keywords("admin", dbname="pgbouncer", options="-c extra_float_digits=2"))
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SHOW STATS;")
    for row in cursor.fetchall():
        assert isinstance(row[0], str) and all(float(cell) >= 0 for cell in row[1:])
    for what, (labels, numbers) in COMMUNITY.items():
        cursor.execute(f"SHOW {what};")
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row)) for row in cursor.fetchall()]
        keys = [tuple(row[label] for label in labels) for row in rows]
        assert rows and len(keys) == len(set(keys)), what
        for row in rows:
            assert all(float(row[number]) >= 0 for number in numbers.split()), (what, row)
    cursor.execute("SHOW LISTS;")
    assert all(len(row) == 2 and float(row[1]) >= 0 for row in cursor.fetchall())
    cursor.execute("SHOW VERSION;")
    (version,) = cursor.fetchall()
    assert len(version) == 1 and version[0].startswith("PgBouncer 1.25.2")
    cursor.execute("SHOW CONFIG;")
    config = {row[0]: row[1] for row in cursor.fetchall()}
    assert float(config["max_client_conn"]) > 0 and float(config["max_user_connections"]) == 0
    cursor.execute("SHOW CLIENTS;")
    assert {"database", "user", "state", "application_name"} <= {column.name for column in cursor.description}
    connection.close()
