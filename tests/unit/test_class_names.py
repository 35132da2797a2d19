"""Tests names of classes: each becomes one label by one rule, and a name without a label is refused before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from rigs.ave_folder import NAMES, write_ave_folder
from rigs.commands import invoke
from rigs.composite_material import write_material

from streamav.cli.compose import compose
from streamav.cli.train import train
from streamav.cli.tune import tune
from streamav.errors import DataError, SettingsError
from streamav.training.composite.material import read_index
from streamav.training.data.folder import open_ave


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small folder of 28 classes without Annotations.txt, so that classes.txt names them."""
    folder = tmp_path_factory.mktemp("features")
    write_ave_folder(folder, 6, dtype="float16", noisy=0)
    (folder / "Annotations.txt").unlink()
    return folder


def name_classes(folder: Path, *changed: str, encoding: str = "utf-8") -> None:
    text = "\n".join([*changed, *NAMES[len(changed) :]]) + "\n"
    (folder / "classes.txt").write_bytes(text.encode(encoding))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("Dog bark", "Dog-bark"), ("line 2: 'Dog-bark' and 'Dog bark' (line 1)", "dog_bark", "rename one")),
        (("Hund", "犬"), ("line 2: the class '犬'", "letters a to z", "write it in these")),
        (("Smørrebrød",), ("line 1: the class 'Smørrebrød'", "got ø")),
        (("Background",), ("line 1: the class 'Background'", "leave it out")),
        (("x" * 65,), ("line 1: the class", "choose another name")),
        (("Dog bark\x07",), ("line 1: the class", "printable")),
    ],
)
def test_classes_that_become_no_label_are_refused_before_training(
    features: Path, tmp_path: Path, changed: Sequence[str], says: Sequence[str]
) -> None:
    """`streamav train` ends at once and names file, line, both names and what to do; nothing is written."""
    name_classes(features, *changed)
    result = invoke(train, "--data", features, "--out", tmp_path / "model", "--epochs", 1)
    assert isinstance(result.exception, DataError)
    for words in (str(features / "classes.txt"), *says):
        assert words in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_accents_are_dropped_from_labels_and_stay_in_names(features: Path) -> None:
    """A name beyond ASCII that has a plain form is an ordinary class, and is shown as it was written."""
    name_classes(features, "Café", "Straßenbahn (laut)", encoding="utf-8-sig")
    first, second = open_ave(features).classes[:2]
    assert (first.slug, first.name) == ("cafe", "Café")
    assert (second.slug, second.name) == ("strassenbahn_laut", "Straßenbahn (laut)")


def test_a_list_of_classes_in_another_encoding_is_told(features: Path) -> None:
    """Text that is not UTF-8 gives one error that names the file."""
    name_classes(features, "Café", encoding="latin-1")
    with pytest.raises(DataError, match=r"classes\.txt must be a readable UTF-8 text file"):
        open_ave(features)


def test_a_list_of_classes_without_end_is_not_read(features: Path) -> None:
    """A file that is too large for a list of classes is not read."""
    (features / "classes.txt").write_bytes(b"x\n" * (1 << 20))
    with pytest.raises(DataError, match="at most"):
        open_ave(features)


@pytest.mark.parametrize(
    ("labels", "says"), [(("dog bark", "dog-bark"), "line 4: 'dog-bark' and 'dog bark' (line 2)"), (("犬",), "line 2:")]
)
def test_material_whose_classes_become_no_label_is_refused_before_composing(tmp_path: Path, labels: Sequence[str], says: str) -> None:
    """The same rule holds for index.csv, before a clip is rendered."""
    write_material(tmp_path, labels)
    with pytest.raises(DataError) as found:
        read_index(tmp_path)
    assert says in str(found.value)
    assert str(tmp_path / "index.csv") in str(found.value)
    result = invoke(compose, "--material", tmp_path, "--out", tmp_path / "out", "--train", 1, "--held-out", 1)
    assert isinstance(result.exception, DataError)
    assert not list(tmp_path.glob("out/*.h5"))


def test_material_in_another_encoding_is_told(tmp_path: Path) -> None:
    """An index that is not UTF-8 gives one error that names the file."""
    (tmp_path / "index.csv").write_bytes("path,kind,class,split\na.wav,sound,café,train\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"index\.csv must be a readable table"):
        read_index(tmp_path)


def test_a_class_that_the_model_lacks_is_refused_before_tuning(tiny_bundle: Path, tmp_path: Path) -> None:
    """`streamav tune --class` takes labels of the model; for another one the error names the nearest, before any data are opened."""
    result = invoke(tune, "--model", tiny_bundle, "--data", tmp_path / "missing", "--class", "Bark!")
    assert isinstance(result.exception, SettingsError)
    assert "--class Bark!" in str(result.exception)
    assert "the nearest is bark" in str(result.exception)
