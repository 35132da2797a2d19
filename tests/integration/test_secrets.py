"""Secrets are put into every part of every input and searched in every output: the whole program with a real broker."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiomqtt
import pytest
from rigs.media_clips import write_clip
from rigs.mosquitto import Broker
from rigs.program_environment import program_environment

SECRET = "Xq7zWv"  # noqa: S105 - the planted secret
CLIP = "lavfi:testsrc=size=64x48:rate=12:duration=13[out0];sine=frequency=440:sample_rate=16000:duration=13[out1]"
ADDRESSES = [
    f"rtsp://admin:p@{SECRET}@127.0.0.1:1/live",
    f"rtsp://admin:p/{SECRET}@127.0.0.1:1/live",
    f"rtsp://admin:{SECRET}/p@ss@127.0.0.1:1/live",
    f"rtsp://127.0.0.1:1/user=admin_password={SECRET}_channel=1_stream=0.sdp",
    f"http://127.0.0.1:1/live?user=admin&pwd={SECRET}",
    f"http://127.0.0.1:1/{SECRET}/index.m3u8#{SECRET}",
    f"admin:{SECRET}@127.0.0.1:1/live",
]


def streamav(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = program_environment() | {"COLUMNS": "1000"}
    command = [sys.executable, "-m", "streamav", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean | environment, check=False)


def quoted(text: str) -> str:
    return "'" + text + "'"


@pytest.mark.slow
@pytest.mark.broker
async def test_nothing_that_a_run_gives_out_holds_a_secret(tmp_path: Path, engine_home: Path, tiny_bundle: Path) -> None:
    """No message, retained state, event, journal, summary, log or list of processes contains a password of a camera or the broker."""
    write_clip(tmp_path / "clip.ts", 13.0, 100)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _server_of((tmp_path / "clip.ts").read_bytes()))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    camera = f"admin:{SECRET}@127.0.0.1:{server.server_port}"
    addresses = [f"http://{camera}/{SECRET}/film.mp4?user=a&pwd={SECRET}", f"http://{camera}/{SECRET}/live?pwd={SECRET}#{SECRET}"]
    sources = [f"[[sources]]\nid = 's{number}'\nuri = {quoted(address)}\n" for number, address in enumerate(addresses)]
    broker = Broker(tmp_path / "broker").start()
    password_file = tmp_path / "password"
    password_file.write_text(f"{SECRET}\n", encoding="utf-8")
    file = tmp_path / "run.toml"
    file.write_text(
        "\n".join(sources)
        + f"[[sources]]\nid = 'lab'\nuri = '{CLIP}'\n[model]\nname = '{tiny_bundle}'\n[capture]\nreconnect = false\n"
        + f"[mqtt]\nhost = '127.0.0.1'\nport = {broker.port}\nusername = 'me'\npassword_file = '{password_file}'\n",
        encoding="utf-8",
    )
    file.chmod(0o600)
    given: list[bytes] = []

    async def listen() -> None:
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe("#")
            listening.set()
            async for message in client.messages:
                given.extend([str(message.topic).encode(), bytes(message.payload)])

    listening = asyncio.Event()
    listener = asyncio.create_task(listen())
    await asyncio.wait_for(listening.wait(), 20)
    out = {name: tmp_path / name for name in ("state", "events.jsonl", "summary.json")}
    clean = program_environment()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamav", "run", "--verbose", "--config", str(file), "--summary", str(out["summary.json"])),
        *("--jsonl", str(out["events.jsonl"])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean | {"STREAMAV_HOME": str(engine_home), "STREAMAV_STATE_DIR": str(out["state"]), "COLUMNS": "1000"},
    )
    talk = asyncio.create_task(process.communicate())
    while not talk.done():  # the names of the process and its children while it runs
        given.extend(await asyncio.to_thread(_names_of, process.pid))
        await asyncio.sleep(0.2)
    given.extend(await talk)
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)
    broker.stop()
    server.shutdown()
    server.server_close()
    files = [out["state"], *out["state"].rglob("*"), out["events.jsonl"], out["summary.json"]]
    given.extend(str(path).encode() for path in files)
    given.extend(path.read_bytes() for path in files if path.is_file())
    assert f"...@127.0.0.1:{server.server_port}/.../live".encode() in b"".join(given), "the address of the camera is shown"
    assert out["events.jsonl"].stat().st_size, given[-20:]
    assert [one for one in given if SECRET.encode() in one] == []
    private = [path for path in files if path.name != "summary.json"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600, 0o700}
    assert all(stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600) for path in private)


def _server_of(content: bytes) -> type[BaseHTTPRequestHandler]:
    class Camera(BaseHTTPRequestHandler):
        """Sends the same recording for every path, and closes."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return Camera


