"""Reads many damaged media files to segments: `make mutate`. Each damage follows from its seed, so a finding can be repeated.

    python -m tests.bench.mutate --count 1000
    python -m tests.bench.mutate --seed 417        # one of them; the file is kept

It exits with an error when a file ended in a traceback, a crash, a hang, or more than 1 GB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rigs.mutants import Outcome, mutant, read_mutants, write_originals


def main() -> int:
    """Run as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000, help="how many files, seeds 0, 1, 2 ...")
    parser.add_argument("--seed", type=int, help="only this one")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="streamav-mutants-"))
    originals = write_originals(folder / "originals")
    seeds = range(chosen.count) if chosen.seed is None else [chosen.seed]
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for outcome in read_mutants(folder, originals, seeds):
        outcomes.append(outcome)
        if outcome.bad or chosen.seed is not None:
            kept = folder / f"seed-{outcome.seed}-{outcome.name}"
            kept.write_bytes(mutant(originals[outcome.seed % len(originals)].read_bytes(), outcome.seed))
            print(f"seed {outcome.seed} {kept}: {outcome.what} {outcome.segments} segments {outcome.detail[-1500:]}", flush=True)
    counts = Counter(outcome.what for outcome in outcomes)
    print(
        f"{len(outcomes)} files of {len(originals)} formats in {time.monotonic() - began:.0f} s: {dict(counts)}, longest "
        f"{max(outcome.seconds for outcome in outcomes):.1f} s, peak memory {max(outcome.megabytes for outcome in outcomes)} MB"
    )
    return int(any(outcome.bad for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
