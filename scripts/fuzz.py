#!/usr/bin/python3
"""Runs the fuzz targets of a build with libFuzzer, each for a bounded time, and says what was executed and covered.

    fuzz.py --build build-fuzz [--seconds 60] [NAME...]

Each begins with tests/fuzz/corpus/NAME and keeps what it finds in BUILD/found/NAME, from which the next run goes on.
Whatever breaks a claim or a sanitizer's rule is left in BUILD/crashes/NAME-*, named at the end, and the status is 1.
"""

import argparse
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CORPUS = os.path.join(ROOT, "tests/fuzz/corpus")
LONGEST = {"config": 4096, "http": 2048, "sql": 1024}  # bytes of an input; 512 else


def targets():
    return sorted(name[5:-2] for name in os.listdir(os.path.join(ROOT, "tests/fuzz"))
                  if name.startswith("fuzz_") and name.endswith(".c") and name != "fuzz_main.c")


def run(build, name, seconds):
    """(status, executions, covered edges, edges, files in the corpus, what it said)"""
    found = os.path.join(build, "found", name)
    crashes = os.path.join(build, "crashes", "")
    for folder in (found, crashes):
        os.makedirs(folder, exist_ok=True)
    seeds = os.path.join(CORPUS, name)
    command = [os.path.join(build, "tests/fuzz", f"fuzz_{name}"), f"-max_total_time={seconds}",
               f"-max_len={LONGEST.get(name, 512)}", "-len_control=20", "-timeout=25", "-rss_limit_mb=4096",
               "-print_final_stats=1", f"-artifact_prefix={crashes}{name}-", found]
    if os.path.isdir(seeds):
        command.append(seeds)
    result = subprocess.run(command, cwd=build, stdin=subprocess.DEVNULL, text=True, errors="replace",
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    executed = re.search(r"number_of_executed_units: (\d+)", result.stdout)
    covered = re.findall(r"cov: (\d+)", result.stdout)
    edges = re.search(r"\((\d+) inline 8-bit counters\)", result.stdout)
    return (result.returncode, int(executed.group(1)) if executed else 0, int(covered[-1]) if covered else 0,
            int(edges.group(1)) if edges else 0, len(os.listdir(found)), result.stdout)


def main():
    parser = argparse.ArgumentParser(description="Runs the fuzz targets.")
    parser.add_argument("--build", required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    build = os.path.abspath(options.build)
    failed = []
    for name in options.names or targets():
        status, executed, covered, edges, kept, said = run(build, name, options.seconds)
        print(f"{name:14} {executed:10} executions, {covered:6} of {edges} edges covered, {kept} inputs found"
              + (f"  FAILED (status {status})" if status else ""), flush=True)
        if status:
            failed.append(name)
            print(said[-6000:], flush=True)
    if failed:
        print(f"failed: {' '.join(failed)}; the inputs are in {build}/crashes")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
