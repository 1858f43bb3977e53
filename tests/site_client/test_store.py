"""The site's folder gives back what was put in, names what is missing, and hides its key."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.echo.manifest import DatasetManifest
from shared.echo.sector import Fan
from shared.errors import Code, EchoFedError
from site_client.store import SiteStore, StoredClip, load_clip, require_name, save_clip


@pytest.fixture
def clip(seed: int) -> StoredClip:
    rng = np.random.default_rng(seed)
    return StoredClip(
        pixels_THW=rng.integers(0, 256, (3, 13, 17)).astype(np.uint8),
        mask_HW=rng.random((13, 17)) > 0.5,
        mm_per_pixel=(0.5, 0.25),
        frame_time_ms=33.3,
        fan=Fan((1.0, 8.0), -30.0, 30.0, 1.0, 10.0),
        confidence=0.97,
    )


def test_a_clip_comes_back_as_it_was(tmp_path: Path, clip: StoredClip) -> None:
    path = tmp_path / "c.safetensors"
    save_clip(path, clip)
    back = load_clip(path)
    assert np.array_equal(back.pixels_THW, clip.pixels_THW)
    assert clip.mask_HW is not None
    assert back.mask_HW is not None
    assert np.array_equal(back.mask_HW, clip.mask_HW)
    assert (back.fan, back.mm_per_pixel, back.frame_time_ms, back.confidence) == (
        clip.fan, clip.mm_per_pixel, clip.frame_time_ms, clip.confidence,
    )  # fmt: skip


def test_a_clip_without_mask_and_scale_comes_back_too(tmp_path: Path, clip: StoredClip) -> None:
    save_clip(tmp_path / "c", StoredClip(clip.pixels_THW, None, None, None))
    back = load_clip(tmp_path / "c")
    assert (back.mask_HW, back.mm_per_pixel, back.frame_time_ms, back.fan) == (None,) * 4


def test_equal_clips_give_equal_files(tmp_path: Path, clip: StoredClip) -> None:
    assert save_clip(tmp_path / "a", clip) == save_clip(tmp_path / "b", clip)


def test_a_dataset_counts_once_its_manifest_stands(
    tmp_path: Path, clip: StoredClip, manifest: DatasetManifest
) -> None:
    store = SiteStore(tmp_path)
    save_clip(store.clip_path("demo", "k"), clip)
    assert store.datasets() == ()
    store.save_manifest(manifest)
    assert store.datasets() == ("demo",)
    assert store.manifest("demo") == manifest


def test_what_is_missing_is_named_with_the_nearest(
    tmp_path: Path, manifest: DatasetManifest
) -> None:
    store = SiteStore(tmp_path)
    store.save_manifest(manifest)
    for call, code in (
        (store.manifest, Code.DATASET_UNKNOWN),
        (store.require_expert, Code.EXPERT_UNKNOWN),
        (store.require_fusion, Code.FUSION_UNKNOWN),
    ):
        with pytest.raises(EchoFedError) as caught:
            call("demoo")
        assert caught.value.code is code
    with pytest.raises(EchoFedError, match="demoo") as caught:
        store.manifest("demoo")
    assert "'demo'" in caught.value.hint
    with pytest.raises(EchoFedError) as caught:
        store.clip("demo", manifest.clips[0])
    assert caught.value.code is Code.CHECKPOINT_CORRUPT


def test_a_clip_of_a_later_release_is_refused(tmp_path: Path, clip: StoredClip) -> None:
    save_clip(tmp_path / "c", clip)
    newer = (tmp_path / "c").read_bytes().replace(b'version\\": 1', b'version\\": 9')
    (tmp_path / "c").write_bytes(newer)
    with pytest.raises(EchoFedError) as caught:
        load_clip(tmp_path / "c")
    assert caught.value.code is Code.CARD_NEWER


def test_the_key_is_made_once_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    with pytest.raises(EchoFedError) as caught:
        store.key()
    assert caught.value.code is Code.CONFIG_MISSING
    store.create_key()
    key = store.key()
    store.create_key()
    assert store.key() == key
    assert len(key) == 32
    assert (store.identity_folder / "pseudonym.key").stat().st_mode & 0o077 == 0


def test_stray_clips_go_and_named_ones_stay(
    tmp_path: Path, clip: StoredClip, manifest: DatasetManifest
) -> None:
    store = SiteStore(tmp_path)
    kept = replace(manifest, clips=(replace(manifest.clips[0], file="clips/k.safetensors"),))
    save_clip(store.clip_path("demo", "k"), clip)
    save_clip(store.clip_path("demo", "stray"), clip)
    store.remove_stray_clips(kept)
    folder = store.clip_path("demo", "k").parent
    assert [path.name for path in folder.iterdir()] == ["k.safetensors"]


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "x" * 65, "ä"])
def test_names_that_cannot_be_folders_are_refused(name: str) -> None:
    with pytest.raises(EchoFedError):
        require_name(name)
