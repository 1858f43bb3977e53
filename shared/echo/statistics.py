"""The statistics export: moments of what several experts saw in one dataset, and no row of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from shared.echo.expert import Block
from shared.echo.manifest import SPLITS
from shared.echo.origin import Origin
from shared.echo.schema import from_document, to_document
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes
from shared.seeding import numpy_generator

STATISTICS_VERSION = 1
STATISTICS: Final = "statistics"
"""Stands for all experts at once where a round names a dataset and an expert."""
MAX_WIDTH = 64
"""Wider features are projected to this width."""
SHRINKAGE = 0.01  # of correlations; 0 to 0.1 score alike on phantom banks, 0 leaves them singular
PARTS = SPLITS[:2]
"""Moments to fit by, and moments to choose by; nothing is said of test rows."""
ARRAYS = {
    "num_frames_SK": "i4",
    "num_patients_SK": "i4",
    "mean_SKM": "f8",
    "covariance_SMM": "f8",
}
"""Every array that may travel, and its type; nothing else is accepted."""
_MIN_PATIENTS = 2  # whatever the policy says: a mean over one patient is that patient
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class StatisticsCard:
    """Identity of a statistics export.

    Args:
        blocks: the experts whose columns stand side by side.
        expert_sha256: hash of each expert's weights.
        labels: the dataset's vocabulary, the axis K.
        label_views: views of each label.
        shrinkage: what was taken off the correlations within labels.
        annotated, never_images, folds: the site's other views, as in ``ExportCard``.
    """

    id: str
    site: str
    dataset: str
    dataset_hash: str
    origin: Origin
    blocks: tuple[Block, ...]
    expert_sha256: tuple[str, ...]
    labels: tuple[str, ...]
    label_views: tuple[tuple[str, ...], ...]
    shrinkage: float
    policy_version: int
    created: str
    annotated: tuple[str, ...] = ()
    never_images: tuple[str, ...] = ()
    folds: dict[str, str] = field(default_factory=dict)
    level: Literal["statistics"] = "statistics"
    version: int = STATISTICS_VERSION


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Moments of plain rows; S runs over ``PARTS``, M over the columns of ``moment_columns``.

    Args:
        num_frames_SK: int32; 0 where a label was left out.
        num_patients_SK: int32.
        mean_SKM: by label, zero where it was left out.
        covariance_SMM: one within all labels of a part, shrunk towards its diagonal.
    """

    num_frames_SK: NDArray[np.int32]
    num_patients_SK: NDArray[np.int32]
    mean_SKM: NDArray[np.float64]
    covariance_SMM: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StatisticsExport:
    """Moments of one dataset under its card."""

    card: StatisticsCard
    moments: Moments

    def validate(self) -> None:
        """Check shapes, numbers and counts.

        Raises:
            EchoFedError: FEATURE_WIDTH, FEATURES_NOT_FINITE, TOO_FEW_PATIENTS where no label is
                left or one rests on a single patient, FEATURES_INVALID for constant columns and
                for what is no covariance.
        """
        self._validate_shapes()
        of, name = self.moments, self.card.id
        if not (np.isfinite(of.mean_SKM).all() and np.isfinite(of.covariance_SMM).all()):
            raise EchoFedError(
                Code.FEATURES_NOT_FINITE,
                f"statistics {name} have values that are not finite",
                "retrain or re-extract at the site; nothing was stored",
            )
        has_SK = of.num_frames_SK > 0
        if not has_SK[0].any() or (of.num_patients_SK[has_SK] < _MIN_PATIENTS).any():
            raise EchoFedError(
                Code.TOO_FEW_PATIENTS,
                f"statistics {name} have no training label of enough patients, or a label of one",
                "ingest more patients; labels of too few stay at the site",
            )
        if (of.num_patients_SK[~has_SK] != 0).any() or of.mean_SKM[~has_SK].any():
            raise _invalid(name, "describe a label that has no frames")
        for covariance_MM in of.covariance_SMM[has_SK.any(axis=1)]:
            _expect_covariance(name, covariance_MM)

    def _validate_shapes(self) -> None:
        num, width = len(self.card.labels), sum(moment_widths(self.card.blocks))
        parts = len(PARTS)
        shapes = ((parts, num), (parts, num), (parts, num, width), (parts, width, width))
        for name, shape in zip(ARRAYS, shapes, strict=True):
            found = getattr(self.moments, name).shape
            if found != shape:
                raise EchoFedError(
                    Code.FEATURE_WIDTH,
                    f"{name} of statistics {self.card.id} has shape {found}, its card says {shape}",
                    "the site must condense again with the experts named in the card",
                )

    def to_bytes(self) -> bytes:
        """Pack as safetensors with the card in the metadata."""
        arrays = {name: getattr(self.moments, name) for name in ARRAYS}
        return arrays_to_bytes(arrays, {"card": json.dumps(to_document(self.card))})


