"""The HTTP listener: what it answers, to whom, and what it never says.

A user would lose: a health check that lies, or a door through which a stranger reads other people's queries.
"""

import base64
import hashlib
import http.client
import json
import re
import resource
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import waiting
from faults import Link
from proxy import is_sanitized
from server import PASSWORD, PASSWORD_IN_URL, free_port, has_ipv6
from waiting import Stopwatch, wait_until
from wire import query

DOCUMENTS = {"/": "text/html; charset=utf-8", "/live.json": "application/json", "/status": "text/plain; charset=utf-8",
             "/status.json": "application/json", "/metrics": "text/plain; version=0.0.4; charset=utf-8",
             "/healthz": "text/plain; charset=utf-8", "/readyz": "text/plain; charset=utf-8"}


def ask(proxy, path, method="GET", headers=None, port=None):
    connection = http.client.HTTPConnection("127.0.0.1", port or proxy.ports["http"], timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        answer.text = answer.read().decode()
        return answer
    finally:
        connection.close()


def live(proxy, path="/live.json"):
    return json.loads(ask(proxy, path).text)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_get_and_head_say_the_same(proxy, path):
    get, head = ask(proxy, path), ask(proxy, path, "HEAD")
    for answer in (get, head):
        assert answer.status == 200
        assert answer.headers["Content-Type"] == DOCUMENTS[path]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert int(get.headers["Content-Length"]) == len(get.text.encode()) > 0
    assert head.text == "" and int(head.headers["Content-Length"]) > 0


def test_head_sends_no_body_that_the_next_answer_could_be_mistaken_for(proxy):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.ports["http"], timeout=10)
    for method in ("HEAD", "GET", "HEAD", "GET"):
        connection.request(method, "/healthz")
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read() == (b"ok\n" if method == "GET" else b"")
    connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_everything_but_get_and_head_is_405(proxy, method):
    for path in ("/", "/metrics", "/nowhere"):
        answer = ask(proxy, path, method)
        assert answer.status == 405 and answer.headers["Allow"] == "GET, HEAD"


def test_unknown_paths_are_404(proxy):
    for path in ("/nowhere", "/status/", "/Status", "//", "/../etc/passwd", "/%2e%2e/", "/status.json/x"):
        answer = ask(proxy, path)
        assert answer.status == 404 and "/metrics" in answer.text, path


def test_policy_lets_the_pages_own_script_and_style_run_and_no_other(proxy):
    answer = ask(proxy, "/")
    policy = answer.headers["Content-Security-Policy"]
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy and "*" not in policy
    assert "connect-src 'self'" in policy


def test_page_holds_no_address_of_another_host(proxy):
    page = ask(proxy, "/").text
    foreign = set(re.findall(r"""(?:https?:)?//[a-z0-9.-]+""", page)) - {"http://www.w3.org"}
    assert not foreign, "an address that a browser might fetch"


@pytest.mark.parametrize("host, status", [
    ("127.0.0.1", 200), ("127.0.0.1:6435", 200), ("localhost", 200), ("LOCALHOST:99", 200), ("[::1]:6435", 200),
    ("10.0.0.7:6435", 200), ("evil.example", 421), ("evil.example:6435", 421), ("127.0.0.1.evil.example", 421),
    ("localhost.evil.example", 421), ("[::1", 421),
])
def test_loopback_answers_no_strangers_name(proxy, host, status):
    """A web page that has pointed its own name at 127.0.0.1 reads nothing (DNS rebinding)."""
    for path in ("/live.json", "/metrics", "/"):
        assert ask(proxy, path, headers={"Host": host}).status == status


def test_a_reload_changes_nothing_for_http(proxy):
    proxy.reload(automation={"size": 3})
    assert ask(proxy, "/status", headers={"Host": "localhost"}).status == 200
    assert ask(proxy, "/status", headers={"Host": "evil.example"}).status == 421
    assert live(proxy)["pools"][0]["size"] == 3


