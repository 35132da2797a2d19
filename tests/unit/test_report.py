"""Tests of the report about a recording, without a browser: what it holds, what it escapes, and that it stays small."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rigs.browser_clip import write_playable
from rigs.live_page import HOSTILE, observation, shown_event, subject
from rigs.media_clips import write_clip

from streamav.cli import main
from streamav.view.document import data_text, joined_modules, static_text
from streamav.view.player import Media, media_of
from streamav.view.recording import ReportRecorder
from streamav.view.recording_page import Export, IndexRow, ReportModel, index_page, recording_page

MODEL = ReportModel(name=HOSTILE, version="1", engine="torch-fp32")
UNPLAYED = Media(None, None, "", "no player")


class Elements(HTMLParser):
    """Collects the elements of a document, their attributes and the text of script elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts.append(data)
            self._inside = False


def recorded(seconds: int = 20, *names: str) -> ReportRecorder:
    recorder = ReportRecorder(subject(names=names or ("Bark", "Bird", "Siren")))
    for index in range(seconds):
        recorder.observe("porch", observation(index, 0.9))
        if index == 15:
            recorder.event(shown_event(start=9, end=14))
    return recorder


def test_the_data_are_those_of_the_run() -> None:
    """One picture and one spectrogram for each second, the final scores once each, and the event with its best second's picture."""
    tree = recorded().tree()
    assert tree["seconds"] == len(tree["pictures"]) == 20
    assert tree["first_scored"] == 6
    assert len(tree["scores"]) == 11  # seconds 6 to 16 are four windows old
    assert tree["scores"][0][2] == 900
    (event,) = tree["events"]
    assert (event["start_s"], event["end_s"]) == (9.0, 14.0)
    assert event["thumbnail"] == tree["pictures"]["9"]


