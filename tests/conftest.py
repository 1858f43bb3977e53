"""What every test may use: a seed, a small export, a small manifest, the real data's folder."""

import os
from pathlib import Path

import numpy as np
import pytest

from shared.echo.features import ExportCard, FeatureExport
from shared.echo.manifest import SPLITS, ClipRecord, DatasetManifest


@pytest.fixture
def seed() -> int:
    return 20240715


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("ECHOFED_REAL_DATA", "")
    if not folder:
        pytest.skip("ECHOFED_REAL_DATA is unset: the real images are not beside this checkout")
    return Path(folder)


@pytest.fixture
def manifest() -> DatasetManifest:
    labels = {"4CH": ("A4C",), "2CH": ("A2C",)}
    clips = tuple(
        ClipRecord(
            key=f"clip{patient}-{label}",
            patient=f"patient{patient}",
            label=label,
            split=SPLITS[patient % 3],
            num_frames=4,
            file=f"clips/{patient}-{label}.safetensors",
            sha256="0" * 64,
        )
        for patient in range(18)
        for label in labels
    )
    return DatasetManifest(
        id="demo",
        site="north",
        origin="phantom",
        source="dicom",
        labels=labels,
        clips=clips,
        kept_pixels="sector",
    )


@pytest.fixture
def feature_export(manifest: DatasetManifest, seed: int) -> FeatureExport:
    generator = np.random.default_rng(seed)
    num, width, layers = 24, 6, 3
    card = ExportCard(
        id="north-demo-expert",
        site="north",
        dataset=manifest.id,
        dataset_hash=manifest.content_hash(),
        origin="phantom",
        expert="north-demo-0",
        expert_sha256="1" * 64,
        labels=tuple(manifest.labels),
        label_views=tuple(manifest.labels.values()),
        views=("A4C", "A2C"),
        num_rows=num,
        feature_width=width,
        num_evidence=layers,
        policy_version=1,
        created="2026-01-01T00:00:00Z",
    )
    return FeatureExport(
        card,
        frame_N=np.arange(num, dtype=np.int64),
        patient_N=(np.arange(num) % 6).astype(np.int32),
        clip_N=(np.arange(num) // 4).astype(np.int32),
        label_N=(np.arange(num) % 2).astype(np.int16),
        split_N=(np.arange(num) % 3).astype(np.int8),
        pass_N=np.zeros(num, dtype=np.int8),
        features_ND=generator.normal(size=(num, width)).astype(np.float16),
        logits_NC=generator.normal(size=(num, 2)).astype(np.float32),
        discrepancy_NL=-generator.random((num, layers)).astype(np.float32),
    )
