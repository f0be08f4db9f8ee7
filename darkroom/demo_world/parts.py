"""How a metal part looks: its outline, its surface, its wear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float32]  # (n, 2), in units of the part's radius, y downwards
Plane = NDArray[np.float32]  # (H, W)

# Outlines are drawn this much larger and then averaged down: smooth edges without a blur.
SUPERSAMPLING = 3
# Linear RGB of clean metal, 0..1. Any class may be made of any of them: colour must not give the class away.
_METALS = ((0.70, 0.71, 0.73), (0.62, 0.64, 0.67), (0.76, 0.66, 0.44), (0.66, 0.60, 0.54), (0.74, 0.74, 0.71))
_RUST = np.array((0.42, 0.23, 0.12), np.float32)


@dataclass(frozen=True)
class Outline:
    """A plate with holes. `turned` parts were made on a lathe and shine in two opposite sectors."""

    plate: Points
    holes: tuple[Points, ...]
    turned: bool
    thread: tuple[Points, ...] = ()  # lines or rings that are darker: a screw's thread
    rim: tuple[Points, ...] = ()  # closed lines that catch light: a nut's chamfer


@dataclass(frozen=True)
class Part:
    """A lit part on nothing: `cover` is 0..1 of shape (s, s), `colour` is linear RGB of shape (s, s, 3)."""

    cover: Plane
    colour: NDArray[np.float32]


def _polar(radii: NDArray[np.float64], angles: NDArray[np.float64]) -> Points:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1).astype(np.float32)


def _circle(radius: float, centre: tuple[float, float] = (0.0, 0.0), n: int = 64) -> Points:
    angles = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return _polar(np.full(n, radius), angles) + np.array(centre, np.float32)


def _washer(rng: Generator, _worn: bool) -> Outline:
    outer = rng.uniform(0.84, 0.98)
    hole = outer * rng.uniform(0.56, 0.72)
    return Outline(_circle(outer), (_circle(hole),), turned=True)


def _hex_nut(rng: Generator, worn: bool) -> Outline:
    # A hexagon whose corners are cut by a circle; a spanner that slips rounds them off.
    corner = rng.uniform(0.90, 0.93) if worn else rng.uniform(0.95, 1.0)
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    flat = np.cos(np.pi / 6) / np.cos((angles % (np.pi / 3)) - np.pi / 6)
    hole = rng.uniform(0.38, 0.48)
    return Outline(
        _polar(np.minimum(flat, corner), angles),
        (_circle(hole),),
        turned=bool(rng.random() < 0.4),
        thread=(_circle(hole + 0.03),),
        rim=() if worn else (_circle(0.84),),
    )


def _gear(rng: Generator, worn: bool) -> Outline:
    teeth = int(rng.integers(11, 19))
    depth = rng.uniform(0.06, 0.10) if worn else rng.uniform(0.15, 0.23)
    step = 2 * np.pi / teeth
    corners = np.array([0.0, 0.30, 0.42, 0.80]) * step  # root, root, tip, tip: a trapezoid a tooth
    angles = (np.arange(teeth)[:, None] * step + corners[None, :]).ravel()
    radii = np.tile([1 - depth, 1 - depth, 1.0, 1.0], teeth)
    holes = [_circle(rng.uniform(0.22, 0.50))]
    if rng.random() < 0.3:  # lightened
        holes += [_circle(0.11, (0.55 * np.cos(a), 0.55 * np.sin(a)), 20) for a in np.arange(5) * 2 * np.pi / 5]
        holes[0] = _circle(0.25)
    return Outline(_polar(radii, angles), tuple(holes), turned=True)


def _bracket(rng: Generator, _worn: bool) -> Outline:
    width = rng.uniform(0.52, 0.70)
    right, down = rng.uniform(0.75, 0.95), rng.uniform(0.55, 0.95)
    left, top = -0.80, -0.75
    plate = [(left, top), (right, top), (right, top + width), (left + width, top + width), (left + width, down)]
    plate += [(left, down)]
    hole = rng.uniform(0.11, 0.17)
    centres = ((right - width / 2, top + width / 2), (left + width / 2, down - width / 2))
    fold = np.array([(left + width, top + width), (left, top)], np.float32)
    return Outline(
        np.array(plate, np.float32), tuple(_circle(hole, c, 24) for c in centres), turned=False, thread=(fold,)
    )


def _bolt(rng: Generator, _worn: bool) -> Outline:
    half, end = rng.uniform(0.17, 0.24), rng.uniform(1.05, 1.30)
    plate = [(-0.95, -0.42), (-0.55, -0.42), (-0.55, -half), (end, -half), (end, half), (-0.55, half), (-0.55, 0.42)]
    plate += [(-0.95, 0.42)]
    thread = [
        np.array([(x, -half), (x + 0.05, half)], np.float32) for x in np.arange(-0.15, end, rng.uniform(0.07, 0.1))
    ]
    return Outline(np.array(plate, np.float32), (), turned=False, thread=tuple(thread))


_OUTLINES = {"bracket": _bracket, "gear": _gear, "hex_nut": _hex_nut, "washer": _washer, "bolt": _bolt}


def make_part(kind: str, radius: float, light: tuple[float, float], rng: Generator) -> Part:
    """A part of the given kind, turned and tilted at random, lit from `light`.

    Args:
        kind: bracket, gear, hex_nut, washer, or bolt (which no training folder has).
        radius: in pixels of the photo.
        light: unit vector, in the picture's plane, towards the lamp.
        rng: the only source of chance.

    """
    worn = bool(rng.random() < 0.08)
    outline = _OUTLINES[kind](rng, worn)
    side = int(2.7 * radius) + 8
    angle = rng.uniform(0, 2 * np.pi)
    pose = _pose(angle, tilt=rng.uniform(0.88, 1.0), tilt_towards=rng.uniform(0, np.pi)) * radius

    def place(points: Points) -> list[tuple[float, float]]:
        placed = (points @ pose.T + side / 2) * SUPERSAMPLING
        return [(float(x), float(y)) for x, y in placed]

    large = Image.new("L", (side * SUPERSAMPLING,) * 2)
    pen = ImageDraw.Draw(large)
    pen.polygon(place(outline.plate), fill=255)
    for hole in outline.holes:
        pen.polygon(place(hole), fill=0)
    cover = np.asarray(large.reduce(SUPERSAMPLING), np.float32) / np.float32(255)

    relief = Image.new("L", (side, side), 128)
    pen = ImageDraw.Draw(relief)
    stroke = max(1, round(radius / 40))
    for line in outline.thread:
        pen.line([(x / SUPERSAMPLING, y / SUPERSAMPLING) for x, y in place(line)], fill=70, width=stroke)
    for line in outline.rim:
        pen.line([(x / SUPERSAMPLING, y / SUPERSAMPLING) for x, y in place(line)], fill=165, width=stroke)
    for _ in range(int(rng.integers(0, 4))):  # scratches
        ends = rng.uniform(0.1, 0.9, 4) * side
        pen.line([float(v) for v in ends], fill=int(rng.integers(95, 160)), width=1)
    return Part(cover, _surface(outline, cover, relief, angle, light, radius, rng))


def _pose(angle: float, tilt: float, tilt_towards: float) -> NDArray[np.float32]:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lean = np.array([[np.cos(tilt_towards), -np.sin(tilt_towards)], [np.sin(tilt_towards), np.cos(tilt_towards)]])
    return np.asarray(lean @ np.diag([1.0, tilt]) @ lean.T @ turn, np.float32)


def smooth_noise(shape: tuple[int, int], cell: int, rng: Generator) -> Plane:
    """Noise of mean 0 and standard deviation about 0.5 whose grains are about `cell` pixels wide."""
    small = rng.standard_normal((shape[0] // cell + 3, shape[1] // cell + 3), dtype=np.float32)
    image = Image.fromarray(small).resize((small.shape[1] * cell, small.shape[0] * cell), Image.Resampling.BILINEAR)
    return np.asarray(image)[cell : cell + shape[0], cell : cell + shape[1]]


def _surface(
    outline: Outline,
    cover: Plane,
    relief: Image.Image,
    angle: float,
    light: tuple[float, float],
    radius: float,
    rng: Generator,
) -> NDArray[np.float32]:
    side = int(cover.shape[0])
    axis = np.arange(side, dtype=np.float32) - np.float32(side / 2)
    x, y = axis[None, :], axis[:, None]
    if outline.turned:
        # Two bright sectors across the lamp, two dark ones along it, and rings left by the tool.
        along = (x * light[0] + y * light[1]) ** 2 / (x * x + y * y + 4)
        grain = rng.standard_normal(side, dtype=np.float32)[np.hypot(x, y).astype(np.int32)]
        tone = 0.80 + 0.34 * along + 0.035 * grain
    else:
        # Brushed along one direction: one random number a line across it.
        across = (x * np.sin(angle) + y * np.cos(angle)).astype(np.int32)
        grain = rng.standard_normal(3 * side, dtype=np.float32)[across]
        tone = 0.92 + 0.06 * grain + (x * light[0] + y * light[1]) * np.float32(0.14 / radius)
    # The rim: where the cover rises towards the lamp it is bright, on the other side dark.
    soft = np.asarray(Image.fromarray((cover * 255).astype(np.uint8)).reduce(2).resize((side, side)), np.float32) / 255
    slope_y, slope_x = np.asarray(np.gradient(soft), np.float32)
    tone = tone - 1.3 * (slope_x * light[0] + slope_y * light[1])
    tone *= np.asarray(relief, np.float32) / 128
    metal = np.array(_METALS[int(rng.integers(len(_METALS)))], np.float32) * np.float32(rng.uniform(0.82, 1.12))
    colour = np.maximum(tone, 0.05)[..., None] * metal
    if rng.random() < 0.15:
        rust = np.clip(smooth_noise((side, side), max(4, int(radius / 6)), rng) * 1.2 - 0.1, 0, 0.85)[..., None]
        colour = colour * (1 - rust) + _RUST * tone[..., None] * rust
    return np.asarray(colour, np.float32)
