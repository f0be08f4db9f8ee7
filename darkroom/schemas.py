"""The columns of the results, versioned. What a reader may rely on is here and in docs/results.md."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

RESULTS_SCHEMA_VERSION: Final = 1
EMBEDDING_COMPONENTS: Final = 32

# Image properties: measured on every image, at training and at scoring, by tasks.properties.
NUMERIC_PROPERTIES: Final[tuple[str, ...]] = (
    "width",
    "height",
    "aspect_ratio",
    "bit_depth",
    "bytes_per_pixel",
    "jpeg_quality",
    "luminance_mean",
    "luminance_std",
    "luminance_p01",
    "luminance_p99",
    "clipped_black",
    "clipped_white",
    "contrast",
    "saturation",
    "red_share",
    "green_share",
    "blue_share",
    "entropy",
    "sharpness",
    "edge_density",
    "noise",
    "blockiness",
)
CATEGORICAL_PROPERTIES: Final[tuple[str, ...]] = (
    "format",
    "mode",
    "channels",
    "exif_orientation",
    "icc_class",
    "animated",
)
# Measured beside them, and never tested for drift by themselves: they name slices and sessions.
DESCRIPTIVE_PROPERTIES: Final[tuple[str, ...]] = ("camera", "captured_at")
# An image that is not a JPEG has no JPEG quality: the only property that may be null.
NULLABLE_PROPERTIES: Final = frozenset({"jpeg_quality", *DESCRIPTIVE_PROPERTIES})

PROPERTY_FIELDS: Final[tuple[pa.Field, ...]] = (
    *(pa.field(name, pa.float64()) for name in NUMERIC_PROPERTIES),
    *(pa.field(name, pa.string()) for name in CATEGORICAL_PROPERTIES),
    *(pa.field(name, pa.string()) for name in DESCRIPTIVE_PROPERTIES),
)

_VERSION = {b"darkroom_results_schema": str(RESULTS_SCHEMA_VERSION).encode()}

PREDICTIONS: Final = pa.schema(
    [
        pa.field("content_id", pa.string(), nullable=False),  # sha256 of the file's bytes, hex
        pa.field("path", pa.string(), nullable=False),  # the first path with this content, relative to the inbox
        pa.field("predicted_class", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),  # calibrated probability of the predicted class
        pa.field("margin", pa.float32(), nullable=False),  # first minus second probability, as the model gave them
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),  # in the bundle's class order
        pa.field("embedding", pa.list_(pa.float32()), nullable=False),  # EMBEDDING_COMPONENTS principal components
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("unusual_p", pa.float64()),  # conformal p of the most unusual property; null: too few held-out images
        pa.field("unusual_property", pa.string()),
        pa.field("out_of_distribution_p", pa.float64()),
        *PROPERTY_FIELDS,
        pa.field("scored_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ],
    metadata=_VERSION,
)

FILES: Final = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("content_id", pa.string()),  # null: never read, or not readable
        pa.field("reason", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("inode", pa.int64()),
    ],
    metadata=_VERSION,
)

QUARANTINE: Final = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("content_id", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("retryable", pa.bool_(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("size", pa.int64()),
    ],
    metadata=_VERSION,
)

DRIFT: Final = pa.schema(
    [
        pa.field("family", pa.string(), nullable=False),  # properties, probabilities, predicted_classes, embedding
        pa.field("metric", pa.string(), nullable=False),
        pa.field("slice", pa.string()),  # folder=…, camera=…; null: all images of the night
        pa.field("statistic_name", pa.string(), nullable=False),  # location, spread, share
        pa.field("statistic", pa.float64()),
        pa.field(
            "effect", pa.float64()
        ),  # training standard deviations; spread: its relative change; share: Cramér's V
        pa.field("p_value", pa.float64()),
        pa.field("p_corrected", pa.float64()),  # for every test of the night
        pa.field(
            "p_beyond", pa.float64()
        ),  # p against a shift no larger than the reference's own error, or half the floor
        pa.field("n", pa.int64(), nullable=False),
        pa.field("n_reference", pa.int64(), nullable=False),
        pa.field("reference_value", pa.float64()),
        pa.field("night_value", pa.float64()),
        pa.field("smallest_detectable_effect", pa.float64()),
        pa.field("verdict", pa.string(), nullable=False),  # ok, warn, alarm, too_few
    ],
    metadata=_VERSION,
)

ESTIMATES: Final = pa.schema(
    [
        pa.field("quantity", pa.string(), nullable=False),  # accuracy, class_share, harm
        pa.field("name", pa.string(), nullable=False),  # of the class, of the image property; accuracy: the method
        pa.field("value", pa.float64()),  # null: refused
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("reference", pa.float64()),  # validation accuracy; share of the class in held-out images; 0
        pa.field("backtest_error", pa.float64()),  # accuracy only
        pa.field("shift", pa.float64()),  # harm only: in training standard deviations
        pa.field("n", pa.int64(), nullable=False),
        pa.field("refused", pa.string()),  # why there is no value
    ],
    metadata=_VERSION,
)

# Labels that came after scoring: an append-only record beside the datasets, in no commit.
LABELS: Final = pa.schema(
    [
        pa.field("content_id", pa.string()),  # null: no scored image has this path (yet)
        pa.field("path", pa.string()),
        pa.field("night", pa.date32()),  # as the file of labels states it; null: it does not
        pa.field("label", pa.string(), nullable=False),
        pa.field("labelled_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("stratum", pa.string()),  # of `darkroom suspects`; null: nobody knows how the image was chosen
        pa.field("stratum_rows", pa.int64()),
        pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ],
    metadata=_VERSION,
)

# The profile of a bundle: one row a training or validation image.
PROFILE: Final = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train, validation
        pa.field("group", pa.string(), nullable=False),  # the session; an image of its own where there are none
        pa.field("label", pa.string(), nullable=False),
        pa.field("predicted_class", pa.string(), nullable=False),
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),
        *PROPERTY_FIELDS,
    ],
    metadata=_VERSION,
)

DATASETS: Final = {
    "predictions": PREDICTIONS,
    "files": FILES,
    "quarantine": QUARANTINE,
    "drift": DRIFT,
    "estimates": ESTIMATES,
}


def metric_in_words(family: str, metric: str) -> str:
    """A metric of the drift dataset for a person: `probabilities`, `gear` → `probability of gear`."""
    return {
        "properties": metric.replace("_", " "),
        "probabilities": f"probability of {metric}",
        "predicted_classes": "mix of predicted classes",
        "embedding": f"embedding component {metric.rsplit('_', 1)[-1]}",
        "out_of_distribution": "share of images unlike training",
    }.get(family, f"{family}: {metric}")
