"""Renders a scene with sound and exactly known events, for demonstrations and tests without any media file.

A script lists what is heard and what is seen, when and where; an event is where sound and picture are of one kind. Everything
is drawn and synthesized here from a seed, so the same script gives the same scene on every machine. It uses no segments.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from threading import Event as Flag
from typing import TYPE_CHECKING

import numpy as np

from streamav.capture.drawing import draw, drawn_kinds
from streamav.capture.pacing import Pacer
from streamav.capture.synthesis import Voice, ambience, synthesize
from streamav.clock import SystemClock
from streamav.errors import SettingsError
from streamav.types import SAMPLE_RATE_HZ, AudioBlock, VideoFrame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from numpy.typing import NDArray

    from streamav.clock import Clock

__all__ = [
    "DEFAULT_SCRIPT",
    "KINDS",
    "Cue",
    "SceneSource",
    "Script",
    "draw",
    "make_script",
    "render_frame",
    "render_sound",
    "sound_blocks",
    "synthesize",
]

KINDS: tuple[str, ...] = drawn_kinds()
"""Kinds of things that can be seen and heard in a scene; each is also a label of the starter model."""
SCENE_FRAMES_PER_SECOND = 12
"""Pictures a second of a scene: enough to show movement, few enough to draw quickly."""
_BLOCK_SAMPLES = SAMPLE_RATE_HZ // 10
_PHRASE_S = 14.0
_MURMUR_S = 60.0
"""Length of the murmur, s; a longer scene repeats it. Rendering takes ten times its size in memory (38 MB a minute, measured)."""
_EVENTS_OF_TURN = (1, 1, 2, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """One thing that is heard, seen, or both."""

    kind: str
    sound: tuple[float, float] | None = None
    """Onset and offset of its sound, s; None: it makes no sound."""
    picture: tuple[float, float] | None = None
    """Onset and offset of its picture, s; None: it is not visible."""
    place: tuple[float, float] = (0.5, 0.5)
    """x, y of its centre, 0 to 1 from the top left corner."""
    size: float = 0.6
    """Length of its side as a share of the picture's smaller side, above 0 to 1."""

    def __post_init__(self) -> None:
        """Check the kind and both spans."""
        if self.kind not in KINDS:
            msg = f"Cue.kind must be one of {', '.join(KINDS)}, got {self.kind!r}"
            raise SettingsError(msg)
        for name, span in (("sound", self.sound), ("picture", self.picture)):
            if span is not None and not 0.0 <= span[0] < span[1]:
                msg = f"Cue.{name} must be an onset of at least 0 s and a later offset, got {span}"
                raise SettingsError(msg)


