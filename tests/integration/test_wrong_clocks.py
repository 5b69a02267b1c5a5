"""Clocks that jump: the wall's, which somebody sets, and, as after a machine was suspended or moved, the one that only goes on.

A user would lose: a session that was well, a place in the queue, or everybody's sessions at one stroke.
"""

from faulty import Faults
from load import Sampler
from marks import CAP, assert_at_rest, descriptors_of_its_own
from wire import query


def test_a_clock_of_the_wall_that_jumps_ends_nobodys_wait_and_nobodys_session(start_proxy, tmp_path):
    """By a year, both ways: what has a limit is measured by the clock that never jumps."""
    faults = Faults(tmp_path)
    limits = {"query_timeout": "30s", "transaction_timeout": "40s", "idle_in_transaction_timeout": "40s",
              "client_idle_timeout": "40s", "timeout": "30s", "recycle": "1h", "leak_warning": "1h"}
    proxy = start_proxy(environment=faults.environment, automation={"size": 3, "max_overflow": 0, **limits})
    year = 365 * 86400
    with proxy.wire() as idle, proxy.wire() as inside, proxy.wire() as busy, proxy.wire() as holder, proxy.wire() as waiter:
        for client in (inside, holder):
            client.query("BEGIN")
        backends = {row["remote_pid"] for row in proxy.show("SERVERS")}
        busy.send(query("SELECT 'busy' FROM pg_sleep(2)"))
        proxy.wait_pool(in_use=3)
        waiter.send(query("SELECT 'waited'"))
        proxy.wait_pool(waiting=1)
        for wrong in (year, -year, 0):
            faults.wall_clock(wrong)
            mark = len(proxy.log())
            with proxy.wire("adhoc") as newcomer:  # several ticks pass
                for _ in range(10):
                    assert newcomer.query("SELECT 'in' FROM pg_sleep(0.03)").value == "in"
            assert proxy.show("CLIENTS") and proxy.show("STATS") and proxy.status() and proxy.get("/metrics")
            assert "timeout" not in proxy.log(mark)
        assert busy.answer().value == "busy"
        assert waiter.answer().value == "waited"
        for client in (inside, holder):
            assert client.query("COMMIT").tags == ["COMMIT"]
        assert idle.query("SELECT 'here'").value == "here"
        assert {row["remote_pid"] for row in proxy.show("SERVERS")} == backends, "none was replaced"
    faults.wall_clock(-year)
    proxy.stop()


def test_a_machine_that_was_suspended_goes_on_where_it_was(start_proxy, postgres, tmp_path):
    """An hour and a day later at one stroke: what has a limit is over it; who has none, and whoever comes, does not notice."""
    faults = Faults(tmp_path)
    proxy = start_proxy(environment=faults.environment, automation={"size": 3, "max_overflow": 0, "timeout": "10s"})
    most = descriptors_of_its_own(proxy)
    with proxy.wire() as idle, proxy.wire() as inside, proxy.wire() as busy, Sampler(postgres) as sampler:
        assert idle.query("SET application_name = 'sleeper'").tags == ["SET"]
        inside.query("BEGIN")
        for later in (3600, 90000):
            busy.send(query("SELECT 'busy' FROM pg_sleep(0.3)"))
            proxy.wait_pool(in_use=2)
            faults.monotonic_clock(later)
            for _ in range(5):
                with proxy.wire() as newcomer, proxy.wire("adhoc") as developer:
                    assert newcomer.query("SELECT 'in'").value == "in"
                    assert developer.query("SELECT 'in'").value == "in"
            assert busy.answer().value == "busy"
            assert idle.query("SHOW application_name").value == "sleeper"
            assert inside.query("SELECT 'inside'").value == "inside"
            assert proxy.show("CLIENTS") and proxy.show("STATS") and proxy.status() and proxy.get("/metrics")
        assert inside.query("COMMIT").tags == ["COMMIT"]
    assert sampler.seen["all"] <= CAP
    assert_at_rest(proxy, most)
