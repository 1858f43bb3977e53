"""Exports of experts that never saw an image: Gaussian latents with views, domains and patients.

A frame is a point: prototype of its view + offset of its dataset + its patient + noise. An expert
sees a projection of the point, knows the views of its own dataset only, and is sure of itself
everywhere; its evidence is the distance from its own dataset. So no expert alone can tell all
views, and which of them is at home can be learnt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.echo.expert import ExpertCard, FusionCard
from shared.echo.features import ExportCard, FeatureExport
from shared.echo.ontology import load_ontology
from shared.files import sha256_hex
from shared.models.fusion_weights import FusionModel
from shared.seeding import derive_seed, numpy_generator

_LATENT = 24
_LAYERS = 4


@dataclass(frozen=True, slots=True)
class GaussianWorld:
    """Datasets by site and their views.

    Args:
        views: site -> views of its one dataset, which is called ``<site>-echo``.
        num_clips: clips per view; every clip is of another patient.
        num_frames: frames per clip.
        num_passes: augmented passes over the training rows, beside the plain one.
        noise: deviation of a frame from its clip.
    """

    views: Mapping[str, Sequence[str]]
    num_clips: int = 20
    num_frames: int = 2
    num_passes: int = 1
    noise: float = 0.8
    feature_width: int = 32
    seed: int = 0

    def content_hash(self, site: str) -> str:
        """Hash that stands for the content of a site's dataset."""
        return sha256_hex(f"{site} {self.seed}".encode())

    def expert(self, site: str) -> ExpertCard:
        """The card of the expert trained on a site's dataset."""
        weights = sha256_hex(f"weights {site} {self.seed}".encode())
        return ExpertCard(
            id=f"{site}-{site}-echo-{weights[:8]}",
            site=site,
            datasets=(f"{site}-echo",),
            dataset_hashes=(self.content_hash(site),),
            origin="phantom",
            backbone="gaussian",
            image_size=112,
            views=load_ontology().order(self.views[site]),
            feature_width=self.feature_width,
            layers=tuple(f"layer{place}" for place in range(_LAYERS)),
            weights_sha256=weights,
            parent="",
            seed=self.seed,
            settings_hash="",
            settings={},
            metrics={},
            created="2026-01-01T00:00:00+00:00",
        )

    def experts(self) -> dict[str, ExpertCard]:
        """All experts by id."""
        cards = [self.expert(site) for site in self.views]
        return {card.id: card for card in cards}

    def export(self, site: str, expert_site: str) -> FeatureExport:
        """What the expert of one site saw in the dataset of another (or its own)."""
        rows = self._rows(site)
        expert = self.expert(expert_site)
        generator = numpy_generator(self.seed, "projection", expert_site)
        projection = generator.normal(size=(_LATENT, self.feature_width)) / np.sqrt(_LATENT)
        gain = np.exp(generator.uniform(-0.5, 0.5))  # heads are not comparable
        blurred = rows["latent"] + generator.normal(size=rows["latent"].shape)
        home_N = blurred - self._vector("domain", expert_site)
        prototypes_CZ = np.stack([self._vector("view", view) for view in expert.views])
        logits_NC = gain * (home_N @ prototypes_CZ.T - 0.5 * (prototypes_CZ**2).sum(axis=1))
        distance_N = np.sqrt((home_N**2).mean(axis=1))
        spread_NL = distance_N[:, None] * np.linspace(0.5, 2.0, _LAYERS)
        salt = numpy_generator(self.seed, "salt", site, expert_site)
        num = len(home_N)
        return FeatureExport(
            card=self._card(site, expert, num),
            frame_N=rows["frame"],
            patient_N=salt.permutation(num)[rows["clip"]].astype(np.int32),
            clip_N=salt.permutation(num)[rows["clip"]].astype(np.int32),
            label_N=rows["label"].astype(np.int16),
            split_N=rows["split"].astype(np.int8),
            pass_N=rows["pass"].astype(np.int8),
            features_ND=np.maximum(blurred @ projection, 0).astype(np.float16),
            logits_NC=logits_NC.astype(np.float32),
            discrepancy_NL=-spread_NL.astype(np.float32),
        )

    def _card(self, site: str, expert: ExpertCard, num_rows: int) -> ExportCard:
        labels = load_ontology().order(self.views[site])
        return ExportCard(
            id=f"{site}-echo--{expert.id}",
            site=site,
            dataset=f"{site}-echo",
            dataset_hash=self.content_hash(site),
            origin="phantom",
            expert=expert.id,
            expert_sha256=expert.weights_sha256,
            labels=labels,
            label_views=tuple((label,) for label in labels),
            views=expert.views,
            num_rows=num_rows,
            feature_width=self.feature_width,
            num_evidence=_LAYERS,
            policy_version=1,
            created="2026-01-01T00:00:00+00:00",
        )

    def _vector(self, kind: str, name: str) -> NDArray[np.float64]:
        """Prototype of a view or offset of a domain: the same for every expert."""
        scale = 1.0 if kind == "view" else 2.5
        return scale * numpy_generator(self.seed, kind, name).normal(size=_LATENT)

    def _rows(self, site: str) -> dict[str, NDArray[Any]]:
        """Keys, labels and latents of a dataset; half the clips train, a quarter each val, test."""
        views = load_ontology().order(self.views[site])
        generator = numpy_generator(self.seed, "rows", site)
        shape = (len(views), self.num_clips, self.num_frames, 1 + self.num_passes)
        label, clip, frame, pass_ = (axis.ravel() for axis in np.indices(shape))
        split = np.choose(np.minimum(4 * clip // self.num_clips, 3), (0, 0, 1, 2))
        patients = generator.normal(size=(len(views), self.num_clips, _LATENT)) * 0.6
        noise = generator.normal(size=(len(label), _LATENT)) * self.noise
        prototypes = np.stack([self._vector("view", view) for view in views])
        latent = prototypes[label] + patients[label, clip] + noise + self._vector("domain", site)
        names = label * self.num_clips * self.num_frames + clip * self.num_frames + frame
        keep = (pass_ == 0) | (split == 0)
        pseudonyms = np.array(
            [derive_seed(self.seed, site, int(name)) for name in names], dtype=np.int64
        )
        return {
            "label": label[keep],
            "clip": (label * self.num_clips + clip)[keep],
            "split": split[keep],
            "pass": pass_[keep],
            "frame": pseudonyms[keep],
            "latent": latent[keep],
        }


def fusion_card(fusion: FusionModel, weights: bytes) -> FusionCard:
    """A card for packed weights, with nothing in it that reading them back does not need."""
    return FusionCard(
        id="fusion-x",
        variant=fusion.variant,
        views=fusion.views,
        blocks=fusion.blocks,
        weights_sha256=sha256_hex(weights),
        parent="",
        exports=(),
        fresh=(),
        cached=(),
        missing=(),
        seed=3,
        settings_hash="",
        settings={},
        metrics={},
        abstain_below=0.0,
        created="2026-01-01T00:00:00+00:00",
    )
