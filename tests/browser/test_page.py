"""The page at `/` in a real browser: what it shows is what is so.

A user would lose: the one look that tells in the middle of an incident who has all the connections.
"""

import json
import os

import pytest

from browser import Keys
from proxy import ROOT
from server import ROLE
from waiting import wait_until
from wire import query

FIGURES = ("in_use", "available", "overflow", "total_possible", "reserved", "waiting", "pinned", "closing", "clients")
SHIPPED = {"pgreserve": {"total_connections": 60}, "automation": {"size": 50, "max_overflow": 5, "timeout": 60},
           "adhoc": {"size": 5, "reserved": 5, "max_overflow": 0}}
SHOTS = os.environ.get("PGRESERVE_SCREENSHOTS")  # a folder: pictures for the README are taken into it


def shoot(browser, name):
    if SHOTS:
        browser.screenshot(os.path.join(ROOT, SHOTS, name + ".png"))


@pytest.fixture
def shipped(start_proxy):
    """The pools as they are shipped: 50 + 5, and 5 reserved."""
    proxy = start_proxy(**SHIPPED)
    proxy.wait_warm()
    return proxy


class Crowd:
    """Clients that do something and go on doing it until the end of the test."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.wires = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for wire in self.wires:
            wire.close()

    def join(self, application, pool="automation"):
        self.wires.append(self.proxy.wire(pool, application_name=application))
        return self.wires[-1]

    def run(self, count, application, sql="SELECT count(*) FROM events WHERE pg_sleep(600) IS NULL", pool="automation"):
        for _ in range(count):
            self.join(application, pool).send(query(sql.replace("events", "things")))

    def open_transaction(self, count, application):
        for _ in range(count):
            wire = self.join(application)
            wire.query("BEGIN")
            wire.query("SELECT name FROM things WHERE id = 7 FOR UPDATE SKIP LOCKED")

    def pin(self, count, application):
        for _ in range(count):
            self.join(application).query("LISTEN jobs")


def load(crowd):
    """A busy Tuesday: every kind of thing that a connection can be doing for long."""
    crowd.run(14, "etl-nightly")
    crowd.open_transaction(9, "scraper-7")
    crowd.run(5, "grafana")
    crowd.pin(2, "job-runner")
    crowd.run(1, "psql", pool="adhoc")


def exhaust(crowd):
    """The incident that this was all made for: one scraper sits on 40 in idle transactions."""
    crowd.open_transaction(40, "scraper-7")
    crowd.run(12, "etl-nightly")
    crowd.pin(3, "job-runner")
    crowd.proxy.wait_pool(in_use=55)
    crowd.run(9, "billing-sync")
    crowd.run(5, "grafana")
    crowd.proxy.wait_pool(waiting=14, state="exhausted")


def wait_text(browser, selector, part):
    wait_until(lambda: part in browser.text(selector), f"{part!r} in {selector}: {browser.text(selector)!r}", 15)


def assert_same_as_status(browser, proxy):
    """Every figure of the page equals /status.json's, once nothing moves."""
    def same():
        shown, status = browser.figures(), proxy.status()
        wrong = [(pool["name"], figure) for pool in status["pools"] + [status["total"]] for figure in FIGURES
                 if shown.get(f"{pool['name']}.{figure}") != str(pool[figure])]
        return not wrong and browser.state() == status["state"] or None
    wait_until(same, "the page's figures to be those of /status.json", 15)


def assert_quiet(browser, proxy):
    """Nothing in the console, and nobody asked but the daemon."""
    assert browser.console() == []
    base = f"http://127.0.0.1:{proxy.ports['http']}/"
    foreign = [url for url in browser.requests() if not url.startswith((base, "data:image/svg+xml,"))]
    assert not foreign


def assert_fits(browser):
    """No sideways scrolling, nothing cut off at the right."""
    assert browser.script("return document.documentElement.scrollWidth <= window.innerWidth")


# -- what it shows -----------------------------------------------------------------------------------


