"""A site with annotated ventricles in a sector, and a synthesizer that shows what it is asked."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.echo.annotation import Annotation
from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest
from shared.echo.mask import STRUCTURES
from shared.phantom.labels import draw_labels
from shared.seeding import numpy_generator
from shared.synthesis.answer import draw_order
from shared.synthesis.order import Order, Part
from shared.testing.drawers import DRAWER_CARD, ShowingDrawer
from site_client.clip_file import StoredClip
from site_client.store import SiteStore
from site_client.synthesize.maps import MapShape, open_maps
from site_client.synthesize.request import SynthesisReport, SynthesisRequest
from site_client.synthesize.run import synthesize

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZE = DRAWER_CARD.image_size
NAMES = DRAWER_CARD.structures[1:]
SPLIT_OF = (0, 0, 0, 1, 2)


@pytest.fixture
def store(tmp_path: Path) -> SiteStore:
    """Ten patients with one annotated frame each; two of them are for testing."""
    store = SiteStore(tmp_path / "site")
    store.create_key()
    values = np.array([NAMES.index(n) if n in NAMES else 0 for n in STRUCTURES], np.uint8)
    clips = []
    for patient in range(10):
        seen = draw_labels("A4C", (48, 64), numpy_generator(1, "patient", patient))
        annotation = Annotation((0,), values[seen.labels_HW][None], NAMES)
        spacing = (seen.mm_per_pixel, seen.mm_per_pixel)
        pixels_THW = (seen.sector_HW * (40 * values[seen.labels_HW] + 30)).astype(np.uint8)[None]
        clip = StoredClip(pixels_THW, seen.sector_HW, spacing, None, annotation=annotation)
        file, sha256 = store.add_clip("traced", clip)
        split = SPLITS[SPLIT_OF[patient % len(SPLIT_OF)]]
        clips.append(
            ClipRecord(
                f"c{patient}", f"p{patient}", "AP4", split, 1, file, sha256, structures=NAMES
            )
        )
    store.save_manifest(
        DatasetManifest(
            "traced", "north", "real", "dicom", {"AP4": ("A4C",)}, tuple(clips), "sector"
        )
    )
    return store


class Yard:
    """Synthesises at a store, and remembers what was ordered."""

    def __init__(self, store: SiteStore) -> None:
        self.store = store
        self.drawer = ShowingDrawer()
        self.orders: list[Order] = []

    def ask(self, order: Order) -> Iterator[Part]:
        self.orders.append(order)
        yield from draw_order(self.drawer, order)

    def run(
        self,
        *,
        maps: str = "traced",
        num: int = 12,
        seed: int = 1,
        dataset: str = "drawn",
        **changes: Any,
    ) -> SynthesisReport:
        request = SynthesisRequest(
            dataset, "north", DRAWER_CARD.id, "A4C", num, seed, val_fraction=0.25, **changes
        )
        shape = MapShape("A4C", SIZE, DRAWER_CARD.structures)
        source = open_maps(self.store, maps, shape, seed=seed)
        return synthesize(self.store, request, source, self.ask, now=NOW)


@pytest.fixture
def yard(store: SiteStore) -> Yard:
    return Yard(store)
