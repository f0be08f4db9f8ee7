"""Mistakes behind the model in words: what happened, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Words(NamedTuple):
    """`what`: a clause that a sentence begins with; `mend`: what to do, one line."""

    what: str
    mend: str


_OUTPUTS = {
    "logits": Words(
        "the numbers are logits: the softmax is missing",
        "probabilities = tf.nn.softmax(logits)",
    ),
    "log_softmax": Words("the numbers are logarithms of probabilities", "probabilities = np.exp(outputs)"),
    "sigmoid": Words(
        "each class has a sigmoid of its own instead of one softmax over all",
        "Dense(classes, activation='softmax') for classes that exclude each other",
    ),
    "softmax_twice": Words(
        "a softmax was applied to what were probabilities already",
        "leave out the second softmax",
    ),
    "complement": Words(
        "the confidence is that of all other classes together", "confidence = probabilities.max(), not 1 minus it"
    ),
    "argmax_of_one_unit": Words(
        "argmax was taken of one sigmoid unit, which is always class 0",
        "label = int(output[0] > 0.5)",
    ),
}
_ORDERS = {
    "alphabetical": "in the order of the alphabet",
    "numeric": "in the order of their numbers ('2' before '10')",
    "ignoring_case": "in the order of the alphabet without regard to case",
    "reversed": "in reverse",
}


def words_for(name: str, classes: Sequence[str]) -> Words | None:
    """The words for `knob=value` of expectations.outputs; None for a variant of the preparation."""
    knob, _, value = name.partition("=")
    if knob == "class_order":
        listed = _ORDERS.get(value, f"in the order {value}")
        return Words(f"the class names were listed {listed}", f"classes = {list(classes)!r}")
    if knob == "order" and value == "shuffled":
        return Words(
            "the rows are in another order than the file names: the generator shuffled",
            "shuffle=False, or take file names and predictions from the same batches",
        )
    if knob == "order":
        by = int(value.removeprefix("shifted_by_"))
        late = f"{abs(by)} rows {'late' if by > 0 else 'early'}"
        return Words(
            f"predictions and file names are shifted: each row holds the answer for the image {late}",
            "reset the generator before predict, and keep first and last batch",
        )
    if knob == "outputs" and value.startswith("temperature_"):
        return Words(
            f"the softmax has a temperature of {value.removeprefix('temperature_')}",
            "the bundle's probabilities are those of the model without a temperature",
        )
    return _OUTPUTS.get(value) if knob == "outputs" else None
