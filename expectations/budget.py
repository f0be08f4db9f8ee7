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


A_YEAR: Final = Budget()


@dataclass(frozen=True)
class Verification:
    """What false alarms the bundle's own images gave, on nights that the reference they were held against had not seen.

    `nights` were drawn, of `sizes` images; `lowest` are the p-values of those that would be an alarm at a budget of
    some nights (0: at none). They share images, and are worth `worth` independent nights. `refused` says why nothing
    was measured.
    """

    nights: int = 0
    worth: int = 0
    sizes: tuple[int, ...] = ()
    lowest: tuple[float, ...] = ()
    sessions: int = 0
    refused: str = ""

    def rate(self, budget: Budget) -> float:
        """Share of the drawn nights that are an alarm by themselves."""
        return self.alarms(budget) / max(self.nights, 1)

    def alarms(self, budget: Budget) -> int:
        """How many of the drawn nights are an alarm by themselves."""
        return sum(p <= budget.alarm_p for p in self.lowest)

    def interval(self, budget: Budget) -> tuple[float, float]:
        """95 % interval of the rate (Clopper & Pearson, 1934), with as many nights as the drawn ones are worth."""
        from scipy.special import betaincinv

        alarms = self.rate(budget) * self.worth
        low = float(betaincinv(alarms, self.worth - alarms + 1, 0.025)) if alarms > 0 else 0.0
        return low, float(betaincinv(alarms + 1, max(self.worth - alarms, 1e-9), 0.975))

    def holds(self, budget: Budget) -> bool:
        """Whether it was measured, and does not speak against the budget."""
        return not self.refused and self.interval(budget)[0] <= budget.alarm_p

    def sentence(self, budget: Budget) -> str:
        """For a person: target and measured rate, or why there is none."""
        target = f"The budget is one false alarm in {budget.nights:,} nights"
        if self.refused:
            return f"{target}; not verified: {self.refused}."
        low, high = self.interval(budget)
        return (
            f"{target}{'' if self.holds(budget) else ', and it is not kept'}. Of {self.nights:,} nights drawn from "
            f"images that the reference had not seen, {self.rate(budget):.2%} are an alarm by themselves, where "
            f"{budget.alarm_p:.2%} may be (they are worth {self.worth:,} independent nights: "
            f"95 % interval {low:.1%} to {high:.1%})."
        )


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
