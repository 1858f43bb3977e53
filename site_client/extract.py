"""Run an expert over a dataset's frames and gather what it saw into a feature export."""

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.echo.features import ExportCard, FeatureExport
from shared.echo.manifest import SPLITS, DatasetManifest
from shared.models.expert import FrozenExpert, Look
from shared.seeding import numpy_generator
from site_client.augment.geometry import PAPER_REACH, Changes, draw_changes, join_changes
from site_client.frames import FrameSet, load_frames
from site_client.settings import ExtractSettings
from site_client.store import SiteStore
from site_client.training.batches import UNMIXED, picture, plain_batches
from site_client.training.expert import numeric_threads


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Which frames are looked at, and in which pass."""

    place_N: NDArray[np.int64]
    pass_N: NDArray[np.int8]


def extract(
    store: SiteStore,
    manifest: DatasetManifest,
    expert: FrozenExpert,
    settings: ExtractSettings,
    *,
    policy_version: int,
    created: str,
) -> FeatureExport:
    """Look at all supervised frames once, and at the training frames again in augmented passes.

    An augmented picture depends on the dataset, the frame and the pass alone, not on the expert or
    its settings: rows of several experts join by frame and pass.

    Args:
        store: the site's.
        manifest: of the dataset.
        expert: any expert, its own or received.
        settings: passes, batch size, threads.
        policy_version: revision of the policy in force.
        created: time for the card.

    Raises:
        EchoFedError: FRAMES_MISSING, FEATURES_NOT_FINITE.
    """
    card = expert.card
    frames = load_frames(store, [manifest.id], image_size=card.image_size)
    words = frames.vocabularies[0]
    rows = _choose_rows(frames, settings.passes)
    with numeric_threads(settings.threads):
        look = look_at(expert, _pictures(frames, settings))
    export = FeatureExport(
        ExportCard(
            id=f"{manifest.site}-{manifest.id}-{words.dataset_hash[:8]}-{card.weights_sha256[:8]}",
            site=manifest.site,
            dataset=manifest.id,
            dataset_hash=words.dataset_hash,
            origin=manifest.origin,
            expert=card.id,
            expert_sha256=card.weights_sha256,
            labels=words.labels,
            label_views=words.label_views,
            views=card.views,
            num_rows=len(rows.place_N),
            feature_width=card.feature_width,
            num_evidence=len(card.layers),
            policy_version=policy_version,
            created=created,
            annotated=words.annotated,
            never_images=words.never_images,
            folds=words.folds,
        ),
        frame_N=_frame_pseudonyms(frames, store.key())[rows.place_N],
        patient_N=_number_anew(frames.patient_N[rows.place_N]),
        clip_N=_number_anew(frames.clip_N[rows.place_N]),
        label_N=frames.label_N[rows.place_N],
        split_N=frames.split_N[rows.place_N],
        pass_N=rows.pass_N,
        features_ND=_to_half(look.features_ND),
        logits_NC=look.logits_NC.numpy(),
        discrepancy_NL=look.discrepancy_NL.numpy(),
    )
    export.validate()
    return export


def look_at(expert: FrozenExpert, batches: Iterable[Tensor]) -> Look:
    """What an expert sees in all batches, as one."""
    looks = [expert.look(images_N1HW) for images_N1HW in batches]
    return Look(
        torch.cat([look.features_ND for look in looks]),
        torch.cat([look.logits_NC for look in looks]),
        torch.cat([look.discrepancy_NL for look in looks]),
    )


def augmented_batches(frames: FrameSet, number: int, batch_size: int) -> Iterator[Tensor]:
    """The training frames in one augmented pass, with BackMix where they have a sector mask.

    Args:
        frames: of one dataset, all splits.
        number: of the pass, from 1.
        batch_size: frames in a batch.
    """
    train = frames.of_split("train")
    donors = np.flatnonzero(train.has_mask_K[train.clip_N])
    for begin in range(0, len(train), batch_size):
        place_N = np.arange(begin, min(begin + batch_size, len(train)))
        drawn = [_draw(train, int(place), number, donors) for place in place_N]
        donor_N = np.array([donor for donor, _ in drawn])
        yield picture(train, place_N, donor_N, join_changes([changes for _, changes in drawn]))


def _draw(
    train: FrameSet, place: int, number: int, donors: NDArray[np.integer]
) -> tuple[int, Changes]:
    """Donor and change of one frame in one pass."""
    clip = int(train.clip_N[place])
    generator = numpy_generator(
        number, train.vocabularies[0].dataset_hash, train.clip_keys[clip], int(train.time_N[place])
    )
    donor = int(generator.choice(donors)) if train.has_mask_K[clip] else UNMIXED
    return donor, draw_changes(PAPER_REACH, 1, generator)


def _choose_rows(frames: FrameSet, passes: int) -> _Rows:
    """All frames in pass 0, then the training frames in each augmented pass."""
    every = np.arange(len(frames))
    train = np.flatnonzero(frames.split_N == SPLITS.index("train"))
    numbers = [np.zeros(len(every)), *(np.full(len(train), n + 1) for n in range(passes))]
    return _Rows(
        np.concatenate([every, *([train] * passes)]), np.concatenate(numbers).astype(np.int8)
    )


def _pictures(frames: FrameSet, settings: ExtractSettings) -> Iterator[Tensor]:
    """The pictures of ``_choose_rows``, in its order."""
    yield from plain_batches(frames, settings.batch_size)
    for number in range(1, settings.passes + 1):
        yield from augmented_batches(frames, number, settings.batch_size)


def _frame_pseudonyms(frames: FrameSet, key: bytes) -> NDArray[np.int64]:
    """64 bits of a keyed hash of each frame: the same for every expert, meaningless elsewhere."""
    dataset = frames.vocabularies[0].dataset_hash
    texts = (
        f"{dataset}:{frames.clip_keys[clip]}:{time}"
        for clip, time in zip(frames.clip_N, frames.time_N, strict=True)
    )
    digests = b"".join(hmac.digest(key, text.encode(), "sha256")[:8] for text in texts)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def _number_anew(number_N: NDArray[np.int32]) -> NDArray[np.int32]:
    """Other numbers for the same groups, drawn from the system's entropy for each export."""
    _, group_N = np.unique(number_N, return_inverse=True)
    order = np.random.default_rng().permutation(int(group_N.max()) + 1)
    return order[group_N].astype(np.int32)


def _to_half(features_ND: Tensor) -> NDArray[np.float16]:
    """Half precision; what does not fit becomes infinite and is refused by the export's check."""
    half_ND: NDArray[np.float16] = features_ND.half().numpy()
    return half_ND
