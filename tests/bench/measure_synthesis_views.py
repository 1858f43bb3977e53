"""Whether drawn frames can stand for a view that is missing, into synthesis_views.csv.

``python tests/bench/measure_synthesis_views.py SITE DATASET --view A4C --out FOLDER``: classifiers
of views on all real training frames, on those without one view, and on those with as many drawn
frames in that view's place, tried on the real test frames. The synthesizer has seen that view; who
learns the views has not. The network is that of experts; all take the same number of steps.
"""

import argparse
import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measure_segmentation import commit, machine
from synthesis_downstream import interval_of
from synthesis_protocol import Asked, Protocol, draw_maps, joined
from synthesis_systems import SYSTEMS, drawn, sampler_of, stored, trained
from torch import Tensor, nn

from shared.models.backbone import build_expert
from shared.seeding import derive_seed, numpy_generator
from site_client.annotated import AnnotatedFrames
from site_client.augment.warp import WarpReach, draw_warp, shade, warp_maps
from site_client.settings import ExpertSettings
from site_client.store import SiteStore

log = logging.getLogger(__name__)
OUT = Path(__file__).parent / "synthesis_views.csv"
REACH = WarpReach(15.0, 0.15, 0.05, 0.15, 0.35)
BATCH = 16
_WHITE = 255.0


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What a classifier learns in a given number of steps."""

    frames: AnnotatedFrames
    steps: int
    seed: int

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Squares with mean 0 and deviation 1, and the places of their views."""
        for step in range(self.steps):
            generator = numpy_generator(self.seed, "views", step)
            place_N = generator.integers(0, len(self.frames), BATCH)
            warp = draw_warp(REACH, BATCH, generator)
            grey_NSS = shade(torch.from_numpy(self.frames.pixels_NSS[place_N]).float(), warp)
            grey_NSS = warp_maps(grey_NSS, warp, is_nearest=False, repeats_edge=False)
            yield _scored(grey_NSS), torch.from_numpy(self.frames.view_N[place_N].astype(np.int64))


def main() -> None:
    """Train what is needed, try it, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, help="folder of a copy of the site")
    parser.add_argument("dataset")
    parser.add_argument("--view", required=True, help="whose frames are replaced")
    parser.add_argument("--system", default="ours", choices=SYSTEMS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=300.0, help="the synthesizer learns")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400, help="of a classifier's training")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--csv", type=Path, default=OUT, help="table that is written")
    told = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(2)
    asked = Asked(told.dataset, told.seed, 0, told.seconds, 0, told.size, told.steps)
    protocol = Protocol(SiteStore(told.site), asked, told.out / f"{told.dataset}-{told.seed}")
    rows = [
        {"data": told.dataset, "view": told.view, "system": told.system, "seed": told.seed,
         "seconds": told.seconds, "frames": name, **row,
         "machine": machine(), "commit": commit()}
        for name, row in _compared(protocol, told.view, told.system).items()
    ]  # fmt: skip
    with told.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)  # noqa: T201


def _compared(protocol: Protocol, view: str, system: str) -> dict[str, dict[str, object]]:
    frames = protocol.train
    place = frames.views.index(view)
    others = frames.take(np.flatnonzero(frames.view_N != place))
    own = frames.take(np.flatnonzero(frames.view_N == place))
    drawing = draw_maps(own, len(own), protocol.asked.seed, "views")
    synthesizer = stored(protocol, trained(system, protocol, lambda stride: None)["id"])
    sampler = sampler_of(system, synthesizer)
    images_NSS, _ = drawn(synthesizer, drawing, sampler, protocol.folder / system / "views")
    sets = {
        "all real": frames,
        "view removed": others,
        "view drawn": joined([others, drawing.with_pixels(images_NSS)]),
    }
    return {name: _tried(protocol, one, place) for name, one in sets.items()}


def _tried(protocol: Protocol, frames: AnnotatedFrames, view: int) -> dict[str, object]:
    """Recall of the view, and mean recall of all, over the test patients."""
    asked = protocol.asked
    network = _learnt(Views(frames, asked.segmenter_steps, asked.seed), len(frames.views))
    test = protocol.test
    with torch.inference_mode():
        answer_NV = [
            network(_scored(torch.from_numpy(one[None]).float())) for one in test.pixels_NSS
        ]
    is_right_N = torch.cat(answer_NV).argmax(dim=1).numpy() == test.view_N
    recalls = [float(is_right_N[test.view_N == place].mean()) for place in np.unique(test.view_N)]
    of_view_N = test.view_N == view
    by_patient = np.array(
        [
            is_right_N[of_view_N & (test.patient_N == patient)].mean()
            for patient in np.unique(test.patient_N[of_view_N])
        ]
    )
    return {
        "train_frames": len(frames),
        "test_frames": len(test),
        "recall": round(float(is_right_N[of_view_N].mean()), 3),
        "recall_interval": interval_of(by_patient),
        "balanced_accuracy": round(float(np.mean(recalls)), 3),
    }


def _learnt(views: Views, num_views: int) -> nn.Module:
    """A classifier after its steps; the rate falls along half a cosine."""
    settings = ExpertSettings()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(views.seed, "weights"))
        network = build_expert(settings.backbone, num_views)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    course = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, views.steps)
    network.train()
    for images_N1SS, view_N in views.batches():
        loss = nn.functional.cross_entropy(network(images_N1SS), view_N)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.step()
    return network.eval()


def _scored(grey_NSS: Tensor) -> Tensor:
    mean_N11 = grey_NSS.mean(dim=(1, 2), keepdim=True)
    spread_N11 = grey_NSS.std(dim=(1, 2), keepdim=True).clamp(min=1e-4 * _WHITE)
    return ((grey_NSS - mean_N11) / spread_N11)[:, None]


if __name__ == "__main__":
    main()
