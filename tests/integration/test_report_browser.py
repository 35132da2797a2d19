"""Tests of the report of `streamav localize --html` in a real Chromium, opened as a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rigs.browser import axe_program, chromium, opened, screenshot, until
from rigs.browser_clip import write_playable
from rigs.live_page import HOSTILE

from streamav.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = (390, 844)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> dict[str, Path]:
    """Write one report with the recording inside, one with a link, and the index of both recordings."""
    folder = tmp_path_factory.mktemp("reports")
    clips = folder / "clips"
    clips.mkdir()
    hostile = HOSTILE.replace("/", "_")  # a name of a file holds no slash
    for name in (hostile, "plain"):
        write_playable(clips / f"{name}.mp4", 12)
    made = {"inside": folder / "inside.html", "linked": folder / "index-reports" / "002-plain.html", "index": folder / "index.html"}
    usual = ["--model", str(tiny_bundle), "--engine", "torch"]
    assert main(["localize", str(clips / f"{hostile}.mp4"), *usual, "--html", str(made["inside"])]) == 0
    assert main(["localize", str(clips), *usual, "--html", str(made["index"]), "--embed-mb", "0"]) == 0
    (clips / "notes.mp4").write_text("no recording", encoding="utf-8")
    made |= {"quiet": folder / "quiet.html", "broken": folder / "broken.html"}
    assert main(["localize", str(clips / "plain.mp4"), "--model", "starter", "--engine", "torch", "--html", str(made["quiet"])]) == 0
    assert main(["localize", str(clips), *usual, "--html", str(made["broken"])]) == 3
    return made


@pytest.fixture(scope="module")
def browser(reports: dict[str, Path]) -> Iterator[Browser]:  # the reports first: playwright keeps a loop in this thread
    with chromium() as started:
        yield started


def drawn(tab: Page) -> None:
    tab.wait_for_selector("#top li")
    until(tab, "document.getElementById('lanes').width > 200")


@pytest.mark.parametrize("name", ["inside", "linked"])
def test_the_player_and_the_timeline_move_together(browser: Browser, reports: dict[str, Path], name: str) -> None:
    """The recording plays from the file; a key on the timeline seeks in it, and seeking in it moves the timeline and the picture."""
    with opened(browser, reports[name].as_uri()) as tab:
        drawn(tab)
        until(tab, "document.querySelector('video').readyState >= 2")
        assert abs(tab.evaluate("document.querySelector('video').duration") - 12.0) < 0.2
        tab.locator("#lanes").focus()
        for _ in range(5):
            tab.keyboard.press("ArrowRight")
        until(tab, "Math.abs(document.querySelector('video').currentTime - 5.5) < 0.3")
        tab.evaluate("document.querySelector('video').currentTime = 9.4")
        until(tab, "document.getElementById('lanes').getAttribute('aria-valuenow') === '9'")
        shade = "[...document.getElementById('picture').getContext('2d').getImageData(3, 3, 1, 1).data].slice(0, 3)"
        tab.uncheck("#heat")
        until(tab, f"{shade}.every(value => Math.abs(value - 180) < 14)")  # second 9 has the brightness 180
        screenshot(tab, f"report-{name}")


def test_an_event_seeks_and_the_events_are_saved(browser: Browser, reports: dict[str, Path]) -> None:
    """A click on an event goes to its first second; each link saves the events in its format."""
    with opened(browser, reports["linked"].as_uri()) as tab:
        drawn(tab)
        tab.click("#event-list button >> nth=0")
        start = tab.inner_text("#event-list button .what span >> nth=0").split(",")[0].split(":")[1]
        until(tab, f"Math.floor(document.querySelector('video').currentTime) === {int(start)}")
        saved = {}
        for link in tab.query_selector_all(".exports a"):
            with tab.expect_download() as caught:
                link.click()
            saved[caught.value.suggested_filename] = Path(caught.value.path()).read_text()
        assert sorted(saved) == ["plain.csv", "plain.json", "plain.rttm", "plain.txt", "plain.vtt"]
        assert saved["plain.vtt"].startswith("WEBVTT")
        count = len(json.loads(saved["plain.json"])["events"])
        assert count == len(saved["plain.csv"].splitlines()) - 1 == tab.locator("#event-list li").count() > 0


def test_hostile_names_run_nothing(browser: Browser, reports: dict[str, Path]) -> None:
    """The name of the recording is shown as text, in the report and in the index, and the index opens the report."""
    with opened(browser, reports["inside"].as_uri()) as tab:
        drawn(tab)
        assert HOSTILE.replace("/", "_") in tab.text_content(".file")
        assert tab.title() != "broken into"
    with opened(browser, reports["index"].as_uri()) as tab:
        assert HOSTILE.replace("/", "_") in tab.text_content("table")
        assert str(reports["index"].parent) not in tab.text_content("table")  # a name is its path below the common folder
        assert tab.title() != "broken into"
        tab.click("table a >> nth=0")
        drawn(tab)


def test_a_recording_that_moved_is_told(browser: Browser, reports: dict[str, Path], tmp_path: Path) -> None:
    """A report without its recording says so, and still shows pictures and events."""
    moved = tmp_path / "deep" / "down.html"
    moved.parent.mkdir()
    moved.write_bytes(reports["linked"].read_bytes())
    with opened(browser, moved.as_uri()) as tab:
        drawn(tab)
        until(tab, "document.getElementById('media-note').textContent.includes('not found')")
        tab.keyboard.press("Tab")
        tab.locator("#lanes").focus()
        tab.keyboard.press("ArrowRight")
        until(tab, "document.getElementById('lanes').getAttribute('aria-valuenow') === '1'")
        tab.said.clear()  # the browser reports the file that is missing


@pytest.mark.parametrize("name", ["inside", "index"])
def test_nothing_is_cut_off(browser: Browser, reports: dict[str, Path], name: str) -> None:
    """Report and index fit every width without scrolling sideways."""
    with opened(browser, reports[name].as_uri()) as tab:
        for width, height in ((320, 640), PHONE, (900, 800), (1360, 900)):
            tab.set_viewport_size({"width": width, "height": height})
            tab.wait_for_timeout(200)
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["inside", "index"])
def test_axe_finds_nothing(browser: Browser, reports: dict[str, Path], scheme: str, name: str) -> None:
    """The checks of axe-core (WCAG 2.1 A and AA, contrast included) find no violation in report and index, in both themes."""
    with opened(browser, reports[name].as_uri(), scheme=scheme) as tab:
        if name == "inside":
            drawn(tab)
            tab.click("summary")
        tab.evaluate(axe_program())
        found = tab.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})")
        tab.said.clear()
    problems = [(one["id"], [node["target"] for node in one["nodes"]], one["nodes"][0]["failureSummary"]) for one in found["violations"]]
    assert not problems, json.dumps(problems, indent=1)


def test_a_recording_without_events_says_what_came_nearest(browser: Browser, reports: dict[str, Path]) -> None:
    """A report without an event names the label that came nearest and its threshold, and offers no empty table and no empty files."""
    with opened(browser, reports["quiet"].as_uri()) as tab:
        drawn(tab)
        assert "No event was found" in tab.inner_text("#none")
        nearest = (
            r"Nearest came .+: \d+ % at 0:\d\d; an event of it begins at \d+ %\.|No label came near one: every score is below 0\.1 %\."
        )
        assert re.fullmatch(nearest, tab.inner_text("#nearest"))
        assert tab.is_hidden(".exports")
        assert tab.is_hidden("main > details")
        screenshot(tab, "report-quiet")


def test_a_file_that_was_not_read_has_room_for_its_reason(browser: Browser, reports: dict[str, Path]) -> None:
    """In the list of recordings the reason why a file was not read stands in the widest column."""
    with opened(browser, reports["broken"].as_uri()) as tab:
        rows = tab.eval_on_selector_all("tr", "rows => rows.map((row) => [...row.cells].map((one) => one.innerText))")
        (cells,) = [row for row in rows if row[3] == "not read"]
        assert "is not a media file" in cells[4]


def test_the_index_gives_its_width_to_time(browser: Browser, reports: dict[str, Path]) -> None:
    """In the index of many recordings the strip that shows when events were is the widest column of a desktop's page."""
    with opened(browser, reports["index"].as_uri()) as tab:
        widths = tab.eval_on_selector_all("tbody tr:first-child td", "all => all.map(one => one.offsetWidth)")
        strip = tab.evaluate("document.querySelector('td .strip').getBoundingClientRect().width")
        assert strip > 400
        assert widths.index(max(widths)) == len(widths) - 1