@dataclass(frozen=True, kw_only=True)
class Script:
    """What happens in a scene."""

    seconds: float
    cues: tuple[Cue, ...]
    seed: int = 0

    @cached_property
    def truth(self) -> list[tuple[str, float, float]]:
        """Label, onset and offset in s of every event, by onset; an event is where a kind is heard and seen at the same time."""
        events = []
        for cue in self.cues:
            if cue.sound is None or cue.picture is None:
                continue
            onset, offset = max(cue.sound[0], cue.picture[0]), min(cue.sound[1], cue.picture[1], self.seconds)
            if onset < offset:
                events.append((cue.kind, onset, offset))
        return sorted(events, key=lambda event: event[1])

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of everything that determines the events and the pictures of the scene."""
        return hashlib.sha256(repr((self.seconds, self.cues, self.seed)).encode()).hexdigest()


def make_script(seconds: float = 60.0, seed: int = 0) -> Script:
    """Build a script in which plain, partial and misleading events alternate.

    Turns of 14 s follow one another: a plain event; a sound without a picture and a picture without a sound; two events close
    together; the picture of one thing with the sound of another, then an event that is seen longer than it is heard.

    Args:
        seconds: length, at least 1.
        seed: chooses order and style of the kinds.

    Raises:
        SettingsError: when the scene would be shorter than 1 s.
    """
    if not seconds >= 1.0:
        msg = f"a scene must last at least 1 s, got {seconds}"
        raise SettingsError(msg)
    order = [KINDS[i] for i in np.random.default_rng([seed, 1]).permutation(len(KINDS))]
    cues: list[Cue] = []
    start, turn = 3.0, 0
    while start < seconds - 3.0:
        cues += [cue for cue in _phrase(turn % 4, start, order) if _starts_before(cue, seconds - 1.0)]
        used = _EVENTS_OF_TURN[turn % 4]
        order = order[used:] + order[:used]  # every kind has an event before any kind has its second one
        start, turn = start + _PHRASE_S, turn + 1
    return Script(seconds=seconds, cues=tuple(cues), seed=seed)


def _starts_before(cue: Cue, end_s: float) -> bool:
    return max(span[0] for span in (cue.sound, cue.picture) if span is not None) < end_s


def _phrase(turn: int, start: float, kinds: list[str]) -> list[Cue]:
    """Return one of the four turns, shifted to start at *start* s; the first *kinds* have the events, the last ones mislead."""
    left, right = (0.32, 0.56), (0.68, 0.56)  # the side changes, so that the place is not always the same

    def span(onset: float, offset: float) -> tuple[float, float]:
        return start + onset, start + offset

    if turn == 0:
        return [Cue(kind=kinds[0], sound=span(0, 6), picture=span(0, 6), place=left), Cue(kind=kinds[-1], sound=span(9, 12))]
    if turn == 1:
        return [
            Cue(kind=kinds[-1], picture=span(0, 3), place=right),
            Cue(kind=kinds[0], sound=span(5, 11), picture=span(5, 11), place=left),
        ]
    if turn == 2:  # noqa: PLR2004
        return [
            Cue(kind=kinds[0], sound=span(0, 4), picture=span(0, 4), place=right),
            Cue(kind=kinds[1], sound=span(6, 11), picture=span(6, 11), place=left),
        ]
    return [
        Cue(kind=kinds[-1], picture=span(0, 4), place=left),
        Cue(kind=kinds[-2], sound=span(0, 4)),
        Cue(kind=kinds[0], sound=span(7, 11), picture=span(6, 12.5), place=right),
    ]


DEFAULT_SCRIPT = make_script()
"""The scene of `streamav demo` and of `streamav run --source scene`: 60 s."""


def render_sound(script: Script) -> NDArray[np.float32]:
    """Render the whole sound of a script, shape (round(seconds * 16000),) float32, mono, 16 kHz, range [-1, 1]."""
    return np.concatenate(list(sound_blocks(script)))


def sound_blocks(script: Script, size: int = _BLOCK_SAMPLES) -> Iterator[NDArray[np.float32]]:
    """Render the sound of a script block by block; memory holds one minute of murmur and the cues that are heard.

    A scene longer than a minute repeats the same murmur every minute. The murmur is periodic, so the joins cannot be heard.

    Args:
        script: the scene.
        size: samples of a block; the last one may be shorter. The sound does not depend on it.

    Yields:
        Shape (size,) float32, mono, 16 kHz, range [-1, 1].
    """
    murmur = ambience(min(script.seconds, _MURMUR_S), np.random.default_rng([script.seed, 2])) * 0.004  # -48 dBFS: a quiet room
    voices = [Voice(cue.kind, *cue.sound, seed=(script.seed, 3, number)) for number, cue in enumerate(script.cues) if cue.sound is not None]
    total = round(script.seconds * SAMPLE_RATE_HZ)
    for begin in range(0, total, size):
        block = murmur[np.arange(begin, min(begin + size, total)) % murmur.size]
        for voice in voices:
            voice.mix_into(block, begin)
        yield np.asarray(np.clip(block, -1.0, 1.0), np.float32)


def render_frame(script: Script, time_s: float, picture: tuple[int, int], backdrop: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Render the picture of a script at one time.

    Args:
        script: the scene.
        time_s: the time, s.
        picture: height and width in pixels.
        backdrop: result of `render_backdrop` for this script and size, to save drawing it again.

    Returns:
        Shape (h, w, 3) uint8, RGB.
    """
    height, width = picture
    wide = render_backdrop(script, picture) if backdrop is None else backdrop
    margin_y, margin_x = (wide.shape[0] - height) // 2, (wide.shape[1] - width) // 2
    down = margin_y + round(margin_y * np.sin(0.23 * time_s))  # the camera moves a little
    along = margin_x + round(margin_x * np.sin(0.31 * time_s + 1.0))
    frame = wide[down : down + height, along : along + width].copy()
    for number, cue in enumerate(script.cues):
        if cue.picture is not None and cue.picture[0] <= time_s < cue.picture[1]:
            side = max(8, round(cue.size * min(height, width)))
            sprite = draw(cue.kind, np.random.default_rng([script.seed, 4, number]), side, time_s - cue.picture[0])
            _paste(frame, sprite, round(cue.place[0] * width - side / 2), round(cue.place[1] * height - side / 2))
    return frame


