"""Knows what bundle.json says, and how its id follows from what it says."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Final = 1
MANIFEST: Final = "bundle.json"
MODEL: Final = "model.keras"
GRAPH: Final = "model.pb"  # instead of MODEL, where Keras 3 cannot hold an adopted model: a frozen graph
PREPROCESSING: Final = "preprocessing.json"
PROFILE: Final = "profile.parquet"
EMBEDDINGS: Final = "embeddings.npy"
GOLDENS: Final = "goldens"
GOLDENS_RECORD: Final = "goldens/goldens.parquet"


class BundleManifest(BaseModel):
    """bundle.json: what the bundle is, and the digest of every other file in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    id: str = Field(description="<name>-<version>-<12 hex>: the hex is of a digest of everything else here.")
    name: str
    version: int = Field(ge=1)
    classes: tuple[str, ...] = Field(min_length=2, description="In the order of the model's outputs.")
    classes_digest: str = Field(description="So that a changed class order can be told from any other change.")
    created_at: datetime
    embedding_layer: str
    embedding_size: int = Field(ge=1)
    input_shape: tuple[int, int, int] = Field(description="Height, width, channels.")
    preprocessing_digest: str
    engine: str = Field(description="The engine that recorded the goldens.")
    machine: str = Field(description="The machine type that recorded the goldens.")
    libraries: dict[str, str] = Field(description="Their versions when the goldens were recorded.")
    digests: dict[str, str] = Field(description="Path in the bundle → sha256, for every file but this one.")
    metrics: dict[str, Any] = Field(default_factory=dict, description="What the training measured.")


def model_file(names: Iterable[str]) -> str:
    """Which of a bundle's files is the model."""
    return GRAPH if GRAPH in set(names) else MODEL


def bundle_id(statements: Mapping[str, Any]) -> str:
    """The id that follows from the statements of bundle.json; an `id` among them is left out of the digest."""
    canonical = canonical_json({key: value for key, value in statements.items() if key != "id"})
    return f"{statements.get('name')}-{statements.get('version')}-{hashlib.sha256(canonical).hexdigest()[:12]}"


def classes_digest(classes: Sequence[Any]) -> str:
    """sha256, hex, of the classes in their order."""
    return hashlib.sha256(canonical_json(list(classes))).hexdigest()


def canonical_json(value: Any) -> bytes:
    """One spelling of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def file_digest(path: Path) -> str:
    """sha256, hex, of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """Metrics as JSON can say them: NumPy's numbers as Python's, and null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
