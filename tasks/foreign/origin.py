"""Knows where a model comes from, by the names and the order of its layers: that says how its images were prepared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, Final

TEACHABLE_MACHINE: Final = "teachable machine"

# Names of whole models in keras.applications, without `_`, `-` and case.
_MODELS: Final = (
    (r"mobilenetv3(small|large).*", "mobilenet_v3"),
    (r"mobilenetv2([\d.]+)?", "mobilenet_v2"),
    (r"mobilenet([\d.]+)?", "mobilenet"),
    (r"efficientnetv2[bsml]\d?", "efficientnet_v2"),
    (r"efficientnetb\d", "efficientnet"),
    (r"inceptionresnetv2", "inception_resnet_v2"),
    (r"inceptionv3", "inception_v3"),
    (r"resnet\d+v2", "resnet_v2"),
    (r"resnet50", "resnet50"),
    (r"resnet\d+", "resnet"),
    (r"densenet\d+", "densenet"),
    (r"nasnet(mobile|large)?", "nasnet"),
    (r"convnext(tiny|small|base|large|xlarge)", "convnext"),
    (r"vgg16", "vgg16"),
    (r"vgg19", "vgg19"),
    (r"xception", "xception"),
)
# Layers that only one of them has, the more particular first.
_LAYERS: Final[tuple[tuple[frozenset[str], str], ...]] = (
    (frozenset({"block_1_expand", "block_16_project"}), "mobilenet_v2"),
    (frozenset({"conv_dw_1", "conv_pw_13"}), "mobilenet"),
    (frozenset({"block1a_dwconv", "block6a_se_reduce"}), "efficientnet"),
    (frozenset({"block1a_project_conv", "block6a_dwconv2"}), "efficientnet_v2"),
    (frozenset({"conv2_block1_preact_bn"}), "resnet_v2"),
    (frozenset({"conv2_block1_concat"}), "densenet"),
    (frozenset({"conv2_block1_0_conv", "conv4_block7_out"}), "resnet"),
    (frozenset({"conv2_block1_0_conv", "conv5_block3_out"}), "resnet50"),
    (frozenset({"block14_sepconv2"}), "xception"),
    (frozenset({"block1_conv1", "block5_conv4"}), "vgg19"),
    (frozenset({"block1_conv1", "block5_conv3"}), "vgg16"),
    (frozenset({"block35_1_mixed"}), "inception_resnet_v2"),
    (frozenset({"mixed0", "mixed10"}), "inception_v3"),
    (frozenset({"stem_bn1", "stem_conv1"}), "nasnet"),
)
_STARTS: Final = ((r"expanded_conv_\d+", "mobilenet_v3"), (r"convnext_\w+_stage_0", "convnext"))


def origin_of(names: Set[str], config: Any, path: Path) -> str | None:
    """`teachable machine`, a module of keras.applications (a key of APPLICATION_MODES), or None.

    names: of all layers and models in it, or the parts of the paths of a graph's operations. config: of a Keras model.
    """
    if _is_teachable_machine(config) or _has_its_names(names) or _has_its_metadata(path):
        return TEACHABLE_MACHINE
    for name in sorted(names):
        plain = re.sub(r"[_\-]", "", name.lower())
        for pattern, module in _MODELS:
            if re.fullmatch(pattern, plain):
                return module
    # A layer's name may hold a slash, and then it is two parts of a path.
    spelled = {name.replace("/", "_") for name in names}
    for layers, module in _LAYERS:
        if layers <= spelled:
            return module
    for start, module in _STARTS:
        if any(re.match(start, name) for name in spelled):
            return module
    return None


def _has_its_names(names: Set[str]) -> bool:
    """Its layers were named in JavaScript: dense_Dense1, global_average_pooling2d_GlobalAveragePooling2D1."""
    pooled = any(re.fullmatch(r"global_average_pooling2d_GlobalAveragePooling2D\d+", name) for name in names)
    return pooled and any(re.fullmatch(r"dense_Dense\d+", name) for name in names)


def _is_teachable_machine(config: Any) -> bool:
    """A Sequential of two: [MobileNetV2, global average], [Dense, Dense with softmax and no bias]."""
    outer = _layers(config)
    if [layer.get("class_name") for layer in outer] != ["Sequential", "Sequential"]:
        return False
    body, head = (_layers(layer) for layer in outer)
    pooled = len(body) == 2 and body[0].get("class_name") in ("Functional", "Model")
    dense = [layer.get("config", {}) for layer in head if layer.get("class_name") == "Dense"]
    ends = len(dense) == len(head) == 2 and dense[1].get("activation") == "softmax" and not dense[1].get("use_bias")
    return pooled and body[1].get("class_name") == "GlobalAveragePooling2D" and ends


def _layers(config: Any) -> list[Mapping[str, Any]]:
    inner = config.get("config") if isinstance(config, Mapping) else None
    layers = inner.get("layers") if isinstance(inner, Mapping) else inner
    if not isinstance(layers, list):
        return []
    return [layer for layer in layers if isinstance(layer, Mapping) and layer.get("class_name") != "InputLayer"]


def _has_its_metadata(path: Path) -> bool:
    metadata = (path if path.is_dir() else path.parent) / "metadata.json"
    return metadata.is_file() and b"tmVersion" in metadata.read_bytes()
