"""The rules of the door: consent, purpose and counts of patients; and the record of what passed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NoReturn

from shared.echo.manifest import ClipRecord, DatasetManifest
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex
from shared.ledger import Ledger
from site_client.policy import Artefact, DatasetPolicy, Policy, Purpose


class Door:
    """Asks the policy for one recipient, and writes into the ledger."""

    def __init__(self, policy: Policy, ledger: Ledger, *, site: str, recipient: str) -> None:
        """Keep the policy in force and the ledger that remembers."""
        self.policy = policy
        self.site = site
        self.recipient = recipient
        self._ledger = ledger

    @property
    def policy_revision(self) -> int:
        return self.policy.revision

    def artefacts(self, dataset: str) -> tuple[Artefact, ...]:
        return self.policy.datasets.get(dataset, DatasetPolicy()).artefacts

    def consent(self, dataset: str, artefact: str) -> DatasetPolicy:
        consent = self.policy.datasets.get(dataset)
        if consent is None:
            self.refuse(
                Code.EGRESS_DENIED, dataset, artefact, "the policy does not name this dataset"
            )
        if consent.withdrawn is not None:
            reason = f"withdrawn on {consent.withdrawn}"
            self.refuse(Code.DATASET_WITHDRAWN, dataset, artefact, reason)
        if self.recipient not in consent.recipients:
            self.refuse(Code.EGRESS_DENIED, dataset, artefact, "the recipient is not allowed")
        if consent.expires is not None and today() > consent.expires:
            self.refuse(
                Code.POLICY_EXPIRED, dataset, artefact, f"consent ended on {consent.expires}"
            )
        return consent

    def permit(self, dataset: str, artefact: Artefact, purpose: Purpose) -> DatasetPolicy:
        consent = self.consent(dataset, artefact)
        if artefact not in consent.artefacts:
            self.refuse(Code.EGRESS_DENIED, dataset, artefact, "the artefact is not allowed")
        if purpose not in consent.purposes:
            self.refuse(
                Code.EGRESS_DENIED, dataset, artefact, f"the purpose {purpose} is not allowed"
            )
        return consent

    def require_patients(
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
            self.refuse(
                Code.TOO_FEW_PATIENTS,
                manifest.id,
                artefact,
                f"a label has fewer than {minimum} patients",
            )

    def sent(self, artefact: str, subject: str, data: bytes) -> None:
        self.record("sent", artefact, subject, {"bytes": len(data), "sha256": sha256_hex(data)})

    def refuse(self, code: Code, subject: str, artefact: str, reason: str) -> NoReturn:
        self.record("refused", artefact, subject, {"code": int(code), "reason": reason})
        raise EchoFedError(
            code,
            f"{artefact} of {subject} may not leave: {reason}",
            "an operator may change policy.yaml",
        )

    def record(self, what: str, artefact: str, subject: str, body: Mapping[str, int | str]) -> None:
        self._ledger.append(
            f"egress.{what}",
            {
                "artefact": artefact,
                "subject": subject,
                "recipient": self.recipient,
                "policy_revision": self.policy_revision,
                **body,
            },
            actor=self.site,
        )


def today() -> date:
    return datetime.now(UTC).date()
