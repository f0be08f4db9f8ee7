"""What a card says, as numbers: every part beyond the first is optional, and left out means "not measured"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tasks.report.drift_lines import DriftLine

_Z: Final = 1.959963984540054  # 95 %


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval, and the number of images that it rests on."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, hits: int, n: int) -> Rate:
        """Wilson's interval (JASA 22, 1927): right for few images and for shares near 0 and 1."""
        if n == 0:
            return cls(math.nan, 0.0, 1.0, 0)
        share = hits / n
        middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        reach = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        return cls(share, max(0.0, middle - reach), min(1.0, middle + reach), n)

    def __str__(self) -> str:
        if not self.n:
            return "no images"
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%}, n {self.n:,})"


@dataclass(frozen=True)
class Interval:
    """A mean, over seeds or resamples, with its 95 % interval; in the unit of what it belongs to.

    A single training has no interval: `low` and `high` are NaN then, and nothing is told from chance.
    """

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 where the whole interval is above zero, −1 where it is below, 0 where it is not told from chance."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class EpochLine:
    """One epoch. Training figures are those of the moving model, with augmentation and dropout."""

    phase: str
    epoch: int
    loss: float | None
    accuracy: float | None
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Ladder:
    """Accuracy in [0, 1] of held-out images under each kind of corruption at strengths 1, 2, …: kinds × strengths.

    `clean` is the accuracy of the same `images` as they are.
    """

    kinds: tuple[str, ...]
    accuracy: tuple[tuple[float, ...], ...]
    clean: Rate
    images: int

    @property
    def strengths(self) -> int:
        """How many strengths a kind has."""
        return max((len(row) for row in self.accuracy), default=0)

    @property
    def mean(self) -> float:
        """Over all kinds and strengths."""
        cells = [one for row in self.accuracy for one in row]
        return sum(cells) / len(cells) if cells else math.nan


@dataclass(frozen=True)
class Remedy:
    """A recipe and what it measured over `seeds` trainings; all figures are shares in [0, 1], not points.

    `gap` is training minus validation accuracy, `ladder` the mean accuracy over the corruption ladder, `by_kind` its
    mean under each kind, `difference` the paired difference of `ladder` against the first remedy, which is plain: no
    augmentation, no L2, no dropout, no fine-tuning. `is_recipe` marks the one that this bundle was made with.
    """

    name: str
    settings: str
    seeds: int
    accuracy: Interval
    gap: Interval
    calibration_error: Interval
    ladder: Interval
    by_kind: Mapping[str, float] = field(default_factory=dict)
    difference: Interval | None = None
    is_recipe: bool = False


@dataclass(frozen=True)
class LearningPoint:
    """Validation accuracy of trainings on a `share` of the training images."""

    share: float
    images: int
    accuracy: Interval


@dataclass(frozen=True)
class Honesty:
    """Whether the validation accuracy is true.

    `stated` is the accuracy of the validation images as they were split, `restated` without those that flatter it.
    `duplicates` counts validation images with a near-duplicate in training; `sessions` says in a sentence whether
    sessions stand on both sides; `label_suspects` counts images whose label is in doubt; each of `shortcuts` says in a
    sentence which property gives a class away. `in_doubt`: sessions leak, whatever the restated figure says.
    """

    sentence: str
    stated: Rate
    restated: Rate | None = None
    duplicates: int = 0
    sessions: str | None = None
    label_suspects: int = 0
    shortcuts: tuple[str, ...] = ()
    in_doubt: bool = False


@dataclass(frozen=True)
class WrongPreparation:
    """A variant of the pinned preparation and what it costs: `flips` is the share of images with another answer,
    `worst` the largest change of one probability, `shows` the share of images that show it at all; `images_to_tell` is
    how many new images tell it from the pinned one, None where these do not show it, or hardly ever.
    """

    variant: str
    what: str
    accuracy: Rate
    flips: float
    worst: float
    shows: float
    images_to_tell: int | None


