"""Rows of features that leave, their moments, and figures of evaluations."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shared.echo.features import ARRAYS, ExportCard, FeatureExport
from shared.echo.manifest import DatasetManifest
from shared.echo.ontology import load_ontology
from shared.echo.statistics import PARTS, STATISTICS, StatisticsCard, StatisticsExport
from shared.errors import Code, EchoFedError
from site_client.departures.door import Door
from site_client.departures.news import patients_by_label
from site_client.policy import Artefact, DatasetPolicy

log = logging.getLogger(__name__)
_MAX_TEXT = 200  # characters; a longer text in a description is no name or label
_METRIC_KEYS = frozenset(
    {
        "dataset", "split", "level", "num", "accuracy", "balanced_accuracy", "macro_f1", "labels",
        "recall", "f1", "confusion", "id_scores", "fusion", "expert", "seconds",
    }
)  # fmt: skip


class RowsEgress:
    """What tells of frames without showing them."""

    _door: Door

    def tells_by_statistics(self, dataset: str) -> bool:
        """Whether moments stand for the rows of a dataset, as the policy lists these alone."""
        allowed = self._door.artefacts(dataset)
        return STATISTICS in allowed and "rows" not in allowed

    def release_export(self, export: FeatureExport, manifest: DatasetManifest) -> bytes:
        """Let feature rows go; labels seen in too few patients are taken out first.

        The card says how many are enough, so that means of these rows keep to it as well.

        Raises:
            EchoFedError: EGRESS_DENIED, POLICY_EXPIRED, TOO_FEW_PATIENTS, what ``validate`` raises.
        """
        consent = self._door.permit(manifest.id, "rows", "fusion")
        if export.card.dataset_hash != manifest.content_hash():
            self._door.refuse(
                Code.EGRESS_DENIED, manifest.id, "rows", "the dataset has changed since extraction"
            )
        self._require_no_identity(export.card, manifest, "rows")
        kept = self._without_rare_labels(export, manifest, consent)
        try:
            kept.validate()
        except EchoFedError as error:
            self._door.refuse(error.code, manifest.id, "rows", "the export does not validate")
        data = kept.to_bytes()
        self._door.sent("rows", manifest.id, data)
        return data

    def release_statistics(self, statistics: StatisticsExport, manifest: DatasetManifest) -> bytes:
        """Let moments of a dataset go, if every label that they tell of has enough patients.

        Raises:
            EchoFedError: EGRESS_DENIED, POLICY_EXPIRED, TOO_FEW_PATIENTS, what ``validate`` raises.
        """
        consent = self._door.permit(manifest.id, STATISTICS, "fusion")
        if statistics.card.dataset_hash != manifest.content_hash():
            self._door.refuse(
                Code.EGRESS_DENIED,
                manifest.id,
                STATISTICS,
                "the dataset has changed since extraction",
            )
        self._require_no_identity(statistics.card, manifest, STATISTICS)
        try:
            statistics.validate()
        except EchoFedError as error:
            reason = "the statistics do not validate"
            self._door.refuse(error.code, manifest.id, STATISTICS, reason)
        for part, told_K in zip(PARTS, statistics.moments.num_frames_SK > 0, strict=True):
            for label in np.flatnonzero(told_K):
                word = statistics.card.labels[label]
                clips = [clip for clip in manifest.of_split(part) if clip.label == word]
                self._door.require_patients(manifest, clips, consent, STATISTICS)
        data = statistics.to_bytes()
        self._door.sent(STATISTICS, manifest.id, data)
        return data

    def release_metrics(
        self, document: Mapping[str, Any], manifest: DatasetManifest
    ) -> dict[str, Any]:
        """Let figures of an evaluation go: declared keys only, labels of enough patients only.

        They need the consent of statistics or of rows, which tell more than figures do.
        """
        artefact: Artefact = (
            STATISTICS if STATISTICS in self._door.artefacts(manifest.id) else "rows"
        )
        consent = self._door.permit(manifest.id, artefact, "evaluation")
        unknown = sorted(set(document) - _METRIC_KEYS)
        if unknown:
            self._door.refuse(
                Code.EGRESS_DENIED, manifest.id, "metrics", f"{len(unknown)} undeclared field(s)"
            )
        self._door.require_patients(
            manifest, manifest.of_split("test"), consent, "metrics", is_total=True
        )
        self._door.sent("metrics", manifest.id, json.dumps(document, sort_keys=True).encode())
        return dict(document)

    def _require_no_identity(
        self, card: ExportCard | StatisticsCard, manifest: DatasetManifest, artefact: Artefact
    ) -> None:
        allowed = {
            *manifest.labels,
            *(view for views in manifest.labels.values() for view in views),
        }
        texts = {
            *card.labels,
            *card.folds.values(),
            *(view for views in card.label_views for view in views),
        }
        recorded = {*card.annotated, *card.never_images, *card.folds}
        is_known = texts <= allowed and recorded <= load_ontology().views.keys()
        if not is_known or any(len(text) > _MAX_TEXT for text in _texts(card)):
            self._door.refuse(
                Code.EGRESS_DENIED, manifest.id, artefact, "a text outside the dataset's vocabulary"
            )

    def _without_rare_labels(
        self, export: FeatureExport, manifest: DatasetManifest, consent: DatasetPolicy
    ) -> FeatureExport:
        counts = patients_by_label(manifest)
        minimum = consent.minimum_patients_per_view
        enough = [counts.get(label, 0) >= minimum for label in export.card.labels]
        kept_N = np.asarray(enough, dtype=bool)[export.label_N]
        if not kept_N.any():
            self._door.refuse(
                Code.TOO_FEW_PATIENTS,
                manifest.id,
                "rows",
                f"no label has {minimum} patients or more",
            )
        if kept_N.all():
            return replace(export, card=replace(export.card, minimum_patients=minimum))
        log.info("left %d rows of rare labels at the site", int((~kept_N).sum()))
        return FeatureExport(
            replace(export.card, num_rows=int(kept_N.sum()), minimum_patients=minimum),
            **{name: getattr(export, name)[kept_N] for name in ARRAYS},
        )


def _texts(card: ExportCard | StatisticsCard) -> list[str]:
    texts = [card.id, card.site, card.dataset, card.created, *card.labels]
    if isinstance(card, ExportCard):
        return [*texts, card.expert, *card.views]
    return [*texts, *(text for block in card.blocks for text in (block.expert, *block.views))]
