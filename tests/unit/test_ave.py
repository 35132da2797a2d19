"""Promises of the reader of AVE-shaped folders."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from rigs.ave_folder import CLASSES, write_ave_folder, write_dataset

from streamav.errors import DataError
from streamav.training.data.annotations import labels_of, other_classes, read_annotations, tags_of
from streamav.training.data.feature_set import FeatureSet
from streamav.training.data.folder import AveOptions, open_ave
from streamav.training.data.windows import ClipBatches
from streamav.training.options import TrainOptions

CLIPS = 10


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of sound data that no test changes."""
    path = tmp_path_factory.mktemp("ave")
    write_ave_folder(path, CLIPS, noisy=2)
    return path


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder, for one test to change."""
    return shutil.copytree(written, tmp_path, dirs_exist_ok=True)


@pytest.mark.parametrize(("dtype", "chunked"), [("float64", False), ("float32", True), ("float16", False)])
@pytest.mark.parametrize("float16", [False, True])
def test_every_stored_form_reads_the_same(tmp_path: Path, dtype: str, chunked: bool, float16: bool) -> None:
    """The stored type, chunks and a copy in memory change no number by more than the rounding of float16."""
    made = write_ave_folder(tmp_path, CLIPS, dtype=dtype, chunked=chunked)
    data = open_ave(tmp_path, AveOptions(float16=float16))
    batch = data.train.gather(np.arange(3))
    rows = made.train[:3]
    assert batch.visual.dtype == batch.audio.dtype
    np.testing.assert_allclose(batch.visual.numpy(), made.visual[rows], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(batch.audio.numpy(), made.audio[rows], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(batch.labels.numpy(), made.labels[rows])


def test_labels_are_rebuilt_from_the_annotations(folder: Path) -> None:
    """Without label and tag files, the annotations alone give the same labels and tags."""
    before = open_ave(folder)
    for name in ("right_labels.h5", "mil_labels.h5"):
        (folder / name).unlink()
    after = open_ave(folder)
    np.testing.assert_array_equal(before.train.labels, after.train.labels)
    np.testing.assert_array_equal(before.train.tags, after.train.tags)


@pytest.mark.parametrize(
    ("wanted", "alias"),
    [
        ("visual_feature.h5", "visual_features.h5"),
        ("audio_feature.h5", "audio_features.h5"),
        ("right_labels.h5", "right_label.h5"),
        ("right_labels.h5", "labels.h5"),
    ],
)
def test_names_that_circulate_are_found(folder: Path, wanted: str, alias: str) -> None:
    """Each alias is read as the file it stands for."""
    (folder / wanted).rename(folder / alias)
    assert len(open_ave(folder).train) == 6


def test_weak_training_adds_the_background_clips_behind_the_others(folder: Path) -> None:
    """The weak training set ends with the two background clips, tagged as background, with the features of their own file."""
    data = open_ave(folder)
    assert (len(data.train), len(data.weak_train)) == (6, 8)
    batch = data.weak_train.gather(np.array([7]))
    assert batch.tags[0].tolist() == [0.0] * CLASSES + [1.0]
    with h5py.File(folder / "visual_feature_noisy.h5") as file:
        np.testing.assert_array_equal(batch.visual[0].numpy(), file["avadataset"][1])


def overwrite(folder: Path, name: str, key: str, change: object) -> None:
    with h5py.File(folder / name) as file:
        values = file[key][()]
    changed = change(values)  # type: ignore[operator]
    write_dataset(folder / name, values if changed is None else changed, key)


def put(index: int | tuple[int, ...], value: float) -> object:
    def change(values: np.ndarray) -> None:
        values[index] = value

    return change


@pytest.mark.parametrize(
    ("name", "key", "change", "says"),
    [
        ("visual_feature.h5", "avadataset", put((4, 0, 0, 0, 0), np.nan), r"visual_feature\.h5, row 4"),
        ("audio_feature.h5", "avadataset", put((5, 9, 1), np.inf), r"audio_feature\.h5, row 5"),
        ("visual_feature_noisy.h5", "avadataset", put((1, 0, 0, 0, 0), np.nan), r"visual_feature_noisy\.h5, row 1"),
        ("audio_feature.h5", "avadataset", lambda v: v[:-1], r"audio_feature\.h5 must have 10 clips"),
        ("audio_feature.h5", "avadataset", lambda v: v[..., 0], r"\(clips, segments, size\)"),
        ("visual_feature.h5", "avadataset", lambda v: v[:, :, :6], r"\(clips, segments, grid, grid, size\)"),
        ("audio_feature.h5", "avadataset", lambda v: v.astype(np.int32), "float32"),
        ("right_labels.h5", "avadataset", put((3, 2), 0.0), r"right_labels\.h5, row 3"),
        ("right_labels.h5", "avadataset", put((3, 2), 1.0), r"right_labels\.h5, row 3"),
        ("right_labels.h5", "avadataset", lambda v: v[:, ::-1], r"must agree with Annotations\.txt"),
        ("right_labels.h5", "avadataset", lambda v: v[:-1], r"right_labels\.h5 must be \(10, 10"),
        ("mil_labels.h5", "avadataset", lambda v: np.roll(v, 1, axis=1), r"mil_labels\.h5, row 0"),
        ("mil_labels.h5", "avadataset", put((2,), 0.0), r"mil_labels\.h5, row 2"),
        ("train_order.h5", "order", put(1, 10), r"train_order\.h5, entry 1.* 0 to 9"),
        ("train_order.h5", "order", put(1, -1), r"train_order\.h5, entry 1"),
        ("train_order.h5", "order", lambda v: np.concatenate([v, v[:1]]), "each row once"),
        ("train_order.h5", "order", lambda v: v.astype(float), "whole row numbers"),
        ("test_order.h5", "order", lambda v: v[:0], "whole row numbers"),
        ("audio_feature_noisy.h5", "avadataset", lambda v: v[:1], "must have 2 clips"),
    ],
)
def test_bad_data_are_refused_by_file_and_row(folder: Path, name: str, key: str, change: object, says: str) -> None:
    """Each defect of a file raises one DataError that names the file and, where one row is wrong, the row."""
    overwrite(folder, name, key, change)
    with pytest.raises(DataError, match=says):
        open_ave(folder)


def test_splits_that_share_a_row_are_refused(folder: Path) -> None:
    """A clip that is in both the training and the test split raises an error."""
    with h5py.File(folder / "train_order.h5") as file:
        train = file["order"][()]
    write_dataset(folder / "test_order.h5", train[:1], "order")
    with pytest.raises(DataError, match="in both"):
        open_ave(folder)


@pytest.mark.parametrize("name", ["visual_feature.h5", "audio_feature.h5", "train_order.h5", "val_order.h5", "test_order.h5"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """The error for a missing file names the file."""
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        open_ave(folder)


def external_link(file: h5py.File, outside: Path) -> None:
    file["avadataset"] = h5py.ExternalLink(outside.name, "/avadataset")


def soft_link(file: h5py.File, outside: Path) -> None:
    file["elsewhere"] = h5py.ExternalLink(outside.name, "/")
    file["avadataset"] = h5py.SoftLink("/elsewhere/avadataset")


def virtual(file: h5py.File, outside: Path) -> None:
    with h5py.File(outside) as source:
        shape, dtype = source["avadataset"].shape, source["avadataset"].dtype
    layout = h5py.VirtualLayout(shape=shape, dtype=dtype)
    layout[...] = h5py.VirtualSource(str(outside), "avadataset", shape=shape)
    file.create_virtual_dataset("avadataset", layout)


def external_storage(file: h5py.File, outside: Path) -> None:
    with h5py.File(outside) as source:
        shape = source["avadataset"].shape
    file.create_dataset("avadataset", shape, "float32", external=[(str(outside), 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize("way", [external_link, soft_link, virtual, external_storage])
@pytest.mark.parametrize("name", ["visual_feature.h5", "right_labels.h5"])
def test_a_file_that_points_outside_itself_is_not_followed(folder: Path, name: str, way: Callable[[h5py.File, Path], None]) -> None:
    """Links, virtual datasets and external storage are refused even if the data they point to are good: they could name any file."""
    (folder / name).rename(folder / "secret.h5")
    with h5py.File(folder / name, "w") as file:
        way(file, folder / "secret.h5")
    with pytest.raises(DataError, match=rf"{name} must hold"):
        open_ave(folder)


@pytest.mark.parametrize("name", ["visual_feature.h5", "audio_feature.h5", "right_labels.h5", "mil_labels.h5", "train_order.h5"])
def test_a_file_that_is_no_hdf5_or_holds_no_dataset_is_refused(folder: Path, name: str) -> None:
    """A pickle or an empty HDF5 file under the right name raises one error that names the file; nothing is unpickled."""
    (folder / name).write_bytes(b"\x80\x04c__builtin__\nprint\n.")
    with pytest.raises(DataError, match=rf"{name} must be a whole HDF5 file"):
        open_ave(folder)
    with h5py.File(folder / name, "w"):
        pass
    with pytest.raises(DataError, match=rf"{name} must hold one dataset"):
        open_ave(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("visual_feature.h5", (10, 10, 7, 7, 1 << 20)), ("right_labels.h5", (1 << 20, 10, 29)), ("train_order.h5", (1 << 40,))],
)
def test_a_header_that_claims_terabytes_is_refused(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    """A dataset whose header claims a huge size without any storage is refused before memory is allocated for it."""
    with h5py.File(folder / name, "w") as file:
        file.create_dataset("avadataset", shape, "float32", chunks=True)
    with pytest.raises(DataError, match=rf"{name} must (be|have) at most"):
        open_ave(folder)


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_copy_of_the_features_is_made(tmp_path: Path, dtype: str, chunked: bool) -> None:
    """Opening, checking every row and reading every batch of a split needs the memory of a few clips, not of the file."""
    write_ave_folder(tmp_path, 30, dtype=dtype, chunked=chunked, noisy=0)
    clip = 10 * 7 * 7 * 512 * 8
    tracemalloc.start()
    try:
        for _ in open_ave(tmp_path).train.batches(2):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * clip  # the file has thirty clips


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_a_file_cut_short_is_refused(folder: Path, keep: float) -> None:
    """A file that was cut at any place raises an error and never gives wrong numbers."""
    path = folder / "visual_feature.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    with pytest.raises(DataError, match=r"visual_feature\.h5"):
        open_ave(folder)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Bark&v&good&0", "category&video"),
        ("Dog&v&good&0&4", "28 classes"),
        ("Bark&v&good&5&4", "start <= end"),
        ("Bark&v&good&0&11", "start <= end"),
        ("Bark&v&good&a&4", "start <= end"),
    ],
)
def test_a_wrong_annotation_is_refused_by_row(tmp_path: Path, line: str, says: str) -> None:
    """The error for a malformed row names the row's number."""
    path = tmp_path / "Annotations.txt"
    path.write_text(f"Bark&v&good&0&4\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"row 1.*{says}"):
        read_annotations(path)


def test_nan_that_appears_while_training_is_named_by_row() -> None:
    """A batch that holds NaN is refused, and the message names the row, even if features were not checked at the start."""
    visual = np.zeros((4, 2, 1, 1, 3), dtype=np.float32)
    visual[2, 1] = np.nan
    data = FeatureSet(
        audio=np.zeros((4, 2, 3), dtype=np.float32),
        visual=visual,
        labels=np.zeros((4, 2), dtype=np.int64),
        tags=np.ones((4, 2), dtype=np.float32),
        rows=np.array([3, 2, 1]),
    )
    with pytest.raises(DataError, match="row 2"):
        data.gather(np.array([0, 1]))


def test_an_epoch_is_a_permutation_and_batches_stay_as_they_were() -> None:
    """Each epoch holds every clip once, with its own label, in a new order; a batch does not change after it was read."""
    labels = np.arange(7, dtype=np.int64)[:, None]
    data = FeatureSet(
        audio=np.arange(7, dtype=np.float32).reshape(7, 1, 1),
        visual=np.arange(7, dtype=np.float32).reshape(7, 1, 1, 1, 1),
        labels=labels,
        tags=np.ones((7, 8), dtype=np.float32),
        rows=np.arange(7),
    )
    orders = []
    for epoch in (1, 2):
        batches = list(ClipBatches(train=data, options=TrainOptions(batch=3))(epoch))
        seen = np.concatenate([batch.labels[:, 0].numpy() for batch in batches])
        assert [len(batch) for batch in batches] == [3, 3, 1]
        assert sorted(seen) == list(range(7))
        np.testing.assert_array_equal(seen, np.concatenate([batch.audio.reshape(-1).numpy() for batch in batches]))
        np.testing.assert_array_equal(seen, np.concatenate([batch.visual.reshape(-1).numpy() for batch in batches]))
        orders.append(seen.tolist())
    assert orders[0] != orders[1]


def test_the_real_annotations_give_the_published_labels(shared_data: Path) -> None:
    """Labels and tags rebuilt from the real Annotations.txt equal the published files; 45 videos have a second class."""
    annotations = read_annotations(shared_data / "ave" / "Annotations.txt")
    labels = labels_of(annotations)
    with h5py.File(shared_data / "ave" / "mil_labels.h5") as file:
        np.testing.assert_array_equal(tags_of(annotations), file["avadataset"][()])
    with h5py.File(shared_data / "ave" / "labels_closs.h5") as file:
        np.testing.assert_array_equal(labels < CLASSES, file["avadataset"][()] > 0)
    assert len({annotations[row].video for row in other_classes(annotations)}) == 45
