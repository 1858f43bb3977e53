"""The only door out: every departure is checked against the policy and recorded, refusals too."""

from pathlib import Path

from shared.errors import Code
from shared.ledger import Ledger
from site_client.departures.door import Door
from site_client.departures.news import NewsEgress
from site_client.departures.pictures import PicturesEgress
from site_client.departures.rows import RowsEgress
from site_client.departures.weights import WeightsEgress
from site_client.policy import DatasetPolicy, Policy, load_policy


class Egress(WeightsEgress, RowsEgress, PicturesEgress, NewsEgress):
    """Checks and records what leaves for one recipient; each part is in its own file."""

    def __init__(self, policy: Policy, ledger: Ledger, *, site: str, recipient: str) -> None:
        """Keep the policy in force and the ledger that remembers."""
        self._door = Door(policy, ledger, site=site, recipient=recipient)

    @property
    def policy_revision(self) -> int:
        """Revision of the policy in force."""
        return self._door.policy_revision

    def refuse(self, code: Code, subject: str, artefact: str) -> None:
        """Record a refusal that was decided elsewhere, such as an unapproved bundle."""
        self._door.record("refused", artefact, subject, {"code": int(code)})


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
