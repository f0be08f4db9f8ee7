"""How a photo comes about: what lies on the belt, and the belt, lamp, lens and sensor of a capture session."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from darkroom.demo_world.parts import Part, make_part, smooth_noise

Photo = NDArray[np.float32]  # (H, W, 3), linear RGB, 0..1


@dataclass(frozen=True)
class Camera:
    """A device: its name in EXIF, its frame, and how it encodes."""

    name: str
    width: int
    height: int
    quality: int
    orientation: int = 1
    vignette: float = 0.22
    part_radius: float = 0.30  # share of the frame's height


LINE_CAMERAS = (Camera("LineCam 320", 320, 240, 90), Camera("LineCam 360W", 360, 240, 92, vignette=0.28))
# Stored lying on its side, as phones do: a viewer that reads EXIF shows it upright.
PHONE = Camera("Pocket 8", 960, 720, 82, orientation=6, vignette=0.12, part_radius=0.26)


@dataclass(frozen=True)
class Conditions:
    """What is the same for a whole session: drawn once for it."""

    camera: Camera
    exposure: float
    warmth: float  # above 0 the lamp is redder
    lamp_angle: float  # radians
    falloff: float  # how much darker the far side is, share
    blur: float  # standard deviation of the lens, in pixels of a frame 240 high
    noise: float  # standard deviation of the sensor, grey levels at half brightness
    belt: tuple[float, float, float]
    belt_pitch: int  # pixels between two ribs


def line_conditions(camera: Camera, rng: Generator) -> Conditions:
    """An ordinary session at the line: all training sessions and every good night are drawn from here."""
    hue = rng.uniform(-1, 1)
    belt_tone = rng.uniform(0.085, 0.135)
    return Conditions(
        camera=camera,
        exposure=rng.uniform(0.88, 1.12),
        warmth=rng.uniform(-0.05, 0.05),
        lamp_angle=rng.uniform(0, 2 * np.pi),
        falloff=rng.uniform(0.15, 0.40),
        blur=rng.uniform(0.45, 0.85),
        noise=rng.uniform(2.5, 4.5),
        belt=(belt_tone * (1 - 0.12 * hue), belt_tone * (1.06 + 0.06 * abs(hue)), belt_tone * (1.05 + 0.18 * hue)),
        belt_pitch=int(rng.integers(5, 9)),
    )


def dim_conditions(camera: Camera, rng: Generator) -> Conditions:
    """The lamp is failing and the lens is soft: less light, more gain and so more noise, less detail."""
    usual = line_conditions(camera, rng)
    return Conditions(
        camera=camera,
        exposure=usual.exposure * rng.uniform(0.42, 0.58),
        warmth=usual.warmth + 0.06,
        lamp_angle=usual.lamp_angle,
        falloff=min(0.75, usual.falloff + 0.25),
        blur=rng.uniform(3.0, 4.2),
        noise=usual.noise * 1.5,
        belt=usual.belt,
        belt_pitch=usual.belt_pitch,
    )


def phone_conditions(rng: Generator) -> Conditions:
    """Somebody's phone, held over a wooden bench."""
    wood = rng.uniform(0.22, 0.32)
    return Conditions(
        camera=PHONE,
        exposure=rng.uniform(0.95, 1.2),
        warmth=rng.uniform(0.04, 0.12),
        lamp_angle=rng.uniform(0, 2 * np.pi),
        falloff=rng.uniform(0.1, 0.3),
        blur=rng.uniform(0.2, 0.4),
        noise=rng.uniform(1.5, 3.0),
        belt=(wood * 1.25, wood * 0.9, wood * 0.55),
        belt_pitch=0,
    )


