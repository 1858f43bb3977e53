"""Weights that leave, of experts, segmenters and synthesizers, and figures of their training."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from shared.echo.expert import ExpertCard
from shared.echo.manifest import DatasetManifest
from shared.echo.mask import STRUCTURES
from shared.echo.model_card import ModelCard
from shared.echo.schema import to_document
from shared.echo.segmenter import SegmenterCard
from shared.echo.synthesizer import FEWEST_PATIENTS, SynthesizerCard
from shared.errors import Code
from shared.files import arrays_from_bytes, sha256_hex, shapes_of
from site_client.departures.door import Door
from site_client.policy import Artefact, DatasetPolicy

_SEGMENTER_FIGURES = frozenset(
    {"val_dice", *(f"val_dice_{name}" for name in STRUCTURES[1:]), "val_landmark_error_mm"}
)
_SYNTHESIZER_PARTS = ("denoiser.", "autoencoder.", "embedding.")
_GALLERY = "gallery.features_GD"


class WeightsEgress:
    """What was learnt from pictures."""

    _door: Door

    def release_expert(
        self, card: ExpertCard, weights: bytes, manifests: Sequence[DatasetManifest]
    ) -> tuple[dict[str, Any], bytes]:
        """Let an expert's card and weights go, if every dataset it was trained on consents."""
        for manifest in manifests:
            consent = self._door.permit(manifest.id, "expert_weights", "fusion")
            self._door.require_patients(
                manifest, manifest.of_split("train"), consent, "expert_weights"
            )
        self._require_weights(card, weights, manifests, "expert_weights")
        self._door.sent("expert_weights", card.id, weights)
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
        self._door.sent("segmenter_weights", card.id, weights)

    def permit_segmenter(self, manifest: DatasetManifest) -> None:
        """Refuse unless weights that learnt from a dataset's masks may leave."""
        consent = self._door.permit(manifest.id, "segmenter_weights", "segmentation")
        drawn = [clip for clip in manifest.of_split("train") if clip.structures]
        self._door.require_patients(manifest, drawn, consent, "segmenter_weights")

    def release_synthesizer(
        self, card: SynthesizerCard, weights: bytes, manifests: Sequence[DatasetManifest]
    ) -> None:
        """Let a synthesizer's weights go, if every dataset it was trained on consents.

        They hold an embedding of each training frame; nothing else of single frames may be in them.
        It may have seen label maps of fewer patients than its datasets have: its card says of how
        many in the view with the fewest, and one that does not say so stays.
        """
        drawn_from = card.metrics.get(FEWEST_PATIENTS, 0.0)
        for manifest in manifests:
            minimum = self.permit_synthesizer(manifest).minimum_patients_per_view
            if drawn_from < minimum:
                reason = f"a view was learnt from fewer than {minimum} patients"
                self._door.refuse(Code.TOO_FEW_PATIENTS, card.id, "synthesizer_weights", reason)
        self._require_weights(card, weights, manifests, "synthesizer_weights")
        names = set(arrays_from_bytes(weights)[0]) - {_GALLERY}
        if any(not name.startswith(_SYNTHESIZER_PARTS) for name in names):
            reason = "the weights have an undeclared part"
            self._door.refuse(Code.EGRESS_DENIED, card.id, "synthesizer_weights", reason)
        self._door.sent("synthesizer_weights", card.id, weights)

    def permit_synthesizer(self, manifest: DatasetManifest) -> DatasetPolicy:
        """Refuse unless weights that learnt to draw a dataset's frames may leave."""
        consent = self._door.permit(manifest.id, "synthesizer_weights", "synthesis")
        drawn = [clip for clip in manifest.of_split("train") if clip.structures]
        self._door.require_patients(manifest, drawn, consent, "synthesizer_weights")
        return consent

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
        self._door.sent("annotations", manifest.id, json.dumps(document, sort_keys=True).encode())
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
            self._door.refuse(Code.EGRESS_DENIED, subject, "segmenter_weights", reason)
        if any(not np.isfinite(array).all() for array in arrays.values()):
            reason = "weights are not finite"
            self._door.refuse(Code.FEATURES_NOT_FINITE, subject, "segmenter_weights", reason)
        self._door.sent("segmenter_weights", subject, weights)
        return weights

    def release_figures(
        self, figures: Mapping[str, float], manifests: Sequence[DatasetManifest]
    ) -> dict[str, float]:
        """Let validation figures of a segmenter go, as they would on its card."""
        for manifest in manifests:
            self.permit_segmenter(manifest)
        subject = ", ".join(manifest.id for manifest in manifests)
        if any(name not in _SEGMENTER_FIGURES for name in figures):
            self._door.refuse(Code.EGRESS_DENIED, subject, "metrics", "an undeclared figure")
        self._door.sent("metrics", subject, json.dumps(dict(figures), sort_keys=True).encode())
        return dict(figures)

    def _require_weights(
        self,
        card: ExpertCard | ModelCard,
        weights: bytes,
        manifests: Sequence[DatasetManifest],
        artefact: Artefact,
    ) -> None:
        """They are the card's, nothing but finite numbers, and of datasets that are here."""

        def refuse(code: Code, reason: str) -> NoReturn:
            self._door.refuse(code, card.id, artefact, reason)

        if {manifest.id for manifest in manifests} != set(card.datasets):
            refuse(Code.EGRESS_DENIED, "a dataset it was trained on is gone")
        if sha256_hex(weights) != card.weights_sha256:
            refuse(Code.CHECKPOINT_CORRUPT, "weights do not match the card")
        arrays, metadata = arrays_from_bytes(weights)
        if metadata:
            refuse(Code.EGRESS_DENIED, "weights carry metadata")
        if any(not np.isfinite(array).all() for array in arrays.values()):
            refuse(Code.FEATURES_NOT_FINITE, "weights are not finite")
