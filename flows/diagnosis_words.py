"""What a search for the cause found, in sentences for a person."""

from __future__ import annotations

from collections.abc import Sequence

from expectations.output_words import words_for
from expectations.reproduction import Candidate
from flows.searching import Searched
from tasks.variants import Variant


def sentence_of(searched: Searched, classes: Sequence[str]) -> str:
    """The cause, or that there is none, in one sentence or two."""
    found = searched.found
    fits = f"{round(found.best.share * found.best.rows):,} of {found.best.rows:,}"
    if found.level == "same":
        said = f"No difference: the bundle's own preparation reproduces {fits} of these predictions."
        return said if found.undecided else said + " But it was certain of every image, so few mistakes could show."
    if found.level == "unexplained":
        return (
            "Not explained: nothing that was tried reproduces these predictions. The closest, "
            f"{names_in_words(found.best.names)}, fits {fits} rows. It may be another model, other weights, other "
            "files, or a preparation that is in no catalogue."
        )
    if not found.variants:
        return (
            f"Nearly the bundle's own: half of the undecided rows agree within {found.best.median:.2g}, not exactly, "
            "and no mistake that was tried comes nearer. Another machine, version of a library or precision."
        )
    causes = _clauses(found.best.names, searched.by_name, classes)
    said = f"{causes[:1].upper()}{causes[1:]} ({', '.join(found.best.names)}): "
    if found.level == "nearly":
        return (
            said + f"half of the undecided rows agree within {found.best.median:.2g}, and nothing else comes near; "
            "not exactly, as with another version of a library or another machine."
        )
    pinned = next((one for one in found.ranking if not one.names), None)
    before = "" if pinned is None else f"; the pinned preparation only {round(pinned.share * pinned.rows):,}"
    alike = f" These files cannot tell it from {names_in_words(found.alike[0])}." if found.alike else ""
    return said + f"that reproduces {fits} rows{before}.{alike}"


def mends_of(searched: Searched, classes: Sequence[str]) -> tuple[str, ...]:
    """What to do about mistakes in the model or behind it, a line each."""
    named = [(name, words_for(name, classes)) for name in searched.found.variants]
    behind = [f"{name}: {words.mend}" for name, words in named if words is not None]
    model = [
        f"{name}: load the bundle's model and call it in inference mode, model(x, training=False), in float32"
        for name, _ in named
        if name in searched.by_name and searched.by_name[name].stage == "model"
    ]
    return (*behind, *model)


def left_out(searched: Searched) -> tuple[str, ...]:
    """How many files no decoder reads, in a sentence; nothing where there are none."""
    count = searched.unread
    were = "file was" if count == 1 else "files were"
    return (f"{count:,} {were} left out: no decoder reads {'it' if count == 1 else 'them'}.",) if count else ()


def preparation_at_fault(searched: Searched) -> bool:
    """Whether the preparation is, or may be, at fault."""
    found = searched.found
    named = [searched.by_name[name] for name in found.variants if name in searched.by_name]
    return found.level == "unexplained" or any(variant.stage != "model" for variant in named)


def runner_up_in_words(one: Candidate | None) -> str:
    """For a cell of the page."""
    return "–" if one is None else f"{names_in_words(one.names)}, {one.share:.1%} of the rows"


def names_in_words(names: Sequence[str]) -> str:
    """Variants joined; none: as pinned."""
    return " + ".join(names) or "as pinned"


def _clauses(names: Sequence[str], by_name: dict[str, Variant], classes: Sequence[str]) -> str:
    """What happened to the images, in the model and behind it."""
    variants = [by_name[name] for name in names if name in by_name]
    images = " and ".join(variant.what for variant in variants if variant.stage != "model")
    parts = [f"their images were {images}"] if images else []
    parts += [f"the model ran {variant.what}" for variant in variants if variant.stage == "model"]
    parts += [words.what for name in names if (words := words_for(name, classes)) is not None]
    return " and ".join(parts)