def read_statistics(data: bytes) -> StatisticsExport:
    """Unpack and validate statistics.

    Raises:
        EchoFedError: CARD_NEWER, CHECKPOINT_CORRUPT, FEATURES_INVALID for an undeclared array,
            and what ``validate`` raises.
    """
    arrays, metadata = arrays_from_bytes(data)
    if "card" not in metadata:
        raise EchoFedError(
            Code.FEATURES_INVALID, "statistics came without their card", "ask for them again"
        )
    card = from_document(StatisticsCard, json.loads(metadata["card"]), version=STATISTICS_VERSION)
    found = {name: array.dtype for name, array in arrays.items()}
    if found != {name: np.dtype(kind) for name, kind in ARRAYS.items()} or set(metadata) != {
        "card"
    }:
        raise _invalid(card.id, "hold something undeclared, or lack something")
    export = StatisticsExport(card, Moments(**arrays))
    export.validate()
    return export


def projected_width(block: Block) -> int:
    """Columns that an expert's features take in statistics."""
    return min(block.feature_width, MAX_WIDTH)


def projection(block: Block) -> NDArray[np.float64]:
    """The expert's fixed projection (D, P): orthonormal columns, the identity for narrow features.

    It is drawn from the expert's id, which holds its weights' hash, so that it needs no data and
    both ends know it.
    """
    width = block.feature_width
    if width <= MAX_WIDTH:
        return np.eye(width)
    drawn = numpy_generator(0, "projection", block.expert).normal(size=(width, MAX_WIDTH))
    turned_DP, triangle_PP = np.linalg.qr(drawn)
    fixed_DP: NDArray[np.float64] = turned_DP * np.sign(np.diagonal(triangle_PP))  # QR is unique so
    return fixed_DP


def moment_widths(blocks: Sequence[Block]) -> list[int]:
    """Widths of the columns' groups: features of all experts, their logits, their evidence."""
    return [
        *(projected_width(block) for block in blocks),
        *(len(block.views) for block in blocks),
        *(block.num_evidence for block in blocks),
    ]


def moment_columns(
    blocks: Sequence[Block],
    features: Sequence[NDArray[Any]],
    logits: Sequence[NDArray[Any]],
    evidence: Sequence[NDArray[Any]],
) -> NDArray[np.float64]:
    """Rows (N, M): projected features of all experts, then their logits, then their evidence."""
    projected = [
        rows_ND.astype(np.float64) @ projection(block)
        for block, rows_ND in zip(blocks, features, strict=True)
    ]
    return np.hstack([*projected, *logits, *evidence]).astype(np.float64)


def find_moments(
    columns_NM: NDArray[np.float64],
    label_N: NDArray[np.integer],
    split_N: NDArray[np.integer],
    patient_N: NDArray[np.integer],
    *,
    num_labels: int,
    minimum: int,
) -> Moments:
    """Condense labelled plain rows; a label of too few patients in a part is left out of it.

    Args:
        columns_NM: from ``moment_columns``.
        label_N: in [0, ``num_labels``).
        split_N: place in ``SPLITS``; test rows do not count.
        patient_N: says who is the same.
        num_labels: size of the vocabulary.
        minimum: patients that a label must have.

    Returns:
        Moments with the sample covariance, not yet shrunk.
    """
    width = columns_NM.shape[1]
    num_SK = np.zeros((len(PARTS), num_labels), np.int32)
    patients_SK = np.zeros_like(num_SK)
    mean_SKM = np.zeros((len(PARTS), num_labels, width))
    covariance_SMM = np.zeros((len(PARTS), width, width))
    for part in range(len(PARTS)):
        for label in range(num_labels):
            kept_N = (split_N == part) & (label_N == label)
            num_patients = len(np.unique(patient_N[kept_N]))
            if num_patients < max(minimum, 1):
                continue
            rows_NM = columns_NM[kept_N]
            num_SK[part, label], patients_SK[part, label] = len(rows_NM), num_patients
            mean_SKM[part, label] = rows_NM.mean(axis=0)
            centred_NM = rows_NM - mean_SKM[part, label]
            covariance_SMM[part] += centred_NM.T @ centred_NM
        covariance_SMM[part] /= max(num_SK[part].sum(), 1)
    return Moments(num_SK, patients_SK, mean_SKM, covariance_SMM)


def shrink(moments: Moments, shrinkage: float) -> Moments:
    """Take a share off the correlations within labels: 0 for none, 1 leaves variances alone."""
    kept_MM = shrinkage * np.eye(moments.covariance_SMM.shape[1]) + (1.0 - shrinkage)
    return replace(moments, covariance_SMM=moments.covariance_SMM * kept_MM)


def _expect_covariance(name: str, covariance_MM: NDArray[np.float64]) -> None:
    scale = float(np.abs(np.diagonal(covariance_MM)).max())
    if scale == 0.0:
        raise _invalid(name, "hold nothing that varies within a label")
    is_symmetric = np.abs(covariance_MM - covariance_MM.T).max() <= _ROUNDING * scale
    if not is_symmetric or np.linalg.eigvalsh(covariance_MM)[0] < -_ROUNDING * scale:
        raise _invalid(name, "hold a matrix that is no covariance")


def _invalid(name: str, fault: str) -> EchoFedError:
    return EchoFedError(
        Code.FEATURES_INVALID, f"statistics {name} {fault}", "the site must condense again"
    )
