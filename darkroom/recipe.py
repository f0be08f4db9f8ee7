"""The parts of a training recipe: which backbone, how photos change while it learns, the head, the second phase."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from darkroom.forms import Form

# Those of keras.applications, and one that is small enough to learn from nothing. A test holds them to Keras.
Backbone = Literal[
    "SmallConvNet",
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtXLarge",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "NASNetLarge",
    "NASNetMobile",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "VGG19",
    "Xception",
]


class AugmentationOptions(Form):
    """Random changes while training, never at validation or scoring. All zero: none."""

    rotation: float = Field(
        default=10.0, ge=0, le=180, title="Rotation", description="At most so many degrees, either way."
    )
    width_shift: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        title="Shift left and right",
        description="At most this share of the width, either way.",
    )
    height_shift: float = Field(
        default=0.05, ge=0, lt=1, title="Shift up and down", description="At most this share of the height, either way."
    )
    shear: float = Field(default=5.0, ge=0, le=45, title="Shear", description="At most so many degrees.")
    zoom: float = Field(default=0.1, ge=0, lt=1, title="Zoom", description="0.1: between 0.9 and 1.1.")
    horizontal_flip: bool = Field(default=True, title="Mirror left and right", description="Half of the images.")
    vertical_flip: bool = Field(
        default=False, title="Mirror top and bottom", description="Half of the images, where up and down mean nothing."
    )
    brightness: float = Field(
        default=0.1, ge=0, lt=1, title="Brightness", description="0.1: between 0.9 and 1.1 times as bright."
    )
    fill_mode: Literal["nearest", "reflect", "wrap", "constant"] = Field(
        default="nearest", title="Fill the border", description="What fills the border that a shift uncovers."
    )
    degraded_share: float = Field(
        default=1 / 3,
        ge=0,
        le=1,
        title="Share with a worse camera",
        description="Share of the images that a worse camera takes: the five below. 0: none.",
    )
    exposure: float = Field(
        default=1.5,
        ge=0,
        le=5,
        title="Worse camera: exposure",
        description="At most so many stops darker, half as many brighter.",
    )
    contrast: float = Field(
        default=2.0, ge=0, le=5, title="Worse camera: contrast", description="At most so many stops flatter."
    )
    colour: float = Field(
        default=0.4,
        ge=0,
        le=2,
        title="Worse camera: colour",
        description="Each channel by at most so many stops; from grey to twice the colour.",
    )
    blur: float = Field(
        default=3.0,
        ge=0,
        le=10,
        title="Worse camera: blur",
        description="At most this standard deviation, in pixels of 224.",
    )
    noise: float = Field(
        default=0.2,
        ge=0,
        le=1,
        title="Worse camera: noise",
        description="At most this standard deviation, as a share of white.",
    )

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


class HeadOptions(Form):
    """The layers on top of the backbone, and how they learn."""

    dense_units: int = Field(
        default=256, ge=0, le=8192, title="Dense units", description="Width of the dense layer; 0: none."
    )
    l2: float = Field(default=1e-3, ge=0, title="L2", description="On the dense layer's weights.")
    dropout: float = Field(
        default=0.3, ge=0, lt=1, title="Dropout", description="Share of the units, before the softmax."
    )
    learning_rate: float = Field(default=1e-3, gt=0, title="Learning rate", description="Adam's.")
    batch_size: int = Field(default=32, ge=1, le=4096, title="Batch size", description="Images a step of learning.")
    epochs: int = Field(
        default=100, ge=1, le=1000, title="Epochs", description="At most; early stopping usually ends sooner."
    )
    patience: int = Field(
        default=12,
        ge=1,
        le=1000,
        title="Patience",
        description="Epochs without a better validation loss before stopping.",
    )
    class_weights: bool = Field(default=True, title="Weigh classes", description="Rare ones count more.")


class FineTuneOptions(Form):
    """The optional second phase, for a backbone that comes with weights."""

    layers: int = Field(
        default=0, ge=0, title="Layers", description="Top layers of the backbone to unfreeze; 0: no second phase."
    )
    learning_rate: float = Field(default=1e-5, gt=0, title="Learning rate", description="Adam's, in the second phase.")
    epochs: int = Field(default=10, ge=1, le=1000, title="Epochs", description="At most.")
