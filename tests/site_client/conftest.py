"""A small site: clips of stripes inside a fan, on a screen with marks, in seconds."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest
from shared.echo.sector import Fan
from shared.testing.ventricle import STRUCTURES as VENTRICLE
from shared.testing.ventricle import draw_ventricle
from site_client.clip_file import StoredClip, save_clip
from site_client.store import SiteStore

FAN = Fan((0.0, 32.0), -40.0, 40.0, 4.0, 44.0)
SIZE = (48, 64)
SPLIT_OF = (0, 0, 0, 0, 1, 2)
StripedSite = Callable[..., SiteStore]


def striped_clip(
    angle_deg: float, generator: np.random.Generator, num_frames: int, mark: int | None
) -> StoredClip:
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    across = rows * np.cos(np.radians(angle_deg)) + columns * np.sin(np.radians(angle_deg))
    phase = generator.uniform(0, 2 * np.pi, (num_frames, 1, 1))
    wave = 120 + 90 * np.sin(across[None] / 2.5 + phase)
    noise = generator.normal(0, 20, (num_frames, *SIZE))
    mask_HW = FAN.mask(SIZE)
    corner = generator.integers(2) if mark is None else mark
    screen = 200 * (columns < 8) * ((rows < 16) if corner else (rows > 32))
    pixels = np.where(mask_HW, wave + noise, screen)
    return StoredClip(
        pixels_THW=pixels.clip(0, 255).astype(np.uint8),
        mask_HW=mask_HW,
        mm_per_pixel=(0.5, 0.5),
        frame_time_ms=33.0,
        fan=FAN,
        confidence=1.0,
    )


@pytest.fixture
def striped_site(tmp_path: Path, build_striped_site: StripedSite) -> StripedSite:
    """Make (or add to) a site in the test's own folder."""

    def build(labels: Mapping[str, tuple[str, ...]] | None = None, **changes: Any) -> SiteStore:
        return build_striped_site(tmp_path / "site", labels, **changes)

    return build


@pytest.fixture(scope="session")
def build_striped_site() -> StripedSite:
    """Make (or add to) a site whose labels are stripes of different angles.

    With ``shortcut`` only the mark on the screen, outside the fan, tells the label.
    """

    def build(
        root: Path,
        labels: Mapping[str, tuple[str, ...]] | None = None,
        *,
        dataset: str = "demo",
        num_patients: int = 12,
        num_frames: int = 3,
        masked: bool = True,
        shortcut: bool = False,
    ) -> SiteStore:
        store = SiteStore(root)
        store.create_key()
        words = dict(labels or {"4CH": ("A4C",), "2CH": ("A2C",)})
        generator = np.random.default_rng(len(dataset))
        clips = []
        for patient in range(num_patients):
            for place, label in enumerate(words):
                mark = place % 2 if shortcut else None
                angle_deg = generator.uniform(0, 180) if shortcut else 90.0 * place / len(words)
                clip = striped_clip(angle_deg, generator, num_frames, mark)
                if not masked:
                    clip = StoredClip(clip.pixels_THW, None, None, None)
                key = f"{dataset}-{patient:02d}-{place}"
                sha256 = save_clip(store.clip_path(dataset, key), clip)
                file = f"clips/{key}.safetensors"
                split = SPLITS[SPLIT_OF[patient % len(SPLIT_OF)]]
                clips.append(
                    ClipRecord(
                        key, f"{dataset}-p{patient}", label, split, num_frames, file, sha256, masked
                    )
                )
        store.save_manifest(
            DatasetManifest(dataset, "north", "phantom", "stripes", words, tuple(clips), "screen")
        )
        return store

    return build


@pytest.fixture
def traced_site(tmp_path: Path) -> Callable[..., SiteStore]:
    """Make (or add to) a site of single pictures with masks, a ventricle each."""

    def build(
        *,
        dataset: str = "traced",
        num_patients: int = 18,
        structures: tuple[str, ...] = VENTRICLE,
        mm_per_pixel: tuple[float, float] | None = (2.0, 2.0),
        has_landmarks: bool = True,
        clips_per_patient: int = 1,
    ) -> SiteStore:
        store = SiteStore(tmp_path / "site")
        store.create_key()
        generator = np.random.default_rng(len(dataset))
        clips = []
        for number in range(num_patients * clips_per_patient):
            patient = number // clips_per_patient
            pixels_HW, annotation = draw_ventricle(generator)
            known = [VENTRICLE.index(name) if name in structures else 0 for name in VENTRICLE]
            values = [structures.index(VENTRICLE[value]) for value in known]
            annotation = replace(
                annotation,
                structures=structures,
                labels_FHW=np.array(values, np.uint8)[annotation.labels_FHW],
                landmarks_xy_px_F32=annotation.landmarks_xy_px_F32 if has_landmarks else None,
            )
            clip = StoredClip(pixels_HW[None], None, mm_per_pixel, None, annotation=annotation)
            key = f"{dataset}-{number:02d}"
            sha256 = save_clip(store.clip_path(dataset, key), clip)
            record = ClipRecord(
                key, f"{dataset}-p{patient}", "4CH", SPLITS[SPLIT_OF[patient % len(SPLIT_OF)]], 1,
                f"clips/{key}.safetensors", sha256, has_mask=False, structures=structures,
            )  # fmt: skip
            clips.append(record)
        words = {"4CH": ("A4C",)}
        store.save_manifest(
            DatasetManifest(dataset, "north", "phantom", "traced", words, tuple(clips), "screen")
        )
        return store

    return build
