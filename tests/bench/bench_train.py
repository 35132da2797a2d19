"""Times one fully supervised training step of VSCG on features of AVE's shape: plain eager float32 against the fast step.

Run by `make bench-train`. Both are measured in turns in one process, so that what else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from streamav.networks.options import VSCGOptions
from streamav.networks.vscg import VSCG
from streamav.training.fast_attention import fast_attention
from streamav.training.losses import LossOptions, loss
from streamav.training.targets import TargetMaker

if TYPE_CHECKING:
    from collections.abc import Callable


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(size, 10, 128, generator=generator).relu_()
    visual = torch.randn(size, 10, 7, 7, 512, generator=generator).relu_()
    return audio, visual, torch.randint(0, 29, (size, 10), generator=generator)


def stepper(size: int, share: float | None) -> Callable[[], float]:
    """Give a function that takes one step; *share* None for plain eager."""
    torch.manual_seed(0)
    network = VSCG(VSCGOptions.corrected()).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    audio, visual, labels = batch(size)
    targets, options = TargetMaker(28), LossOptions()

    kept: dict[str, torch.Tensor] = {}

    def step() -> float:
        with fast_attention(network, share, kept) if share is not None else nullcontext():
            optimizer.zero_grad(set_to_none=True)
            total = loss(network(audio, visual), targets(labels), options).total
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return float(total.detach())

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kinds: dict[str, float | None] = {"eager": None, "exact": 1.0, "quarter": 0.25}
    steps = {name: stepper(arguments.batch, share) for name, share in kinds.items()}
    wall: dict[str, list[float]] = {name: [] for name in kinds}
    cpu: dict[str, list[float]] = {name: [] for name in kinds}
    for step in steps.values():
        step()
    for _ in range(arguments.steps):
        for name, step in steps.items():
            began, used = time.perf_counter(), time.process_time()
            step()
            wall[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - used)
    rows = [
        {
            "step": name,
            "median_s": round(statistics.median(wall[name]), 3),
            "best_s": round(min(wall[name]), 3),
            "cpu_s": round(statistics.median(cpu[name]), 3),
            "of_eager": round(statistics.median(wall[name]) / statistics.median(wall["eager"]), 3),
            "cpu_of_eager": round(statistics.median(cpu[name]) / statistics.median(cpu["eager"]), 3),
        }
        for name in kinds
    ]
    text = json.dumps({"batch": arguments.batch, "threads": arguments.threads, "rows": rows}, indent=1)
    print(text if arguments.json else "\n".join(str(row) for row in rows))  # noqa: T201 - its one result


if __name__ == "__main__":
    main()