@dataclass(frozen=True)
class Sensitivity:
    """Held-out images under every variant, the costliest first; `pinned` is their accuracy as pinned."""

    pinned: Rate
    rows: tuple[WrongPreparation, ...]
    not_shown: Mapping[str, str] = field(default_factory=dict)  # variant → why

    @property
    def images(self) -> int:
        """How many there were."""
        return self.pinned.n

    @property
    def shown(self) -> tuple[WrongPreparation, ...]:
        """The variants that these images show."""
        return tuple(one for one in self.rows if one.shows > 0)

    @property
    def unseen(self) -> tuple[WrongPreparation, ...]:
        """The variants that change nothing on these images."""
        return tuple(one for one in self.rows if one.shows == 0)


@dataclass(frozen=True)
class SplitComparison:
    """Training against validation images, with the tests of the nightly drift; `tonight` of a line is validation."""

    sentence: str
    lines: tuple[DriftLine, ...] = ()


@dataclass(frozen=True)
class Confused:
    """Validation images of one class that were called another; `pictures` are (path, confidence, JPEG bytes)."""

    true: str
    predicted: str
    n: int
    pictures: tuple[tuple[str, float, bytes], ...] = ()


@dataclass(frozen=True)
class PreparationLine:
    """A preparation that was tried on labelled photos. `in_set`: it is among those that the photos cannot tell apart;
    `sealed`: it is this bundle's.
    """

    name: str
    accuracy: Rate
    in_set: bool
    sealed: bool


@dataclass(frozen=True)
class Adopted:
    """Of a model that was made elsewhere: what it is and how it came, a sentence each; what is odd about it; which
    preparations were tried, the best first.
    """

    sentences: tuple[str, ...]
    findings: tuple[str, ...] = ()
    preparations: tuple[PreparationLine, ...] = ()


@dataclass(frozen=True)
class CardFacts:
    """Everything that the card says.

    `confusion` counts validation images: rows the true class, columns the predicted one, both in the order of
    `classes`, which is the order of the model's outputs. Calibration errors are expected calibration errors in [0, 1]
    on validation images, `None` where not measured. `gap` is training minus validation accuracy in points: value, low,
    high, images of a group counted together. `kept_epoch` is the epoch whose weights stayed; without it the lowest
    validation loss of the last phase. The first of `remedies` is plain.
    """

    name: str
    created_at: datetime
    classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, int]]  # split → class → images
    accuracy: Mapping[str, Rate]  # split → accuracy
    confusion: Sequence[Sequence[int]]
    grouping: str = "image"
    groups: Mapping[str, int] = field(default_factory=dict)  # split → groups
    recipe: Mapping[str, object] = field(default_factory=dict)
    preprocessing: Mapping[str, object] = field(default_factory=dict)
    calibration_error_before: float | None = None
    calibration_error_after: float | None = None
    temperature: float | None = None
    goldens: int = 0
    golden_kinds: Mapping[str, int] = field(default_factory=dict)  # "grey" → 4
    versions: Mapping[str, str] = field(default_factory=dict)
    not_for: tuple[str, ...] = ()  # beside what holds for every bundle
    left_out: Mapping[str, str] = field(default_factory=dict)  # path → why it was not trained on
    gap: tuple[float, float, float] | None = None
    honesty: Honesty | None = None
    curves: tuple[EpochLine, ...] = ()
    kept_epoch: int | None = None
    ladder: Ladder | None = None
    sensitivity: Sensitivity | None = None
    remedies: tuple[Remedy, ...] = ()
    learning_curve: tuple[LearningPoint, ...] = ()
    split_comparison: SplitComparison | None = None
    confused: tuple[Confused, ...] = ()
    adopted: Adopted | None = None

    @property
    def kept(self) -> EpochLine | None:
        """The epoch whose weights stayed."""
        if not self.curves:
            return None
        if self.kept_epoch is not None:
            return next((one for one in self.curves if one.epoch == self.kept_epoch), None)
        last = [one for one in self.curves if one.phase == self.curves[-1].phase]
        return min(last, key=lambda one: one.val_loss)

    @property
    def honest(self) -> Rate | None:
        """The accuracy to believe: restated where an audit restated it, else that of the validation images."""
        if self.honesty is not None:
            restated = self.honesty.restated
            return restated if restated is not None and restated.n else self.honesty.stated
        return self.accuracy.get("validation")
