"""Splits by patient: told by a keyed hash of each, kept when a dataset grows."""

import hashlib
from collections.abc import Iterable, Mapping

from shared.echo.manifest import Split

_LEAST = 0.75  # of its share, that a split has even where chance gave it less
_FEW = 5  # patients, that test and validation have if their share is as many, else all of it
_ORDER: tuple[Split, ...] = ("test", "train", "val")
"""Along the line of chances: what is near the end of one split is near the next."""


def draw_splits(
    patients: Iterable[str],
    fixed: Mapping[str, Split],
    *,
    val_fraction: float,
    test_fraction: float,
) -> dict[str, Split]:
    """Give every patient a split.

    A patient's side is told by its own pseudonym, whoever else is there. Among few patients chance
    may starve a split: then it is filled with those nearest to it, to three quarters of its share;
    test and validation to the whole of it where that is five patients or fewer.

    Args:
        patients: patient keys; they are keyed hashes, so nobody else can tell their sides.
        fixed: splits that are given or were drawn earlier; a patient never changes sides.
        val_fraction: share of the patients for validation.
        test_fraction: share of the patients for testing.

    Returns:
        Split by patient. From three patients on each split with a share has at least one, unless
        ``fixed`` forbids it.
    """
    chances = {patient: _chance(patient) for patient in sorted(set(patients))}
    shares: dict[Split, float] = {
        "test": test_fraction,
        "val": val_fraction,
        "train": max(0.0, 1 - test_fraction - val_fraction),
    }
    splits = {
        patient: fixed.get(patient) or _side(chance, shares) for patient, chance in chances.items()
    }
    movable = {patient: chance for patient, chance in chances.items() if patient not in fixed}
    least = {split: _least(split, share, len(chances)) for split, share in shares.items()}
    for split in shares:
        while _count(splits, split) < least[split]:
            patient = _nearest(split, splits, movable, least)
            if patient is None:
                break
            splits[patient] = split
    return splits


def _chance(patient: str) -> float:
    """Uniform in [0, 1), the same for the same patient."""
    digest = hashlib.sha256(f"split {patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _side(chance: float, shares: Mapping[Split, float]) -> Split:
    """Test from the lower end, validation from the upper: a change of one share moves one end."""
    if chance < shares["test"]:
        return "test"
    return "val" if chance >= 1 - shares["val"] else "train"


def _least(split: Split, share: float, num_patients: int) -> int:
    if share <= 0 and split != "train":
        return 0
    whole = share * num_patients
    few = 0 if split == "train" else min(whole, _FEW)
    return max(int(max(few, _LEAST * whole)), int(num_patients >= 3 or split == "train"))


def _nearest(
    wanting: Split,
    splits: Mapping[str, Split],
    movable: Mapping[str, float],
    least: Mapping[Split, int],
) -> str | None:
    """Of the split that can spare most, the patient nearest to the one that is in want."""
    spare = {split: _count(splits, split) - least[split] for split in _ORDER}
    givers = {splits[patient] for patient in movable} - {wanting}
    giver = max(sorted(givers), key=lambda split: spare[split], default=None)
    if giver is None or spare[giver] < 1:
        return None
    own = [patient for patient in movable if splits[patient] == giver]
    is_below = _ORDER.index(wanting) < _ORDER.index(giver)
    return (min if is_below else max)(own, key=lambda patient: movable[patient])


def _count(splits: Mapping[str, Split], split: Split) -> int:
    return sum(found == split for found in splits.values())
