"""Reseal: after an upgrade, what has moved since a bundle was sealed; and, once a person agrees, its next version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict

from darkroom.forms import titled
from darkroom.orchestrator.events import bundle_sealed
from flows.in_the_ui import show
from flows.naming import named
from flows.parameters import BundlePath, Promote
from tasks.bundle import Bundle, find_bundle, open_bundle, reseal_bundle
from tasks.bundle.resealing import needs_a_reason
from tasks.goldens import GoldenChange, golden_changes
from tasks.inference import load_engine
from tasks.machine import libraries
from tasks.report.untrusted import in_markdown, visible

# Goldens that are told one by one; a bundle has a few dozen.
_TOLD = 8


class Moved(BaseModel):
    """How a bundle's goldens have moved since it was sealed, and the version that came of it, if any."""

    model_config = ConfigDict(frozen=True)

    bundle_id: str
    changes: tuple[GoldenChange, ...]
    versions: dict[str, tuple[str, str]]
    sealed: str | None = None
    path: str | None = None

    @property
    def moved(self) -> tuple[GoldenChange, ...]:
        """Those that the nightly proof would stop at, the farthest first."""
        found = [change for change in self.changes if change.moved]
        return tuple(sorted(found, key=lambda change: -change.probability))

    def as_text(self) -> str:
        """For a person."""
        if not self.moved:
            return f"{self.bundle_id} holds: none of its {len(self.changes)} golden images has moved."
        otherwise = [change for change in self.moved if change.decides_otherwise]
        lines = [
            f"{len(self.moved)} of {len(self.changes)} golden images of {self.bundle_id} have moved since the seal; "
            f"probabilities by at most {self.moved[0].probability:.2g}, "
            f"{len(otherwise) or 'none'} to another class."
        ]
        lines += [f"  {name} {then} → {now}" for name, (then, now) in self.versions.items()]
        lines += [_line(change) for change in self.moved[:_TOLD]]
        if len(self.moved) > _TOLD:
            lines.append(f"  and {len(self.moved) - _TOLD} more")
        if self.sealed is not None:
            version = Path(str(self.path)).name
            name = Path(str(self.path)).parent.name
            lines.append(f"Sealed as {self.sealed}: {self.path}")
            lines.append(f'Put it into use: darkroom promote {name} {version} --reason "…"')
        return "\n".join(lines)


def _line(change: GoldenChange) -> str:
    how = change.refused or change.pixels or change.tensor or "pixels and tensor as sealed"
    stage = "pixels: " if change.pixels else "tensor: " if change.tensor and not change.refused else ""
    answer = f"{change.before} → {change.after}" if change.decides_otherwise else change.before
    return f"  {change.name}: {stage}{how}; probabilities by {change.probability:.2g}; {answer}"


@flow(name="reseal", flow_run_name=named("{bundle}"))
def reseal(
    bundle: BundlePath,
    agreed: Annotated[bool, titled("Seal the next version")] = False,
    reason: Annotated[str, titled("Reason")] = "",
    promote: Promote = False,
) -> Moved:
    """Show how the golden images of a bundle have moved since its seal; once agreed, seal its next version.

    Args:
        bundle: Folder of a bundle, or models/NAME for the version in use.
        agreed: Switched off, it is only shown what has moved.
        reason: Why, such as the upgrade that moved them. Kept for good; needed to seal.
        promote: Put the new version into use.

    """
    if agreed:
        needs_a_reason(reason)
    opened = open_bundle(find_bundle(bundle))
    moved = compare_goldens(opened)
    if agreed:
        moved = seal_again(opened, moved, reason, promote)
    report_moved(moved)
    if moved.sealed is not None:
        bundle_sealed(moved.sealed, str(moved.path))
    return moved


@task(name="compare the goldens", task_run_name="compare the goldens", cache_policy=NO_CACHE)
def compare_goldens(bundle: Bundle) -> Moved:
    """Every golden from bytes to probabilities, beside what was sealed."""
    manifest = bundle.manifest
    engine = load_engine(bundle.model_path, manifest.embedding_layer, input_shape=bundle.preprocessing.input_shape)
    now = libraries()
    changed = {name: (then, now.get(name, "none")) for name, then in manifest.libraries.items()}
    moved = Moved(
        bundle_id=bundle.id,
        changes=golden_changes(bundle, engine),
        versions={name: both for name, both in changed.items() if both[0] != both[1]},
    )
    for line in moved.as_text().splitlines():
        get_run_logger().info(visible(line, 1000))
    return moved


@task(name="seal it again", task_run_name="seal it again", cache_policy=NO_CACHE)
def seal_again(bundle: Bundle, moved: Moved, reason: str, promote: bool) -> Moved:
    """The next version, with the goldens as they are now."""
    sealed = reseal_bundle(bundle, moved.changes, reason=reason, promote=promote)
    get_run_logger().info("%s is sealed", sealed.id)
    return moved.model_copy(update={"sealed": sealed.id, "path": str(sealed.path)})


@task(name="report", task_run_name="report", cache_policy=NO_CACHE)
def report_moved(moved: Moved) -> None:
    """In the Prefect UI."""
    lines = "\n\n".join(in_markdown(line, 1000) for line in moved.as_text().splitlines())
    show("goldens", moved.bundle_id, lines, moved.bundle_id)
