from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
import pytest
from rigs.composite_material import write_material, write_picture, write_wave

from streamav.errors import DataError
from streamav.training.composite.material import Material, read_index
from streamav.training.composite.render import Renderer
from streamav.training.composite.scene import Played, Scene, Shown, parse_scenes, write_scenes
from streamav.training.composite.sound import activity, repeat, reverberate, rms, to_level

RATE = 16_000


def _tone(seconds: float, amplitude: float = 0.3) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return (amplitude * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    root = tmp_path_factory.mktemp("material")
    rows = ["path,kind,class,split"]
    for label, colour in (("bark", (200, 30, 30)), ("siren", (30, 30, 200))):
        write_wave(root / f"{label}.wav", _tone(2.0))
        write_picture(root / f"{label}.png", colour)
        rows += [f"{label}.wav,sound,{label},train", f"{label}.png,photo,{label},train"]
    write_wave(root / "rain.wav", np.random.default_rng(0).normal(0, 0.1, RATE * 4).clip(-1, 1).astype(np.float32))
    write_picture(root / "wall.png", (90, 90, 90))
    rows += ["rain.wav,ambient,,train", "wall.png,backdrop,,train"]
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return Material(root, "train", root / "cache")


def _scene(**changes: object) -> Scene:
    plain: dict[str, object] = {
        "seed": 1, "seconds": 8, "backdrop": "wall.png", "ambience": "rain.wav", "ambience_dbfs": -60.0,
        "shown": (Shown(path="bark.png", label=0, onset_s=2.0, offset_s=6.4, box=None),),
        "played": (Played(path="bark.wav", label=0, onset_s=1.0, offset_s=5.0, snr_db=30.0, pause_s=0.0, repeated=True),),
    }  # fmt: skip
    return Scene(**(plain | changes))  # type: ignore[arg-type]


def test_an_event_is_where_sound_and_picture_of_one_class_meet(material: Material) -> None:
    """A class that is heard from 1 to 5 s and seen from 2 to 6.4 s is an event in the segments 2, 3 and 4 only."""
    rendered = Renderer(material).render(_scene())
    assert rendered.labels.tolist() == [2, 2, 0, 0, 0, 2, 2, 2]
    assert rendered.heard.tolist() == [2, 0, 0, 0, 0, 2, 2, 2]
    assert rendered.seen.tolist() == [2, 2, 0, 0, 0, 0, 2, 2]
    assert rendered.samples.shape == (8, RATE)
    assert rendered.pictures.shape == (8, 2, 112, 112, 3)


def test_sound_and_picture_that_disagree_are_background(material: Material) -> None:
    """The siren's sound with the dog's picture is no event."""
    wrong = Played(path="siren.wav", label=1, onset_s=0.0, offset_s=8.0, snr_db=20.0, pause_s=0.0, repeated=True)
    assert (Renderer(material).render(_scene(played=(wrong,))).labels == 2).all()


def test_a_sound_that_has_ended_is_not_heard(material: Material) -> None:
    """A sound of 2 s that is played once in a stretch of 6 s is heard for 2 s only: the energy decides, not the planned stretch."""
    once = Played(path="bark.wav", label=0, onset_s=1.0, offset_s=7.0, snr_db=30.0, pause_s=0.0, repeated=False)
    assert Renderer(material).render(_scene(played=(once,))).heard.tolist() == [2, 0, 0, 2, 2, 2, 2, 2]


def test_a_manifest_renders_the_same_scene_again(material: Material) -> None:
    """Writing, reading and rendering a scene gives equal samples and pictures."""
    boxed = Shown(path="siren.png", label=1, onset_s=3.5, offset_s=7.0, box=(0.1, 0.2, 0.5, 0.6))
    scene = _scene(seed=7, ambience="", shown=(boxed,))
    again = parse_scenes(write_scenes([scene]))[0]
    assert again == scene
    first, second = Renderer(material).render(scene), Renderer(material).render(again)
    np.testing.assert_array_equal(first.samples, second.samples)
    np.testing.assert_array_equal(first.pictures, second.pictures)


def test_material_keeps_splits_apart_and_names_what_is_missing(material: Material, tmp_path: Path) -> None:
    """The material holds only the rows of its split; a folder without an index raises an error that names the file."""
    assert material.labels == ["bark", "siren"]
    assert len(material.of("photo", "siren")) == 1
    with pytest.raises(DataError, match=r"index\.csv"):
        read_index(tmp_path)


def test_a_killed_decoding_leaves_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is killed while it writes the cache leaves no file there, and the next call decodes the material."""
    (tmp_path / "material").mkdir()
    write_material(tmp_path / "material", ("bark", "siren"))

    def die(file: IO[bytes] | Path, **_: object) -> None:
        Path(file if isinstance(file, Path) else file.name).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", die)
        with pytest.raises(KeyboardInterrupt):
            Material(tmp_path / "material", "train", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert Material(tmp_path / "material", "train", tmp_path / "cache").labels == ["bark", "siren"]


def test_silence_between_sounds_is_not_audible() -> None:
    """Half a second of silence between two tones is silent; a pause of 0.1 s counts as audible."""
    long, short = np.zeros(RATE // 2, np.float32), np.zeros(RATE // 10, np.float32)
    heard = activity(np.concatenate([_tone(1), long, _tone(1), short, _tone(1)]))
    assert heard[:20].all()
    assert not heard[21:29].any()
    assert heard[30:].all()


def test_levels_are_those_of_the_audible_part() -> None:
    """Scaling to a level measures only the audible part of a sound, not its pauses."""
    padded = np.concatenate([_tone(1), np.zeros(RATE * 3, np.float32)])
    assert 20.0 * np.log10(rms(to_level(padded, -20.0)[:RATE])) == pytest.approx(-20.0, abs=0.3)


def test_a_room_keeps_length_and_onset() -> None:
    """Reverberation does not move the direct sound and does not make the sound longer."""
    click = np.zeros(RATE, np.float32)
    click[4000] = 1.0
    wet = reverberate(click, np.random.default_rng(0))
    assert len(wet) == RATE
    assert np.abs(wet[:4000]).max() < 1e-5
    assert wet[4000] == pytest.approx(1.0, abs=1e-4)


def test_repeating_keeps_the_pause() -> None:
    """A repeated sound keeps its pause and has exactly the length asked for."""
    one = np.ones(3, np.float32)
    assert repeat(one, 8, 2).tolist() == [1, 1, 1, 0, 0, 1, 1, 1]
