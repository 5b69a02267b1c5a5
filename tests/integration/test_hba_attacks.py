"""Whoever tries to slip past the lines of hba_file: by a name that the server reads otherwise, by files that are none, by time.

A user would lose the rules that kept strangers out, or all clients would wait for one.
"""

import os

import pytest

import wire
from server import PASSWORD, ROLE
from test_hba import authority, certificates, come, reference, with_rules, write_files  # noqa: F401
from waiting import wait_until
from wire import Wire

LONG = "a" * 63


def refusal(proxy, user, database="app", **parameters):
    """The SQLSTATE that this client is refused with; None: it came in."""
    try:
        with Wire(proxy.port()) as client:
            client.login(user, "x", database, **parameters)
    except wire.ErrorResponse as error:
        return error.sqlstate
    return None


def start(start_proxy, tmp_path, lines, **sections):
    """Without a users_file: who is trusted comes to the upstream as its own user."""
    rules = tmp_path / "pg_hba.conf"
    rules.write_text(lines)
    proxy = start_proxy(auth={"hba_file": rules, **sections.pop("auth", {})}, **sections)
    proxy.rules = rules
    return proxy


def test_a_name_that_the_server_cuts_is_cut_before_rules_are_asked(start_proxy, tmp_path):
    proxy = start(start_proxy, tmp_path, f"host all {LONG} all reject\nhost {LONG} all all reject\nhost all all all trust\n")
    assert refusal(proxy, LONG) == "28000"
    assert refusal(proxy, LONG + "b") == "28000"
    assert refusal(proxy, "ann", LONG + "b") == "28000"
    assert refusal(proxy, "ann") is None


@pytest.mark.parametrize("value", ["f", "fa", "of", "n", "OFF"])
def test_what_the_server_takes_for_no_replication_is_not_let_in_by_the_lines_for_it(start_proxy, tmp_path, value):
    proxy = start(start_proxy, tmp_path, "host replication all all trust\n")
    assert refusal(proxy, ROLE, replication=value) == "28000"


def test_replication_of_no_known_kind_is_refused_at_once(start_proxy, tmp_path):
    proxy = start(start_proxy, tmp_path, "host replication all all trust\n")
    with Wire(proxy.port()) as client:
        client.send(wire.startup(user=ROLE, database="app", replication="o"))
        error = client.final_error()
        assert (error.sqlstate, error.message) == ("22023", 'invalid value for parameter "replication": "o"')
