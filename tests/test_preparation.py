"""Inferring a preparation: laws of the set and of certainty, and the search on a model whose preparation is known."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from darkroom.errors import WrongUse
from expectations.linear_head import fit_head, head_probabilities
from expectations.paired import better_than
from expectations.preparation import Candidate, Inferred, infer
from flows.preparing import CANDIDATES, infer_preparation
from tasks.inference import Outputs
from tasks.knobs import Preprocessing
from tasks.preprocessing import prepare
from tasks.presets import named_values, preset
from tasks.published import SCALINGS, geometries, in_words, knob_families, scaled, scaling_of
from tests.tiny import encoded

CLASSES = 4
FAMILIES = ({"scaling": s, "channel_order": o, "fit": f} for s in ("tf", "unit") for o in ("rgb", "bgr") for f in "abc")
GRID = tuple(Candidate(" ".join(families.values()), families) for families in FAMILIES)
# How far each wrong value moves a logit, beside the true one.
HARM = {"scaling": 2.5, "channel_order": 0.8, "fit": 0.4}


@dataclass(frozen=True)
class Sample:
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    truth: str


def sampled(seed: int, n: int = 150, harm: float = 1.0) -> Sample:
    """A model of four classes, right on about 85 %, overconfident; each wrong value adds noise of its own to logits."""
    rng = np.random.default_rng(seed)
    truth = GRID[rng.integers(len(GRID))]
    labels = rng.integers(0, CLASSES, n)
    logits = rng.normal(0, 1.4, (n, CLASSES)) + 3.2 * np.eye(CLASSES)[labels]
    moved = {(family, value): rng.normal(0, 1, (n, CLASSES)) for one in GRID for family, value in one.families.items()}
    answers = []
    for one in GRID:
        wrong = [item for item in one.families.items() if truth.families[item[0]] != item[1]]
        off = sum((HARM[item[0]] * harm * moved[item] for item in wrong), np.zeros((n, CLASSES)))
        answers.append(softmax(1.5 * (logits + off)))
    return Sample(np.stack(answers), labels, truth.name)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def one_with(found: Inferred) -> dict[str, tuple[str, ...]]:
    return {row.name: row.one_with for row in found.ranking}


def weights(found: Inferred) -> dict[str, float]:
    return {row.name: row.weight for row in found.ranking}


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(len(GRID))), seed=st.integers(0, 5))
def test_the_order_of_the_candidates_does_not_matter(order: list[int], seed: int) -> None:
    sample = sampled(seed)
    straight = infer(sample.probabilities, sample.labels, GRID)
    shuffled = infer(sample.probabilities[order], sample.labels, [GRID[c] for c in order])
    assert shuffled == straight


def test_the_order_of_the_images_does_not_matter() -> None:
    sample = sampled(3)
    order = np.random.default_rng(0).permutation(len(sample.labels))
    shuffled = infer(sample.probabilities[:, order], sample.labels[order], GRID)
    straight = infer(sample.probabilities, sample.labels, GRID)
    assert [row.name for row in shuffled.ranking] == [row.name for row in straight.ranking]
    assert weights(shuffled) == pytest.approx(weights(straight), rel=0.01)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 30), which=st.integers(0, len(GRID) - 1), times=st.integers(1, 6))
def test_a_candidate_that_is_there_twice_counts_once(seed: int, which: int, times: int) -> None:
    sample = sampled(seed)
    twins = [Candidate(f"twin {number}", GRID[which].families) for number in range(times)]
    p = np.concatenate([sample.probabilities, np.repeat(sample.probabilities[which : which + 1], times, axis=0)])
    alone, beside = infer(sample.probabilities, sample.labels, GRID), infer(p, sample.labels, [*GRID, *twins])
    assert beside.groups == alone.groups
    assert set(alone.plausible) == set(beside.plausible) - {twin.name for twin in twins}
    assert {name: weights(beside)[name] for name in weights(alone)} == pytest.approx(weights(alone))
    row = next(row for row in beside.ranking if row.name == GRID[which].name)
    assert {twin.name for twin in twins} <= set(row.one_with)


def test_those_that_flip_less_than_three_percent_count_as_one_and_a_chain_of_small_steps_does_not() -> None:
    n = 200
    labels = np.zeros(n, np.int64)
    steps = []
    for step in range(4):  # each flips 2 % against the one before, 6 % from end to end
        p = np.tile([0.9, 0.1], (n, 1))
        p[: step * 4] = [0.1, 0.9]
        steps.append(p)
    found = infer(np.stack(steps), labels, [Candidate(str(step), {"step": str(step)}) for step in range(4)])
    groups = {frozenset((row.name, *row.one_with)) for row in found.ranking}
    assert groups == {frozenset("01"), frozenset("23")}


def test_with_more_images_the_set_shrinks() -> None:
    sizes = [
        np.mean([infer(s.probabilities, s.labels, GRID).groups for s in (sampled(seed, n) for seed in range(12))])
        for n in (20, 80, 320)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_set_holds_the_truth_and_nothing_is_falsely_certain() -> None:
    held, named = [], 0
    for seed in range(60):
        sample = sampled(seed, n=100)
        found = infer(sample.probabilities, sample.labels, GRID)
        true = next(one for one in GRID if one.name == sample.truth)
        held.append(sample.truth in found.plausible)
        for one in found.certainties:
            assert not one.certain or one.value == true.families[one.family], (seed, one)
            named += one.certain
    assert np.mean(held) >= 0.95
    assert named > 60  # and yet it dares to say something


def test_where_candidates_answer_alike_nothing_is_certain() -> None:
    for seed in range(10):
        sample = sampled(seed, harm=0.0)
        found = infer(sample.probabilities, sample.labels, GRID)
        assert not [one for one in found.certainties if one.certain]
        assert len(found.plausible) == len(GRID)
        assert found.groups == 1


def test_what_had_no_rival_is_not_certain() -> None:
    sample = sampled(1)
    only = [number for number, one in enumerate(GRID) if one.families["scaling"] == "tf"]
    found = infer(sample.probabilities[only], sample.labels, [GRID[c] for c in only])
    assert found.certainty("scaling").possible == ("tf",)
    assert not found.certainty("scaling").certain


def test_what_photos_cannot_prove_is_never_certain() -> None:
    sample = sampled(1)
    free = infer(sample.probabilities, sample.labels, GRID)
    bound = infer(sample.probabilities, sample.labels, GRID, provable=["fit"])
    assert free.certainty("scaling").certain
    assert not bound.certainty("scaling").certain
    assert bound.certainty("scaling").weight == free.certainty("scaling").weight


def test_one_overconfident_miss_does_not_decide() -> None:
    sample = sampled(5)
    p = sample.probabilities.copy()
    place = [one.name for one in GRID].index(sample.truth)
    wrong = (sample.labels[0] + 1) % CLASSES
    p[place, 0] = np.where(np.arange(CLASSES) == wrong, 1.0, 0.0)
    assert sample.truth in infer(p, sample.labels, GRID).plausible


def test_an_image_that_one_decoder_refuses_speaks_neither_for_nor_against_it() -> None:
    sample = sampled(2)
    p = sample.probabilities.copy()
    p[4, :15] = np.nan
    found, before = infer(p, sample.labels, GRID), infer(sample.probabilities, sample.labels, GRID)
    row = next(row for row in found.ranking if row.name == GRID[4].name)
    assert row.refused == 15
    assert row.accuracy.value == (p[4, 15:].argmax(axis=1) == sample.labels[15:]).mean()
    assert found.ranking[0].name == before.ranking[0].name


def test_copies_of_one_session_count_once() -> None:
    sample = sampled(8, n=60)
    often = np.tile(np.arange(60), 5)
    alone = infer(sample.probabilities, sample.labels, GRID)
    copies = infer(sample.probabilities[:, often], sample.labels[often], GRID, groups=often)
    blind = infer(sample.probabilities[:, often], sample.labels[often], GRID)
    assert [row.name for row in copies.ranking] == [row.name for row in alone.ranking]
    assert weights(copies) == pytest.approx(weights(alone), abs=0.02)
    assert blind.ranking[0].weight > alone.ranking[0].weight + 0.05
    assert copies.ranking[0].accuracy.low == pytest.approx(alone.ranking[0].accuracy.low, abs=0.02)


def test_a_better_preparation_than_ones_own_is_told_with_its_interval() -> None:
    sample = sampled(4, n=600)
    worst = infer(sample.probabilities, sample.labels, GRID).ranking[-1].name
    names = [one.name for one in GRID]
    found = infer(sample.probabilities, sample.labels, GRID)
    better = better_than(worst, one_with(found), sample.probabilities, sample.labels, names)
    assert better is not None
    assert better.difference.low > 0
    assert better.difference.value == pytest.approx(better.accuracy - better.than_accuracy)
    assert better_than(better.name, one_with(found), sample.probabilities, sample.labels, names) is None


def test_of_many_that_are_as_good_none_is_called_better() -> None:
    called = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, CLASSES, 150)
        p = np.stack([softmax(rng.normal(0, 1, (150, CLASSES)) + 2 * np.eye(CLASSES)[labels]) for _ in GRID])
        names = [one.name for one in GRID]
        called += better_than(names[0], one_with(infer(p, labels, GRID)), p, labels, names) is not None
    assert called <= 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: (s.probabilities[:, :9], s.labels[:9], GRID), "too few labelled images"),
        (lambda s: (s.probabilities, s.labels + 1, GRID), "no class of the model"),
        (lambda s: (s.probabilities[:3], s.labels, GRID), "do not fit"),
        (lambda s: (s.probabilities[:2], s.labels, [GRID[0], GRID[0]]), "one name"),
        (lambda s: (np.full_like(s.probabilities, np.nan), s.labels, GRID), "no candidate reads"),
    ],
    ids=["nine images", "label beyond", "shapes", "names", "unread"],
)
def test_what_cannot_be_inferred_from_is_refused(change: Any, says: str) -> None:
    with pytest.raises(WrongUse, match=says):
        infer(*change(sampled(0)))


# --- the search ------------------------------------------------------------------------------------------------------

SIZE = (24, 32)


def photo(seed: int, label: int) -> bytes:
    """Not square; a class is a tint and a texture, with much noise."""
    rng = np.random.default_rng(1000 * label + seed)
    coarse = rng.normal(128, 40, (6, 9, 3)) + np.array([[25, 0, -25], [-25, 0, 25], [0, 0, 0]])[label]
    picture = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize((100, 60), Image.Resampling.BICUBIC)
    fine = np.asarray(picture).astype(float) + rng.normal(0, 18 if label == 2 else 6, (60, 100, 3))
    return encoded(Image.fromarray(np.clip(fine, 0, 255).astype(np.uint8)), quality=92)


def seen(tensors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a tensor (n, h, w, 3): mean and texture of each channel, as a network's first layers might."""
    coarse = tensors.reshape(len(tensors), 3, 8, 4, 8, 3).mean(axis=(2, 4)).reshape(len(tensors), -1)
    texture = np.abs(np.diff(tensors, axis=2)).mean(axis=(1, 2))
    return np.tanh(np.concatenate([coarse, 4 * texture], axis=1)).astype(np.float32)


