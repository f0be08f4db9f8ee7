"""A tiny model, and images drawn by Pillow with odd ones among them."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from PIL import Image

from darkroom import schemas
from expectations.knowledge import learn_normal
from tasks.bundle import SealedContents, choose_goldens
from tasks.inference import Engine, load_engine
from tasks.preprocessing import Preprocessing, prepare
from tasks.presets import preset

CLASSES = ("bolt", "nut", "10 mm", "2 mm")  # not in alphabetical order: a bundle keeps the order it is given
SIZE = (40, 56)
ROOT = Path(__file__).resolve().parents[1]


def drawn(seed: int, size: tuple[int, int] = (90, 60)) -> Image.Image:
    """A photo-like picture, (width, height), the same for the same seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def _turned(seed: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(drawn(seed), exif=exif)


def _half_transparent(seed: int) -> Image.Image:
    image = drawn(seed).convert("RGBA")
    image.putalpha(drawn(seed + 100).convert("L"))
    return image


ODD = {
    "png": lambda: encoded(drawn(101), "PNG"),
    "grey": lambda: encoded(drawn(102).convert("L")),
    "alpha": lambda: encoded(_half_transparent(103), "PNG"),
    "palette": lambda: encoded(drawn(104).quantize(32), "PNG"),
    "turned": lambda: _turned(105),
    "tall": lambda: encoded(drawn(106, (40, 130))),
    "wide": lambda: encoded(drawn(107, (150, 40))),
    "square": lambda: encoded(drawn(108, (64, 64))),
    "small": lambda: encoded(drawn(109, (23, 17))),
    "large": lambda: encoded(drawn(110, (400, 300))),
}


def draw_images(folder: Path, ordinary: int = 60) -> list[Path]:
    """Ordinary JPEGs and every odd one."""
    images = {f"photo {i:02d}.jpg": encoded(drawn(i), quality=90) for i in range(ordinary)}
    images |= {
        f"{name}.{'png' if name in ('png', 'alpha', 'palette') else 'jpg'}": make() for name, make in ODD.items()
    }
    for name, data in images.items():
        (folder / name).write_bytes(data)
    return sorted(folder.iterdir())


def tiny_preprocessing() -> Preprocessing:
    """Pillow's bilinear squash, 0 … 1."""
    return preset("load_img", size=SIZE, interpolation="bilinear").with_knobs(rescale=1 / 255)


def tiny_model(path: Path, *, seed: int = 5) -> Path:
    """Weights from a seed, large enough for decided answers."""
    import keras

    def weights(n: int) -> keras.initializers.Initializer:
        return keras.initializers.RandomNormal(stddev=0.5, seed=seed + n)

    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu", kernel_initializer=weights(0)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(8, name="embedding", kernel_initializer=weights(1)),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(len(CLASSES), activation="softmax", kernel_initializer=weights(2)),
        ]
    )
    model.save(path)
    return path


def profile_of(paths: list[Path], preprocessing: Preprocessing, engine: Engine) -> tuple[pd.DataFrame, np.ndarray]:
    """The profile and the embeddings; properties that matter here are real, the others are drawn."""
    prepared = [prepare(path.read_bytes(), preprocessing) for path in paths]
    outputs = engine.run(np.stack([one.tensor for one in prepared]))
    rng = np.random.default_rng(0)
    rows = []
    for i, (path, one) in enumerate(zip(paths, prepared, strict=True)):
        header = one.header
        rows.append(
            {name: float(rng.random()) for name in schemas.NUMERIC_PROPERTIES}
            | {
                "path": path.name,
                "content_id": hashlib.sha256(path.read_bytes()).hexdigest(),
                "split": "validation" if i % 5 == 0 else "train",
                "group": path.name,
                "label": CLASSES[i % len(CLASSES)],
                "predicted_class": CLASSES[int(outputs.probabilities[i].argmax())],
                "probabilities": outputs.probabilities[i],
                "width": float(header.width),
                "height": float(header.height),
                "aspect_ratio": header.width / header.height,
                "bit_depth": float(header.bit_depth),
                "luminance_mean": float(one.pixels.mean()),
                "format": header.format,
                "mode": header.mode,
                "channels": str(header.channels),
                "exif_orientation": str(header.exif_orientation),
                "icc_class": "none",
                "animated": "no",
                "camera": None,
                "captured_at": None,
            }
        )
    return pd.DataFrame(rows)[schemas.PROFILE.names], outputs.embedding.astype(np.float16)


# Beside what every bundle has: three that are opened and judge nothing.
OTHER_FILES: Final = {"suite.json": b'{"suite": 1}', "drift.json": b"{}", "card.md": b"# A card\n"}


def sealed_contents(model: Path, photos: Path, preprocessing: Preprocessing) -> SealedContents:
    """What a training of the tiny model, which is saved at `model`, on these photos would hand to the seal; of what is
    normal it knows nothing.
    """
    tiny_model(model)
    profile, embeddings = profile_of(sorted(photos.iterdir()), preprocessing, load_engine(model, "embedding"))
    return SealedContents(
        model_path=model,
        preprocessing=preprocessing,
        classes=CLASSES,
        embedding_layer="embedding",
        profile=profile,
        embeddings=embeddings,
        goldens=choose_goldens(profile, photos),
        metrics={"accuracy": np.float32(0.5), "per class": {"bolt": float("nan")}},
    )


def knowing(contents: SealedContents) -> SealedContents:
    """With what is normal, learned from the profile: a bundle that scores nights."""
    known = learn_normal(contents.profile, contents.embeddings, contents.classes, refused=1, seed=0)
    return replace(contents, files=known.to_files())


def in_new_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Python code in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
