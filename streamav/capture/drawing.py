"""Draws the things that make sound in the rendered scene, each in many styles and at any moment of its movement.

It handles neither sound nor scene. All drawings are our own, made of plain shapes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streamav.capture.canvas import Canvas, Colour
from streamav.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["draw", "drawn_kinds"]

_DARK: Colour = (30, 30, 35)
_GLASS: Colour = (140, 185, 215)


def draw(kind: str, rng: np.random.Generator, size: int = 112, time_s: float = 0.0) -> NDArray[np.uint8]:
    """Draw one thing of a kind on a transparent background.

    Args:
        kind: one of `streamav.capture.scene.KINDS`.
        rng: chooses the style (proportions, colours, pace). Equal generators give the same style, so an
            animation passes a fresh generator with the same seed and a new time for every picture.
        size: side of the picture in pixels, at least 8.
        time_s: moment of the movement in seconds, at least 0.

    Returns:
        Shape (size, size, 4) uint8: RGB and alpha, range 0 to 255.

    Raises:
        SettingsError: when there is no such kind.
    """
    if kind not in _PAINTERS:
        msg = f"a kind of the scene must be one of {', '.join(sorted(_PAINTERS))}, got {kind!r}"
        raise SettingsError(msg)
    canvas = Canvas(size)
    _PAINTERS[kind](canvas, rng, time_s)
    pixels = canvas.pixels()
    return pixels[:, ::-1].copy() if rng.random() < 0.5 else pixels  # noqa: PLR2004 - half of them face left


def drawn_kinds() -> tuple[str, ...]:
    """Return the kinds that can be drawn, in alphabetical order."""
    return tuple(sorted(_PAINTERS))


def _colour(rng: np.random.Generator, low: int = 30, high: int = 225) -> Colour:
    red, green, blue = rng.uniform(low, high, 3)
    return float(red), float(green), float(blue)


def _shade(colour: Colour, factor: float) -> Colour:
    return min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0)


def _wheel(canvas: Canvas, x: float, y: float, radius: float, rim: Colour) -> None:
    canvas.ellipse(x, y, radius, radius, _DARK)
    canvas.ellipse(x, y, radius * 0.5, radius * 0.5, rim)


def _siren(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    """Paint a police van whose two blue lamps flash in turn."""
    body = _colour(rng, 190, 255)
    stripe = (float(rng.uniform(0, 70)), float(rng.uniform(40, 110)), float(rng.uniform(150, 230)))
    roof, rate_hz = float(rng.uniform(0.28, 0.38)), float(rng.uniform(1.5, 4.0))
    canvas.box(0.06, roof, 0.80, 0.74, body, rounding=0.05)
    canvas.polygon([(0.74, roof + 0.02), (0.84, roof + 0.04), (0.95, 0.55), (0.95, 0.74), (0.70, 0.74)], body)
    canvas.box(0.06, 0.56, 0.95, 0.64, stripe)
    for left in (0.11, 0.31, 0.51):
        canvas.box(left, roof + 0.05, left + 0.16, 0.51, _GLASS, rounding=0.015)
    canvas.polygon([(0.74, roof + 0.05), (0.83, roof + 0.06), (0.91, 0.52), (0.74, 0.52)], _GLASS)
    for x in (0.24, 0.76):
        _wheel(canvas, x, 0.75, 0.09, _shade(body, 0.75))
    first_lit = (time_s * rate_hz) % 1.0 < 0.5  # noqa: PLR2004
    canvas.box(0.28, roof - 0.03, 0.60, roof, _DARK)
    for x, lit in ((0.35, first_lit), (0.53, not first_lit)):
        if lit:
            canvas.ellipse(x, roof - 0.07, 0.17, 0.15, (60, 110, 255), 0.45)
        canvas.box(x - 0.07, roof - 0.11, x + 0.07, roof - 0.02, (90, 160, 255) if lit else (20, 30, 120), rounding=0.03)


def _clock(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    """Paint a dial with twelve marks and three hands; the third one steps with the seconds."""
    case, face, ink = _colour(rng), _colour(rng, 215, 255), _colour(rng, 0, 70)
    radius = float(rng.uniform(0.38, 0.46))
    if rng.random() < 0.4:  # noqa: PLR2004 - some clocks stand in a square case
        canvas.box(0.5 - radius, 0.5 - radius, 0.5 + radius, 0.5 + radius, case, rounding=0.05)
    else:
        canvas.ellipse(0.5, 0.5, radius, radius, case)
    dial = radius * float(rng.uniform(0.80, 0.92))
    canvas.ellipse(0.5, 0.5, dial, dial, face)

    def hand(turn: float, inner: float, outer: float, width: float, colour: Colour) -> None:
        dx, dy = math.sin(2 * math.pi * turn) * dial, -math.cos(2 * math.pi * turn) * dial
        canvas.line((0.5 + dx * inner, 0.5 + dy * inner), (0.5 + dx * outer, 0.5 + dy * outer), width, colour)

    for mark in range(12):
        hand(mark / 12, 0.80 if mark % 3 else 0.72, 0.92, 0.018 if mark % 3 else 0.03, ink)
    start = float(rng.uniform(0.0, 43_200.0))
    shown = start + time_s
    hand(shown / 43_200, -0.08, 0.50, 0.045, ink)
    hand(shown / 3_600, -0.08, 0.74, 0.032, ink)
    hand(math.floor(shown * 4) / 240, -0.15, 0.82, 0.014, (200, 30, 30))
    canvas.ellipse(0.5, 0.5, 0.03, 0.03, ink)


def _bird(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    """Paint a small bird on a branch; its wing beats and its beak opens."""
    plumage, breast, beak = _colour(rng), _colour(rng, 150, 245), (240.0, float(rng.uniform(120, 190)), 40.0)
    rate_hz, bob = float(rng.uniform(2.0, 5.0)), 0.012 * math.sin(2 * math.pi * 1.3 * time_s)
    open_beak = 0.035 * max(0.0, math.sin(2 * math.pi * rate_hz * time_s))
    canvas.line((0.0, 0.86), (1.0, 0.80 + float(rng.uniform(-0.05, 0.05))), 0.05, (95, 65, 40))
    for x in (0.46, 0.54):
        canvas.line((x, 0.70), (x, 0.83), 0.016, (120, 80, 40))
    y = 0.55 + bob
    canvas.polygon([(0.08, y - 0.02), (0.34, y - 0.06), (0.34, y + 0.10), (0.10, y + 0.06)], _shade(plumage, 0.75))
    canvas.ellipse(0.46, y, 0.23, 0.18, plumage)
    canvas.ellipse(0.52, y + 0.06, 0.15, 0.11, breast)
    canvas.ellipse(0.68, y - 0.19, 0.13, 0.13, plumage)
    canvas.polygon([(0.79, y - 0.25 - open_beak), (0.95, y - 0.20 - open_beak), (0.79, y - 0.19)], beak)
    canvas.polygon([(0.79, y - 0.20), (0.93, y - 0.17 + open_beak), (0.79, y - 0.14 + open_beak)], _shade(beak, 0.85))
    canvas.ellipse(0.71, y - 0.22, 0.028, 0.028, (250, 250, 250))
    canvas.ellipse(0.715, y - 0.22, 0.018, 0.018, (10, 10, 10))
    lift = 0.10 * math.sin(2 * math.pi * rate_hz * time_s)
    canvas.polygon([(0.30, y - 0.04 - lift), (0.56, y - 0.07), (0.52, y + 0.06), (0.36, y + 0.05)], _shade(plumage, 0.6))


def _train(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    """Paint a locomotive with a coach on rails; its wheels turn and smoke or sparks rise."""
    body, trim = _colour(rng, 30, 200), _colour(rng, 120, 255)
    pace = float(rng.uniform(0.5, 1.5))
    canvas.box(0.0, 0.86, 1.0, 0.885, (120, 110, 105))
    for sleeper in range(9):
        canvas.box(sleeper * 0.125, 0.885, sleeper * 0.125 + 0.06, 0.93, (85, 65, 50))
    canvas.box(0.0, 0.42, 0.33, 0.78, _shade(body, 1.25), rounding=0.02)
    for left in (0.04, 0.18):
        canvas.box(left, 0.48, left + 0.10, 0.60, _GLASS, rounding=0.01)
    canvas.box(0.37, 0.34, 0.60, 0.78, body, rounding=0.02)
    canvas.box(0.42, 0.40, 0.55, 0.53, _GLASS, rounding=0.01)
    canvas.box(0.56, 0.50, 0.93, 0.78, body, rounding=0.06)
    canvas.box(0.35, 0.70, 0.96, 0.75, trim)
    canvas.box(0.78, 0.34, 0.86, 0.52, _DARK)
    canvas.polygon([(0.93, 0.70), (0.99, 0.82), (0.90, 0.82)], _DARK)
    canvas.ellipse(0.93, 0.57, 0.035, 0.035, (255, 245, 170))
    for puff in range(3):
        age = (time_s * pace + puff / 3) % 1.0
        canvas.ellipse(0.80 - 0.35 * age, 0.30 - 0.18 * age, 0.05 + 0.08 * age, 0.05 + 0.05 * age, (225, 225, 228), 0.8 * (1 - age))
    for x, radius in ((0.08, 0.055), (0.25, 0.055), (0.46, 0.08), (0.64, 0.08), (0.83, 0.065)):
        _wheel(canvas, x, 0.86 - radius, radius, trim)
        turn = 2 * math.pi * time_s * pace
        dx, dy = math.cos(turn) * radius * 0.8, math.sin(turn) * radius * 0.8
        canvas.line((x - dx, 0.86 - radius - dy), (x + dx, 0.86 - radius + dy), 0.014, _shade(trim, 0.6))


def _helicopter(canvas: Canvas, rng: np.random.Generator, time_s: float) -> None:
    """Paint a helicopter whose two rotors turn."""
    body, belt = _colour(rng, 40, 230), _colour(rng)
    rate_hz, y = float(rng.uniform(1.5, 4.0)), 0.55 + 0.015 * math.sin(2 * math.pi * 0.7 * time_s)
    canvas.polygon([(0.04, y - 0.06), (0.42, y - 0.10), (0.42, y + 0.06), (0.04, y - 0.01)], body)
    canvas.polygon([(0.02, y - 0.20), (0.07, y - 0.20), (0.13, y - 0.03), (0.04, y - 0.01)], _shade(body, 0.8))
    canvas.ellipse(0.60, y, 0.27, 0.17, body)
    canvas.ellipse(0.72, y - 0.03, 0.13, 0.11, _GLASS)
    canvas.box(0.36, y + 0.03, 0.80, y + 0.07, belt)
    for x in (0.48, 0.70):
        canvas.line((x, y + 0.14), (x, y + 0.24), 0.018, _DARK)
    canvas.line((0.34, y + 0.25), (0.88, y + 0.25), 0.022, _DARK)
    canvas.line((0.58, y - 0.15), (0.58, y - 0.25), 0.03, _DARK)
    turn = 2 * math.pi * rate_hz * time_s
    reach = 0.12 + 0.29 * abs(math.cos(turn))
    canvas.ellipse(0.58, y - 0.25, 0.41, 0.025, (150, 150, 155), 0.35)
    canvas.line((0.58 - reach, y - 0.25), (0.58 + reach, y - 0.25), 0.022, _DARK)
    dx, dy = 0.10 * math.cos(2.3 * turn), 0.10 * math.sin(2.3 * turn)
    canvas.line((0.06 - dx * 0.5, y - 0.14 - dy), (0.06 + dx * 0.5, y - 0.14 + dy), 0.018, _DARK)


_PAINTERS: dict[str, Callable[[Canvas, np.random.Generator, float], None]] = {
    "bird": _bird,
    "clock": _clock,
    "helicopter": _helicopter,
    "siren": _siren,
    "train": _train,
}
