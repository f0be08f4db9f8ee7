"""The parameters of the flows: validated models, and at the same time the forms of the Prefect UI."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator

from darkroom.forms import Form, TimeZone
from darkroom.recipe import AugmentationOptions, Backbone, FineTuneOptions, HeadOptions

__all__ = [
    "LADDER_IMAGES",
    "AugmentationOptions",
    "ExaminationOptions",
    "FineTuneOptions",
    "HeadOptions",
    "IntakeOptions",
    "NightOptions",
    "RunOptions",
    "TrainingRecipe",
]

# On the corruption ladder, of a training and of an adopted model: what the estimate of accuracy was measured with.
LADDER_IMAGES: Final = 200


class NightOptions(Form):
    """Which night a run is for."""

    night: date | None = Field(
        default=None, title="Night", description="The night to score. Empty: the scheduled date plus the offset."
    )
    night_offset_days: int = Field(
        default=-1,
        ge=-31,
        le=31,
        title="Offset in days",
        description="Days from the scheduled local date to the night: a run at 02:00 is for yesterday (-1).",
    )
    timezone: TimeZone = Field(
        default="UTC", title="Time zone", description="Of the scheduled date, such as Europe/Berlin."
    )


class IntakeOptions(Form):
    """What is taken from the inbox."""

    rehash: bool = Field(
        default=False,
        title="Read every file again",
        description="Also where size and time did not change.",
    )
    settle_seconds: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        title="Seconds until a file counts as complete",
        description="Younger files are looked at twice; what grew waits a night.",
    )
    expect_at_least: int | None = Field(
        default=None,
        ge=0,
        title="Fewest images expected",
        description="Fewer than this is an alarm. Empty: learned from past nights.",
    )
    quarantine_copies: bool = Field(
        default=True,
        title="Copy what is quarantined",
        description="Keep a copy of each quarantined file in the results.",
    )


# Keras is the reference; another engine is used where it is proved to answer as Keras does. auto: the fastest of these.
EngineName = Literal["auto", "keras", "openvino"]


# threads: this process. processes: several of this machine. dask: the workers of a Dask cluster.
RunnerName = Literal["threads", "processes", "dask"]


class RunOptions(Form):
    """How the work is cut, and what is shown."""

    shard_size: int = Field(
        default=4000, ge=1, le=100_000, title="Images a shard", description="The unit of work and of retry."
    )
    processes: int | None = Field(
        default=None,
        ge=1,
        le=256,
        title="Decoding processes",
        description="So many open image files at the same time, in each worker. Empty: one a core.",
    )
    runner: RunnerName = Field(
        default="threads",
        title="Runner",
        description="Where shards are looked at. threads: in the process of the run. processes: in several on this "
        "machine. dask: on the workers of a Dask cluster.",
    )
    workers: int = Field(
        default=2,
        ge=1,
        le=256,
        title="Workers",
        description="So many processes for the runner processes, and for a Dask cluster of the run's own; each loads "
        "the model, and computes with its share of the cores.",
    )
    dask_address: str = Field(
        default="",
        pattern=r"^(((tcp|tls)://)?[^/@\s]+:\d+)?$",
        title="Dask scheduler",
        description="Its address, such as tcp://10.0.0.5:8786, for the runner dask. Empty: a cluster on this machine "
        "that ends with the run.",
    )
    engine: EngineName = Field(
        default="auto",
        title="Engine",
        description="What computes the network. auto: OpenVINO where it is installed, and proved to answer as Keras "
        "does (darkroom verify --engine openvino); else Keras.",
    )
    on_alarm: Literal["commit", "hold", "fail"] = Field(
        default="commit",
        title="Upon an alarm",
        description="commit: write the rows and say alarm. hold: keep them until darkroom release. "
        "fail: write the rows, and the run in the UI ends as failed, in the state Alarm.",
    )
    false_alarm_nights: int = Field(
        default=365,
        ge=7,
        le=36_500,
        title="Nights for one false alarm",
        description="At most one false alarm in so many unchanged nights, of everything that compares with training.",
    )
    suites: Path | None = Field(
        default=None,
        title="Your own suites",
        description="Folder with Great Expectations suites (JSON) that are run as well, such as suites. Empty: none.",
    )
    thumbnails: bool = Field(
        default=True, title="Small pictures", description="Show small pictures in pages and artifacts."
    )
    metrics: str = Field(
        default="",
        title="Metrics for Prometheus",
        description="Folder or .prom file of a Prometheus text-file collector, or the address of a Pushgateway, "
        "without a password. Empty: none.",
    )

    @property
    def scheduler(self) -> str:
        """The address of the Dask scheduler, with its protocol; empty: none is named."""
        stated = self.dask_address
        return stated if not stated or "://" in stated else f"tcp://{stated}"

    @field_validator("metrics")
    @classmethod
    def _without_password(cls, value: str) -> str:
        if value.lower().startswith(("http://", "https://")) and "@" in value.split("/")[2]:
            raise ValueError("an address without user and password: parameters are kept with the results")
        return value


class QuarantineFilter(Form):
    """Which of the files in quarantine; all of these together."""

    night: date | None = Field(
        default=None, title="Night", description="Refused on this night, and not since. Empty: any night."
    )
    bundle: str = Field(
        default="",
        title="Bundle",
        description="Id or name of the bundle that they were refused for. Empty: any.",
    )
    inbox: str = Field(default="", title="Inbox", description="Folder in which they were found. Empty: any.")
    only: tuple[str, ...] = Field(
        default=(),
        title="Only these",
        description="Content ids (their first 8 characters will do) or paths. Empty: all.",
    )


class TrainingRecipe(Form):
    """How the model is made from the photos."""

    backbone: Backbone = Field(
        default="MobileNetV2",
        title="Backbone",
        description="A network of keras.applications; SmallConvNet is a small one that starts from nothing.",
    )
    backbone_arguments: dict[str, float] = Field(
        default_factory=dict, title="Arguments of the backbone", description='As JSON, such as {"alpha": 0.35}.'
    )
    weights: str = Field(
        default="imagenet",
        title="Weights",
        description="imagenet, none, or the path of a .keras or .weights.h5 file that holds the backbone.",
    )
    image_size: int = Field(
        default=224,
        ge=32,
        le=2048,
        title="Image size",
        description="Side of the square that the model sees, in pixels.",
    )
    preprocessing: Path | None = Field(
        default=None,
        title="Preprocessing",
        description="A preprocessing.json of your own, such as models/parts/1/preprocessing.json. Empty: the default.",
    )
    validation_share: float = Field(
        default=0.2, gt=0, lt=0.9, title="Validation share", description="Share of the images held out."
    )
    group_by: Literal["image", "sub-folder", "column"] = Field(
        default="image",
        title="Keep together",
        description="What must not straddle the split: each image alone, sub-folders, or a column of groups.",
    )
    groups: Path | None = Field(
        default=None,
        title="File of groups",
        description="CSV with the columns path and group, such as groups.csv; for the choice column. Empty: none.",
    )
    augmentation: AugmentationOptions = Field(
        default_factory=AugmentationOptions, title="Augmentation", description="Random changes while training only."
    )
    head: HeadOptions = Field(
        default_factory=HeadOptions, title="Head", description="The layers on top of the backbone, and how they learn."
    )
    fine_tune: FineTuneOptions = Field(
        default_factory=FineTuneOptions,
        title="Fine-tuning",
        description="A second phase, for a backbone that comes with weights.",
    )
    seed: int = Field(
        default=0, ge=0, title="Seed", description="Of the split, the initial weights and the augmentation."
    )

    @property
    def fine_tunes(self) -> bool:
        """Whether there is a second phase; a backbone without weights learns in the first."""
        return self.weights != "none" and self.fine_tune.layers > 0


class ExaminationOptions(Form):
    """What is measured of a training beside its accuracy; the card shows it."""

    ladder_images: int = Field(
        default=LADDER_IMAGES,
        ge=0,
        title="Images for the corruption ladder",
        description="Held-out images that go through the corruption ladder. 0: none.",
    )
    sensitivity_images: int = Field(
        default=50,
        ge=0,
        title="Images prepared wrongly",
        description="Held-out images that are prepared wrongly in every known way. 0: none.",
    )
    remedy_seeds: int = Field(
        default=0,
        ge=0,
        le=100,
        title="Seeds a remedy",
        description="Seeds over which each remedy against overfitting is tried, on and off. 0: not at all.",
    )
    learning_curve: bool = Field(
        default=False,
        title="Learning curve",
        description="Train on 25 and 50 % of the data too: would more of it still help?",
    )
    thumbnails: bool = Field(
        default=True,
        title="Small pictures",
        description="Keep small pictures of the photos in the bundle, to show those that are nearest to an image.",
    )
