"""Tests of the live page as a person uses it in a real Chromium: with the keyboard alone, with odd names, and over hours in an open tab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from rigs.browser import chromium, opened, screenshot, until
from rigs.live_page import observation, served, shown_event, subject
from rigs.review_desk import make_desk, write_scores

from streamav.config import ViewSettings
from streamav.types import TRYING_AGAIN, SourceState
from streamav.view import LivePage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ODD_NAMES = (
    "Tür „quietscht“ über dem Gästehaus  ",
    "狗在门口叫 🐕‍🦺",
    "a_very_long_name_without_any_space_that_a_person_made_of_words_and_words_and_words",
)
LIVE = "document.getElementById('connection').textContent === 'live'"
CONTROLS = """() => [...document.querySelectorAll('a, button, input, select, summary, canvas[tabindex="0"], video')].filter((one) =>
    one.checkVisibility({visibilityProperty: true}) && !one.disabled && !one.closest('dialog')).length"""
FOCUSED = """() => { const one = document.activeElement, style = getComputedStyle(one);
    return [one === document.body ? '' : one.id || one.className || one.textContent,
            style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2]; }"""
TOO_WIDE = """() => [...document.querySelectorAll('body *')].filter((one) =>
    one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.tagName + one.id + one.className)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def feed(page: LivePage, seconds: int, source: str = "porch") -> None:
    """Give the page the first seconds of a source."""
    for index in range(seconds):
        page.observe(source, observation(index, 0.9))
    page.source_state(source, SourceState.ONLINE, "sound and picture arrive")


def port_of(page: LivePage) -> int:
    return int(page.address.rsplit(":", 1)[1].rstrip("/"))


def test_every_control_is_reached_by_the_keyboard(browser: Browser, tmp_path: Path) -> None:
    """Tab reaches every control and shows where it is; a dialog opens by Enter, keeps the focus, closes by Escape and gives it back."""
    write_scores(tmp_path / "journal.sqlite3", [0.0] * 9 + [0.9] * 11)
    with served(desk=make_desk(tmp_path, changes=[])) as page:
        feed(page, 20)
        page.event(shown_event(start=9, end=14), 0.1)
        with opened(browser, page.address) as tab:
            tab.wait_for_selector("#event-list .actions button")
            tab.locator("#zones summary").focus()
            tab.keyboard.press("Enter")
            tab.locator(".skip").focus()
            seen: list[str] = []
            while len(seen) < 60:
                name, shown = tab.evaluate(FOCUSED)
                if not name:
                    break
                assert shown, name
                seen.append(name)
                tab.keyboard.press("Tab")
            assert len(seen) == tab.evaluate(CONTROLS), seen
            opener = tab.locator("#event-list .actions button >> nth=0")
            opener.focus()
            tab.keyboard.press("Enter")
            tab.wait_for_selector("#why dd")
            for _ in range(6):
                assert tab.evaluate("document.activeElement.closest('dialog') !== null || document.activeElement === document.body")
                tab.keyboard.press("Tab")
            tab.keyboard.press("Escape")
            assert tab.locator("#event-dialog").is_hidden()
            assert opener.evaluate("(one) => one === document.activeElement")
            tab.said.clear()  # a clip that is not there


def test_an_event_that_goes_on_keeps_the_focus(browser: Browser, tmp_path: Path) -> None:
    """The list is drawn again every second while an event goes on; who is on one of its buttons stays there, and sees the new length."""
    write_scores(tmp_path / "journal.sqlite3", [0.0] * 9 + [0.9] * 11)
    with served(desk=make_desk(tmp_path)) as page:
        feed(page, 12)
        page.event(shown_event(start=9), 0.1)
        with opened(browser, page.address) as tab:
            wrong = tab.locator("#event-list .actions button >> nth=2")
            wrong.focus()
            page.event(shown_event(start=9, end=16), 0.1)
            until(tab, "document.getElementById('event-list').textContent.includes('7 s, ended')")
            assert wrong.evaluate("(one) => one === document.activeElement")


