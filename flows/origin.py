"""Where an adopted model comes from: what it is, what its outputs are called, how its images are prepared, how sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from expectations.measures import Measures
from expectations.sensitivity import Sensitivity
from flows.examination import Ladder
from flows.preparing import InferredPreparation
from flows.single import Single
from tasks.adopting import Matched
from tasks.foreign import ForeignModel
from tasks.preprocessing import Preprocessing
from tasks.published import in_words
from tasks.report.card import Adopted, PreparationLine, Rate

# Preparations that the card lists.
_SHOWN = 12


@dataclass(frozen=True)
class Named:
    """The photos of classes that the model has, and the names of its outputs in their order; how they were found."""

    matched: Matched
    classes: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class Preparation:
    """The preparation that is sealed, how it was chosen, and what was tried."""

    chosen: Preprocessing
    how: str
    inferred: InferredPreparation

    def as_dict(self) -> dict[str, Any]:
        """For the bundle: every preparation that was tried, most likely first, with its knobs."""
        return {
            "chosen": self.chosen.model_dump(mode="json"),
            "how": self.how,
            "images": self.inferred.images,
            "tried": [
                {
                    "name": row.found.name,
                    "accuracy": asdict(row.found.accuracy),
                    "log_likelihood": row.found.log_likelihood,
                    "weight": row.found.weight,
                    "in_set": row.found.in_set,
                    "preprocessing": row.preprocessing.model_dump(mode="json"),
                }
                for row in self.inferred.rows
            ],
        }


@dataclass(frozen=True)
class Outcome:
    """What the photos say of the model. `measures` by half."""

    measures: dict[str, Measures]
    ladder: Ladder | None
    sensitivity: Sensitivity | None
    single: Single

    def to_files(self) -> Mapping[str, bytes]:
        """File name → bytes, for the bundle."""
        sensitivity = {} if self.sensitivity is None else {"sensitivity.json": self.sensitivity.to_json().encode()}
        return {
            **({} if self.ladder is None else self.ladder.to_files()),
            **sensitivity,
            **self.single.to_files(),
        }


@dataclass(frozen=True)
class Origin:
    """All of it, for the card and for a person."""

    model: ForeignModel
    named: Named
    preparation: Preparation

    def sentences(self) -> tuple[str, ...]:
        """How it came to be this bundle."""
        theirs = self.model
        kept = "as a Keras 3 model" if theirs.saved.suffix == ".keras" else "as the frozen graph that it is"
        return (
            f"{theirs.path.name}: {theirs.kind}, kept {kept}; its probabilities differ from the original's by at most "
            f"{theirs.difference:.1e}.",
            self.named.how,
            *self.named.matched.sentences(),
            f"Sealed is: {in_words(self.preparation.chosen)}. {self.preparation.how}",
            *self.preparation.inferred.sentences(),
        )

    def findings(self) -> tuple[str, ...]:
        """What was read in the model itself."""
        return tuple(finding.sentence for finding in self.model.findings)

    def as_dict(self) -> dict[str, Any]:
        """For bundle.json."""
        return {
            "file": self.model.path.name,
            "kind": self.model.kind,
            "origin": self.model.origin,
            "outputs": self.model.outputs,
            "difference": self.model.difference,
            "sentences": list(self.sentences()),
            "findings": list(self.findings()),
            "plausible": [in_words(one) for one in self.preparation.inferred.plausible],
        }

    def shown(self) -> Adopted:
        """For the card: the likeliest preparations, and in any case the sealed one."""
        rows = self.preparation.inferred.rows
        chosen = self.preparation.chosen
        kept = [row for place, row in enumerate(rows) if place < _SHOWN or row.preprocessing == chosen]
        return Adopted(
            self.sentences(),
            self.findings(),
            tuple(
                PreparationLine(
                    row.found.name,
                    Rate(
                        row.found.accuracy.value,
                        row.found.accuracy.low,
                        row.found.accuracy.high,
                        self.preparation.inferred.images - row.found.refused,
                    ),
                    row.found.in_set,
                    row.preprocessing == chosen,
                )
                for row in kept
            ),
        )
