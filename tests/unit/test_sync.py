"""Tests the measurement of skew on media that are made here: codecs, rates, small and dim flashes, noise, odd beeps, other content."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rigs.cases import cases

from streamav.capture import open_source
from streamav.capture.delayed import DelayedSource
from streamav.cli import main
from streamav.cli.sync_check import _with_delay
from streamav.config import CaptureSettings, SourceSettings
from streamav.errors import SettingsError
from streamav.sync import Beeps, Flashes, Skew, SkewError, make_clip, measure_skew
from streamav.sync.flashes import PICTURE, PICTURES_PER_SECOND
from streamav.types import AudioBlock, SourceState, StateChange, VideoFrame

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Scene:
    """A recording of flashes and beeps."""

    skew_ms: float = 0.0
    rate: int = 25
    codecs: tuple[str, str] = ("libx264", "aac")
    suffix: str = ".mp4"
    period_s: float = 1.6
    flash_s: float = 0.12
    beep_s: float = 0.1
    share: float = 1.0
    """Of the width and height that flashes."""
    levels: tuple[int, int] = (16, 235)
    tone_hz: float = 1000.0
    """0 for white noise."""
    attack_s: float = 0.0
    noise: float = 0.0
    """Deviation of the noise, of 1 for the sound and of 255 for the picture."""
    moving: str = ""
    """What else moves in the picture: a name in MOTIONS."""
    seconds: float = 9.0

    def write(self, folder: Path) -> Path:
        path = folder / f"scene{self.suffix}"
        rng = np.random.default_rng(7)
        sound_rate = 48_000
        times = np.arange(1.2, self.seconds - 1.0, self.period_s)
        sound = rng.normal(0.0, self.noise, round(self.seconds * sound_rate))
        for time in times + self.skew_ms / 1000.0:
            at = np.arange(round(self.beep_s * sound_rate)) / sound_rate
            beep = 0.5 * (np.sin(2 * np.pi * self.tone_hz * at) if self.tone_hz else rng.normal(0.0, 0.4, at.size))
            if self.attack_s:
                beep *= np.minimum(1.0, at / self.attack_s)
            first = round(time * sound_rate)
            sound[max(0, first) : first + at.size] += beep[max(0, -first) :]
        samples = np.clip(sound, -1.0, 1.0).astype(np.float32)
        with av.open(str(path), "w") as file:
            options = {"preset": "superfast", "threads": "1"} if self.codecs[0] == "libx264" else {}
            video: Any = file.add_stream(self.codecs[0], rate=self.rate, options=options)
            video.width, video.height, video.pix_fmt = 128, 96, "yuvj420p" if self.codecs[0] == "mjpeg" else "yuv420p"
            audio: Any = file.add_stream(self.codecs[1], rate=sound_rate, layout="mono")
            resampler = av.AudioResampler(audio.codec_context.format, "mono", sound_rate, frame_size=audio.codec_context.frame_size or 960)
            done = 0
            for number in range(round(self.seconds * self.rate)):
                shown = number / self.rate
                lit = any(time - 1e-9 <= shown < time + self.flash_s for time in times)
                picture = np.full((96, 128, 3), self.levels[0], np.float64)
                if lit:
                    picture[: round(96 * self.share), : round(128 * self.share)] = self.levels[1]
                if self.moving:
                    MOTIONS[self.moving](picture, shown)
                if self.noise:
                    picture += rng.normal(0.0, 255 * self.noise, picture.shape)
                file.mux(video.encode(av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="rgb24")))
                while done < samples.size and done / sound_rate <= shown:
                    frame = av.AudioFrame.from_ndarray(samples[None, done : done + 960], format="fltp", layout="mono")
                    frame.sample_rate, frame.pts = sound_rate, done
                    file.mux([packet for one in resampler.resample(frame) for packet in audio.encode(one)])
                    done += 960
            for stream in (video, audio):
                file.mux(stream.encode())
        return path


def measured(path: Path, delay_ms: int = 0) -> Skew:
    flashes, beeps = Flashes(), Beeps()
    capture = CaptureSettings(audio_delay_ms=delay_ms)
    source = open_source(SourceSettings(uri=str(path), speed="max"), capture, picture=PICTURE, frames_per_second=PICTURES_PER_SECOND)
    for item in source.items():
        if isinstance(item, AudioBlock):
            beeps.push(item)
        elif isinstance(item, VideoFrame):
            flashes.push(item)
    return measure_skew(flashes.places_ns(), beeps.onsets_ns())


def _box(picture: NDArray[np.float64], at_s: float) -> None:
    left = round(40 * at_s) % 100
    picture[60:90, left : left + 20] = 180


def _people(picture: NDArray[np.float64], at_s: float) -> None:
    """Three bright things that walk to and fro below the flash, each at its own pace."""
    for speed, top, level in ((55.0, 50, 255), (-31.0, 62, 160), (83.0, 78, 210)):
        left = round(abs((speed * at_s) % 220 - 110))
        picture[top : top + 14, left : left + 16] = level


def _fan(picture: NDArray[np.float64], at_s: float) -> None:
    """A fan with three bright blades, twice a second."""
    rows, columns = np.mgrid[48:96, 64:128]
    angle = np.arctan2(rows - 72, columns - 96) + 2 * np.pi * 2 * at_s
    picture[48:96, 64:128][np.cos(3 * angle) > 0.6] = 230


def _television(picture: NDArray[np.float64], at_s: float) -> None:
    """A television whose scene changes four times in a second, some of them bright."""
    picture[52:92, 8:120] = np.random.default_rng(int(at_s * 4)).integers(0, 256, (4, 7)).repeat(10, 0).repeat(16, 1)[:, :, None]


def _crossing(picture: NDArray[np.float64], at_s: float) -> None:
    """Something bright that passes through the place of the flash, too."""
    left = round(70 * at_s) % 128
    picture[10:80, left : left + 12] = 225


def _switched_light(picture: NDArray[np.float64], at_s: float) -> None:
    """The light of the room goes on and off every three seconds, and something walks."""
    picture += 45 * (int(at_s / 3) % 2)
    _people(picture, at_s)


MOTIONS: dict[str, Callable[[NDArray[np.float64], float], None]] = {
    "box": _box,
    "people": _people,
    "fan": _fan,
    "television": _television,
    "crossing": _crossing,
    "switched light": _switched_light,
}


SCENES = {
    "early by 300 ms": Scene(skew_ms=-300.0),
    "late by 300 ms": Scene(skew_ms=300.0),
    "in step": Scene(),
    "one a second": Scene(skew_ms=180.0, period_s=1.0),
    "30 pictures a second, PCM": Scene(skew_ms=-77.0, rate=30, codecs=("libx264", "pcm_s16le"), suffix=".mkv", period_s=1.5),
    "10 pictures a second": Scene(skew_ms=110.0, rate=10, flash_s=0.2, period_s=1.4),
    "MPEG-TS": Scene(skew_ms=-210.0, suffix=".ts"),
    "MJPEG and Opus": Scene(skew_ms=60.0, codecs=("mjpeg", "libopus"), suffix=".mkv"),
    "one picture long": Scene(skew_ms=35.0, flash_s=0.04),
    "long flash and long beep": Scene(skew_ms=-50.0, flash_s=0.5, beep_s=0.5),
    "small and dim": Scene(skew_ms=90.0, share=0.25, levels=(40, 100)),
    "something moves": Scene(skew_ms=-140.0, share=0.5, moving="box"),
    "noisy": Scene(skew_ms=140.0, noise=0.02),
    "a beep of noise": Scene(skew_ms=-30.0, tone_hz=0.0),
    "a low beep that begins slowly": Scene(skew_ms=25.0, tone_hz=300.0, attack_s=0.01),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_skew_is_right_within_20_ms(name: str, tmp_path: Path) -> None:
    """From -300 to +300 ms, whatever codec, rate, flash and beep are like, every pair is found and the result is certain."""
    scene = SCENES[name]
    found = measured(scene.write(tmp_path))
    assert abs(found.skew_ms - scene.skew_ms) <= 20.0
    assert found.certain
    assert found.pairs == found.flashes == found.beeps


FLASHES = ((-220.0, 0.5, (16, 235)), (70.0, 0.34, (30, 140)), (290.0, 1.0, (16, 235)))
"""Skew, share of width and height, and levels of the flashes beside which something moves."""


@pytest.mark.parametrize("motion", MOTIONS)
def test_motion_beside_the_flash_changes_nothing(motion: str, tmp_path: Path) -> None:
    """Whatever else moves or flickers in the picture, the skew is right within 20 ms, and certain."""
    skew_ms, share, levels = FLASHES[list(MOTIONS).index(motion) % len(FLASHES)]
    found = measured(Scene(skew_ms=skew_ms, share=share, levels=levels, moving=motion, seconds=11.0).write(tmp_path))
    assert abs(found.skew_ms - skew_ms) <= 20.0
    assert found.certain


@pytest.mark.parametrize("motion", ["people", "fan", "television"])
def test_motion_alone_is_never_certain(motion: str, tmp_path: Path) -> None:
    """Beeps without flashes, while something moves, give an error or a result that is not certain."""
    path = Scene(share=0.0, moving=motion, seconds=11.0).write(tmp_path)
    with suppress(SkewError):
        assert not measured(path).certain


@given(st.floats(-300.0, 300.0), st.lists(st.floats(0.9, 2.5), min_size=5, max_size=12), st.data())
@cases(60)
def test_pairs_are_found_among_strays(skew_ms: float, pauses: list[float], data: st.DataObject) -> None:
    """Single flashes without a beep, and beeps without a flash, do not change the result."""
    flashes = [round(sum(pauses[: place + 1]) * SECOND_NS) for place in range(len(pauses))]
    beeps = [time + round(skew_ms * 1e6) + data.draw(st.integers(-10_000_000, 10_000_000)) for time in flashes]
    lost = data.draw(st.integers(0, len(flashes) - 1))
    stray = data.draw(st.integers(0, flashes[-1]))
    found = measure_skew([flashes[:lost] + flashes[lost + 1 :]], sorted([*beeps, stray]))
    assert abs(found.skew_ms - skew_ms) <= 15.0
    assert found.pairs >= len(flashes) - 2


@pytest.mark.parametrize(
    ("flashes", "beeps", "words"),
    [
        ([], [1, 2], "has no flash: play the clip"),
        ([1, 2], [], "has no beep"),
        ([], [], "no flash and no beep"),
        ([SECOND_NS], [5 * SECOND_NS], "must belong together"),
    ],
)
def test_what_is_lacking_is_told(flashes: list[int], beeps: list[int], words: str) -> None:
    """Without flashes, beeps or pairs there is an error that names what is lacking and what to do, never a number."""
    with pytest.raises(SkewError, match=words):
        measure_skew([flashes], beeps)


def test_a_fast_regular_clip_is_not_certain() -> None:
    """Where a beep fits two flashes as well, the result says that it is not certain."""
    flashes = [number * 400_000_000 for number in range(20)]
    assert not measure_skew([flashes], [time + 200_000_000 for time in flashes]).certain


@pytest.mark.parametrize("delay_ms", [120, -180])
def test_a_measured_delay_is_taken_out(delay_ms: int, tmp_path: Path) -> None:
    """With capture.audio_delay_ms set to what was measured, sound and picture of the source are in step."""
    path = tmp_path / "clip.mp4"
    make_clip(path, seconds=9.0, skew_ms=delay_ms, rate=25, size=(48, 64))
    assert abs(measured(path).skew_ms - delay_ms) <= 5.0
    assert abs(measured(path, delay_ms).skew_ms) <= 5.0


class Items:
    """A source of given items."""

    live, session, skew_ms = True, "word", 3

    def __init__(self, *items: AudioBlock | VideoFrame | StateChange) -> None:
        self._items = items

    def items(self) -> Iterator[AudioBlock | VideoFrame | StateChange]:
        yield from self._items

    def close(self) -> None:
        """Do nothing."""


@given(st.integers(-1000, 1000).filter(bool), st.lists(st.integers(1, 3000), min_size=1, max_size=20))
@cases(60)
def test_only_the_late_kind_moves(delay_ms: int, sizes: list[int]) -> None:
    """The late kind is earlier by the delay, to the sample; only what is before zero is lost, and the other kind is unchanged."""
    places = [sum(sizes[:number]) for number in range(len(sizes))]
    sound = (np.arange(1, sum(sizes) + 1) / (sum(sizes) + 1)).astype(np.float32)
    blocks = [AudioBlock(start_ns=place * 62_500, samples=sound[place : place + size]) for place, size in zip(places, sizes, strict=True)]
    pictures = [VideoFrame(start_ns=place * 62_500, pixels=np.zeros((2, 2, 3), np.uint8)) for place in places]
    source = DelayedSource(Items(StateChange(SourceState.LOST), *blocks, *pictures), delay_ms)
    found = list(source.items())
    assert found[0] == StateChange(SourceState.LOST)
    assert (source.live, source.session, source.skew_ms) == (True, "word", delay_ms + 3)
    back_ns = max(0, delay_ms) * 1_000_000
    given_blocks = [one for one in found if isinstance(one, AudioBlock)]
    assert all(one.start_ns >= 0 for one in given_blocks)
    kept = np.concatenate([one.samples for one in given_blocks]) if given_blocks else np.zeros(0, np.float32)
    assert np.array_equal(kept, sound[min(sound.size, back_ns // 62_500) :])
    if given_blocks:
        assert given_blocks[0].start_ns == max(0, places[0] * 62_500 - back_ns)
    shown = [one.start_ns for one in found if isinstance(one, VideoFrame)]
    assert shown == [max(0, place * 62_500 - max(0, -delay_ms) * 1_000_000) for place in places]


def test_the_command_prints_json_and_writes_the_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json gives the numbers; --write changes one line of a file; a delay that is set already is not measured away."""
    clip, file = tmp_path / "clip.mp4", tmp_path / "home.toml"
    make_clip(clip, seconds=9.0, skew_ms=-80.0, rate=25, size=(48, 64))
    file.write_text('# mine\n[capture]\naudio_delay_ms = 500 # old\ntimeout_s = 3.0\n[model]\nname = "starter"\n')
    assert main(["sync-check", "--source", str(clip), "--json", "--write", str(file), "--set", "capture.audio_delay_ms=500"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert abs(told["skew_ms"] + 80.0) <= 20.0
    assert (told["certain"], told["picture_ms"]) == (True, 40.0)
    assert tomllib.loads(file.read_text()) == {"capture": {"audio_delay_ms": -80, "timeout_s": 3.0}, "model": {"name": "starter"}}
    assert file.read_text().startswith("# mine\n")
    assert main(["sync-check", "--make", str(tmp_path / "clip.avi")]) == 2
    assert "name it clip.mp4" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[model]\nname = 'a'\n",
        "[capture]\n",
        "jsonl = '-'\n\n[capture] # x\naudio_delay_ms=1\n[[sources]]\nid='a'\nuri='b'\n",
        "\ufeff",
    ],
)
def test_a_setting_is_written_beside_all_others(text: str) -> None:
    """Whatever the file holds, only the delay changes."""
    text = text.removeprefix("\ufeff")
    before, after = tomllib.loads(text), tomllib.loads(_with_delay(text, -7))
    assert after.pop("capture")["audio_delay_ms"] == -7
    before.pop("capture", None)
    assert after == before


@pytest.mark.parametrize("text", ["capture = {timeout_s = 3.0}\n", "capture.timeout_s = 3.0\n", "= 3\n"])
def test_a_file_that_cannot_be_changed_safely_is_refused(text: str) -> None:
    """A file with [capture] in another form, or that is no TOML, stays as it is, and the error says what to write by hand."""
    with pytest.raises(SettingsError, match="by hand"):
        _with_delay(text, 5)
