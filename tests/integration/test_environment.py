"""The environment: it counts where the file names it, and nowhere else.

A user would lose: hours over a setting that no file shows, because a PGOPTIONS of somebody's shell went into every session, or
a PGHOST led elsewhere.
"""

import pytest

from server import PASSWORD, ROLE
from waiting import wait_until

# each of them would end or change a login of libpq's
LIBPQS = {
    "PGHOST": "/nowhere", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGDATABASE": "nobody", "PGUSER": "nobody", "PGPASSWORD": "none",
    "PGPASSFILE": "/nowhere/pass", "PGSERVICE": "nowhere", "PGSERVICEFILE": "/nowhere/service", "PGSYSCONFDIR": "/nowhere",
    "PGSSLMODE": "verify-full", "PGREQUIRESSL": "1", "PGREQUIREPEER": "nobody", "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "read-only", "PGLOADBALANCEHOSTS": "nonsense", "PGREQUIREAUTH": "none",
    "PGOPTIONS": "-c work_mem=9MB", "PGTZ": "Asia/Tokyo", "PGDATESTYLE": "German", "PGGEQO": "off", "PGCLIENTENCODING": "LATIN1",
    "PGAPPNAME": "from the environment",
}
SETTINGS = ("work_mem", "timezone", "datestyle", "geqo", "client_encoding", "application_name")


def settings(client):
    return {name: client.query(f"SHOW {name}").value for name in SETTINGS}


def names_upstream(postgres):
    return {application for (application,) in postgres.sql(
        f"SELECT DISTINCT application_name FROM pg_stat_activity WHERE usename = '{ROLE}'")}


def test_libpqs_variables_reach_no_session(start_proxy, postgres):
    proxy = start_proxy()
    with proxy.wire() as client:
        expected = settings(client)
    before = names_upstream(postgres)
    proxy.stop()
    proxy.environment.update(LIBPQS)
    proxy.start()
    proxy.wait_warm()
    with proxy.wire() as client:
        assert settings(client) == expected
    assert names_upstream(postgres) == before


@pytest.mark.parametrize("command", [("check",), ("status",), ("check", "-t")])
def test_libpqs_variables_reach_no_command(proxy, command):
    proxy.wait_warm()
    done = proxy.command(*command, "-c", proxy.config_path, environment=LIBPQS)
    assert done.returncode == 0, done


def test_the_console_that_the_configuration_names_is_found_without_the_environment(start_proxy, tmp_path):
    proxy = start_proxy(admin={"listen": f"unix:{tmp_path}:6434"})
    proxy.wait_warm()
    proxy.change(admin={"http": None})  # so that `status` has the console alone
    proxy.write_config()
    done = proxy.command("status", "-c", proxy.config_path, environment=LIBPQS)
    assert done.returncode == 0, done


def test_a_console_that_is_typed_is_reached_as_by_psql(proxy):
    proxy.wait_warm()
    url = f"postgresql://{ROLE}@127.0.0.1:{proxy.ports['admin']}/pgreserve"
    assert proxy.command("status", "--url", url, environment={"PGPASSWORD": PASSWORD}).returncode == 0
    assert proxy.command("status", "--url", url).returncode == 3


def test_a_variable_of_libpqs_that_the_file_names_counts_at_start_reload_and_upgrade(start_proxy, postgres):
    proxy = start_proxy(automation={"size": "${PGSIZE}", "max_overflow": 0},
                        environment={"PGSIZE": "3", "PGOPTIONS": "-c work_mem=9MB"})
    assert proxy.pool()["total_possible"] == 3
    proxy.reload(automation={"max_overflow": "${PGSIZE}"})
    assert proxy.pool()["total_possible"] == 6
    proxy.upgrade()
    wait_until(proxy.status, "the new process")
    assert proxy.pool()["total_possible"] == 6
    proxy.reload(automation={"max_overflow": "0"})
    assert proxy.pool()["total_possible"] == 3
    with proxy.wire() as client:
        assert client.query("SHOW work_mem").value == postgres.sql("SHOW work_mem")[0][0]
