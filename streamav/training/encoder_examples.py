"""Renders what the compact encoders learn from: single views and seconds, each with what a public teacher makes of it.

Teachers look at each example once, in ONNX Runtime; no number of theirs goes into a model. It knows no student and no loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

from streamav.features.logmel import LogMelOptions, log_mel
from streamav.networks.compact import COMPACT_SIDE
from streamav.networks.mobilenetv2 import MOBILENETV2_SIDE, MobileNetV2, mobilenetv2_state
from streamav.networks.yamnet import Yamnet, yamnet_state
from streamav.training.composite.drawn import KINDS, drawn_second, drawn_view
from streamav.training.composite.sound import rms
from streamav.training.composite.views import nothing_view, photo_view, picture_plan, second_of_ambience, second_of_sound

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from streamav.training.composite.material import Item, Material

    Examples = dict[str, NDArray[np.generic]]

__all__ = [
    "GRID_DIMENSIONS",
    "OFFSET",
    "audio_teacher",
    "render_drawn_pictures",
    "render_drawn_seconds",
    "render_pictures",
    "render_seconds",
    "session",
    "visual_teacher",
]

OFFSET = LogMelOptions(offset=0.001)
"""Front end of the compact audio encoder, that of its teacher YAMNet: quiet sounds stay visible."""
GRID_DIMENSIONS = 64
"""Principal components kept of the visual teacher's 1280 channels per grid cell."""
TEACHER_BATCH = 32


def visual_teacher(weights: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Give MobileNetV2 as a function of pictures (B, 224, 224, 3) uint8 to grids (B, 7, 7, 1280), in ONNX Runtime (4 x torch here)."""
    network = MobileNetV2().eval()
    network.load_state_dict(mobilenetv2_state(load_file(weights / "mobilenetv2.safetensors")), strict=False)
    return session(network, torch.zeros(2, MOBILENETV2_SIDE, MOBILENETV2_SIDE, 3, dtype=torch.uint8))


def audio_teacher(weights: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Give YAMNet as a function of patches (B, 96, 64) to embeddings (B, 1024), in ONNX Runtime."""
    network = Yamnet().eval()
    network.load_state_dict(yamnet_state(load_file(weights / "yamnet.safetensors")))
    return session(network, torch.zeros(2, 96, 64))


def session(network: nn.Module, example: Tensor) -> Callable[[NDArray[np.generic]], NDArray[np.float32]]:
    """Give a network in eval mode as a function of arrays, in ONNX Runtime on one thread, with any batch up to 512."""
    import tempfile
    from pathlib import Path

    import onnxruntime

    batch = torch.export.Dim("batch", min=1, max=512)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        torch.onnx.export(network, (example,), file, dynamo=True, dynamic_shapes=({0: batch},), external_data=False, verbose=False)
        running = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = running.get_inputs()[0].name
    return lambda x: np.asarray(running.run(None, {name: x})[0], dtype=np.float32)


def render_pictures(
    material: Material, teacher: Callable[[NDArray[np.uint8]], NDArray[np.float32]], seed: int, sizes: tuple[int, int, int]
) -> Examples:
    """Render views and the teacher's features of them.

    Args:
        material: one split.
        teacher: see `visual_teacher`.
        seed: of everything random.
        sizes: views per class, most views per photo, views of nothing.

    Returns:
        pictures (n, 112, 112, 3) uint8, labels (n,) (C for none), pooled (n, 1280) float16, grid (n, 7, 7, 64) float16
        (principal components of the cells), basis (1280, 64).
    """
    rng = np.random.default_rng(seed)
    plan = picture_plan(material, *sizes)
    rng.shuffle(plan)
    backdrops = material.of("backdrop")
    parts: list[Examples] = []
    basis: NDArray[np.float32] | None = None
    for start in range(0, len(plan), TEACHER_BATCH):
        views = [
            nothing_view(material, backdrops, rng, MOBILENETV2_SIDE)
            if item is None
            else photo_view(material, item, backdrops, rng, MOBILENETV2_SIDE)
            for item, _ in plan[start : start + TEACHER_BATCH]
        ]
        large = torch.stack(views)
        grid = teacher(np.ascontiguousarray(large.permute(0, 2, 3, 1).numpy()))
        if basis is None:
            cells = grid.reshape(-1, grid.shape[-1])
            basis = np.linalg.svd(cells - cells.mean(0), full_matrices=False)[2][:GRID_DIMENSIONS].T.astype(np.float32)
        parts.append(_looked_at(large, grid, basis))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**whole, "labels": np.array([label for _, label in plan], np.int64), "basis": np.asarray(basis)}


