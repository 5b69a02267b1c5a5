"""The manuals: without a fault in mandoc's eyes, and saying what the program says."""

import os
import re
import subprocess

import pytest

from proxy import ROOT, binary_path

PAGES = ("pgreserve.1", "pgreserve.ini.5", "pgreserve-console.7")


def page(name):
    return os.path.join(ROOT, "man", name)


def run(*arguments):
    done = subprocess.run([binary_path(), *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_no_fault(have, name):
    """That our own pages are not installed on this machine is none."""
    have("mandoc")
    done = subprocess.run(["mandoc", "-T", "lint", page(name)], capture_output=True, text=True, timeout=30)
    faults = [line for line in (done.stdout + done.stderr).splitlines()
              if not re.search(r"referenced manual not found: Xr (pgreserve|psql)", line)]
    assert not faults, "\n".join(faults)


def test_the_options_are_those_of_the_program(tmp_path):
    """`make manual` would change nothing."""
    copy = tmp_path / "pgreserve.ini.5"
    committed = open(page("pgreserve.ini.5")).read()
    copy.write_text(committed)
    subprocess.run([os.path.join(ROOT, "scripts/generate_manual.sh"), binary_path(), str(copy)], check=True, timeout=30)
    assert copy.read_text() == committed, "run `make manual`"
    for key in re.findall(r"^  (\w+)", run("--help-config"), re.MULTILINE):
        assert f".It Ic {key} No =" in committed


def test_the_commands_and_options_of_the_usage_are_in_the_manual():
    manual = open(page("pgreserve.1")).read().replace("\\-", "-")
    usage = run("--help").replace("pgreserve just runs", "")
    for word in set(re.findall(r"pgreserve \[?([a-z][a-z-]+)", usage)) | set(re.findall(r"(--[a-z-]+)", usage)):
        assert word in manual, word


def test_the_version_comes_from_one_place():
    version = open(os.path.join(ROOT, "VERSION")).read().strip()
    assert run("--version") == f"pgreserve {version}\n"
    changelog = open(os.path.join(ROOT, "CHANGELOG.md")).read()
    assert re.search(r"^## \[([\d.]+)\]", changelog, re.MULTILINE).group(1) == version
    debian = open(os.path.join(ROOT, "debian/changelog")).read()
    assert debian.startswith(f"pgreserve ({version}) ")
