"""Cards: the identity and provenance of an expert's and of a fusion's weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shared.echo.origin import Origin
from shared.echo.schema import from_document, to_document
from shared.errors import Code, EchoFedError
from shared.files import read_json, sha256_hex, write_bytes, write_json

EXPERT_CARD_VERSION = 2
FUSION_CARD_VERSION = 2
CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
FusionVariant = Literal["sum", "attention", "discrepancy", "ridge", "blend"]


@dataclass(frozen=True, slots=True)
class ExpertCard:
    """A frozen view classifier of one or more datasets of a site.

    Args:
        id: unique name, ``<site>-<dataset>-<first of weights hash>``.
        views: views of the head in the order of its logits.
        layers: names of the layers that give a discrepancy each.
        parent: id of the expert from whose weights training started, empty for scratch; of an
            expert on a trunk its trunk.
        metrics: validation figures by name.
        trunk: id of the expert whose frozen network this one reads, empty for a full backbone; the
            weights then hold adapter and head only, and ``backbone`` is the trunk's.
        trunk_sha256: hash of the trunk's weights.
    """

    id: str
    site: str
    datasets: tuple[str, ...]
    dataset_hashes: tuple[str, ...]
    origin: Origin
    backbone: str
    image_size: int
    views: tuple[str, ...]
    feature_width: int
    layers: tuple[str, ...]
    weights_sha256: str
    parent: str
    seed: int
    settings_hash: str
    settings: dict[str, bool | int | float | str | None]
    metrics: dict[str, float]
    created: str
    trunk: str = ""
    trunk_sha256: str = ""
    version: int = EXPERT_CARD_VERSION


@dataclass(frozen=True, slots=True)
class Block:
    """What the fusion must know of one expert: views, feature width, number of evidence values."""

    expert: str
    views: tuple[str, ...]
    feature_width: int
    num_evidence: int


@dataclass(frozen=True, slots=True)
class Carried:
    """What a fusion holds of a dataset beside trained weights; never a row.

    Args:
        dataset: ``site/dataset``; ``dataset_hash`` of its content.
        num_classes: sets of views that have a mean; each of at least ``minimum_patients``.
        policy_version: of the site's policy under which the rows came; the lowest of its exports.
    """

    dataset: str
    dataset_hash: str
    artefact: Literal["class means and covariance"]
    num_classes: int
    minimum_patients: int
    policy_version: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """The threshold of one site: a clip whose id scalar is below was not seen before."""

    id_scalar_below: float


@dataclass(frozen=True, slots=True)
class FusionCard:
    """A fusion of frozen experts.

    Args:
        id: ``fusion-<first of weights hash>``.
        views: union views in the order of the probabilities.
        blocks: the experts, in the order the weights were built for.
        exports: ids of the feature exports it was trained on.
        fresh: datasets whose export was taken for this fusion; ``cached``: stored earlier;
            ``missing``: none.
        abstain_below: a verdict whose highest probability is lower abstains.
        carries: what stands in the weights of which dataset; they must go when it is withdrawn.
        rejections: site -> thresholds of what was not seen before, 0 for one that sent
            statistics of a dataset; those of the strictest other site hold for a site without.
    """

    id: str
    variant: FusionVariant
    views: tuple[str, ...]
    blocks: tuple[Block, ...]
    weights_sha256: str
    parent: str
    exports: tuple[str, ...]
    fresh: tuple[str, ...]
    cached: tuple[str, ...]
    missing: tuple[str, ...]
    seed: int
    settings_hash: str
    settings: dict[str, bool | int | float | str | None]
    metrics: dict[str, float]
    abstain_below: float
    created: str
    carries: tuple[Carried, ...] = ()
    rejections: dict[str, Rejection] = field(default_factory=dict)
    version: int = FUSION_CARD_VERSION

    def rejection(self, site: str) -> Rejection | None:
        """The thresholds for a site; None where the fusion has none."""
        if site in self.rejections:
            return self.rejections[site]
        strictest = max(self.rejections.values(), key=lambda one: one.id_scalar_below, default=None)
        return strictest


def expert_document(card: ExpertCard) -> dict[str, object]:
    """The card as JSON values."""
    return to_document(card)


def read_expert_card(document: dict[str, object]) -> ExpertCard:
    """Validate a card that arrived as JSON."""
    return from_document(ExpertCard, document, version=EXPERT_CARD_VERSION)


def read_fusion_card(document: dict[str, object]) -> FusionCard:
    """Validate a fusion's card that arrived as JSON."""
    return from_document(FusionCard, document, version=FUSION_CARD_VERSION)


def save_checkpoint(folder: Path, card: ExpertCard | FusionCard, weights: bytes) -> None:
    """Write weights, then the card: a folder with a card is complete."""
    if sha256_hex(weights) != card.weights_sha256:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT,
            f"weights of {card.id} do not match their card",
            "ask for them again",
        )
    write_bytes(folder / WEIGHTS_FILE, weights)
    write_json(folder / CARD_FILE, to_document(card))


def load_expert(folder: Path) -> tuple[ExpertCard, bytes]:
    """Read a card and its weights and check that they belong together."""
    card = read_expert_card(read_json(folder / CARD_FILE))
    return card, _read_weights(folder, card.id, card.weights_sha256)


def load_fusion(folder: Path) -> tuple[FusionCard, bytes]:
    """Read a fusion's card and its weights and check that they belong together."""
    card = read_fusion_card(read_json(folder / CARD_FILE))
    return card, _read_weights(folder, card.id, card.weights_sha256)


def _read_weights(folder: Path, name: str, sha256: str) -> bytes:
    path = folder / WEIGHTS_FILE
    if not path.is_file() or sha256_hex(path.read_bytes()) != sha256:
        raise EchoFedError(
            Code.CHECKPOINT_CORRUPT, f"weights of {name} are missing or altered", "fetch them again"
        )
    return path.read_bytes()
