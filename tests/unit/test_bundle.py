"""Tests of bundles: they are written and read completely or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from streamav.bundle import (
    AVE_CLASSES,
    AudioCard,
    Bundle,
    DetectionCard,
    LocalizerCard,
    Metrics,
    ModelCard,
    TrainingData,
    VisualCard,
    bundle_names,
    find_bundle,
    load_bundle,
    models_folder,
    store,
    write_bundle,
)
from streamav.bundle.card import parse_card
from streamav.bundle.store import copy_bundle
from streamav.errors import ModelError
from streamav.thresholds import PartialThresholds


def make_card(**changes: object) -> ModelCard:
    fields: dict[str, object] = {
        "name": "tiny",
        "version": "1",
        "profile": "custom",
        "classes": AVE_CLASSES[:3],
        "audio": AudioCard(network="compact_audio", log_mel_offset=0.001, size=4),
        "visual": VisualCard(network="compact_visual", picture=(112, 112), frames_per_second=4, size=5, grid=7),
        "localizer": LocalizerCard(options={"hidden": 8, "classes": 3}),
        "detection": DetectionCard(on=0.6, off=0.4, classes={"bark": PartialThresholds(on=0.7)}),
        "training_data": (TrainingData(name="n", source="s", licence="CC0"),),
        "licence_note": "free",
        "metrics": Metrics(command="streamav eval", values={"accuracy": 0.9}),
    }
    return ModelCard.model_validate({**fields, **changes})


def make_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        "audio.w": rng.standard_normal((4, 2)).astype(np.float16),
        "visual.conv.b": rng.standard_normal(5).astype(np.float32),
        "localizer.l.w": rng.standard_normal((3, 3)).astype(np.float32),
    }


def make(path: Path) -> Bundle:
    return write_bundle(path, make_card(), make_tensors())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Card and weights are read back unchanged, float16 as float32, and no other files are left beside the bundle."""
    bundle = make(tmp_path / "b")
    assert load_bundle(tmp_path / "b") == bundle
    assert bundle.card.model_copy(update={"weights": {}}) == make_card()
    for part in ("audio", "visual.", "localizer"):
        got = bundle.weights(part)
        want = {
            key.removeprefix(part.rstrip(".") + "."): value for key, value in make_tensors().items() if key.startswith(part.rstrip("."))
        }
        assert got.keys() == want.keys()
        assert all(got[key].dtype == np.float32 and np.array_equal(got[key], want[key].astype(np.float32)) for key in want)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "model.json", "weights.safetensors"]


def test_the_hash_is_that_of_the_weights_file(tmp_path: Path) -> None:
    """With one weights file, the bundle's hash is the one that sha256sum prints."""
    bundle = make(tmp_path / "b")
    assert bundle.sha256 == hashlib.sha256((tmp_path / "b" / "weights.safetensors").read_bytes()).hexdigest()


def test_others_may_read_the_files(tmp_path: Path) -> None:
    """A bundle that root installs is readable for the service's user."""
    old = os.umask(0o022)
    try:
        make(tmp_path / "b")
    finally:
        os.umask(old)
    assert [path.stat().st_mode & 0o444 for path in (tmp_path / "b").iterdir()] == [0o444, 0o444]


