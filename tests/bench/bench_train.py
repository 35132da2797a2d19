"""Times a fully supervised training step of VSCG on features of AVE's shape and the loading of batches, and measures its accuracy.

Run by `make bench-train`. All steps are measured in turns in one process, so that other load on the machine affects each equally. CPU
seconds (user and system, all threads) are reported beside wall seconds, since they are more reliable on a shared machine.

    make bench-train                        # a file of 256 clips
    make bench-train ARGS="--full --json"   # a file of AVE's 4143 clips, 4.2 GB in the temporary folder, removed at the end
    make bench-train ARGS="--accuracy"      # trains both ways from several seeds
    make bench-train ARGS="--device cuda"   # on a GPU, with the features in its memory
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import torch
from rigs.ave_folder import CLASSES, make_clips
from torch.utils.flop_counter import FlopCounterMode

from streamav.evaluation.segments import score_segments
from streamav.memory import peak_memory_mb
from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG
from streamav.training.data.feature_set import Batch, FeatureRows, FeatureSet
from streamav.training.data.hdf5 import open_rows
from streamav.training.data.prefetch import prefetched
from streamav.training.data.windows import ClipBatches
from streamav.training.fit.device_rows import DeviceRows
from streamav.training.fit.fast_attention import fast_attention
from streamav.training.fit.losses import LossOptions, loss
from streamav.training.fit.selection import answers
from streamav.training.fit.targets import TargetMaker
from streamav.training.fit.trainer import Recipe, fit
from streamav.training.options import TrainOptions
from streamav.training.precision import MixedStep, Precision, resolved

CLIPS = 4143
"""Shape of AVE's feature file. Source: the shape of the published visual_feature.h5."""


def write_features(path: Path, clips: int) -> None:
    """Write *clips* rows of AVE's shape; half of the numbers are zero, as after a ReLU, and 64 different rows are repeated."""
    block = np.maximum(np.random.default_rng(0).standard_normal((64, 10, 7, 7, 512), dtype=np.float32), 0)
    with h5py.File(path, "w") as file:
        rows = file.create_dataset("avadataset", (clips, *block.shape[1:]), "float32")
        for start in range(0, clips, len(block)):
            rows[start : start + len(block)] = block[: min(len(block), clips - start)]


def features(visual: FeatureRows) -> FeatureSet:
    """Write labels and sound features beside *visual*."""
    random = np.random.default_rng(1)
    clips = visual.shape[0]
    labels = random.integers(0, CLASSES + 1, (clips, 10))
    tags = np.eye(CLASSES + 1, dtype=np.float32)[labels[:, 0]]
    audio = np.maximum(random.standard_normal((clips, 10, 128), dtype=np.float32), 0)
    return FeatureSet(audio=audio, visual=visual, labels=labels, tags=tags, rows=np.arange(clips))


def stepper(precision: Precision, device: torch.device, *, share: float = 1.0, eager: bool = False) -> Callable[[Batch], float]:
    """Return a function that runs one training step; *eager* uses the plain layers in float32."""
    torch.manual_seed(0)
    network = VSCG(VSCGOptions.corrected()).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=not eager)
    targets, options, parameters = TargetMaker(CLASSES), LossOptions(), list(network.parameters())
    mixed = MixedStep(precision, device)
    kept: dict[str, torch.Tensor] = {}

    def step(batch: Batch) -> float:
        with nullcontext() if eager else fast_attention(network, share, kept, mixed.attention_type):
            optimizer.zero_grad(set_to_none=True)
            total = loss(mixed.forward(network, batch.audio, batch.visual), targets(batch.labels), options).total
            mixed.backward(total, optimizer, parameters, 0.0)
        return float(total.detach())  # on a GPU this waits for the step

    return step


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the wall and CPU seconds of *work*."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used


