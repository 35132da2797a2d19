"""Where bundles and public encoders are on this machine: the folders of the package and of the user."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from streamav.setting_names import HOME
from streamav.user_paths import is_folder, user_folder

__all__ = ["CARD_FILE", "bundle_names", "data_home", "encoder_folder", "models_folder"]

CARD_FILE = "model.json"
"""The file of a bundle by which it is found."""


def data_home() -> Path:
    """Return the folder of the user's own models: $STREAMAV_HOME, else streamav in $XDG_DATA_HOME or ~/.local/share."""
    home = os.environ.get(HOME)
    if home:
        return Path(home)
    return user_folder("XDG_DATA_HOME", ".local/share") / "streamav"


def models_folder() -> Path:
    """Return the folder of the user's bundles; each bundle is one folder in it."""
    return data_home() / "models"


def encoder_folder() -> Path:
    """Return the folder where `streamav models pull` stores public encoders."""
    return data_home() / "weights"


def bundle_names() -> dict[str, Path]:
    """Return the folders of all bundles that have a name: those of the package, then those of the user."""
    names: dict[str, Path] = {}
    for folder in (_packaged_folder(), models_folder()):
        if is_folder(folder):
            for card in sorted(folder.glob(f"*/{CARD_FILE}")):
                if not card.parent.name.startswith("."):
                    names.setdefault(card.parent.name, card.parent)
    return names


def _packaged_folder() -> Path:
    """Return streamav/models of the installed package (a path, because wheels are installed unpacked)."""
    return Path(str(resources.files("streamav"))) / "models"
