"""What was done to the images before they came: a wrong preparation is a known map, and so is what it makes of them.

The bundle's own preparation is proved by its goldens. What another program did before it handed over the files is not;
it shows in the properties, which lie where the mistake puts those of training, and nowhere near by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from darkroom.reasons import FileMistake

FULL: Final = 255.0
# In standard deviations of training: further off than this, and a third of it at most once the mistake is undone.
FAR: Final = 0.7
_EXPLAINED: Final = 1 / 3
_EXACT: Final = 0.005  # of a length; of the saturation of training
_BLACK: Final = 1.0  # of 255: what 0 … 1 is as bytes
_TWO_COLOURS: Final = 1.2  # standard deviations between red and blue, for a swap to be told from a lamp
_ERRORS: Final = 5.0


@dataclass(frozen=True)
class Usual:
    """Properties as they are tonight and as such a mix of classes has them, name → value; `unit`: a standard deviation
    of training. `error`: of the difference by chance, in such units. `classes`: the same as `expected` of each class
    alone. `size`: (height, width) that the model takes.
    """

    tonight: Mapping[str, float]
    expected: Mapping[str, float]
    unit: Mapping[str, float]
    error: Mapping[str, float]
    classes: Sequence[Mapping[str, float]]
    size: tuple[int, int]

    def off(self, name: str, expected: float | None = None) -> float:
        """How far tonight is from what is expected, or from another value; standard deviations."""
        wanted = self.expected[name] if expected is None else expected
        return (self.tonight[name] - wanted) / self.unit[name]

    def far(self, name: str) -> float:
        """From so many standard deviations on it is neither chance nor little."""
        return max(FAR, _ERRORS * self.error[name])

    def has_a_class_like(self, names: Sequence[str]) -> bool:
        """Whether the images of one class are so as they are."""
        return any(all(abs(self.off(name, one[name])) < FAR for name in names) for one in self.classes)


@dataclass(frozen=True)
class Mistake:
    """What was done; `certain` where it leaves exact values. `touched`: properties that it moves, and which way: −1, 1,
    or either, 0.
    """

    name: FileMistake
    what: str
    evidence: str
    todo: str
    certain: bool
    touched: Mapping[str, int]


_COLOURS: Final = {"red_share": 0, "green_share": 0, "blue_share": 0, "saturation": 0}
_LIGHT: Final = {
    "luminance_mean": 0,
    "luminance_std": 0,
    "luminance_p01": 0,
    "luminance_p99": 0,
    "clipped_black": 0,
    "clipped_white": 0,
    "contrast": 0,
}
_DETAIL: Final = {"sharpness": 0, "edge_density": 0, "noise": 0, "blockiness": 0, "entropy": 0, "bytes_per_pixel": 0}
_SIZE: Final = {"width": 0, "height": 0, "aspect_ratio": 0}
# Making small averages noise away and sharpens what is left; noise that is there all the same was added.
_SMALLER: Final = {"noise": -1, "sharpness": 1, "edge_density": -1, "blockiness": 0, "entropy": 0, "bytes_per_pixel": 0}


def mistake_of(usual: Usual) -> Mistake | None:
    """The mistake that explains tonight, if one does; nothing that a class of training shows as well is a mistake."""
    for names, test in _TESTS:
        if all(name in usual.tonight for name in names) and not usual.has_a_class_like(names):
            found = test(usual)
            if found is not None:
                return found
    return None


def _black(usual: Usual) -> Mistake | None:
    brightest = usual.tonight["luminance_p99"]
    if brightest > _BLACK or usual.off("luminance_p99") > -usual.far("luminance_p99"):
        return None
    return Mistake(
        FileMistake.BLACK,
        "the images are black, as pixels that were scaled to 0 … 1 and saved as bytes, or taken without light",
        f"the brightest pixels are {brightest:.1f} of 255, usually {usual.expected['luminance_p99']:.0f}",
        "Save pixels of 0 … 255, or hand over the files as they were taken.",
        False,
        {**_LIGHT, **_COLOURS, **_DETAIL},
    )


def _colourless(usual: Usual) -> Mistake | None:
    saturation, before = usual.tonight["saturation"], usual.expected["saturation"]
    if saturation > _EXACT * before or usual.off("saturation") > -usual.far("saturation"):
        return None
    return Mistake(
        FileMistake.COLOURLESS,
        "the images are without colour, where training has colour",
        f"saturation {saturation:.3f}, usually {before:.3f}",
        "Hand over the colour images: look for a conversion to grey, or a camera that took them in the dark.",
        True,
        _COLOURS,
    )


def _sized(usual: Usual) -> Mistake | None:
    height, width = usual.size
    exact = all(
        abs(usual.tonight[name] - length) <= _EXACT * length for name, length in (("height", height), ("width", width))
    )
    if not exact or max(abs(usual.off("height")), abs(usual.off("width"))) < FAR:
        return None
    usually = f"{usual.expected['width']:.0f} × {usual.expected['height']:.0f}"
    return Mistake(
        FileMistake.SIZED,
        f"the images were resized to the model's own size, {width} × {height}, before they came",
        f"width × height {width} × {height}, in training {usually}; how they were resized is not known",
        "Hand over the files as they were taken: darkroom resizes as in training.",
        True,
        {**_SIZE, **_SMALLER},
    )


def _turned(usual: Usual) -> Mistake | None:
    swapped = {"width": "height", "height": "width"}
    if not _explained(usual, {name: usual.expected[other] for name, other in swapped.items()}):
        return None
    return Mistake(
        FileMistake.TURNED,
        "width and height are swapped, as of images that were turned by a quarter",
        f"width × height {usual.tonight['width']:.0f} × {usual.tonight['height']:.0f}, usually "
        f"{usual.expected['width']:.0f} × {usual.expected['height']:.0f}",
        "Look at some: where they lie on their side, keep the EXIF orientation, or turn the pixels by it first.",
        False,
        _SIZE,
    )


def _swapped(usual: Usual) -> Mistake | None:
    swapped = {"red_share": "blue_share", "blue_share": "red_share"}
    if not _explained(usual, {name: usual.expected[other] for name, other in swapped.items()}):
        return None
    if max(abs(usual.off(name)) for name in swapped) < _TWO_COLOURS:
        return None
    # A lamp of another colour moves green and the saturation as well.
    beside = max(abs(usual.off(name)) for name in ("green_share", "saturation"))
    if beside > max(0.5, _EXPLAINED * abs(usual.off("red_share"))):
        return None
    return Mistake(
        FileMistake.SWAPPED,
        "red and blue are swapped",
        f"red {usual.tonight['red_share']:.3f} and blue {usual.tonight['blue_share']:.3f}, usually "
        f"{usual.expected['red_share']:.3f} and {usual.expected['blue_share']:.3f}; green and saturation as usual",
        "OpenCV reads and writes BGR: convert with cv2.COLOR_BGR2RGB where the files are made.",
        False,
        _COLOURS,
    )


def _inverted(usual: Usual) -> Mistake | None:
    opposite = {"luminance_mean": "luminance_mean", "luminance_p01": "luminance_p99", "luminance_p99": "luminance_p01"}
    made = {name: FULL - usual.expected[other] for name, other in opposite.items()}
    # Of what is left to 255, each colour has the share that it lacked.
    light = usual.expected["luminance_mean"]
    colours = {
        name: (FULL - 3 * light * usual.expected[name]) / (3 * (FULL - light)) for name in ("red_share", "blue_share")
    }
    before = abs(usual.off("luminance_mean"))
    if not _explained(usual, made) or any(abs(usual.off(name, value)) > before for name, value in colours.items()):
        return None
    return Mistake(
        FileMistake.NEGATIVE,
        "the images are negatives: light and dark are swapped",
        f"mean luminance {usual.tonight['luminance_mean']:.0f} of 255, which is 255 less the usual "
        f"{usual.expected['luminance_mean']:.0f}",
        "Look for an inversion (255 − x) where the files are made.",
        False,
        {**_LIGHT, **_COLOURS, **_DETAIL},
    )


def _explained(usual: Usual, made: Mapping[str, float]) -> bool:
    """Whether tonight is far from what is expected, and near to what the mistake makes of it."""
    before = max(abs(usual.off(name)) for name in made)
    after = max(abs(usual.off(name, value)) for name, value in made.items())
    return before >= max(usual.far(name) for name in made) and after <= _EXPLAINED * before


# Each with the properties that it is read from.
_TESTS: Final[tuple[tuple[tuple[str, ...], Callable[[Usual], Mistake | None]], ...]] = (
    (("luminance_p99", "luminance_mean"), _black),
    (("saturation",), _colourless),
    (("width", "height"), _sized),
    (("width", "height"), _turned),
    (("luminance_mean", "luminance_p01", "luminance_p99", "red_share", "blue_share"), _inverted),
    (("red_share", "blue_share", "green_share", "saturation"), _swapped),
)
