"""What wrong preparations cost: the arithmetic, and that every bundle carries the table."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expectations.sensitivity import Sensitivity, images_to_tell, measure_sensitivity
from tasks.bundle import Bundle

PINNED = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
LABELS = np.array([0, 0, 1, 0])
GROUPS = np.arange(4)


def measured(*probabilities: np.ndarray) -> Sensitivity:
    variants = [(f"knob={place}", "wrong") for place in range(len(probabilities))]
    return measure_sensitivity(variants, np.stack(probabilities), PINNED, LABELS, GROUPS, {"training=active": "why"})


def moved(row: int, by: float) -> np.ndarray:
    changed = PINNED.copy()
    changed[row] += (by, -by)
    return changed


def test_a_variant_costs_what_it_changes() -> None:
    found = measured(moved(0, -0.6))
    (cost,) = found.costs
    assert (found.images, found.accuracy) == (4, 0.75)
    assert (cost.accuracy, cost.flips, cost.refused) == (0.5, 0.25, 0)
    assert cost.worst == pytest.approx(0.6)
    assert cost.low < cost.accuracy < cost.high
    assert cost.shows == 0.25


def test_a_mistake_can_gain_accuracy() -> None:
    (cost,) = measured(moved(3, 0.2)).costs
    assert (cost.accuracy, cost.flips) == (1.0, 0.25)


def test_a_refused_file_is_an_answer_that_is_missing() -> None:
    refused = PINNED.copy()
    refused[1] = np.nan
    (cost,) = measured(refused).costs
    assert (cost.accuracy, cost.flips, cost.worst, cost.shows, cost.refused) == (0.5, 0.25, 0.0, 0.25, 1)


@pytest.mark.parametrize(("by", "shows"), [(0.0, 0.0), (0.0009, 0.0), (0.0011, 0.25)])
def test_a_change_shows_from_a_thousandth_on(by: float, shows: float) -> None:
    (cost,) = measured(moved(0, -by)).costs
    assert cost.shows == shows
    assert (cost.images_to_tell is None) == (shows == 0)


def test_the_costliest_comes_first() -> None:
    found = measured(PINNED, moved(3, 0.2), moved(0, -0.6), moved(2, -0.01), moved(2, 0.02))
    assert [cost.variant for cost in found.costs] == ["knob=2", "knob=4", "knob=3", "knob=0", "knob=1"]


def test_what_is_sealed_comes_back() -> None:
    found = measured(PINNED, moved(0, -0.6))
    assert Sensitivity.from_json(found.to_json()) == found
    assert json.loads(found.to_json())["not_shown"] == {"training=active": "why"}


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 variants of 4 images"):
        measure_sensitivity([("a", ""), ("b", "")], PINNED[None], PINNED, LABELS, GROUPS)


@pytest.mark.parametrize(
    ("showing", "n", "images"),
    [(0, 50, None), (50, 50, 1), (49, 50, 1), (25, 50, 5), (10_000, 20_000, 5), (1, 2, 11), (3, 3, 2)],
)
def test_images_to_tell_in_cases(showing: int, n: int, images: int | None) -> None:
    assert images_to_tell(showing, n) == images


@given(st.integers(1, 200), st.data())
def test_what_shows_more_often_is_told_from_fewer_images(n: int, data: st.DataObject) -> None:
    showing = data.draw(st.integers(1, n))
    fewer, more = images_to_tell(showing, n), images_to_tell(min(n, showing + 1), n)
    assert more is not None
    assert fewer is None or more <= fewer


@pytest.mark.parametrize(("showing", "n"), [(12, 50), (35, 50), (5, 12)])
def test_so_many_images_do_tell_it(showing: int, n: int) -> None:
    """Drawn: the share as n images leave it open, then so many new ones; one fewer is not enough."""
    needed = images_to_tell(showing, n)
    assert needed is not None
    share = np.random.default_rng(0).beta(showing + 0.5, n - showing + 0.5, 200_000)
    assert ((1 - share) ** needed).mean() <= 0.0505
    assert ((1 - share) ** (needed - 1)).mean() >= 0.0495


def test_every_bundle_carries_the_table(bundle: Bundle) -> None:
    found = Sensitivity.from_json((bundle.path / "sensitivity.json").read_text())
    assert found.images == 12
    assert len(found.costs) + len(found.not_shown) >= 40
    shown = [cost for cost in found.costs if cost.images_to_tell is not None]
    assert len(shown) >= 20
    assert found.costs[0].accuracy <= found.accuracy
    card = (bundle.path / "card.html").read_text()
    assert "What a wrong preparation would cost" in card
    assert all(cost.variant in card for cost in shown)
    assert "wrong preparation would cost" in (bundle.path / "card.md").read_text()