def test_a_long_recording_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the bound of pictures: at most the bound is kept, evenly; the spectrogram becomes coarser, not longer."""
    monkeypatch.setattr("streamav.view.recording.MOST_PICTURES", 20)
    monkeypatch.setattr("streamav.view.recording._MOST_COLUMNS", 24 * 20)
    recorder = ReportRecorder(subject())
    shown = observation(0)
    assert shown.segment is not None
    picture = shown.segment.frames[:1]
    for index in range(81):
        recorder.observe("porch", observation(index, pictures=picture))
    tree = recorder.tree()
    kept = sorted(map(int, tree["pictures"]))
    assert 10 <= len(kept) <= 20
    assert set(np.diff(kept)) == {tree["step"]}
    assert tree["columns"] * tree["seconds"] <= 24 * 20


def test_a_retracted_event_is_not_in_the_report() -> None:
    """Only confirmed events are listed, as in the table of the command."""
    from dataclasses import replace

    recorder = ReportRecorder(subject())
    recorder.event(replace(shown_event(start=9, end=14), confirmed=False))
    assert recorder.tree()["events"] == []


def test_hostile_texts_stay_texts() -> None:
    """Markup in the names of file, model, labels and formats makes no element and no attribute; the data end no script element."""
    page = recording_page(
        HOSTILE, recorded(20, HOSTILE, "</script>", "<!--<script>"), MODEL, UNPLAYED, [Export(HOSTILE, HOSTILE, "text/csv", HOSTILE)]
    )
    elements = Elements(page)
    assert [tag for tag, _ in elements.found].count("script") == 2
    assert not [attributes for _, attributes in elements.found if "onerror" in attributes or attributes.get("src") == "x"]
    assert json.loads(elements.scripts[0])["labels"][0]["name"] == HOSTILE
    index = index_page(
        HOSTILE, [IndexRow(HOSTILE, HOSTILE, None, 20, None, recorded().tree()["events"]), IndexRow(HOSTILE, None, HOSTILE)], MODEL
    )
    assert not [attributes for _, attributes in Elements(index).found if "onerror" in attributes]
    assert [tag for tag, _ in Elements(index).found].count("script") == 1


def test_a_name_that_is_no_text_is_shown() -> None:
    """A file name with bytes that are no UTF-8 is shown with question marks, and the document can be written."""
    page = recording_page("bark\udcff.mp4", recorded(), MODEL, UNPLAYED, [])
    assert "bark?.mp4" in page
    page.encode()


def test_nothing_is_loaded_and_only_this_program_runs() -> None:
    """The policy allows one script by its hash; no element names an address, and every import of the program is joined."""
    page = recording_page("a.mp4", recorded(), MODEL, UNPLAYED, [])
    policy = next(str(attributes["content"]) for tag, attributes in Elements(page).found if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    for tag, attributes in Elements(page).found:
        for key in ("src", "href"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:", "#")), (tag, value)


def test_modules_are_joined_whole() -> None:
    """The joined program holds no import and no export, and each module that the report needs once, before what uses it."""
    program = joined_modules("report.js")
    assert not re.search(r"^\s*(import|export)\b", program, re.MULTILINE)
    for name in ("colours", "store", "lanes", "panels", "picture", "strip", "theme"):
        assert program.count(f"const from_{name} = (() => ") == 1
        assert program.index(f"const from_{name} = ") < program.index("const from_report = ")
    for name in ("colours.js", "store.js", "lanes.js", "panels.js", "picture.js", "strip.js", "theme.js", "report.js"):
        text = static_text(name)
        for line in text.splitlines():  # the only forms that the joiner understands
            assert not line.startswith("import") or re.fullmatch(r'import \{ [\w, ]+ \} from "\./\w+\.js";', line), line
            assert not line.startswith("export") or re.match(r"export (function|class|const) \w+", line), line


def test_data_cannot_end_their_element() -> None:
    """JSON inside a script element holds no angle bracket, and is the same value."""
    text = data_text({"a": "</script><!--"})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!--"}


def test_small_recordings_are_inside_and_large_ones_linked(tmp_path: Path) -> None:
    """Up to the limit the file is in the report; above it, the address is relative and safe, whatever the name is."""
    clip = tmp_path / "javascript:alert(1) #?%.mp4"
    write_playable(clip, 2)
    (tmp_path / "out").mkdir()
    inside = media_of(str(clip), tmp_path / "out" / "r.html", 1.0)
    assert inside.content is not None
    assert inside.policy == "media-src blob:"
    linked = media_of(str(clip), tmp_path / "out" / "r.html", 0.0)
    assert linked.content is None
    assert linked.url == "./../javascript%3Aalert%281%29%20%23%3F%25.mp4"


def test_what_browsers_cannot_play_is_said(tmp_path: Path) -> None:
    """A container or a codec that browsers do not know has no player, and the note names it and the remedy."""
    write_clip(tmp_path / "old.mp4", 2.0, 90)
    write_playable(tmp_path / "a.mkv", 2)
    for name, reason in (("old.mp4", "mpeg4"), ("a.mkv", ".mkv")):
        media = media_of(str(tmp_path / name), tmp_path / "r.html", 16.0)
        assert media.type == ""
        assert reason in media.note
        assert "convert" in media.note


def test_the_command_writes_an_index_of_a_folder(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder gives one index that links a report for each recording that could be read, and names the one that could not."""
    (tmp_path / "in").mkdir()
    for name in ("a b.mp4", "c.mp4"):
        write_clip(tmp_path / "in" / name, 11.0, 200)
    (tmp_path / "in" / "d.mp4").write_bytes(b"no media")
    out = tmp_path / "all.html"
    assert main(["localize", str(tmp_path / "in"), "--model", str(tiny_bundle), "--engine", "torch", "--html", str(out)]) == 3
    links = [str(attributes["href"]) for tag, attributes in Elements(out.read_text()).found if tag == "a"]
    assert links == ["./all-reports/001-a-b.html", "./all-reports/002-c.html"]
    assert all((tmp_path / link).is_file() for link in links)
    assert "is not a media file" in out.read_text()
    said = capsys.readouterr()
    assert "Browsers cannot play" in said.err
    assert "report written to" in said.err
    page = (tmp_path / links[0]).read_text()
    assert "Browsers cannot play" in page.partition('<div id="focus"')[0]  # above the columns, which have no place for it


@pytest.mark.parametrize("name", ["no/such/folder.html", "a.mp4"])
def test_a_report_that_cannot_be_written_is_refused_first(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing folder, and a report in the place of the recording, are refused before the run; the recording keeps its content."""
    write_clip(tmp_path / "a.mp4", 3.0, 90)
    before = (tmp_path / "a.mp4").read_bytes()
    assert main(["localize", str(tmp_path / "a.mp4"), "--html", str(tmp_path / name)]) == 2
    assert "--html must be" in capsys.readouterr().err
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_every_colour_has_a_light_and_a_dark_form() -> None:
    """page.css names each colour once, dark.css the same names for the dark theme; both stand once in a report and on the page."""
    light, dark = (re.findall(r"(--[\w-]+):", text) for text in (static_text("page.css").split("}")[0], static_text("dark.css")))
    assert len(set(light)) == len(light) > 20
    assert sorted(dark) == sorted(light)
    assert "prefers-color-scheme" not in static_text("page.css") + static_text("report.css")
    page = recording_page("a.mp4", recorded(), MODEL, UNPLAYED, [])
    sheets = [attributes.get("media") for tag, attributes in Elements(page).found if tag == "style"]
    assert sheets == [None, "(prefers-color-scheme: dark)"]
    for name in ("index.html", "login.html"):
        assert static_text(name).count('href="/static/dark.css" id="dark" media="(prefers-color-scheme: dark)"') == 1
