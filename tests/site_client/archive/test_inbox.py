"""An inbox is private, lies outside the site, and names its files by a key."""

import stat
from pathlib import Path

import pytest

from shared.errors import Code, EchoFedError
from site_client.archive.inbox import open_inbox
from site_client.archive.receive import receiving

UID = "1.2.826.0.1.3680043.8.498.1"


@pytest.mark.parametrize("out", ["site/inbox", "site", ".", "site/../site/a"])
def test_an_inbox_in_or_around_the_site_is_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "site").mkdir()
    with pytest.raises(EchoFedError) as caught:
        open_inbox(tmp_path / out, b"key", site_root=tmp_path / "site")
    assert caught.value.code is Code.CONFIG_INVALID
    assert not list((tmp_path / "site").iterdir())


def test_a_folder_of_others_is_not_taken_and_keeps_its_rights(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "theirs.txt").touch()
    shared.chmod(0o755)
    with pytest.raises(EchoFedError) as caught:
        open_inbox(shared, b"key", site_root=tmp_path / "site")
    assert caught.value.code is Code.CONFIG_INVALID
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_names_depend_on_the_key_and_hide_the_uid(tmp_path: Path) -> None:
    names = []
    for key in (b"one", b"two"):
        inbox = open_inbox(tmp_path / key.decode(), key, site_root=tmp_path / "site")
        assert not inbox.has(UID)
        inbox.put(UID, b"data")
        assert inbox.has(UID)
        names += [path.name for path in inbox.folder.iterdir()]
    assert len(set(names)) == 2
    assert not any(UID[-8:] in name for name in names)


@pytest.mark.parametrize("title", ["", "seventeen letters", "back\\slash"])
def test_an_impossible_title_is_refused(tmp_path: Path, title: str) -> None:
    inbox = open_inbox(tmp_path / "inbox", b"key", site_root=tmp_path / "site")
    with (
        pytest.raises(EchoFedError) as caught,
        receiving(inbox, title=title, host="127.0.0.1", port=0),
    ):
        pass
    assert caught.value.code is Code.CONFIG_INVALID


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    inbox = open_inbox(tmp_path / "inbox", b"key", site_root=tmp_path / "site")
    with (
        receiving(inbox, title="A", host="127.0.0.1", port=0) as first,
        pytest.raises(EchoFedError) as caught,
        receiving(inbox, title="B", host="127.0.0.1", port=first.port),
    ):
        pass
    assert caught.value.code is Code.CONFIG_INVALID
