"""How often a person is willing to be woken for nothing, and how that is shared out among all that may do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# A warning wakes nobody: one in a month of unchanged nights.
WARN_P: Final = 1 / 30
# Smaller differences are not worth an alarm: training standard deviations, and Cramér's V. A warning: half of it.
FLOOR_NUMERIC: Final = 0.25
FLOOR_CATEGORICAL: Final = 0.2
# Fewer images are too few to compare by themselves; so many at least still count in the sum across nights.
FEWEST: Final = 25
FEWEST_TO_ADD: Final = 10
# Images far from training are also blurred ones of known classes: never an alarm by themselves.
NEVER_ALARMS: Final = frozenset({"out_of_distribution"})
# A family with a thousand members must not take the others' share.
_FAMILIES: Final[Mapping[str, float]] = {
    "properties": 0.50,
    "probabilities": 0.20,
    "predicted_classes": 0.05,
    "embedding": 0.25,
}
_ONLY_WARNS: Final = 0.05
# Where there are slices: the share of the night as a whole; the rest is that of all slices together.
_WHOLE: Final = 0.8
# All nights share one reference. That its own error alone explains an alarm, in one bundle of so many;
UNLUCKY_BUNDLES: Final = 1 / 1000
# and where it explains all but so rare a night, it is an alarm, or a warning.
UNLUCKY_ALARM_P: Final = 0.01
UNLUCKY_WARN_P: Final = 0.2


@dataclass(frozen=True)
class Budget:
    """At most one false alarm in `nights` unchanged nights, on average; everything that compares with training counts.

    Half of it is for what one night shows, half for what only many nights together show.
    """

    nights: int = 365

    @property
    def alarm_p(self) -> float:
        """For everything that one night shows."""
        return 1 / (2 * self.nights)

    @property
    def warn_p(self) -> float:
        """For a warning."""
        return max(WARN_P, self.alarm_p)

    @property
    def sum_alarm(self) -> float:
        """Where the sum across nights is an alarm: it takes at least so many unchanged nights, on average."""
        return 2 * self.nights


def weights_of(families: Sequence[str]) -> tuple[float, ...]:
    """The share of the budget of each metric, by its family; those of one family share alike. Their sum is 1, beside
    what only warns.
    """
    present = {name: share for name, share in _FAMILIES.items() if name in families}
    whole = sum(present.values()) or 1.0
    return tuple(
        (_ONLY_WARNS if name in NEVER_ALARMS else present[name] / whole) / families.count(name) for name in families
    )


def share_of_whole(slices: int) -> float:
    """Of the night's budget, that of the night as a whole, beside so many slices."""
    return _WHOLE if slices else 1.0


def share_of_slice(slices: int) -> float:
    """Of the night's budget, that of one of so many slices."""
    return (1 - _WHOLE) / slices
