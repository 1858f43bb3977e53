"""A planted shortcut is named and no other; without one none is; Cramér's V keeps its laws."""

import numpy as np
import pytest
from numpy.typing import NDArray

from site_client.confounds import (
    MAX_LEVELS,
    SHORTCUT_V,
    UNKNOWN,
    Shortcut,
    cramers_v,
    find_shortcuts,
    levels_of,
)

SIZES = ("600x800", "768x1024", "480x640")


def draw_table(seed: int, shape: tuple[int, int], total: int) -> NDArray[np.int64]:
    generator = np.random.default_rng(seed)
    shares = np.outer(
        generator.dirichlet(np.ones(shape[0])), generator.dirichlet(np.ones(shape[1]))
    )
    return generator.multinomial(total, shares.ravel()).reshape(shape)


def find(
    seed: int, *, planted: float = 0.0, num_patients: int = 40, repeats: int = 1
) -> tuple[Shortcut, ...]:
    """Patients with five labels each on a scanner of their own; a share of v0 on a special one."""
    generator = np.random.default_rng(seed)
    rows = []
    for patient in range(num_patients):
        scanner = generator.choice(SIZES)
        for label in range(5):
            is_special = label == 0 and generator.random() < planted
            size = "708x1016" if is_special else str(scanner)
            rows += [(f"v{label}", f"p{patient}", size, float(generator.normal()))] * repeats
    labels, patients, sizes, noise = zip(*rows, strict=True)
    facts = {"size": sizes, "noise": levels_of(noise)}
    return find_shortcuts(facts, labels, patients, minimum=5, generator=np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(4))
def test_without_a_confound_none_is_named(seed: int) -> None:
    assert find(seed) == ()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("planted", [0.4, 0.7, 1.0])
def test_a_planted_confound_is_named_and_nothing_else(seed: int, planted: float) -> None:
    (found,) = find(seed, planted=planted)
    assert (found.label, found.fact, found.value) == ("v0", "size", "708x1016")
    assert found.share_here == 1.0
    assert found.share_overall == pytest.approx(0.2)
    assert found.cramers_v >= SHORTCUT_V


def test_what_chance_does_to_few_patients_is_no_confound() -> None:
    """The association alone would be strong enough at times; shuffled labels are, too."""
    strong, named = 0, 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        labels = ["a", "b"] * 5
        sizes = [str(size) for size in generator.choice(SIZES, 10)]
        counts = [[sizes[side::2].count(size) for size in SIZES] for side in range(2)]
        strong += cramers_v(np.array(counts)) >= SHORTCUT_V
        patients = [f"p{place}" for place in range(10)]
        named += len(
            find_shortcuts({"size": sizes}, labels, patients, minimum=2, generator=generator)
        )
    assert strong >= 5
    assert named == 0


def test_a_stronger_confound_has_a_larger_v() -> None:
    strengths = [find(1, planted=share)[0].cramers_v for share in (0.4, 0.7, 1.0)]
    assert strengths == sorted(strengths)
    assert strengths[-1] == pytest.approx(1.0, abs=0.01)


def test_more_clips_of_the_same_patients_change_nothing() -> None:
    assert find(3, planted=0.7, repeats=4) == find(3, planted=0.7)


def test_a_label_or_value_of_too_few_patients_is_not_judged() -> None:
    assert find(3, planted=1.0, num_patients=4) == ()


def test_a_patient_s_labels_on_one_scanner_are_no_confound() -> None:
    labels = ["a", "b"] * 20
    patients = [f"p{place // 2}" for place in range(40)]
    sizes = [SIZES[place // 2 % 3] for place in range(40)]
    generator = np.random.default_rng(0)
    assert find_shortcuts({"s": sizes}, labels, patients, minimum=2, generator=generator) == ()


@pytest.mark.parametrize("seed", range(5))
def test_v_does_not_depend_on_names_or_sides(seed: int) -> None:
    table = draw_table(seed, (3, 4), 60)
    assert cramers_v(table[::-1, [2, 0, 3, 1]]) == pytest.approx(cramers_v(table))
    assert cramers_v(table.T) == pytest.approx(cramers_v(table))


@pytest.mark.parametrize("size", [2, 5])
def test_v_is_one_where_a_fact_says_all_and_zero_where_there_is_nothing_to_say(size: int) -> None:
    assert cramers_v(20 * np.eye(size, dtype=np.int64)) == pytest.approx(1.0)
    assert cramers_v(np.full((size, size), 7)) == 0.0
    assert cramers_v(np.array([[5, 9, 2]])) == 0.0
    assert cramers_v(np.array([[5, 9, 2], [0, 0, 0]])) == 0.0


def test_v_of_independent_tables_does_not_grow_with_their_size() -> None:
    """The plain V of these tables would be 0.23 and more on average."""
    small, large = (
        np.mean([cramers_v(draw_table(seed, shape, 100)) ** 2 for seed in range(200)])
        for shape in ((2, 2), (6, 8))
    )
    assert max(small, large) < 0.015


def test_few_numbers_are_levels_and_many_are_binned() -> None:
    assert levels_of([33.0, 20.0, None, 33.0], "ms") == ["33 ms", "20 ms", UNKNOWN, "33 ms"]
    many = [float(number) for number in np.random.default_rng(0).permutation(1000)]
    levels = levels_of(many)
    assert len(set(levels)) == MAX_LEVELS
    counts = [levels.count(level) for level in set(levels)]
    assert max(counts) - min(counts) <= 2
    assert levels_of([None, None]) == [UNKNOWN, UNKNOWN]


def test_nothing_has_no_shortcut() -> None:
    generator = np.random.default_rng(0)
    assert find_shortcuts({"size": []}, [], [], minimum=5, generator=generator) == ()
