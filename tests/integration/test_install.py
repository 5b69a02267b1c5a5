"""`make install` puts in place what a packager expects, twice over, and what was installed runs."""

import os
import re
import subprocess

import pytest

from proxy import ROOT, binary_path

EXPECTED = {
    "etc/pgreserve/pgreserve.ini", "usr/bin/pgreserve", "usr/lib/systemd/system/pgreserve.service",
    "usr/lib/sysusers.d/pgreserve.conf", "usr/share/doc/pgreserve/CHANGELOG.md", "usr/share/doc/pgreserve/LICENSE",
    "usr/share/doc/pgreserve/README.md", "usr/share/doc/pgreserve/examples/database.py",
    "usr/share/doc/pgreserve/examples/environment", "usr/share/doc/pgreserve/examples/scraper.py",
    "usr/share/man/man1/pgreserve.1", "usr/share/man/man5/pgreserve.ini.5", "usr/share/man/man7/pgreserve-console.7",
    "usr/share/pgreserve/grafana/pgreserve.json", "usr/share/pgreserve/pgreserve.ini",
    "usr/share/pgreserve/prometheus/alerts.yml",
}


def install(directory):
    build = os.path.relpath(os.path.dirname(binary_path()), ROOT)
    done = subprocess.run(["make", "-C", ROOT, "--no-print-directory", f"BUILD={build}", "install", "PREFIX=/usr",
                           f"DESTDIR={directory}"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def installed(tmp_path):
    install(tmp_path)
    return tmp_path


def files(directory):
    return {os.path.relpath(os.path.join(folder, name), directory)
            for folder, _, names in os.walk(directory) for name in names}


def test_everything_is_in_its_place(installed):
    sockets = {name for name in files(installed) if name.endswith(".socket")}
    assert files(installed) - sockets == EXPECTED
    version = subprocess.run([installed / "usr/bin/pgreserve", "--version"], capture_output=True, text=True, timeout=20)
    assert version.stdout.startswith("pgreserve ")


def test_the_unit_runs_the_installed_program_with_the_installed_configuration(installed):
    unit = (installed / "usr/lib/systemd/system/pgreserve.service").read_text()
    assert "\nExecStart=/usr/bin/pgreserve run -c /etc/pgreserve/pgreserve.ini\n" in unit
    assert "/usr/local" not in unit
    checked = subprocess.run([installed / "usr/bin/pgreserve", "check", "-t", "-c",
                              installed / "etc/pgreserve/pgreserve.ini"], capture_output=True, text=True, timeout=20,
                             env={"SUPABASE_URL": "postgresql://a:b@h/d"})
    assert checked.returncode == 0, checked.stderr


def test_a_configuration_that_is_there_stays(installed):
    (installed / "etc/pgreserve/pgreserve.ini").write_text("mine")
    install(installed)
    assert (installed / "etc/pgreserve/pgreserve.ini").read_text() == "mine"
    assert (installed / "usr/share/pgreserve/pgreserve.ini").read_text() != "mine"


def test_the_example_of_the_environment_names_what_the_configuration_reads():
    """Every variable of conf/pgreserve.ini, and none that nobody reads."""
    asked = set(re.findall(r"\$\{(\w+)", open(os.path.join(ROOT, "conf/pgreserve.ini")).read())) - {"VAR"}
    with open(os.path.join(ROOT, "systemd/environment")) as file:
        offered = set(re.findall(r"^#?([A-Z_]+)=", file.read(), re.MULTILINE))
    assert offered == asked
    with open(os.path.join(ROOT, "docker-compose.yml")) as file:
        assert asked - {"PGRESERVE_LISTEN", "PGRESERVE_HTTP_LISTEN"} <= set(re.findall(r"^      ([A-Z_]+):", file.read(),
                                                                                   re.MULTILINE))
