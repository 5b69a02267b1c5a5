"""No program can tell: random sessions get the same answers on a shared pool as on connections of their own.

Every answer, error, notice, ParameterStatus and transaction state of eight interleaved clients on two or three
backends is compared with what the same scripts get on connections of their own.  Failures are shrunk; the seed is
printed, PGRESERVE_SEED repeats it.  PGRESERVE_SCENARIOS says how many rounds of eight scripts (`make soak`
plays many).
"""

import os
import random

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from proxy import is_sanitized
from scripts import empty_tables, play, prepare_server, scenario, wire_to
from server import PASSWORD, ROLE

SCENARIOS = int(os.environ.get("PGRESERVE_SCENARIOS", "30" if is_sanitized() else "130"))
PHASES = (Phase.generate, Phase.shrink) if os.environ.get("PGRESERVE_SHRINK") else (Phase.generate,)
SEED = int(os.environ.get("PGRESERVE_SEED", random.randrange(1 << 32)))


@pytest.mark.parametrize("backends", [2, 3])
def test_random_sessions_get_the_answers_of_their_own_connections(start_proxy, postgres, backends):
    print(f"PGRESERVE_SEED={SEED}")
    prepare_server(postgres)
    proxy = start_proxy(automation={"size": backends, "max_overflow": 0, "timeout": 8, "pin_recheck": "50ms"})
    control = postgres.superuser_connection("app")

    @settings(max_examples=SCENARIOS, deadline=None, database=None, report_multiple_bugs=False,
              phases=PHASES, suppress_health_check=list(HealthCheck))
    @seed(SEED + backends)
    @given(scenario())
    def check(round_):
        scripts, order = round_
        empty_tables(control)
        own = play(lambda parameters: wire_to(postgres.port, ROLE, PASSWORD, parameters), scripts, order, 8)
        empty_tables(control)
        shared = play(lambda parameters: wire_to(proxy.port(), ROLE, PASSWORD, parameters), scripts, order,
                      backends - 1)
        for number, (expected, got) in enumerate(zip(own, shared)):
            for before, now in zip(expected, got):
                assert now == before, f"client {number}: {now!r} instead of {before!r}"

    check()
    control.close()
