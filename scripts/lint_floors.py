#!/usr/bin/python3
"""Checks that the folders of src/ are floors: a file includes only from its own floor and those below it.

Further: the pure floors (policy, proto) do no I/O and read no clock, so they may not include what would let
them; no source file is longer than 600 lines, for two stories would share it; nothing is marked as left to do.
"""

import glob
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FLOORS = ("base", "proto", "policy", "config", "net", "proxy", "admin", "cli")  # from the ground up
PURE = ("proto", "policy")
IMPURE_HEADERS = re.compile(
    r"(event\.h|event2/.*|sys/(socket|un|epoll|poll|select|stat|file|uio)\.h|netdb\.h|netinet/.*|arpa/.*|poll\.h"
    r"|fcntl\.h|unistd\.h|libpq-fe\.h|openssl/.*|pthread\.h|base/clock\.h|base/log\.h)$")
IMPURE_ALLOWED = {"src/proto/scram.c": re.compile(r"openssl/")}
LONGEST = 600
MARKS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def floor_of(path):
    """The height of src/FLOOR/file, or the roof for src/main.c; None when the folder is no floor."""
    folder = path.split("/")[1] if path.count("/") > 1 else None
    if folder is None:
        return len(FLOORS)
    return FLOORS.index(folder) if folder in FLOORS else None


def check_include(path, floor, quote, header):
    name = FLOORS[floor] if floor < len(FLOORS) else "main"
    if quote == '"':
        if not os.path.exists(os.path.join(ROOT, "src", header)):
            return f"includes {header}, which is not in src/"
        target = floor_of("src/" + header)
        if target is None or target > floor:
            return f"includes {header}, which lies above {name}/"
    allowed = IMPURE_ALLOWED.get(path)
    if name in PURE and IMPURE_HEADERS.search(header) and not (allowed and allowed.match(header)):
        return f"includes {header}, but {name}/ is pure: no I/O, no clock"
    return None


def check_source(path, lines):
    floor = floor_of(path)
    if floor is None:
        yield 1, "lies in a folder that is no floor: " + ", ".join(FLOORS)
        return
    if len(lines) > LONGEST:
        yield len(lines), f"has {len(lines)} lines, more than {LONGEST}: split its stories"
    for number, line in enumerate(lines, 1):
        include = INCLUDE.match(line)
        problem = include and check_include(path, floor, *include.groups())
        if problem:
            yield number, problem


def read_lines(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read().splitlines()


def files(*patterns):
    return sorted(path for pattern in patterns
                  for path in glob.glob(pattern, root_dir=ROOT, recursive=True) if os.path.isfile(path))


def main():
    os.chdir(ROOT)
    problems = []
    for path in files("src/**/*.[ch]"):
        problems += [(path, *problem) for problem in check_source(path, read_lines(path))]
    for path in files("src/**/*", "tests/**/*.[ch]", "tests/**/*.py", "scripts/*", "conf/*", "Makefile"):
        problems += [(path, number, "is marked as left to do")
                     for number, line in enumerate(read_lines(path), 1) if MARKS.search(line)]
    for path, number, problem in problems:
        print(f"{path}:{number}: {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