def test_http_1_0_without_host_is_answered(proxy):
    with socket.create_connection(("127.0.0.1", proxy.ports["http"]), timeout=10) as raw:
        raw.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 200") and answer.endswith(b"ok\n")


# -- health ----------------------------------------------------------------------------------------


def test_exhausted_is_served_and_alive(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    (holder,) = proxy.hold()
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 1"))
        proxy.wait_pool(state="exhausted", waiting=1)
        assert ask(proxy, "/healthz").status == 200
        assert live(proxy)["state"] == "exhausted"
        assert "exhausted" in ask(proxy, "/status").text
        holder.close()
        waiter.answer()


def test_ready_says_which_pool_is_not_and_why(start_proxy, postgres):
    with Link(postgres.port) as link:
        link.refuse()
        proxy = start_proxy(upstream_port=link.port, wait="listening")
        answer = ask(proxy, "/readyz")
        assert answer.status == 503 and "automation" in answer.text and "adhoc" in answer.text
        assert ask(proxy, "/healthz").status == 200, "it serves, though it is not ready"
        wait_until(lambda: live(proxy)["state"] == "down", "the failed logins to be seen")
        (reason,) = {pool["upstream_error"] for pool in live(proxy)["pools"]}
        assert "refused" in reason
        link.restore()
        proxy.wait_ready()
        assert ask(proxy, "/readyz").text == "ready\n"
        assert [pool["upstream_error"] for pool in live(proxy)["pools"]] == [None, None]


def test_paused_is_not_ready(proxy):
    proxy.admin("PAUSE automation")
    answer = ask(proxy, "/readyz")
    assert answer.status == 503 and "automation: paused" in answer.text and "adhoc" not in answer.text
    assert [pool["is_paused"] for pool in live(proxy)["pools"]] == [True, False]
    proxy.admin("RESUME automation")
    proxy.wait_ready()


def test_a_paused_database_is_not_ready_where_it_is_the_pools_own(start_proxy, postgres):
    """What the url names is what a pool hands out; of another database it has nothing open anyway."""
    proxy = start_proxy(databases={"other": {"url": postgres.url(), "dbname": "app"}})
    proxy.admin("PAUSE app@automation")
    answer = ask(proxy, "/readyz")
    assert answer.status == 503 and answer.text == "pool automation: paused\n"
    assert {row["pool"]: row["paused"] for row in proxy.show("STATUS")} == {"automation": "t", "adhoc": "f", "total": "t"}
    assert [pool["is_paused"] for pool in live(proxy)["pools"]] == [True, False]
    assert 'pgreserve_pool_paused{pool="automation"} 1\n' in proxy.get("/metrics")
    proxy.admin("RESUME app@automation")
    proxy.wait_ready()
    proxy.admin("PAUSE app")
    assert ask(proxy, "/readyz").text == "pool automation: paused\npool adhoc: paused\n"
    proxy.admin("RESUME app")
    proxy.wait_ready()
    proxy.admin("PAUSE other")
    assert ask(proxy, "/readyz").status == 200
    proxy.admin("RESUME other")


def test_disabled_is_not_ready(proxy):
    for command, reasons in (("DISABLE automation", "pool automation: disabled\n"),
                             ("DISABLE app@adhoc", "pool automation: disabled\npool adhoc: disabled\n")):
        proxy.admin(command)
        answer = ask(proxy, "/readyz")
        assert (answer.status, answer.text) == (503, reasons)
    proxy.admin("ENABLE automation")
    proxy.admin("ENABLE app@adhoc")
    assert ask(proxy, "/readyz").status == 200


def test_exhausted_is_not_ready(start_proxy):
    """All in use is not yet too many; with somebody waiting it is."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0})
    (holder,) = proxy.hold()
    assert ask(proxy, "/readyz").status == 200
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 1"))
        proxy.wait_pool(state="exhausted", waiting=1)
        answer = ask(proxy, "/readyz")
        assert answer.status == 503 and answer.text == "pool automation: every connection is in use, and clients wait\n"
        holder.close()
        assert waiter.answer().value == "1"
    assert ask(proxy, "/readyz").status == 200


def test_a_daemon_that_lets_nobody_in_any_more_is_not_ready(proxy):
    with proxy.wire() as last:
        last.query("SELECT 1")
        proxy.admin("SHUTDOWN WAIT_FOR_CLIENTS")
        answer = ask(proxy, "/readyz")
        assert answer.status == 503 and "pool automation: shutting down" in answer.text
    assert proxy.wait_exit() == 0


# -- the document behind the page --------------------------------------------------------------------


def slots_of(document, pool="automation"):
    return next(each for each in document["pools"] if each["name"] == pool)["slots"]


def test_live_has_the_figures_of_status(proxy):
    proxy.wait_warm()
    holders = proxy.hold(count=2)
    proxy.wait_pool(in_use=len(holders))
    status, document = proxy.status(), live(proxy)
    timed = ("longest_hold", "longest_wait")
    for before, after in zip(status["pools"] + [status["total"]], document["pools"] + [document["total"]]):
        for figure, value in before.items():
            assert figure in timed or after[figure] == value, figure
            assert figure not in timed or after[figure] >= value


def test_every_slot_is_somewhere_and_says_what_it_does(start_proxy):
    proxy = start_proxy(pgreserve={"total_connections": 10}, automation={"size": 5, "max_overflow": 3})
    proxy.wait_warm()
    with proxy.wire() as running, proxy.wire() as pinned, proxy.wire() as open_transaction:
        running.send(query("SELECT pg_sleep(60)"))
        pinned.query("LISTEN x")
        open_transaction.query("BEGIN")
        proxy.wait_pool(in_use=3, pinned=1)
        document = live(proxy)
        expected = {"running": 1, "pinned": 1, "idle_in_transaction": 1, "idle": 2}
        for kind, count in slots_of(document).items():
            assert count == expected.get(kind, 0), (kind, document["pools"])
        assert slots_of(document, "adhoc")["idle"] == 2 and document["free"] == 3
        total = sum(sum(pool["slots"].values()) for pool in document["pools"]) + document["free"]
        assert total == 10 == document["total"]["total_possible"]


def test_reserved_places_that_are_not_open_are_shown_as_such(start_proxy):
    proxy = start_proxy(adhoc={"prefill": "off"}, automation={"prefill": "off"})
    document = live(proxy)
    assert slots_of(document, "adhoc")["reserved"] == 2 and slots_of(document)["reserved"] == 0
    assert document["free"] == 6


def test_history_comes_once_and_then_in_pieces(proxy):
    first = wait_until(lambda: (lambda d: d["history"]["latest"] >= 2 and d)(live(proxy)), "two points of history", 20)
    latest = first["history"]["latest"]
    assert first["history"]["first"] == 1
    for figures in first["history"]["pools"].values():
        assert {len(points) for points in figures.values()} == {latest}
    news = live(proxy, f"/live.json?since={latest}")["history"]
    assert news["first"] == latest + 1
    for figures in news["pools"].values():
        assert {len(points) for points in figures.values()} == {news["latest"] - latest}
    for nonsense in ("-1", "x", "99999999999999999999999", "", "1&since=2", "%00", "1e9"):
        assert live(proxy, f"/live.json?since={nonsense}")["history"]["latest"] >= latest


def test_history_knows_what_happened(start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    (holder,) = proxy.hold()
    with proxy.wire() as waiter:
        waiter.send(query("SELECT 1"))
        proxy.wait_pool(waiting=1)

        def seen():
            points = live(proxy)["history"]["pools"]["automation"]
            return points["in_use"][-1:] == [1] and points["waiting"][-1:] == [1] and points["wait"][-1] > 0
        wait_until(seen, "the wait in the history", 20)
        holder.close()
        waiter.answer()
        wait_until(lambda: max(live(proxy)["history"]["pools"]["automation"]["transactions"]) > 0,
                   "the transaction in the history", 20)


# -- secrets -----------------------------------------------------------------------------------------


def all_documents(proxy):
    return "\n".join(ask(proxy, path).text for path in DOCUMENTS)


def test_no_document_holds_a_password(proxy):
    with proxy.wire(), proxy.wire("adhoc"):
        text = all_documents(proxy)
    assert PASSWORD not in text and PASSWORD_IN_URL not in text


def test_beyond_loopback_no_query_and_no_address(start_proxy):
    """Bound to every address: whoever comes is a stranger, even by way of 127.0.0.1."""
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    proxy.stop()
    proxy.change(admin={"http": f"*:{proxy.ports['http']}"})
    proxy.write_config()
    proxy.start()
    with proxy.wire(application_name="shown") as holder, proxy.wire() as waiter:
        holder.query("BEGIN")
        holder.query("SELECT 'a secret of mine'")
        waiter.send(query("SELECT 'another secret'"))
        proxy.wait_pool(waiting=1)
        assert live(proxy)["shows_clients"] is False
        text = "\n".join(ask(proxy, path, headers={"Host": "db.example:6435"}).text for path in DOCUMENTS)
        data = text.replace(ask(proxy, "/").text, "")
        assert "secret" not in data
        assert not re.findall(r'"addr"|"query"|client_addr', data)
        holder.query("ROLLBACK")
        waiter.answer()


def test_a_star_is_every_address_of_both_families(start_proxy):
    """As it is for the pools."""
    proxy = start_proxy()
    proxy.stop()
    proxy.change(admin={name: f"*:{proxy.ports[port]}" for name, port in (("http", "http"), ("listen", "admin"))})
    proxy.write_config()
    proxy.start()
    for host in ["127.0.0.1", "127.0.0.2"] + ["::1"] * has_ipv6():
        with socket.create_connection((host, proxy.ports["admin"]), timeout=10):
            pass
        connection = http.client.HTTPConnection(host, proxy.ports["http"], timeout=10)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()


# -- hostile bytes -------------------------------------------------------------------------------------


HOST = b"Host: 127.0.0.1\r\n\r\n"
MALFORMED = {
    "binary": b"\x00\x01\x02\x03" * 50, "no path": b"GET\r\n\r\n", "version": b"GET / HTTP/9.9\r\n\r\n",
    "blanks": b"GET  /  HTTP/1.1\r\n\r\n", "bracket": b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "query": b"GET /live.json?%%%=& HTTP/1.1\r\n" + HOST,
    "long body": b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n" + HOST,
    "negative body": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n" + HOST,
    "chunk": b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"ffffffffffffffff\r\n",
    "long header": b"GET / HTTP/1.1\r\nX: " + b"a" * 100000 + b"\r\n\r\n", "long line": b"A" * 200000,
    "connect": b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n", "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_hurt_nobody(proxy, name):
    bytes_sent = MALFORMED[name]
    with socket.create_connection(("127.0.0.1", proxy.ports["http"]), timeout=10) as raw:
        try:
            raw.sendall(bytes_sent)
            raw.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        except OSError:  # cut off, as it deserves
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 200") or name == "query"
    assert ask(proxy, "/healthz").text == "ok\n"


def http_connections(proxy):
    """How many the daemon has, by the kernel's table."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return sum(row[1].endswith(f":{proxy.ports['http']:04X}") and row[3] == "01" and row[9] != "0" for row in rows)


def connect(proxy, what=b""):
    raw = socket.create_connection(("127.0.0.1", proxy.ports["http"]), timeout=10)
    raw.sendall(what)
    return raw


@pytest.mark.parametrize("said", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                                  b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 2000],
                         ids=["nothing", "half a request", "one request", "more than it reads answers for"])
