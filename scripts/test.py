#!/usr/bin/python3
"""Runs the tests and says in its last line how it went: `N passed, N failed`.

    test.py                          everything: what `make test` does once the packages are there
    test.py --programs FILE...       these unit or property test programs
    test.py --fuzz-regression FILE...  the inputs of tests/fuzz/corpus through these fuzz targets
    test.py --integration PROGRAM    the integration tests against this pgreserve
    test.py --browser PROGRAM        the page of this pgreserve in a browser
    test.py --sanitized              build-asan and its unit, property and integration tests
    test.py --valgrind PROGRAM       unit tests and some integration tests of this pgreserve under memcheck

An integration test that fails while others run beside it is run once more alone, and named as unsteady when it
passes then: a busy machine is no fault of the program's, but such a test wants a look.

A part that fails does not keep the others from running.  Each build and each check of `make lint` counts as
one test; a unit test program counts its cmocka tests (it is asked for TAP), or itself when it has none.
The summary also goes to build/test-summary.  The exit status is 0 only when something ran and nothing failed.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CORES = len(os.sched_getaffinity(0))
LINTS = ("lint-floors", "lint-format", "lint-cppcheck", "lint-tidy")
PROGRAM_SECONDS = 300
INTEGRATION_SECONDS = 2400
UNSTEADY_MOST = 10  # more failures than this are no accident of a busy machine
MEMCHECK = ["valgrind", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite",
            "--show-leak-kinds=definite", "--num-callers=30", "--trace-children=yes"]
# What reaches most of the code in minutes: under valgrind the daemon is twenty times slower.
MEMCHECKED = ("test_sharing_settings", "test_sharing_pins", "test_client_tls", "test_reload", "test_found_by_random_sessions",
              "test_cancel", "test_who_holds_them", "test_upgrade", "test_upstream_faults", "test_timeouts", "test_shutdown")
# Those about speed, about time limits that are short, and about a program that is replaced, which here is valgrind's.
NOT_MEMCHECKED = "not load and not thousands and not broken and not session_mode_and_statement and not in_mid_query and not back_off"
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


class Tally:
    """What has run so far."""

    def __init__(self):
        self.passed = 0
        self.failures = []
        self.skips = []
        self.unsteady = []  # failed among others, passed alone

    def count(self, what, went_well):
        if went_well:
            self.passed += 1
        else:
            self.failures.append(what)
        return went_well

    def summary(self):
        return f"{self.passed} passed, {len(self.failures)} failed"


def say(text):
    print(text, flush=True)


def end_group(process, first):
    """Ends a process and its children: asks with signal `first`, then does not ask."""
    for number, patience in ((first, 10), (signal.SIGTERM, 5), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            return process.communicate(timeout=patience)[0] or ""
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
    return process.communicate()[0] or ""


def run(command, seconds, environment=None, capture=False):
    """Runs it in a process group of its own, which ends with it; (exit status, output)."""
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, start_new_session=True,
        stdin=subprocess.DEVNULL, text=True, errors="replace",
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.STDOUT if capture else None)
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output or ""
    except subprocess.TimeoutExpired:
        return -1, end_group(process, signal.SIGTERM) + f"\nended after {seconds} s"
    except KeyboardInterrupt:
        end_group(process, signal.SIGINT)
        raise


def run_quietly(tally, what, command, seconds=PROGRAM_SECONDS):
    """One command that is one test; its output matters only when it fails."""
    started = time.monotonic()
    status, output = run(command, seconds, capture=True)
    went_well = tally.count(what, status == 0)
    say(f"{'ok  ' if went_well else 'FAIL'} {what} ({time.monotonic() - started:.0f} s)")
    if not went_well:
        say(output)
    return went_well


def build(tally, what, *variables, targets=("all", "tests")):
    return run_quietly(tally, what, ["make", "--no-print-directory", f"-j{CORES}", *variables, *targets],
                       seconds=900)


def run_programs(tally, programs, label=""):
    for program in programs:
        name = label + os.path.basename(program)
        started = time.monotonic()
        status, output = run([os.path.abspath(program)], PROGRAM_SECONDS,
                             {"CMOCKA_MESSAGE_OUTPUT": "TAP", **SANITIZERS}, capture=True)
        results = re.findall(r"^(not ok|ok) \d+ - (.*)$", output, re.MULTILINE)
        for result, test in results:
            tally.count(f"{name}: {test}", result == "ok")
        failed = sum(result != "ok" for result, _ in results)
        if not results or (status != 0 and not failed):  # no cmocka in it, or it died on the way
            tally.count(name, status == 0)
            failed += status != 0
        say(f"{'FAIL' if failed else 'ok  '} {name}: {len(results) or 1} tests"
            f" ({time.monotonic() - started:.1f} s)")
        if failed:
            say(f"{output}exit status {status}")


def programs_of(directory):
    """The test programs of a build, by their sources: one that did not build is missed, not forgotten."""
    found = []
    for kind, prefix in (("unit", "test_"), ("property", "property_")):
        folder = os.path.join(ROOT, "tests", kind)
        found += [os.path.join(directory, "tests", kind, name[:-2]) for name in sorted(os.listdir(folder))
                  if name.startswith(prefix) and name.endswith(".c")]
    return found


def run_fuzz_regression(tally, programs, label=""):
    """Each target plays its corpus, and counts as one test."""
    for program in programs:
        name = os.path.basename(program)
        corpus = os.path.join(ROOT, "tests/fuzz/corpus", name.removeprefix("fuzz_"))
        started = time.monotonic()
        status, output = -1, "it was not built\n"
        if os.path.exists(program):
            status, output = run([os.path.abspath(program), corpus], PROGRAM_SECONDS, SANITIZERS, capture=True)
        went_well = tally.count(f"{label}{name}", status == 0)
        say(f"{'ok  ' if went_well else 'FAIL'} {label}{name} ({time.monotonic() - started:.1f} s)")
        if not went_well:
            say(f"{output[-8000:]}exit status {status}")


def fuzz_targets_of(directory):
    folder = os.path.join(ROOT, "tests/fuzz")
    return [os.path.join(directory, "tests/fuzz", name[:-2]) for name in sorted(os.listdir(folder))
            if name.startswith("fuzz_") and name.endswith(".c") and name != "fuzz_main.c"]


def pytest(program, *arguments):
    """Runs it; (status, the test cases of its report)."""
    report = tempfile.NamedTemporaryFile(suffix=".xml")
    status, _ = run(
        ["/usr/bin/python3", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments,
         f"--junitxml={report.name}"], INTEGRATION_SECONDS,
        {"PGRESERVE_BINARY": os.path.abspath(program), "PYTHONDONTWRITEBYTECODE": "1", **SANITIZERS})
    try:
        return status, list(ElementTree.parse(report.name).iter("testcase"))
    except ElementTree.ParseError:  # pytest did not live to write it
        return status, []


def is_broken(case):
    return case.find("failure") is not None or case.find("error") is not None


def node_of(case):
    return f"{case.get('classname').replace('.', '/')}.py::{case.get('name')}"


def passed_alone(program, broken):
    """The nodes among a few broken cases that pass when they have the machine to themselves."""
    nodes = {node_of(case) for case in broken}
    if not 0 < len(nodes) <= UNSTEADY_MOST:
        return set()
    say(f"once more, one by one: {' '.join(sorted(nodes))}")
    _, cases = pytest(program, *sorted(nodes))
    return {node_of(case) for case in cases} - {node_of(case) for case in cases if is_broken(case)}


def run_pytest(tally, folder, program, workers, label=""):
    if not os.path.exists(program):
        tally.count(f"{label}{folder}: there is no {program}", False)
        return
    status, cases = pytest(program, folder, "-n", str(workers))
    broken = [case for case in cases if is_broken(case)]
    unsteady = passed_alone(program, broken)
    counted = 0
    for case in cases:
        name = f"{label}{case.get('classname')}: {case.get('name')}"
        skipped = case.find("skipped")
        if skipped is not None and not is_broken(case):
            tally.skips.append(f"{name}: {skipped.get('message')}")
            continue
        if is_broken(case):
            counted += 1
            if node_of(case) in unsteady:
                tally.unsteady.append(name)
        tally.count(name, not is_broken(case) or node_of(case) in unsteady)
    if status != 0 and not counted:
        tally.count(f"{label}{folder} as a whole (status {status})", False)


def run_integration(tally, program, label=""):
    run_pytest(tally, "tests/integration", program, min(max(2, CORES), 4), label)


def run_browser(tally, program):
    run_pytest(tally, "tests/browser", program, 1)


def run_sanitized(tally):
    if not build(tally, "build with ASan and UBSan", "BUILD=build-asan", "SANITIZE=address,undefined"):
        return
    run_programs(tally, programs_of("build-asan"), "ASan ")
    run_fuzz_regression(tally, fuzz_targets_of("build-asan"), "ASan ")
    run_integration(tally, "build-asan/pgreserve", "ASan ")


def memcheck_wrapper(program, logs):
    """A script that runs the program under memcheck: the tests take it for the program."""
    wrapper = os.path.join(logs, "pgreserve")
    with open(wrapper, "w") as script:
        script.write(f"#!/bin/sh\nexec {' '.join(MEMCHECK)} --log-file={logs}/daemon.%p {os.path.abspath(program)} \"$@\"\n")
    os.chmod(wrapper, 0o755)
    return wrapper


def memcheck_errors(logs):
    """How many the logs tell of, and what they say of each process that had some."""
    errors, told, processes = 0, [], 0
    for name in sorted(os.listdir(logs)):
        if name == "pgreserve":
            continue
        with open(os.path.join(logs, name), errors="replace") as file:
            text = file.read()
        found = sum(int(number) for number in re.findall(r"ERROR SUMMARY: (\d+) errors", text))
        processes += 1
        errors += found
        if found:
            told.append(f"{name}:\n{text[-6000:]}")
    return errors, told, processes


def run_valgrind(tally, program):
    logs = os.path.join(os.path.dirname(os.path.abspath(program)), "valgrind")
    shutil.rmtree(logs, ignore_errors=True)
    os.makedirs(logs)
    for test in programs_of(os.path.dirname(program)):
        if "/unit/" not in test:
            continue
        name = os.path.basename(test)
        run_quietly(tally, f"memcheck {name}", [*MEMCHECK, f"--log-file={logs}/{name}.%p", os.path.abspath(test)])
    files = [f"tests/integration/{name}.py" for name in MEMCHECKED]
    _, cases = pytest(memcheck_wrapper(program, logs), *files, "-n", str(max(2, CORES)), "-k", NOT_MEMCHECKED)
    for case in cases:
        if case.find("skipped") is None:
            tally.count(f"memcheck {node_of(case)}", not is_broken(case))
    errors, told, processes = memcheck_errors(logs)
    for text in told[:20]:
        say(text)
    say(f"memcheck: {errors} errors in {processes} processes")
    tally.count(f"memcheck: {errors} errors", errors == 0 and processes > 0)


def run_everything(tally):
    built = build(tally, "build with gcc")
    if built:
        run_programs(tally, programs_of("build"))
        run_fuzz_regression(tally, fuzz_targets_of("build"))
    build(tally, "build with clang", "BUILD=build-clang", "CC=clang")
    for lint in LINTS:
        run_quietly(tally, lint, ["make", "--no-print-directory", lint], seconds=900)
    if built:
        run_integration(tally, "build/pgreserve")
        run_browser(tally, "build/pgreserve")
    run_sanitized(tally)


def main():
    parser = argparse.ArgumentParser(description="Runs the tests of pgreserve.")
    parser.add_argument("--programs", nargs="*", metavar="FILE")
    parser.add_argument("--fuzz-regression", nargs="*", metavar="FILE")
    parser.add_argument("--integration", metavar="PROGRAM")
    parser.add_argument("--browser", metavar="PROGRAM")
    parser.add_argument("--sanitized", action="store_true")
    parser.add_argument("--valgrind", metavar="PROGRAM")
    options = parser.parse_args()

    os.chdir(ROOT)
    tally = Tally()
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.programs is not None:
            run_programs(tally, options.programs)
        elif options.fuzz_regression is not None:
            run_fuzz_regression(tally, options.fuzz_regression)
        elif options.integration:
            run_integration(tally, options.integration)
        elif options.browser:
            run_browser(tally, options.browser)
        elif options.sanitized:
            run_sanitized(tally)
        elif options.valgrind:
            run_valgrind(tally, options.valgrind)
        else:
            run_everything(tally)
    except KeyboardInterrupt:
        tally.count("interrupted", False)

    say("")
    for skip in tally.skips:
        say(f"skipped: {skip}")
    for name in tally.unsteady:
        say(f"unsteady, passed when run alone: {name}")
    for failure in tally.failures:
        say(f"failed: {failure}")
    say(f"{time.monotonic() - started:.0f} s, {len(tally.skips)} skipped")
    os.makedirs("build", exist_ok=True)
    with open("build/test-summary", "w") as file:
        file.write(tally.summary() + "\n")
    say(tally.summary())
    sys.exit(0 if tally.passed and not tally.failures else 1)


if __name__ == "__main__":
    main()