@dataclass(frozen=True)
class Learned:
    """An engine that learned under one preparation."""

    weights: NDArray[np.float32]
    name: str = "learned"
    input_shape: tuple[int, int, int] = (*SIZE, 3)

    def run(self, tensors: NDArray[np.float32]) -> Outputs:
        x = seen(tensors)
        return Outputs(head_probabilities(x, self.weights), x)


def learned(truth: Preprocessing) -> Learned:
    files = [(photo(seed, label), label) for label in range(3) for seed in range(60)]
    x = seen(np.stack([prepare(data, truth).tensor for data, _ in files]))
    return Learned(fit_head(x, np.array([label for _, label in files]), 3))


LABELS = np.repeat(np.arange(3), 20)
IMAGES = [photo(seed, label) for label in range(3) for seed in range(100, 120)]


def inferred(truth: Preprocessing, **arguments: Any) -> Any:
    return infer_preparation(learned(truth), IMAGES, LABELS, size=SIZE, progress=_quiet, **arguments)


def _quiet(stage: str, done: int, total: int, note: str) -> None:
    pass


@pytest.mark.parametrize("scaling", ["tf", "unit"])
def test_the_search_finds_the_scaling_that_a_model_learned_under(scaling: str) -> None:
    truth = preset("load_img", size=SIZE, interpolation="bilinear", values=scaled(scaling))
    found = inferred(truth)
    assert found.certainty("scaling").value == scaling
    assert truth in found.plausible
    assert found.passes <= CANDIDATES * len(IMAGES)
    assert str(len(IMAGES)) in found.as_text()
    assert {one.family for one in found.certainties if one.certain} <= {"scaling", "channel_order"}


