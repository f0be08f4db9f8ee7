"""Knows frozen graphs: a model as operations and numbers, without the library or the code that made it.

Our own file of one, `model.pb`, is a GraphDef with three names that are fixed: a placeholder `image`, and the tensors
`probabilities` and `embedding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from darkroom.errors import UnsupportedModel
from tasks.machine import import_tensorflow

SUFFIX: Final = ".pb"
IMAGE, PROBABILITIES, EMBEDDING = "image", "probabilities", "embedding"
# A protocol buffer ends at 2 GB; TensorFlow fails there without saying so.
_LARGEST = 1_900_000_000

# What touches files, runs Python or calls out, although some of it is not marked as having a state.
DANGEROUS: Final = frozenset(
    {"PyFunc", "EagerPyFunc", "PyFuncStateless", "ReadFile", "WriteFile", "MatchingFiles", "ImmutableConst"}
    | {"WriteGraphSummary", "CreateSummaryFileWriter", "CreateSummaryDbWriter", "DumpTensor", "PrintV2", "Print"}
    | {"Copy", "CopyHost", "MlirPassthroughOp", "XlaLaunch", "InitializeTableFromTextFileV2"}
    | {"InitializeTableFromTextFile", "RpcCall", "RpcClient", "RpcServer", "TryRpc", "Rpc", "Abort"}
)
SAVERS: Final = frozenset(
    {"Save", "SaveV2", "SaveSlices", "Restore", "RestoreV2", "RestoreSlice", "MergeV2Checkpoints"}
)
# Stateful only because of what they call, and what they call is looked at as well; Assert computes nothing.
_CALLS = frozenset({"StatefulPartitionedCall", "If", "While", "Case", "Assert"})


@dataclass(frozen=True)
class FrozenGraph:
    """One image in, one output: a GraphDef without variables, the name of its placeholder, of its output tensor."""

    definition: Any
    input: str
    output: str


def freeze(function: Any) -> FrozenGraph:
    """A concrete function with one tensor in and one out: its variables made constants, and only what the output needs.

    What a function does beside (count, draw the next seed, follow statistics of a batch) is left out. That is why this
    is not convert_variables_to_constants_v2, which keeps assignments and then fails on them; its parts are used.
    """
    from tensorflow.python.framework import convert_to_constants as parts

    data = parts._FunctionConverterDataInEager(func=function, lower_control_flow=True, aggressive_inlining=True)
    definition, _ = parts._replace_variables_by_constants(converter_data=data)
    image, output = function.inputs[0].op.name, function.outputs[0].name
    return FrozenGraph(_needed(definition, {image, output.split(":")[0]}), image, output)


def _needed(definition: Any, wanted: set[str]) -> Any:
    """What these operations are computed from. An order that was asked for (`^name`) is no input."""
    nodes = {node.name: node for node in definition.node}
    waiting, kept = list(wanted), set(wanted)
    while waiting:
        node = nodes[waiting.pop()]
        inputs = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(inputs)
        more = {name.split(":")[0] for name in inputs} - kept
        kept |= more
        waiting += more
    pruned = type(definition)(versions=definition.versions, library=definition.library)
    pruned.node.extend(node for name, node in nodes.items() if name in kept)
    return pruned


def freeze_keras(model: Any, shape: tuple[int | None, ...], dtype: str, path: Path) -> FrozenGraph:
    """A model of Keras 3 or tf_keras in inference mode, for tensors (n, *shape). It is traced, and not run.

    Raises: UnsupportedModel where running it would touch files or call Python.
    """
    tf = import_tensorflow()

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), dtype)])  # type: ignore[untyped-decorator]
    def forward(image: Any) -> Any:
        return tf.cast(tf.nest.flatten(model(image, training=False))[0], tf.float32)

    function = forward.get_concrete_function()
    found = {name for _, name in operations(function.graph.as_graph_def()) if is_dangerous(name)}
    if found:
        raise acting(path, sorted(found))
    return freeze(function)


def operations(definition: Any) -> Iterator[tuple[str, str]]:
    """(function or empty, operation) of every node, also inside of functions."""
    for node in definition.node:
        yield "", node.op
    for function in definition.library.function:
        for node in function.node_def:
            yield function.signature.name, node.op


def refuse_operations(definition: Any, path: Path) -> None:
    """Refuse a frozen graph that could do anything but compute.

    Raises: UnsupportedModel that names the operations.
    """
    from tensorflow.python.framework import op_def_registry

    found = {operation for _, operation in operations(definition)}
    own = {function.signature.name for function in definition.library.function}
    unknown = sorted(name for name in found - own if op_def_registry.get(name) is None)
    refused = sorted(name for name in found - own if name not in unknown and _acts(name, op_def_registry.get(name)))
    random = [name for name in refused if "Random" in name or "Multinomial" in name]
    if random:
        raise UnsupportedModel(
            "The model draws random numbers while it predicts: dropout or augmentation is active in it.",
            file=path,
            expected="a model that answers the same every time",
            found=", ".join(random),
            todo="look for layers that are called with training=True; build the model without, and save it again",
        )
    if refused or unknown:
        raise acting(path, [*refused, *(f"{name} (unknown to this TensorFlow)" for name in unknown)])


def is_dangerous(operation: str) -> bool:
    """Whether an operation touches files, runs Python or calls out, and may not even run once."""
    return operation in DANGEROUS or operation.startswith("Debug") or "Dataset" in operation


def acting(path: Path, found: list[str]) -> UnsupportedModel:
    """The refusal of a model that would do more than compute, by its operations."""
    return UnsupportedModel(
        "The model does more than compute: it would touch files, keep a state or run code.",
        file=path,
        expected="operations that only compute",
        found=", ".join(found),
        todo="rebuild the model from layers of Keras, without tables, files and Python functions, and save it again; "
        "darkroom decodes the images",
    )


def _acts(name: str, definition: Any) -> bool:
    named = is_dangerous(name) or name in SAVERS or "Random" in name
    return named or (name not in _CALLS and bool(definition.is_stateful))


def write_graph(definition: Any, path: Path) -> Path:
    """Write `model.pb`. UnsupportedModel where it is larger than the format allows."""
    size = definition.ByteSize()
    if size > _LARGEST:
        raise UnsupportedModel(
            "The model is too large for a frozen graph.",
            file=path,
            expected=f"at most {_LARGEST:,} bytes",
            found=f"{size:,} bytes",
            todo="save it as .keras with Keras 3 where it was made",
        )
    path.write_bytes(definition.SerializeToString(deterministic=True))
    return path


def read_graph(path: Path) -> Any:
    """The GraphDef of our own file. UnsupportedModel where it is none, or could do anything but compute."""
    tf = import_tensorflow()
    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(path.read_bytes())
    except OSError as error:
        raise UnsupportedModel("There is no such model.", file=path, found=error.strerror) from error
    except Exception as error:  # protobuf's own DecodeError, which differs between its implementations
        raise _no_graph(path, "bytes that are no GraphDef") from error
    names = {node.name for node in definition.node}
    if not {IMAGE, PROBABILITIES} <= names:
        raise _no_graph(path, f"a graph of {len(names)} operations without them")
    refuse_operations(definition, path)
    return definition


def input_side(definition: Any) -> tuple[int | None, ...]:
    """(height, width, channels) of our own graph; None where any will do."""
    placeholder = next(node for node in definition.node if node.name == IMAGE)
    sizes = [dimension.size for dimension in placeholder.attr["shape"].shape.dim]
    return tuple(None if size < 0 else int(size) for size in sizes[1:])


def forward_of(definition: Any, embedding: str, shape: tuple[int, int, int], path: Path) -> Callable[[Any], Any]:
    """Tensors (n, *shape) → (probabilities, embedding): one graph for every n."""
    tf = import_tensorflow()
    names = {node.name for node in definition.node}
    if embedding not in names:
        raise UnsupportedModel(
            "The model has no such embedding layer.",
            file=path,
            expected=f"an operation named {embedding!r}",
            found=f"a graph with {EMBEDDING!r}" if EMBEDDING in names else "a graph without an embedding",
        )

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.float32)])  # type: ignore[untyped-decorator]
    def forward(tensors: Any) -> Any:
        wanted = [f"{PROBABILITIES}:0", f"{embedding}:0"]
        return tf.graph_util.import_graph_def(definition, {f"{IMAGE}:0": tensors}, wanted, name="")

    forward.get_concrete_function()
    return forward  # type: ignore[no-any-return]


def _no_graph(path: Path, found: str) -> UnsupportedModel:
    return UnsupportedModel(
        "This is not a frozen graph that darkroom wrote.",
        file=path,
        expected=f"a GraphDef with {IMAGE!r} and {PROBABILITIES!r}",
        found=found,
        todo="adopt the model again",
    )
