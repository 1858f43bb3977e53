"""Confounds: labels that can be told from facts of acquisition alone.

What tells a label without looking at the heart is a shortcut that a network may learn instead. Each
label is set against all others; each patient counts once for a label with a fact.

Reference: Bergsma 2013, *A bias-correction for Cramér's V and Tschuprow's T*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHORTCUT_V = 0.3
"""Cramér's V from which an association is a possible shortcut (Cohen 1988: medium)."""
NUM_SHUFFLES = 999
"""Shuffles of the labels, none of which may reach the association that was found."""
MAX_LEVELS = 8
"""Of a fact that is a number; more distinct values are binned by quantiles."""
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A label that a fact of acquisition gives away.

    Args:
        cramers_v: bias-corrected association of the label against all others with the fact, 0 to 1.
        value: the value that speaks most for the label, of those seen in enough patients.
        share_here: share of the label among what has the value; ``share_overall`` among all.
    """

    label: str
    fact: str
    cramers_v: float
    value: str
    share_here: float
    share_overall: float


def cramers_v(counts_RC: NDArray[np.integer]) -> float:
    """Bias-corrected Cramér's V of a table of counts (float64); 0 for one row or one column.

    Independent rows and columns give about 0 whatever the size of the table (Bergsma 2013).
    """
    counts = counts_RC[counts_RC.sum(axis=1) > 0][:, counts_RC.sum(axis=0) > 0]
    rows, columns = counts.shape
    total = int(counts.sum())
    if min(rows, columns) < 2:
        return 0.0
    phi_squared = float(_chi_squared(counts)) / total
    unbiased = max(0.0, phi_squared - (rows - 1) * (columns - 1) / (total - 1))
    sides = (side - (side - 1) ** 2 / (total - 1) for side in (rows, columns))
    smaller = min(sides) - 1
    return float(min(1.0, np.sqrt(unbiased / smaller))) if smaller > 0 else 0.0


def levels_of(numbers: Sequence[float | None], unit: str = "") -> list[str]:
    """A number's levels in words: each value where there are few, else bins of like size."""
    known = np.array([number for number in numbers if number is not None], dtype=np.float64)
    values = np.unique(known)
    if len(values) <= MAX_LEVELS:
        return [UNKNOWN if number is None else _text(number, unit) for number in numbers]
    ends = np.unique(np.quantile(known, np.linspace(0, 1, MAX_LEVELS + 1)[1:], method="lower"))
    names = [f"up to {_text(end, unit)}" for end in ends]
    return [
        UNKNOWN if number is None else names[int(np.searchsorted(ends, number))]
        for number in numbers
    ]


def find_shortcuts(
    facts: Mapping[str, Sequence[str]],
    labels: Sequence[str],
    patients: Sequence[str],
    *,
    minimum: int,
    generator: np.random.Generator,
) -> tuple[Shortcut, ...]:
    """The labels that facts of acquisition give away, strongest first.

    Args:
        facts: levels by name of the fact, one for each clip.
        labels: of each clip.
        patients: key of each clip's patient.
        minimum: a label or value of fewer patients is not judged and not named.
        generator: of the shuffles.
    """
    patients_of = {label: _num_patients(labels, patients, label) for label in sorted(set(labels))}
    judged = [label for label, count in patients_of.items() if count >= minimum]
    found = []
    for fact, levels in facts.items():
        units = sorted(set(zip(patients, labels, levels, strict=True)))
        names = np.array(sorted(set(levels)))
        column_U = np.searchsorted(names, [level for _, _, level in units])
        pairs = {(patient, column) for (patient, _, _), column in zip(units, column_U, strict=True)}
        is_named_C = np.bincount([c for _, c in pairs], minlength=len(names)) >= minimum
        for label in judged:
            row_U = np.array([name == label for _, name, _ in units], dtype=np.int64)
            counts_2C = _count(row_U, column_U, len(names))
            strength = cramers_v(counts_2C)
            is_strong = strength >= SHORTCUT_V and not _is_reached(counts_2C, generator)
            if is_strong and is_named_C.any():
                best, here, overall = _strongest_value(counts_2C, is_named_C)
                value = str(names[best])
                found.append(Shortcut(label, fact, strength, value, here, overall))
    return tuple(sorted(found, key=lambda shortcut: (-shortcut.cramers_v, shortcut.label)))


def _num_patients(labels: Sequence[str], patients: Sequence[str], label: str) -> int:
    return len({key for name, key in zip(labels, patients, strict=True) if name == label})


def _strongest_value(
    counts_2C: NDArray[np.int64], is_named_C: NDArray[np.bool_]
) -> tuple[int, float, float]:
    """The column that speaks most for the label, its share there and overall."""
    total_C = counts_2C.sum(axis=0)
    share_C, overall = counts_2C[1] / total_C, counts_2C[1].sum() / counts_2C.sum()
    weight_C = (share_C - overall) * np.sqrt(total_C)
    best = int(np.where(is_named_C, weight_C, -np.inf).argmax())
    return best, float(share_C[best]), float(overall)


def _is_reached(counts_2C: NDArray[np.int64], generator: np.random.Generator) -> bool:
    """Tell whether the association is reached when the labels are shuffled.

    A shuffled row of a table with fixed sums is a multivariate hypergeometric draw.
    """
    total_C, in_label = counts_2C.sum(axis=0), int(counts_2C[1].sum())
    drawn_SC = generator.multivariate_hypergeometric(total_C, in_label, size=NUM_SHUFFLES)
    shuffled_S2C = np.stack([total_C - drawn_SC, drawn_SC], axis=1)
    return bool((_chi_squared(shuffled_S2C) >= _chi_squared(counts_2C) * (1 - 1e-9)).any())


def _chi_squared(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Pearson's statistic of tables (..., R, C) without empty rows or columns."""
    rows, columns = counts.sum(axis=-1, keepdims=True), counts.sum(axis=-2, keepdims=True)
    expected = rows * columns / counts.sum(axis=(-2, -1), keepdims=True)
    statistic: NDArray[np.float64] = ((counts - expected) ** 2 / expected).sum(axis=(-2, -1))
    return statistic


def _count(
    row_U: NDArray[np.int64], column_U: NDArray[np.integer], num_columns: int
) -> NDArray[np.int64]:
    flat = np.bincount(row_U * num_columns + column_U, minlength=2 * num_columns)
    return flat.reshape(2, num_columns).astype(np.int64)


def _text(number: float, unit: str) -> str:
    return f"{number:.3g} {unit}".strip()
