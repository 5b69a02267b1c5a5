"""Conversations whose every answer is known beforehand, and what must be true after any of them has met a fault.

`Marks(postgres).converse(port)` logs in, asks in both protocols, writes a row in a transaction and one by COPY, and leaves; it
notes which rows were confirmed, which answers were wrong, and who got none in time.  `check()` compares with the table: each
row is there once at most, and every confirmed one is.
"""

import collections
import itertools

import wire
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire

CAP = 8  # of the small default (proxy.py)


class Marks:
    """What the conversations wrote, and what they were told of it."""

    def __init__(self, postgres):
        self.postgres = postgres
        self.numbers = itertools.count(1)
        self.confirmed = []
        self.wrong = []
        self.unanswered = []
        self.told = collections.Counter()  # SQLSTATE of each error
        self.whole = self.broken = 0
        with postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {ROLE}")
            cursor.execute("DROP TABLE IF EXISTS marks")
            cursor.execute("CREATE TABLE marks (mark text NOT NULL)")
        connection.close()

    def expect(self, answer, value, mark):
        if answer.errors:
            raise answer.errors[0]
        if value is not None and answer.value != value:
            self.wrong.append((mark, value, answer.value))

    def converse(self, port):
        """A login, a query in each protocol, a transaction, a COPY.  An end may come at any moment; True: it did not."""
        mark = str(next(self.numbers))
        try:
            with Wire(port) as client:
                client.login(ROLE, PASSWORD, "app")
                self.expect(client.query(f"SELECT 'simple {mark}'"), f"simple {mark}", mark)
                self.expect(client.ask(wire.extended("SELECT $1::text", (f"extended {mark}",))), f"extended {mark}", mark)
                self.expect(client.query("BEGIN"), None, mark)
                self.expect(client.query(f"INSERT INTO marks VALUES ('row {mark}')"), None, mark)
                answer = client.query("COMMIT")
                self.expect(answer, None, mark)
                if answer.tags == ["COMMIT"]:
                    self.confirmed.append(f"row {mark}")
                client.send(wire.query("COPY marks FROM STDIN"))
                begun = client.until("GE")[-1]
                if begun.kind == "E":
                    raise wire.ErrorResponse(wire.error_fields(begun.body))
                client.send(wire.copy_data(f"copy {mark}\n".encode()), wire.copy_done())
                self.expect(client.answer(), None, mark)
                self.confirmed.append(f"copy {mark}")
                client.send(wire.terminate())
            self.whole += 1
            return True
        except TimeoutError:
            self.unanswered.append(mark)
        except wire.ErrorResponse as error:
            self.told[error.sqlstate] += 1
            self.broken += 1
        except (OSError, wire.Closed):
            self.broken += 1
        return False

    def check(self, may_be_told=()):
        unexpected = [sqlstate for sqlstate in self.told if sqlstate not in may_be_told]
        assert not unexpected, f"errors that the fault does not explain: {self.told}"
        assert not self.wrong, f"answers to somebody else's question: {self.wrong[:5]}"
        assert not self.unanswered, f"neither an answer nor an end: {self.unanswered[:5]}"
        with self.postgres.superuser_connection("app") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT mark, count(*) FROM marks GROUP BY mark")
            counts = dict(cursor.fetchall())
        connection.close()
        twice = [mark for mark, count in counts.items() if count > 1]
        lost = [mark for mark in self.confirmed if mark not in counts]
        assert not twice and not lost, f"run twice: {twice[:5]}, confirmed and lost: {lost[:5]}"


def descriptors_of_its_own(proxy):
    """What it has open but its connections to the server, which come and go as they like."""
    return proxy.descriptors() - len(proxy.show("SERVERS"))


def assert_at_rest(proxy, descriptors):
    """Nobody is left, every backend is free, it has no more descriptors of its own than before, and the next client is served."""
    for pool in ("automation", "adhoc"):
        proxy.wait_pool(pool, in_use=0, waiting=0, clients=0)
    wait_until(lambda: len(proxy.show("CLIENTS")) == 1, "no client in SHOW CLIENTS but the one that asks")
    wait_until(lambda: all(row["state"] == "idle" for row in proxy.show("SERVERS")), "all backends to be free")
    wait_until(lambda: descriptors_of_its_own(proxy) <= descriptors, f"{descriptors} descriptors, as before")
    with proxy.wire() as client:
        assert client.query("SELECT 'served'").value == "served"