def test_crowd_that_is_silent_gives_way(proxy, said):
    """However many come and stay, there are 32 of them at most, and who has a question gets his answer."""
    before = proxy.descriptors()
    crowd = [connect(proxy, said[:100_000]) for _ in range(100)]
    for _ in range(10):
        assert ask(proxy, "/healthz").text == "ok\n"
        assert proxy.descriptors() - before <= 33
    for raw in crowd:
        raw.close()
    wait_until(lambda: http_connections(proxy) == 0, "the crowd to be gone")
    wait_until(lambda: proxy.descriptors() <= before, "its descriptors to be closed")
    assert "all places are taken" in proxy.log()


def test_crowd_that_never_stops_asking_gives_way_too(proxy):
    stop = threading.Event()

    def ask_on():
        while not stop.is_set():
            try:
                with connect(proxy) as raw:
                    while not stop.wait(0.05):
                        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                        if not raw.recv(65536):
                            break
            except OSError:
                pass
    crowd = [threading.Thread(target=ask_on) for _ in range(60)]
    for member in crowd:
        member.start()
    try:
        wait_until(lambda: "all places are taken" in proxy.log(), "the crowd to be there")
        for _ in range(10):
            assert ask(proxy, "/healthz").text == "ok\n"
    finally:
        stop.set()
        for member in crowd:
            member.join()