def test_at_rest(browser, shipped):
    browser.open(shipped)
    assert browser.state() == "healthy"
    assert browser.text("#word") == "Healthy" and "5 of its 5 reserved connections free" in browser.text("#why")
    assert_same_as_status(browser, shipped)
    assert browser.slots() == {"idle": 55, "free": 5}
    assert browser.text("#holders-empty") and browser.text("#waiters-empty") and not browser.text("#holders")
    assert browser.script("return document.title").startswith("Healthy · 0/60")
    shoot(browser, "rest")
    assert_fits(browser)
    assert_quiet(browser, shipped)


def test_under_load(browser, shipped):
    with Crowd(shipped) as crowd:
        load(crowd)
        shipped.wait_pool(in_use=30)
        browser.open(shipped)
        assert_same_as_status(browser, shipped)
        assert browser.slots() == {"running": 20, "in_transaction": 9, "pinned": 2, "idle": 24, "free": 5}
        legend = dict(zip(browser.script("return [...document.querySelectorAll('#legend b')].map(b => b.dataset.slot)"),
                          browser.texts("#legend b")))
        assert legend["running"] == "20" and legend["idle_in_transaction"] == "9" and legend["pinned"] == "2"
        assert browser.text("#holders-count") == "the longest 10 of 31"
        assert "etl-nightly\n14\n14 running" in browser.text("#owners")
        assert "scraper-7\n9\n9 idle in transaction" in browser.text("#owners")
        shoot(browser, "load")
        browser.device(dark=True)
        wait_until(lambda: browser.script("return getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 27)",
                   "the dark colours")
        shoot(browser, "load-dark")
        assert_quiet(browser, shipped)


def test_exhausted_names_who_has_them_all(browser, shipped):
    browser.open(shipped)
    with Crowd(shipped) as crowd:
        exhaust(crowd)
        wait_text(browser, "#word", "Exhausted")
        why = browser.text("#why")
        assert "All 55 connections of automation are in use and 14 clients wait" in why
        assert "scraper-7 holds 40, all of them idle in transaction" in why
        assert "scraper-7" in why.split("Held longest:")[1]
        assert_same_as_status(browser, shipped)
        assert browser.texts("#owners li")[0].startswith("scraper-7\n40\n40 idle in transaction")
        assert browser.text("#waiters-count") == "the first 10 of 14"
        assert len(browser.texts("#waiters tbody tr")) == 10
        assert "billing-sync" in browser.texts("#waiters tbody tr")[0]
        shoot(browser, "exhausted")
        browser.device(width=390, height=844)
        wait_until(lambda: len(browser.texts("#holders tbody tr")) == 5, "fewer rows on a phone", 15)
        assert_fits(browser)
        shoot(browser, "phone")
        assert_quiet(browser, shipped)
    wait_text(browser, "#word", "Healthy")


def test_holders_row_has_the_whole_story(browser, proxy):
    with proxy.wire(application_name="scraper-7") as wire:
        wire.query("BEGIN")
        wire.query("SELECT 'the last thing it said'")
        browser.open(proxy)
        wait_until(lambda: browser.texts("#holders tbody tr"), "the row")
        (row,) = browser.texts("#holders tbody tr")
        for part in ("scraper-7", "proxy", "127.0.0.1:", "automation", "app", "idle in transaction",
                     "SELECT 'the last thing it said'"):
            assert part in row
        wire.query("ROLLBACK")
        wire.query("LISTEN x")
        wait_until(lambda: "pinned, idle" in browser.text("#holders") and "listen" in browser.text("#holders"),
                   "the pin", 15)


def test_upstream_down_is_the_first_thing_seen(browser, start_proxy, postgres):
    from faults import Link
    with Link(postgres.port) as link:
        link.refuse()
        proxy = start_proxy(upstream_port=link.port, wait="listening")
        browser.open(proxy)
        wait_text(browser, "#word", "Upstream down")
        assert "refused" in browser.text("#why")
        wait_until(lambda: browser.slots().get("reserved") == 2, "the reservation, between two attempts", 15)
        link.restore()
        wait_text(browser, "#word", "Healthy")


def test_ceiling_of_the_upstream_is_noticed(browser, start_proxy, postgres):
    others = [postgres.superuser_connection() for _ in range(56)]
    try:
        proxy = start_proxy(wait="listening")
        browser.open(proxy)
        wait_text(browser, "#notice", "The upstream granted")
        assert "though the cap is 8" in browser.text("#notice")
    finally:
        for other in others:
            other.close()


def test_missing_reserved_connections_are_said(browser, start_proxy, postgres):
    postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 1")
    try:
        proxy = start_proxy(wait="listening", automation={"prefill": "off"})
        browser.open(proxy)
        wait_text(browser, "#why", "adhoc has only 1 of its 2 reserved connections")
        assert browser.text("#word") == "High load"
    finally:
        postgres.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


def test_clients_words_are_text_and_nothing_else(browser, proxy):
    hostile = "<img src=x onerror=alert(1)><script>document.title='owned'</script>"
    with proxy.wire(application_name=hostile[:60]) as wire:
        wire.query("BEGIN")
        wire.query(f"SELECT '{hostile}'")
        browser.open(proxy)
        wait_text(browser, "#holders", "<img src=x onerror=alert(1)>")
        assert browser.script("return document.querySelectorAll('main img, main script').length") == 0
        assert "owned" not in browser.script("return document.title")
        assert_quiet(browser, proxy)


def test_odd_bytes_do_not_stop_it(browser, proxy):
    with proxy.wire(application_name="latin") as wire:
        wire.query("SET client_encoding = 'LATIN1'")
        wire.query("BEGIN")
        sql = b"SELECT length('\xfc\xe4')\0"
        wire.send(b"Q" + (len(sql) + 4).to_bytes(4, "big") + sql)
        wire.answer()
        browser.open(proxy)
        wait_text(browser, "#holders", "SELECT length('??')")


def test_beyond_loopback_the_columns_are_not_there(browser, start_proxy):
    proxy = start_proxy(wait=None)
    proxy.change(admin={"http": f"*:{proxy.ports['http']}"})
    proxy.write_config()
    proxy.start()
    with proxy.wire(application_name="scraper-7") as wire:
        wire.query("BEGIN")
        wire.query("SELECT 'secret'")
        browser.open(proxy)
        wait_text(browser, "#holders", "scraper-7")
        headings = browser.texts("#holders thead th")
        assert "From" not in headings and "Last query" not in headings and "Held for" in headings
        assert "secret" not in browser.script("return document.body.innerHTML")


# -- how it behaves -----------------------------------------------------------------------------------


def test_a_fresh_page_has_history_at_once(browser, proxy):
    wait_until(lambda: json.loads(proxy.get("/live.json"))["history"]["latest"] >= 2, "two points of history", 20)
    browser.open(proxy)
    assert len(browser.texts(".chart")) == 4
    lines = browser.script("return [...document.querySelectorAll('.chart .line')].map(path => path.getAttribute('d'))")
    assert lines and all("L" in line for line in lines), "lines of two points or more"
    labels = browser.script("return [...document.querySelectorAll('.chart svg')].map(svg => svg.getAttribute('aria-label'))")
    assert labels[0].startswith("In use: automation 0, adhoc 0; highest in five minutes")


def test_says_when_the_daemon_does_not_answer_and_comes_back(browser, proxy):
    browser.open(proxy)
    proxy.stop()
    wait_text(browser, "#word", "No answer")
    assert "has not answered for" in browser.text("#why") and browser.text("#feed-text") == "Not answering"
    assert browser.script("return document.title").startswith("No answer")
    assert browser.script("return getComputedStyle(document.querySelector('.card:not(.state)')).opacity") < "0.6"
    proxy.start()
    wait_text(browser, "#word", "Healthy")
    assert browser.text("#feed-text") == "Live"


def requests_of(browser):
    return len([url for url in browser.requests() if "/live.json" in url])


def test_pauses_when_asked_and_when_hidden(browser, proxy):
    browser.open(proxy)
    hide = ("Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'));")
    for stop, resume in ((lambda: browser.find("#pause").click(), lambda: browser.find("#pause").click()),
                         (lambda: browser.script(hide, True), lambda: browser.script(hide, False))):
        stop()
        wait_until(lambda: browser.script("return question === null"), "the last question to be over")
        browser.requests()
        browser.script("return new Promise(done => setTimeout(done, 2500))")  # two polls' time
        assert requests_of(browser) == 0
        resume()
        wait_until(lambda: requests_of(browser) > 0, "polling to go on")
    assert browser.console() == []


def test_by_keyboard_alone(browser, proxy):
    with proxy.wire(application_name="scraper-7") as wire:
        wire.query("BEGIN")
        browser.open(proxy)
        wait_text(browser, "#holders", "scraper-7")
        order = []
        browser.script("document.activeElement.blur()")
        browser.find("body").send_keys(Keys.TAB)
        while browser.focused():
            order.append(browser.focused())
            assert browser.script("const style = getComputedStyle(document.activeElement);"
                                  "return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0"), order[-1]
            browser.press(Keys.TAB)
        assert order[:4] == ["Skip to the state", "pause", "bar", "charts"]
        assert {"status", "metrics", "readyz"} <= set(order)

        browser.script("document.getElementById('bar').focus()")
        browser.press(Keys.HOME)
        assert browser.script("return document.getElementById('bar').getAttribute('aria-activedescendant')") == "slot-0"
        assert browser.text("#detail").startswith("automation: idle in transaction for")
        assert "scraper-7" in browser.text("#detail")
        assert browser.script("return document.querySelectorAll('#holders tr.at').length") == 1
        browser.press(Keys.END)
        wait_text(browser, "#detail", "free, not open")
        browser.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        wait_text(browser, "#detail", "adhoc: idle, ready")

        browser.script("document.getElementById('charts').focus()")
        browser.press(Keys.ARROW_LEFT)
        wait_text(browser, "#reading", "10 s ago: In use")
        browser.press(Keys.ESCAPE)
        wait_until(lambda: browser.text("#reading") == "", "the cursor to go")


def test_rows_are_shown_on_request(browser, start_proxy):
    proxy = start_proxy(pgreserve={"total_connections": 20}, automation={"size": 14, "max_overflow": 0})
    holders = proxy.hold(count=12)
    browser.open(proxy)
    wait_until(lambda: len(browser.texts("#holders tbody tr")) == 10, "ten rows")
    button = browser.find("#holders-more")
    assert button.text == "Show 12" and button.get_attribute("aria-expanded") == "false"
    button.click()
    assert len(browser.texts("#holders tbody tr")) == 12 and button.get_attribute("aria-expanded") == "true"
    button.click()
    assert len(browser.texts("#holders tbody tr")) == 10
    for holder in holders:
        holder.close()
    wait_text(browser, "#holders-empty", "Nobody holds a connection")


def test_screen_readers_find_their_way(browser, proxy):
    browser.open(proxy)
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]}
    roles = {role for role, _ in named}
    assert {"banner", "main", "contentinfo", "navigation", "status"} <= roles
    for region in ("Connections to the upstream", "Pools", "The last five minutes", "Holders", "Waiters"):
        assert ("region", region) in named and ("heading", region) in named
    assert ("listbox", "Connections to the upstream") in named
    assert ("group", "automation: 0 of 6 in use") in named
    assert ("table", "Pools") in named and ("columnheader", "Longest wait") in named
    assert any(role == "rowheader" and name.startswith("automation") for role, name in named)
    assert any(role == "option" and name == "adhoc: idle, ready" for role, name in named)
    unnamed = [role for role, name in named if role in ("button", "link", "listbox", "table", "region") and not name]
    assert not unnamed
    assert browser.script("return document.documentElement.lang") == "en"


