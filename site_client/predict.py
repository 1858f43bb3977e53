"""What a file shows: experts look at its frames, a fusion weighs them, the verdict says why."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shared.echo.expert import Block, load_fusion
from shared.echo.verdict import ExpertSay, Verdict
from shared.errors import Code, EchoFedError
from shared.models.fused import FusionOutput
from shared.models.fusion import ScoreFusion
from shared.models.fusion_weights import FusionModel
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
    """

    name: str
    council: Council
    abstain_below: float


def open_fusion(store: SiteStore, fusion: str = "") -> Judge:
    """A fusion with its experts as a judge; the one that is serving where none is named.

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
    return Judge(name, open_council(store, name), card.abstain_below)


def open_single(store: SiteStore, expert: str) -> Judge:
    """One expert as a judge of its own; it never abstains.

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
    return Verdict(
        fusion=judge.name,
        view=view,
        probabilities=by_view,
        abstains=by_view[view] < judge.abstain_below,
        experts=tuple(says),
        remainder=dict(zip(views, remainder_V.tolist(), strict=True)),
        num_frames=len(clip.pixels_THW),
    )


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