def test_nobody_with_a_question_is_turned_away(proxy):
    """More at once than there are places."""
    crowd = [connect(proxy, b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n") for _ in range(120)]
    for raw in crowd:
        assert b"".join(iter(lambda: raw.recv(4096), b"")).endswith(b"ready\n")
        raw.close()


def test_running_out_of_descriptors_is_no_busy_loop_and_no_end(start_proxy):
    """HTTP takes but half of those that are kept; here a reserved pool's clients have taken the rest."""
    proxy = start_proxy(files_limit=100)
    crowd = [socket.create_connection(("127.0.0.1", proxy.port("adhoc")), timeout=5) for _ in range(130)]
    crowd += [connect(proxy) for _ in range(20)]
    wait_until(lambda: 'protocol=http reason="Too many open files"' in proxy.log(), "the descriptors to run out")
    before = proxy.cpu_seconds()
    with Stopwatch() as watch:
        wait_until(lambda: watch.so_far > 0.5, "half a second of it")
    assert proxy.cpu_seconds() - before < 0.25
    for connection in crowd:
        connection.close()
    wait_until(lambda: ask(proxy, "/healthz").text == "ok\n", "the door to open again")


def test_many_readers_at_once(proxy):
    with ThreadPoolExecutor(16) as crowd:
        answers = list(crowd.map(lambda i: ask(proxy, list(DOCUMENTS)[i % len(DOCUMENTS)]).status, range(300)))
    assert set(answers) == {200}


def test_a_listener_each_address(start_proxy):
    proxy, another = start_proxy(wait=None), free_port()
    proxy.change(admin={"http": f"127.0.0.1:{proxy.ports['http']}, localhost:{another}"})
    proxy.write_config()
    proxy.start()
    for port in (proxy.ports["http"], another):
        assert ask(proxy, "/healthz", port=port).status == 200


@pytest.mark.skipif(is_sanitized(), reason="its speed is not that of the daemon")
def test_looking_costs_little_beside_ten_thousand_clients(start_proxy):
    """The page asks once a second: less than 10 ms of work each time is less than 1 % of a core."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 12_000:
        pytest.skip("too few descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    proxy = start_proxy(pgreserve={"max_clients": 11_000}, auth={"method": "trust"})
    crowd = []
    try:
        crowd = [proxy.wire() for _ in range(10_000)]
        live(proxy)
        spent, times = proxy.cpu_seconds(), []
        for path in ("/live.json", "/metrics") * 50:
            with Stopwatch() as watch:
                ask(proxy, path)
            times.append(watch.seconds)
        spent = proxy.cpu_seconds() - spent
        assert live(proxy)["total"]["clients"] == 10_000
        assert spent / len(times) < 0.010, f"{spent} s of work for {len(times)} looks"
        assert sorted(times)[90] < 0.2 * waiting.patience
    finally:
        for client in crowd:
            client.reset()
        proxy.wait_pool(clients=0, timeout=30)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
