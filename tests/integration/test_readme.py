"""README.md does what it says: every fenced block is run, against a daemon and a throwaway PostgreSQL.

`sh` blocks run under `sh -e` with the README's ports, user and password replaced by the test's, `sql` ones on the console,
`ini` ones through `check -t`, `yaml` through promtool, `python` as it is.  `text` is output, not input.  What a test must not
do on the machine that it runs on stands in ELSEWHERE, with where it is checked instead; it is read by `sh -n` at least.
"""

import os
import re
import subprocess
import sys

import pytest

from proxy import ROOT, binary_path
from server import PASSWORD_IN_URL, ROLE

with open(os.path.join(ROOT, "README.md")) as readme:
    TEXT = readme.read()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    "make run": "test_make_run.py runs scripts/run_demo.sh; `make test` runs itself",
    "make install": "test_install.py; the package, the image and the compose file by hand, test_examples.py reads the last",
    "systemd-sysusers": "the units by systemd-analyze; there is no systemd where tests run",
    "systemctl": "the units by systemd-analyze; there is no systemd where tests run",
    "kill -USR2": "test_upgrade.py",
}
# Nothing that holds one of these is ever run here.
TABOO = re.compile(r"\b(kill|pkill|killall|pidof|systemctl|systemd-\w+|apt|apt-get|docker|sudo|make)\b")
SAMPLE = {"sh", "sql", "ini", "python", "yaml", "text"}

PGBOUNCER_INI = """[databases]
app = host=127.0.0.1 port={port}
[pgbouncer]
listen_addr = 127.0.0.1
auth_file = /etc/pgbouncer/userlist.txt
"""


def blocks(language):
    return [pytest.param(code, id=code.strip().splitlines()[0][:50]) for kind, code in BLOCKS if kind == language]


def told_elsewhere(code):
    return next((reason for part, reason in ELSEWHERE.items() if part in code), None)


@pytest.fixture
def stage(start_proxy, postgres, tmp_path):
    """The proxy, and how a block reads with the test's own ports, user, database and files."""
    postgres.ensure_running()
    proxy = start_proxy()
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "pgreserve").write_text(
        "#!/bin/sh\n# as the README's reader would say it, with the test's configuration where none is named\n"
        "case \" $* \" in *' -c '* | *' import-pgbouncer '*) ;;\n"
        f"*) set -- \"$@\" -c '{proxy.config_path}' ;; esac\n"
        f"exec '{binary_path()}' \"$@\"\n")
    (tools / "pgreserve").chmod(0o755)
    (tmp_path / "pgbouncer.ini").write_text(PGBOUNCER_INI.format(port=postgres.port))

    def localized(code):
        for port, name in ((6432, "automation"), (6433, "adhoc"), (6434, "admin"), (6435, "http")):
            code = re.sub(rf"\b{port}\b", str(proxy.port(name)), code)
        code = code.replace("USER:PASSWORD@", f"{ROLE}:{PASSWORD_IN_URL}@").replace("/postgres'", "/app'")
        return code.replace("/etc/pgbouncer/pgbouncer.ini", str(tmp_path / "pgbouncer.ini"))

    proxy.stage = localized
    proxy.stage_environment = {**os.environ, **proxy.environment, "PATH": f"{tools}:{os.environ['PATH']}",
                               "DATABASE_URL": proxy.url(), "PYTHONDONTWRITEBYTECODE": "1"}
    proxy.stage_directory = tmp_path
    return proxy


def run(proxy, *command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=proxy.stage_directory,
                          env=proxy.stage_environment, **options)


def test_every_block_is_of_a_kind_that_is_tried():
    """No block without a language, no indented one that would escape these tests."""
    assert {kind for kind, _ in BLOCKS} <= SAMPLE
    outside = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"\n\n    \S", outside), "an indented block: make it a fenced one"
    for part in ELSEWHERE:
        assert part in TEXT or part in ("kill -USR2", "systemctl"), f"nobody says {part} any more"


@pytest.mark.parametrize("code", blocks("sh"))
def test_shell(stage, code):
    syntax = run(stage, "sh", "-n", "-c", code)
    assert syntax.returncode == 0, syntax.stderr
    if told_elsewhere(code):
        for target in re.findall(r"^make (\w+)", code, re.MULTILINE):
            with open(os.path.join(ROOT, "Makefile")) as makefile:
                assert re.search(rf"^{target}:", makefile.read(), re.MULTILINE)
        return
    assert not TABOO.search(code), "this must not be run on a machine that runs tests: name it in ELSEWHERE"
    done = run(stage, "sh", "-e", "-c", stage.stage(code))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("code", blocks("sql"))
def test_console(stage, code):
    for command in filter(None, (part.strip() for part in code.split(";"))):
        done = stage.psql("-v", "ON_ERROR_STOP=1", "-c", command, pool="admin", database="pgreserve")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", blocks("ini"))
def test_configuration(stage, code):
    """Sections of the block take the place of the shipped ones of the same name."""
    with open(os.path.join(ROOT, "conf/pgreserve.ini")) as file:
        shipped = file.read()
    for section in re.findall(r"^\[(.*?)\]", code, re.MULTILINE):
        shipped = re.sub(rf"^\[{re.escape(section)}\].*?(?=^\[|\Z)", "", shipped, flags=re.MULTILINE | re.DOTALL)
    path = stage.stage_directory / "block.ini"
    path.write_text(shipped + "\n" + code)
    done = subprocess.run([binary_path(), "check", "-t", "-c", path], capture_output=True, text=True, timeout=20,
                          env={"SUPABASE_URL": stage.environment["UPSTREAM"]})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", blocks("python"))
def test_python(stage, code):
    done = run(stage, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", blocks("yaml"))
def test_prometheus(stage, have, code):
    have("promtool")
    path = stage.stage_directory / "prometheus.yml"
    path.write_text(code)
    done = run(stage, "promtool", "check", "config", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_and_pictures_lead_somewhere():
    headings = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
                for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert os.path.exists(os.path.join(ROOT, target)), target
