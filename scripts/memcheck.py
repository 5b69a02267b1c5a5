"""Which tests run under valgrind's memcheck, why the others do not, and what its logs say.

A script stands in the program's place (`wrap`): it runs `pgreserve.program`, which lies beside it, under memcheck, and so does
whatever that starts.  The tests know such a daemon by its first bytes (tests/integration/proxy.py), give it eight times their
patience, and ask nothing about its memory or its speed: `is_sanitized`.

A start takes a daemon 4 seconds of CPU there, so that the whole suite takes two cores some two hours.  `IN_MINUTES` is what
reaches most of the code in ten; `make valgrind VALGRIND=whole` runs every file but those of `NEVER`.
"""

import os
import re

COMMAND = ["valgrind", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite",
           "--show-leak-kinds=definite", "--num-callers=30", "--trace-children=yes",
           "--trace-children-skip=/bin/*,/usr/bin/*"]  # of scripts that tests have the daemon start

IN_MINUTES = ("test_sharing_settings", "test_sharing_pins", "test_client_tls", "test_reload", "test_found_by_random_sessions",
              "test_cancel", "test_who_holds_them", "test_upgrade", "test_upstream_faults", "test_timeouts", "test_shutdown")

# Files of tests/integration that cannot be run under memcheck, or tell nothing there.
NEVER = {
    "test_instructions": "it counts instructions with valgrind's callgrind itself",
    "test_round_trips": "it is about what an upstream far away costs: time, not memory",
    "test_slow_roads": "roads of one byte at a time: hours",
    "test_reset_at_every_byte": "a conversation for each byte of a conversation: hours",
    "test_differential": "random sessions beside PostgreSQL's own, as many as fit into its time",
    "test_chaos": "it is load, sampled; nothing of it is left at a twentieth of the speed",
    "test_own_answers": "hundreds of clients for as long as it takes to get so many answers",
    "test_large": "a GB in and out, which is about memory",
    "test_memory_bounds": "it asks how much memory is taken",
    "test_memory_upstream": "it asks how much memory is taken",
    "test_out_of_everything": "its preloaded library must stand between the program and the C library, where memcheck's stands",
    "test_wrong_clocks": "the same preloaded library",
    "test_install": "it installs from the directory of the program that is tested",
    "test_make_run": "it starts the program by a script of our own that asks for its version first, within a second",
    "test_documents": "no daemon in it",
    "test_manual": "no daemon in it",
    "test_readme": "the commands of README, with time limits of their own",
}

# And single tests.
NEVER_ONE = {
    "test_upgrade.py::test_ten_upgrades_under_load_lose_nothing": "load, against limits in seconds",
    "test_reload.py::test_a_hundred_reloads_under_load_harm_nobody": "load, against limits in seconds",
    "test_admin_show.py::test_figures_agree_with_pg_stat_activity_under_load": "load, against limits in seconds",
    "test_cancel.py::test_thousands_of_cancels_at_hand_over_hit_nobody_else": "thousands take too long",
    "test_upgrade.py::test_broken_new_program_leaves_the_old_one_serving[not a program-Exec format error]":
        "valgrind makes of vfork() a fork(), so that posix_spawn() cannot say that exec failed",
}

# Programs of tests/property that take memcheck a minute and more.
LONG = ("property_command", "property_config", "property_outstanding", "property_pool")

ERROR = re.compile(r"^==\d+== (?:Invalid |Conditional jump|Use of uninit|Syscall param|Mismatched |Source and dest|Argument '|"
                   r"Process terminating with default action of signal (?:4|6|7|8|11) )", re.MULTILINE)


def files(is_whole, folder):
    names = list(IN_MINUTES)
    if is_whole:
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
