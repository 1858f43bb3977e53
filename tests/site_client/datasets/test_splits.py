"""Laws of splits by patient."""

import hashlib
import random
from collections import Counter

import pytest

from shared.echo.manifest import Split
from site_client.datasets.splits import draw_splits

SHARES = {"train": 0.65, "val": 0.1, "test": 0.25}


def patients(count: int, site: int = 0) -> list[str]:
    return [hashlib.sha256(f"{site} {number}".encode()).hexdigest() for number in range(count)]


def draw(everyone: list[str], fixed: dict[str, Split] | None = None) -> dict[str, Split]:
    return draw_splits(everyone, fixed or {}, val_fraction=0.1, test_fraction=0.25)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10, 40])
def test_every_patient_has_one_split_and_three_fill_all(count: int) -> None:
    splits = draw(patients(count))
    assert set(splits) == set(patients(count))
    assert "train" in splits.values()
    assert (set(splits.values()) == {"train", "val", "test"}) == (count >= 3)


def test_shares_are_kept_on_the_whole() -> None:
    counts = Counter(draw(patients(4000)).values())
    for split, share in SHARES.items():
        spread = (share * (1 - share) * 4000) ** 0.5
        assert abs(counts[split] - share * 4000) < 3 * spread


@pytest.mark.parametrize("count", [8, 16, 37, 80])
@pytest.mark.parametrize("site", range(25))
def test_chance_starves_no_split_of_few_patients(count: int, site: int) -> None:
    counts = Counter(draw(patients(count, site)).values())
    for split, share in SHARES.items():
        assert counts[split] >= int(0.75 * share * count)
        assert split == "train" or counts[split] >= min(5, int(share * count))


def test_a_side_is_a_patient_s_own_whoever_else_is_there() -> None:
    few, many = draw(patients(300)), draw(patients(900))
    assert all(many[patient] == split for patient, split in few.items())


def test_another_test_share_leaves_validation_alone() -> None:
    less = draw_splits(patients(300), {}, val_fraction=0.1, test_fraction=0.1)
    more = draw_splits(patients(300), {}, val_fraction=0.1, test_fraction=0.3)
    for split in ("val", "test"):
        assert {p for p in less if less[p] == split} <= {p for p in more if more[p] == split}


def test_order_and_repetition_do_not_matter(seed: int) -> None:
    shuffled = patients(20) * 2
    random.Random(seed).shuffle(shuffled)
    assert draw(shuffled) == draw(patients(20))


@pytest.mark.parametrize("site", range(10))
def test_nobody_changes_sides_when_a_small_dataset_grows(site: int) -> None:
    before = draw(patients(6, site))
    after = draw(patients(30, site), before)
    assert all(after[patient] == split for patient, split in before.items())


@pytest.mark.parametrize("site", range(25))
def test_a_given_test_part_leaves_validation_its_patient(site: int) -> None:
    everyone = patients(6, site)
    splits = draw_splits(everyone, {everyone[0]: "test"}, val_fraction=0.1, test_fraction=0.0)
    assert Counter(splits.values())["test"] == 1
    assert "val" in splits.values()


def test_given_splits_are_honoured() -> None:
    given: dict[str, Split] = dict.fromkeys(patients(5), "test")
    splits = draw(patients(8), given)
    assert all(splits[patient] == "test" for patient in given)
    assert "train" in splits.values()
