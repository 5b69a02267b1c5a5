"""Nobody makes every query dearer unnoticed: instructions, allocations and system calls of a transaction are counted.

Figures that noise cannot move, beside those in instructions.json; `instructions.py --accept` writes new ones down, and
`--show=30` says where they are spent.  The compiler has its part in them, hence the tolerance.
"""

import shutil

import pytest

import instructions
from proxy import binary_path, is_sanitized

TIMES = 60


def is_instrumented():
    with open(binary_path(), "rb") as file:
        return b"__gcov" in file.read()


def test_a_transaction_costs_what_it_did(shared_postgres):
    if is_sanitized() or is_instrumented():
        pytest.skip("a program built for sanitizers or coverage runs other instructions")
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    proxy = instructions.counting_proxy(shared_postgres)
    try:
        figures = instructions.measure(proxy, TIMES)
        proxy.stop()
    finally:
        proxy.destroy()
    shared_postgres.wait_for_backends(0)
    problems = []
    for name, expected in instructions.expected().items():
        for what, count in expected.items():
            now = figures[name][what]
            most = count * (1 + instructions.TOLERANCE) if what == "instructions" else count + 0.05
            if now > most:
                problems.append(f"{name}: {what} {now}, were {count}")
    assert not problems, ("a transaction costs more than it did: " + "; ".join(problems) + ".  Where: tests/integration/"
                          "instructions.py --show=30.  If it is worth that: the same with --accept")
