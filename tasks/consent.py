"""Knows which code a Keras model would run, by reading its configuration as text, before anything is loaded.

A Lambda layer in HDF5 is marshalled bytecode: loading the model runs it. A class that is not Keras' own is whatever a
module of that name holds. Consent is given to one of them by its name, and to nothing else:

Lambda:<layer>      run the code of this Lambda layer
<module>:<name>     import this class or function, and use it where the model says <name>
<name>              use the class or function that the calling program registered with Keras under this name
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from darkroom.errors import UnsupportedModel, WrongUse
from tasks.machine import import_tensorflow

_KERAS: Final = ("keras", "tf_keras", "keras_core", "tensorflow.keras", "tensorflow.python.keras", "builtins")
# Words of Keras' own formats that are no class of a public module.
_FORMAT: Final = frozenset(
    {"Functional", "Model", "Sequential", "TFOpLambda", "SlicingOpLambda", "InputLayer", "Policy", "DTypePolicy"}
    | {
        "__tensor__",
        "__tuple__",
        "__numpy__",
        "__keras_tensor__",
        "__ellipsis__",
        "__slice__",
        "slice",
        "tuple",
        "list",
    }
    | {"CompositeTensorSpec", "TensorShape", "__bytes__", "InputSpec", "BatchNormalizationV1"}
)
# Arithmetic between layers (x / 127.5 - 1): an operation, which computes and nothing else.
_OPERATIONS: Final = "keras.src.ops."
_APPLICATIONS: Final = "keras.src.applications."
# Public layers that call whatever their configuration names, or load another file: ClassMethod with the name
# io.gfile.remove and a constant runs it while the model is loaded; a vocabulary may be the path of any file.
_ACTS: Final = frozenset(
    {"ClassMethod", "InstanceMethod", "InstanceProperty", "TensorFlowOpLayer", "__lambda__"}
    | {"TFSMLayer", "TorchModuleWrapper", "FlaxLayer", "JaxLayer"}
    | {"StringLookup", "IntegerLookup", "TextVectorization"}
)
# Functions of TensorFlow that tf_keras keeps by name, and calls while it loads a model: with a constant instead of a
# layer's output that runs at once, and tf.io.write_file or tf.load_library would be such names. These only compute.
_BY_NAME: Final = ("TFOpLambda", "SlicingOpLambda")
_COMPUTES: Final = re.compile(
    r"(math|nn|image|linalg|__operators__|compat\.v1\.nn|compat\.v1\.math|keras\.activations)\.\w+"
    r"|keras\.backend\.(cast|clip|mean|sum|max|min|abs|sqrt|square|exp|log|pow|reshape|flatten|expand_dims|squeeze"
    r"|concatenate|stack|permute_dimensions|reverse|softmax|relu|sigmoid|tanh|l2_normalize|resize_images)"
    r"|(compat\.v1\.)?(cast|reshape|concat|expand_dims|squeeze|transpose|reverse|stack|unstack|split|pad|identity|shape)"
    r"|clip_by_value|tile|slice|strided_slice|gather|where|ones_like|zeros_like|convert_to_tensor|broadcast_to|repeat|roll"
    r"|stop_gradient"
)
_OF_TRAINING: Final = ("compile_config", "build_config", "training_config")
_ACTIVATIONS: Final = ("activation", "recurrent_activation")


@dataclass(frozen=True)
class Code:
    """A piece of code that loading or running a model would execute. `name` is what consent names."""

    name: str
    sentence: str


def code_in(config: Any) -> list[Code]:
    """What in a model's configuration (parsed JSON) would run code, each once."""
    return list(dict.fromkeys(_found(config)))


def refuse_without_consent(config: Any, consent: Sequence[str], path: Path) -> bool:
    """Whether the model holds code; refuses it unless all of it was consented to, each by its name.

    Raises: UnsupportedModel that names the first piece without consent.
    """
    found = code_in(config)
    for code in found:
        given = code.name in consent or any(word.partition(":")[2] == code.name for word in consent)
        if code.name.startswith("Lambda:"):
            given = code.name in consent
        if not given:
            word = code.name if code.name.startswith("Lambda:") else f"MODULE:{code.name}"
            raise UnsupportedModel(
                f"The model holds code that would run when it is loaded: {code.sentence}.",
                file=path,
                expected="layers of Keras only, or your consent to this piece of code by its name",
                found=", ".join(other.sentence for other in found),
                todo=f"replace it by a layer of Keras (Rescaling, Normalization, Permute …), and save again; or, if "
                f"you trust where the file comes from, consent to {word!r}",
            )
    return bool(found)


