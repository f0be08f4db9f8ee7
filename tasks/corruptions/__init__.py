"""The corruption ladder: pixels → the same pixels as a worse camera would have given them, in kinds and strengths.

| file | what it knows |
|---|---|
| ladder | the kinds, their five strengths, their sources; `corrupt`, `corrupt_batch`; seeds |
| pixels | how long a length of ImageNet-C is on an image of another size |
| noise, optics, light, fog, handling | one small pure function a kind, `(pixels, rng, *parameters) -> pixels` |
| sheet | the contact sheet |
| table | the ladder as the documents show it |

What the ladder is for: what a model loses under each kind is measured on held-out images when its bundle is sealed.
"""

from tasks.corruptions.ladder import KINDS, LADDER, STRENGTHS, Corruption, corrupt, corrupt_batch
from tasks.corruptions.sheet import contact_sheet

__all__ = ["KINDS", "LADDER", "STRENGTHS", "Corruption", "contact_sheet", "corrupt", "corrupt_batch"]