class Session:
    """A station for one session: what every photo of it shares is computed once."""

    def __init__(self, conditions: Conditions, rng: Generator) -> None:
        self.conditions = conditions
        camera = conditions.camera
        self._height, self._width = camera.height, camera.width
        self._scale = camera.height / 240
        self._towards_lamp = (float(np.cos(conditions.lamp_angle)), float(np.sin(conditions.lamp_angle)))
        self._belt = self._weave(rng)
        self._light = self._lamp()

    def _weave(self, rng: Generator) -> Photo:
        """The belt, half as long again as the frame: it moves between two photos."""
        height, width = self._height, self._width * 3 // 2
        pitch = self.conditions.belt_pitch
        if pitch:
            y, x = np.mgrid[0:height, 0:width].astype(np.float32)
            ribs = np.sin(2 * np.pi * (x + y) / pitch) * np.sin(2 * np.pi * (x - y) / pitch)
            stains = smooth_noise((height, width), 32, rng)
            tone = 1 + 0.16 * ribs + 0.13 * stains + 0.08 * smooth_noise((height, width), 2, rng)
            tone[:, int(rng.integers(width)) :][:, :3] *= 0.7  # the seam
        else:  # wood: grain stretched along x
            grain = smooth_noise((height, max(width // 16, 1)), 6, rng)
            stretched = Image.fromarray(np.ascontiguousarray(grain)).resize((width, height), Image.Resampling.BICUBIC)
            tone = 1 + 0.30 * np.asarray(stretched) + 0.05 * smooth_noise((height, width), 3, rng)
        return np.asarray(np.maximum(tone, 0.2)[..., None] * np.array(self.conditions.belt, np.float32), np.float32)

    def _lamp(self) -> Photo:
        """Light on the belt: a lamp to one side, a lens that is darker in its corners."""
        c = self.conditions
        y = np.linspace(-1, 1, self._height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, self._width, dtype=np.float32)[None, :]
        side = 1 + c.falloff * 0.5 * (x * self._towards_lamp[0] + y * self._towards_lamp[1])
        field = side * (1 - c.camera.vignette * (x * x + y * y)) * c.exposure
        return np.asarray(field[..., None] * np.array((1 + c.warmth, 1, 1 - c.warmth), np.float32), np.float32)

    def photograph(self, kind: str, rng: Generator) -> NDArray[np.uint8]:
        """One photo, uint8 RGB of shape (H, W, 3), of a part of this kind."""
        start = int(rng.integers(self._belt.shape[1] - self._width))
        scene = self._belt[:, start : start + self._width].copy()
        radius = self.conditions.camera.part_radius * self._height * rng.uniform(0.80, 1.15)
        part = make_part(kind, radius, self._towards_lamp, rng)
        x = self._width / 2 + rng.normal(0, 0.07) * self._width
        y = self._height / 2 + rng.normal(0, 0.06) * self._height
        self._lay(scene, part, x, y, radius)
        if rng.random() < 0.16:
            self._cover(scene, x, y, radius, rng)
        scene *= self._light
        scene *= np.float32(rng.uniform(0.93, 1.07))
        return self._expose(scene, rng)

    def _lay(self, scene: Photo, part: Part, x: float, y: float, radius: float) -> None:
        """Put the part on the belt, its shadow first."""
        soft = Image.fromarray((part.cover * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(radius / 14))
        shadow = np.asarray(soft, np.float32) / np.float32(255)
        reach = radius * 0.13
        left, top = x - shadow.shape[1] / 2, y - shadow.shape[0] / 2
        for plane, colour, dx, dy in (
            (shadow * 0.62, None, -self._towards_lamp[0] * reach, -self._towards_lamp[1] * reach),
            (part.cover, part.colour, 0.0, 0.0),
        ):
            inner, outer = _overlap(scene.shape, plane.shape, round(left + dx), round(top + dy))
            cover = plane[outer][..., None]
            scene[inner] *= 1 - cover
            if colour is not None:
                scene[inner] += cover * colour[outer]

    def _cover(self, scene: Photo, x: float, y: float, radius: float, rng: Generator) -> None:
        """Something lies over the part: a paper label, a cable or an oily rag."""
        thickness = radius * (rng.uniform(0.9, 1.5) if rng.random() < 0.2 else rng.uniform(0.15, 0.5))
        angle = rng.uniform(0, np.pi)
        x, y = x + rng.normal(0, 0.5) * radius, y + rng.normal(0, 0.5) * radius
        dx, dy = np.cos(angle) * radius * 2.2, np.sin(angle) * radius * 2.2
        mask = Image.new("L", (self._width, self._height))
        ImageDraw.Draw(mask).line((x - dx, y - dy, x + dx, y + dy), fill=255, width=max(2, round(thickness)))
        cover = np.asarray(mask) > 0
        tint = rng.choice(np.array([(0.62, 0.60, 0.52), (0.05, 0.05, 0.06), (0.30, 0.16, 0.10)], np.float32))
        texture = 1 + 0.12 * smooth_noise((self._height, self._width), 5, rng)[cover]
        scene[cover] = texture[:, None] * tint

    def _expose(self, scene: Photo, rng: Generator) -> NDArray[np.uint8]:
        """Lens, display gamma, sensor noise, 8 bits."""
        np.clip(scene, 0, 1, out=scene)
        np.sqrt(scene, out=scene)  # gamma 2: close to sRGB, and cheap
        scene *= 255
        picture = Image.fromarray(scene.astype(np.uint8))
        blur = self.conditions.blur * self._scale * rng.uniform(0.85, 1.15)
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
        # One draw a pixel is shared by the channels, as after demosaicing; the rest is each channel's own.
        noise = _own_noise(scene.shape, rng)
        noise += rng.standard_normal((self._height, self._width, 1), dtype=np.float32) * np.float32(0.8)
        noise *= np.float32(self.conditions.noise)
        noise += np.asarray(picture)
        noise += 0.5
        return np.clip(noise, 0, 255, out=noise).astype(np.uint8)


def _own_noise(shape: tuple[int, ...], rng: Generator) -> NDArray[np.float32]:
    """Noise of each channel: bytes are much cheaper than normal numbers, and their sum of two is near enough."""
    size = int(np.prod(shape))
    pair = np.frombuffer(rng.bytes(2 * size), np.int8).reshape(2, *shape)
    noise: NDArray[np.float32] = np.add(pair[0], pair[1], dtype=np.float32)
    noise *= np.float32(0.6 / 104.5)
    return noise


def _overlap(
    frame: tuple[int, ...], patch: tuple[int, ...], left: int, top: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The slices of frame and patch that meet when the patch's corner is at (left, top)."""
    rows = max(0, top), max(0, min(frame[0], top + patch[0]))
    columns = max(0, left), max(0, min(frame[1], left + patch[1]))
    inner = slice(rows[0], rows[1]), slice(columns[0], columns[1])
    outer = slice(rows[0] - top, rows[1] - top), slice(columns[0] - left, columns[1] - left)
    return inner, outer