def render_seconds(
    material: Material, teacher: Callable[[NDArray[np.float32]], NDArray[np.float32]], seed: int, per_class: int, none: int
) -> Examples:
    """Render seconds of sound in ambience and the teacher's embeddings of them.

    The teacher hears the second at one common level: its opinion must not depend on how loud the student hears it.

    Returns:
        patches (n, 96, 64) float16, labels (n,) (C for none, -1 where hardly audible), embeddings (n, 1024) float16.
    """
    rng = np.random.default_rng(seed)
    ambients = material.of("ambient")
    plan = [index for index in range(len(material.labels)) for _ in range(per_class)] + [len(material.labels)] * none
    rng.shuffle(plan)
    sounds = [material.of("sound", label) for label in material.labels]
    patches, labels, embeddings, heard = [], [], [], []
    for number, index in enumerate(plan):
        wave, label = _second(material, sounds[index] if index < len(sounds) else [], ambients, rng, index)
        level = rng.uniform(-45, -10)
        patches.append(log_mel(_limited(wave * 10 ** (level / 20)), OFFSET).astype(np.float16))
        heard.append(log_mel(_limited(wave * 0.08), OFFSET))
        labels.append(label)
        if len(heard) == TEACHER_BATCH or number == len(plan) - 1:
            embeddings.append(teacher(np.stack(heard)).astype(np.float16))
            heard = []
    return {"patches": np.stack(patches), "labels": np.array(labels, np.int64), "embeddings": np.concatenate(embeddings)}


def render_drawn_pictures(
    labels: list[str], teacher: Callable[[NDArray[np.uint8]], NDArray[np.float32]], basis: NDArray[np.float32], seed: int, per_kind: int
) -> Examples:
    """Render pictures of the embedded scene, its empty room as often as one kind, in the form of `render_pictures`."""
    rng = np.random.default_rng(seed)
    plan: list[str | None] = [kind for kind in (*KINDS, None) for _ in range(per_kind)]
    parts = []
    for start in range(0, len(plan), TEACHER_BATCH):
        large = torch.stack([drawn_view(kind, rng, MOBILENETV2_SIDE) for kind in plan[start : start + TEACHER_BATCH]])
        parts.append(_looked_at(large, teacher(np.ascontiguousarray(large.permute(0, 2, 3, 1).numpy())), basis))
    names = [*labels, None]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**whole, "labels": np.array([names.index(kind) for kind in plan], np.int64)}


def render_drawn_seconds(
    labels: list[str], teacher: Callable[[NDArray[np.float32]], NDArray[np.float32]], seed: int, per_kind: int
) -> Examples:
    """Render seconds of the embedded scene's sound in the form of `render_seconds`."""
    rng = np.random.default_rng(seed)
    names = [*labels, None]
    plan: list[str | None] = [kind for kind in (*KINDS, None) for _ in range(per_kind)]
    waves = [drawn_second(kind, rng) for kind in plan]
    patches = np.stack([log_mel(_limited(wave * 10 ** (rng.uniform(-48, -12) / 20)), OFFSET).astype(np.float16) for wave in waves])
    heard = np.stack([log_mel(_limited(wave * 0.08), OFFSET) for wave in waves])
    embeddings = np.concatenate([teacher(heard[n : n + TEACHER_BATCH]) for n in range(0, len(heard), TEACHER_BATCH)])
    return {"patches": patches, "labels": np.array([names.index(k) for k in plan], np.int64), "embeddings": embeddings.astype(np.float16)}


def _looked_at(large: Tensor, grid: NDArray[np.float32], basis: NDArray[np.float32]) -> Examples:
    """Keep what training needs of a batch of views: small pictures, pooled features, principal components of the cells."""
    small = functional.avg_pool2d(large.float(), MOBILENETV2_SIDE // COMPACT_SIDE).round().permute(0, 2, 3, 1).to(torch.uint8)
    return {"pictures": small.numpy(), "pooled": grid.mean(axis=(1, 2)).astype(np.float16), "grid": (grid @ basis).astype(np.float16)}


def _limited(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(wave, -1.0, 1.0).astype(np.float32)


def _second(
    material: Material, sounds: list[Item], ambients: list[Item], rng: np.random.Generator, index: int
) -> tuple[NDArray[np.float32], int]:
    """Mix one second, RMS near 1, and give its label."""
    if not sounds:
        quiet = rng.random()
        gain = 0.0 if quiet < 0.03 else 10 ** (rng.uniform(-40, 0) / 20) if quiet < 0.3 else 1.0  # noqa: PLR2004
        return second_of_ambience(material, ambients, rng) * np.float32(gain), index
    wave, share = second_of_sound(material, sounds[int(rng.integers(len(sounds)))], rng)
    snr_db = rng.uniform(-5, 30)
    if rng.random() < 0.85:  # noqa: PLR2004
        wave = wave + second_of_ambience(material, ambients, rng) * np.float32(10 ** (-snr_db / 20))
    label = index if share >= 0.25 else -1  # noqa: PLR2004
    return (wave / max(rms(wave), 1e-3)).astype(np.float32), label
