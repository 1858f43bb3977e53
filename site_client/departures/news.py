"""What a site tells of itself: its datasets, its experts, what it withdrew, how a request went."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from shared.echo.expert import ExpertCard
from shared.echo.manifest import DatasetManifest
from shared.errors import Code
from site_client.departures.door import Door, today

_RECEIPT_KEYS = frozenset(
    {
        "release", "milliseconds", "cpu_milliseconds", "start_cpu_milliseconds", "refused", "left",
        "serving",
    }
)  # fmt: skip


class NewsEgress:
    """Words and counts."""

    _door: Door

    def release_description(self, manifest: DatasetManifest) -> dict[str, Any]:
        """Describe a dataset to the centre: labels, views and counts that are not too small.

        Returns:
            A document without keys of patients or clips; counts below the minimum are None.
        """
        consent = self._door.consent(manifest.id, "description")
        counts = patients_by_label(manifest)
        minimum = consent.minimum_patients_per_view
        document = {
            "dataset": manifest.id,
            "hash": manifest.content_hash(),
            "origin": manifest.origin,
            "labels": {label: list(views) for label, views in manifest.labels.items()},
            "patients": {k: (n if n >= minimum else None) for k, n in counts.items()},
            "policy_revision": self._door.policy_revision,
            "purposes": list(consent.purposes),
            "artefacts": list(consent.artefacts),
        }
        self._door.sent("description", manifest.id, json.dumps(document, sort_keys=True).encode())
        return document

    def release_inventory(
        self, own: Sequence[ExpertCard], *, received: Sequence[str]
    ) -> dict[str, Any]:
        """Name the experts of this site that may leave, and by hash what the centre sent here."""
        offered = [card for card in own if self._may_offer(card)]
        document = {
            "experts": [{"id": card.id, "sha256": card.weights_sha256} for card in offered],
            "received": sorted(received),
        }
        self._door.sent("inventory", self._door.site, json.dumps(document, sort_keys=True).encode())
        return document

    def release_withdrawals(self) -> list[str]:
        """Name what was withdrawn, to a recipient that was allowed to know of it."""
        names = [
            name
            for name, consent in self._door.policy.datasets.items()
            if consent.withdrawn is not None and self._door.recipient in consent.recipients
        ]
        if names:
            self._door.sent("withdrawals", self._door.site, json.dumps(names).encode())
        return names

    def release_receipt(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Let go how a request went: declared keys, and names only that the centre used itself."""
        if unknown := sorted(set(document) - _RECEIPT_KEYS):
            self._door.refuse(
                Code.EGRESS_DENIED,
                self._door.site,
                "receipt",
                f"{len(unknown)} undeclared field(s)",
            )
        self._door.sent("receipt", self._door.site, json.dumps(document, sort_keys=True).encode())
        return dict(document)

    def _may_offer(self, card: ExpertCard) -> bool:
        consents = [self._door.policy.datasets.get(dataset) for dataset in card.datasets]
        return all(
            consent is not None
            and consent.withdrawn is None
            and self._door.recipient in consent.recipients
            and "expert_weights" in consent.artefacts
            and "fusion" in consent.purposes
            and (consent.expires is None or today() <= consent.expires)
            for consent in consents
        )


def patients_by_label(manifest: DatasetManifest) -> dict[str, int]:
    """How many patients each label was seen in."""
    patients: dict[str, set[str]] = {label: set() for label in manifest.labels}
    for clip in manifest.clips:
        if clip.label:
            patients[clip.label].add(clip.patient)
    return {label: len(keys) for label, keys in patients.items()}
