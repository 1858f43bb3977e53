"""What fitted evidence takes and promises: an expert's own training rows, and one protocol.

Arrays are float64; nothing that is kept describes fewer than ``MIN_PATIENTS`` patients.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import Code, EchoFedError
from shared.shapes import expect

MIN_PATIENTS = 5
"""A class of rows with fewer patients has no mean and adds to no covariance or subspace."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnRows:
    """Rows that an expert was trained on; built by ``own_rows``, which checks them.

    Args:
        class_N: 0.. without a gap; every class has at least ``MIN_PATIENTS`` patients.
        patient_N: patient numbers, which only say who is the same.
    """

    features_ND: NDArray[np.float64]
    logits_NC: NDArray[np.float64]
    class_N: NDArray[np.int64]
    patient_N: NDArray[np.int64]

    def class_means(self) -> NDArray[np.float64]:
        """Mean of the rows of each class (K, D)."""
        sum_KD = np.zeros((self.class_N.max() + 1, self.features_ND.shape[1]))
        np.add.at(sum_KD, self.class_N, self.features_ND)
        means_KD: NDArray[np.float64] = sum_KD / np.bincount(self.class_N)[:, None]
        return means_KD


class Evidence(Protocol):
    """A frozen dataclass whose fields are arrays: means, whitenings, subspaces, never a row.

    ``cls(**evidence_arrays(evidence))`` reads it back.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @classmethod
    def fit(cls, rows: OwnRows) -> Self:
        """Fit on an expert's own training rows."""
        ...

    def score(
        self, features_ND: NDArray[np.floating], logits_NC: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """How much at home the expert is in each row (N); higher = more at home."""
        ...


def own_rows(
    features_ND: NDArray[np.floating],
    logits_NC: NDArray[np.floating],
    label_N: NDArray[np.integer],
    patient_N: NDArray[np.integer],
) -> OwnRows:
    """Check the training rows of an expert and leave out classes of too few patients.

    Raises:
        EchoFedError: SHAPE_MISMATCH; FEATURES_NOT_FINITE; TOO_FEW_PATIENTS where no class is left,
            one row per class among them; FEATURES_INVALID where no column varies.
    """
    num = expect(features_ND, "N D")["N"]
    expect(logits_NC, "N C", N=num)
    expect(label_N, "N", N=num)
    expect(patient_N, "N", N=num)
    if not (np.isfinite(features_ND).all() and np.isfinite(logits_NC).all()):
        raise EchoFedError(
            Code.FEATURES_NOT_FINITE,
            "training rows of an expert have values that are not finite",
            "the site must extract again",
        )
    pairs = np.unique(np.stack([label_N, patient_N], axis=1).astype(np.int64), axis=0)
    labels, num_patients = np.unique(pairs[:, 0], return_counts=True)
    kept_K = labels[num_patients >= MIN_PATIENTS]
    kept_N = np.isin(label_N, kept_K)
    if not kept_N.any():
        raise EchoFedError(
            Code.TOO_FEW_PATIENTS,
            f"no class of an expert's training rows has {MIN_PATIENTS} patients",
            "evidence of features needs more patients; the discrepancy of layers does not",
        )
    kept_ND = features_ND[kept_N].astype(np.float64)
    if not (kept_ND != kept_ND[0]).any():
        raise EchoFedError(
            Code.FEATURES_INVALID,
            "the features of an expert's training rows are constant",
            "retrain the expert; it tells no frame from another",
        )
    return OwnRows(
        kept_ND,
        logits_NC[kept_N].astype(np.float64),
        np.searchsorted(kept_K, label_N[kept_N]),
        patient_N[kept_N].astype(np.int64),
    )


def evidence_arrays(evidence: Evidence) -> dict[str, NDArray[np.float64]]:
    """The fitted state as named arrays, for a weights file."""
    return {field.name: getattr(evidence, field.name) for field in fields(evidence)}