def render_backdrop(script: Script, picture: tuple[int, int]) -> NDArray[np.uint8]:
    """Render the background: a lit wall over a floor, with soft blotches; shape (1.1 h, 1.1 w, 3) RGB for a picture (h, w)."""
    rng = np.random.default_rng([script.seed, 5])
    height, width = (side + 2 * max(1, side // 20) for side in picture)
    y, x = np.linspace(0.0, 1.0, height)[:, None, None], np.linspace(0.0, 1.0, width)[None, :, None]
    wall, floor = rng.uniform(110, 200, 3), rng.uniform(60, 130, 3)
    edge = 1.0 / (1.0 + np.exp(-(y - float(rng.uniform(0.68, 0.8))) * 80.0))
    scene = (wall * (1.0 - edge) + floor * edge) * (1.1 - 0.35 * np.hypot(x - float(rng.uniform(0.2, 0.8)), y - 0.2))
    for _ in range(12):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.2)
        scene = scene + rng.uniform(-14, 14, 3) * np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / radius**2))
    return np.clip(scene + rng.normal(0.0, 2.0, scene.shape), 0, 255).astype(np.uint8)


def _paste(frame: NDArray[np.uint8], sprite: NDArray[np.uint8], left: int, top: int) -> None:
    """Paste a cut-out picture on *frame*, in place; parts outside of the frame are cut off."""
    top_cut, left_cut = max(0, -top), max(0, -left)
    target = frame[max(0, top) :, max(0, left) :][: max(0, sprite.shape[0] - top_cut), : max(0, sprite.shape[1] - left_cut)]
    part = sprite[top_cut:, left_cut:][: target.shape[0], : target.shape[1]].astype(np.float32)
    alpha = part[:, :, 3:] / 255.0
    target[:] = (target * (1.0 - alpha) + part[:, :, :3] * alpha).round().astype(np.uint8)


class SceneSource:
    """A source that plays a script: blocks of sound of 100 ms and 12 pictures a second."""

    def __init__(
        self,
        script: Script = DEFAULT_SCRIPT,
        *,
        picture: tuple[int, int],
        speed: Literal["1", "max"] = "1",
        clock: Clock | None = None,
        begin_s: int = 0,
    ) -> None:
        """Keep the script; nothing is rendered before items() is called.

        Args:
            script: the scene.
            picture: height and width of the pictures, pixels.
            speed: "1" at its own pace, "max" as fast as possible.
            clock: clock for the pace; None for the machine's monotonic clock.
            begin_s: what is complete before this second is left out.
        """
        self.script, self._begin_s = script, begin_s
        self._picture = picture
        self._closed = Flag()
        self._pacer = Pacer(clock or SystemClock(), self._closed) if speed == "1" else None

    @property
    def live(self) -> bool:
        """Always False: the scene waits for its consumer."""
        return False

    @property
    def session(self) -> str:
        """Digest of the script: the same scene gives the same event ids."""
        return self.script.digest

    @property
    def skew_ms(self) -> int | None:
        """None: sound and picture come from one clock, so there is no delay to measure."""
        return None

    def items(self) -> Iterator[AudioBlock | VideoFrame]:
        """Yield pictures and sound in the order of the times at which they are complete."""
        backdrop = render_backdrop(self.script, self._picture)
        shown = start = 0
        for block in sound_blocks(self.script):
            end = start + block.size
            if end <= self._begin_s * SAMPLE_RATE_HZ:
                start, shown = end, -(-end * SCENE_FRAMES_PER_SECOND // SAMPLE_RATE_HZ)
                continue
            while shown * SAMPLE_RATE_HZ < end * SCENE_FRAMES_PER_SECOND:
                time_ns = shown * 1_000_000_000 // SCENE_FRAMES_PER_SECOND
                if not self._wait(time_ns):
                    return
                yield VideoFrame(start_ns=time_ns, pixels=render_frame(self.script, time_ns / 1e9, self._picture, backdrop))
                shown += 1
            if not self._wait(end * 1_000_000_000 // SAMPLE_RATE_HZ):
                return
            yield AudioBlock(start_ns=start * 1_000_000_000 // SAMPLE_RATE_HZ, samples=block)
            start = end

    def close(self) -> None:
        """Make items() end before its next item."""
        self._closed.set()

    def _wait(self, time_ns: int) -> bool:
        """Wait until an item is due; return False when the source was closed."""
        if self._pacer is not None:
            self._pacer.wait_until(time_ns)
        return not self._closed.is_set()
