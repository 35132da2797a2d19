"""`make fuzz`: fuzzes what comes from outside, guided by coverage (atheris). An input that breaks something is kept among the seeds.

    python -m tests.bench.fuzz [--seconds 60] [TARGET ...]

Each target runs in a process of its own, for the same time. Exit status: 0 nothing broke, 1 something did. atheris is no dependency of the
project: where it is missing, the command that installs it is printed, and the exit status is 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_LONGEST: Final = 20_000
"""Largest input, bytes."""
_SLOW_S: Final = 10
"""An input that takes longer is a fault as well."""


def main() -> int:
    """Run the targets that the arguments name, or all."""
    parser = argparse.ArgumentParser(description="Fuzz what comes from outside.")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is missing: pip install atheris")
        return 2
    if given.here is not None:
        _fuzz(given.here, given.seconds)
    from rigs.fuzz_targets import TARGETS

    broken = [name for name in given.targets or TARGETS if _run(name, given.seconds)]
    print(f"broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


def _run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; return whether something broke."""
    command = [sys.executable, "-m", "tests.bench.fuzz", "--here", name, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    told = [line for line in lines if line.startswith(("Done", "stat::", "==", "Uncaught")) or "exec/s" in line]
    print(f"{name}: {'broken' if done.returncode else 'nothing broke'}; {told[-1] if told else lines[-1] if lines else ''}", flush=True)
    if done.returncode:
        print("\n".join(lines[-40:]))
    return done.returncode != 0


def _fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["streamav"]):
        from rigs.fuzz_targets import SEEDS, TARGETS
    grown = tempfile.mkdtemp(prefix="streamav-fuzz-")  # what it finds interesting; the stored seeds stay few
    options = [f"-max_total_time={seconds}", f"-max_len={_LONGEST}", f"-timeout={_SLOW_S}", f"-artifact_prefix={SEEDS / name}/found-"]
    atheris.Setup([sys.argv[0], *options, grown, str(Path(SEEDS / name))], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