def test_choosing_a_source_by_keyboard_keeps_the_place(browser: Browser) -> None:
    """Enter on a source or on its card shows it, and the focus stays on the row of sources, also when the connection starts again."""
    with served(subject("porch"), subject("gate")) as page:
        for name in ("porch", "gate"):
            feed(page, 12, name)
        with opened(browser, page.address) as tab:
            tab.locator("#overview button[data-source=gate]").focus()
            tab.keyboard.press("Enter")
            place = "document.activeElement.dataset.source"
            assert tab.evaluate(place) == "gate"
            tab.keyboard.press("Shift+Tab")
            tab.keyboard.press("Enter")
            assert tab.evaluate(place) == "porch"
            page.add_source(subject("yard"))
            until(tab, "document.getElementById('sources').children.length === 4")
            assert tab.evaluate(place) == "porch"
            assert tab.evaluate("location.hash") == "#porch"


@pytest.mark.parametrize("size", [(320, 700), (640, 800), (1360, 900)], ids=["320", "zoom 200 %", "desktop"])
def test_odd_names_fit(browser: Browser, size: tuple[int, int], tmp_path: Path) -> None:
    """Umlauts, quotes, Chinese, emoji and names without a space fit every width, also the narrowest and with a zoom of 200 %."""
    source = "a-source-with-the-longest-name-that-is-allowed-in-a-topic-0123456"
    source = source[:64]
    with served(subject(source, names=ODD_NAMES), name=ODD_NAMES[2], desk=make_desk(tmp_path, changes=[])) as page:
        feed(page, 20, source)
        for place, name in enumerate(ODD_NAMES):
            page.event(shown_event(source, start=9 + place, end=14, name=name, identifier=f"{place}" * 26), 0.1)
        page.source_state(source, SourceState.LOST, f"no answer of rtsp://{'long' * 20}.example.net/stream{TRYING_AGAIN}")
        with opened(browser, page.address, size=size) as tab:
            until(tab, "document.getElementById('event-list').children.length === 3")
            tab.wait_for_selector("#top li")
            tab.click("#zones summary")
            screenshot(tab, f"odd-{size[0]}")
            assert tab.evaluate(TOO_WIDE) == []
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert ODD_NAMES[1] in tab.inner_text("#event-list")
            tab.click("#missed")
            assert tab.evaluate(
                "document.querySelector('#missed-dialog').scrollWidth <= document.querySelector('#missed-dialog').clientWidth"
            )
            screenshot(tab, f"odd-missed-{size[0]}")
            tab.said.clear()


def test_a_tab_in_the_background_comes_back_over_a_restart(browser: Browser) -> None:
    """A page whose run ended while the tab was hidden shows the new run as soon as the viewer comes back, and at once."""
    with served() as page:
        port = port_of(page)
        feed(page, 12)
        context = opened(browser, page.address)
        tab = context.__enter__()
        until(tab, LIVE)
        tab.evaluate("Object.defineProperty(document, 'hidden', {configurable: true, get: () => true})")
    until(tab, "document.getElementById('connection').textContent === 'the run has ended'")
    with served(settings=ViewSettings(enabled=True, port=port), name="second") as page:
        feed(page, 12)
        tab.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        until(tab, f"{LIVE} && document.getElementById('run').textContent.startsWith('second')", 20.0)
        tab.said.clear()
        context.__exit__(None, None, None)


def test_a_restart_asks_for_the_token_again(browser: Browser) -> None:
    """The cookie of one run does not hold for the next: an open page then shows the login instead of a connection that never comes."""
    settings = ViewSettings(enabled=True, port=0, token=SecretStr("a token of sixteen"))
    with served(settings=settings) as page:
        port = port_of(page)
        context = opened(browser, page.address)
        tab = context.__enter__()
        log_in(tab)
        until(tab, LIVE)
    with served(settings=settings.model_copy(update={"port": port})) as page:
        feed(page, 12)
        tab.wait_for_selector("input[name=token]")
        log_in(tab)
        until(tab, LIVE)
        tab.said.clear()
        context.__exit__(None, None, None)


def log_in(tab: Page) -> None:
    tab.fill("input[name=token]", "a token of sixteen")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#connection")


