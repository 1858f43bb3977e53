"""The feature export: what one expert saw in one dataset, row by row, without a pixel."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.echo.manifest import SPLITS, not_judged_on
from shared.echo.ontology import load_ontology
from shared.echo.origin import Origin
from shared.echo.schema import from_document, to_document
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, arrays_to_bytes

EXPORT_VERSION = 2
ARRAYS = {
    "frame_N": "i8",
    "patient_N": "i4",
    "clip_N": "i4",
    "label_N": "i2",
    "split_N": "i1",
    "pass_N": "i1",
    "features_ND": "f2",
    "logits_NC": "f4",
    "discrepancy_NL": "f4",
}
"""Every array that may travel, and its type; nothing else is accepted."""


@dataclass(frozen=True, slots=True)
class ExportCard:
    """Identity of an export.

    Args:
        labels: the dataset's vocabulary; ``label_N`` indexes it.
        label_views: views of each label.
        views: the expert's head.
        annotated: leaves that the site would have labelled had it imaged them; empty, as in every
            export of version 1, rules nothing out.
        never_images: views that the site never images.
        folds: view -> the label of this vocabulary under which the site records it.
        minimum_patients: nothing may be told of fewer, by the site's policy when the rows left.
    """

    id: str
    site: str
    dataset: str
    dataset_hash: str
    origin: Origin
    expert: str
    expert_sha256: str
    labels: tuple[str, ...]
    label_views: tuple[tuple[str, ...], ...]
    views: tuple[str, ...]
    num_rows: int
    feature_width: int
    num_evidence: int
    policy_version: int
    created: str
    annotated: tuple[str, ...] = ()
    never_images: tuple[str, ...] = ()
    folds: Mapping[str, str] = field(default_factory=dict)
    minimum_patients: int = 1
    level: Literal["rows"] = "rows"
    version: int = EXPORT_VERSION


@dataclass(frozen=True, slots=True, eq=False)
class FeatureExport:
    """Rows of one (dataset, expert).

    Args:
        frame_N: int64 pseudonym of the frame, the same for every expert of one dataset version.
        patient_N: int32 patient number, drawn anew for each export.
        clip_N: int32 clip number, drawn anew for each export.
        label_N: int16 index into ``card.labels``.
        split_N: int8 place in ``SPLITS``.
        pass_N: int8, 0 for the plain frame, 1.. for augmented passes (training rows only).
        features_ND: float16 features after pooling, before dropout.
        logits_NC: float32 logits of the expert's own head.
        discrepancy_NL: float32 evidence by layer, higher = more at home.
    """

    card: ExportCard
    frame_N: NDArray[np.int64]
    patient_N: NDArray[np.int32]
    clip_N: NDArray[np.int32]
    label_N: NDArray[np.int16]
    split_N: NDArray[np.int8]
    pass_N: NDArray[np.int8]
    features_ND: NDArray[np.float16]
    logits_NC: NDArray[np.float32]
    discrepancy_NL: NDArray[np.float32]

    def validate(self) -> None:
        """Check shapes, numbers and keys.

        Raises:
            EchoFedError: FEATURE_WIDTH, FEATURES_NOT_FINITE or FEATURES_INVALID, naming the export;
                ORIGIN_UNFIT for test rows of synthetic pictures.
        """
        self._validate_words()
        self._validate_shapes()
        for name in ("features_ND", "logits_NC", "discrepancy_NL"):
            if not np.isfinite(getattr(self, name)).all():
                raise EchoFedError(
                    Code.FEATURES_NOT_FINITE,
                    f"{name} of export {self.card.id} has values that are not finite",
                    "retrain or re-extract at the site; the export was not stored",
                )
        pairs = np.stack([self.frame_N, self.pass_N.astype(np.int64)], axis=1)
        if len(np.unique(pairs, axis=0)) != len(pairs):
            raise _invalid(self.card.id, "holds a frame twice")
        if len(self.label_N) and not (
            self.label_N.min() >= 0 and self.label_N.max() < len(self.card.labels)
        ):
            raise _invalid(self.card.id, "has a label outside its vocabulary")
        if not set(np.unique(self.split_N).tolist()) <= {0, 1, 2}:
            raise _invalid(self.card.id, "has a split outside train, val, test")
        if ((self.pass_N > 0) & (self.split_N != 0)).any():
            raise _invalid(self.card.id, "has an augmented row outside the training split")
        if self.card.origin == "synthetic" and (self.split_N == SPLITS.index("test")).any():
            raise not_judged_on(self.card.dataset)

    def _validate_words(self) -> None:
        card, known = self.card, load_ontology().views
        if not card.labels or len(card.labels) != len(card.label_views):
            raise _invalid(
                card.id, f"has {len(card.labels)} labels and views of {len(card.label_views)}"
            )
        recorded = {*card.annotated, *card.never_images, *card.folds}
        if not recorded <= known.keys() or not set(card.folds.values()) <= set(card.labels):
            raise _invalid(
                card.id, "records a view that the ontology lacks or a fold into no label"
            )

    def _validate_shapes(self) -> None:
        card = self.card
        widths = {
            "features_ND": card.feature_width,
            "logits_NC": len(card.views),
            "discrepancy_NL": card.num_evidence,
        }
        for name in ARRAYS:
            array = getattr(self, name)
            width = widths.get(name)
            shape = (card.num_rows,) if width is None else (card.num_rows, width)
            if array.shape != shape:
                raise EchoFedError(
                    Code.FEATURE_WIDTH,
                    f"{name} of export {card.id} has shape {array.shape}, its card says {shape}",
                    "the site must extract again with the expert named in the card",
                )

    def to_bytes(self) -> bytes:
        """Pack as safetensors with the card in the metadata."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        return arrays_to_bytes(arrays, {"card": json.dumps(to_document(self.card))})


def read_export(data: bytes) -> FeatureExport:
    """Unpack and validate an export.

    Raises:
        EchoFedError: CARD_NEWER, CHECKPOINT_CORRUPT, FEATURES_INVALID for an undeclared array,
            and what ``validate`` raises.
    """
    arrays, metadata = arrays_from_bytes(data)
    if "card" not in metadata:
        raise EchoFedError(
            Code.FEATURES_INVALID, "an export came without its card", "ask for it again"
        )
    card = from_document(ExportCard, json.loads(metadata["card"]), version=EXPORT_VERSION)
    if set(arrays) != set(ARRAYS):
        wrong = sorted(set(arrays) ^ set(ARRAYS))
        raise _invalid(card.id, f"has undeclared or missing arrays {wrong}")
    if set(metadata) != {"card"}:
        raise _invalid(card.id, "carries metadata beside its card")
    for name, dtype in ARRAYS.items():
        if arrays[name].dtype != np.dtype(dtype):
            raise _invalid(
                card.id, f"has {name} as {arrays[name].dtype}, declared {np.dtype(dtype)}"
            )
    export = FeatureExport(card, **arrays)
    export.validate()
    return export


def _invalid(name: str, fault: str) -> EchoFedError:
    return EchoFedError(
        Code.FEATURES_INVALID, f"export {name} {fault}", "the site must extract again"
    )
