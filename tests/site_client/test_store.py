"""The site's folder gives back what was put in, names what is missing, and hides its key."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.echo.expert import CARD_FILE, WEIGHTS_FILE
from shared.echo.manifest import DatasetManifest
from shared.errors import Code, EchoFedError
from shared.files import sha256_hex, write_bytes, write_json
from site_client.clip_file import StoredClip, save_clip
from site_client.store import SiteStore, require_name


@pytest.fixture
def clip(seed: int) -> StoredClip:
    rng = np.random.default_rng(seed)
    return StoredClip(rng.integers(0, 256, (3, 13, 17)).astype(np.uint8), None, None, None)


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
        (store.require_segmenter, Code.MODEL_UNKNOWN),
        (store.require_synthesizer, Code.MODEL_UNKNOWN),
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


def test_a_clip_is_named_by_its_content_and_written_once(tmp_path: Path, clip: StoredClip) -> None:
    store = SiteStore(tmp_path)
    file, sha256 = store.add_clip("demo", clip)
    path = store.dataset_folder("demo") / file
    assert path.stem == sha256 == sha256_hex(path.read_bytes())
    before = path.stat().st_mtime_ns
    assert store.add_clip("demo", clip) == (file, sha256)
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:-1])
    assert store.add_clip("demo", clip) == (file, sha256)
    assert sha256_hex(path.read_bytes()) == sha256


def add_segmenter(store: SiteStore, name: str) -> None:
    write_bytes(store.segmenter_folder(name) / WEIGHTS_FILE, b"w")
    write_json(store.segmenter_folder(name) / CARD_FILE, {})


def test_an_alias_stands_for_one_segmenter_until_it_goes(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    assert (store.segmenters(), store.aliased("masks")) == ((), None)
    with pytest.raises(EchoFedError) as caught:
        store.set_alias("masks", "old")
    assert caught.value.code is Code.MODEL_UNKNOWN
    add_segmenter(store, "old")
    add_segmenter(store, "new")
    store.set_alias("masks", "old")
    store.set_alias("contours", "old")
    store.set_alias("masks", "new")
    assert store.aliases() == {"masks": "new", "contours": "old"}
    store.remove_segmenter("old")
    assert (store.segmenters(), store.aliases()) == (("new",), {"masks": "new"})
    assert store.require_segmenter("new") == store.segmenter_folder("new")


def test_synthesizers_lie_beside_segmenters_and_go_by_aliases_too(tmp_path: Path) -> None:
    store = SiteStore(tmp_path)
    add_segmenter(store, "masks-1")
    write_bytes(store.synthesizer_folder("drawn-1") / WEIGHTS_FILE, b"w")
    assert store.synthesizers() == ()
    write_json(store.synthesizer_folder("drawn-1") / CARD_FILE, {})
    store.set_alias("masks", "masks-1")
    store.set_alias("synthesis", "drawn-1")
    assert (store.synthesizers(), store.segmenters()) == (("drawn-1",), ("masks-1",))
    assert store.require_synthesizer("drawn-1") == store.synthesizer_folder("drawn-1")
    store.remove_synthesizer("drawn-1")
    assert (store.synthesizers(), store.aliases()) == ((), {"masks": "masks-1"})


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
