"""What was inferred of a preparation, in sentences for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from expectations.paired import Better
from expectations.preparation import Certainty, Ranked
from tasks.knobs import Preprocessing
from tasks.published import knob_families, scaling_in_words

_FAMILIES: Final = {
    "scaling": "the scaling",
    "channel_order": "the order of channels",
    "fit": "how it fits the frame",
    "interpolation": "the filter",
    "antialias": "antialias",
    "decoder": "the decoder",
}
_GEOMETRY: Final = ("fit", "interpolation", "antialias", "decoder")
# What a person would call the difference of two preparations, if they differ in it.
_FIRST: Final = ("fit", "scaling", "channel_order")


def certain_sentences(certainties: Sequence[Certainty], images: int, groups: int) -> list[str]:
    """What is certain, what is not, and the most likely."""
    certain = [_said(one.family, one.value) for one in certainties if one.certain]
    sentences = ["Nothing about the preparation is certain."]
    if certain:
        listed = _listed(certain)
        sentences = [f"{listed[0].upper()}{listed[1:]} {'are' if len(certain) > 1 else 'is'} certain."]
    unsure = [_unsure(one) for one in certainties if not one.certain]
    if unsure:
        sentences.append(f"Not certain on these {images} photos: {_listed(unsure)}.")
    if any(one.family in _GEOMETRY and len(one.possible) == 1 for one in certainties):
        sentences.append("A geometry that suits these photos best need not be that of the training.")
    best = ", ".join(_said(one.family, one.value) for one in certainties)
    count = "1 preparation holds" if groups == 1 else f"{groups} preparations that can be told apart hold"
    return [*sentences, f"{count} 95 % of the evidence; the most likely: {best}."]


def better_sentence(better: Better, own: Preprocessing, other: Preprocessing, images: int, *, stated: bool) -> str:
    """What scores better than their own (`stated`) or the model's own code, by how much, and with which interval."""
    mine, there = knob_families(own), knob_families(other)
    differs = [family for family in mine if mine[family] != there[family]]
    changed = [family for family in _FIRST if family in differs] or differs
    gain = better.difference
    ours = _listed([_said(family, there[family]) for family in changed])
    theirs = _listed([_definite(_said(family, mine[family])) for family in changed])
    return (
        f"On these {images} photos {ours} beats {theirs} of {'your' if stated else 'its'} own code: "
        f"{better.accuracy:.3f} against {better.than_accuracy:.3f} (difference {gain.value:+.3f}, 95 % "
        f"{gain.low:.3f} to {gain.high:.3f}, the best of {better.compared} that were compared)."
    )


def choice(preparation: Preprocessing, found: Ranked | None, *, published: bool = False) -> str:
    """One of several, in a line: what it is, how often it is right, how many count as one with it."""
    words = ", ".join(_said(family, value) for family, value in knob_families(preparation).items())
    notes = ["what the model's makers publish"] if published else []
    if found is not None:
        others = len(found.one_with)
        notes.append(f"right on {found.accuracy.value:.1%} of these photos")
        notes += [f"{others} more that answer alike" if others > 1 else "1 more that answers alike"] if others else []
    return f"{words} ({'; '.join(notes)})"


def _unsure(one: Certainty) -> str:
    if len(one.possible) > 1:
        return f"{_FAMILIES[one.family]} ({' or '.join(one.possible)})"
    return f"{_FAMILIES[one.family]} ({one.value}, with {min(one.weight, 0.999):.1%} of the evidence)"


def _said(family: str, value: str) -> str:
    """A knob's value in words."""
    if family == "scaling":
        return scaling_in_words(value)
    if family == "channel_order":
        return value.upper()
    if family == "fit":
        kind, _, closer = value.partition(" ")
        named = {"squash": "a squash", "crop": "a centre crop", "pad": "padding"}[kind]
        return f"{named} {closer}".rstrip()
    if family == "antialias":
        return "antialias" if value == "yes" else "no antialias"
    return f"{value} as the {'filter' if family == 'interpolation' else family}"


def _definite(words: str) -> str:
    return f"the {words[2:]}" if words.startswith("a ") else words


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
