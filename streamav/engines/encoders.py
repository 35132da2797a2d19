"""Finds the file with the weights of an encoder that a bundle names but does not hold.

It opens no file and knows no torch: readers are in `streamav.networks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamav.bundle import encoder_folder
from streamav.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ENCODER_FILES", "encoder_file"]

ENCODER_FILES: dict[str, tuple[str, ...]] = {
    "vgg19": (
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
        "vgg19-d01eb7cb.pth",
        "vgg19.h5",
        "vgg19.pth",
    ),
    "vggish": ("vggish-10086976.pth", "vggish.pth", "vggish.npz"),
    "yamnet": ("yamnet.safetensors",),
    "mobilenetv2": ("mobilenetv2.safetensors",),
}
"""Names under which public weights are looked for, best first; the long ones are those of the public files themselves."""


def encoder_file(network: str, folder: Path | None) -> Path:
    """Give the file with the weights of an external encoder.

    Args:
        network: name in the model card: vgg19, vggish, yamnet or mobilenetv2.
        folder: where to look; None for the folder that `streamav models pull` fills.

    Raises:
        ModelError: when there is none; the message says which names are looked for.
    """
    place = encoder_folder() if folder is None else folder
    names = ENCODER_FILES.get(network, ())
    for name in names:
        if (place / name).is_file():
            return place / name
    msg = (
        f"the model needs the weights of {network}, which its bundle does not hold; put one of {', '.join(names) or 'no known file'} "
        f"into {place}, or name their folder with --weights, or run: streamav models pull {network}"
    )
    raise ModelError(msg)
