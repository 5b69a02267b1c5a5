"""What a transaction costs in instructions: pgreserve under callgrind, a fixed conversation, the difference of two counts.

Time on a machine that does other work says nothing below a few percent; instructions are the same each time.  The
daemon runs under valgrind, a conversation is held once to warm it up, then callgrind's counters are taken, the
conversation held `times` times, and taken again.  Only what runs within the callbacks of a stream is counted, so that
the ticks that happened meanwhile are not; and only instructions in our own program, for libraries differ between
machines.  Calls of ours into them are counted one by one: allocations, reads and writes.
"""

import json
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import wire  # noqa: E402
from proxy import Proxy  # noqa: E402
from server import ROLE  # noqa: E402

FIGURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.json")
TOLERANCE = 0.04
WATCHED = {"malloc": "allocations", "calloc": "allocations", "realloc": "allocations", "syscall": "reads and writes",
           "recv": "reads and writes", "send": "reads and writes", "clock_gettime": "clock reads"}
END = b"Z\0\0\0\5I"
TEXT = "SELECT abalance FROM pgbench_accounts WHERE aid = 12345 AND 1 = 0"
SIMPLE = wire.query(f"SELECT 1 WHERE '{TEXT}' = ''")
EXTENDED = wire.extended(f"SELECT $1 WHERE '{TEXT}' = ''", ("12345",)) + wire.sync()


class Callgrind(Proxy):
    """A daemon under callgrind."""

    def start(self, wait="ready"):
        wrapper = os.path.join(self.directory, "callgrind")
        with open(wrapper, "w") as script:
            script.write("#!/bin/sh\nexec valgrind -q --tool=callgrind --toggle-collect=on_event"
                         " --toggle-collect=on_later --compress-strings=no --compress-pos=no"
                         f" --callgrind-out-file={self.directory}/out {self.program} \"$@\"\n")
        os.chmod(wrapper, 0o755)
        self.program = wrapper
        super().start(wait)

    def take_counts(self):
        """What has been counted since the last time: as read_counts gives it."""
        before = set(os.listdir(self.directory))
        subprocess.run(["callgrind_control", "--dump", str(self.process.pid)], check=True, capture_output=True)
        (new,) = [name for name in set(os.listdir(self.directory)) - before if name.startswith("out.")]
        return read_counts(os.path.join(self.directory, new))


def read_counts(path):
    """(instructions of our program, its calls of others' functions that are watched, instructions by function)."""
    own, calls, functions = 0, {name: 0 for name in WATCHED.values()}, {}
    is_ours, function, callee = False, "", ""
    lines = iter(open(path, errors="replace"))
    for line in lines:
        if line.startswith("ob="):
            is_ours = line.rstrip().endswith("/pgreserve")
        elif line.startswith("fn="):
            function = line[3:].strip()
        elif line.startswith("cfn="):
            callee = line[4:].strip()
        elif line.startswith("calls="):
            name = callee.split("'")[0].split("@")[0]
            if is_ours and name in WATCHED:
                calls[WATCHED[name]] += int(line[6:].split()[0])
            next(lines)  # the callee's own cost
        elif is_ours and line[:1].isdigit():
            cost = int(line.split()[1])
            own += cost
            functions[function] = functions.get(function, 0) + cost
    return own, calls, functions


def converse(clients, messages):
    """All ask, then all hear."""
    for client in clients:
        client.sendall(messages)
    for client in clients:
        answer = b""
        while not answer.endswith(END):
            part = client.recv(65536)
            assert part, "the daemon has closed"
            answer += part
        assert b"SERROR\0" not in answer, answer


def connect(proxy):
    client = socket.create_connection(("127.0.0.1", proxy.port()))
    client.settimeout(60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(wire.startup(user=ROLE, database="app", application_name="count"))
    answer = b""
    while not answer.endswith(END):
        part = client.recv(65536)
        assert part, "the daemon has closed"
        answer += part
    return client


def prepared(client):
    """A statement that the backend knows already when it is counted."""
    converse([client], wire.parse("counted", f"SELECT $1 WHERE '{TEXT}' = ''") + wire.sync())
    return wire.bind("", "counted", ("12345",)) + wire.describe("P") + wire.execute() + wire.sync()


def conversations(proxy):
    """name -> (clients, messages): one client, and four on one backend, so that three wait."""
    one = [connect(proxy)]
    four = [connect(proxy) for _ in range(4)]
    again = prepared(one[0])
    for client in four:
        prepared(client)
    return {"simple": (one, SIMPLE), "extended": (one, EXTENDED), "prepared": (one, again),
            "simple, queued": (four, SIMPLE), "extended, queued": (four, EXTENDED), "prepared, queued": (four, again)}


def measure(proxy, times, show=0):
    """{conversation: {"instructions": ..., "allocations": ...}}, for each transaction."""
    figures = {}
    for name, (clients, messages) in conversations(proxy).items():
        for _ in range(20):
            converse(clients, messages)
        proxy.take_counts()
        for _ in range(times):
            converse(clients, messages)
        own, calls, functions = proxy.take_counts()
        transactions = times * len(clients)
        figures[name] = {"instructions": round(own / transactions),
                         **{what: round(count / transactions, 2) for what, count in calls.items()}}
        if show:
            print(f"\n{name}: {figures[name]}")
            for function, cost in sorted(functions.items(), key=lambda item: -item[1])[:show]:
                print(f"  {cost / transactions:9.1f}  {function}")
    return figures


def counting_proxy(postgres):
    proxy = Callgrind(postgres, automation={"size": 1, "max_overflow": 0, "pre_ping": "off"},
                      adhoc={"size": 1, "reserved": 1}, auth={"method": "trust"},
                      **{"database:*": {"url": "${UPSTREAM}?sslmode=disable"}})
    proxy.start()
    return proxy


def expected():
    with open(FIGURES) as file:
        return json.load(file)


def main():
    """Prints the figures of this tree; with --accept writes them down, with --show=N where they come from."""
    from server import PostgresServer
    show = [int(argument[7:]) for argument in sys.argv if argument.startswith("--show=")]
    postgres = PostgresServer()
    try:
        proxy = counting_proxy(postgres)
        try:
            figures = measure(proxy, 200, show[0] if show else 0)
        finally:
            proxy.process.send_signal(signal.SIGINT)
            proxy.process.wait(timeout=30)
            proxy.destroy()
            proxy.destroy()
    finally:
        postgres.destroy()
    print(json.dumps(figures, indent=1))
    if "--accept" in sys.argv:
        with open(FIGURES, "w") as file:
            json.dump(figures, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
