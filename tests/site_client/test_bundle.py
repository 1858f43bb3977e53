"""Only the approved bundle comes in, and none with files of its own."""

import hashlib
import io
import shutil
import warnings
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from aggregator.superlink import bundle_hash, find_bundle
from shared.errors import Code, EchoFedError
from site_client.bundle import expect_bundle

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Flower's own use of pathspec
    BUNDLE = build_fab_from_disk(find_bundle())


def repacked(extra: dict[str, str], *, client_app: str = "site_client.app:app") -> bytes:
    """Our bundle with other files in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(BUNDLE)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            text = old.read(name).replace(b"site_client.app:app", client_app.encode())
            new.writestr(name, text)
        for name, content in extra.items():
            new.writestr(name, content)
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_our_bundle_passes_if_approved() -> None:
    expect_bundle(BUNDLE, frozenset({digest(BUNDLE), digest(b"")}))
    with pytest.raises(EchoFedError) as caught:
        expect_bundle(BUNDLE, frozenset({digest(b"")}))
    assert caught.value.code is Code.BUNDLE_UNAPPROVED
    assert digest(BUNDLE) in caught.value.hint


def test_the_hash_a_site_approves_is_the_hash_that_flower_packs() -> None:
    assert bundle_hash(find_bundle()) == digest(BUNDLE)


def test_a_folder_with_anything_more_is_not_our_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(find_bundle(), folder)
    (folder / "more.py").write_text("")
    with pytest.raises(EchoFedError) as caught:
        bundle_hash(folder)
    assert caught.value.code is Code.CONFIG_INVALID


def test_our_bundle_carries_no_code() -> None:
    with zipfile.ZipFile(io.BytesIO(BUNDLE)) as archive:
        assert sorted(archive.namelist()) == [".info/CONTENT", "LICENSE", "pyproject.toml"]


@pytest.mark.parametrize(
    "extra",
    [
        {"site_client/app.py": "app = None"},
        {"site_client/__init__.py": ""},
        {"sitecustomize.py": ""},
        {"native.so": ""},
        {"numpy.pth": "import os"},
        {"../outside.py": ""},
    ],
)
def test_a_bundle_with_files_of_its_own_is_refused_even_if_approved(extra: dict[str, str]) -> None:
    content = repacked(extra)
    with pytest.raises(EchoFedError) as caught:
        expect_bundle(content, frozenset({digest(content)}))
    assert caught.value.code is Code.BUNDLE_UNAPPROVED


@pytest.mark.parametrize("content", [repacked({}, client_app="os:system"), b"no zip", b""])
def test_a_bundle_that_is_none_of_ours_is_refused_even_if_approved(content: bytes) -> None:
    with pytest.raises(EchoFedError) as caught:
        expect_bundle(content, frozenset({digest(content)}))
    assert caught.value.code is Code.BUNDLE_UNAPPROVED
