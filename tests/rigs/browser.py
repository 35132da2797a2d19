"""Runs a real Chromium for tests of the live page."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rigs.services import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["axe_program", "chromium", "opened", "screenshot", "until"]

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser; skip the test when it, or playwright, is missing; fail in CI."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing("chromium is missing: apt-get install chromium fonts-dejavu-core")
    if importlib.util.find_spec("playwright") is None:
        missing("playwright is missing: pip install 'streamav[dev]'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, address: str, *, size: tuple[int, int] = (1360, 900), scheme: str = "light") -> Iterator[Page]:
    """Open a page; every error of its scripts, and every error on its console, fails the test at the end."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.set_default_timeout(60_000)  # real time: a busy machine may be slow
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.said = said
    page.goto(address, wait_until="domcontentloaded")
    try:
        yield page
        assert not said, said
    finally:
        page.close()


def until(page: Page, condition: str, seconds: float = 120.0) -> None:
    """Wait until a condition in JavaScript holds; playwright's own wait is forbidden by the page's content security policy."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s without success for: {condition}")
        page.wait_for_timeout(100)


def screenshot(page: Page, name: str) -> None:
    """Write a picture of the whole page into the folder $STREAMAV_SCREENSHOTS, when that is set."""
    folder = os.environ.get("STREAMAV_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def axe_program() -> str:
    """Return the program of axe-core, which the package axe-playwright-python holds."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None:
        missing("axe-playwright-python is missing: pip install 'streamav[dev]'")
    assert found is not None
    return (Path(str(found.origin)).parent / "axe.min.js").read_text(encoding="utf-8")
