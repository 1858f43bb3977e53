"""Experts on a shared trunk beside full ones: held-out macro-F1 and evidence, into trunk.csv.

Run after ``make figures``: ``measure_trunk.py runs/figures/seed-* --out runs/trunk``. The public
trunk learns from phantom patients of its own: all ten planes, on three scanners, none of them
valley's or island's. All experts learn as long and as fast as the figures' own. Phantom only.
"""

import argparse
import csv
import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from inside_trunk import HeadOnly, num_learnt, with_low_rank
from sklearn.metrics import roc_auc_score
from torch import nn

from shared.echo.expert import load_expert
from shared.echo.label_sets import possible_views
from shared.metrics import by_clip, score_labels, vocabulary_log_probabilities
from shared.models.backbone import build_expert, load_weights, unpack_tensors
from shared.models.expert import FrozenExpert
from shared.models.loss import label_set_loss
from shared.phantom.hospital import HospitalSpec, write_hospital
from shared.phantom.planes import VIEWS
from shared.settings import build_settings, hash_settings
from site_client.augment.backmix import LossWeights
from site_client.augment.geometry import Reach
from site_client.evaluate import evaluate_expert, open_expert
from site_client.extract import look_at_once
from site_client.frames import FrameSet, load_frames
from site_client.ingest import IngestRequest, ingest
from site_client.settings import ExpertSettings, IngestSettings
from site_client.store import SiteStore
from site_client.training.batches import Material, batch_loss, plain_batches
from site_client.training.checkpoint import Checkpoint
from site_client.training.expert import train_expert
from site_client.training.loop import Objective, Plan, train
from site_client.training.validation import Judge

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "trunk.csv"
HOSPITALS = ("north", "harbour", "valley", "island")
PUBLIC_SCANNERS = ("aurora", "borealis", "ember")
PUBLIC_PATIENTS = (24, 2, 2)  # of each scanner: train, validate, test
SETTINGS = {  # of deploy/configs/experiments/demo.yaml
    "backbone": "test_resnet", "image_size": 80, "epochs": 7, "patience": 7,
    "schedule": "onecycle", "learning_rate": 0.003, "batch_size": 12, "rotation_deg": 10,
    "flip_probability": 0, "threads": 1,
}  # fmt: skip
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    """Measure and write the table, a row at a time."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders seed-N of make figures")
    parser.add_argument("--out", type=Path, required=True, help="for the trunk and the experts")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    trunk = public_trunk(asked.out / "public")
    with OUT.open("w", newline="") as file:
        writer = None
        for row in measure(asked.folders, asked.out, trunk):
            row |= {"origin": "phantom", "commit": commit}
            log.info("%s", row)
            writer = writer or csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
            file.flush()


def public_trunk(root: Path) -> Path:
    """The folder of the trunk's card and weights, trained once."""
    store = SiteStore(root)
    store.create_key()
    if not store.experts():
        for place, scanner in enumerate(PUBLIC_SCANNERS):
            _ingest_public(store, scanner, first_patient=90_000 + 1000 * place)
        settings = build_settings(ExpertSettings, SETTINGS | {"seed": 77})
        names = [f"public-{scanner}" for scanner in PUBLIC_SCANNERS]
        train_expert(store, names, settings, site="public", now=NOW, report=lambda _: None)
    return store.expert_folder(store.experts()[0])


