#!/usr/bin/python3
"""Runs the tests and says in its last line how it went: `N passed, N failed`.

    test.py                          everything: what `make test` does once the packages are there
    test.py --programs FILE...       these unit or property test programs
    test.py --fuzz-regression FILE...  the inputs of tests/fuzz/corpus through these fuzz targets
    test.py --integration PROGRAM    the integration tests against this pgreserve
    test.py --browser PROGRAM        the page of this pgreserve in a browser
    test.py --sanitized              build-asan and its unit, property and integration tests
    test.py --valgrind PROGRAM       this pgreserve, and the test programs beside it, under memcheck (memcheck.py)

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
from concurrent.futures import ThreadPoolExecutor

import memcheck

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CORES = len(os.sched_getaffinity(0))
LINTS = ("lint-floors", "lint-format", "lint-cppcheck", "lint-tidy")
PROGRAM_SECONDS = 300
INTEGRATION_SECONDS = 2400
MEMCHECK_SECONDS = 900
UNSTEADY_MOST = 10  # more failures than this are no accident of a busy machine
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
        cases = ElementTree.parse(report.name).iter("testcase")
        return status, [case for case in cases if case.get("classname")]  # none: pytest's own end, not a test's
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


def run_pytest(tally, folder, program, workers, label="", *arguments):
    """A folder, or several of its files."""
    if not os.path.exists(program):
        tally.count(f"{label}{folder}: there is no {program}", False)
        return
    status, cases = pytest(program, *([folder] if isinstance(folder, str) else folder), "-n", str(workers), *arguments)
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


def run_under_memcheck(tally, program, arguments, logs):
    name = os.path.basename(program)
    run_quietly(tally, f"memcheck {name}",
                [*memcheck.COMMAND, f"--log-file={logs}/{name}.%p", os.path.abspath(program), *arguments], MEMCHECK_SECONDS)


def run_files_under_memcheck(tally, wrapper, files, is_whole):
    """One after the other when it is the whole suite, whose end may never come."""
    for part in [[file] for file in files] if is_whole else [files]:
        say(f"memcheck: {' '.join(part)}")
        run_pytest(tally, part, wrapper, CORES + 1, "memcheck ", *memcheck.deselection())
    if is_whole:
        for what, reason in {**memcheck.NEVER, **memcheck.NEVER_ONE}.items():
            say(f"not under memcheck: {what}: {reason}")


def run_valgrind(tally, program, which):
    """Everything beside `program` that needs no server, and then integration tests of it."""
    beside = os.path.dirname(program)
    logs = os.path.join(os.path.abspath(beside), "valgrind")
    shutil.rmtree(logs, ignore_errors=True)
    os.makedirs(logs)
    os.environ.update(memcheck.ENVIRONMENT)
    is_whole = which == memcheck.WHOLE
    alone = [(test, []) for test in programs_of(beside) if is_whole or os.path.basename(test) not in memcheck.LONG]
    alone += [(target, [os.path.join(ROOT, "tests/fuzz/corpus", os.path.basename(target).removeprefix("fuzz_"))])
              for target in fuzz_targets_of(beside)]
    with ThreadPoolExecutor(CORES) as cores:
        for job in [cores.submit(run_under_memcheck, tally, test, arguments, logs) for test, arguments in alone]:
            job.result()
    try:
        run_files_under_memcheck(tally, memcheck.wrap(program, logs), memcheck.files(which, "tests/integration"), is_whole)
    finally:  # what has run by then counts, when it is interrupted
        verdict = memcheck.Verdict(logs)
        for text in verdict.told[:20]:
            say(text)
        say(str(verdict))
        tally.count(str(verdict), verdict.errors == 0 and verdict.processes > 0)


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
    parser.add_argument("--files", default="", help="under valgrind: whole, or names as in memcheck.py")
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
            run_valgrind(tally, options.valgrind, options.files)
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
