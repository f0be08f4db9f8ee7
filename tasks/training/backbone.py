"""The part of the network that others have trained, or that starts from nothing; and the preparation it expects."""

from __future__ import annotations

import inspect
from itertools import count
from pathlib import Path
from typing import Any

from darkroom.errors import TrainingFailed, UnsupportedModel, WrongUse
from darkroom.settings import TrainingRecipe
from tasks.knobs import Preprocessing, Values
from tasks.presets import named_values, preset
from tasks.training.checkpoint import seeds

SMALL = "SmallConvNet"


def preprocessing_for(recipe: TrainingRecipe) -> Preprocessing:
    """The preparation of a recipe: the user's own file, or a Pillow bilinear squash and the backbone's values."""
    if recipe.preprocessing is not None:
        own = Preprocessing.load(recipe.preprocessing)
        if own.input_shape[:2] != (recipe.image_size, recipe.image_size):
            raise WrongUse(
                "The preprocessing makes another size than the recipe asks for.",
                file=recipe.preprocessing,
                expected=f"{recipe.image_size} × {recipe.image_size}",
                found=f"{own.input_shape[0]} × {own.input_shape[1]}",
                todo="set image_size to the size of your preprocessing",
            )
        return own
    size = (recipe.image_size, recipe.image_size)
    return preset("load_img", size=size, interpolation="bilinear", values=_values_of(recipe.backbone))


def build_backbone(recipe: TrainingRecipe) -> Any:
    """A Keras model (h, w, 3) → features (h', w', c), without a top.

    Raises: WrongUse for an unknown argument; UnsupportedModel for a file that is no backbone; TrainingFailed
    where the published weights cannot be had.
    """
    shape = (recipe.image_size, recipe.image_size, 3)
    path = Path(recipe.weights)
    if recipe.backbone == SMALL:
        if recipe.weights not in ("none", "imagenet"):
            raise WrongUse(f"There are no weights for {SMALL}.", expected="none", found=recipe.weights)
        return seeded(_small(shape), recipe.seed, "backbone")
    if recipe.weights not in ("none", "imagenet") and not path.is_file():
        raise WrongUse(
            "There is no such file of weights.", file=path, expected="imagenet, none, or a .keras or .weights.h5"
        )
    if path.suffix == ".keras":
        return _from_file(path, shape)
    maker = _maker(recipe.backbone)
    arguments = _arguments(maker, recipe)
    published = recipe.weights == "imagenet"
    try:
        backbone = maker(include_top=False, weights="imagenet" if published else None, input_shape=shape, **arguments)
    except Exception as error:
        if published and not isinstance(error, ValueError):
            raise TrainingFailed(
                f"The ImageNet weights of {recipe.backbone} cannot be had.",
                found=str(error).splitlines()[0],
                todo="connect this machine once, or give a file: weights=PATH of a .keras or .weights.h5",
            ) from error
        raise WrongUse(f"{recipe.backbone} cannot be built.", found=error) from error
    if not published and recipe.weights != "none":
        try:
            backbone.load_weights(path)
        except (OSError, ValueError) as error:
            raise UnsupportedModel("The weights do not fit the backbone.", file=path, found=error) from error
    return seeded(backbone, recipe.seed, "backbone") if recipe.weights == "none" else backbone


def seeded(model: Any, seed: int, part: str) -> Any:
    """The same network with initial weights from (seed, part) alone.

    Keras draws the seeds of its initializers from Python's global random numbers, which other threads of the process
    (an orchestrator's client, say) draw from at the same time: now and then a training would not be repeatable.
    """
    import keras

    numbers = count()

    def filled(config: Any) -> Any:
        if isinstance(config, dict):
            return {
                key: seeds(seed, f"initial {part}", next(numbers))[0]
                if key == "seed" and value is None
                else filled(value)
                for key, value in config.items()
            }
        return [filled(one) for one in config] if isinstance(config, list) else config

    def cloned(layer: Any) -> Any:
        return type(layer).from_config(filled(layer.get_config()))

    return keras.models.clone_model(model, clone_function=cloned)


def _values_of(backbone: str) -> Values:
    return named_values("tf" if backbone == SMALL else _module_of(backbone))


def _maker(name: str) -> Any:
    import keras

    return getattr(keras.applications, name)


def _module_of(name: str) -> str:
    """`MobileNetV2` → `mobilenet_v2`: the module of keras.applications that says how the backbone is prepared."""
    return str(_maker(name).__module__).rsplit(".", 1)[-1]


def _arguments(maker: Any, recipe: TrainingRecipe) -> dict[str, Any]:
    known = inspect.signature(maker).parameters
    unknown = [name for name in recipe.backbone_arguments if name not in known]
    if unknown:
        raise WrongUse(
            f"{recipe.backbone} has no argument {unknown[0]!r}.", expected=", ".join(known), found=unknown[0]
        )
    return {
        name: int(value) if float(value).is_integer() and isinstance(known[name].default, int) else value
        for name, value in recipe.backbone_arguments.items()
    }


def _from_file(path: Path, shape: tuple[int, int, int]) -> Any:
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError) as error:
        raise UnsupportedModel(
            "The backbone cannot be loaded.", file=path, expected="a .keras model", found=str(error).splitlines()[0]
        ) from error
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 4:
        raise UnsupportedModel(
            "This is no backbone: it must end in a map of features.",
            file=path,
            expected="one image in, (height, width, channels) out: a model saved with include_top=False",
            found=f"outputs of shape {[tuple(output.shape) for output in model.outputs]}",
        )
    found = tuple(model.inputs[0].shape[1:])
    if any(side is not None and side != wanted for side, wanted in zip(found, shape, strict=True)):
        raise WrongUse(
            "The backbone takes another size.", file=path, expected=f"image_size={found[0]}", found=f"{shape[0]}"
        )
    return model


def _small(shape: tuple[int, int, int]) -> Any:
    """A small network that learns from nothing in a minute: separable convolutions, normalised by layer.

    No BatchNorm: an image's answer must not depend on its neighbours, and small sessions make poor statistics.
    """
    import keras
    from keras import layers

    inputs = keras.Input(shape)
    x = layers.Conv2D(24, 5, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.Activation("relu")(layers.GroupNormalization(groups=8)(x))
    for width in (48, 96, 128):
        x = layers.SeparableConv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.GroupNormalization(groups=8)(x))
        x = layers.MaxPooling2D()(x)
    x = layers.SeparableConv2D(160, 3, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(layers.GroupNormalization(groups=8)(x))
    return keras.Model(inputs, x, name="small_conv_net")
