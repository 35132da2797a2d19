"""Six sources that can be hurt, the faults, and a diary of what a run made of them; for the soak."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from rigs.rtsp_server import RtspServer
from rigs.services import free_port

from streamav.types import SAMPLES_PER_SEGMENT, Event, EventPhase, FinalScores, Observation, SourceState, Telemetry

__all__ = ["FAULTS", "FRAMES", "Diary", "Fault", "Hole", "LostEvent", "Rig", "reference_events", "write_scene"]

LOOP_S: Final = 60.0
FRAMES: Final = 1
"""Frames of a segment that the networks process: one, so that a slow machine need not change the number, and with it the events."""
_QUIET: Final = ("ffmpeg", "-nostdin", "-loglevel", "quiet")
_TOLERANCE_S: Final = 2.0
_PIECE_S: Final = 2.0
"""Length of a file of HLS. When its pictures were taken is known from when a file arrives, so only this exactly."""
_CERTAIN: Final = 0.8
_LONG_S: Final = 3.0
"""Whether a shorter event is found depends on where the boundaries of the segments fall."""
_BESIDE_S: Final = 3.0
"""A segment that was dropped, or did not arrive, this near to an event may have changed its begin or hidden it."""
_MARGIN_S: Final = 12.0
"""Events nearer than this to the begin or end of a stretch are not counted: the window is not full, or the end cuts them."""


def write_scene(folder: Path) -> Path:
    """Write the rendered scene of one minute as MPEG-TS, 320 x 240."""
    import av

    from streamav.capture.scene import DEFAULT_SCRIPT, SceneSource
    from streamav.types import AudioBlock, VideoFrame

    path = folder / "scene.ts"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=16, options={"preset": "veryfast", "g": "32", "bf": "0"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        audio = out.add_stream("aac", rate=16_000, layout="mono")
        for item in SceneSource(DEFAULT_SCRIPT, picture=(240, 320), speed="max").items():
            if isinstance(item, VideoFrame):
                frame = av.VideoFrame.from_ndarray(item.pixels, format="rgb24")
                frame.pts, frame.time_base = round(item.start_ns / 1e9 * 16), Fraction(1, 16)
                out.mux(video.encode(frame))
            elif isinstance(item, AudioBlock):
                part = av.AudioFrame.from_ndarray((item.samples[None] * 32_767).astype(np.int16), format="s16", layout="mono")
                part.sample_rate, part.pts = 16_000, round(item.start_ns / 1e9 * 16_000)
                out.mux(audio.encode(part))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    return path


def reference_events(clip: Path) -> list[tuple[str, float, float]]:
    """Return the events of the loop that are certain: label, begin and end, s of the loop; found in its second round, with a high score."""
    import asyncio

    from streamav import app
    from streamav.config import Settings

    diary = Diary()
    source = {"uri": str(clip), "loop": True, "speed": "max", "duration_s": 3 * LOOP_S}
    asyncio.run(
        app.run(app.build(Settings.model_validate({"source": source, "model": {"name": "starter", "frames_per_second": FRAMES}}), [diary]))
    )
    found = [
        (one.label, one.media_s - LOOP_S, one.media_s - LOOP_S + one.seconds)
        for one in diary.events
        if one.top >= _CERTAIN and one.seconds >= _LONG_S
    ]
    return sorted((one for one in found if 0.0 <= one[1] < LOOP_S), key=lambda one: one[1])


class Sender:
    """An ffmpeg that sends the loop, and is started again when it ends, as a camera would go on."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._down = threading.Event()
        self._closed = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._closed.wait(0.2):
            if self._down.is_set() or (self.process is not None and self.process.poll() is None):
                continue
            self.process = subprocess.Popen([*_QUIET, *self._arguments])

    def kill(self) -> None:
        """Kill it; it stays dead until start()."""
        self._down.set()
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)

    def start(self) -> None:
        """Let it be started again."""
        self._down.clear()

    def stop(self) -> None:
        """Freeze it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        self._closed.set()
        self._thread.join()
        self.kill()


class Relay:
    """Passes a TCP stream on, and can cut it, hold it, or damage it."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self.hold, self.damage = threading.Event(), threading.Event()
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target), 5.0)
            except OSError:
                if self._server.fileno() < 0:
                    return
                client.close()
                continue
            self._open = [client, server]
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()

    def _pump(self, server: socket.socket, client: socket.socket) -> None:
        rng = np.random.default_rng(0)
        try:
            while data := server.recv(32_768):
                while self.hold.is_set():
                    time.sleep(0.05)
                if self.damage.is_set():
                    changed = np.frombuffer(data, np.uint8).copy()
                    changed[rng.random(changed.size) < 1 / 3_000] ^= 0x55
                    data = changed.tobytes()
                client.sendall(data)
        except OSError:
            pass
        finally:
            client.close()
            server.close()

    def cut(self) -> None:
        """Cut the connection, as a reset."""
        for one in self._open:
            one.close()

    def close(self) -> None:
        """Stop."""
        self._server.close()
        self.cut()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        pass


