"""Fixtures of the browser tests: those of the integration tests, and one chromium a worker.

The integration tests' conftest.py is loaded by its path, because two files of one name cannot both be imported; its
fixtures and hooks are made this folder's own.
"""

import importlib.util
import os
import shutil
import sys

import pytest

INTEGRATION = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "integration")
sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), INTEGRATION]


def _load_shared():
    spec = importlib.util.spec_from_file_location("integration_conftest", os.path.join(INTEGRATION, "conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_shared = _load_shared()
for _name in ("pytest_configure", "pytest_runtest_makereport", "pytest_unconfigure", "room_of_its_own",
              "shared_postgres", "postgres", "start_proxy", "proxy", "have"):
    globals()[_name] = getattr(_shared, _name)


@pytest.fixture(scope="session")
def shared_browser():
    for program in ("chromium", "chromedriver"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    selenium = pytest.importorskip("selenium")
    assert selenium
    from browser import Browser
    browser = Browser()
    yield browser
    browser.destroy()


@pytest.fixture
def browser(shared_browser):
    shared_browser.device()
    yield shared_browser
    shared_browser.driver.get("about:blank")  # polls no more