def test_ones_own_preparation_is_always_tried_and_never_believed_for_being_stated() -> None:
    truth = preset("load_img", size=SIZE, interpolation="bilinear", values="tf")
    own = preset("load_img", size=SIZE, interpolation="box", values="caffe")
    found = inferred(truth, stated=own)
    assert own in [row.preprocessing for row in found.rows]
    assert own not in found.plausible
    assert found.certainty("scaling").value == "tf"
    assert found.better is not None
    assert "of your own code" in found.as_text()


def test_progress_is_told_and_ends() -> None:
    told: list[tuple[int, int]] = []
    truth = preset("load_img", size=SIZE, values="tf")
    infer_preparation(
        learned(truth), IMAGES, LABELS, size=SIZE, progress=lambda stage, done, total, note: told.append((done, total))
    )
    assert told[-1][0] == told[-1][1] > 0
    assert all(done <= total for done, total in told)


def test_a_published_origin_is_tried_first_and_is_the_own_preparation() -> None:
    truth = preset("teachable_machine", size=SIZE)
    found = inferred(truth, origin="teachable machine")
    assert found.own == truth
    assert truth in found.plausible


def test_a_decoder_that_does_not_read_the_files_is_out_of_the_question() -> None:
    truth = preset("load_img", size=SIZE, values="tf")
    pictures = [encoded(Image.open(io.BytesIO(data)), "TIFF") for data in IMAGES]
    found = infer_preparation(learned(truth), pictures, LABELS, size=SIZE, progress=_quiet)
    assert {row.preprocessing.decode.decoder for row in found.rows} == {"pillow", "opencv"}
    assert not found.certainty("decoder").certain
    with pytest.raises(WrongUse, match="cannot be read as the preparation says"):
        infer_preparation(
            learned(truth),
            pictures,
            LABELS,
            size=SIZE,
            stated=preset("tf_image_resize", size=SIZE, values="tf"),
            progress=_quiet,
        )


# --- what people train with ------------------------------------------------------------------------------------------


def test_every_published_geometry_is_another_one() -> None:
    found = geometries((224, 224))
    assert len({one.digest for one in found}) == len(found) >= 14
    assert len({in_words(one) for one in found}) == len(found)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_scaling_is_known_by_its_word_in_either_order_of_channels(scaling: str, order: str) -> None:
    assert scaling_of(scaled(scaling, order)) == scaling
    one = preset("load_img", size=(8, 8), values=scaled(scaling, order))
    assert knob_families(one)["channel_order"] == order


def test_both_ways_to_write_a_division_by_255_are_one_scaling() -> None:
    assert scaling_of(named_values("identity", divide_by=255.0)) == "unit"
    assert scaling_of(named_values("identity", rescale=2.0)) == "own"
