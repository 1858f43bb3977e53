"""What a file shows: experts look at its frames, a fusion weighs them, the verdict says why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.echo.expert import Block, Rejection, load_fusion
from shared.echo.verdict import Doubt, ExpertSay, Verdict
from shared.errors import Code, EchoFedError
from shared.models.expert import Look
from shared.models.fused import FusionOutput
from shared.models.fusion import ScoreFusion
from shared.models.fusion_weights import FusionModel
from shared.models.novelty import Novelty
from site_client.clip_file import StoredClip
from site_client.datasets import SOURCES
from site_client.datasets.listing import source_of
from site_client.deidentify import KeptPixels, deidentify
from site_client.evaluate import Council, open_council, open_expert
from site_client.frames import squeeze_pixels
from site_client.store import SiteStore
from site_client.training.batches import normalised

_BATCH = 64  # frames in a forward pass; changes the speed, not the result
_FLOOR = -1e3  # natural logarithm that stands for probability zero, as in the fusion's calibration


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """What gives a verdict.

    Args:
        name: id of the fusion, or of the expert where there is none.
        council: who looks.
        abstain_below: a verdict whose highest probability is lower abstains.
        rejection: what is taken for unknown at this site.
    """

    name: str
    council: Council
    abstain_below: float
    rejection: Rejection | None = None


def open_fusion(store: SiteStore, fusion: str = "", *, site: str = "") -> Judge:
    """A fusion with its experts as a judge; the one that is serving where none is named.

    Args:
        store: the site's.
        fusion: id.
        site: whose thresholds of the unknown hold.

    Raises:
        EchoFedError: FUSION_UNKNOWN, EXPERT_UNKNOWN, CHECKPOINT_CORRUPT, CARD_NEWER.
    """
    name = fusion or store.serving_fusion()
    if name is None:
        raise EchoFedError(
            Code.FUSION_UNKNOWN,
            "no fusion has been promoted to this site",
            "wait for the centre to promote one, or name an expert with --expert",
        )
    card, _ = load_fusion(store.require_fusion(name))
    return Judge(name, open_council(store, name), card.abstain_below, card.rejection(site))


def open_single(store: SiteStore, expert: str) -> Judge:
    """One expert as a judge of its own; it never abstains, and knows nothing of the unknown.

    Raises:
        EchoFedError: EXPERT_UNKNOWN, CHECKPOINT_CORRUPT, CARD_NEWER.
    """
    opened = open_expert(store, expert)
    card = opened.card
    block = Block(card.id, card.views, card.feature_width, len(card.layers))
    return Judge(expert, Council(ScoreFusion([block], "sum").eval(), (opened,)), 0.0)


def read_clip(path: Path, kept: KeptPixels) -> StoredClip:
    """Read a file of any source and remove identity as at ingest; nothing is stored.

    Raises:
        EchoFedError: DATA_UNREADABLE, PIXELS_MISSING, FRAMES_MISSING, SECTOR_EMPTY.
    """
    if not path.is_file():
        raise EchoFedError(Code.DATA_UNREADABLE, "the file is not there", "check its path")
    reader = SOURCES[source_of(path)]
    return deidentify(reader.open(reader.read(path)).clip(), kept)


def predict(clip: StoredClip, judge: Judge) -> Verdict:
    """The verdict on a clip: all its frames, mean log-probability."""
    council = judge.council
    images = {size: normalised(squeeze_pixels(clip.pixels_THW, size)) for size in council.sizes()}
    looks = council.look({size: torch.split(image, _BATCH) for size, image in images.items()})
    fused = council.fuse(looks)
    probabilities = _clip_probabilities(fused.log_probabilities_NV)
    contributions_EV, remainder_V = _explain(council.fusion, fused)
    views = council.fusion.views
    by_view = dict(zip(views, probabilities, strict=True))
    says = [
        ExpertSay(
            expert=expert.card.id,
            id_score=float(fused.id_scores_NE[:, place].mean()),
            contributions=dict(zip(views, contributions_EV[place].tolist(), strict=True)),
            top_view=_top_view(look.logits_NC, expert.card.views),
        )
        for place, (expert, look) in enumerate(zip(council.experts, looks, strict=True))
    ]
    view = max(by_view, key=by_view.__getitem__)
    id_scalar, unknown = _place(council.novelty, judge.rejection, looks)
    is_low = by_view[view] < judge.abstain_below
    doubts = (*unknown, *(("low probability",) if is_low else ()))
    return Verdict(
        fusion=judge.name,
        view=view,
        probabilities=by_view,
        abstains=bool(doubts),
        experts=tuple(says),
        remainder=dict(zip(views, remainder_V.tolist(), strict=True)),
        num_frames=len(clip.pixels_THW),
        doubts=doubts,
        id_scalar=id_scalar,
    )


def _place(
    novelty: Novelty | None, rejection: Rejection | None, looks: Sequence[Look]
) -> tuple[float | None, tuple[Doubt, ...]]:
    """How much at home a clip is, by the mean score of its frames, and what is unknown about it."""
    scorer = novelty.scorer() if novelty is not None else None
    if novelty is None or scorer is None:
        return None, ()
    inputs = (
        [look.features_ND.numpy() for look in looks],
        [look.logits_NC.numpy() for look in looks],
        [look.discrepancy_NL.numpy() for look in looks],
    )
    id_scalar = float(novelty.id_scalar(scorer.score(*inputs).mean()))
    if rejection is None or id_scalar >= rejection.id_scalar_below:
        return id_scalar, ()
    return id_scalar, ("unknown scanner or view",)


def _clip_probabilities(told_NV: Tensor) -> list[float]:
    mean_V = np.maximum(told_NV.double().numpy(), _FLOOR).mean(axis=0)
    weight_V = np.exp(mean_V - mean_V.max())
    probabilities: list[float] = (weight_V / weight_V.sum()).tolist()
    return probabilities


@torch.inference_mode()
def _explain(fusion: FusionModel, fused: FusionOutput) -> tuple[Tensor, Tensor]:
    """Mean contributions (E, V) over the frames, and what pooling adds (V)."""
    contributions_NEV, remainder_NV = fusion.explain(fused)
    return contributions_NEV.mean(dim=0), remainder_NV.mean(dim=0)


def _top_view(logits_NC: Tensor, views: tuple[str, ...]) -> str:
    return views[int(torch.log_softmax(logits_NC, dim=1).mean(dim=0).argmax())]
