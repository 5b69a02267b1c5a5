"""The network ends a connection by a reset, at every single byte of a conversation, on either side, in either direction.

A user would lose: a row written twice or not at all after a COMMIT was confirmed, another client's answer, a backend that
stays busy for ever, or, byte by byte, every descriptor of the daemon.
"""

import collections
import contextlib
import itertools
import threading

from faults import Scissors
from load import Sampler
from marks import CAP, Marks, assert_at_rest, descriptors_of_its_own
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Answer, Closed, ErrorResponse, Wire, cancel_request, query, terminate

AT_ONCE = 8  # conversations
LOST = ("08006", "57P01")  # what a client is told whose backend is gone


def bytes_of_a_conversation(scissors, marks, port):
    """How many go each way when nothing is cut."""
    assert marks.converse(port), "nothing has been cut"
    wait_until(lambda: min(scissors.passed.values()), "the conversation's bytes to be counted")
    return dict(scissors.passed)


def all_positions(sizes):
    return iter([(way, at) for way in ("up", "down") for at in range(1, sizes[way] + 1)])


def play(marks, scissors, port):
    """Conversations side by side until every position has been given to a connection."""
    def work():
        while not scissors.is_done.is_set():
            marks.converse(port)

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_clients_reset_at_every_byte_harms_nobody_else(proxy, postgres):
    marks = Marks(postgres)
    with Scissors(proxy.port(), iter(())) as whole:
        sizes = bytes_of_a_conversation(whole, marks, whole.port)
    with Scissors(proxy.port(), all_positions(sizes)) as scissors, Sampler(postgres) as sampler:
        most = descriptors_of_its_own(proxy)
        play(marks, scissors, scissors.port)
        assert_at_rest(proxy, most)
        assert sampler.stop()["all"] <= CAP
        assert scissors.cuts >= sum(sizes.values()) - 2 * AT_ONCE, "nearly all were cut before their own end"
    marks.check()
    assert marks.broken > 100 and marks.whole > 0


def test_a_backends_reset_at_every_byte_harms_nobody_else(start_proxy, postgres):
    """From a connection's first statement on.  The last ones may not have met their position when all have been given out."""
    marks = Marks(postgres)
    first = b"SELECT 'simple"
    with Scissors(postgres.port, iter(()), first) as scissors:
        proxy = start_proxy(environment={"UPSTREAM": postgres.url(port=scissors.port) + "?sslmode=disable"})
        sizes = bytes_of_a_conversation(scissors, marks, proxy.port())
        most = descriptors_of_its_own(proxy)
        with Sampler(postgres) as sampler:
            scissors.positions = all_positions(sizes)
            scissors.is_done.clear()
            play(marks, scissors, proxy.port())
            assert_at_rest(proxy, most)
            assert sampler.stop()["all"] <= CAP
        assert scissors.cuts >= sum(sizes.values()) - 2 * CAP
    marks.check(LOST)
    assert marks.broken > 100 and marks.whole > 1


def test_a_login_upstream_that_is_reset_at_every_byte(start_proxy, postgres, tmp_path):
    """Many roads at once, for a login that has failed is not tried again at once; after each that fails one goes through."""
    roads = 24
    users = tmp_path / "users"
    users.write_text(f'"{ROLE}" "{PASSWORD}"\n')
    with Scissors(postgres.port, iter(())) as whole:
        with Wire(whole.port) as client:
            client.login(ROLE, PASSWORD, "app")
            client.send(terminate())
            wait_until(lambda: min(whole.passed.values()), "the login's bytes to be counted")
        positions = list(all_positions(whole.passed))
    with contextlib.ExitStack() as stack:
        scissors = [stack.enter_context(Scissors(postgres.port, itertools.chain.from_iterable(
            (position, ("up", b"SELECT 'through'")) for position in positions[number::roads]))) for number in range(roads)]
        databases = {f"d{number}": {"url": postgres.url(port=each.port) + "?sslmode=disable"}
                     for number, each in enumerate(scissors)}
        proxy = start_proxy(wait="listening", pgreserve={"total_connections": roads + 2},
                            automation={"size": roads, "max_overflow": 0, "prefill": "off"}, adhoc={"prefill": "off"},
                            auth={"users_file": users}, **{"database:*": None}, databases={**databases, "app": {"url": "${UPSTREAM}"}})
        most = descriptors_of_its_own(proxy)
        heard = collections.Counter()

        def work(number):
            while not scissors[number].is_done.is_set():
                try:
                    with proxy.wire(database=f"d{number}") as client:
                        client.send(query("SELECT 'through'"))
                        answer = Answer(client.until("EZ"))  # behind a FATAL comes nothing more
                        heard[answer.errors[0].sqlstate if answer.errors else answer.value] += 1
                except (OSError, Closed) as error:
                    heard[type(error)] += 1
                except ErrorResponse as error:
                    heard[error.sqlstate] += 1

        sampler = stack.enter_context(Sampler(postgres))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(roads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert_at_rest(proxy, most)
        assert sampler.stop()["all"] <= roads + 2
        assert sum(each.cuts for each in scissors) >= 2 * len(positions) - 2 * roads
        assert heard.pop("through") > 0 and not heard.keys() - {"08001", "08006"}, heard


def test_a_cancel_that_is_reset_at_every_byte_cancels_the_right_query_or_none(proxy):
    most = descriptors_of_its_own(proxy)
    with Scissors(proxy.port(), iter([("up", at) for at in range(1, 17)])) as scissors, proxy.wire() as client:
        for at in range(1, 17):
            client.send(query("SELECT 'answered' FROM pg_sleep(0.05)"))
            with Wire(scissors.port) as messenger:
                messenger.send(cancel_request(client.backend_pid, client.backend_key))
                assert messenger.is_closed()
            answer = client.answer()
            if answer.errors:
                assert at == 16 and answer.error.sqlstate == "57014", (at, answer.error)
            else:
                assert answer.value == "answered"
        assert scissors.cuts == 16
    assert_at_rest(proxy, most)
