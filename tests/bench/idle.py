"""Many clients that do nothing: what memory each takes, plain and by TLS, and how fast they are let in.

Memory is the growth of the proxy's anonymous memory, once after all have logged in and once after each has run a query,
divided by their number.  It does not depend on how busy the machine is: one round is enough.
"""

import time

import bulk
import machine
import parties

import wire  # noqa: E402


def measure(party, clients, tls):
    connections = []
    try:
        for _ in range(100):  # what the first ones make it take is not theirs
            connections.append(bulk.open_socket(party.port, tls))
            ask(connections[-1])
        before, cpu, started = machine.memory_kb(party.process.pid), party.cpu_seconds(), time.monotonic()
        connections += [bulk.open_socket(party.port, tls) for _ in range(clients)]
        seconds, cpu = time.monotonic() - started, party.cpu_seconds() - cpu
        idle = machine.memory_kb(party.process.pid)
        for connection in connections:
            ask(connection)
        used = machine.memory_kb(party.process.pid)
    finally:
        for connection in connections:
            connection.close()
    return {"bytes_per_client": (idle - before) * 1024 / clients,
            "bytes_per_used_client": (used - before) * 1024 / clients,
            "logins_per_s": clients / seconds, "login_cpu_us": cpu * 1e6 / clients}


def ask(connection):
    connection.sendall(wire.query("SELECT 1"))
    bulk.read_to_end(connection)
