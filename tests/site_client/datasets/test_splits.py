"""Laws of splits by patient."""

import hashlib
import random
from collections import Counter

import pytest

from shared.echo.manifest import Split
from site_client.datasets.splits import draw_splits


def patients(count: int) -> list[str]:
    return [hashlib.sha256(bytes([number])).hexdigest() for number in range(count)]


def draw(everyone: list[str], fixed: dict[str, Split] | None = None) -> dict[str, Split]:
    return draw_splits(everyone, fixed or {}, val_fraction=0.1, test_fraction=0.25)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10, 40])
def test_every_patient_has_one_split_and_three_fill_all(count: int) -> None:
    splits = draw(patients(count))
    assert set(splits) == set(patients(count))
    assert "train" in splits.values()
    assert (set(splits.values()) == {"train", "val", "test"}) == (count >= 3)


def test_shares_are_kept() -> None:
    assert Counter(draw(patients(40)).values()) == {"train": 26, "val": 4, "test": 10}


def test_order_and_repetition_do_not_matter(seed: int) -> None:
    shuffled = patients(20) * 2
    random.Random(seed).shuffle(shuffled)
    assert draw(shuffled) == draw(patients(20))


def test_nobody_changes_sides_when_the_dataset_grows() -> None:
    before = draw(patients(12))
    after = draw(patients(30), before)
    assert all(after[patient] == split for patient, split in before.items())
    assert Counter(after.values())["test"] == round(30 * 0.25)


def test_given_splits_are_honoured() -> None:
    given: dict[str, Split] = dict.fromkeys(patients(5), "test")
    splits = draw(patients(8), given)
    assert all(splits[patient] == "test" for patient in given)
    assert "train" in splits.values()
