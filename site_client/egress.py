"""The only door out: every departure is checked against the policy and recorded, refusals too."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from shared.echo.expert import ExpertCard
from shared.echo.features import ARRAYS, ExportCard, FeatureExport
from shared.echo.frame import Clip
from shared.echo.manifest import ClipRecord, DatasetManifest
from shared.echo.mask import STRUCTURES
from shared.echo.ontology import load_ontology
from shared.echo.schema import to_document
from shared.echo.segmenter import SegmenterCard
from shared.echo.statistics import PARTS, STATISTICS, StatisticsCard, StatisticsExport
from shared.errors import Code, EchoFedError
from shared.files import arrays_from_bytes, sha256_hex, shapes_of
from shared.ledger import Ledger
from site_client.policy import Artefact, DatasetPolicy, Policy, Purpose, load_policy

log = logging.getLogger(__name__)
_MAX_TEXT = 200  # characters; a longer text in a description is no name or label
_METRIC_KEYS = frozenset(
    {
        "dataset", "split", "level", "num", "accuracy", "balanced_accuracy", "macro_f1", "labels",
        "recall", "f1", "confusion", "id_scores", "fusion", "expert", "seconds",
    }
)  # fmt: skip
_SEGMENTER_FIGURES = frozenset(
    {"val_dice", *(f"val_dice_{name}" for name in STRUCTURES[1:]), "val_landmark_error_mm"}
)
_RECEIPT_KEYS = frozenset(
    {
        "release", "milliseconds", "cpu_milliseconds", "start_cpu_milliseconds", "refused", "left",
        "serving",
    }
)  # fmt: skip


class Egress:
    """Checks and records what leaves for one recipient."""

    def __init__(self, policy: Policy, ledger: Ledger, *, site: str, recipient: str) -> None:
        """Keep the policy in force and the ledger that remembers."""
        self._policy = policy
        self._ledger = ledger
        self._site = site
        self._recipient = recipient

    @property
    def policy_revision(self) -> int:
        """Revision of the policy in force."""
        return self._policy.revision

    def tells_by_statistics(self, dataset: str) -> bool:
        """Whether moments stand for the rows of a dataset, as the policy lists these alone."""
        allowed = self._artefacts(dataset)
        return STATISTICS in allowed and "rows" not in allowed

    def release_description(self, manifest: DatasetManifest) -> dict[str, Any]:
        """Describe a dataset to the centre: labels, views and counts that are not too small.

        Returns:
            A document without keys of patients or clips; counts below the minimum are None.
        """
        consent = self._consent(manifest.id, "description")
        counts = patients_by_label(manifest)
        minimum = consent.minimum_patients_per_view
        document = {
            "dataset": manifest.id,
            "hash": manifest.content_hash(),
            "origin": manifest.origin,
            "labels": {label: list(views) for label, views in manifest.labels.items()},
            "patients": {k: (n if n >= minimum else None) for k, n in counts.items()},
            "policy_revision": self._policy.revision,
            "purposes": list(consent.purposes),
            "artefacts": list(consent.artefacts),
        }
        self._sent("description", manifest.id, json.dumps(document, sort_keys=True).encode())
        return document

    def release_expert(
        self, card: ExpertCard, weights: bytes, manifests: Sequence[DatasetManifest]
    ) -> tuple[dict[str, Any], bytes]:
        """Let an expert's card and weights go, if every dataset it was trained on consents."""
        for manifest in manifests:
            consent = self._permit(manifest.id, "expert_weights", "fusion")
            self._require_patients(manifest, manifest.of_split("train"), consent, "expert_weights")
        self._require_weights(card, weights, manifests, "expert_weights")
        self._sent("expert_weights", card.id, weights)
        return to_document(card), weights

    def release_segmenter(
        self, card: SegmenterCard, weights: bytes, manifests: Sequence[DatasetManifest]
    ) -> None:
        """Let a segmenter's weights go, if every dataset it was trained on consents.

        Patients count by their clips with masks, for it was trained on no others.
        """
        for manifest in manifests:
            self.permit_segmenter(manifest)
        self._require_weights(card, weights, manifests, "segmenter_weights")
        self._sent("segmenter_weights", card.id, weights)

    def permit_segmenter(self, manifest: DatasetManifest) -> None:
        """Refuse unless weights that learnt from a dataset's masks may leave."""
        consent = self._permit(manifest.id, "segmenter_weights", "segmentation")
        drawn = [clip for clip in manifest.of_split("train") if clip.structures]
        self._require_patients(manifest, drawn, consent, "segmenter_weights")

    def release_annotations(
        self, manifest: DatasetManifest, *, structures: Sequence[str], views: Sequence[str]
    ) -> dict[str, Any]:
        """Tell what a dataset's masks name, if weights that learn from them may leave.

        Returns:
            A document of the house's words, without any count.
        """
        self.permit_segmenter(manifest)
        document = {
            "dataset": manifest.id,
            "hash": manifest.content_hash(),
            "origin": manifest.origin,
            "structures": list(structures),
            "views": list(views),
        }
        self._sent("annotations", manifest.id, json.dumps(document, sort_keys=True).encode())
        return document

    def release_update(
        self, weights: bytes, came: bytes, manifests: Sequence[DatasetManifest]
    ) -> bytes:
        """Let weights of a round of averaging go: as many numbers as came, and nothing beside.

        Raises:
            EchoFedError: EGRESS_DENIED, POLICY_EXPIRED, TOO_FEW_PATIENTS, DATASET_WITHDRAWN,
                FEATURES_NOT_FINITE.
        """
        for manifest in manifests:
            self.permit_segmenter(manifest)
        subject = ", ".join(manifest.id for manifest in manifests)
        arrays, metadata = arrays_from_bytes(weights)
        if metadata or shapes_of(arrays) != shapes_of(arrays_from_bytes(came)[0]):
            reason = "the weights carry more than those that came"
            self._refuse(Code.EGRESS_DENIED, subject, "segmenter_weights", reason)
        if any(not np.isfinite(array).all() for array in arrays.values()):
            reason = "weights are not finite"
            self._refuse(Code.FEATURES_NOT_FINITE, subject, "segmenter_weights", reason)
        self._sent("segmenter_weights", subject, weights)
        return weights

    def release_figures(
        self, figures: Mapping[str, float], manifests: Sequence[DatasetManifest]
    ) -> dict[str, float]:
        """Let validation figures of a segmenter go, as they would on its card."""
        for manifest in manifests:
            self.permit_segmenter(manifest)
        subject = ", ".join(manifest.id for manifest in manifests)
        if any(name not in _SEGMENTER_FIGURES for name in figures):
            self._refuse(Code.EGRESS_DENIED, subject, "metrics", "an undeclared figure")
        self._sent("metrics", subject, json.dumps(dict(figures), sort_keys=True).encode())
        return dict(figures)

    def release_export(self, export: FeatureExport, manifest: DatasetManifest) -> bytes:
        """Let feature rows go; labels seen in too few patients are taken out first.

        The card says how many are enough, so that means of these rows keep to it as well.

        Raises:
            EchoFedError: EGRESS_DENIED, POLICY_EXPIRED, TOO_FEW_PATIENTS, what ``validate`` raises.
        """
        consent = self._permit(manifest.id, "rows", "fusion")
        if export.card.dataset_hash != manifest.content_hash():
            self._refuse(
                Code.EGRESS_DENIED, manifest.id, "rows", "the dataset has changed since extraction"
            )
        self._require_no_identity(export.card, manifest, "rows")
        kept = self._without_rare_labels(export, manifest, consent)
        try:
            kept.validate()
        except EchoFedError as error:
            self._refuse(error.code, manifest.id, "rows", "the export does not validate")
        data = kept.to_bytes()
        self._sent("rows", manifest.id, data)
        return data

    def release_statistics(self, statistics: StatisticsExport, manifest: DatasetManifest) -> bytes:
        """Let moments of a dataset go, if every label that they tell of has enough patients.

        Raises:
            EchoFedError: EGRESS_DENIED, POLICY_EXPIRED, TOO_FEW_PATIENTS, what ``validate`` raises.
        """
        consent = self._permit(manifest.id, STATISTICS, "fusion")
        if statistics.card.dataset_hash != manifest.content_hash():
            self._refuse(
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
            self._refuse(error.code, manifest.id, STATISTICS, reason)
        for part, told_K in zip(PARTS, statistics.moments.num_frames_SK > 0, strict=True):
            for label in np.flatnonzero(told_K):
                word = statistics.card.labels[label]
                clips = [clip for clip in manifest.of_split(part) if clip.label == word]
                self._require_patients(manifest, clips, consent, STATISTICS)
        data = statistics.to_bytes()
        self._sent(STATISTICS, manifest.id, data)
        return data

    def release_metrics(
        self, document: Mapping[str, Any], manifest: DatasetManifest
    ) -> dict[str, Any]:
        """Let figures of an evaluation go: declared keys only, labels of enough patients only.

        They need the consent of statistics or of rows, which tell more than figures do.
        """
        artefact: Artefact = STATISTICS if STATISTICS in self._artefacts(manifest.id) else "rows"
        consent = self._permit(manifest.id, artefact, "evaluation")
        unknown = sorted(set(document) - _METRIC_KEYS)
        if unknown:
            self._refuse(
                Code.EGRESS_DENIED, manifest.id, "metrics", f"{len(unknown)} undeclared field(s)"
            )
        self._require_patients(
            manifest, manifest.of_split("test"), consent, "metrics", is_total=True
        )
        self._sent("metrics", manifest.id, json.dumps(document, sort_keys=True).encode())
        return dict(document)

    def release_inventory(
        self, own: Sequence[ExpertCard], *, received: Sequence[str]
    ) -> dict[str, Any]:
        """Name the experts of this site that may leave, and by hash what the centre sent here."""
        offered = [card for card in own if self._may_offer(card)]
        document = {
            "experts": [{"id": card.id, "sha256": card.weights_sha256} for card in offered],
            "received": sorted(received),
        }
        self._sent("inventory", self._site, json.dumps(document, sort_keys=True).encode())
        return document

    def release_withdrawals(self) -> list[str]:
        """Name what was withdrawn, to a recipient that was allowed to know of it."""
        names = [
            name
            for name, consent in self._policy.datasets.items()
            if consent.withdrawn is not None and self._recipient in consent.recipients
        ]
        if names:
            self._sent("withdrawals", self._site, json.dumps(names).encode())
        return names

    def expect_service(self, service: str, clip: Clip) -> None:
        """Check that a shared service may be sent pixels; a refusal is recorded.

        Raises:
            EchoFedError: EGRESS_DENIED for a service that the policy does not name.
        """
        if service not in self._policy.services:
            reason = f"the policy does not name the service {service}"
            self._refuse(Code.EGRESS_DENIED, clip.key, "pixels", reason)

    def release_pixels(self, service: str, clip: Clip) -> None:
        """Let a clip's pixels go to a shared service; its key and its patient stay.

        Raises:
            EchoFedError: as ``expect_service``.
        """
        self.expect_service(service, clip)
        self._sent("pixels", clip.key, np.ascontiguousarray(clip.pixels_THW).tobytes())

    def release_receipt(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Let go how a request went: declared keys, and names only that the centre used itself."""
        if unknown := sorted(set(document) - _RECEIPT_KEYS):
            self._refuse(
                Code.EGRESS_DENIED, self._site, "receipt", f"{len(unknown)} undeclared field(s)"
            )
        self._sent("receipt", self._site, json.dumps(document, sort_keys=True).encode())
        return dict(document)

    def refuse(self, code: Code, subject: str, artefact: str) -> None:
        """Record a refusal that was decided elsewhere, such as an unapproved bundle."""
        self._record("refused", artefact, subject, {"code": int(code)})

    def _may_offer(self, card: ExpertCard) -> bool:
        consents = [self._policy.datasets.get(dataset) for dataset in card.datasets]
        return all(
            consent is not None
            and consent.withdrawn is None
            and self._recipient in consent.recipients
            and "expert_weights" in consent.artefacts
            and "fusion" in consent.purposes
            and (consent.expires is None or _today() <= consent.expires)
            for consent in consents
        )

    def _artefacts(self, dataset: str) -> tuple[Artefact, ...]:
        return self._policy.datasets.get(dataset, DatasetPolicy()).artefacts

    def _consent(self, dataset: str, artefact: str) -> DatasetPolicy:
        consent = self._policy.datasets.get(dataset)
        if consent is None:
            self._refuse(
                Code.EGRESS_DENIED, dataset, artefact, "the policy does not name this dataset"
            )
        if consent.withdrawn is not None:
            reason = f"withdrawn on {consent.withdrawn}"
            self._refuse(Code.DATASET_WITHDRAWN, dataset, artefact, reason)
        if self._recipient not in consent.recipients:
            self._refuse(Code.EGRESS_DENIED, dataset, artefact, "the recipient is not allowed")
        if consent.expires is not None and _today() > consent.expires:
            self._refuse(
                Code.POLICY_EXPIRED, dataset, artefact, f"consent ended on {consent.expires}"
            )
        return consent

    def _permit(self, dataset: str, artefact: Artefact, purpose: Purpose) -> DatasetPolicy:
        consent = self._consent(dataset, artefact)
        if artefact not in consent.artefacts:
            self._refuse(Code.EGRESS_DENIED, dataset, artefact, "the artefact is not allowed")
        if purpose not in consent.purposes:
            self._refuse(
                Code.EGRESS_DENIED, dataset, artefact, f"the purpose {purpose} is not allowed"
            )
        return consent

    def _require_patients(
        self,
        manifest: DatasetManifest,
        clips: Sequence[ClipRecord],
        consent: DatasetPolicy,
        artefact: str,
        *,
        is_total: bool = False,
    ) -> None:
        minimum = consent.minimum_patients_per_view
        patients_of: dict[str, set[str]] = {}
        for clip in clips:
            patients_of.setdefault("" if is_total else clip.label, set()).add(clip.patient)
        if not patients_of or min(map(len, patients_of.values())) < minimum:
            self._refuse(
                Code.TOO_FEW_PATIENTS,
                manifest.id,
                artefact,
                f"a label has fewer than {minimum} patients",
            )

    def _require_weights(
        self,
        card: ExpertCard | SegmenterCard,
        weights: bytes,
        manifests: Sequence[DatasetManifest],
        artefact: Artefact,
    ) -> None:
        """They are the card's, nothing but finite numbers, and of datasets that are here."""

        def refuse(code: Code, reason: str) -> NoReturn:
            self._refuse(code, card.id, artefact, reason)

        if {manifest.id for manifest in manifests} != set(card.datasets):
            refuse(Code.EGRESS_DENIED, "a dataset it was trained on is gone")
        if sha256_hex(weights) != card.weights_sha256:
            refuse(Code.CHECKPOINT_CORRUPT, "weights do not match the card")
        arrays, metadata = arrays_from_bytes(weights)
        if metadata:
            refuse(Code.EGRESS_DENIED, "weights carry metadata")
        if any(not np.isfinite(array).all() for array in arrays.values()):
            refuse(Code.FEATURES_NOT_FINITE, "weights are not finite")

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
            self._refuse(
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
            self._refuse(
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

    def _sent(self, artefact: str, subject: str, data: bytes) -> None:
        self._record("sent", artefact, subject, {"bytes": len(data), "sha256": sha256_hex(data)})

    def _refuse(self, code: Code, subject: str, artefact: str, reason: str) -> NoReturn:
        self._record("refused", artefact, subject, {"code": int(code), "reason": reason})
        raise EchoFedError(
            code,
            f"{artefact} of {subject} may not leave: {reason}",
            "an operator may change policy.yaml",
        )

    def _record(
        self, what: str, artefact: str, subject: str, body: Mapping[str, int | str]
    ) -> None:
        self._ledger.append(
            f"egress.{what}",
            {
                "artefact": artefact,
                "subject": subject,
                "recipient": self._recipient,
                "policy_revision": self._policy.revision,
                **body,
            },
            actor=self._site,
        )


def open_egress(path: Path, ledger: Ledger, *, site: str, recipient: str) -> Egress:
    """The door under the policy as it stands now; policy.yaml is read in this file alone."""
    return Egress(load_policy(path), ledger, site=site, recipient=recipient)


def approved_bundles(path: Path) -> frozenset[str]:
    """Hashes of the bundles that may run here, as policy.yaml says now."""
    return frozenset(load_policy(path).approved_bundles)


def minimum_patients(path: Path, dataset: str) -> int:
    """The least count of a dataset's patients that may be told, by policy.yaml as it is now."""
    consent = load_policy(path).datasets.get(dataset, DatasetPolicy())
    return consent.minimum_patients_per_view


def patients_by_label(manifest: DatasetManifest) -> dict[str, int]:
    """How many patients each label was seen in."""
    patients: dict[str, set[str]] = {label: set() for label in manifest.labels}
    for clip in manifest.clips:
        if clip.label:
            patients[clip.label].add(clip.patient)
    return {label: len(keys) for label, keys in patients.items()}


def _texts(card: ExportCard | StatisticsCard) -> list[str]:
    texts = [card.id, card.site, card.dataset, card.created, *card.labels]
    if isinstance(card, ExportCard):
        return [*texts, card.expert, *card.views]
    return [*texts, *(text for block in card.blocks for text in (block.expert, *block.views))]


def _today() -> date:
    return datetime.now(UTC).date()
