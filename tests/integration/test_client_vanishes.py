"""A client that goes away in the middle of anything harms nobody.

It takes its transaction with it, its backend serves the next client clean (or is replaced), and no
counter, lock or connection stays behind.
"""

import pytest

import wire
from server import PASSWORD, ROLE
from waiting import wait_until
from wire import Wire, bind, copy_data, execute, extended, flush, parse, query, sync, terminate


@pytest.fixture
def single(start_proxy):
    """One automation backend: whatever a client leaves behind is in the next one's way."""
    return start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 10})


def vanish_by_close(client):
    client.close()


def vanish_by_reset(client):
    client.reset()


@pytest.fixture(params=[vanish_by_close, vanish_by_reset], ids=["close", "reset"])
def vanish(request):
    return request.param


def assert_next_client_is_fine(proxy):
    with proxy.wire() as after:
        assert after.query("SELECT 'fine'").value == "fine"
        assert after.query("BEGIN").state == "T"
        assert after.query("SHOW work_mem").value == "4MB"
        assert after.query("ROLLBACK").state == "I"
    proxy.wait_pool(in_use=0, waiting=0, clients=0)


def test_in_mid_transaction_is_rolled_back(single, postgres, vanish):
    client = single.wire()
    client.query("BEGIN")
    client.query("UPDATE things SET name = 'never' WHERE id = 1")
    vanish(client)
    assert_next_client_is_fine(single)
    with single.wire() as other:
        assert other.query("SELECT name FROM things WHERE id = 1").value == "thing 1"


def test_in_a_failed_transaction(single, vanish):
    client = single.wire()
    client.query("BEGIN")
    client.query("SELECT 1/0")
    vanish(client)
    assert_next_client_is_fine(single)


def test_in_mid_copy_in(single, vanish):
    client = single.wire()
    client.query("CREATE TEMP TABLE t (a int)")
    client.send(query("COPY t FROM STDIN"))
    client.until("G")
    client.send(copy_data(b"1\n"), b"d\0\0\1\0half a message")
    vanish(client)
    assert_next_client_is_fine(single)


def test_in_mid_copy_out(single, vanish):
    client = single.wire()
    client.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT"))
    client.until("d")
    vanish(client)
    assert_next_client_is_fine(single)


def test_in_mid_result(single, vanish):
    client = single.wire()
    client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"))
    client.until("D")
    vanish(client)
    assert_next_client_is_fine(single)


def test_while_its_query_runs(single, postgres, vanish):
    client = single.wire()
    client.send(query("SELECT pg_sleep(120)"))
    wait_until(lambda: postgres.backends("query LIKE '%pg_sleep(120)%' AND state = 'active'"),
               "the query to run")
    vanish(client)
    assert_next_client_is_fine(single)
    wait_until(lambda: not postgres.backends("query LIKE '%pg_sleep(120)%' AND state = 'active'"),
               "the abandoned query to end")


def vanish_by_terminate(client):
    client.send(terminate())
    client.close()


@pytest.mark.parametrize("leave", [vanish_by_close, vanish_by_reset, vanish_by_terminate])
@pytest.mark.parametrize("begun", ["", "BEGIN"])
def test_a_batch_without_its_sync_is_not_committed(single, postgres, leave, begun):
    """As on a connection of its own: nobody has ended the transaction that it stands in."""
    client = single.wire()
    client.query("CREATE TABLE batches (a int)")
    if begun:
        client.query(begun)
    client.send(extended("INSERT INTO batches VALUES (1)"), flush())
    client.until("C")
    leave(client)
    assert_next_client_is_fine(single)
    with single.wire() as other:
        assert other.query("SELECT count(*) FROM batches").value == "0"
        other.query("DROP TABLE batches")


def said_before_terminate(client):
    client.send(query("SELECT pg_sleep(0.5); INSERT INTO said VALUES (1)"), query("INSERT INTO said VALUES (2)"), terminate())


def assert_was_done(proxy):
    wait_until(lambda: proxy.pool()["in_use"] == 0, "the queries to end")
    assert_next_client_is_fine(proxy)
    with proxy.wire() as other:
        assert other.query("SELECT count(*) FROM said").value == "2"
        other.query("DROP TABLE said")


def test_what_was_said_before_terminate_is_answered(single):
    """As on a connection of its own: Terminate has its turn when what was sent before it is over."""
    client = single.wire()
    client.query("CREATE TABLE said (a int)")
    said_before_terminate(client)
    assert [message.kind for message in client.until_closed()] == list("TDCCZCZ")
    assert_was_done(single)


@pytest.mark.parametrize("vanish", [vanish_by_close, vanish_by_reset])
def test_what_was_said_before_terminate_is_done(single, vanish):
    """A client that does not wait for its answers, and says that it goes, has not asked for an end of what runs."""
    client = single.wire()
    client.query("CREATE TABLE said (a int)")
    said_before_terminate(client)
    wait_until(lambda: single.pool()["in_use"] == 1, "the first to run")
    vanish(client)
    assert_was_done(single)


@pytest.mark.parametrize("messages,kinds", [
    ([query("SELECT 1"), b"\0\0\0\0\4"], "TDCZE"), ([query("BEGIN"), query("SELECT 1"), terminate()], "CZTDCZ"),
    ([parse("", "SELECT 1"), bind(), execute(), sync(), terminate()], "12DCZ"),
    ([query("COPY (SELECT 1) TO STDOUT"), terminate()], "HdcCZ"),
    ([query("SELECT 1/0"), query("SELECT repeat('x', 300000)"), terminate()], "EZTDCZ")])
