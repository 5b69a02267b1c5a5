"""Which tests run under valgrind's memcheck, why the others do not, and what its logs say.

A script stands in the program's place (`wrap`): it runs `pgreserve.program`, which lies beside it, under memcheck, and so does
whatever that starts.  The tests know such a daemon by its first bytes (tests/integration/proxy.py), give it eight times their
patience, and ask nothing about its memory or its speed: `is_sanitized`.

A start takes a daemon 4 seconds of CPU there, so that the whole suite takes two cores some hours.  `IN_MINUTES` is what such a
machine does in ten, others being at work on it too; `make valgrind VALGRIND="test_auth test_hba"` runs those files,
`VALGRIND=whole` every file but those of `NEVER`.
"""

import os
import re

COMMAND = ["valgrind", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite",
           "--show-leak-kinds=definite", "--num-callers=30", "--trace-children=yes",
           f"--suppressions={os.path.join(os.path.dirname(os.path.abspath(__file__)), 'memcheck.supp')}",
           "--trace-children-skip=/bin/*,/usr/bin/*"]  # of scripts that tests have the daemon start

# For the tests: libpq derives a key at every login, which takes it more than a second there with the usual 4096.
ENVIRONMENT = {"PGRESERVE_SCRAM_ITERATIONS": "16"}

WHOLE = "whole"
IN_MINUTES = ("test_cancel", "test_client_tls", "test_upgrade", "test_upstream_faults")

# Files of tests/integration that cannot be run under memcheck, or have nothing for it to watch.
NEVER = {
    "test_documents": "no program is run in it",
    "test_install": "it builds and installs a program of its own, whatever is tested",
    "test_instructions": "it counts instructions by valgrind's callgrind itself",
}

# And single tests.
NEVER_ONE = {
    "test_upgrade.py::test_ten_upgrades_under_load_lose_nothing": "load, against limits in seconds",
    "test_reload.py::test_a_hundred_reloads_under_load_harm_nobody": "load, against limits in seconds",
    "test_admin_show.py::test_figures_agree_with_pg_stat_activity_under_load": "load, against limits in seconds",
    "test_upgrade.py::test_session_mode_and_statement_mode": "the new process's first login takes longer than shutdown_timeout there",
    "test_cancel.py::test_thousands_of_cancels_at_hand_over_hit_nobody_else": "thousands take too long",
    "test_chaos.py::test_the_cap_and_the_reservation_hold_in_chaos": "how much load came through is asked, too",
    "test_descriptors.py::test_too_few_for_max_clients_is_said_at_the_start_and_when_it_is_changed":
        "valgrind keeps descriptors for itself, and shows another limit than the test sets",
    "test_http.py::test_running_out_of_descriptors_is_no_busy_loop_and_no_end": "the same",
    "test_memory_upstream.py::test_login_with_one_huge_message": "valgrind does not keep the program to RLIMIT_DATA",
    "test_secrets.py::test_url_of_status_is_taken_off_the_command_line": "the command line is valgrind's own",
    "test_systemd.py::test_an_upgrade_names_the_new_main_process_and_feeds_its_watchdog":
        "an upgrade takes seconds there, and the watchdog's words fill the socket that the test reads afterwards",
    "test_systemd.py::test_root_becomes_the_configured_user_for_good": "that user may not read the program that stands beside",
    "test_upgrade.py::test_broken_new_program_leaves_the_old_one_serving[not a program-Exec format error]":
        "valgrind makes of vfork() a fork(), so that posix_spawn() cannot say that exec failed",
}

# Programs of tests/unit and tests/property that take memcheck a minute and more.
LONG = ("property_command", "property_config", "property_outstanding", "property_pool", "test_scram")

ERROR = re.compile(r"^==\d+== (?:Invalid |Conditional jump|Use of uninit|Syscall param|Mismatched |Source and dest|Argument '|"
                   r"Process terminating with default action of signal (?:4|6|7|8|11) )", re.MULTILINE)


def files(which, folder):
    """`which`: "", "whole", or names."""
    names = which.split() or IN_MINUTES
    if which == WHOLE:
        names = sorted(name[:-3] for name in os.listdir(folder) if name.startswith("test_") and name.endswith(".py"))
    return [os.path.join(folder, f"{name}.py") for name in names if name not in NEVER]


def deselection():
    """For pytest."""
    return [word for node in NEVER_ONE for word in ("--deselect", f"tests/integration/{node}")]


def wrap(program, logs):
    """The script that the tests take for the program."""
    wrapper = os.path.join(logs, "pgreserve")
    os.symlink(os.path.abspath(program), wrapper + ".program")
    with open(wrapper, "w") as script:
        script.write(f"#!/bin/sh\nexec {' '.join(COMMAND)} --log-file={logs}/daemon.%p \"$0.program\" \"$@\"\n")
    os.chmod(wrapper, 0o755)
    return wrapper


class Verdict:
    """What the logs in a directory say, one a process: `name.PID`."""

    def __init__(self, logs):
        self.processes = self.errors = self.ended = 0
        self.told = []
        for name in sorted(os.listdir(logs)):
            if re.search(r"\.\d+$", name):
                with open(os.path.join(logs, name), errors="replace") as file:
                    self._read(name, file.read())

    def _read(self, name, text):
        summaries = re.findall(r"ERROR SUMMARY: (\d+) errors", text)
        found = sum(map(int, summaries)) if summaries else len(ERROR.findall(text))
        self.processes += 1
        self.ended += bool(summaries)
        self.errors += found
        if found:
            self.told.append(f"{name}:\n{text[-6000:]}")

    def __str__(self):
        return (f"memcheck watched {self.processes} processes, {self.processes - self.ended} of them killed before their leaks"
                f" were counted: {self.errors} errors")