def medians(measured: list[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = zip(*measured, strict=True)
    return {"median_s": round(statistics.median(wall), 3), "best_s": round(min(wall), 3), "cpu_s": round(statistics.median(cpu), 3)}


def peak_memory() -> float:
    """Return the largest memory of this process so far, GB; file pages that the system caches do not count."""
    return round(peak_memory_mb() / 1e3, 2)


def gigaflops(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the best speed of a product of 2048 x 2048 matrices, in GFLOP/s."""
    size = 2048
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    best = min(timed(lambda: float(torch.mm(matrix, matrix)[0, 0]))[0] for _ in range(6))
    return 2 * size**3 / best / 1e9


def floor(batch: Batch, precision: Precision, device: torch.device) -> dict[str, float]:
    """Count the operations of a step's products, and return how long they take at the measured peak; recurrent layers are not counted."""
    plain = stepper("float32", device, eager=True)
    with FlopCounterMode(display=False) as counter:
        plain(batch)
    whole = counter.get_total_flops() / 1e9
    segments, cells, narrow, wide = batch.labels.numel(), 49, 49, 512
    # The wide layer has the forward product and the gradient of the weights; the narrow one also has the gradient of the keys.
    large = 2 * segments * cells * wide * (2 * wide + 3 * narrow) / 1e9
    slow, fast = (gigaflops(getattr(torch, kind), device) for kind in ("float32", precision))
    return {
        "gflop": round(whole, 1),
        "gflop_of_attention": round(large, 1),
        "float32_gflop_per_s": round(slow),
        f"{precision}_gflop_per_s": round(fast),
        "float32_floor_s": round(whole / slow, 3),
        f"{precision}_floor_s": round(large / fast + (whole - large) / slow, 3),
    }


def steps_of(arguments: argparse.Namespace, batch: Batch, precision: Precision, device: torch.device) -> list[dict[str, object]]:
    """Time every kind of step in turns."""
    kinds = {"eager float32": stepper("float32", device, eager=True), f"auto ({precision})": stepper(precision, device)}
    if device.type == "cpu":
        kinds["fast float32"] = stepper("float32", device)
        kinds["fast float32, gradient_share=0.25"] = stepper("float32", device, share=0.25)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for turn in range(arguments.steps + 1):
        for name, step in kinds.items():
            once = timed(partial(step, batch))
            if turn:  # the first warms up
                measured[name].append(once)
    rows: list[dict[str, object]] = []
    plain = medians(measured["eager float32"])
    for name, values in measured.items():
        row = medians(values)
        ratios = {f"{kind}_of_eager": round(row[key] / plain[key], 3) for kind, key in (("wall", "median_s"), ("cpu", "cpu_s"))}
        rows.append({"step": name, **row, **ratios})
    return rows


def timing(arguments: argparse.Namespace) -> dict[str, object]:
    """Measure loading, the step with and without loading, memory, and the steps against one another."""
    device = torch.device(arguments.device)
    precision = resolved(arguments.precision, device)
    clips = CLIPS if arguments.full else arguments.clips
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "visual_feature.h5"
        write_features(path, clips)
        rows: FeatureRows = open_rows(path)
        data = features(rows if device.type == "cpu" else DeviceRows(rows, device))
        found: dict[str, object] = {"clips": clips, "batch": arguments.batch, "threads": torch.get_num_threads(), "precision": precision}
        batches = ClipBatches(train=data, options=TrainOptions(batch=arguments.batch))
        load = [timed(partial(next, batches(epoch))) for epoch in range(1, arguments.steps + 2)][1:]
        found["loading"] = medians(load)
        step = stepper(precision, device)
        batch = next(batches(1)).to(device)
        step(batch)
        found["step_alone"] = medians([timed(lambda: step(batch)) for _ in range(arguments.steps)])
        found["step_with_loading"] = medians(list(_along(step, data, arguments, device)))
        found["peak_memory_gb"] = peak_memory()  # before eager steps make it theirs
        if device.type == "cuda":
            found["peak_gpu_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        found["floor"] = floor(batch, precision, device)
        found["steps"] = steps_of(arguments, batch, precision, device)
    return found


def _along(
    step: Callable[[Batch], float], data: FeatureSet, arguments: argparse.Namespace, device: torch.device
) -> Iterator[tuple[float, float]]:
    """Run steps while the next batch is read, as training does, and return the time of each."""
    first = ClipBatches(train=data, options=TrainOptions(batch=arguments.batch))

    def whole_batches() -> Iterator[Batch]:
        for epoch in range(1, arguments.steps + 2):
            yield next(first(epoch))

    batches = iter(prefetched(whole_batches()))
    step(next(batches).to(device))
    for _ in range(arguments.steps):
        yield timed(lambda: step(next(batches).to(device)))


def accuracy(arguments: argparse.Namespace) -> dict[str, object]:
    """Train the same network from the same seeds in eager float32 and in the fast way, and return the accuracies in percent."""
    kinds: dict[str, dict[str, object]] = {"eager float32": {"precision": "float32"}, "fast": {"precision": arguments.precision}}
    device = torch.device(arguments.device)
    rows = {
        name: [_trained(seed, values, arguments, eager=name != "fast") for seed in range(arguments.seeds)] for name, values in kinds.items()
    }
    told: dict[str, object] = {
        "clips": arguments.clips,
        "noise": arguments.noise,
        "epochs": arguments.epochs,
        "precision": resolved(arguments.precision, device),
    }
    for name, seeds in rows.items():
        for split, values in zip(("validation", "test"), zip(*seeds, strict=True), strict=True):
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            told[f"{name}, {split}"] = {
                "mean": round(statistics.mean(values), 2),
                "sd": round(spread, 2),
                "each": [round(value, 2) for value in values],
            }
    return told


def _trained(seed: int, values: dict[str, object], arguments: argparse.Namespace, *, eager: bool) -> tuple[float, float]:
    """Train once, and return validation and test accuracy in percent, with the weights of the best validation accuracy."""
    made = make_clips(arguments.clips, seed, classes=8)
    random = np.random.default_rng([seed, 1])
    for array in (made.audio, made.visual):  # without noise every answer is right after some epochs, which compares nothing
        np.add(array, arguments.noise * np.maximum(random.standard_normal(array.shape, dtype=np.float32), 0), out=array)
    tags = np.eye(CLASSES + 1, dtype=np.float32)[made.labels.min(axis=1)]
    train, val, test = (
        FeatureSet(audio=made.audio, visual=made.visual, labels=made.labels, tags=tags, rows=rows)
        for rows in (made.train, made.val, made.test)
    )
    options = TrainOptions.from_dict(
        {"epochs": arguments.epochs, "batch": 32, "select_every": 2, "seed": seed, "prefetch": False, **values}
    )
    torch.manual_seed(seed)
    network = VSCG(VSCGOptions.corrected()).to(arguments.device)
    plain = mock.patch("streamav.training.fit.trainer.fast_attention", side_effect=lambda *_, **__: nullcontext())
    with plain if eager else nullcontext():
        result = fit(network, train, val, Recipe(classes=CLASSES, options=options))
    said = answers(network, test.batches(32), options.decision, options.threshold)
    return 100.0 * result.best_score, 100.0 * score_segments(said.truth, said.decided, CLASSES).accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5, help="measured steps of each kind")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    parser.add_argument("--clips", type=int, default=256, help="rows of the feature file, or clips to train on with --accuracy")
    parser.add_argument("--full", action="store_true", help=f"use a feature file of {CLIPS} rows")
    parser.add_argument("--accuracy", action="store_true", help="train both ways and compare the accuracies, instead of timing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation of the noise that --accuracy adds to its features")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = accuracy(arguments) if arguments.accuracy else timing(arguments)
    if arguments.json:
        print(json.dumps(found, indent=1))  # noqa: T201 - its one result
        return
    for name, value in found.items():
        for line in value if isinstance(value, list) else [value]:
            print(f"{name}: {line}")  # noqa: T201 - its one result


if __name__ == "__main__":
    main()
