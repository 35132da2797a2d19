"""Tests `streamav doctor`: a finding with a remedy for each fault, and status 0 only when a run would work."""

from __future__ import annotations

import json
import socket
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from rigs.dead_devices import Recording, write_recording

from streamav.cli import main
from streamav.doctor import Finding, Verdict
from streamav.doctor.finding import divided, refused
from streamav.doctor.machine import clock, codecs, disk
from streamav.errors import EngineError


def examined(capsys: pytest.CaptureFixture[str], bundle: Path, *arguments: str) -> tuple[int, dict[str, Finding]]:
    """Run the doctor; return its status and its findings by check."""
    code = main(["doctor", "--json", "--model", str(bundle), "--set", "model.engine=torch", *arguments])
    tree = json.loads(capsys.readouterr().out)
    findings = {row["check"]: Finding(**{**row, "verdict": Verdict(row["verdict"])}) for row in tree["findings"]}
    assert tree["ok"] == (code == 0)
    wrong = [one for one in findings.values() if one.verdict is not Verdict.OK]
    assert all(one.remedy for one in wrong)
    assert not any("message says" in one.remedy or "message names" in one.remedy for one in wrong)  # that would be a riddle
    return code, findings


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_file_that_would_run_is_ok(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """First picture, first sound, level, model and engine are all found; the status is 0."""
    file = write_recording(tmp_path / "yard.mkv", Recording(seconds=13))
    code, findings = examined(capsys, tiny_bundle, "--source", str(file))
    assert code == 0
    for check in ("source camera: picture", "source camera: sound", "source camera: quality", "model", "engine", "codecs"):
        assert findings[check].verdict is Verdict.OK, findings[check]
    assert "dBFS" in findings["source camera: quality"].found


def test_a_source_that_sees_nothing_is_a_warning(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A black picture would run: the doctor warns, with the remedy of the running state."""
    file = write_recording(tmp_path / "yard.mkv", Recording(picture="black", seconds=13))
    code, findings = examined(capsys, tiny_bundle, "--source", str(file))
    assert code == 0
    assert findings["source camera: quality"].verdict is Verdict.WARNING
    assert "night view" in findings["source camera: quality"].remedy


def test_each_step_to_a_source_has_its_own_finding(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown host, a closed port and a missing file: the step that fails is named, with status 3. A file without sound is a warning."""
    silent = tmp_path / "silent.mp4"
    with av.open(str(silent), "w") as made:
        video = made.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for _ in range(20):
            made.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        made.mux(video.encode())
    port = closed_port()
    for address, check, says in (
        ("rtsp://no-such-host.invalid/live", "source camera: name", "cannot be resolved"),
        (f"rtsp://user:hunter2@127.0.0.1:{port}/live", "source camera: port", "does not answer"),
        (str(tmp_path / "missing.mp4"), "source camera", "no such file"),
    ):
        code, findings = examined(capsys, tiny_bundle, "--source", address)
        assert code == 3
        assert findings[check].verdict is Verdict.ERROR
        assert says in findings[check].found
        assert "hunter2" not in str(findings)
    code, findings = examined(capsys, tiny_bundle, "--source", str(silent))
    assert code == 0
    assert findings["source camera: sound"].verdict is Verdict.WARNING
    assert "heard and seen" in findings["source camera: sound"].found


def test_a_broker_that_is_not_there_is_found(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broker at a closed port would not get any event: status 5, after all other checks."""
    file = write_recording(tmp_path / "yard.mkv", Recording(seconds=4))
    code, findings = examined(
        capsys, tiny_bundle, "--source", str(file), "--mqtt", f"mqtt://127.0.0.1:{closed_port()}", "--set", f"state_dir={str(tmp_path)!r}"
    )
    assert code == 5
    assert findings["broker: name"].verdict is Verdict.OK
    assert findings["broker: login"].verdict is Verdict.ERROR
    assert "systemctl start mosquitto" in findings["broker: login"].remedy


def test_the_default_model_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a model in the settings the doctor checks the one that a run would choose."""
    file = write_recording(tmp_path / "yard.mkv", Recording(seconds=4))
    code, findings = examined(capsys, Path("auto"), "--source", str(file))
    assert code == 0
    assert findings["model"].found.startswith(("starter", "edge"))


def test_a_wrong_model_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that does not exist is an error with status 4, beside a source that is well."""
    file = write_recording(tmp_path / "yard.mkv", Recording(seconds=4))
    code, findings = examined(capsys, tmp_path / "none", "--source", str(file))
    assert code == 4
    assert findings["model"].verdict is Verdict.ERROR
    assert "streamav models list" in findings["model"].remedy


class _Refusing(BaseHTTPRequestHandler):
    """A camera that refuses every login."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="camera"')
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_a_camera_that_refuses_the_login_says_so(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong password in an address: the finding says login, and the remedy says where user and password belong, without showing them."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, findings = examined(capsys, tiny_bundle, "--source", f"http://user:hunter2@127.0.0.1:{server.server_port}/live")
        server.shutdown()
    assert code == 3
    assert findings["source camera: port"].verdict is Verdict.OK
    assert "refuses the login" in findings["source camera"].found
    assert "USER:PASSWORD@" in findings["source camera"].remedy
    assert "hunter2" not in str(findings)


def test_a_missing_device_is_told_once(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A camera that is not there is one finding, with the devices that are; the source that would need it is not opened."""
    code, findings = examined(capsys, tiny_bundle, "--camera", "/dev/video97", "--mic", "none")
    assert code == 3
    assert "/dev/video97" in findings["cameras"].found or "none is connected" in findings["cameras"].found
    assert "streamav devices" in findings["cameras"].remedy
    assert not any(check.startswith("source ") for check in findings)


def test_what_to_do_is_taken_from_the_message() -> None:
    """An error message is divided where what to do begins; a message that says nothing of it keeps the remedy that is given."""
    assert divided("x.mp4: there is no such file; check the path") == ("x.mp4: there is no such file", "check the path")
    assert divided("the broker has banned this client: ask its operator") == ("the broker has banned this client", "ask its operator")
    assert divided("no sound server runs. `streamav devices` lists them") == ("no sound server runs", "`streamav devices` lists them")
    assert refused("engine", EngineError("it failed"), "build it").remedy == "build it"
    assert refused("engine", EngineError("it failed; free memory"), "build it").remedy == "free memory"


def test_the_machine_is_checked(tmp_path: Path) -> None:
    """A clock that was never set and a folder that is a file are errors; a good clock, codecs and folder are not."""
    (tmp_path / "file").touch()
    (unset,) = clock(datetime(1970, 1, 1, 0, 5, tzinfo=UTC))
    (well,) = clock(datetime(2026, 9, 14, tzinfo=UTC), tmp_path / "nowhere" / "synchronized")
    (adrift,) = clock(datetime(2026, 9, 14, tzinfo=UTC), tmp_path / "synchronized")
    assert [one.verdict for one in (unset, well, adrift)] == [Verdict.ERROR, Verdict.OK, Verdict.WARNING]
    assert [one.verdict for one in codecs()] == [Verdict.OK]
    verdicts = [one.verdict for one in disk({"clips.dir": tmp_path / "new" / "clips", "state_dir": tmp_path / "file"})]
    assert verdicts == [Verdict.OK, Verdict.ERROR]


def test_the_text_names_the_remedy(tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json every finding is a line, and a remedy follows behind an arrow."""
    assert main(["doctor", "--source", str(tmp_path / "missing.mp4"), "--model", str(tiny_bundle), "--set", "model.engine=torch"]) == 3
    said = capsys.readouterr().out
    assert "ERROR" in said
    assert "-> " in said
    assert said.rstrip().endswith("a run would not work: 1 error")
