"""What is promised of an alarm: seldom for nothing, always for something, and as fast as a night needs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_corruptions import corruptions
from benchmarks.harness import Measured, Row
from benchmarks.night_causes import causes
from benchmarks.rivals import RULES
from benchmarks.unchanged import SIZES, Nights, World, bundle, draw, learned, nights, sketched
from darkroom.schemas import NUMERIC_PROPERTIES
from expectations.across_nights import added, evidence
from expectations.budget import A_YEAR, share_of_slice, share_of_whole
from expectations.drift import judge, smallest_effects
from expectations.reference import DriftReference

BUNDLES, NIGHTS = 20, 1000
_AT_ONCE = 50
_HOME = Path(__file__).resolve().parents[1]
_SLICES = 5
# World, images of the reference, share held out.
WORLDS: Mapping[str, tuple[World, int, float]] = {
    "independent": (World(1, 0.0), 1000, 0.2),
    "sessions": (World(10, 0.3), 1500, 0.25),
    "small": (World(1, 0.0), 206, 0.5),
}
# A property of each kind, as benchmarks.unchanged.values makes them.
GAUSSIAN = ("properties", "luminance_std")
PROPERTIES = (GAUSSIAN, ("properties", "sharpness"), ("properties", "noise"), ("properties", "clipped_white"))
ASKED = {"1.0_50": (1.0, 50), "0.5_200": (0.5, 200), "0.4_500": (0.4, 500)}


def false_alarms() -> Mapping[str, Measured]:
    """Unchanged nights that no bundle has seen: families, slices and the sum across nights may all raise an alarm."""
    figures = {}
    for name, (world, images, held) in WORLDS.items():
        rates, by_night, by_slice, by_sum, warned = [], 0, 0, 0, 0
        for number in range(BUNDLES):
            random = np.random.default_rng([1, number, world.session, images])
            reference = bundle(world, random, images, held)
            alone, sliced, p_beyond, warnings = [], [], [], 0
            for n in SIZES:
                for _ in range(NIGHTS // len(SIZES) // _AT_ONCE):
                    found = nights(reference, world, random, _AT_ONCE, n)
                    judged = judge(reference, *found.whole())
                    alone.append(judged.alarms(reference, A_YEAR, share_of_whole(_SLICES)).any(axis=1))
                    warnings += int(judged.warns(reference, A_YEAR, share_of_whole(_SLICES)).any(axis=1).sum())
                    sliced.append(_slice_alarms(reference, found))
                    p_beyond.append(judged.p_beyond)
            sums = _sum_alarms(reference, random.permutation(np.concatenate(p_beyond)))
            either = np.concatenate(alone) | np.concatenate(sliced)
            rates.append((int(either.sum()) + sums) / NIGHTS)
            by_night += int(np.concatenate(alone).sum())
            by_slice += int((np.concatenate(sliced) & ~np.concatenate(alone)).sum())
            by_sum += sums
            warned += warnings
        note = (
            f"{BUNDLES} bundles of {images:,} images x {NIGHTS:,} nights: {by_night} by the night, {by_slice} by a "
            f"slice, {by_sum} by the sum; {np.mean(rates) * 365:.2f} a year; "
            f"warned in {warned / BUNDLES / NIGHTS:.1%} of nights"
        )
        figures[f"unchanged_{name}_mean"] = Measured(float(np.mean(rates)), note, rates)
        figures[f"unchanged_{name}_worst_bundle"] = Measured(max(rates), f"of {BUNDLES}", rates)
    return figures


def power() -> Mapping[str, Measured]:
    """One property moved, the reference of 1,000 images; the share of nights in which it is an alarm, or a warning."""
    world = World(1, 0.0)
    seen: dict[str, list[tuple[int, int]]] = {}
    share = share_of_whole(_SLICES)
    for number in range(BUNDLES):
        random = np.random.default_rng([2, number])
        reference = bundle(world, random, 1000, 0.2)
        for asked, (effect, n) in (*ASKED.items(), ("0.3_500", (0.3, 500))):
            for key in PROPERTIES:
                moved = effect if random.random() < 0.5 else -effect
                judged = judge(reference, *nights(reference, world, random, _AT_ONCE, n, {key: moved}).whole())
                verdicts = judged.warns if asked == "0.3_500" else judged.alarms
                found = int(verdicts(reference, A_YEAR, share)[:, _place(reference, key)].sum())
                seen.setdefault(f"{asked} {key[1]}", []).append((found, _AT_ONCE))
    shares = {name: float(np.sum(found, axis=0)[0] / np.sum(found, axis=0)[1]) for name, found in seen.items()}
    figures = {}
    for asked in (*ASKED, "0.3_500"):
        told = {name.partition(" ")[2]: value for name, value in shares.items() if name.startswith(f"{asked} ")}
        note = ", ".join(f"{name} {value:.1%}" for name, value in told.items())
        kind = "warn" if asked == "0.3_500" else "alarm"
        figures[f"power_{kind}_{asked}"] = Measured(min(told.values()), note, [told])
    return figures


def power_curve() -> Mapping[str, Measured]:
    """Nights moved by exactly the smallest detectable effect that is told of them: are 95 of 100 an alarm?"""
    worst, notes = 0.0, []
    worlds = {
        "100 images": (World(1, 0.0), 100, 0.5),
        "300 images": (World(1, 0.0), 300, 0.5),
        "1,000 images": (World(1, 0.0), 1000, 0.2),
        "60 sessions of 10": (World(10, 0.3), 600, 0.5),
        "150 sessions of 10": (World(10, 0.3), 1500, 0.25),
    }
    trials = {}
    for name, (world, images, held) in worlds.items():
        for n in (50, 200, 1000):
            found, effects, count = 0, [], 0
            for number in range(3 * BUNDLES):
                random = np.random.default_rng([3, number, images, n])
                reference = bundle(world, random, images, held)
                place = _place(reference, GAUSSIAN)
                effect = float(smallest_effects(reference, np.full(len(reference.metrics), n), A_YEAR)[place])
                if np.isnan(effect):
                    continue
                moved = effect if random.random() < 0.5 else -effect
                drawn = nights(reference, world, random, _AT_ONCE // 5, n, {GAUSSIAN: moved})
                alarms = judge(reference, *drawn.whole()).alarms(reference, A_YEAR)
                found, count = found + int(alarms[:, place].sum()), count + len(alarms)
                effects.append(effect)
            share = found / count
            trials[f"{name}, n {n}"] = (share, float(np.mean(effects)))
            notes.append(f"{name}, n {n}: {np.mean(effects):.2f} sd {share:.1%}")
            worst = max(worst, abs(share - 0.95))
    return {"power_curve_error": Measured(worst, "; ".join(notes), [trials])}


def rivals() -> Mapping[str, Measured]:
    """The same nights for everybody, 21 numeric properties: unchanged ones that a rule calls drift in any of them, and
    nights of 200 with one property moved by half a standard deviation that it sees.
    """
    numbers = [("properties", name) for name in NUMERIC_PROPERTIES if name != "bit_depth"]
    figures = {}
    for name, (world, images) in {"independent": (World(1, 0.0), 5000), "sessions": (World(10, 0.3), 5000)}.items():
        said = {rule: np.zeros(len(SIZES)) for rule in (*RULES, "darkroom")}
        saw = dict.fromkeys(said, 0)
        count = 0
        for number in range(5):
            random = np.random.default_rng([4, number, world.session])
            columns = {
                key: column[0].astype(float) for key, column in draw(world, random, 1, images).items() if key in numbers
            }
            every = {key: column[0] for key, column in draw(world, random, 1, images).items()} | columns
            reference = learned(world, every, 0.2)
            place = _place(reference, GAUSSIAN)
            count += 20
            for size, n in enumerate(SIZES):
                found = draw(world, random, 20, n)
                told = _alarms(reference, world, random, found, {})
                said["darkroom"][size] += told.any(axis=1).sum()
                for rule, says in RULES.items():
                    said[rule][size] += sum(
                        any(says(columns[key], found[key][k].astype(float)) for key in numbers) for k in range(20)
                    )
                if n == 200:
                    moved = 0.5 * float(columns[GAUSSIAN].std())
                    saw["darkroom"] += int(_alarms(reference, world, random, found, {GAUSSIAN: 0.5})[:, place].sum())
                    for rule, says in RULES.items():
                        saw[rule] += sum(says(columns[GAUSSIAN], one + moved) for one in found[GAUSSIAN].astype(float))
        table = {rule: ((one / count).tolist(), saw[rule] / count) for rule, one in said.items()}
        notes = [
            f"{rule} {' / '.join(f'{share:.0%}' for share in shares)}, sees {seen:.0%}"
            for rule, (shares, seen) in table.items()
        ]
        sizes = " / ".join(map(str, SIZES))
        figures[f"rivals_{name}_darkroom"] = Measured(
            float(np.mean(table["darkroom"][0])), f"n {sizes}: {'; '.join(notes)}", [table]
        )
    return figures


def cost() -> Mapping[str, Measured]:
    """Everything of a night of 100,000 rows and all properties, 32 components, 20 slices, a year of earlier nights."""
    command = [sys.executable, "-m", "benchmarks.drift_cost"]
    done = subprocess.run(command, cwd=_HOME, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    note = f"{told['images']:,} images, {told['metrics']} metrics, {told['slices']} slices, {told['nights']} nights"
    return {
        "statistics_seconds": Measured(told["seconds"], note, [told]),
        "statistics_gigabytes": Measured(told["gigabytes"], "peak of the whole process"),
    }


ROWS: Mapping[str, Row] = {
    "false_alarms": false_alarms,
    "power": power,
    "power_curve": power_curve,
    "rivals": rivals,
    "cost": cost,
    "corruptions": corruptions,
    "causes": causes,
}


def _place(reference: DriftReference, key: tuple[str, str]) -> int:
    return next(k for k, one in enumerate(reference.metrics) if (one.metric.family, one.metric.name) == key)


def _alarms(
    reference: DriftReference,
    world: World,
    random: np.random.Generator,
    found: Mapping[tuple[str, str], NDArray[Any]],
    moved: Mapping[tuple[str, str], float],
) -> NDArray[np.bool_]:
    whole = sketched(reference, world, random, found, moved).whole()
    return judge(reference, *whole).alarms(reference, A_YEAR, share_of_whole(_SLICES))


def _slice_alarms(reference: DriftReference, found: Nights) -> NDArray[np.bool_]:
    """Which nights have a slice that is an alarm; where sessions are not known none may be."""
    slices = found.slices()
    share = share_of_slice(len(slices))
    alarms = [judge(reference, *one, one_session=True).alarms(reference, A_YEAR, share).any(axis=1) for one in slices]
    return np.any(alarms, axis=0) & reference.knows_sessions


def _sum_alarms(reference: DriftReference, p_beyond: NDArray[np.float64]) -> int:
    """How often the sum across nights is an alarm, acknowledged each time."""
    weights = np.where(reference.alarming, reference.weights, 0.0)
    sums, alarms = np.zeros(len(weights)), 0
    for e in evidence(p_beyond):
        sums = added(sums, e)
        if float((weights * sums).sum()) >= A_YEAR.sum_alarm:
            alarms += 1
            sums = np.zeros(len(weights))
    return alarms
