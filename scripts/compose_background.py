#!/usr/bin/env python3
"""Composes recordings without any event: sounds under pictures of places where nothing makes them. For false alarms an hour.

    python scripts/compose_background.py --sounds AMBIENCE --talk VOICES --pictures ROOMS --out background --minutes 60
    streamav recordings background --model starter

A picture stands still or moves slowly, with sensor noise and flicker. A sound is repeated at a random level. With --talk, some recordings
also hold voices of people who are not in the picture. The pictures must show nobody and nothing that sounds: the labels say so.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from streamav.training.composite.material import decode_picture, decode_sound
from streamav.training.composite.sound import repeat, to_level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SOUNDS = {".wav", ".mp3", ".ogg", ".opus", ".flac", ".m4a"}
PICTURES = {".jpg", ".jpeg", ".png"}
WIDTH, HEIGHT, FRAMES_PER_SECOND, RATE_HZ = 320, 240, 8, 16_000
QUIET_DBFS, LOUD_DBFS = -50.0, -20.0
"""Range of the level of a sound: a quiet room at night to a busy street."""
TALK_DBFS = (-36.0, -18.0)
LARGEST_NOISE = 5.0
"""Standard deviation of the sensor noise, of 255: that of a small camera in the evening."""
LARGEST_FLICKER = 0.03
"""Share of the brightness: that of lamps under a camera with another frequency."""


@dataclass(frozen=True, slots=True)
class Material:
    """The files to draw from."""

    sounds: list[Path]
    talk: list[Path]
    pictures: list[Path]


def compose(material: Material, out: Path, recordings: int, seconds: int, seed: int, talking: float) -> None:
    """Write the recordings and labels.csv.

    Args:
        material: the files; the sounds are used in turn, the pictures and voices are drawn.
        out: new folder.
        recordings: how many.
        seconds: length of each.
        seed: seed of every draw: the same material and seed give the same recordings.
        talking: share of the recordings with talk, 0 to 1.
    """
    out.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    order = [material.sounds[index] for index in rng.permutation(len(material.sounds))]
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "class_slug", "onset_s", "offset_s", "notes", "group"])
        for number in range(recordings):
            file, sound = f"background_{number:03}.mp4", order[number % len(order)]
            picture = material.pictures[rng.integers(len(material.pictures))]
            talks = bool(material.talk) and rng.random() < talking
            samples = to_level(looped(decode_sound(sound), seconds * RATE_HZ, rng), rng.uniform(QUIET_DBFS, LOUD_DBFS))
            if talks:
                samples = samples + talk(material.talk, seconds * RATE_HZ, rng)
            write(out / file, np.clip(samples, -1.0, 1.0), decode_picture(picture, 2 * WIDTH), rng)
            voices = ", voices off-screen" if talks else ""
            table.writerow([file, "none", "", "", f"{sound.stem} under {picture.stem}{voices}", sound.stem])
            sys.stderr.write(f"{number + 1} of {recordings}: {file}\n")


def looped(samples: NDArray[np.float32], length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return *length* samples of a sound that is repeated, from a random place on."""
    return repeat(np.roll(samples, -int(rng.integers(max(1, len(samples))))), length)


def talk(files: Sequence[Path], length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return voices with pauses of 0.5 to 8 s between them, at one level."""
    parts: list[NDArray[np.float32]] = []
    level, filled = rng.uniform(*TALK_DBFS), 0
    while filled < length:
        voice = to_level(decode_sound(files[rng.integers(len(files))]), level)
        parts += [np.zeros(round(rng.uniform(0.5, 8.0) * RATE_HZ), np.float32), voice]
        filled += len(parts[-2]) + len(voice)
    return np.concatenate(parts)[:length]


def views(picture: NDArray[np.uint8], count: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Return *count* pictures of a room, shape (HEIGHT, WIDTH, 3) each: still or slowly moving, with noise and flicker."""
    zoom = rng.uniform(1.0, 1.3)
    scale = zoom * max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    width, height = max(WIDTH, round(picture.shape[1] * scale)), max(HEIGHT, round(picture.shape[0] * scale))
    wide = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(width=width, height=height, interpolation="BICUBIC").to_ndarray()
    begin, end = rng.random(2), rng.random(2)
    if rng.random() < 0.5:  # noqa: PLR2004 - half of the cameras are fixed
        end = begin
    noise = rng.normal(0.0, rng.uniform(0.5, LARGEST_NOISE), (HEIGHT, WIDTH, 1)).astype(np.float32)
    strength, hz = rng.uniform(0.0, LARGEST_FLICKER), rng.uniform(0.3, 3.5)
    found = []
    for number in range(count):
        place = begin + (end - begin) * number / count
        top, left = round(place[0] * (height - HEIGHT)), round(place[1] * (width - WIDTH))
        light = 1.0 + strength * np.sin(2.0 * np.pi * hz * number / FRAMES_PER_SECOND)
        grain = np.roll(noise, tuple(rng.integers(0, (HEIGHT, WIDTH))), (0, 1))
        frame = wide[top : top + HEIGHT, left : left + WIDTH] * np.float32(light) + grain
        found.append(np.clip(frame, 0.0, 255.0).astype(np.uint8))
    return found


def write(file: Path, samples: NDArray[np.float32], picture: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Write one recording: MPEG-4 video and AAC sound."""
    with av.open(str(file), "w") as container:
        video = container.add_stream("mpeg4", rate=FRAMES_PER_SECOND)
        video.width, video.height, video.pix_fmt, video.bit_rate = WIDTH, HEIGHT, "yuv420p", 1_000_000
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for view in views(picture, len(samples) * FRAMES_PER_SECOND // RATE_HZ, rng):
            container.mux(video.encode(av.VideoFrame.from_ndarray(view, "rgb24")))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], "fltp", "mono")
        sound.sample_rate, sound.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


def files_in(places: Sequence[str], suffixes: set[str]) -> list[Path]:
    """Return the files of a kind among the named files and in the named folders, sorted."""
    found: set[Path] = set()
    for place in map(Path, places):
        found |= {file for file in (place.rglob("*") if place.is_dir() else [place]) if file.suffix.lower() in suffixes and file.is_file()}
    return sorted(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the options and compose; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in (("sounds", "ambience, music"), ("talk", "voices"), ("pictures", "places without people, animals or what sounds")):
        parser.add_argument(f"--{name}", nargs="+", default=[], required=name != "talk", help=f"files or folders: {what}")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the recordings and labels.csv")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of all recordings together")
    parser.add_argument("--seconds", type=int, default=60, help="length of each recording")
    parser.add_argument("--talking", type=float, default=0.3, help="share of the recordings with talk, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    material = Material(files_in(asked.sounds, SOUNDS), files_in(asked.talk, SOUNDS), files_in(asked.pictures, PICTURES))
    if asked.out.exists():
        parser.error(f"--out must be a new folder, got {asked.out}; choose another name")
    if not material.sounds or not material.pictures:
        parser.error(f"--sounds and --pictures must hold files, got {len(material.sounds)} sounds and {len(material.pictures)} pictures")
    if asked.seconds < 1 or not 0 < asked.minutes < float("inf"):
        parser.error(f"--seconds must be at least 1 and --minutes above 0, got {asked.seconds} and {asked.minutes:g}")
    compose(material, asked.out, max(1, round(60.0 * asked.minutes / asked.seconds)), asked.seconds, asked.seed, asked.talking)
    return 0


if __name__ == "__main__":
    sys.exit(main())
