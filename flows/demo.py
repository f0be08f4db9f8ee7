"""The demo: a drawn world, a training, three nights, and what each of them showed."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.console import Console

import darkroom
from darkroom import demo_world
from darkroom.errors import WrongUse
from darkroom.orchestrator import api
from darkroom.progress import shown
from darkroom.settings import (
    AugmentationOptions,
    ExaminationOptions,
    HeadOptions,
    IntakeOptions,
    NightOptions,
    RunOptions,
    TrainingRecipe,
)

Kind = Literal["good", "dim", "strange"]

NIGHTS: tuple[tuple[Kind, date, str], ...] = (
    ("good", date(2026, 3, 2), "a night like those in training"),
    ("dim", date(2026, 3, 3), "somebody dimmed the lamp, and the lens lost its focus"),
    ("strange", date(2026, 3, 4), "a new kind of part, photos from a phone held upright, and broken files"),
)
RECIPE = TrainingRecipe(
    backbone="SmallConvNet",
    weights="none",
    image_size=64,
    group_by="sub-folder",
    augmentation=AugmentationOptions(degraded_share=0),
    head=HeadOptions(dense_units=64, dropout=0.3, epochs=25, patience=6),
)


# Enough to show where the network breaks, quickly.
EXAMINATION = ExaminationOptions(ladder_images=60, sensitivity_images=20)


@dataclass(frozen=True)
class NightTold:
    """One night of the demo: what was done to it, what darkroom said, and how right the model really was."""

    night: str
    truth: str
    verdict: str
    headline: str
    findings: list[str]
    images: int
    trusted: int
    suspect: int
    quarantined: int
    accuracy: float
    accuracy_trusted: float | None
    page: str


@dataclass(frozen=True)
class Story:
    """The whole demo."""

    bundle: str
    results: str
    validation_accuracy: float
    validation_interval: tuple[float, float]
    nights: list[NightTold]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def demo(folder: Path, *, seed: int = 0, quiet: bool = False) -> Story:
    """Draw, train, seal, score three nights, tell.

    Raises: WrongUse where the folder holds something else already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise WrongUse(
            "The demo's folder is not empty.",
            file=folder,
            expected="a new or an empty folder",
            found=f"{sum(1 for _ in folder.iterdir())} entries",
            todo="name another with --folder, or remove it",
        )
    started = time.perf_counter()
    console = Console(quiet=quiet)
    with api(), shown(console):
        from flows.score import score
        from flows.train import train

        console.print("[bold]1. A world[/bold]: parts on an inspection line, drawn here")
        demo_world.draw_training(folder / "training", seed=seed)
        for kind, night, _ in NIGHTS:
            demo_world.draw_night(folder / "inbox" / f"{night}", kind, seed=seed + 1)
        console.print("[bold]2. A training[/bold]: a small network, from nothing, with whole sessions held out")
        sealed = train(
            folder=folder / "training", models=folder / "models", name="parts", recipe=RECIPE, examination=EXAMINATION
        )
        nights = []
        for number, (_, night, truth) in enumerate(NIGHTS, start=3):
            console.print(f"[bold]{number}. The night of {night}[/bold]: {truth}")
            summary = score(
                bundle=folder / "models" / "parts",
                inbox=str(folder / "inbox" / "{night:%Y-%m-%d}"),
                results=folder / "results",
                night=NightOptions(night=night),
                intake=IntakeOptions(settle_seconds=0),
                run=RunOptions(),
            )
            nights.append(_told(folder, night, truth, summary))
    story = Story(
        bundle=sealed.path,
        results=str(folder / "results"),
        validation_accuracy=sealed.validation_accuracy,
        validation_interval=sealed.validation_interval,
        nights=nights,
        seconds=time.perf_counter() - started,
    )
    _tell(console, story)
    return story


def _told(folder: Path, night: date, truth: str, summary: Any) -> NightTold:
    """Hold the night's rows against the truth that was drawn: the demo's accuracies are measured."""
    rows = darkroom.read(folder / "results", night=night, columns=["path", "predicted_class", "verdict"])
    labels = pd.read_csv(folder / "inbox" / f"{night}.truth.csv")
    known = rows.merge(labels, on="path")
    right = known["predicted_class"] == known["label"]
    trusted = known["verdict"] == "trusted"
    return NightTold(
        night=f"{night}",
        truth=truth,
        verdict=str(summary.verdict),
        headline=summary.headline,
        findings=[finding.what for finding in summary.findings],
        images=summary.counts.scored,
        trusted=summary.trusted,
        suspect=summary.suspect,
        quarantined=summary.counts.quarantined,
        accuracy=float(right.mean()),
        accuracy_trusted=float(right[trusted].mean()) if trusted.any() else None,
        page=str(summary.report),
    )


def _tell(console: Console, story: Story) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "alarm": "red"}
    console.print("\n[bold]What each night showed[/bold]\n")
    table = Table.grid(padding=(0, 2))
    for night in story.nights:
        verdict = Text(night.verdict.upper(), f"bold {styles.get(night.verdict, 'default')}")
        table.add_row(Text(night.night, "bold"), verdict, Text(night.headline))
        table.add_row("", "", Text(f"What was done: {night.truth}.", "dim"))
        table.add_row("", "", Text(_rightness(night), "dim"))
        table.add_row("", "", "")
    console.print(table)
    low, high = story.validation_interval
    console.print(
        f"On held-out sessions the model was right on {story.validation_accuracy:.0%} ({low:.0%} – {high:.0%}). "
        "What is really right, the labels say that were drawn with each night; darkroom did not see them.",
        highlight=False,
    )
    console.print("\n[bold]Open these[/bold]")
    places = {f"page of {night.night}": night.page for night in story.nights}
    places |= {"all nights": f"{story.results}/reports/index.html"}
    places |= {"predictions, Parquet": f"{story.results}/predictions", "bundle": story.bundle}
    places |= {"card of the bundle": f"{story.bundle}/card.html"}
    for name, place in places.items():
        console.print(f"  {name:<22}{_from_here(Path(place))}", soft_wrap=True, highlight=False)
    console.print(f"\nDone in {story.seconds:.0f} s.", highlight=False)


def _from_here(place: Path) -> Path:
    """As it is typed where the person stands."""
    here = Path.cwd()
    return place.relative_to(here) if place.is_relative_to(here) else place


def _rightness(night: NightTold) -> str:
    """Predictions held against the truth, as a sentence."""
    told = f"Really right: {night.accuracy:.0%} of {night.images}"
    if night.trusted:
        told += f", {night.accuracy_trusted:.0%} of the {night.trusted} that darkroom trusts"
    else:
        told += "; darkroom trusts none of them"
    return f"{told}; {night.suspect} suspect, {night.quarantined} set aside."
