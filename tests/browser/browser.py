"""A real browser, Debian's chromium without a window, that can reach nothing but this machine.

`Browser.open(proxy)` shows a daemon's page and waits until it has figures.  What the page wrote to the console and
what it asked the network for are kept for the tests; sizes, dark mode and reduced motion are set as a user's
device would set them.
"""

import base64
import json
import shutil
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from waiting import wait_until

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb", "--lang=en-GB",
         "--proxy-server=direct://", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")


def plain(text):
    """With blanks where the page has blanks that keep a number and its unit on one line."""
    return text.replace("\u00a0", " ")


class Browser:
    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="pgreserve-test-browser-")
        options = Options()
        options.binary_location = shutil.which("chromium")
        for flag in (*FLAGS, f"--user-data-dir={self.profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
        self.driver.set_page_load_timeout(20)

    def destroy(self):
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    # -- the device ------------------------------------------------------------------------------

    def device(self, width=1280, height=900, dark=False, reduced_motion=False):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"}]})

    def screenshot(self, path):
        """The whole page, however long."""
        height = self.script("return document.documentElement.scrollHeight")
        width = self.script("return window.innerWidth")
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {
            "format": "png", "captureBeyondViewport": True,
            "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}})
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    # -- the page --------------------------------------------------------------------------------

    def open(self, proxy, host="127.0.0.1"):
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(f"http://{host}:{proxy.ports['http']}/")
        wait_until(lambda: self.state() in ("healthy", "high_load", "exhausted", "down"), "the page to have figures")

    def script(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def state(self):
        return self.script("return document.getElementById('state').dataset.state")

    def text(self, selector):
        """What stands there now; "" when it does not show."""
        return plain(self.script("const node = document.querySelector(arguments[0]);"
                                 "return node && node.getClientRects().length ? node.innerText.trim() : ''", selector))

    def texts(self, selector):
        return [plain(text) for text in self.script(
            "return [...document.querySelectorAll(arguments[0])].map(node => node.innerText.trim())", selector)]

    def figures(self):
        """Every figure of a table or of the head by its name, "automation.in_use", as it reads."""
        return self.script("return Object.fromEntries([...document.querySelectorAll('[data-figure]')]"
                           ".map(node => [node.dataset.figure, node.innerText]))")

    def slots(self):
        """How many slots of each kind are drawn, by the kind's words in their labels."""
        return self.script("""
            const counts = {};
            for (const node of document.querySelectorAll('#bar [role=option]')) {
                const kind = [...node.classList].find(name => name !== 'slot' && name !== 'at');
                counts[kind] = (counts[kind] || 0) + 1;
            }
            return counts;""")

    def press(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def focused(self):
        """The id, or else the text, of what has the keyboard; "" when nothing has."""
        return self.script("const node = document.activeElement;"
                           "return node === document.body ? '' : node.id || node.textContent")

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    # -- behind it -------------------------------------------------------------------------------

    def console(self):
        """Warnings and errors since the page was opened or this was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] in ("WARNING", "SEVERE")]

    def requests(self):
        """The addresses that were asked for since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [message["params"]["request"]["url"] for message in messages
                if message["method"] == "Network.requestWillBeSent"]


__all__ = ["Browser", "Keys"]