def consented_objects(consent: Sequence[str]) -> dict[str, Any]:
    """Import the classes and functions consented to as module:name. WrongUse where one cannot be imported."""
    objects: dict[str, Any] = {}
    for word in consent:
        module, _, name = word.partition(":")
        if not name or module == "Lambda":
            continue
        try:
            objects[name] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise WrongUse(
                f"The class or function {word!r} cannot be imported.",
                expected="module:name, with the module's folder on PYTHONPATH",
                found=str(error),
            ) from error
    return objects


def _found(config: Any) -> Iterator[Code]:
    if isinstance(config, list | tuple):
        for entry in config:
            yield from _found(entry)
        return
    if not isinstance(config, dict):
        return
    kind = config.get("class_name")
    inner = config.get("config")
    if kind == "Lambda":
        name = str(inner.get("name")) if isinstance(inner, dict) else str(config.get("name"))
        yield Code(f"Lambda:{name}", f"a Lambda layer named {name!r}")
        return
    if kind in _ACTS:
        yield Code(str(kind), f"a {kind}, which calls what it is told to, or loads another file")
        return
    if kind in _BY_NAME and isinstance(inner, dict) and not _COMPUTES.fullmatch(str(inner.get("function"))):
        yield Code(str(inner.get("function")), f"the function {str(inner.get('function'))!r} of TensorFlow")
    if isinstance(kind, str) and not _is_own(kind, config):
        where = f" of the module {config['module']!r}" if config.get("module") else ""
        name = inner if kind == "function" and isinstance(inner, str) else kind
        yield Code(name, f"{name!r}{where}, which is not part of Keras")
    for key, value in config.items():
        if key in _ACTIVATIONS and isinstance(value, str) and not _is_activation(value):
            yield Code(value, f"an activation {value!r}, which is not part of Keras")
        if key in _OF_TRAINING:  # optimizers and losses, which are not built; of them only code is of interest
            yield from (code for code in _found(value) if code.name in _ACTS or code.name.startswith("Lambda:"))
        else:
            yield from _found(value)


def _is_own(kind: str, config: dict[str, Any]) -> bool:
    module, registered = config.get("module"), config.get("registered_name")
    if module is not None and not any(module == own or str(module).startswith(f"{own}.") for own in _KERAS):
        return False
    if isinstance(registered, str) and ">" in registered and not registered.startswith("keras"):
        return False
    if kind == "function":
        return isinstance(config.get("config"), str) and _is_activation(config["config"])
    operation = isinstance(module, str) and module.startswith(_OPERATIONS)
    return kind in _FORMAT or operation or _is_public(kind) or _is_of_an_application(kind, str(module))


def _is_public(kind: str) -> bool:
    return any(hasattr(namespace, kind) for namespace in _namespaces())


def _is_of_an_application(kind: str, module: str) -> bool:
    """Whether this is a layer that a network of keras.applications has to itself, such as ConvNeXt's."""
    if not module.startswith(_APPLICATIONS):
        return False
    import keras

    try:
        found = getattr(importlib.import_module(module), kind, None)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, keras.layers.Layer)


def _is_activation(name: str) -> bool:
    return any(hasattr(library.activations, name) for library in _libraries())


def _libraries() -> Iterator[Any]:
    """The second only for who asks for more than the first: most models never need it, and it takes a second."""
    import_tensorflow()
    import keras

    yield keras
    try:
        import tf_keras
    except ImportError:
        return
    yield tf_keras


def _namespaces() -> Iterator[Any]:
    for library in _libraries():
        for part in ("layers", "initializers", "regularizers", "constraints", "random", "dtype_policies"):
            if hasattr(library, part):
                yield getattr(library, part)
