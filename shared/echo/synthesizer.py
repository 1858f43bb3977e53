"""The card of a synthesizer: what its weights draw, how, and where they come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.echo.expert import CARD_FILE
from shared.echo.origin import Origin
from shared.echo.schema import from_document
from shared.echo.stored import load_stored_weights, save_stored
from shared.files import read_json

SYNTHESIZER_CARD_VERSION = 1
FEWEST_PATIENTS = "fewest_patients"
"""Figure of the card: patients whose label maps taught, in the dataset and view with the fewest."""
Option = bool | int | float | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sampler:
    """How noise becomes an image.

    Args:
        solver: its line in ``SOLVERS``.
        schedule: its line in ``SCHEDULES``.
        steps: of the solver; how often the network is asked depends on the solver.
        sigma_min, sigma_max: last and first noise level, in units of the normalised latent.
        guidance: weight of the label map's pull; 1 is the plain conditional network.
    """

    solver: str
    schedule: str
    steps: int
    sigma_min: float
    sigma_max: float
    guidance: float = 1.0


@dataclass(frozen=True, slots=True)
class SynthesizerCard:
    """A denoiser of the table of denoisers with its autoencoder.

    The weights' names begin with ``denoiser.``, ``autoencoder.``, ``embedding.`` or ``gallery.``.

    Args:
        id: unique name, ``<site>-<network>-<first of weights hash>``.
        origin: of what it learnt from; what it draws is synthetic always.
        network: its line in ``DENOISERS``.
        options: what the network was built with, beside channels, structures and views.
        autoencoder: its line in ``AUTOENCODERS``; ``pixels`` has no weights.
        autoencoder_options: what that was built with.
        precondition: its line in ``PRECONDITIONS``.
        sigma_data: deviation of each channel of the normalised latent.
        latent_shift, latent_scale: of each channel; normalised = (latent - shift) / scale.
        sampler: what is used unless a caller asks otherwise.
        image_size: rows and columns of what it draws.
        structures: of the label map, ``outside`` first, then the background inside the sector.
        views: views of the ontology that it draws; it refuses others.
        embedding: its line in ``EMBEDDINGS``; in it the nearest training frame is looked up.
        release_threshold: similarity to a training frame above which an image is not released.
        parent: id of the synthesizer from whose weights training started, empty for scratch.
        metrics: figures of the training by name.
    """

    id: str
    site: str
    datasets: tuple[str, ...]
    dataset_hashes: tuple[str, ...]
    origin: Origin
    network: str
    options: dict[str, Option]
    autoencoder: str
    autoencoder_options: dict[str, Option]
    precondition: str
    sigma_data: tuple[float, ...]
    latent_shift: tuple[float, ...]
    latent_scale: tuple[float, ...]
    sampler: Sampler
    image_size: int
    structures: tuple[str, ...]
    views: tuple[str, ...]
    embedding: str
    embedding_options: dict[str, Option]
    release_threshold: float
    weights_sha256: str
    parent: str
    seed: int
    settings_hash: str
    settings: dict[str, bool | int | float | str | None]
    metrics: dict[str, float]
    created: str
    kind: Literal["synthesizer"] = "synthesizer"
    version: int = SYNTHESIZER_CARD_VERSION


def save_synthesizer(folder: Path, card: SynthesizerCard, weights: bytes) -> None:
    """Write weights, then card, atomically: a folder with a card is whole."""
    save_stored(folder, card, weights)


def read_synthesizer_card(document: dict[str, object]) -> SynthesizerCard:
    """Validate a card that arrived as JSON."""
    return from_document(SynthesizerCard, document, version=SYNTHESIZER_CARD_VERSION)


def load_synthesizer_files(folder: Path) -> tuple[SynthesizerCard, bytes]:
    """Read a card and the weights that it names.

    Raises:
        EchoFedError: CARD_NEWER, or CHECKPOINT_CORRUPT where the weights are not those of the card.
    """
    card = read_synthesizer_card(read_json(folder / CARD_FILE))
    weights = load_stored_weights(folder, card.weights_sha256, model=f"synthesizer {card.id}")
    return card, weights