def _ingest_public(store: SiteStore, scanner: str, *, first_patient: int) -> None:
    folder = store.root.parent / "public-data" / scanner
    spec = HospitalSpec(
        name=scanner, scanner=scanner, labels={view: view for view in VIEWS},
        num_patients=sum(PUBLIC_PATIENTS), clips_per_view=1, frames_per_clip=2, size_HW=(240, 320),
        screen_correlation=0.0, seed=77, first_patient=first_patient,
    )  # fmt: skip
    clips = write_hospital(spec, folder).clips
    patients = sorted({clip["patient"] for clip in clips})
    splits = np.repeat(["train", "val", "test"], PUBLIC_PATIENTS)
    split_of = dict(zip(patients, splits, strict=True))
    rows = [f"{clip['file']},{clip['label']},{split_of[clip['patient']]}" for clip in clips]
    (folder / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
    (folder / "labels.yaml").write_text(yaml.safe_dump({view: [view] for view in VIEWS}))
    request = IngestRequest(
        dataset=f"public-{scanner}", site="public", origin="phantom",
        labels=folder / "labels.csv", label_map=folder / "labels.yaml",
    )  # fmt: skip
    ingest(folder, store, request, IngestSettings(text="keep"), now=NOW)


def measure(folders: list[Path], out: Path, trunk: Path) -> Iterator[dict[str, str]]:
    """The product's kinds on all folders, the others on the first: method by method."""
    benches = {
        folder: [Bench(folder, hospital, out) for hospital in HOSPITALS] for folder in folders
    }
    for bench in (bench for hospitals in benches.values() for bench in hospitals):
        yield bench.row("full expert", bench.full())
        yield bench.row("adapter on a public trunk", bench.adapter(trunk))
        yield bench.row("head on a public trunk", bench.head_only(trunk))
    north, *others = benches[folders[0]]
    for bench in others:
        yield bench.row("adapter on north's expert", bench.adapter(north.full_folder))
    for bench in benches[folders[0]]:
        yield bench.row("low rank inside a public trunk", bench.low_rank(trunk))
        yield bench.row("full expert from a public trunk", bench.tuned(trunk))


class Bench:
    """One hospital of one folder; what is trained lies in a site's folder beside its data."""

    def __init__(self, folder: Path, hospital: str, out: Path) -> None:
        """Link the hospital's datasets into a folder of our own; the original is only read."""
        self.seed = int(folder.name.removeprefix("seed-"))
        self.hospital = hospital
        self.dataset = f"{hospital}-echo"
        self.full_folder = next((folder / hospital / "experts").glob(f"{hospital}-*"))
        self.store = SiteStore(out / folder.name / hospital)
        self.store.root.mkdir(parents=True, exist_ok=True)
        self.store.create_key()
        for other in HOSPITALS:
            link = self.store.root / "datasets" / f"{other}-echo"
            link.parent.mkdir(exist_ok=True)
            if not link.is_symlink():
                link.symlink_to((folder / other / "datasets" / link.name).resolve())

    def row(self, method: str, figures: dict[str, str]) -> dict[str, str]:
        """A row of the table."""
        return {"seed": str(self.seed), "hospital": self.hospital, "method": method} | figures

    def full(self) -> dict[str, str]:
        """The expert that the hospital trained itself."""
        return self._figures(self._adopt(self.full_folder))

    def adapter(self, trunk: Path) -> dict[str, str]:
        """The product's adapter beside a trunk, trained once."""
        return self._trained(trunk=self._adopt(trunk).card.id)

    def tuned(self, trunk: Path) -> dict[str, str]:
        """A full expert that starts from the trunk's weights."""
        return self._trained(start_from=self._adopt(trunk).card.id)

    def _trained(self, **begin: str) -> dict[str, str]:
        """The figures of an expert of the product, trained now unless it was before."""
        settings = build_settings(ExpertSettings, SETTINGS | {"seed": self.seed} | begin)
        wanted = hash_settings(settings)
        known = [card for card in self.store.expert_cards() if card.settings_hash == wanted]
        if not known:
            known = [
                train_expert(
                    self.store, [self.dataset], settings, site=self.hospital, now=NOW,
                    report=lambda _: None,
                )
            ]  # fmt: skip
        return self._figures(open_expert(self.store, known[0].id))

    def head_only(self, trunk: Path) -> dict[str, str]:
        """A head alone."""
        on = self._adopt(trunk)
        return self._learn(lambda num: HeadOnly(on.encoder, num, width=on.card.feature_width))

    def low_rank(self, trunk: Path) -> dict[str, str]:
        """Changes inside the trunk."""
        card, weights = load_expert(trunk)
        model = build_expert(card.backbone, len(card.views), image_size=card.image_size)
        load_weights(model, unpack_tensors(weights))
        return self._learn(lambda num: with_low_rank(model, num))

    def _adopt(self, folder: Path) -> FrozenExpert:
        to = self.store.expert_folder(folder.name)
        if not to.is_dir():
            shutil.copytree(folder, to)
        return open_expert(self.store, folder.name)

    def _figures(self, expert: FrozenExpert) -> dict[str, str]:
        card = expert.card
        val, test = (
            evaluate_expert(self.store, card.id, self.dataset, split=split)
            for split in ("val", "test")
        )
        size = (self.store.expert_folder(card.id) / "weights.safetensors").stat().st_size
        return {
            "val_frame_f1": f"{val.frames.macro_f1:.4f}",
            "test_frame_f1": f"{test.frames.macro_f1:.4f}",
            "test_clip_f1": f"{test.clips.macro_f1:.4f}",
            "foreign_auroc": f"{self._foreign_auroc(expert):.4f}",
            "train_cpu_s": f"{card.metrics['cpu_seconds']:.0f}",
            "bytes": str(size),
        }

    def _foreign_auroc(self, expert: FrozenExpert) -> float:
        """How well the mean discrepancy tells own test frames from other hospitals' (AUROC)."""
        means = {}
        for hospital in HOSPITALS:
            frames = self._frames("test", hospital)
            (look,) = look_at_once(
                [expert], plain_batches(frames.take(np.arange(0, len(frames), 4)), 64)
            )
            means[hospital] = look.discrepancy_NL.mean(dim=1).numpy()
        own = means.pop(self.hospital)
        each = [
            roc_auc_score(np.repeat([1, 0], [len(own), len(other)]), np.concatenate([own, other]))
            for other in means.values()
        ]
        return float(np.mean(each))

    def _frames(self, split: str, hospital: str = "") -> FrameSet:
        name = f"{hospital or self.hospital}-echo"
        return load_frames(self.store, [name], image_size=SETTINGS["image_size"], splits=(split,))

    def _learn(self, build: Callable[[int], nn.Module]) -> dict[str, str]:
        """Train what the product has no kind for by the product's own loop, and score it."""
        manifest = self.store.manifest(self.dataset)
        views = manifest.label_map().views()
        settings = build_settings(ExpertSettings, SETTINGS | {"seed": self.seed})
        torch.manual_seed(self.seed)
        model = build(len(views))
        frames, val, test = (self._frames(split) for split in ("train", "val", "test"))
        material = Material(
            frames, frames.allowed_views(views), frames.has_mask_K[frames.clip_N],
            LossWeights(1.0, 1.0), Reach(settings.rotation_deg, 0.0, settings.brightness),
            settings.batch_size, settings.seed,
        )  # fmt: skip
        plan = Plan(
            settings.epochs, material.num_batches, settings.patience, settings.learning_rate,
            settings.schedule, settings.seed,
        )  # fmt: skip
        checkpoint = Checkpoint(self.store.root / "runs" / "bench")
        checkpoint.remove()
        begun = time.process_time()
        objective = Objective(
            material.batches, partial(batch_loss, label_set_loss), Judge(val, views, label_set_loss)
        )
        train(model, objective, plan, checkpoint, lambda _: None)
        checkpoint.remove()
        seconds = time.process_time() - begun
        val_frame, _ = _score(model, val, views)
        test_frame, test_clip = _score(model, test, views)
        return {
            "val_frame_f1": f"{val_frame:.4f}",
            "test_frame_f1": f"{test_frame:.4f}",
            "test_clip_f1": f"{test_clip:.4f}",
            "foreign_auroc": "",
            "train_cpu_s": f"{seconds:.0f}",
            "bytes": str(4 * num_learnt(model)),
        }


@torch.inference_mode()
def _score(model: nn.Module, frames: FrameSet, views: tuple[str, ...]) -> tuple[float, float]:
    """Macro-F1 of frames and of clips in the dataset's own vocabulary."""
    logits_NC = torch.cat([model(batch) for batch in plain_batches(frames, 64)])
    told_NC = torch.log_softmax(logits_NC.double(), dim=1).numpy()
    words = frames.vocabularies[0]
    told_NK = vocabulary_log_probabilities(told_NC, possible_views(words, views))
    told_MK, label_M = by_clip(told_NK, frames.label_N, frames.clip_N)
    return (
        score_labels(told_NK, frames.label_N, words.labels).macro_f1,
        score_labels(told_MK, label_M, words.labels).macro_f1,
    )


if __name__ == "__main__":
    main()