@pytest.mark.parametrize(
    "damage", ["no card", "no weights", "truncated", "flipped", "card truncated", "no hash", "schema", "extra key", "huge"]
)
def test_a_damaged_bundle_is_refused(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, incomplete, truncated and changed files and cards of another schema give a ModelError."""
    path = make(tmp_path / "b").path
    card, weights = path / "model.json", path / "weights.safetensors"
    tree = json.loads(card.read_text())
    match damage:
        case "no card":
            card.unlink()
        case "no weights":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "flipped":
            data = bytearray(weights.read_bytes())
            data[-1] ^= 1
            weights.write_bytes(data)
        case "card truncated":
            card.write_text(card.read_text()[:-20])
        case "no hash":
            card.write_text(json.dumps({**tree, "weights": {}}))
        case "schema":
            card.write_text(json.dumps({**tree, "schema": "streamav.model/2"}))
        case "extra key":
            card.write_text(json.dumps({**tree, "surprise": 1}))
        case "huge":
            monkeypatch.setattr(store, "MAX_WEIGHTS_BYTES", 10)
    with pytest.raises(ModelError, match="b"):
        load_bundle(path)


def rehash(path: Path) -> None:
    tree = json.loads((path / "model.json").read_text())
    tree["weights"] = {"weights.safetensors": hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest()}
    (path / "model.json").write_text(json.dumps(tree))


@pytest.mark.parametrize("content", ["another part", "a part missing", "no safetensors", "huge header"])
def test_right_hashes_of_wrong_weights_do_not_help(tmp_path: Path, content: str) -> None:
    """Weights with a correct hash and wrong content are refused."""
    path = make(tmp_path / "b").path
    weights = path / "weights.safetensors"
    tensors = load_file(weights)
    if content == "another part":
        save_file({**tensors, "evil.w": np.zeros(1, np.float32)}, weights)
    elif content == "a part missing":
        save_file({key: value for key, value in tensors.items() if not key.startswith("visual")}, weights)
    elif content == "no safetensors":
        weights.write_bytes(b"\x80\x02}.")
    else:
        weights.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    rehash(path)
    with pytest.raises(ModelError):
        load_bundle(path)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_links_out_of_the_bundle_are_refused(tmp_path: Path, name: str) -> None:
    """A card or weights file that is a link to a file outside of the bundle's folder is refused; a link to the whole folder is not."""
    write_bundle(tmp_path / "model", make_card(), make_tensors())
    (tmp_path / "linked").symlink_to(tmp_path / "model")
    assert load_bundle(tmp_path / "linked").card.name == "tiny"
    (tmp_path / "model" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "model" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="link to a file outside"):
        load_bundle(tmp_path / "model")


def test_a_card_with_huge_pictures_is_refused() -> None:
    """A card whose pictures are 65536 pixels wide is refused when it is read; a run would take all memory."""
    visual = {"network": "compact_visual", "picture": [65536, 65536], "frames_per_second": 4, "size": 5, "grid": 7}
    card = {**json.loads(make_card().to_json()), "visual": visual}
    with pytest.raises(ModelError, match=r"picture"):
        parse_card(json.dumps(card).encode(), "card")


def test_weights_of_another_type_are_refused(tmp_path: Path) -> None:
    """Weights of types other than float16 and float32 are refused on write and on read."""
    with pytest.raises(ModelError, match="float16 or float32"):
        write_bundle(tmp_path / "x", make_card(), {**make_tensors(), "audio.n": np.zeros(1, np.int64)})
    path = make(tmp_path / "b").path
    save_file({**make_tensors(), "audio.n": np.zeros(1, np.int64)}, path / "weights.safetensors")
    rehash(path)
    with pytest.raises(ModelError, match="float16 or float32"):
        load_bundle(path).weights("audio")


@pytest.mark.parametrize("wrong", [{"evil.w": np.zeros(1, np.float32)}, {"audio.w": np.array([np.nan], np.float32)}])
def test_a_failed_write_leaves_nothing(tmp_path: Path, wrong: dict[str, np.ndarray]) -> None:
    """Wrong tensors give an error and leave no bundle and no temporary folder."""
    with pytest.raises(ModelError):
        write_bundle(tmp_path / "b", make_card(), {**make_tensors(), **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk error during a write leaves the old content, and no other files."""
    old = make(tmp_path / "b")

    def full(_self: Path, *_arguments: object, **_options: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(ModelError, match="No space left"):
            write_bundle(tmp_path / "b", make_card(version="2"), make_tensors(), replace=True)
    assert load_bundle(tmp_path / "b") == old
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_bundle_is_replaced_only_when_asked(tmp_path: Path) -> None:
    """An existing bundle gives an error unless it may be replaced; a folder with other files is never replaced."""
    make(tmp_path / "b")
    with pytest.raises(ModelError, match="must not exist"):
        make(tmp_path / "b")
    assert write_bundle(tmp_path / "b", make_card(version="2"), make_tensors(), replace=True).card.version == "2"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    with pytest.raises(ModelError, match="must not exist"):
        write_bundle(tmp_path / "home", make_card(), make_tensors(), replace=True)
    assert (tmp_path / "home" / "letter").exists()


def test_bundles_are_found_by_name_and_by_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name finds a bundle in the user's folder, a path finds a folder, and the error for another name lists the bundles."""
    monkeypatch.setenv("STREAMAV_HOME", str(tmp_path))
    bundle = make(models_folder() / "mine")
    assert bundle_names()["mine"] == bundle.path
    assert find_bundle("mine") == find_bundle(str(bundle.path)) == find_bundle(bundle.path) == bundle
    with pytest.raises(ModelError, match="mine"):
        find_bundle("yours")


def test_a_copy_is_equal(tmp_path: Path) -> None:
    """A copied bundle has the same card, bytes and hash."""
    bundle = make(tmp_path / "b")
    copy = copy_bundle(bundle, tmp_path / "deep" / "c")
    assert (copy.card, copy.sha256) == (bundle.card, bundle.sha256)
    assert (copy.path / "weights.safetensors").read_bytes() == (bundle.path / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": (*AVE_CLASSES[:1], *AVE_CLASSES[:1])}, "twice"),
        ({"classes": ({"slug": "background", "name": "x"},)}, "background"),
        ({"classes": ({"slug": "Bark/#", "name": "x"},)}, "slug"),
        ({"classes": ()}, "classes"),
        ({"name": "../up"}, "name"),
        ({"weights": {"../w.safetensors": "0" * 64}}, "weights"),
        ({"localizer": {"options": {"classes": 7}}}, "must agree"),
        ({"localizer": {"options": {"audio_size": 128}}}, "must agree"),
        ({"detection": {"on": 0.3, "off": 0.4}}, "at most on"),
        ({"detection": {"on": 0.6, "off": 0.4, "classes": {"bark": {"off": 0.7}}}}, "at most on"),
        ({"detection": {"on": 0.6, "off": 0.4, "classes": {"cow": {"on": 0.7}}}}, "cow"),
        ({"metrics": {"values": {"x": "NaN"}}}, "metrics"),
        ({"audio": {"network": "os.system", "log_mel_offset": 0.1, "size": 1}}, "audio"),
    ],
)
def test_wrong_cards_are_refused(change: dict[str, object], message: str) -> None:
    """The error names each wrong field."""
    tree = {**json.loads(make_card().to_json()), **json.loads(json.dumps(change, default=lambda part: part.model_dump()))}
    with pytest.raises(ModelError, match=message):
        parse_card(json.dumps(tree), "model.json")


def test_ave_classes_are_those_of_the_label_files(shared_data: Path) -> None:
    """The 28 classes are in the order of their first appearance in AVE's annotations."""
    rows = (shared_data / "ave" / "Annotations.txt").read_text(encoding="utf-8").splitlines()
    names = list(dict.fromkeys(row.split("&")[0] for row in rows if row.count("&") == 4 and not row.startswith("Category")))
    assert [entry.name for entry in AVE_CLASSES] == names


def test_a_baseline_is_no_model_and_is_told_how_it_is_compared(tmp_path: Path) -> None:
    """The folder of `streamav train --network pspnet` is refused with the way to its answers."""
    (tmp_path / "network.json").write_text("{}")
    with pytest.raises(ModelError, match=r"got a baseline that streamav train --network wrote; compare its answers: .*--predictions FILE"):
        find_bundle(tmp_path)
