"""The parameters of the flows: validated models, and at the same time the forms of the Prefect UI."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

# On the corruption ladder, of a training and of an adopted model: what the estimate of accuracy was measured with.
LADDER_IMAGES: Final = 200


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NightOptions(_Form):
    """Which night a run is for."""

    night: date | None = Field(
        default=None, description="The night to score. Empty: the scheduled date plus the offset.", title="Night"
    )
    night_offset_days: int = Field(
        default=-1,
        ge=-31,
        le=31,
        description="Days from the scheduled local date: a run at 02:00 is for yesterday (-1).",
    )
    timezone: str = Field(default="UTC", description="Time zone of the scheduled date, such as Europe/Berlin.")


class IntakeOptions(_Form):
    """What is taken from the inbox."""

    rehash: bool = Field(default=False, description="Read every file again, even where size and time did not change.")
    settle_seconds: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="Younger files are looked at twice; what grew waits a night.",
    )
    expect_at_least: int | None = Field(
        default=None, ge=0, description="Fewer images than this is an alarm. Empty: learned from past nights."
    )
    quarantine_copies: bool = Field(default=True, description="Keep a copy of each quarantined file in the results.")


class RunOptions(_Form):
    """How the work is cut, and what is shown."""

    shard_size: int = Field(
        default=2000, ge=1, le=100_000, description="Images a shard: the unit of work and of retry."
    )
    processes: int | None = Field(default=None, ge=1, le=256, description="Decoding processes. Empty: one a core.")
    on_alarm: Literal["commit", "hold", "fail"] = Field(
        default="commit",
        description="commit: write the rows and say alarm. hold: keep them until `darkroom release`. "
        "fail: write the rows, and the run in the UI ends as failed, in the state Alarm.",
    )
    false_alarm_nights: int = Field(
        default=365,
        ge=7,
        le=36_500,
        description="At most one false alarm in so many unchanged nights, of everything that compares with training.",
    )
    suites: Path | None = Field(default=None, description="Folder with your own Great Expectations suites (JSON).")
    thumbnails: bool = Field(default=True, description="Show small pictures in pages and artifacts.")
    metrics: str = Field(
        default="",
        description="Folder or .prom file of a Prometheus text-file collector, or the address of a Pushgateway, "
        "without a password. Empty: none.",
    )

    @field_validator("metrics")
    @classmethod
    def _without_password(cls, value: str) -> str:
        if value.startswith(("http://", "https://")) and "@" in value.split("/")[2]:
            raise ValueError("an address without user and password: parameters are kept with the results")
        return value


class QuarantineFilter(_Form):
    """Which of the files in quarantine; all of these together."""

    night: date | None = Field(default=None, description="Refused on this night, and not since. Empty: any night.")
    bundle: str = Field(default="", description="Id or name of the bundle that they were refused for. Empty: any.")
    inbox: str = Field(default="", description="Folder in which they were found. Empty: any.")
    only: tuple[str, ...] = Field(
        default=(), description="Content ids (their first 8 characters will do) or paths. Empty: all."
    )


class AugmentationOptions(_Form):
    """Random changes while training, never at validation or scoring. All zero: none."""

    rotation: float = Field(default=10.0, ge=0, le=180, description="Degrees, either way.")
    width_shift: float = Field(default=0.05, ge=0, lt=1, description="Share of the width.")
    height_shift: float = Field(default=0.05, ge=0, lt=1, description="Share of the height.")
    shear: float = Field(default=5.0, ge=0, le=45, description="Degrees.")
    zoom: float = Field(default=0.1, ge=0, lt=1, description="0.1: between 0.9 and 1.1.")
    horizontal_flip: bool = Field(default=True, description="Mirror left and right.")
    vertical_flip: bool = Field(default=False, description="Mirror top and bottom.")
    brightness: float = Field(default=0.1, ge=0, lt=1, description="0.1: between 0.9 and 1.1 times as bright.")
    fill_mode: Literal["nearest", "reflect", "wrap", "constant"] = Field(
        default="nearest", description="What fills the border that a shift uncovers."
    )
    degraded_share: float = Field(
        default=1 / 3, ge=0, le=1, description="Share of the images that a worse camera takes: the five below. 0: none."
    )
    exposure: float = Field(default=1.5, ge=0, le=5, description="At most so many stops darker, half as many brighter.")
    contrast: float = Field(default=2.0, ge=0, le=5, description="At most so many stops flatter.")
    colour: float = Field(
        default=0.4, ge=0, le=2, description="Each channel by at most so many stops; from grey to twice the colour."
    )
    blur: float = Field(default=3.0, ge=0, le=10, description="At most this standard deviation, in pixels of 224.")
    noise: float = Field(default=0.2, ge=0, le=1, description="At most this standard deviation, as a share of white.")

    @classmethod
    def none(cls) -> Self:
        """Nothing changes."""
        off = dict.fromkeys(("rotation", "width_shift", "height_shift", "shear", "zoom", "brightness"), 0.0)
        return cls(**off, horizontal_flip=False, degraded_share=0)

    @property
    def active(self) -> bool:
        """Whether anything changes at all."""
        amounts = (self.rotation, self.width_shift, self.height_shift, self.shear, self.zoom, self.brightness)
        return any(amounts) or self.horizontal_flip or self.vertical_flip or self.degrades

    @property
    def degrades(self) -> bool:
        """Whether some images are made worse."""
        amounts = (self.exposure, self.contrast, self.colour, self.blur, self.noise)
        return self.degraded_share > 0 and any(amounts)


class HeadOptions(_Form):
    """The layers on top of the backbone, and how they learn."""

    dense_units: int = Field(default=256, ge=0, le=8192, description="Width of the dense layer; 0: none.")
    l2: float = Field(default=1e-3, ge=0, description="L2 on the dense layer's weights.")
    dropout: float = Field(default=0.3, ge=0, lt=1, description="Dropout before the softmax.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's.")
    batch_size: int = Field(default=32, ge=1, le=4096, description="Images a step.")
    epochs: int = Field(default=100, ge=1, le=1000, description="At most; early stopping usually ends sooner.")
    patience: int = Field(
        default=12, ge=1, le=1000, description="Epochs without a better validation loss before stopping."
    )
    class_weights: bool = Field(default=True, description="Weigh rare classes up.")


class FineTuneOptions(_Form):
    """The optional second phase, for a backbone that comes with weights."""

    layers: int = Field(default=0, ge=0, description="Top layers of the backbone to unfreeze; 0: no second phase.")
    learning_rate: float = Field(default=1e-5, gt=0, description="Adam's, in the second phase.")
    epochs: int = Field(default=10, ge=1, le=1000, description="At most.")


class TrainingRecipe(_Form):
    """How the model is made from the photos."""

    backbone: str = Field(default="MobileNetV2", description="A name of keras.applications, such as EfficientNetB0.")
    backbone_arguments: dict[str, float] = Field(
        default_factory=dict, description="Further arguments of the backbone, such as alpha=0.35."
    )
    weights: str = Field(
        default="imagenet", description="imagenet, none, or the path of a .keras or .weights.h5 file with the backbone."
    )
    image_size: int = Field(
        default=224, ge=32, le=2048, description="Side of the square that the model sees, in pixels."
    )
    preprocessing: Path | None = Field(
        default=None, description="A preprocessing.json of your own. Empty: the default."
    )
    validation_share: float = Field(default=0.2, gt=0, lt=0.9, description="Share of the images held out.")
    group_by: Literal["image", "sub-folder", "column"] = Field(
        default="image",
        description="What must not straddle the split: each image alone, sub-folders, or a column of groups.",
    )
    groups: Path | None = Field(default=None, description="CSV with the columns path and group, for group_by=column.")
    augmentation: AugmentationOptions = Field(default_factory=AugmentationOptions, description="While training only.")
    head: HeadOptions = Field(default_factory=HeadOptions, description="The layers on top.")
    fine_tune: FineTuneOptions = Field(default_factory=FineTuneOptions, description="A second phase, if wanted.")
    seed: int = Field(default=0, ge=0, description="Of the split, the initial weights and the augmentation.")

    @property
    def fine_tunes(self) -> bool:
        """Whether there is a second phase; a backbone without weights learns in the first."""
        return self.weights != "none" and self.fine_tune.layers > 0


class ExaminationOptions(_Form):
    """What is measured of a training beside its accuracy; the card shows it."""

    ladder_images: int = Field(
        default=LADDER_IMAGES, ge=0, description="Held-out images that go through the corruption ladder. 0: none."
    )
    sensitivity_images: int = Field(
        default=50, ge=0, description="Held-out images that are prepared wrongly in every known way. 0: none."
    )
    remedy_seeds: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Seeds over which each remedy against overfitting is tried, on and off. 0: not at all.",
    )
    learning_curve: bool = Field(
        default=False, description="Train on 25 and 50 % of the data too: would more of it still help?"
    )
    thumbnails: bool = Field(
        default=True,
        description="Keep small pictures of the photos in the bundle, to show those that are nearest to an image.",
    )
