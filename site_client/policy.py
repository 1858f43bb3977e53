"""The site's policy: what may leave, to whom and for what; everything else is denied."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field

from shared.files import write_bytes
from shared.settings import Settings, dump_settings, load_settings

POLICY_VERSION = 1
Artefact = Literal[
    "rows",
    "statistics",
    "logits",
    "expert_weights",
    "segmenter_weights",
    "synthesizer_weights",
    "masks",
    "prediction_records",
]
Purpose = Literal["fusion", "evaluation", "segmentation", "synthesis"]


class DatasetPolicy(Settings):
    """What may leave of one dataset."""

    purposes: tuple[Purpose, ...] = ()
    """What the artefacts may be used for."""
    recipients: tuple[str, ...] = ()
    """Federations that may receive them."""
    artefacts: tuple[Artefact, ...] = ()
    """Kinds of learned things that may leave."""
    minimum_patients_per_view: Annotated[int, Field(ge=1)] = 5
    """A label seen in fewer patients stays at the site."""
    expires: date | None = None
    """Day after which nothing of the dataset may leave; None for no end."""
    withdrawn: date | None = None
    """Day on which the dataset was withdrawn, by the command; nothing of it leaves any more."""


class Policy(Settings):
    """The whole policy; an absent dataset, artefact, purpose or recipient is denied."""

    version: int = POLICY_VERSION
    """Version of this file's form."""
    revision: Annotated[int, Field(ge=1)] = 1
    """Raised by the operator at every change; stands in every export and ledger entry."""
    datasets: dict[str, DatasetPolicy] = Field(default_factory=dict)
    """Consent by dataset."""
    services: tuple[str, ...] = ()
    """Shared services that may be sent this site's data."""
    approved_bundles: tuple[str, ...] = ()
    """SHA-256 of the Flower bundles that may run here."""


def load_policy(path: Path) -> Policy:
    """Read policy.yaml.

    Raises:
        EchoFedError: CONFIG_MISSING, CONFIG_UNKNOWN_KEY or CONFIG_INVALID.
    """
    return load_settings(Policy, path)


def save_policy(policy: Policy, path: Path) -> None:
    """Write policy.yaml atomically."""
    text = yaml.safe_dump(dump_settings(policy), sort_keys=False)
    write_bytes(path, text.encode())


def withdraw_dataset(path: Path, dataset: str, *, today: date) -> Policy:
    """Mark a dataset as withdrawn in policy.yaml and return the new policy; the first day stays."""
    policy = load_policy(path)
    consent = policy.datasets.get(dataset, DatasetPolicy())
    if consent.withdrawn is not None:
        return policy
    datasets = {**policy.datasets, dataset: consent.model_copy(update={"withdrawn": today})}
    changed = policy.model_copy(update={"datasets": datasets, "revision": policy.revision + 1})
    save_policy(changed, path)
    return changed