def _names_of(parent: int) -> list[bytes]:
    """Return the names of a process, its children and their threads."""
    own = [path for path in Path("/proc").glob("[0-9]*") if _belongs(path, parent)]
    return [_read(name) for path in own for name in (path / "cmdline", *path.glob("task/*/comm"))]


def _belongs(process: Path, parent: int) -> bool:
    fields = _read(process / "stat").rpartition(b") ")[2].split()
    return int(process.name) == parent or (len(fields) > 1 and int(fields[1]) == parent)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        *(["run", "--source", address] for address in (*ADDRESSES[:3], ADDRESSES[-1])),
        *(["run", "--camera", address, "--mic", "default"] for address in ADDRESSES[:2]),
        ["run", "--camera", "0", "--mic", f"rtsp://a:{SECRET}@cam/live"],
        ["run", f"rtsp://a:{SECRET}@cam/live"],
        [f"rtsp://a:{SECRET}@cam/live"],
        ["run", f"\u2014mqtt=mqtt://me:{SECRET}@h"],
        ["run", f"\u2014password={SECRET}"],
        ["run", "--duration", f"rtsp://a:{SECRET}@cam/live"],
        ["run", "--source", "scene", "--mqtt", f"mqtt://me:{SECRET}@h"],
        ["run", "--source", "scene", "--mqtt", f"mqtt://me:1/{SECRET}@h"],
        ["run", "--source", "scene", "--mqtt", f"mqtt://me:a/{SECRET}@h"],
        ["run", "--source", "scene", "--mqtt", f"mqtt://h/base?password={SECRET}"],
        ["run", "--set", f"mqtt.password={SECRET}"],
        ["run", "--set", f'mqtt={{host="h", password="{SECRET}"}}'],
        ["run", "--set", f"mqtt.password:{SECRET}"],
        ["run", "--set", f"mqtt=mqtt://me:{SECRET}@h"],
        ["run", "--set", f"mqtt.host=mqtt://me:{SECRET}@h"],
        ["run", "--set", f"source=rtsp://a:{SECRET}@cam/live"],
        ["run", "--set", f"source.scene=rtsp://a:p@{SECRET}@cam/live"],
        ["subscribe", "--mqtt", f"mqtt://me:{SECRET}@h"],
        ["engines", "build", "--calibration", f"rtsp://a:p@{SECRET}@127.0.0.1:1/live", "--engine", "cpu", "--precision", "int8"],
        ["bench", "--source", f"rtsp://a:p@{SECRET}@127.0.0.1:1/live"],
    ],
)
def test_what_is_refused_is_refused_without_its_secret(arguments: list[str], tmp_path: Path, engine_home: Path, tiny_bundle: Path) -> None:
    """An error message about an argument never repeats the password in it."""
    model = ("--model", str(tiny_bundle)) if arguments[0] in {"run", "engines"} else ()
    done = streamav(*arguments, *model, STREAMAV_HOME=str(engine_home), STREAMAV_STATE_DIR=str(tmp_path))
    assert done.returncode in {2, 3}
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_checked_configuration_is_shown_without_its_secrets(address: str, tmp_path: Path) -> None:
    """`config check` shows every value that is not secret."""
    file = tmp_path / "run.toml"
    file.write_text(
        f"[source]\nuri = {quoted(address)}\n[mqtt]\nhost = 'broker.local'\nusername = 'me'\npassword = '{SECRET}'\n", encoding="utf-8"
    )
    done = streamav("config", "check", str(file))
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "127.0.0.1:1" in done.stdout
    assert "broker.local" in done.stdout


@pytest.mark.slow
def test_a_password_on_the_command_line_is_warned_of(tmp_path: Path, engine_home: Path, tiny_bundle: Path) -> None:
    """A password on the command line causes a warning, because the list of processes shows it; one in the environment causes none."""
    home = {"STREAMAV_HOME": str(engine_home), "STREAMAV_STATE_DIR": str(tmp_path)}
    command = ("run", "--model", str(tiny_bundle))
    told = streamav(*command, "--source", ADDRESSES[0], **home)
    quiet = streamav(*command, STREAMAV_SOURCE_URI=ADDRESSES[0], **home)
    assert "STREAMAV_SOURCE_URI" in told.stderr
    assert "STREAMAV_SOURCE_URI" not in quiet.stderr
    assert SECRET not in told.stderr + quiet.stderr