def test_the_last_message_has_the_last_turn(single, postgres, messages, kinds):
    """Through the pool and without it."""
    for client in (Wire(postgres.port).login(ROLE, PASSWORD, "app"), single.wire()):
        client.send(b"".join(messages))
        assert "".join(message.kind for message in client.until_closed()) == kinds
    assert_next_client_is_fine(single)


@pytest.mark.parametrize("limits", [{"query_timeout": "300ms"}, {"transaction_timeout": "300ms"}])
def test_what_was_said_before_terminate_does_not_go_on_for_ever(start_proxy, limits):
    """A pool's limits hold for it too."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 8, **limits})
    client = proxy.wire()
    client.send(query("SELECT pg_sleep(3600)"), terminate())
    assert "E" in [message.kind for message in client.until_closed()]
    assert_next_client_is_fine(proxy)


def test_answers_that_nobody_hears_do_not_go_on_for_ever(single):
    """On the client's own connection the server would find that nobody is there."""
    client = single.wire()
    client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 10000) a, generate_series(1, 10000) b"), terminate())
    client.close()
    assert_next_client_is_fine(single)


def test_with_a_half_sent_query(single, vanish):
    client = single.wire()
    client.send(query("SELECT 1")[:-4])
    vanish(client)
    assert_next_client_is_fine(single)


def test_with_a_half_sent_query_in_a_transaction(single, vanish):
    client = single.wire()
    client.query("BEGIN")
    client.send(query("SELECT 'a long statement that is cut'")[:-9])
    vanish(client)
    assert_next_client_is_fine(single)


def test_after_flush_without_sync(single, vanish):
    client = single.wire()
    client.send(extended("SELECT 1"), flush())
    client.until("C")
    vanish(client)
    assert_next_client_is_fine(single)


def test_after_execute_without_sync_or_flush(single, vanish):
    client = single.wire()
    client.send(extended("SELECT 1"))
    vanish(client)
    assert_next_client_is_fine(single)


def test_with_a_query_that_an_error_before_it_skips(single, vanish):
    """The server ignores the Query, for the error before it waits for a Sync that nobody sends."""
    client = single.wire()
    client.send(extended("SELECT pg_sleep(0.2), 1/0"), query("SELECT 1"))
    vanish(client)
    assert_next_client_is_fine(single)


def test_with_a_failed_pipeline_without_sync(single, vanish):
    client = single.wire()
    client.send(extended("SELECT 1/0"), extended("SELECT 2"), flush())
    client.until("E")
    vanish(client)
    assert_next_client_is_fine(single)


def test_with_many_answers_on_the_way(single, vanish):
    client = single.wire()
    client.send(b"".join(query(f"SELECT {n}, repeat('y', 2000)") for n in range(2000)))
    client.answer()
    vanish(client)
    assert_next_client_is_fine(single)


def test_with_an_open_portal(single, vanish):
    client = single.wire()
    client.send(parse("", "SELECT generate_series(1, 100)"), bind("p"), execute("p", 5), flush())
    client.until("s")
    vanish(client)
    assert_next_client_is_fine(single)


def test_while_it_waits_in_the_queue_with_more_behind(single):
    """What it has sent meanwhile stays unread, and the reset stands behind that."""
    with single.wire() as busy:
        busy.query("BEGIN")
        client = single.wire()
        client.send(query("SELECT 'waits'"))
        single.wait_pool(waiting=1)
        client.send(query("SELECT 'more'") * 10)
        client.reset()
        single.wait_pool(waiting=0)
        busy.query("COMMIT")
    assert_next_client_is_fine(single)


def test_while_it_waits_in_the_queue(single, vanish):
    (holder,) = single.hold()
    waiter = single.wire()
    waiter.send(query("SELECT 1"))
    single.wait_pool(waiting=1)
    vanish(waiter)
    single.wait_pool(waiting=0)
    holder.close()
    assert_next_client_is_fine(single)


def test_during_login(single, vanish):
    for sent in (b"", b"\0", wire.SSL_REQUEST[:5], wire.startup(user="proxy")[:-3],
                 wire.startup(user="proxy", database="app")):
        client = wire.Wire(single.port())
        client.send(sent)
        vanish(client)
    assert_next_client_is_fine(single)


def test_many_at_once_leave_no_descriptor_behind(single):
    assert_next_client_is_fine(single)
    before = single.descriptors()
    clients = [single.wire() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(query("SELECT pg_sleep(0.001)"))
        if number % 2:
            client.close()
    for client in clients[::2]:
        client.answer()
        client.reset()
    single.wait_pool(in_use=0, waiting=0, clients=0)
    wait_until(lambda: single.descriptors() <= before, "all descriptors to be closed")


def test_slow_reader_that_comes_back_gets_everything(single):
    with single.wire(application_name="slow") as client:
        client.send(query("SELECT n, repeat('z', 1000) FROM generate_series(1, 20000) n"))
        wait_until(lambda: single.pool()["in_use"] == 1, "the query to run")
        answer = client.answer()
        assert len(answer.rows) == 20000 and answer.rows[-1][0] == "20000"