def test_change_of_state_is_announced_once(browser, start_proxy):
    proxy = start_proxy(automation={"size": 1, "max_overflow": 0, "timeout": 30})
    browser.open(proxy)
    browser.script("""window.said = [];
        new MutationObserver(() => said.push(document.getElementById('announce').textContent))
            .observe(document.getElementById('announce'), {childList: true, characterData: true, subtree: true});""")
    with proxy.wire() as holder, proxy.wire() as waiter:
        holder.query("BEGIN")
        waiter.send(query("SELECT 1"))
        wait_text(browser, "#word", "Exhausted")
        first = browser.text("#why")
        wait_until(lambda: browser.text("#why") != first, "the times to go on", 15)
        said = [text for text in browser.script("return said") if text.startswith("Exhausted")]
        assert len(said) == 1, "a screen reader would never be silent"
        holder.query("ROLLBACK")
        waiter.answer()
    wait_until(lambda: browser.script("return said.at(-1)").startswith("Healthy"), "the end to be told", 15)


def test_motion_is_off_for_those_who_ask(browser, proxy):
    browser.device(reduced_motion=True)
    browser.open(proxy)
    assert browser.script("return getComputedStyle(document.querySelector('.slot')).transitionDuration") in ("0s", "")


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1600])
def test_fits_every_width(browser, shipped, width):
    browser.device(width=width)
    browser.open(shipped)
    assert_fits(browser)
    slots = browser.script("return [...document.querySelectorAll('#bar .slot')].map(slot => slot.getBoundingClientRect())"
                           ".map(box => [box.left, box.right, box.width])")
    assert len(slots) == 60 and all(left >= 0 and right <= width and wide >= 11 for left, right, wide in slots)


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(browser, proxy, dark):
    """WCAG AA: a contrast of 4.5 between every text and what is behind it."""
    browser.device(dark=dark)
    with proxy.wire(application_name="scraper-7") as wire:
        wire.query("BEGIN")
        browser.open(proxy)
        wait_text(browser, "#holders", "scraper-7")
        poor = browser.script("""
            const numbers = text => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const behind = node => {
                for (; node; node = node.parentElement) {
                    const [r, g, b, a = 1] = numbers(getComputedStyle(node).backgroundColor);
                    if (a > 0.5) return [r, g, b];
                }
                return [255, 255, 255];
            };
            const poor = [];
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (walker.nextNode()) {
                const node = walker.currentNode.parentElement, box = node.getBoundingClientRect();
                if (!walker.currentNode.textContent.trim() || box.width < 2 || ['SCRIPT', 'STYLE'].includes(node.tagName))
                    continue;
                const [a, b] = [light(numbers(getComputedStyle(node).color)), light(behind(node))];
                const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                if (contrast < 4.5) poor.push([walker.currentNode.textContent.trim(), contrast.toFixed(2)]);
            }
            return poor;""")
        assert poor == []


def test_a_large_crowd_is_counted_not_listed(browser, start_proxy):
    """Waiters by the hundred: the page has the first of them and the number of all, and the document stays small."""
    proxy = start_proxy(automation={"size": 2, "max_overflow": 0, "timeout": 120})
    with Crowd(proxy) as crowd:
        crowd.open_transaction(2, "scraper-7")
        crowd.run(600, "worker", "SELECT 1")
        proxy.wait_pool(waiting=600, timeout=30)
        document = proxy.get("/live.json")
        assert len(document) < 80_000 and len(json.loads(document)["waiters"]["rows"]) == 100
        browser.open(proxy)
        assert browser.text("#waiters-count") == "the first 10 of 600"
        assert_same_as_status(browser, proxy)
        longest = browser.script("""
            const times = [];
            for (let i = 0; i < 5; i++) { const start = performance.now(); show(live); times.push(performance.now() - start); }
            return Math.max(...times);""")
        assert longest < 200, "milliseconds to draw it all anew"