class Rig:
    """The six sources."""

    def __init__(self, folder: Path, clip: Path) -> None:
        self._folder, self._clip = folder, clip

    def __enter__(self) -> Self:
        self.rtsp_a, self.rtsp_b = RtspServer(), RtspServer()
        self.rtsp_a.start()
        self.rtsp_b.start()
        loop = ("-re", "-stream_loop", "-1", "-i", str(self._clip), "-c", "copy")
        tcp, behind, udp = free_port(), free_port(), free_port()
        hls = self._folder / "hls"
        hls.mkdir()
        self.tcp = Sender(*loop, "-f", "mpegts", f"tcp://127.0.0.1:{tcp}?listen=1")
        self.behind = Sender(*loop, "-f", "mpegts", f"tcp://127.0.0.1:{behind}?listen=1")
        self.relay = Relay(behind)
        self.udp = Sender(*loop, "-f", "mpegts", f"udp://127.0.0.1:{udp}?pkt_size=1316")
        listing = (
            "-f",
            "hls",
            "-hls_time",
            f"{_PIECE_S:g}",
            "-hls_list_size",
            "6",
            "-hls_flags",
            "delete_segments",
            str(hls / "live.m3u8"),
        )
        self.hls = Sender(*loop, *listing)
        self._web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(hls)))
        threading.Thread(target=self._web.serve_forever, daemon=True).start()
        self.sources = {
            "rtsp-a": self.rtsp_a.url,
            "rtsp-b": self.rtsp_b.url,
            "tcp": f"tcp://127.0.0.1:{tcp}",
            "relay": f"tcp://127.0.0.1:{self.relay.port}",
            "udp": f"udp://127.0.0.1:{udp}?fifo_size=100000&overrun_nonfatal=1",
            "hls": f"http://127.0.0.1:{self._web.server_address[1]}/live.m3u8",
        }
        end_s = time.monotonic() + 20.0
        while not (hls / "live.m3u8").exists() and time.monotonic() < end_s:
            time.sleep(0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._web.shutdown()
        self._web.server_close()
        for one in (self.tcp, self.behind, self.udp, self.hls):
            one.close()
        self.relay.close()
        self.rtsp_a.kill()
        self.rtsp_b.kill()


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one source."""

    name: str
    source: str
    inflict: Callable[[Rig], object]
    mend: Callable[[Rig], object]
    seconds: float = 8.0
    settle_s: float = 15.0
    loss: bool = True
    """Whether the source must be lost and come back; False: it must not be lost."""


FAULTS: Final = (
    Fault("RTSP server killed for 8 s", "rtsp-a", lambda rig: rig.rtsp_a.kill(), lambda rig: rig.rtsp_a.start()),
    Fault("RTSP server frozen for 10 s", "rtsp-b", lambda rig: rig.rtsp_b.stop(), lambda rig: rig.rtsp_b.go_on(), seconds=10.0),
    Fault("TCP sender killed for 8 s", "tcp", lambda rig: rig.tcp.kill(), lambda rig: rig.tcp.start()),
    Fault("TCP connection cut", "relay", lambda rig: rig.relay.cut(), lambda _: None, seconds=1.0),
    Fault("TCP stream held for 10 s", "relay", lambda rig: rig.relay.hold.set(), lambda rig: rig.relay.hold.clear(), seconds=10.0),
    Fault("TCP stream held for 1.5 s", "relay", lambda rig: rig.relay.hold.set(), lambda rig: rig.relay.hold.clear(), 1.5, loss=False),
    Fault("1 byte of 3000 damaged, 8 s", "relay", lambda rig: rig.relay.damage.set(), lambda rig: rig.relay.damage.clear(), loss=False),
    Fault("UDP sender frozen for 10 s", "udp", lambda rig: rig.udp.stop(), lambda rig: rig.udp.go_on(), seconds=10.0),
    Fault(
        "UDP sender restarted (time stamps begin again)", "udp", lambda rig: rig.udp.kill(), lambda rig: rig.udp.start(), 1.0, loss=False
    ),
    Fault("writer of HLS frozen for 15 s", "hls", lambda rig: rig.hls.stop(), lambda rig: rig.hls.go_on(), 15.0, settle_s=25.0),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What a run made of one fault."""

    fault: str
    noticed_s: float | None
    recovered_s: float | None
    lost_s: float
    well: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """One confirmed event that ended."""

    source: str
    label: str
    media_s: float
    begin_s: float
    """Monotonic time."""
    seconds: float
    top: float


@dataclass(frozen=True, slots=True)
class Hole:
    """Segments of one source that the networks did not get, or not whole."""

    source: str
    begin_s: float
    """Monotonic time."""
    segments: int
    dropped: int
    """How many of them the run dropped because the machine was behind; the rest did not arrive."""


@dataclass(frozen=True, slots=True)
class LostEvent:
    """One event that was due and did not come."""

    source: str
    label: str
    at_s: float
    """When it was due, s of its stretch."""
    stretch_s: float
    dropped: int
    """Segments beside it that were dropped because the machine was behind."""
    absent: int
    """Segments beside it that did not arrive, or not whole."""
    nearest_s: float | None
    """How much later than due the nearest event of its label began in this stretch, s; None when there was none."""

    def __str__(self) -> str:
        """Return one line."""
        why = f"{self.dropped} segments beside it dropped, {self.absent} not arrived"
        nearest = "none" if self.nearest_s is None else f"{self.nearest_s:+.1f} s"
        where = f"{self.source} {self.label} at {self.at_s:.0f} s of a stretch of {self.stretch_s:.0f} s"
        return f"{where}: {why}; nearest of the label: {nearest}"


@dataclass(frozen=True, slots=True)
class Sample:
    """The use of resources at one time."""

    at_s: float
    """Monotonic time."""
    mine_mb: float
    children_mb: float
    threads: int
    descriptors: int
    waited_s: float
    """Time so far in which some process of the machine waited for a processor."""


@dataclass(frozen=True, slots=True)
class Use:
    """The use of resources after the warm-up."""

    after_s: float
    slope: float
    """MB a minute of this process."""
    peak_mb: float
    """Of all processes together."""
    threads: str
    descriptors: str
    waiting: float
    """Share of the whole time in which some process of the machine waited for a processor."""


@dataclass
class Diary:
    """A sink and observer that notes events, states, segments that are missing, and the use of resources."""

    events: list[Seen] = field(default_factory=list)
    states: list[tuple[float, str, SourceState]] = field(default_factory=list)
    faults: list[tuple[Fault, float, float]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    _newest: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Index of the newest segment of each source, and how many of its dropped segments are in the holes so far."""
    failed: str | None = None
    """Why no further faults were inflicted: one could not be inflicted or mended."""

    async def start(self) -> None:
        """Note nothing."""

    def event(self, event: Event, latency_s: float) -> None:
        """Note a confirmed event that ended."""
        if event.phase is EventPhase.END and event.confirmed and event.end_ns is not None:
            begin_s = _monotonic_s(event.epoch_ns + event.start_ns)
            length_s = (event.end_ns - event.start_ns) / 1e9
            self.events.append(Seen(event.source, event.label, event.start_ns / 1e9, begin_s, length_s, event.top_score))

    def source_state(self, source: str, state: SourceState, reason: str) -> None:
        """Note a state."""
        self.states.append((time.monotonic(), source, state))

    def telemetry(self, source: str, telemetry: Telemetry) -> None:
        """Note nothing."""

    def scores(self, source: str, scores: FinalScores) -> None:
        """Note nothing."""

    def observe(self, source: str, observation: Observation) -> None:
        """Note segments that were dropped, and those that arrived with holes."""
        segment = observation.segment
        if segment is None:
            return
        last, told = self._newest.get(source, (segment.index - 1, 0))
        passed = max(0, segment.index - 1 - last)
        dropped = min(passed, observation.dropped_segments - told)  # those that were dropped since wait for their hole
        self._newest[source] = (segment.index, told + dropped)
        begin_s = _monotonic_s(observation.epoch_ns + segment.start_ns)
        if passed:
            self.holes.append(Hole(source, begin_s - passed, passed, dropped))
        if segment.quality.missing_samples > SAMPLES_PER_SEGMENT // 4 or segment.quality.picture_missing:
            self.holes.append(Hole(source, begin_s, 1, 0))

    async def close(self) -> None:
        """Note nothing."""

    def fault(self, fault: Fault, began: float, mended: float) -> None:
        """Note a fault."""
        self.faults.append((fault, began, mended))

    def sample(self) -> None:
        """Note memory, MB, of this process and of its children, threads and descriptors."""
        mine = _rss_mb(os.getpid())
        found = subprocess.run(
            ["pgrep", "-P", str(os.getpid()), "-f", "streamav.capture.child"], capture_output=True, text=True, check=False
        )
        children = sum(_rss_mb(int(one)) for one in found.stdout.split())
        files = len(list(Path("/proc/self/fd").iterdir()))
        self.samples.append(Sample(time.monotonic(), mine, children, threading.active_count(), files, _waited_s()))

    def table(self) -> dict[str, list[Row]]:
        """Return what the run made of each fault, by the fault's name."""
        rows: dict[str, list[Row]] = {}
        for fault, began, mended in self.faults:
            mine = [(at, state) for at, source, state in self.states if source == fault.source and at >= began]
            lost = next((at for at, state in mine if state is SourceState.LOST and at < mended + fault.settle_s + 15.0), None)
            back = None if lost is None else next((at for at, state in mine if at > lost and state is not SourceState.LOST), None)
            recovered = None if back is None else max(0.0, back - mended)
            well = (lost is not None and back is not None) if fault.loss else lost is None or back is not None
            lost_s = 0.0 if lost is None or back is None else back - lost
            rows.setdefault(fault.name, []).append(Row(fault.name, None if lost is None else lost - began, recovered, lost_s, well))
        return rows

    def lost_events(self, rig: Rig, expected: Sequence[tuple[str, float, float]]) -> tuple[list[LostEvent], int]:
        """Return the events that did not come although nothing was wrong with their source, and how many were due in all."""
        lost, due = list[LostEvent](), 0
        end = max((one.at_s for one in self.samples), default=0.0)
        for source in rig.sources:
            if source.startswith("rtsp"):  # they show a test pattern
                continue
            tolerance_s = _TOLERANCE_S + (_PIECE_S if source == "hls" else 0.0)
            for begin, until in self._stretches(source, end):
                seen = [one for one in self.events if one.source == source and begin <= one.begin_s <= until]
                phase = _phase(seen, expected, begin)
                for label, at in _due(expected, phase, begin + _MARGIN_S, until - _MARGIN_S):
                    due += 1
                    if not any(one.label == label and abs(one.begin_s - at) <= tolerance_s for one in seen):
                        length_s = next(end - a for one, a, end in expected if one == label)
                        later = min((one.begin_s - at for one in seen if one.label == label), key=abs, default=None)
                        lost.append(LostEvent(source, label, at - begin, until - begin, *self._missing(source, at, at + length_s), later))
        return lost, due

    def _missing(self, source: str, begin: float, end: float) -> tuple[int, int]:
        """Return how many segments between two times, and just beside them, were dropped, and how many did not arrive."""
        near = [
            one
            for one in self.holes
            if one.source == source and one.begin_s < end + _BESIDE_S and one.begin_s + one.segments > begin - _BESIDE_S
        ]
        dropped = sum(one.dropped for one in near)
        return dropped, sum(one.segments for one in near) - dropped

    def _stretches(self, source: str, end: float) -> list[tuple[float, float]]:
        """Return the stretches of time in which nothing was wrong with a source."""
        marks = [
            (at, state is not SourceState.LOST) for at, one, state in self.states if one == source and state is not SourceState.STARTING
        ]
        marks += [(began, False) for fault, began, _ in self.faults if fault.source == source]
        marks += [(mended + 1.0, True) for fault, _, mended in self.faults if fault.source == source]
        stretches, begin = list[tuple[float, float]](), None
        for at, well in [*sorted(marks), (end, False)]:
            if well and begin is None:
                begin = at
            elif not well and begin is not None:
                stretches.append((begin, at))
                begin = None
        return stretches

    def use(self, warm_up_s: float) -> Use:
        """Return the use of resources after the warm-up; in a run shorter than twice that, after its first half."""
        first, last = self.samples[0], self.samples[-1]
        after_s = min(warm_up_s, (last.at_s - first.at_s) / 2.0)
        rows = [one for one in self.samples if one.at_s - first.at_s >= after_s]
        slope = float(np.polyfit([one.at_s / 60.0 for one in rows], [one.mine_mb for one in rows], 1)[0]) if len(rows) > 2 else 0.0
        return Use(
            after_s=after_s,
            slope=slope,
            peak_mb=max(one.mine_mb + one.children_mb for one in rows),
            threads=f"{min(one.threads for one in rows)} to {max(one.threads for one in rows)}",
            descriptors=f"{min(one.descriptors for one in rows)} to {max(one.descriptors for one in rows)}",
            waiting=(last.waited_s - first.waited_s) / max(1.0, last.at_s - first.at_s),
        )


def _monotonic_s(wall_ns: int) -> float:
    return wall_ns / 1e9 - time.time() + time.monotonic()


def _phase(seen: Sequence[Seen], expected: Sequence[tuple[str, float, float]], begin: float) -> float:
    """Return the monotonic time at which a loop began, the one that explains most events; *begin* where there is none."""
    candidates = [one.begin_s - at for one in seen for label, at, _ in expected if label == one.label] or [begin]

    def explained(phase: float) -> int:
        return sum(
            any(
                label == one.label and abs((one.begin_s - phase - at + LOOP_S / 2) % LOOP_S - LOOP_S / 2) <= _TOLERANCE_S
                for label, at, _ in expected
            )
            for one in seen
        )

    return max(candidates, key=explained)


def _due(expected: Sequence[tuple[str, float, float]], phase: float, begin: float, until: float) -> list[tuple[str, float]]:
    """Return label and begin of each event that lies in a stretch of time completely."""
    rounds = range(int((begin - phase) // LOOP_S) - 1, int((until - phase) // LOOP_S) + 2)
    return [
        (label, phase + LOOP_S * number + at)
        for number in rounds
        for label, at, end in expected
        if begin <= phase + LOOP_S * number + at and phase + LOOP_S * number + end <= until
    ]


def _rss_mb(process: int) -> float:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _waited_s() -> float:
    """Return how long some process of the machine waited for a processor since its start; 0 where the kernel does not say."""
    try:
        line = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
    except (OSError, IndexError):
        return 0.0
    return int(line.rpartition("total=")[2]) / 1e6