def test_a_new_version_is_loaded_once(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of an older version loads itself again when the run serves another one; when that does not help it stays as it is."""
    with served() as page:
        feed(page, 12)
        loads: list[str] = []
        with opened(browser, page.address) as tab:
            until(tab, LIVE)
            tab.on("request", lambda request: loads.append(request.url) if request.url == page.address else None)
            monkeypatch.setattr("streamav.view.page.page_sha256", lambda: "another")
            with tab.expect_navigation():
                page._server.call(page._reconnect)
            until(tab, LIVE)
            tab.wait_for_timeout(1500)
            assert loads == [page.address]


def test_a_mangled_address_is_no_obstacle(browser: Browser) -> None:
    """An address that a mail program has cut in the middle of a name shows all sources."""
    with served(subject("porch"), subject("gate")) as page:
        feed(page, 12)
        with opened(browser, f"{page.address}#%E7%8B") as tab:
            until(tab, LIVE)
            tab.wait_for_selector("#overview button")


def test_a_connection_without_news_is_opened_again(browser: Browser) -> None:
    """A connection that seems open but brings nothing, as after a machine has slept, is replaced; time and place stay."""
    with served() as page:
        feed(page, 12)
        tab = browser.new_page()
        try:
            tab.clock.install()
            tab.goto(page.address)
            until(tab, LIVE)
            tab.locator("#lanes").press("ArrowLeft")
            sockets: list[str] = []
            tab.on("websocket", lambda socket: sockets.append(socket.url))
            tab.clock.fast_forward(45_000)
            for _ in range(20):
                tab.clock.run_for(1000)
            until(tab, LIVE, 20.0)
            assert sockets
            assert "Top five at" in tab.inner_text("#now-title")
        finally:
            tab.close()


def test_the_last_hour_is_that_of_the_run(browser: Browser, tmp_path: Path) -> None:
    """A browser whose clock is wrong by five minutes draws the strip of the last hour where a right one does."""
    answer = {"until": 1e6, "seconds": 60, "now": {"events": 1, "seconds": 9, "spans": [[1e6 - 600, 1e6 - 591]]}}
    write_scores(tmp_path / "journal.sqlite3", [0.9] * 20)
    with served(desk=make_desk(tmp_path, changes=[])) as page, opened(browser, "about:blank") as tab:
        feed(page, 20)
        tab.route("**/page/what-if*", lambda route: route.fulfill(json={**answer, "then": answer["now"]}))
        tab.goto(page.address)
        tab.wait_for_selector("#hour-strip rect", state="attached")
        assert tab.get_attribute("#hour-strip rect >> nth=0", "x") == "3000"
        tab.said.clear()


def test_a_source_that_comes_back_looks_live_again(browser: Browser) -> None:
    """A camera that is lost is grey with its reason; when it is back, the notice goes, the picture has colour, and events stay."""
    grey = "getComputedStyle(document.getElementById('picture')).filter.includes('grayscale(1)')"
    with served() as page:
        feed(page, 14)
        page.event(shown_event(start=9, end=13), 0.1)
        with opened(browser, page.address) as tab:
            tab.wait_for_selector("#event-list li")
            page.source_state("porch", SourceState.LOST, f"no picture for 5 s{TRYING_AGAIN}")
            until(tab, f"document.getElementById('state').textContent.includes('no picture for 5 s') && {grey}")
            page.source_state("porch", SourceState.WARMING_UP, "the source is back")
            for index in range(20, 32):
                page.observe("porch", observation(index, 0.9))
            page.source_state("porch", SourceState.ONLINE, "sound and picture arrive")
            until(tab, f"document.getElementById('state').textContent === '' && !{grey}")
            assert tab.locator("#event-list li").count() == 1


def test_nothing_moves_for_who_wants_no_motion(browser: Browser) -> None:
    """With prefers-reduced-motion the picture, the timeline and the cards of several sources change once a second, and not between."""
    drawn = "[...document.querySelectorAll('canvas')].map((one) => one.toDataURL()).join()"
    with served(subject("porch"), subject("gate")) as page:
        for name in ("porch", "gate"):
            feed(page, 12, name)
        with opened(browser, page.address) as tab:
            tab.emulate_media(reduced_motion="reduce")
            tab.wait_for_selector("#overview canvas.strip")
            for place in ("cards", "one source"):
                if place == "one source":
                    tab.click("#overview button >> nth=0")
                tab.wait_for_timeout(500)
                for name in ("porch", "gate"):
                    page.observe(name, observation(12 if place == "cards" else 13, 0.9))
                tab.wait_for_timeout(250)
                before = tab.evaluate(drawn)
                tab.wait_for_timeout(400)
                assert tab.evaluate(drawn) == before, place
