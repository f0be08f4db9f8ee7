"""The catalogue as a table in Markdown, for the documentation: `python -m tasks.variants.table` prints it."""

from __future__ import annotations

from tasks.presets import PRESETS, preset
from tasks.variants.catalogue import catalogue
from tasks.variants.variant import Variant


def variants_table() -> str:
    """Every variant that some preset has, stage by stage."""
    found: dict[str, Variant] = {}
    for name in PRESETS:
        for fit in ("squash", "crop", "pad"):
            for variant in catalogue(preset(name, size=(224, 224), fit=fit, values="tf")):
                found.setdefault(variant.name, variant)
    stages = ("decode", "geometry", "values", "model")
    rows = sorted(found.values(), key=lambda variant: stages.index(variant.stage))
    head = ["| variant | stage | the images are | known from |", "| --- | --- | --- | --- |"]
    told = [f"| `{one.name}` | {one.stage} | {one.what} | {one.issue or '–'} |" for one in rows]
    return "\n".join([*head, *told])


if __name__ == "__main__":
    print(variants_table())
