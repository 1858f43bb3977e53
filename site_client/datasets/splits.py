"""Splits by patient: drawn once from the keyed pseudonyms, kept when a dataset grows."""

from collections.abc import Iterable, Mapping

from shared.echo.manifest import Split


def draw_splits(
    patients: Iterable[str],
    fixed: Mapping[str, Split],
    *,
    val_fraction: float,
    test_fraction: float,
) -> dict[str, Split]:
    """Give every patient a split.

    Args:
        patients: patient keys; their order does not matter, their (keyed, random) values decide.
        fixed: splits that are given or were drawn earlier; a patient never changes sides.
        val_fraction: share of the patients for validation.
        test_fraction: share of the patients for testing.

    Returns:
        Split by patient. From three patients on each split with a share has at least one, unless
        ``fixed`` forbids it.
    """
    everyone = sorted(set(patients))
    splits = {patient: fixed[patient] for patient in everyone if patient in fixed}
    waiting = [patient for patient in everyone if patient not in splits]
    shares: tuple[tuple[Split, float], ...] = (("test", test_fraction), ("val", val_fraction))
    for split, share in shares:
        wanted = _count(len(everyone), share) - sum(found == split for found in splits.values())
        room = max(0, len(waiting) - (len(everyone) >= 3 and "train" not in splits.values()))
        taken = min(max(0, wanted), room)
        splits |= dict.fromkeys(waiting[:taken], split)
        waiting = waiting[taken:]
    return splits | dict.fromkeys(waiting, "train")


def _count(patients: int, share: float) -> int:
    least = 1 if patients >= 3 and share > 0 else 0
    return max(least, round(patients * share))
