"""Load beside a test: pgbench, which must not meet one error, and a sampler that counts what the server shows."""

import json
import os
import subprocess
import sys

from server import PASSWORD, ROLE

HERE = os.path.dirname(os.path.abspath(__file__))


class Sampler:
    """sampler.py beside the test: the most connections that the server ever showed."""

    def __init__(self, postgres):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "sampler.py"), postgres.directory, str(postgres.port), ROLE],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """What it has seen, from then on in `seen` too."""
        self.seen = json.loads(self.process.communicate("")[0])
        return self.seen


def pgbench(proxy, mode, clients):
    """Each answer is checked: SELECT 1/0 ends it.  pgbench waits for each Parse, so in that mode nobody may hold anything."""
    script = os.path.join(proxy.directory, f"{mode}.sql")
    begin, commit = ("BEGIN;\n", "COMMIT;\n") if mode == "simple" else ("", "")
    with open(script, "w") as file:
        file.write(f"\\set n random(1, 100000)\n{begin}SELECT :n::int AS mine \\gset\n"
                   f"SELECT name FROM things WHERE id = 1 + :n::int % 3;\n{commit}"
                   "\\if :mine <> :n\nSELECT 1/0;\n\\endif\n")
    return subprocess.Popen(
        ["pgbench", "-n", "-h", "127.0.0.1", "-p", str(proxy.port()), "-U", ROLE, "-f", script,
         "-c", str(clients), "-T", "300", "-M", mode, "app"],
        env={**os.environ, "PGPASSWORD": PASSWORD}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end_load(load):
    """Ends pgbench, which must not have met one error until then."""
    assert load.poll() is None, load.communicate()[0]
    load.terminate()  # it may have inherited that INT is ignored
    output = load.communicate()[0]
    for word in ("ERROR", "FATAL", "aborted", "server closed"):
        assert word not in output, output
