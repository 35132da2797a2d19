"""Promises of `streamav train` as a separate program: killed and resumed, and shared by several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rigs.ave_folder import write_ave_folder

from streamav.bundle import load_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # whole programs, several at a time

SMALL = [
    "--batch", "3", "--set", "train.select_every=1", "--set", "train.shifted_share=0.5", "--set", "network.hidden=16",
    "--set", "network.attention_size=16", "--set", "network.front_size=16",
    "--set", "train.precision=float32",  # in bfloat16 the rounding depends on the clips that share a product
]  # fmt: skip
PLAIN = [sys.executable, "-m", "streamav", "train"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "streamav", "train"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ave")
    write_ave_folder(place, 12, dtype="float16")  # seven clips for training: batches of three, three and one
    return place


def environment() -> dict[str, str]:
    # Without a network, this machine's host name may have no address; the loopback interface has one.
    return {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


def call(program: Sequence[str], *arguments: object) -> str:
    command = [*program, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def weights(bundle: Path) -> dict[str, np.ndarray]:
    return load_bundle(bundle).weights("localizer")


def assert_near(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        # Clips summed in another order moved single weights by up to 3e-5 in 12 epochs; a wrong gradient moves them by up to 1e-3 a step.
        np.testing.assert_allclose(other[name], value, atol=2e-4, err_msg=name)


def kill_after_an_epoch(program: Sequence[str], out: Path, *arguments: object) -> None:
    """Start a training and end it with SIGKILL as soon as it has written its first state."""
    state = out.with_name(out.name + ".training") / "seed-0" / "training.safetensors"
    command = [*program, *(str(argument) for argument in arguments), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        while not state.is_file():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -9
    assert not out.exists()


@pytest.mark.parametrize("supervision", ["fully", "weakly"])
def test_two_processes_train_what_one_trains(folder: Path, tmp_path: Path, supervision: str) -> None:
    """Two gloo processes under torchrun give the weights of one process up to rounding, with dropout and a small last batch.

    The last batch has one clip, so the second process has none. Only the first process writes and prints.
    """
    arguments = ["--data", folder, "--epochs", 3, "--supervision", supervision, *SMALL]
    call(PLAIN, *arguments, "--out", tmp_path / "one")
    told = call(TWO, *arguments, "--out", tmp_path / "two")
    assert_near(tmp_path / "one", tmp_path / "two")
    assert sum("epoch 3 of 3" in line for line in told.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_killed_program_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    """A program that was ended by SIGKILL and run again with --resume writes the same weights, byte for byte, as an undisturbed one."""
    arguments = ["--data", folder, "--epochs", 30, *SMALL, "--set", "train.weight_average=0.5"]
    call(PLAIN, *arguments, "--out", tmp_path / "whole")
    kill_after_an_epoch(PLAIN, tmp_path / "killed", *arguments)
    call(PLAIN, *arguments, "--out", tmp_path / "killed", "--resume")
    assert load_bundle(tmp_path / "whole").sha256 == load_bundle(tmp_path / "killed").sha256


def test_two_processes_go_on_where_one_was_killed(folder: Path, tmp_path: Path) -> None:
    """A run that one process started and two processes resume ends with the weights of a run in one process."""
    arguments = ["--data", folder, "--epochs", 12, *SMALL]
    call(PLAIN, *arguments, "--out", tmp_path / "whole")
    kill_after_an_epoch(PLAIN, tmp_path / "killed", *arguments)
    call(TWO, *arguments, "--out", tmp_path / "killed", "--resume")
    assert_near(tmp_path / "whole", tmp_path / "killed")
