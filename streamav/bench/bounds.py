"""Compares measured rows with the bounds that docs/performance.md promises.

It measures nothing and prints nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamav.errors import EngineError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_bounds"]


def check_bounds(rows: Sequence[dict[str, Any]]) -> None:
    """Compare rows with the bounds of docs/performance.md; only rows of the engine cpu have bounds.

    Raises:
        EngineError: when a value is beyond its bound.
        SettingsError: when none of the rows has a bound.
    """
    cpu = [row for row in rows if row["engine"] == "cpu"]
    bounds = [
        ("starter, one segment of one stream in float32, ms", 60.0, _least(cpu, "second_ms", profile="starter", batch=1, precision="fp32")),
        (
            "paper in int8, real-time factor of the networks",
            0.8,
            _least(cpu, "realtime_factor", profile="paper", batch=1, precision="int8"),
        ),
    ]
    for profile in dict.fromkeys(row["profile"] for row in cpu):
        window = f"localize_window of {profile}"
        bounds.append((f"{window}, one stream, ms", 2.0, _least(cpu, "window_ms", profile=profile, batch=1)))
        bounds.append((f"{window}, 16 streams, ms a stream", 0.5, _least(cpu, "window_ms", profile=profile, batch=16, share=16)))
    checked = [(what, most, got) for what, most, got in bounds if got is not None]
    if not checked:
        msg = "--check needs rows that have a bound (docs/performance.md), got none; measure a cpu engine with a batch of 1 or 16"
        raise SettingsError(msg)
    beyond = [f"{what}: at most {most}, got {got:.3g}" for what, most, got in checked if got > most]
    if beyond:
        raise EngineError("\n".join(beyond))


def _least(rows: list[dict[str, Any]], key: str, share: int = 1, **wanted: object) -> float | None:
    """Return the least value of *key* over the rows with the *wanted* values, divided by *share* streams; None without such rows."""
    found = [float(row[key]) / share for row in rows if all(row[name] == value for name, value in wanted.items())]
    return min(found, default=None)
