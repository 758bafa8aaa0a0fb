"""A headless Chromium with a page that remembers what went wrong in it."""

from __future__ import annotations

import importlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

__all__ = ["Watched", "chromium", "eventually", "open_page", "until"]

_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright's; skips the test where there is none.

    `HF_AGENT_CHROMIUM` names the program, if it is not `chromium` on the PATH.
    """
    path = os.environ.get("HF_AGENT_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: install Debian's package, or set HF_AGENT_CHROMIUM")
    try:
        api = importlib.import_module("playwright.sync_api")
    except ImportError:
        pytest.skip("no playwright: it is in the extra `test`")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


class Watched:
    """A page, and every error and breach of its policy that the browser told of."""

    def __init__(self, browser: Any, **context: Any) -> None:
        self._context = browser.new_context(
            viewport={"width": 1200, "height": 900}, locale="en-GB", **context
        )
        self.page = self._context.new_page()
        self.page.set_default_timeout(60_000)
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", self._dialog)
        self.page.add_init_script(
            "window.breaches = []; document.addEventListener('securitypolicyviolation',"
            " (event) => window.breaches.push(event.violatedDirective + ' ' + event.blockedURI))"
        )

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def breaches(self) -> list[str]:
        """What the page's policy has stopped."""
        found: list[str] = self.page.evaluate("window.breaches")
        return found

    def close(self) -> None:
        self._context.close()


def open_page(watched: Watched, url: str) -> Any:
    """Open the status page at `url`; returns Playwright's page once it shows an agent."""
    page = watched.page
    page.goto(url)
    until(page, "document.getElementById('connection').textContent === 'Live'")
    return page


def until(page: Any, expression: str) -> None:
    """Return when a JavaScript expression is true.

    Playwright's own `wait_for_function` evaluates strings in the page, which the policy forbids.
    """
    eventually(page, lambda: bool(page.evaluate(expression)), what=expression)


def eventually(
    page: Any, condition: Callable[[], bool], *, what: str = "", seconds: float = 90.0
) -> None:
    """Return when `condition` holds; the page goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        page.wait_for_timeout(50)
